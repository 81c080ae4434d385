//! The reader: turns what one peer sends into blocks and messages.
//!
//! ```text
//! chunk  |######## parsed ########|#### part of a message ####|........ free ........|
//!         blocks stay where they are       moved to the next chunk
//! ```
//!
//! It reads as much as the socket holds, up to a whole chunk, and hands the chunk itself to the
//! assembler: a block is copied once by the kernel and once into the file, by nobody else.
//!
//! Layer: hands. One thread a peer. Owns its handle of the socket, and the list of the blocks that
//! were asked for: any other block is dropped here, so nobody can slip one into a piece.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use socket2::Socket;

use super::{ASKED_MAX, CONNECT_TIMEOUT, Context, HANDSHAKE_TIMEOUT, Link, SILENCE_MAX};
use crate::dial::Dialler;
use crate::event::{Blocks, CHUNK_LEN, Delivery, Event};
use crate::geometry::Span;
use crate::limit::Limit;
use crate::picker::ConnId;
use crate::swarm::{End, Fact, Hello};
use crate::trace::Direction;
use crate::wait;
use crate::wire::handshake::{HANDSHAKE_LEN, Handshake, check_protocol};
use crate::wire::message::{BLOCK_HEADER_LEN, Message, Parsed, parse};

/// So many messages are handed to the session at a time. A read of small ones holds 26,000, and the
/// session looks between two events whether a peer floods it.
const HEARD_MAX: usize = 256;

/// Where the reader's results go, and where its chunks come from.
#[derive(Clone)]
pub struct Outlets {
    pub events: Sender<Event>,
    pub deliveries: Sender<Delivery>,
    /// Chunks that the assembler is done with.
    pub empty: Receiver<Vec<u8>>,
}

impl Outlets {
    /// First the word, then the bytes: the swarm must know of a block before it hears that its piece
    /// is complete.
    fn hand_in(&self, conn: ConnId, stream: &mut Stream, heard: Heard) -> Result<(), End> {
        let Heard { blocks, messages } = heard;
        if !messages.is_empty() {
            let said = Fact::Said { conn, messages };
            self.events.send(Event::Fact(said)).map_err(|_| ended())?;
        }
        if !blocks.is_empty() {
            let chunk = stream.exchange(new_chunk(self));
            let delivery = Delivery { conn, chunk, blocks };
            self.deliveries.send(delivery).map_err(|_| ended())?;
        }
        Ok(())
    }
}

pub struct Reader {
    pub context: Context,
    pub link: Link,
    /// Not connected yet, unless the peer dialled us.
    pub socket: Socket,
    pub outlets: Outlets,
    /// What the writer has asked for.
    pub asked: Receiver<Span>,
    pub limit: Limit,
    /// How we dial.
    pub dialler: Dialler,
}

