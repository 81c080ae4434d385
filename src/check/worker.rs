//! One worker of a check: takes the next piece, reads it, hashes it, says what it found.
//!
//! Layer: hands. Each worker owns one open file and one buffer; they share a counter and a flag.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam_channel::Sender;

use crate::bitfield::Bitfield;
use crate::geometry::{PieceIndex, Span};
use crate::hash::{Hasher, Sha1};
use crate::storage::folder::{Access, Folder};
use crate::storage::{Layout, Part, READ_STEP, read_steps, room, zeros};

/// What the workers share. Only the two atomics change.
pub(super) struct Job<'a> {
    pub layout: &'a Layout,
    pub folder: &'a Folder,
    /// How long each file is; 0 if it is not there, or no file.
    pub sizes: &'a [u64],
    pub wanted: &'a Bitfield,
    /// The piece that nobody has looked at yet.
    pub next: AtomicU32,
    pub stop: AtomicBool,
}

/// What a worker tells.
pub(super) enum Said {
    /// So many bytes are done.
    Done(u64),
    Piece(PieceIndex, Verdict),
    /// A file that could not be read, and why.
    Unreadable(usize, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Matches,
    Differs,
    Absent,
}

pub(super) struct Worker<'a> {
    job: &'a Job<'a>,
    /// The file read last: pieces come in order, so it is mostly the next one too.
    open: Option<(usize, File)>,
    buffer: Vec<u8>,
    /// The hash of so many zeros, once it was needed.
    of_zeros: Option<(u32, Sha1)>,
}

impl<'a> Worker<'a> {
    pub fn new(job: &'a Job<'a>) -> Worker<'a> {
        Worker { job, open: None, buffer: vec![0; READ_STEP], of_zeros: None }
    }

    /// Until there is no piece left, or nobody listens.
    pub fn run(mut self, told: &Sender<Said>) {
        let geometry = self.job.layout.geometry();
        while !self.job.stop.load(Ordering::Relaxed) {
            let piece = self.job.next.fetch_add(1, Ordering::Relaxed);
            if geometry.pieces() <= piece {
                return;
            }
            if !self.job.wanted.contains(piece) {
                continue;
            }
            let verdict = self.look_at(geometry.whole(piece), told);
            if told.send(Said::Piece(piece, verdict)).is_err() {
                return;
            }
        }
    }

    fn look_at(&mut self, piece: Span, told: &Sender<Said>) -> Verdict {
        let Job { layout, sizes, .. } = *self.job;
        let there = |part: Part| part.at + part.length as u64 <= sizes[part.file];
        let whole = layout.parts(piece).all(|part| !part.stored || there(part));
        let actual = if !whole {
            None
        } else if layout.parts(piece).all(|part| self.is_hole(part)) {
            Some(self.hash_of_zeros(piece.length))
        } else {
            return match self.read(piece, told) {
                Some(actual) if self.matches(piece, actual) => Verdict::Matches,
                _ => Verdict::Differs,
            };
        };
        let _ = told.send(Said::Done(u64::from(piece.length)));
        match actual {
            Some(actual) if self.matches(piece, actual) => Verdict::Matches,
            // A hole that does not match never was data.
            _ => Verdict::Absent,
        }
    }

    fn matches(&self, piece: Span, actual: Sha1) -> bool {
        self.job.layout.torrent().piece_hashes.check(piece.piece, actual).is_some()
    }

    fn is_hole(&mut self, part: Part) -> bool {
        let range = part.at..part.at + part.length as u64;
        !part.stored || self.file(part.file).is_ok_and(|file| room::is_hole(file, range))
    }

    /// The hash of a piece, read from disk. `None` if it could not be read, or the check stops.
    fn read(&mut self, piece: Span, told: &Sender<Said>) -> Option<Sha1> {
        let mut hasher = Hasher::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = u64::from(piece.length);
        for part in self.job.layout.parts(piece) {
            if self.job.stop.load(Ordering::Relaxed) {
                break;
            }
            let mut each = |bytes: &[u8]| {
                hasher.update(bytes);
                left -= bytes.len() as u64;
                let _ = told.send(Said::Done(bytes.len() as u64));
            };
            if !part.stored {
                zeros(part.length).for_each(each);
                continue;
            }
            let range = part.at..part.at + part.length as u64;
            let read = self
                .file(part.file)
                .and_then(|file| read_steps(file, range, &mut buffer, &mut each));
            if let Err(err) = read {
                let _ = told.send(Said::Unreadable(part.file, format!("cannot be read: {err}")));
                break;
            }
        }
        self.buffer = buffer;
        // What was not read is done with all the same.
        if left != 0 {
            let _ = told.send(Said::Done(left));
            return None;
        }
        Some(hasher.finish())
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

    fn file(&mut self, file: usize) -> std::io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != file) {
            // The old one is closed first: one descriptor a worker.
            self.open = None;
            let components = self.job.layout.components(file);
            self.open = Some((file, self.job.folder.open_file(&components, Access::Read)?));
        }
        Ok(self.open.as_ref().map(|(_, file)| file).expect("opened just now"))
    }
}
