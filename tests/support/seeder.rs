//! An honest peer that has everything, in memory. Fast enough that it is never what a benchmark
//! measures: many requests a read, all their answers in one write, no byte copied.
//!
//! ```text
//! fast      reads requests ─► writes [header, block, header, block, …]         one thread
//! shaped    reads requests ─► (when, request) ─► waits its turn, writes        two threads
//! ```
//!
//! The shaped one has a limit in bytes a second for all its connections together, and a delay: an
//! answer leaves so long after its request came, however many are on the way. One thread accepts.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::fixture::{BLOCK_LEN, Fixture};
use super::peer::{Wire, accept_all, full_bitfield, handshake, id, message, peer_id};

/// Requests that a shaped connection takes before it reads no further.
const QUEUE_MAX: usize = 4096;

/// Pieces of one write: the operating system takes 1024 at most.
const SLICES_MAX: usize = 1024;

/// No request is for more than this (BEP 3 says that 16 KiB are usual; clients refuse over 128).
const REQUEST_MAX: u32 = 128 << 10;

/// How a seeder is to be.
#[derive(Clone)]
pub struct Seed {
    ip: IpAddr,
    rate: Option<u64>,
    delay: Duration,
    pause_after: u64,
    die_after: u64,
    fast: bool,
    mute: bool,
}

impl Default for Seed {
    fn default() -> Seed {
        let (ip, delay) = (Ipv4Addr::LOCALHOST.into(), Duration::ZERO);
        let (pause_after, die_after) = (u64::MAX, u64::MAX);
        Seed { ip, rate: None, delay, pause_after, die_after, fast: false, mute: false }
    }
}

impl Seed {
    pub fn at(self, ip: IpAddr) -> Seed {
        Seed { ip, ..self }
    }

    /// Bytes a second, for all connections together.
    pub fn rate(self, rate: u64) -> Seed {
        Seed { rate: Some(rate), ..self }
    }

    /// Between a request and its answer.
    pub fn delay(self, delay: Duration) -> Seed {
        Seed { delay, ..self }
    }

    /// Answers nothing more after so many bytes.
    pub fn pause_after(self, bytes: u64) -> Seed {
        Seed { pause_after: bytes, ..self }
    }

    /// Hangs up on everybody after so many bytes, and on whoever dials again.
    pub fn die_after(self, bytes: u64) -> Seed {
        Seed { die_after: bytes, ..self }
    }

    /// Speaks the Fast extension (BEP 6): `have all` instead of a bitfield.
    pub fn fast(self) -> Seed {
        Seed { fast: true, ..self }
    }

    /// Tells what it has by single `have` messages, without a bitfield.
    pub fn without_bitfield(self) -> Seed {
        Seed { mute: true, ..self }
    }

    pub fn start(self, fixture: &Fixture) -> Seeder {
        let listener = TcpListener::bind((self.ip, 0)).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let data = Data {
            bytes: fixture.data.clone(),
            piece_length: fixture.piece_length,
            pieces: fixture.pieces(),
            info_hash: fixture.info_hash,
        };
        let blocks_per_piece = fixture.piece_length.div_ceil(BLOCK_LEN);
        let blocks = (0..data.pieces * blocks_per_piece).map(|_| AtomicU32::new(0)).collect();
        let counts = Counts { blocks, blocks_per_piece, ..Counts::default() };
        let shared = Arc::new(Shared { seed: self, data, counts, epoch: Instant::now() });
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, stopped) = (shared.clone(), stop.clone());
        let serve = move |stream| {
            let shared = theirs.clone();
            let n = shared.counts.connections.fetch_add(1, Ordering::Relaxed);
            // A connection ends when the other side hangs up: that is no failure.
            spawn(move || drop(shared.serve(stream, n as usize)))
        };
        let thread = Some(spawn(move || accept_all(&listener, &stopped, serve)));
        Seeder { addr, shared, stop, thread }
    }
}

/// A seeder at work. It stops when it is dropped.
pub struct Seeder {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Seeder {
    /// A fast one at 127.0.0.1.
    pub fn start(fixture: &Fixture) -> Seeder {
        Seed::default().start(fixture)
    }

