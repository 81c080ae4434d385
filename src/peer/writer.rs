//! The writer: sends one peer what the swarm orders.
//!
//! ```text
//! orders ─► messages: at once, those that wait together in one write; but many `have`, which
//!       │   are made as the socket takes them
//!       └─► blocks: a queue; a `cancel` or `choke` takes them out again. Their bytes go
//!           from the map to the socket, header and block and header and block in one call;
//!           where the limit is so low that a block takes long, slice by slice
//! ```
//!
//! Before a request goes out the reader is told of it, so that the answer is known as one when it
//! comes.
//!
//! Layer: hands. One thread a peer. Owns its handle of the socket, the queue of blocks, and a
//! reading end of the storage.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::{ASKED_MAX, Context, KEEP_ALIVE, WRITE_TIMEOUT};
use crate::bitfield::Bitfield;
use crate::event::Event;
use crate::geometry::{PieceIndex, Span};
use crate::hash::Verified;
use crate::limit::Limit;
use crate::picker::ConnId;
use crate::storage::{Reading, Slices};
use crate::swarm::{Fact, Order};
use crate::trace::Direction;
use crate::wait;
use crate::wire::message::{BLOCK_HEADER_LEN, Message};
use crate::wire::metadata::{self, Metadata};

/// When what is to be sent is longer than this, it is sent before more is added.
const WRITE_LEN: usize = 64 * 1024;

/// So many bytes of [`Haves`] go out in one call; after it, orders and blocks have their turn.
const HAVES_LEN: usize = 16 * 1024;

/// So much of the queue goes out in one call, at least and at most: after it, orders are looked at
/// again. The kernel is told to hold no more than that unsent, since nothing can take it back: what
/// waits there is sent to a peer that has cancelled it or is choked.
const UPLOAD_MIN: usize = 16 * 1024;
const UPLOAD_MAX: usize = 512 * 1024;

/// What the kernel may hold unsent of the least.
const UNSENT_MIN: usize = 2 * 1024;

/// How long one call should take: shorter ones are given more, longer ones less.
const UPLOAD_TIME: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(60);

/// An order for one connection, with what it takes to carry it out.
#[derive(Debug)]
pub enum Task {
    Order(Order),
    /// Send this block, of a piece that is verified.
    Upload(Verified, Span),
    /// From now on there is something to read from.
    Storage(Box<Reading>),
}

pub struct Writer {
    pub context: Context,
    pub conn: ConnId,
    pub socket: TcpStream,
    pub tasks: Receiver<Task>,
    /// To the reader of the same connection.
    pub asked: Sender<Span>,
    /// What has been sent is told here.
    pub events: Sender<Event>,
    /// `None` until the metadata of a magnet link is here.
    pub storage: Option<Reading>,
    pub limit: Limit,
    pub queue: VecDeque<(Verified, Span)>,
    pub haves: Haves,
    pub portion: Portion,
    /// Bytes that the limit lets pass, and for which there is no block any more: never more than one
    /// portion, and the next one counts it.
    pub granted: usize,
}

/// Pieces that the peer is still to be told of, in order: a bit each, where their messages would take
/// some hundred times as much.
#[derive(Debug, Default)]
pub struct Haves {
    /// Nothing before `next` counts.
    pieces: Bitfield,
    next: PieceIndex,
}

impl Haves {
    fn is_empty(&self) -> bool {
        self.pieces.len() <= self.next
    }

    fn add(&mut self, mut more: Bitfield) {
        self.for_each(|piece| _ = more.insert(piece));
        *self = Haves { pieces: more, next: 0 };
    }
}

impl Iterator for Haves {
    type Item = PieceIndex;

    fn next(&mut self) -> Option<PieceIndex> {
        let left = self.next..self.pieces.len();
        let found = left.into_iter().find(|&piece| self.pieces.contains(piece));
        self.next = found.map_or(self.pieces.len(), |piece| piece + 1);
        found
    }
}

/// How much goes out in one call, measured by how long that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion(usize);

impl Default for Portion {
    fn default() -> Portion {
        Portion(UPLOAD_MIN)
    }
}

