//! Hashing pieces that are on disk, on all cores.
//!
//! ```text
//!  a counter ──► worker × cores: next pieces ──► read a step of each ──► SHA-1 ──► what they are
//!                                                                                   │ (bounded)
//!  the caller's thread: takes note, reports progress, may say stop ◄────────────────┘
//! ```
//!
//! A worker takes as many pieces as the processor hashes side by side ([`Row`]), and reads them in
//! turn, a step of each. So that a disk with a moving head need not follow these turns, the kernel
//! is told beforehand of longer runs.
//!
//! Files are read, not mapped: a map would have to fault in each page, and an error while reading
//! would be a signal.
//!
//! Layer: hands. Threads `hash-0` and so on, for as long as it takes. Each owns one open file and one
//! buffer; they share a counter and a flag.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result};
use crossbeam_channel::{Sender, bounded};

use super::Progress;
use crate::bitfield::Bitfield;
use crate::geometry::{PieceIndex, Span};
use crate::hash::{Hasher, Row, Sha1};
use crate::storage::folder::if_there;
use crate::storage::{Aside, Layout, Part, READ_STEP, read_exact_at, room, zeros};

/// A worker has one file open at a time, so this is also a limit on descriptors: well below the 64
/// of a narrow limit (`ulimit -n`).
const WORKERS_MAX: usize = 32;

/// News under way to the caller's thread; when it is slow the workers wait for it.
const NEWS_MAX: usize = 64;

/// A worker's buffer, in bytes: no larger than what stays in a core's own cache.
const BUFFER_LEN: usize = 1024 * 1024;

/// So much of each piece is announced to the kernel at a time: enough for a disk's head to have been
/// worth moving.
const AHEAD: u32 = 1024 * 1024;

/// What is to be hashed.
pub struct Job<'a> {
    pub layout: &'a Layout,
    /// Pieces that may be here, and not in the files.
    pub aside: &'a Aside,
    /// How long each file is; 0 if it is not there, or no file.
    pub sizes: &'a [u64],
    pub wanted: &'a Bitfield,
    /// Opens a file by its index.
    pub open: &'a (dyn Fn(usize) -> io::Result<File> + Sync),
}

/// What a worker tells.
#[derive(Debug)]
pub enum News {
    /// A piece matched its hash, and is kept aside.
    Aside(PieceIndex),
    /// A piece was read, and is not only zeros.
    Hash(PieceIndex, Sha1),
    /// A piece is nothing but zeros, as it is before it was ever written: this is their hash.
    Hole(PieceIndex, Sha1),
    /// A file of the piece is missing or too short; nothing was read.
    Absent(PieceIndex),
    /// A file of the piece could not be read.
    Unreadable(PieceIndex, usize, io::Error),
}

/// Hashes the wanted pieces and gives what comes out to `told`, in no order. Stops early, and says
/// `Break`, when `told` or `progress` does.
pub fn hash(
    job: &Job,
    progress: Progress,
    told: &mut dyn FnMut(News) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let geometry = job.layout.geometry();
    let total = job.wanted.iter().map(|piece| u64::from(geometry.piece_len(piece))).sum();
    let (next, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let (sender, inbox) = bounded(NEWS_MAX);
        let pieces = job.wanted.count() as usize;
        let workers = workers(pieces);
        // All cores have something to do before one of them does things side by side.
        let at_once = (pieces / workers.max(1)).clamp(1, Row::width());
        for number in 0..workers {
            let worker = Worker::new(job, &next, &stop, at_once, sender.clone());
            thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn_scoped(scope, move || worker.run())
                .inspect_err(|_| stop.store(true, Ordering::Relaxed))
                .context("cannot start a thread")?;
        }
        drop(sender);
        let mut done = 0;
        let mut flow = progress(0, total);
        // The workers are heard to the end, so that none waits for room in the channel.
        for said in inbox {
            if flow.is_continue() {
                flow = match said {
                    Said::Done(bytes) => {
                        done += bytes;
                        progress(done, total)
                    }
                    Said::News(news) => told(news),
                };
            }
            stop.fetch_or(flow.is_break(), Ordering::Relaxed);
        }
        Ok(flow)
    })
}

