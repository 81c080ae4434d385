//! A web seed: a server that has the torrent's files (BEP 19, the way of GetRight).
//!
//! ```text
//! swarm ── Fetch(bytes of the torrent) ──► web seed ── GET, Range: of each file's part ──► server
//!   ▲  └── until (how far) ──────────────────►┤
//!   └── Fetched(blocks), FetchEnded ──────────┤◄── body, read into chunks
//!                     assembler ◄── Delivery ─┘
//! ```
//!
//! The swarm orders a run of blocks that lie side by side. It is cut into the parts of the files that
//! it covers, one request for each; pad files (BEP 47) are zeros that nobody is asked for. What comes
//! is handed to the assembler in chunks, as a peer's reader does it, under a number that is like a
//! connection's: so bad bytes have a name here too.
//!
//! A server that ignores `Range` sends a file from its start. It is read on from where it is, run
//! after run; what must be passed over for that may not be more than the torrent's size in all.
//!
//! | file      | what it holds                                             |
//! |-----------|-----------------------------------------------------------|
//! | `address` | the URL of each file, and which addresses are used at all |
//! | `answer`  | what status and headers mean                              |
//! | `call`    | one request, redirects followed                           |
//! | `sink`    | bytes in, blocks out                                      |
//!
//! Layer: hands. One thread a server, which ends when the session lets go of the orders. Owns the
//! open answer.

pub mod address;
pub mod answer;
mod call;
mod sink;

use std::io::Read;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use ureq::BodyReader;
use ureq::http::Uri;

use crate::event::Event;
use crate::limit::Limit;
use crate::peer::reader::Outlets;
use crate::picker::ConnId;
use crate::storage::{Layout, Part};
use crate::swarm::{Fact, FetchEnd};
use crate::web::client::{Client, Failure, Found, Side};
use address::{Address, Names};
use answer::Verdict;
use sink::Sink;

pub use call::client;

/// Web seeds of one torrent that are used. Each is a thread and a connection; lists are short, and a
/// few servers fill any line.
pub const WEB_SEEDS_MAX: usize = 16;

/// How soon it is noticed that the session has ended while a server is asked.
const GLANCE: Duration = Duration::from_millis(100);

/// What is passed over is read in steps of this.
const SKIP_LEN: usize = 16 * 1024;

pub struct WebSeed {
    pub conn: ConnId,
    pub address: Address,
    pub names: Arc<Names>,
    pub layout: Layout,
    /// The same for all, so that it can be shut down.
    pub client: Client,
    /// Runs of bytes of the torrent, one at a time; hung up when the session ends.
    pub orders: Receiver<Range<u64>>,
    /// How far the run is still wanted.
    pub until: Arc<AtomicU64>,
    pub outlets: Outlets,
    pub limit: Limit,
}

/// The thread's own state.
struct Fetcher {
    seed: WebSeed,
    /// The answer that is being read.
    stream: Option<Stream>,
    /// It has sent a whole file where a part was asked for.
    ignores_range: bool,
    /// Bytes that were read to be passed over.
    skipped: u64,
    /// Where this file's last answer came from.
    last: Option<(usize, (Uri, Side))>,
}

/// The body of an answer.
struct Stream {
    file: usize,
    /// The place in the file of the next byte, and of the end of the body.
    at: u64,
    end: u64,
    body: BodyReader<'static>,
}

impl WebSeed {
    /// The thread.
    pub fn run(self) {
        let (conn, events, orders) = (self.conn, self.outlets.events.clone(), self.orders.clone());
        let mut fetcher =
            Fetcher { seed: self, stream: None, ignores_range: false, skipped: 0, last: None };
        for order in orders {
            // A mistake of ours in one server's thread ends that server, and nothing else.
            let fetched = catch_unwind(AssertUnwindSafe(|| fetcher.fetch(order)));
            let useless = |_| Err(FetchEnd::Useless { why: "our thread for it panicked".into() });
            let end = match fetched.unwrap_or_else(useless) {
                Ok(()) => FetchEnd::Done { in_order: fetcher.ignores_range },
                Err(end) => {
                    fetcher.stream = None;
                    end
                }
            };
            if events.send(Event::Fact(Fact::FetchEnded { conn, end })).is_err() {
                return;
            }
        }
    }
}

impl Fetcher {
    /// Fetches a run, or as much of it as is wanted.
    fn fetch(&mut self, order: Range<u64>) -> Result<(), FetchEnd> {
        let mut sink = Sink::new(self.seed.conn, &self.seed.outlets, order.start);
        let layout = self.seed.layout.clone();
        loop {
            let until = self.seed.until.load(Ordering::Relaxed).min(order.end);
            if until <= sink.end() {
                return Ok(());
            }
            let part = layout.parts_of(sink.end()..until).next();
            let part = part.ok_or_else(|| failed("nothing is there to be asked for"))?;
            if part.stored {
                self.take_part(part, &mut sink)?;
            } else {
                sink.fill_zeros(&layout.geometry(), part.length)?;
            }
        }
    }