impl Portion {
    /// The next one, after so many bytes took so long.
    fn after(self, bytes: usize, time: Duration) -> Portion {
        let Portion(len) = self;
        let next = match () {
            () if *UPLOAD_TIME.end() < time => len / 2,
            // Less than half of it went out: that it was quick says nothing.
            () if time < *UPLOAD_TIME.start() && len <= 2 * bytes => 2 * len,
            () => len,
        };
        Portion(next.clamp(UPLOAD_MIN, UPLOAD_MAX))
    }

    /// Tells the kernel how much it may hold unsent. On a slow line hardly anything: what seventeen
    /// sockets hold would take two seconds of it, and our own requests wait behind. Where there is no
    /// such option the send buffer's own limit has to do.
    fn tell(self, socket: &TcpStream) {
        let unsent = if self == Portion::default() { UNSENT_MIN } else { self.0 };
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(unsent as u32);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = (socket, unsent);
    }
}

/// However the thread ends, by a panic too: the reader finds the socket shut, and tells the swarm.
impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Why the thread ends: there is nobody to write to, or for.
struct Over;

impl Writer {
    /// The thread: until the swarm drops the peer, or the peer does not take what we send.
    pub fn run(mut self) {
        let _ = self.socket.set_write_timeout(Some(WRITE_TIMEOUT));
        self.portion.tell(&self.socket);
        while self.step().is_ok() {}
    }

    /// Takes the tasks that wait, sends the messages, then some blocks.
    fn step(&mut self) -> Result<(), Over> {
        let mut bytes = Vec::new();
        if self.queue.is_empty() && self.haves.is_empty() {
            self.wait(KEEP_ALIVE, &mut bytes)?;
        }
        while bytes.len() < WRITE_LEN {
            let Ok(task) = self.tasks.try_recv() else { break };
            self.take(task, &mut bytes)?;
        }
        while bytes.len() < HAVES_LEN
            && let Some(piece) = self.haves.next()
        {
            self.say(&Message::Have(piece), &mut bytes);
        }
        if !bytes.is_empty() {
            self.write(&bytes)?;
        }
        self.upload()
    }

    /// Waits for a task, or says that we are still here.
    fn wait(&mut self, time: Duration, bytes: &mut Vec<u8>) -> Result<(), Over> {
        match wait::recv_timeout(&self.tasks, time) {
            Ok(task) => self.take(task, bytes),
            Err(RecvTimeoutError::Timeout) => {
                self.say(&Message::KeepAlive, bytes);
                Ok(())
            }
            Err(RecvTimeoutError::Disconnected) => Err(Over),
        }
    }

    fn take(&mut self, task: Task, bytes: &mut Vec<u8>) -> Result<(), Over> {
        match task {
            Task::Upload(verified, span) => self.queue.push_back((verified, span)),
            Task::Storage(storage) => self.storage = Some(*storage),
            Task::Order(Order::Say(message)) => self.say(&message, bytes),
            Task::Order(Order::Haves(pieces)) => self.haves.add(pieces),
            Task::Order(Order::Upload(_)) => unreachable!("the session adds the token"),
            Task::Order(Order::Metadata { id, piece }) => self.give_metadata(id, piece, bytes),
            Task::Order(Order::Withdraw(span)) => self.queue.retain(|(_, queued)| *queued != span),
            Task::Order(Order::WithdrawAll) => self.queue.clear(),
            Task::Order(Order::Ask(spans)) => {
                for span in spans {
                    // A full list means that the peer reads our requests and answers none of
                    // thousands: no client of good will does that.
                    if ASKED_MAX <= self.asked.len() {
                        return Err(Over);
                    }
                    self.asked.send(span).map_err(|_| Over)?;
                    self.say(&Message::Request(span), bytes);
                }
            }
        }
        Ok(())
    }

    fn say(&self, message: &Message, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        message.encode(bytes);
        self.context.trace.message(Direction::Out, self.conn, message, &bytes[start..]);
    }

    /// A piece of the metadata (BEP 9). Made only now: a queue of them is a queue of numbers.
    fn give_metadata(&self, id: u8, piece: u32, bytes: &mut Vec<u8>) {
        let Some(storage) = &self.storage else { return };
        let info = &storage.torrent().info;
        let Some(range) = metadata::range(piece, info.len()) else { return };
        let total_size = info.len() as u32;
        let data = Metadata::Data { piece, total_size, bytes: &info[range] };
        self.say(&Message::Extended(id, data.to_bytes()), bytes);
    }

