//! A scripted peer: it accepts or dials, and then says what a closure says.
//!
//! ```text
//! |19| "BitTorrent protocol" | reserved: 8 | info hash: 20 | peer id: 20 |     handshake
//! | length: u32 | id: u8 | payload: length - 1 |                              message
//! ```
//!
//! One thread accepts, one more for each connection. A script that waits, waits at the socket; so
//! dropping the peer, which shuts the sockets, ends every script.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

/// Message ids (BEP 3, BEP 6).
pub mod id {
    pub const CHOKE: u8 = 0;
    pub const UNCHOKE: u8 = 1;
    pub const INTERESTED: u8 = 2;
    pub const NOT_INTERESTED: u8 = 3;
    pub const HAVE: u8 = 4;
    pub const BITFIELD: u8 = 5;
    pub const REQUEST: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const CANCEL: u8 = 8;
    pub const HAVE_ALL: u8 = 14;
    pub const HAVE_NONE: u8 = 15;
    pub const REJECT: u8 = 16;
    pub const ALLOWED_FAST: u8 = 17;
    pub const EXTENDED: u8 = 20;
}

/// In the last of the reserved bytes: the Fast extension (BEP 6).
pub const FAST: u8 = 0x04;

/// The sixth of the reserved bytes, and the bit in it of the extension protocol (BEP 10).
pub const EXTENDED: (usize, u8) = (20 + 5, 0x10);

/// How long a dial may take, and how long a script waits for one message. Far longer than a test.
const PATIENCE: Duration = Duration::from_secs(120);

/// A handshake of 68 bytes.
pub fn handshake(info_hash: &[u8; 20], peer_id: &[u8; 20], fast: bool) -> Vec<u8> {
    let mut bytes = b"\x13BitTorrent protocol\0\0\0\0\0\0\0".to_vec();
    bytes.push(if fast { FAST } else { 0 });
    bytes.extend(info_hash);
    bytes.extend(peer_id);
    bytes
}

/// A peer id of our own, with a name and a number in it.
pub fn peer_id(name: &[u8; 8], n: usize) -> [u8; 20] {
    let mut id = *b"-XX0000-............";
    id[..8].copy_from_slice(name);
    id[8..].copy_from_slice(format!("{n:012}").as_bytes());
    id
}

/// A whole message.
pub fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    bytes.push(id);
    bytes.extend(payload);
    bytes
}

/// A message whose payload is numbers.
pub fn numbers(id: u8, numbers: &[u32]) -> Vec<u8> {
    let payload: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    message(id, &payload)
}

/// A `piece` message.
pub fn piece(index: u32, begin: u32, block: &[u8]) -> Vec<u8> {
    let mut payload = [index.to_be_bytes(), begin.to_be_bytes()].concat();
    payload.extend(block);
    message(id::PIECE, &payload)
}

/// A message of an extension (BEP 10); id 0 is the extended handshake.
pub fn extended(id: u8, payload: &[u8]) -> Vec<u8> {
    message(id::EXTENDED, &[&[id], payload].concat())
}

/// Every bit set, the spare ones not.
pub fn full_bitfield(pieces: usize) -> Vec<u8> {
    let mut bits = vec![0; pieces.div_ceil(8)];
    (0..pieces).for_each(|piece| bits[piece / 8] |= 0x80 >> (piece % 8));
    bits
}

/// One connection, read and written byte by byte.
pub struct Wire {
    /// Whoever holds this last, closes it.
    pub stream: Arc<TcpStream>,
    read: Vec<u8>,
}

impl Wire {
    pub fn new(stream: Arc<TcpStream>) -> Wire {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.set_write_timeout(Some(PATIENCE));
        Wire { stream, read: Vec::new() }
    }

