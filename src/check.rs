//! Checking what is on disk: which pieces are there already, by their hashes.
//!
//! ```text
//!  a counter ──► worker × cores: next piece ──► read 256 KiB ──► SHA-1 ──► verdict
//!                                                                            │ (bounded)
//!  the caller's thread: counts, reports progress, may say stop ◄─────────────┘
//! ```
//!
//! Files are read, not mapped: a map would have to fault in each page, and an error while reading
//! would be a signal. A piece whose file is missing or too short is not read at all, nor is one that
//! lies in a hole, as pieces do that were reserved but never came.
//!
//! Layer: hands. Threads `check-0` and so on, for as long as a check takes; they only read.

mod worker;

use std::io;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result};
use crossbeam_channel::bounded;

use crate::bitfield::Bitfield;
use crate::resume;
use crate::storage::Layout;
use crate::storage::folder::{Folder, Status};
use worker::{Job, Said, Verdict, Worker};

/// A worker has one file open at a time, so this is also a limit on descriptors: well below the 64
/// of a narrow limit (`ulimit -n`).
const WORKERS_MAX: usize = 32;

/// Verdicts under way to the caller's thread; when it is slow the workers wait for it.
const VERDICTS_MAX: usize = 64;

/// What a check has found out.
#[derive(Debug)]
pub struct Found {
    /// Pieces that matched their hashes.
    pub have: Bitfield,
    /// Pieces that are there and do not match; what is in neither set is not there, or not wholly.
    pub differ: Bitfield,
    /// Files that are not what the torrent says, whatever their pieces are; in order.
    pub troubles: Vec<(usize, Trouble)>,
}

/// Why a file is not what the torrent says, without looking at its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    Missing,
    /// Its size in bytes, and what it should be.
    Short(u64, u64),
    Long(u64, u64),
    /// It, or a folder on the way to it, is something else, or cannot be read: the reason.
    Unusable(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Trouble::Missing => f.write_str("missing"),
            Trouble::Short(size, of) => write!(f, "{size} bytes long, too short: {of} expected"),
            Trouble::Long(size, of) => write!(f, "{size} bytes long, too long: {of} expected"),
            Trouble::Unusable(why) => f.write_str(why),
        }
    }
}

/// What a download begins with.
#[derive(Debug)]
pub struct Existing {
    /// Pieces that are verified, by hashing them now or by a resume file that vouches for them.
    pub have: Bitfield,
    /// How many pieces are there and wrong: data that will be replaced.
    pub differ: u32,
    /// Whether a resume file was trusted for a part of it at least.
    pub resumed: bool,
}

/// Told how many bytes have been checked, of how many; `Break` stops the check.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// Finds out what is there, before a download: from the resume file where it can be trusted, by
/// hashing where it cannot or `force` is given. `None` if `progress` stopped it.
///
/// Writes nothing. The resume file loses its value when [`storage::open`](crate::storage::open)
/// takes it.
pub fn start(layout: &Layout, force: bool, progress: Progress) -> Result<Option<Existing>> {
    let pieces = layout.geometry().pieces();
    let resumed = if force { None } else { resume::load(layout) };
    let (mut have, wanted, resumed) = match resumed {
        Some(kept) => (kept.have, kept.doubt, true),
        None => (Bitfield::new(pieces), Bitfield::full(pieces), false),
    };
    let Some(found) = run(layout, &wanted, progress)? else { return Ok(None) };
    found.have.iter().for_each(|piece| {
        have.insert(piece);
    });
    Ok(Some(Existing { have, differ: found.differ.count(), resumed }))
}

/// Checks the `wanted` pieces. `None` if `progress` stopped it.
pub fn run(layout: &Layout, wanted: &Bitfield, progress: Progress) -> Result<Option<Found>> {
    let pieces = layout.geometry().pieces();
    let mut found =
        Found { have: Bitfield::new(pieces), differ: Bitfield::new(pieces), troubles: Vec::new() };
    let folder = match Folder::open(layout.folder()) {
        Ok(folder) => folder,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            found.troubles = stored(layout).map(|file| (file, Trouble::Missing)).collect();
            return Ok(Some(found));
        }
        Err(err) => {
            return Err(err).with_context(|| format!("cannot open {}", layout.folder().display()));
        }
    };
    let sizes = survey(layout, &folder, &mut found.troubles);
    let job = Job {
        layout,
        folder: &folder,
        sizes: &sizes,
        wanted,
        next: AtomicU32::new(0),
        stop: AtomicBool::new(false),
    };
    let finished = thread::scope(|scope| -> Result<bool> {
        let (verdicts, inbox) = bounded(VERDICTS_MAX);
        for number in 0..workers(wanted.count()) {
            let (job, verdicts) = (&job, verdicts.clone());
            thread::Builder::new()
                .name(format!("check-{number}"))
                .spawn_scoped(scope, move || Worker::new(job).run(&verdicts))
                .context("cannot start a thread")?;
        }
        drop(verdicts);
        Ok(collect(&job, &mut found, inbox.iter(), progress))
    })?;
    found.troubles.sort_by_key(|(file, _)| *file);
    found.troubles.dedup_by_key(|(file, _)| *file);
    Ok(finished.then_some(found))
}

/// Takes the workers' words until the last has left. False if the caller said stop.
fn collect(
    job: &Job,
    found: &mut Found,
    said: impl Iterator<Item = Said>,
    progress: Progress,
) -> bool {
    let geometry = job.layout.geometry();
    let total = job.wanted.iter().map(|piece| u64::from(geometry.piece_len(piece))).sum();
    let mut done = 0;
    let mut going = progress(0, total).is_continue();
    for said in said {
        match said {
            Said::Done(bytes) => {
                done += bytes;
                going = going && progress(done, total).is_continue();
            }
            Said::Piece(piece, Verdict::Matches) => _ = found.have.insert(piece),
            Said::Piece(piece, Verdict::Differs) => _ = found.differ.insert(piece),
            Said::Piece(_, Verdict::Absent) => {}
            Said::Unreadable(file, why) => found.troubles.push((file, Trouble::Unusable(why))),
        }
        // The workers are heard to the end, so that none waits for room in the channel.
        job.stop.fetch_or(!going, Ordering::Relaxed);
    }
    going
}

fn workers(pieces: u32) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    cores.min(WORKERS_MAX).min(pieces as usize)
}

fn stored(layout: &Layout) -> impl Iterator<Item = usize> + '_ {
    let files = layout.files().iter().enumerate();
    files.filter(|(_, file)| file.is_stored()).map(|(index, _)| index)
}

/// Looks at every file: how long it is, 0 if it cannot be read.
fn survey(layout: &Layout, folder: &Folder, troubles: &mut Vec<(usize, Trouble)>) -> Vec<u64> {
    let mut sizes = vec![0; layout.files().len()];
    for file in stored(layout) {
        let expected = layout.files()[file].length;
        let trouble = match folder.status(&layout.components(file)) {
            Ok(Status { kind, size, .. }) => match kind.complaint() {
                Some(why) => Some(Trouble::Unusable(why.into())),
                None => {
                    sizes[file] = size;
                    match size {
                        _ if size < expected => Some(Trouble::Short(size, expected)),
                        _ if expected < size => Some(Trouble::Long(size, expected)),
                        _ => None,
                    }
                }
            },
            Err(err) if err.kind() == io::ErrorKind::NotFound => Some(Trouble::Missing),
            Err(err) => Some(Trouble::Unusable(err.to_string())),
        };
        troubles.extend(trouble.map(|trouble| (file, trouble)));
    }
    sizes
}