    /// Sends blocks from the front of the queue. They stay there until it is their turn, so that they
    /// can be taken back.
    fn upload(&mut self) -> Result<(), Over> {
        let Some((_, first)) = self.queue.front() else { return Ok(()) };
        let (first, slice) = (first.length as usize, self.limit.portion());
        let portion = self.portion.0.min(slice).max(first);
        self.hold_back(self.fitting(portion).1.min(slice))?;
        let (mut count, mut len) = self.fitting(self.granted);
        if count == 0
            && let Some((_, next)) = self.queue.front()
            && slice < next.length as usize
        {
            // Its beginning, and once it has begun the rest has to follow.
            (count, len) = (1, self.granted);
        }
        if count == 0 {
            return Ok(());
        }
        self.granted -= len;
        let spans: Vec<(Verified, Span)> = self.queue.drain(..count).collect();
        let began = Instant::now();
        self.send(&spans, len)?;
        let next = self.portion.after(len, began.elapsed());
        if next != self.portion {
            self.portion = next;
            next.tell(&self.socket);
        }
        let sent = Fact::Sent { conn: self.conn, spans: spans.iter().map(|(_, s)| *s).collect() };
        self.events.send(Event::Fact(sent)).map_err(|_| Over)
    }

    /// How many blocks at the front of the queue have no more than so many bytes together, and how
    /// many they have.
    fn fitting(&self, bytes: usize) -> (usize, usize) {
        let (mut count, mut len) = (0, 0);
        for (_, span) in &self.queue {
            if bytes < len + span.length as usize {
                break;
            }
            (count, len) = (count + 1, len + span.length as usize);
        }
        (count, len)
    }

    /// Waits until the limit lets so many bytes pass. All orders that come by then are taken: they may
    /// be about what waits.
    fn hold_back(&mut self, bytes: usize) -> Result<(), Over> {
        let until = Instant::now() + self.limit.take(bytes.saturating_sub(self.granted) as u64);
        self.granted = self.granted.max(bytes);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut bytes = Vec::new();
            match wait::recv_timeout(&self.tasks, left) {
                Ok(task) => self.take(task, &mut bytes)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Over),
            }
            self.write(&bytes)?;
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Over> {
        write_within(&self.socket, &mut [IoSlice::new(bytes)], WRITE_TIMEOUT).map_err(|_| Over)
    }

    /// Header, bytes, header, bytes: all in one call where the socket takes it. The limit has let
    /// `granted` bytes of blocks pass; what is more goes out when it lets it.
    fn send(&mut self, spans: &[(Verified, Span)], granted: usize) -> Result<(), Over> {
        // Orders to upload come after it.
        let storage = self.storage.as_mut().ok_or(Over)?;
        let mut blocks: Vec<Slices> = Vec::with_capacity(spans.len());
        for (verified, span) in spans {
            match storage.slices(verified, *span) {
                Ok(slices) => blocks.push(slices),
                Err(err) => {
                    // The disk does not give what it took: this run must not go on.
                    let _ = self.events.send(Event::Failed(err));
                    return Err(Over);
                }
            }
        }
        let mut headers = Vec::with_capacity(spans.len() * BLOCK_HEADER_LEN);
        spans.iter().for_each(|(_, span)| self.say(&Message::Block(*span), &mut headers));
        let mut parts: Vec<IoSlice> = Vec::with_capacity(2 * spans.len());
        for (header, block) in headers.chunks_exact(BLOCK_HEADER_LEN).zip(&blocks) {
            parts.push(IoSlice::new(header));
            parts.extend(block.io_slices());
        }
        let mut said = Vec::new();
        let written = self.write_slices(&mut parts, headers.len() + granted, &mut said)?;
        written.map_err(|err| {
            let spans = spans.iter().map(|(_, span)| *span);
            if let Some(fault) = self.storage.as_ref().and_then(|s| s.fault(&err, spans)) {
                let _ = self.events.send(Event::Failed(fault));
            }
            Over
        })?;
        self.write(&said)
    }