    /// Bytes of blocks that were sent.
    pub fn served(&self) -> u64 {
        self.shared.counts.served.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> u32 {
        self.shared.counts.connections.load(Ordering::Relaxed)
    }

    /// From the first request to the last, since the last time somebody asked.
    pub fn busy_time(&self) -> Duration {
        let counts = &self.shared.counts;
        let first = counts.first_request.swap(0, Ordering::Relaxed);
        let last = counts.last_request.load(Ordering::Relaxed);
        Duration::from_nanos(last.saturating_sub(first))
    }

    /// The most times that any block was sent.
    pub fn most_often(&self) -> u32 {
        let counts = self.shared.counts.blocks.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    /// Which pieces something was sent of.
    pub fn pieces_served(&self) -> Vec<usize> {
        let counts = &self.shared.counts;
        let pieces = counts.blocks.chunks(counts.blocks_per_piece).enumerate();
        let touched = |piece: &[AtomicU32]| piece.iter().any(|n| n.load(Ordering::Relaxed) != 0);
        pieces.filter(|(_, blocks)| touched(blocks)).map(|(piece, _)| piece).collect()
    }
}

impl Drop for Seeder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Data {
    bytes: Arc<Vec<u8>>,
    piece_length: usize,
    pieces: usize,
    info_hash: [u8; 20],
}

#[derive(Default)]
struct Counts {
    served: AtomicU64,
    connections: AtomicU32,
    /// How often each block was sent, by its first byte.
    blocks: Vec<AtomicU32>,
    blocks_per_piece: usize,
    /// Nanoseconds since the start at which the next byte may leave, if there is a limit.
    next_byte: AtomicU64,
    /// Nanoseconds since the start at which the first and the last requests came; 0 for none.
    first_request: AtomicU64,
    last_request: AtomicU64,
}

struct Shared {
    seed: Seed,
    data: Data,
    counts: Counts,
    epoch: Instant,
}

/// Piece, begin, length, as they came.
type Request = [u32; 3];

impl Shared {
    fn serve(&self, stream: Arc<TcpStream>, n: usize) -> io::Result<()> {
        self.is_willing()?;
        let mut wire = Wire::new(stream);
        let theirs = wire.read_handshake()?;
        if theirs[28..48] != self.data.info_hash {
            return Ok(());
        }
        let fast = self.seed.fast && theirs[27] & 0x04 != 0;
        let ours = peer_id(b"-SS0001-", n);
        let mut hello = handshake(&self.data.info_hash, &ours, self.seed.fast);
        if fast {
            hello.extend(message(id::HAVE_ALL, b""));
        } else if self.seed.mute {
            let haves = (0..self.data.pieces as u32).map(|n| message(id::HAVE, &n.to_be_bytes()));
            hello.extend(haves.flatten());
        } else if self.data.pieces != 0 {
            hello.extend(message(id::BITFIELD, &full_bitfield(self.data.pieces)));
        }
        wire.send(&hello)?;
        let stream = wire.stream;
        let output = stream.clone();
        let shaped = self.seed.rate.is_some() || !self.seed.delay.is_zero();
        if !shaped {
            let mut answers = Answers { output, shared: self };
            return self.read_requests(stream, |requests| answers.send(requests));
        }
        let (sender, queue) = bounded(QUEUE_MAX);
        std::thread::scope(|scope| {
            scope.spawn(|| self.answer_in_time(queue, output));
            self.read_requests(stream, |requests| enqueue(&sender, requests))?;
            drop(sender);
            Ok(())
        })
    }

    /// Reads until the other side hangs up. Whatever has come is parsed before the next read, and
    /// its requests are handed on together.
    fn read_requests(
        &self,
        stream: Arc<TcpStream>,
        mut take: impl FnMut(&[Request]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 256 << 10];
        let (mut filled, mut requests) = (0, Vec::new());
        let mut unchoked = false;
        loop {
            match (&*stream).read(&mut buffer[filled..])? {
                0 => return Ok(()),
                n => filled += n,
            }
            let mut at = 0;
            while let Some(frame) = frame(&buffer[at..filled]) {
                at += 4 + frame.len();
                match frame {
                    // Some clients overlook an unchoke that comes before they ask for it.
                    [id::INTERESTED] if !unchoked => {
                        unchoked = true;
                        (&*stream).write_all(&message(id::UNCHOKE, b""))?;
                    }
                    [id::REQUEST, fields @ ..] if unchoked => requests.extend(request(fields)),
                    _ => {}
                }
            }
            if at == 0 && filled == buffer.len() {
                return Err(io::Error::other("a message over 256 KiB"));
            }
            buffer.copy_within(at..filled, 0);
            filled -= at;
            if !requests.is_empty() {
                self.note_time();
                take(&requests)?;
                requests.clear();
            }
        }
    }

    fn note_time(&self) {
        let now = self.epoch.elapsed().as_nanos() as u64;
        let first = &self.counts.first_request;
        let _ = first.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.counts.last_request.store(now, Ordering::Relaxed);
    }

    /// The bytes that are asked for, if there are any.
    fn block(&self, [piece, begin, length]: Request) -> Option<&[u8]> {
        let (piece, begin) = (piece as usize, begin as usize);
        let end = begin.checked_add(length as usize)?;
        let inside = end <= self.data.piece_length && (1..=REQUEST_MAX).contains(&length);
        let start = piece.checked_mul(self.data.piece_length)?;
        self.data.bytes.get(start + begin..start + end).filter(|_| inside)
    }

    fn count(&self, [piece, begin, length]: Request) {
        let block = piece as usize * self.counts.blocks_per_piece + begin as usize / BLOCK_LEN;
        self.counts.blocks[block].fetch_add(1, Ordering::Relaxed);
        self.counts.served.fetch_add(length.into(), Ordering::Relaxed);
    }

    /// Whether the seeder goes on; an error if it has died.
    fn is_willing(&self) -> io::Result<bool> {
        let served = self.counts.served.load(Ordering::Relaxed);
        if self.seed.die_after <= served {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(served < self.seed.pause_after)
    }

    /// The writing thread of a shaped connection.
    fn answer_in_time(&self, queue: Receiver<(Instant, Request)>, output: Arc<TcpStream>) {
        let mut answers = Answers { output, shared: self };
        for (came, request) in queue {
            let turn = self.turn(request[2]).max(came + self.seed.delay);
            std::thread::sleep(turn.saturating_duration_since(Instant::now()));
            if answers.send(&[request]).is_err() {
                break;
            }
        }
        // The reading thread shall end too.
        let _ = answers.output.shutdown(Shutdown::Both);
    }

    /// When so many bytes may leave; they are reserved. A limit that was not used in time is lost.
    fn turn(&self, length: u32) -> Instant {
        let Some(rate) = self.seed.rate else { return Instant::now() };
        let now = self.epoch.elapsed().as_nanos() as u64;
        let cost = u64::from(length) * 1_000_000_000 / rate.max(1);
        let reserve = |next: u64| Some(next.max(now) + cost);
        let next = &self.counts.next_byte;
        let before = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve);
        self.epoch + Duration::from_nanos(before.unwrap_or(now).max(now) + cost)
    }
}

fn enqueue(queue: &Sender<(Instant, Request)>, requests: &[Request]) -> io::Result<()> {
    let now = Instant::now();
    for &request in requests {
        queue.send((now, request)).map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
    Ok(())
}

/// The first whole message, without its length.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    bytes.get(4..4 + length)
}

fn request(fields: &[u8]) -> Option<Request> {
    let (words, []) = fields.as_chunks::<4>() else { return None };
    <[[u8; 4]; 3]>::try_from(words).ok().map(|words| words.map(u32::from_be_bytes))
}

/// The writing end of a connection.
struct Answers<'a> {
    output: Arc<TcpStream>,
    shared: &'a Shared,
}

impl Answers<'_> {
    /// Answers all of them, with as few writes as there can be.
    fn send(&mut self, requests: &[Request]) -> io::Result<()> {
        for some in requests.chunks(SLICES_MAX / 2) {
            let mut blocks = Vec::with_capacity(some.len());
            for &request in some {
                if let (true, Some(block)) = (self.shared.is_willing()?, self.shared.block(request))
                {
                    blocks.push((header(request), block));
                    self.shared.count(request);
                }
            }
            let both = |(header, block)| [IoSlice::new(header), IoSlice::new(block)];
            let mut slices: Vec<IoSlice> =
                blocks.iter().map(|(header, block)| (&header[..], *block)).flat_map(both).collect();
            write_all(&self.output, &mut slices)?;
        }
        Ok(())
    }
}

fn header([piece, begin, length]: Request) -> [u8; 13] {
    let mut header = [0; 13];
    header[..4].copy_from_slice(&(length + 9).to_be_bytes());
    header[4] = id::PIECE;
    header[5..9].copy_from_slice(&piece.to_be_bytes());
    header[9..].copy_from_slice(&begin.to_be_bytes());
    header
}

fn write_all(mut output: &TcpStream, mut slices: &mut [IoSlice]) -> io::Result<()> {
    while !slices.is_empty() {
        match output.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut slices, n),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}