    /// Reads a part of a file, or as much of it as one answer has.
    fn take_part(&mut self, part: Part, sink: &mut Sink) -> Result<(), FetchEnd> {
        let (offset, length) = {
            let file = &self.seed.layout.files()[part.file];
            (file.offset, file.length)
        };
        let fits = |s: &Stream| s.file == part.file && s.at <= part.at && part.at < s.end;
        let stream = match self.stream.take().filter(fits) {
            Some(stream) => stream,
            None => self.open(part, length)?,
        };
        // Kept where it is while it is read, so that a server that sends on is read on later.
        let stream = self.stream.insert(stream);
        let geometry = self.seed.layout.geometry();
        while stream.at < part.at {
            let mut scrap = [0; SKIP_LEN];
            let room = usize::try_from(part.at - stream.at).unwrap_or(SKIP_LEN).min(SKIP_LEN);
            let n = stream.read(&mut scrap[..room], &self.seed)?;
            self.skipped += n as u64;
            if self.seed.until.load(Ordering::Relaxed) <= sink.end() {
                return Ok(());
            }
        }
        let end = (part.at + part.length as u64).min(stream.end);
        loop {
            let until = self.seed.until.load(Ordering::Relaxed).saturating_sub(offset).min(end);
            let Some(left) = until.checked_sub(stream.at).filter(|left| *left != 0) else { break };
            let room = sink.room();
            let len = usize::try_from(left).unwrap_or(room.len()).min(room.len());
            let n = stream.read(&mut room[..len], &self.seed)?;
            sink.filled(&geometry, n)?;
        }
        if stream.at == stream.end {
            // The end must be seen for the connection to be used again.
            let _ = stream.body.read(&mut [0]);
            self.stream = None;
        } else if !self.ignores_range {
            self.stream = None;
        }
        Ok(())
    }

    /// Asks for a part of a file and waits for the headers.
    fn open(&mut self, part: Part, length: u64) -> Result<Stream, FetchEnd> {
        let seed = &self.seed;
        let lacks = |why| FetchEnd::Lacks { why, pieces: seed.layout.pieces_of(part.file) };
        let torrent = seed.layout.torrent();
        let uri = seed.address.of_file(torrent, &seed.names, part.file).map_err(lacks)?;
        let last = self.last.take().filter(|(file, _)| *file == part.file).map(|(_, from)| from);
        let asked = part.at..part.at + part.length as u64;
        let answered = call::ask(seed, uri, last, asked.clone());
        let answered = answered.ok_or_else(|| failed("cannot start a thread"))?;
        let Found { response, uri, side } = loop {
            match answered.recv_timeout(GLANCE) {
                Ok(Ok(found)) => break found,
                Ok(Err(Failure::Forbidden(why))) => return Err(lacks(why)),
                Ok(Err(Failure::Call(error))) => return Err(call::failed(error)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(failed("our thread for it panicked"));
                }
                // No order comes before this one's end: this is the end of the session.
                Err(RecvTimeoutError::Timeout) => {
                    if seed.orders.try_recv() == Err(TryRecvError::Disconnected) {
                        return Err(ended());
                    }
                }
            }
        };
        match answer::judge(response.status(), response.headers(), &asked, length) {
            Verdict::Part { end } => {
                self.last = Some((part.file, (uri, side)));
                let body = response.into_body().into_reader();
                Ok(Stream { file: part.file, at: part.at, end, body })
            }
            Verdict::Whole => {
                self.last = Some((part.file, (uri, side)));
                self.ignores_range |= asked != (0..length);
                let (vain, max) = (self.skipped, torrent.geometry.total_length());
                if max < vain + part.at {
                    let why = format!(
                        "it ignores Range, and {vain} bytes were read in vain; for {} more would be",
                        part.at
                    );
                    return Err(FetchEnd::Useless { why });
                }
                let body = response.into_body().into_reader();
                Ok(Stream { file: part.file, at: 0, end: length, body })
            }
            Verdict::Lacks(why) => Err(lacks(why)),
            Verdict::Later(why, retry_in) => Err(FetchEnd::Failed { why, retry_in }),
        }
    }
}

impl Stream {
    /// Reads once, and no more than the limit lets pass soon; waits until it may have passed.
    fn read(&mut self, to: &mut [u8], seed: &WebSeed) -> Result<usize, FetchEnd> {
        let len = to.len().min(seed.limit.portion());
        let n = match self.body.read(&mut to[..len]) {
            Ok(0) => {
                let missing = self.end - self.at;
                return Err(failed(format!("the answer ended {missing} bytes too early")));
            }
            Ok(n) => n,
            Err(err) => return Err(call::failed(err.into())),
        };
        self.at += n as u64;
        let until = Instant::now() + seed.limit.take(n as u64);
        while Instant::now() < until {
            if seed.orders.recv_deadline(until) == Err(RecvTimeoutError::Disconnected) {
                return Err(ended());
            }
        }
        Ok(n)
    }
}

fn failed(why: impl Into<String>) -> FetchEnd {
    FetchEnd::Failed { why: why.into(), retry_in: None }
}

/// The session has ended, and nobody is interested in how this fetch does.
fn ended() -> FetchEnd {
    failed("we are done")
}