    /// Dials from a given address of this machine.
    pub fn dial_from(from: IpAddr, to: SocketAddr) -> io::Result<Wire> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok(Wire::new(Arc::new(socket.into())))
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }

    /// Sends some bytes, a pause after each.
    pub fn trickle(&mut self, bytes: &[u8], pause: Duration) -> io::Result<()> {
        for byte in bytes {
            self.send(&[*byte])?;
            self.ignore_for(pause)?;
        }
        Ok(())
    }

    /// Reads as many bytes.
    pub fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut buffer = [0; 64 << 10];
        while self.read.len() < count {
            match (&*self.stream).read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.read.extend(&buffer[..n]),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        let rest = self.read.split_off(count);
        Ok(std::mem::replace(&mut self.read, rest))
    }

    /// The other side's handshake; its peer id is in bytes 48 to 68.
    pub fn read_handshake(&mut self) -> io::Result<Vec<u8>> {
        self.bytes(68)
    }

    /// The next message that is no keep-alive.
    pub fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let length = u32::from_be_bytes(self.bytes(4)?.try_into().expect("4 bytes"));
            if length != 0 {
                let mut payload = self.bytes(length as usize)?;
                return Ok((payload.remove(0), payload));
            }
        }
    }

    /// The next message of this kind.
    pub fn wait_for(&mut self, wanted: u8) -> io::Result<Vec<u8>> {
        loop {
            let (id, payload) = self.message()?;
            if id == wanted {
                return Ok(payload);
            }
        }
    }

    /// The next request: piece, begin, length.
    pub fn request(&mut self) -> io::Result<[u32; 3]> {
        let payload = self.wait_for(id::REQUEST)?;
        let word = |at: usize| payload[at..at + 4].try_into().map(u32::from_be_bytes);
        match payload.len() {
            12 => Ok([word(0), word(4), word(8)].map(|word| word.expect("4 bytes"))),
            n => Err(io::Error::other(format!("request with {n} bytes"))),
        }
    }

    /// Reads and ignores whatever comes, until the other side hangs up (or we are dropped).
    pub fn ignore(&mut self) -> io::Result<()> {
        self.ignore_for(PATIENCE)
    }

    /// The same, for a while.
    pub fn ignore_for(&mut self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        let mut buffer = [0; 64 << 10];
        let end = loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Ok(());
            }
            self.stream.set_read_timeout(Some(left))?;
            match (&*self.stream).read(&mut buffer) {
                Ok(0) => break Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(err) if err.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => break Err(err),
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE))?;
        end
    }

    /// The connection will end with a reset instead of a farewell.
    pub fn reset_on_drop(&self) -> io::Result<()> {
        SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO))
    }
}

/// What a peer does with one connection; which one it is, counted from 0.
pub type Script = Arc<dyn Fn(Wire, usize) -> io::Result<()> + Send + Sync>;

/// A peer that listens and plays a script with everybody who dials it.
pub struct Peer {
    pub addr: SocketAddr,
    met: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    pub fn listen(ip: IpAddr, script: Script) -> Peer {
        let listener = TcpListener::bind((ip, 0)).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let (met, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, stopped) = (met.clone(), stop.clone());
        let serve = move |stream| {
            let (script, n) = (script.clone(), counter.fetch_add(1, Ordering::Relaxed));
            // Scripts end with an error when the other side hangs up, which it often should.
            spawn(move || drop(script(Wire::new(stream), n)))
        };
        let thread = Some(spawn(move || accept_all(&listener, &stopped, serve)));
        Peer { addr, met, stop, thread }
    }

    /// How many connections there were.
    pub fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves each connection with a thread of its own, until `stop` is set and somebody knocks; then
/// shuts all of them and waits for the threads.
pub fn accept_all(
    listener: &TcpListener,
    stop: &AtomicBool,
    mut serve: impl FnMut(Arc<TcpStream>) -> JoinHandle<()>,
) {
    // Not held, so that a connection is closed when its script has ended.
    let mut open: Vec<(Weak<TcpStream>, JoinHandle<()>)> = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        open.retain(|(_, thread)| !thread.is_finished());
        let stream = Arc::new(stream);
        open.push((Arc::downgrade(&stream), serve(stream)));
    }
    for (stream, thread) in open {
        stream.upgrade().inspect(|stream| drop(stream.shutdown(Shutdown::Both)));
        let _ = thread.join();
    }
}