fn workers(pieces: usize) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    cores.min(WORKERS_MAX).min(pieces)
}

enum Said {
    /// So many bytes are done with.
    Done(u64),
    News(News),
}

struct Worker<'a> {
    job: &'a Job<'a>,
    /// The piece that nobody has looked at yet.
    next: &'a AtomicU32,
    stop: &'a AtomicBool,
    told: Sender<Said>,
    /// How many pieces are read side by side.
    at_once: usize,
    /// The file read last: pieces come in order, so it is mostly the next one too.
    open: Option<(usize, File)>,
    /// A step of each piece.
    buffer: Vec<u8>,
    /// The hash of so many zeros, once it was needed.
    of_zeros: Option<(u32, Sha1)>,
}

impl<'a> Worker<'a> {
    fn new(
        job: &'a Job<'a>,
        next: &'a AtomicU32,
        stop: &'a AtomicBool,
        at_once: usize,
        told: Sender<Said>,
    ) -> Worker<'a> {
        let buffer = vec![0; BUFFER_LEN.min(at_once * READ_STEP)];
        Worker { job, next, stop, told, at_once, open: None, buffer, of_zeros: None }
    }

    /// Until there is no piece left, or nobody listens.
    fn run(mut self) {
        loop {
            let pieces = self.take();
            if pieces.is_empty() {
                return;
            }
            let mut unread = Vec::new();
            for span in pieces {
                match self.without_reading(span) {
                    Some(news) => {
                        self.done(u64::from(span.length));
                        self.tell(news);
                    }
                    None => unread.push(span),
                }
            }
            // Only the torrent's last piece has another length.
            for row in unread.chunk_by(|a, b| a.length == b.length) {
                self.read(row);
            }
        }
    }

    /// The next wanted pieces; none if it is over.
    fn take(&self) -> Vec<Span> {
        let geometry = self.job.layout.geometry();
        let mut pieces = Vec::new();
        while pieces.len() < self.at_once && !self.stop.load(Ordering::Relaxed) {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if geometry.pieces() <= piece {
                break;
            }
            if self.job.wanted.contains(piece) {
                pieces.push(geometry.whole(piece));
            }
        }
        pieces
    }

    /// What can be said of a piece without its bytes in the files.
    fn without_reading(&mut self, span: Span) -> Option<News> {
        let Job { layout, aside, sizes, .. } = *self.job;
        let there = |part: Part| part.at + part.length as u64 <= sizes[part.file];
        let kept = if aside.contains(span.piece) { self.is_aside(span) } else { Ok(false) };
        match kept {
            Ok(true) => return Some(News::Aside(span.piece)),
            Ok(false) => {}
            Err(err) => {
                let file = layout.parts(span).next().map_or(0, |part| part.file);
                return Some(News::Unreadable(span.piece, file, err));
            }
        }
        if !layout.parts(span).all(|part| !part.stored || there(part)) {
            Some(News::Absent(span.piece))
        } else if layout.parts(span).all(|part| self.is_hole(part)) {
            Some(News::Hole(span.piece, self.hash_of_zeros(span.length)))
        } else {
            None
        }
    }

    /// Whether a piece is what its slot holds; an error: a shortage, nobody knows.
    fn is_aside(&self, span: Span) -> io::Result<bool> {
        let mut hasher = Hasher::new();
        let read = self.job.aside.read_each(span, &mut |bytes| hasher.update(bytes));
        let hashes = &self.job.layout.torrent().piece_hashes;
        let there = if_there(read)?.is_some();
        Ok(there && hashes.check(span.piece, hasher.finish()).is_some())
    }

    fn is_hole(&mut self, part: Part) -> bool {
        let range = part.at..part.at + part.length as u64;
        !part.stored || self.file(part.file).is_ok_and(|file| room::is_hole(file, range))
    }

    /// Reads pieces of one length side by side, and tells of each.
    fn read(&mut self, pieces: &[Span]) {
        let length = pieces[0].length;
        // A power of two: whole blocks of SHA-1, and an announced run ends with a step.
        let step = 1usize << (self.buffer.len() / pieces.len()).min(READ_STEP).ilog2();
        let mut row = Row::new(pieces.len());
        let mut failed: Vec<Option<(usize, io::Error)>> = pieces.iter().map(|_| None).collect();
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut begin = 0;
        let hashes = loop {
            if begin % AHEAD == 0 {
                pieces.iter().for_each(|piece| self.announce(piece.part(begin, AHEAD)));
            }
            let now = (length - begin).min(step as u32);
            for ((piece, failed), bytes) in
                pieces.iter().zip(&mut failed).zip(buffer.chunks_mut(step))
            {
                if failed.is_none() {
                    let bytes = &mut bytes[..now as usize];
                    *failed = self.fill(piece.part(begin, now), bytes).err();
                }
            }
            self.done(u64::from(now) * pieces.len() as u64);
            begin += now;
            let steps: Vec<&[u8]> =
                buffer.chunks(step).take(pieces.len()).map(|b| &b[..now as usize]).collect();
            if begin == length {
                break row.finish(&steps);
            }
            row.update(&steps);
            if self.stop.load(Ordering::Relaxed) {
                self.buffer = buffer;
                return;
            }
        };
        self.buffer = buffer;
        for ((piece, hash), failed) in pieces.iter().zip(hashes).zip(failed) {
            let news = match failed {
                Some((file, err)) => News::Unreadable(piece.piece, file, err),
                // Reserved room may look written once it has been near what was.
                None if hash == self.hash_of_zeros(length) => News::Hole(piece.piece, hash),
                None => News::Hash(piece.piece, hash),
            };
            self.tell(news);
        }
    }

    /// Has the kernel read what will be wanted soon.
    fn announce(&mut self, span: Span) {
        for part in self.job.layout.parts(span).filter(|part| part.stored) {
            let range = part.at..part.at + part.length as u64;
            // If it cannot be opened, reading it will say so.
            let _ = self.file(part.file).map(|file| room::read_ahead(file, range));
        }
    }

    /// Reads a part of a piece, or says which file could not be read.
    fn fill(&mut self, span: Span, bytes: &mut [u8]) -> Result<(), (usize, io::Error)> {
        let mut rest = bytes;
        for part in self.job.layout.parts(span) {
            let (bytes, behind) = rest.split_at_mut(part.length);
            rest = behind;
            if part.stored {
                let read =
                    self.file(part.file).and_then(|file| read_exact_at(file, bytes, part.at));
                read.map_err(|err| (part.file, err))?;
            } else {
                bytes.fill(0);
            }
        }
        Ok(())
    }

    fn tell(&self, news: News) {
        let _ = self.told.send(Said::News(news));
    }

    fn done(&self, bytes: u64) {
        let _ = self.told.send(Said::Done(bytes));
    }

    fn hash_of_zeros(&mut self, length: u32) -> Sha1 {
        match self.of_zeros {
            Some((of, hash)) if of == length => hash,
            _ => {
                let mut hasher = Hasher::new();
                zeros(length as usize).for_each(|bytes| hasher.update(bytes));
                let hash = hasher.finish();
                self.of_zeros = Some((length, hash));
                hash
            }
        }
    }

    fn file(&mut self, file: usize) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != file) {
            // The old one is closed first: one descriptor a worker.
            self.open = None;
            self.open = Some((file, (self.job.open)(file)?));
        }
        Ok(self.open.as_ref().map(|(_, file)| file).expect("opened just now"))
    }
}