    /// Writes so many bytes, and the rest as the limit lets it pass. Tasks are taken meanwhile; when
    /// there is something to say, which has to wait for the end of the block, the rest goes out at
    /// once, on credit: our own requests are not to wait for what others get of us.
    fn write_slices(
        &mut self,
        mut rest: &mut [IoSlice],
        mut ready: usize,
        said: &mut Vec<u8>,
    ) -> Result<std::io::Result<()>, Over> {
        loop {
            let all: usize = rest.iter().map(|part| part.len()).sum();
            if all <= ready {
                return Ok(write_within(&self.socket, rest, WRITE_TIMEOUT));
            }
            let written = write_within(&self.socket, &mut first_bytes(rest, ready), WRITE_TIMEOUT);
            if written.is_err() {
                return Ok(written);
            }
            IoSlice::advance_slices(&mut rest, ready);
            let left = all - ready;
            ready = left.min(self.limit.portion());
            let until = Instant::now() + self.limit.take(ready as u64);
            while said.is_empty() {
                let time = until.saturating_duration_since(Instant::now());
                match wait::recv_timeout(&self.tasks, time) {
                    Ok(task) => self.take(task, said)?,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return Err(Over),
                }
            }
            if !said.is_empty() {
                self.limit.take((left - ready) as u64);
                ready = left;
            }
        }
    }
}

/// The first bytes of some slices.
fn first_bytes<'a>(parts: &'a [IoSlice], mut count: usize) -> Vec<IoSlice<'a>> {
    let mut first = Vec::with_capacity(parts.len());
    for part in parts {
        let len = part.len().min(count);
        first.push(IoSlice::new(&part[..len]));
        count -= len;
    }
    first
}