impl Reader {
    /// The thread. Its last word is always [`Fact::Gone`].
    pub fn run(self) {
        let Link { conn, .. } = self.link;
        let events = self.outlets.events.clone();
        let end = match self.talk() {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let _ = events.send(Event::Fact(Fact::Gone { conn, end }));
    }

    fn talk(self) -> Result<std::convert::Infallible, End> {
        let mut socket = self.connect()?;
        let hello = self.shake_hands(&mut socket)?;
        self.tell(Fact::Connected { conn: self.link.conn, hello })?;
        socket.set_read_timeout(Some(SILENCE_MAX)).map_err(|err| End::Lost(err.to_string()))?;
        let (context, link) = (self.context, self.link);
        let mut stream = Stream {
            context,
            link,
            asked: self.asked,
            limit: self.limit,
            expected: VecDeque::new(),
            chunk: Vec::new(),
            parsed: 0,
            filled: 0,
        };
        stream.chunk = new_chunk(&self.outlets);
        loop {
            stream.fill(&mut socket)?;
            while let Some(heard) = stream.parse()? {
                self.outlets.hand_in(link.conn, &mut stream, heard)?;
            }
        }
    }

    fn tell(&self, fact: Fact) -> Result<(), End> {
        self.outlets.events.send(Event::Fact(fact)).map_err(|_| ended())
    }

    /// Dials, unless the peer has dialled us.
    fn connect(&self) -> Result<TcpStream, End> {
        let lost = |err: std::io::Error| End::Lost(explain(&err, "dial"));
        if !self.link.incoming {
            let addr = self.link.addr;
            self.dialler.connect(&self.socket, addr, CONNECT_TIMEOUT).map_err(lost)?;
        }
        let _ = self.socket.set_tcp_nodelay(true);
        Ok(self.socket.try_clone().map_err(lost)?.into())
    }

    /// Says hello and hears it, all within [`HANDSHAKE_TIMEOUT`].
    fn shake_hands(&self, socket: &mut TcpStream) -> Result<Hello, End> {
        let lost = |err: std::io::Error| End::Lost(explain(&err, "handshake"));
        let ours = self.context.handshake().to_bytes();
        if !self.link.incoming {
            socket.write_all(&ours).map_err(lost)?;
        }
        let (trace, conn) = (self.context.trace, self.link.conn);
        if !self.link.incoming {
            trace.handshake(Direction::Out, conn, &ours);
        }
        let mut theirs = [0; HANDSHAKE_LEN];
        let mut filled = 0;
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        while filled < HANDSHAKE_LEN {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(End::Lost(silent(filled)));
            }
            socket.set_read_timeout(Some(left)).map_err(lost)?;
            match socket.read(&mut theirs[filled..]) {
                Ok(0) => {
                    let what = format!("hung up after {filled} of the handshake's 68 bytes");
                    return Err(End::Lost(what));
                }
                Ok(n) => filled += n,
                // The time is over, as the loop will see.
                Err(err) if is_in_vain(&err) => {}
                Err(err) => return Err(lost(err)),
            }
            check_protocol(&theirs[..filled]).map_err(|rule| End::Violation(rule.0))?;
        }
        trace.handshake(Direction::In, conn, &theirs);
        let theirs = Handshake::from_bytes(&theirs).map_err(|rule| End::Violation(rule.0))?;
        if theirs.info_hash != self.context.info_hash {
            let what = format!(
                "expected a handshake for {}, found one for {} (BEP 3)",
                self.context.info_hash, theirs.info_hash
            );
            return Err(End::Violation(what));
        }
        if self.link.incoming {
            trace.handshake(Direction::Out, conn, &ours);
            socket.write_all(&ours).map_err(lost)?;
        }
        let Link { addr, incoming, .. } = self.link;
        Ok(Hello { addr, incoming, peer_id: theirs.peer_id, reserved: theirs.reserved })
    }
}

/// What is said of a peer that took the connection, and did not shake hands.
fn silent(filled: usize) -> String {
    let time = HANDSHAKE_TIMEOUT.as_secs();
    match filled {
        0 => format!("did not answer the handshake within {time} s"),
        _ => format!("sent {filled} of the handshake's {HANDSHAKE_LEN} bytes within {time} s"),
    }
}

