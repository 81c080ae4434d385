//! `piecemeal handshake TORRENT ADDR`: shakes hands with one peer and prints what came back.
//!
//! ```text
//! we:  handshake, of the reserved bits only that of BEP 10       since minimal peers refuse others
//! it:  handshake                                                 Peer ID, Client, Reserved
//! we:  extended handshake, if it has that bit
//! it:  extended handshake, and what else it says first           every byte explained
//! ```
//!
//! The first lines are those of codecrafters' stages: `Peer ID:`, `Peer Metadata Extension ID:`.
//!
//! Layer: programs.

use std::io::{ErrorKind, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::flags::Args;
use super::input::{self, Input};
use super::output::Output;
use super::{Exit, Misuse, decode};
use crate::bencode;
use crate::explain::{Kind, hex};
use crate::hash::Sha1;
use crate::json::{self, Object};
use crate::peer::{CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT};
use crate::printable::{clipped, printable_bytes};
use crate::wire::extended::{Extended, Offer};
use crate::wire::handshake::{
    HANDSHAKE_LEN, Handshake, PeerId, RESERVED_BITS, Reserved, check_protocol,
};
use crate::wire::message::{Message, recorded};

/// How long an extended handshake is waited for that was announced.
const EXTENDED_TIMEOUT: Duration = Duration::from_secs(5);

/// What comes so soon behind belongs to the greeting: a bitfield, mostly.
const GREETING: Duration = Duration::from_millis(300);

/// The greeting is not read beyond this: a bitfield of the most pieces has 256 KiB.
const GREETING_MAX: usize = 1 << 20;

/// What is said of who does not answer our handshake, and ends the connection.
const HUNG_UP: &str = "it hung up, as who does not have the torrent does";

/// As many requests as we would take at a time.
const REQQ: usize = 512;

pub fn run(args: &Args) -> Result<Exit> {
    let Some(torrent) = args.operands.first().filter(|_| args.operands.len() <= 2) else {
        return Err(Misuse("handshake takes a torrent and the address of a peer".to_owned()).into());
    };
    let (info_hash, known) = match input::load(torrent, &args.dialler())? {
        Input::Torrent(torrent) => (torrent.info_hash, Vec::new()),
        Input::Magnet(magnet) => (magnet.info_hash, magnet.peers),
    };
    let addr = match args.operands.get(1) {
        Some(text) => address(&text.to_string_lossy())?,
        None => match (args.peers.first(), known.first()) {
            (Some(addr), _) => *addr,
            (None, Some(peer)) => address(&peer.to_string())?,
            (None, None) => {
                let what = "handshake: whom to? Give IP:PORT after the torrent";
                return Err(Misuse(what.to_owned()).into());
            }
        },
    };
    let said = converse(args, info_hash, addr).with_context(|| addr.to_string())?;
    let mut out = Output::new();
    if args.json {
        said.print_json(&mut out)?
    } else {
        said.print(&mut out, args.quiet)?
    }
    out.finish()?;
    Ok(Exit::Done)
}

fn address(text: &str) -> Result<SocketAddr> {
    let expected = || anyhow!(Misuse(format!("{}: expected IP:PORT", clipped(text, 60))));
    text.parse().map_err(|_| expected())
}

/// What the peer said, byte by byte, and what of it can be used.
struct Said {
    addr: SocketAddr,
    bytes: Vec<u8>,
    handshake: Handshake,
    /// The payload of its extended handshake.
    extended: Option<Vec<u8>>,
}

fn converse(args: &Args, info_hash: Sha1, addr: SocketAddr) -> Result<Said> {
    let dialler = args.dialler();
    let socket = dialler.socket(addr)?;
    dialler.connect(&socket, addr, CONNECT_TIMEOUT)?;
    let mut socket: TcpStream = socket.into();
    socket.set_write_timeout(Some(HANDSHAKE_TIMEOUT))?;
    let peer_id = PeerId::random(&mut fastrand::Rng::new());
    let ours = Handshake { reserved: Reserved::default().with_extended(), info_hash, peer_id };
    socket.write_all(&ours.to_bytes())?;
    let mut bytes = Vec::new();
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let handshake = loop {
        check_protocol(&bytes).context("expected a handshake")?;
        if let Some(whole) = bytes.first_chunk::<HANDSHAKE_LEN>() {
            break Handshake::from_bytes(whole)?;
        }
        let found = bytes.len();
        match read(&mut socket, &mut bytes, deadline).context(HUNG_UP)? {
            Read::Came => {}
            Read::End => {
                bail!(
                    "{HUNG_UP}: expected a handshake of 68 bytes, found {found} and the end (BEP 3)"
                )
            }
            Read::Quiet => bail!(
                "it took the connection, and said no more in {} s: expected a handshake of 68 bytes, \
                 found {found} (BEP 3)",
                HANDSHAKE_TIMEOUT.as_secs()
            ),
        }
    };
    if handshake.info_hash != info_hash {
        bail!("expected a handshake for {info_hash}, found {} (BEP 3)", handshake.info_hash);
    }
    let mut extended = None;
    let mut deadline = Instant::now() + GREETING;
    if handshake.reserved.extended() {
        let payload = Offer::default().to_bytes(addr.ip(), REQQ, false);
        let mut message = Vec::new();
        Message::Extended(0, payload).encode(&mut message);
        // One that hangs up right after its handshake has said what it had to say.
        let _ = socket.write_all(&message);
        deadline = Instant::now() + EXTENDED_TIMEOUT;
    }
    while bytes.len() < GREETING_MAX {
        if extended.is_none() {
            extended = messages(&bytes).find_map(|message| match recorded(message)? {
                Message::Extended(0, payload) => Some(payload),
                _ => None,
            });
            if extended.is_some() {
                deadline = deadline.min(Instant::now() + GREETING);
            }
        }
        match read(&mut socket, &mut bytes, deadline) {
            Ok(Read::Came) => {}
            // It hung up, or that was all of it.
            Ok(Read::Quiet | Read::End) | Err(_) => break,
        }
    }
    Ok(Said { addr, bytes, handshake, extended })
}

/// What a read brought.
enum Read {
    Came,
    /// Nothing until the deadline.
    Quiet,
    /// It hung up.
    End,
}

/// Reads once.
fn read(socket: &mut TcpStream, bytes: &mut Vec<u8>, deadline: Instant) -> std::io::Result<Read> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Read::Quiet);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut buffer) {
            Ok(n) => {
                bytes.extend_from_slice(&buffer[..n]);
                return Ok(if n == 0 { Read::End } else { Read::Came });
            }
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(Read::Quiet);
            }
            Err(err) => return Err(err),
        }
    }
}

