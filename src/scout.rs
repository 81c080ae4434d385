//! A scout: shakes hands with one peer, hears where it listens and whom it knows, and leaves.
//!
//! ```text
//! we dial it, or it dials us ─► handshakes ─► extended handshakes (BEP 10): `p`, where it listens
//!                                             its first ut_pex (BEP 11): whom it knows
//! ```
//!
//! For commands that only want to know: nothing is asked for, nothing is given.
//!
//! Layer: hands. A thread for each scout, which owns its socket and ends by a date that it is given.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::dial::Dialler;
use crate::hash::Sha1;
use crate::hostport::HostPort;
use crate::wire::extended::{self, Extended, Extension, Offer};
use crate::wire::handshake::{HANDSHAKE_LEN, Handshake, PeerId, Reserved};
use crate::wire::pex::Pex;

/// How long a dial may take.
const CONNECT: Duration = Duration::from_secs(3);

/// Addresses of one name that are dialled.
const ADDRESSES_MAX: usize = 4;

/// The longest message that is waited for; a bitfield of millions of pieces is skipped.
const MESSAGE_MAX: u32 = 1 << 20;

/// The longest extended message that is looked at.
const EXTENDED_MAX: u32 = 64 << 10;

/// The id of extended messages (BEP 10).
const EXTENDED: u8 = 20;

/// How many requests we say that we take. There is nothing to be had.
const REQQ: usize = 1;

/// Who we are, and what we look for.
#[derive(Debug, Clone, Copy)]
pub struct Scout {
    pub info_hash: Sha1,
    pub peer_id: PeerId,
    /// Where we listen; 0: nowhere.
    pub port: u16,
    /// Whether to wait for the peers that it knows.
    pub pex: bool,
    /// Everything is over by then.
    pub until: Instant,
}

/// What one peer told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub listens_at: Option<SocketAddr>,
    /// Whom it knows.
    pub knows: Vec<SocketAddr>,
}

impl Scout {
    /// Dials a peer. An error: nobody is there, or somebody else, or it hung up too soon.
    pub fn dial(&self, addr: SocketAddr, dialler: &Dialler) -> io::Result<Seen> {
        let socket = dialler.socket(addr)?;
        dialler.connect(&socket, addr, self.left()?.min(CONNECT))?;
        let seen = self.talk(socket.into(), addr, true)?;
        Ok(Seen { listens_at: Some(addr), ..seen })
    }

    /// Dials a peer at the first address of its name that answers.
    pub fn dial_named(&self, peer: &HostPort, dialler: &Dialler) -> io::Result<Seen> {
        let mut last = invalid("its name has no address");
        for addr in (peer.host.as_str(), peer.port).to_socket_addrs()?.take(ADDRESSES_MAX) {
            match self.dial(addr, dialler) {
                Ok(seen) => return Ok(seen),
                Err(err) => last = err,
            }
        }
        Err(last)
    }

    /// Meets a peer that has dialled us.
    pub fn meet(&self, stream: TcpStream, addr: SocketAddr) -> io::Result<Seen> {
        self.talk(stream, addr, false)
    }

    fn talk(&self, mut stream: TcpStream, addr: SocketAddr, first: bool) -> io::Result<Seen> {
        let reserved = Reserved::default().with_extended();
        let Scout { info_hash, peer_id, port, pex, .. } = *self;
        let ours = Handshake { reserved, info_hash, peer_id }.to_bytes();
        if first {
            self.write(&mut stream, &ours)?;
        }
        let mut theirs = [0; HANDSHAKE_LEN];
        self.read(&mut stream, &mut theirs)?;
        let theirs = Handshake::from_bytes(&theirs).map_err(|rule| invalid(&rule.0))?;
        if theirs.info_hash != info_hash || theirs.peer_id == peer_id {
            return Err(invalid("another torrent, or ourselves"));
        }
        if !first {
            self.write(&mut stream, &ours)?;
        }
        let mut seen = Seen::default();
        if !theirs.reserved.extended() {
            return Ok(seen);
        }
        let offer = Offer { port, metadata_size: 0, pex };
        let payload = offer.to_bytes(addr.ip(), REQQ, false);
        let length = (payload.len() as u32 + 2).to_be_bytes();
        self.write(
            &mut stream,
            &[&length, &[EXTENDED, extended::HANDSHAKE][..], &payload].concat(),
        )?;
        // What it has told until it hangs up, or until our time is over, counts.
        while let Ok((id, payload)) = self.next_extended(&mut stream) {
            if id == extended::HANDSHAKE {
                let Ok(said) = Extended::parse(&payload) else { break };
                seen.listens_at = said.port.map(|port| SocketAddr::new(addr.ip(), port));
                if !pex || said.id(Extension::Pex).is_none() {
                    break;
                }
            } else if id == Extension::Pex as u8 {
                let added = Pex::parse(&payload).map(|pex| pex.added).unwrap_or_default();
                seen.knows = added.into_iter().map(|(addr, _)| addr).collect();
                break;
            }
        }
        Ok(seen)
    }

    /// The next extended message; all others are skipped.
    fn next_extended(&self, stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let mut length = [0; 4];
            self.read(stream, &mut length)?;
            let length = u32::from_be_bytes(length);
            if MESSAGE_MAX < length {
                return Err(invalid("a message that is too long"));
            }
            let mut id = [0];
            if length != 0 {
                self.read(stream, &mut id)?;
            }
            let mut left = length.saturating_sub(1);
            if id[0] == EXTENDED && 0 < left && left <= EXTENDED_MAX {
                let mut payload = vec![0; left as usize];
                self.read(stream, &mut payload)?;
                let id = payload.remove(0);
                return Ok((id, payload));
            }
            let mut skipped = [0; 4096];
            while 0 < left {
                let step = left.min(skipped.len() as u32);
                self.read(stream, &mut skipped[..step as usize])?;
                left -= step;
            }
        }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    fn write(&self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        stream.set_write_timeout(Some(self.left()?))?;
        stream.write_all(bytes)
    }

    /// All of a buffer, or an error by the date: bytes that drip are no answer.
    fn read(&self, stream: &mut TcpStream, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            stream.set_read_timeout(Some(self.left()?))?;
            match stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => buffer = &mut buffer[n..],
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}