fn is_in_vain(err: &std::io::Error) -> bool {
    matches!(err.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A chunk to read into: a used one if there is one.
pub fn new_chunk(outlets: &Outlets) -> Vec<u8> {
    outlets.empty.try_recv().unwrap_or_else(|_| vec![0; CHUNK_LEN])
}

/// The session has ended, and nobody is interested in how this connection does.
fn ended() -> End {
    End::Lost("we are done".to_owned())
}

/// Some messages, in their order, and where the bytes of the blocks among them lie.
#[derive(Default)]
struct Heard {
    blocks: Blocks,
    messages: Vec<Message>,
}

/// What came from the socket and is not handed out yet.
struct Stream {
    context: Context,
    link: Link,
    asked: Receiver<Span>,
    limit: Limit,
    /// The blocks that were asked for and have not come, in the order of the requests.
    expected: VecDeque<Span>,
    chunk: Vec<u8>,
    /// Before this, everything has been parsed.
    parsed: usize,
    /// Behind this, the chunk is free.
    filled: usize,
}

impl Stream {
    /// Reads once, and no more than the limit lets pass soon.
    fn fill(&mut self, socket: &mut TcpStream) -> Result<(), End> {
        let end = self.chunk.len().min(self.filled.saturating_add(self.limit.portion()));
        loop {
            return match socket.read(&mut self.chunk[self.filled..end]) {
                Ok(0) => Err(End::Lost("hung up".to_owned())),
                Ok(n) => {
                    self.filled += n;
                    self.hold_back(n as u64)
                }
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                Err(err) => Err(End::Lost(explain(&err, "read"))),
            };
        }
    }

    /// Waits until so many bytes may have passed: the peer finds its way blocked meanwhile.
    fn hold_back(&mut self, bytes: u64) -> Result<(), End> {
        let until = Instant::now() + self.limit.take(bytes);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            match wait::recv_timeout(&self.asked, left) {
                Ok(span) => self.expected.push_back(span),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
            }
        }
    }

    /// Takes the next whole messages out of what has been read, [`HEARD_MAX`] at most; `None` if there
    /// are none. Blocks are listed twice: with their place in the chunk for the assembler, and as a
    /// message for the swarm.
    fn parse(&mut self) -> Result<Option<Heard>, End> {
        self.expected.extend(self.asked.try_iter());
        let (before, mut heard) = (self.parsed, Heard::default());
        let Heard { blocks, messages } = &mut heard;
        let mut needed = None;
        while needed.is_none() && messages.len() < HEARD_MAX {
            let rest = &self.chunk[self.parsed..self.filled];
            match parse(rest, self.context.pieces).map_err(|rule| End::Violation(rule.0))? {
                Parsed::Needs(n) => needed = Some(n),
                Parsed::Message(message, len) => {
                    self.context.trace.message(
                        Direction::In,
                        self.link.conn,
                        &message,
                        &rest[..len],
                    );
                    self.parsed += len;
                    if message != Message::KeepAlive {
                        messages.push(message);
                    }
                }
                Parsed::Block(span, at) => {
                    self.context.trace.message(
                        Direction::In,
                        self.link.conn,
                        &Message::Block(span),
                        &rest[..BLOCK_HEADER_LEN],
                    );
                    if self.was_expected(span) {
                        blocks.push((span, self.parsed + at.start));
                        messages.push(Message::Block(span));
                    } else {
                        // It means nothing, and is counted as such.
                        messages.push(Message::Unknown(7));
                    }
                    self.parsed += at.end;
                }
            }
        }
        let found = before != self.parsed;
        if let Some(needed) = needed
            && blocks.is_empty()
        {
            self.make_room(needed);
        }
        // Answers that never came, to requests given up long ago.
        let surplus = self.expected.len().saturating_sub(ASKED_MAX);
        self.expected.drain(..surplus);
        Ok(found.then_some(heard))
    }

    fn was_expected(&mut self, span: Span) -> bool {
        match self.expected.iter().position(|expected| *expected == span) {
            Some(at) => self.expected.remove(at).is_some(),
            None => false,
        }
    }

    /// Moves the part of a message to the front if the rest of it would not fit behind it. Only a
    /// bitfield of over a million pieces is longer than a chunk.
    fn make_room(&mut self, needed: usize) {
        if self.parsed == self.filled {
            (self.parsed, self.filled) = (0, 0);
        }
        if self.chunk.len() < self.parsed + needed {
            self.chunk.copy_within(self.parsed..self.filled, 0);
            (self.parsed, self.filled) = (0, self.filled - self.parsed);
        }
        if self.chunk.len() < needed {
            self.chunk.resize(needed, 0);
        }
    }

    /// Hands the chunk out and goes on with a new one, beginning with what is not parsed yet.
    fn exchange(&mut self, mut next: Vec<u8>) -> Vec<u8> {
        let rest = &self.chunk[self.parsed..self.filled];
        if next.len() < rest.len() {
            next.resize(rest.len(), 0);
        }
        next[..rest.len()].copy_from_slice(rest);
        (self.parsed, self.filled) = (0, rest.len());
        std::mem::replace(&mut self.chunk, next)
    }
}

/// An error of the operating system in the words of somebody who waits for a peer.
fn explain(err: &std::io::Error, what: &str) -> String {
    match err.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("{what}: timed out"),
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => format!("{what}: {err}"),
    }
}