/// The whole messages behind the handshake.
fn messages(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes.get(HANDSHAKE_LEN..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
        let (message, after) = rest.split_at_checked(length.checked_add(4)?)?;
        rest = after;
        Some(message)
    })
}

impl Said {
    /// The extensions that it announces in its handshake: name, BEP.
    fn announced(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let bytes = self.handshake.reserved.0;
        let set = RESERVED_BITS.iter().filter(move |(at, mask, ..)| bytes[*at] & mask != 0);
        set.map(|&(_, _, name, rule)| (name, rule))
    }

    /// Its names for extensions, and their ids, as it gave them.
    fn ids(&self) -> Vec<(String, i64)> {
        let payload = self.extended.as_deref().unwrap_or_default();
        let Ok((document, _)) = bencode::decode_prefix(payload) else { return Vec::new() };
        let m = document.root().dict().and_then(|root| root.dict("m"));
        let id = |(name, id): (&[u8], bencode::Value)| Some((printable_bytes(name), id.int()?));
        m.iter().flat_map(|m| m.iter()).filter_map(id).collect()
    }

    fn metadata_id(&self) -> Option<i64> {
        self.ids()
            .into_iter()
            .find(|(name, id)| name == "ut_metadata" && *id != 0)
            .map(|(_, id)| id)
    }

    fn extended(&self) -> Extended {
        let payload = self.extended.as_deref().unwrap_or_default();
        Extended::parse(payload).unwrap_or_default()
    }

    fn print(&self, out: &mut Output, quiet: bool) -> Result<()> {
        let id = &self.handshake.peer_id;
        out.line(format!("Peer ID: {}", hex(&id.0, 20)))?;
        if let Some(id) = self.metadata_id() {
            out.line(format!("Peer Metadata Extension ID: {id}"))?;
        }
        if quiet {
            return Ok(());
        }
        let client = self.extended().client;
        let client =
            client.map_or(String::new(), |client| format!(", which calls itself {client}"));
        out.line(format!("Client: {}{client}", id.client()))?;
        let named = |(name, rule): (&str, &str)| match rule {
            "" => name.to_owned(),
            rule => format!("{name} ({rule})"),
        };
        let announced: Vec<String> = self.announced().map(named).collect();
        let announced = if announced.is_empty() { "none".to_owned() } else { announced.join(", ") };
        out.line(format!("Extensions announced: {announced}"))?;
        out.line("\nEvery byte that came (offset, bytes, meaning):")?;
        // What follows the last whole message has not come yet.
        let whole: usize = messages(&self.bytes).map(<[u8]>::len).sum();
        let bytes = &self.bytes[..HANDSHAKE_LEN + whole];
        decode::print_tree(out, bytes, Kind::Handshake, true)
    }

    fn print_json(&self, out: &mut Output) -> Result<()> {
        let (id, extended) = (&self.handshake.peer_id, self.extended());
        let ids = self.ids().into_iter().fold(Object::new(), |o, (name, id)| o.num(&name, id));
        let names = self.announced().map(|(name, _)| name);
        let said = messages(&self.bytes).filter_map(recorded).map(|message| message.to_string());
        let your_ip = extended.your_ip.map(|ip| ip.to_string());
        let client = extended.client.unwrap_or_else(|| id.client());
        let object = Object::new()
            .str("peer_id", &hex(&id.0, 20))
            .str("addr", &self.addr.to_string())
            .str("info_hash", &self.handshake.info_hash.to_string())
            .str("client", &client)
            .str("reserved", &hex(&self.handshake.reserved.0, 8))
            .raw("announced", &json::strings(names))
            .raw("extensions", &ids.done())
            .num_or_null("metadata_extension_id", self.metadata_id())
            .num_or_null("metadata_size", extended.metadata_size)
            .num_or_null("reqq", extended.reqq)
            .num_or_null("port", extended.port)
            .str_or_null("your_ip", your_ip.as_deref())
            .raw("messages", &json::strings(said));
        out.line(object.done())
    }
}