/// Writes everything within `time`, which is also what the socket waits for at most in one call.
/// The kernel takes a part and begins to count anew: a peer that does not read would be waited for
/// several times.
fn write_within(
    mut socket: &TcpStream,
    mut rest: &mut [IoSlice],
    time: Duration,
) -> std::io::Result<()> {
    let began = Instant::now();
    let mut shortened = false;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match socket.write_vectored(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut rest, n),
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
        if !rest.is_empty() {
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            shortened = true;
            socket.set_write_timeout(Some(left))?;
        }
    }
    if shortened { socket.set_write_timeout(Some(time)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::hash::Sha1;
    use crate::storage::fixture::{Folder, plant, torrent};
    use crate::storage::{Aside, Layout};
    use crate::trace::Trace;
    use crate::wire::handshake::{PeerId, Reserved};

    /// A writer on loopback, its orders, and the peer's end of the socket.
    fn writer(storage: Option<Reading>, limit: Limit) -> (Writer, Sender<Task>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let (orders, tasks) = unbounded();
        let context = Context {
            info_hash: Sha1([1; 20]),
            peer_id: PeerId([2; 20]),
            pieces: None,
            reserved: Reserved::default(),
            trace: Trace::off(),
        };
        let (queue, portion) = (VecDeque::new(), Portion::default());
        // Nobody listens to what it tells others.
        let (asked, events) = (unbounded().0, unbounded().0);
        let (conn, granted) = (ConnId(1), 0);
        let writer = Writer {
            context,
            conn,
            socket,
            tasks,
            asked,
            events,
            storage,
            limit,
            queue,
            portion,
            granted,
            haves: Haves::default(),
        };
        (writer, orders, peer)
    }

    /// The session holds the socket too, and learns of the end from the reader, which waits for the
    /// peer.
    #[test]
    fn a_panic_shuts_the_socket() {
        let (writer, orders, mut peer) = writer(None, Limit::none());
        let _third_handle = writer.socket.try_clone().unwrap();
        let mistake = Order::Upload(Span { piece: 0, begin: 0, length: 1 });
        orders.send(Task::Order(mistake)).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| writer.run())).is_err());
        assert_eq!(peer.read(&mut [0]).ok(), Some(0));
    }

    /// Two verified pieces of one block each, and what an upload of one of them is.
    fn two_pieces(folder: &Folder) -> (Reading, impl Fn(PieceIndex) -> (Verified, Span)) {
        let layout = Layout::below(torrent(&[("", 32_768)], 16_384), folder.path());
        plant(&layout);
        let reading = Reading::open(layout.clone(), Aside::default()).unwrap();
        let upload = move |piece| {
            let verified = layout.torrent().piece_hashes.trust(piece).expect("a piece");
            (verified, layout.geometry().whole(piece))
        };
        (reading, upload)
    }

    /// Whoever is choked, or has cancelled, while the limit makes it wait.
    #[test]
    fn what_waits_for_its_turn_can_be_taken_back() {
        let folder = Folder::temporary();
        let (reading, upload) = two_pieces(&folder);
        let (mut writer, orders, mut peer) = writer(Some(reading), Limit::of(200_000));
        writer.queue.push_back(upload(0));
        orders.send(Task::Order(Order::WithdrawAll)).unwrap();
        orders.send(Task::Order(Order::Say(Message::Choke))).unwrap();
        let (verified, span) = upload(1);
        orders.send(Task::Upload(verified, span)).unwrap();
        let _ = writer.upload();
        let mut said = [0; 5 + BLOCK_HEADER_LEN];
        peer.read_exact(&mut said).unwrap();
        let mut expected = Vec::new();
        Message::Choke.encode(&mut expected);
        Message::Block(span).encode(&mut expected);
        assert_eq!(said[..], expected);
        // The second block went in the first one's turn.
        assert_eq!((writer.granted, writer.queue.len()), (0, 0));
    }

    /// What a program says of itself jumps by whole blocks; this is what the peer sees.
    #[test]
    fn a_low_limit_is_smooth_and_what_there_is_to_say_does_not_wait_for_it() {
        let folder = Folder::temporary();
        let (reading, upload) = two_pieces(&folder);
        let task = |piece| {
            let (verified, span) = upload(piece);
            Task::Upload(verified, span)
        };
        // A block takes eight seconds.
        let (mut writer, orders, mut peer) = writer(Some(reading), Limit::of(2_048));
        orders.send(task(0)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || while writer.step().is_ok() {});
            let mut buffer = vec![0; 64 << 10];
            let first = peer.read(&mut buffer).unwrap();
            let begun = Instant::now();
            assert!(first < 16_384 / 2, "{first} bytes at once");
            orders.send(task(1)).unwrap();
            let second = peer.read(&mut buffer).unwrap();
            assert!(first + second < 16_384 / 2, "another request is nothing to say");
            orders.send(Task::Order(Order::Say(Message::Interested))).unwrap();
            let mut rest = vec![0; 16_384 + BLOCK_HEADER_LEN + 5 - first - second];
            peer.read_exact(&mut rest).unwrap();
            assert!(rest.ends_with(&[0, 0, 0, 1, 2]));
            assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
            drop(orders);
        });
    }

    #[test]
    fn haves_are_told_in_order_and_once() {
        let mut haves = Haves::default();
        assert!(haves.is_empty() && haves.next().is_none());
        haves.add(Bitfield::with(20, [3, 17, 19]));
        assert_eq!((haves.next(), haves.is_empty()), (Some(3), false));
        haves.add(Bitfield::with(20, [1, 17]));
        assert_eq!(haves.by_ref().collect::<Vec<_>>(), [1, 17, 19]);
        assert!(haves.is_empty());
    }

    #[test]
    fn a_portion_follows_the_rate() {
        let settles = |rate: f64| {
            let step = |portion: Portion, _| {
                portion.after(portion.0, Duration::from_secs_f64(portion.0 as f64 / rate))
            };
            (0..20).fold(Portion::default(), step).0
        };
        assert_eq!(settles(50e3), UPLOAD_MIN);
        assert_eq!(settles(1e9), UPLOAD_MAX);
        assert!((32_768..=131_072).contains(&settles(4e6)), "{}", settles(4e6));
        let quick = Duration::from_micros(10);
        assert_eq!(Portion(65_536).after(16_384, quick), Portion(65_536));
    }

    #[test]
    fn one_that_takes_a_little_now_and_then_is_not_waited_for_again_and_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let time = Duration::from_millis(300);
        socket.set_write_timeout(Some(time)).unwrap();
        let bytes = vec![0; 64 << 20];
        let write = || write_within(&socket, &mut [IoSlice::new(&bytes)], time);
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Until the writer hangs up.
                let mut some = vec![0; 256 << 10];
                while std::io::Read::read(&mut peer, &mut some).is_ok_and(|n| n != 0) {
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            assert!(write().is_err());
            let took = began.elapsed();
            assert!(time <= took && took < 3 * time, "{took:?}");
            socket.shutdown(Shutdown::Both).unwrap();
        });
    }
}
