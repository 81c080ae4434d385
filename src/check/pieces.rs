//! Hashing pieces that are on disk, on all cores.
//!
//! ```text
//!  a counter ──► worker × cores: next piece ──► read 256 KiB ──► SHA-1 ──► what it is
//!                                                                             │ (bounded)
//!  the caller's thread: takes note, reports progress, may say stop ◄──────────┘
//! ```
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
use crate::hash::{Hasher, Sha1};
use crate::storage::{Aside, Layout, Part, READ_STEP, read_steps, room, zeros};

/// A worker has one file open at a time, so this is also a limit on descriptors: well below the 64
/// of a narrow limit (`ulimit -n`).
const WORKERS_MAX: usize = 32;

/// News under way to the caller's thread; when it is slow the workers wait for it.
const NEWS_MAX: usize = 64;

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
        for number in 0..workers(job.wanted.count()) {
            let worker = Worker::new(job, &next, &stop, sender.clone());
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

fn workers(pieces: u32) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    cores.min(WORKERS_MAX).min(pieces as usize)
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
    /// The file read last: pieces come in order, so it is mostly the next one too.
    open: Option<(usize, File)>,
    buffer: Vec<u8>,
    /// The hash of so many zeros, once it was needed.
    of_zeros: Option<(u32, Sha1)>,
}

impl<'a> Worker<'a> {
    fn new(
        job: &'a Job<'a>,
        next: &'a AtomicU32,
        stop: &'a AtomicBool,
        told: Sender<Said>,
    ) -> Worker<'a> {
        let buffer = vec![0; READ_STEP];
        Worker { job, next, stop, told, open: None, buffer, of_zeros: None }
    }

    /// Until there is no piece left, or nobody listens.
    fn run(mut self) {
        let geometry = self.job.layout.geometry();
        while !self.stop.load(Ordering::Relaxed) {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if geometry.pieces() <= piece {
                return;
            }
            if self.job.wanted.contains(piece) {
                let news = self.look_at(geometry.whole(piece));
                if self.told.send(Said::News(news)).is_err() {
                    return;
                }
            }
        }
    }

    fn look_at(&mut self, span: Span) -> News {
        let Job { layout, aside, sizes, .. } = *self.job;
        if aside.contains(span.piece) && self.is_aside(span) {
            self.done(u64::from(span.length));
            return News::Aside(span.piece);
        }
        let there = |part: Part| part.at + part.length as u64 <= sizes[part.file];
        let news = if !layout.parts(span).all(|part| !part.stored || there(part)) {
            News::Absent(span.piece)
        } else if layout.parts(span).all(|part| self.is_hole(part)) {
            News::Hole(span.piece, self.hash_of_zeros(span.length))
        } else {
            return match self.read(span) {
                // Reserved room may look written once it has been near what was.
                Ok(hash) if hash == self.hash_of_zeros(span.length) => News::Hole(span.piece, hash),
                Ok(hash) => News::Hash(span.piece, hash),
                Err((file, err)) => News::Unreadable(span.piece, file, err),
            };
        };
        self.done(u64::from(span.length));
        news
    }

    /// Whether a piece is what its slot holds.
    fn is_aside(&self, span: Span) -> bool {
        let mut hasher = Hasher::new();
        let read = self.job.aside.read_each(span, &mut |bytes| hasher.update(bytes));
        let hashes = &self.job.layout.torrent().piece_hashes;
        read.is_ok() && hashes.check(span.piece, hasher.finish()).is_some()
    }

    fn is_hole(&mut self, part: Part) -> bool {
        let range = part.at..part.at + part.length as u64;
        !part.stored || self.file(part.file).is_ok_and(|file| room::is_hole(file, range))
    }

    /// The hash of a piece, or the file that could not be read.
    fn read(&mut self, span: Span) -> Result<Sha1, (usize, io::Error)> {
        let mut hasher = Hasher::new();
        for part in self.job.layout.parts(span) {
            if !part.stored {
                zeros(part.length).for_each(|bytes| hasher.update(bytes));
                self.done(part.length as u64);
                continue;
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let range = part.at..part.at + part.length as u64;
            let told = self.told.clone();
            let read = self.file(part.file).and_then(|file| {
                read_steps(file, range, &mut buffer, &mut |bytes| {
                    hasher.update(bytes);
                    let _ = told.send(Said::Done(bytes.len() as u64));
                })
            });
            self.buffer = buffer;
            read.map_err(|err| (part.file, err))?;
        }
        Ok(hasher.finish())
    }

    fn done(&self, bytes: u64) {
        // Nobody listening ends the worker at its next piece.
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
