//! Checking what is on disk: which pieces are there already, by their hashes.
//!
//! A piece whose file is missing or too short is not read at all, nor is one that lies in a hole, as
//! pieces do that were reserved but never came. How the others are read: [`pieces`].
//!
//! Layer: hands. Writes nothing.

pub mod pieces;

use std::io;
use std::ops::ControlFlow;

use anyhow::{Context, Result};

use crate::bitfield::Bitfield;
use crate::resume;
use crate::storage::Layout;
use crate::storage::folder::{Access, Folder, Status};
use pieces::{Job, News};

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
    let open = |file: usize| folder.open_file(&layout.components(file), Access::Read);
    let job = Job { layout, sizes: &sizes, wanted, open: &open };
    let flow = pieces::hash(&job, progress, &mut |news| {
        found.note(layout, news);
        ControlFlow::Continue(())
    })?;
    // A file is named once, with the first thing that was wrong with it.
    found.troubles.sort_by_key(|(file, _)| *file);
    found.troubles.dedup_by_key(|(file, _)| *file);
    Ok(flow.is_continue().then_some(found))
}

impl Found {
    fn note(&mut self, layout: &Layout, news: News) {
        let hashes = &layout.torrent().piece_hashes;
        match news {
            News::Hash(piece, hash) | News::Hole(piece, hash)
                if hashes.check(piece, hash).is_some() =>
            {
                self.have.insert(piece);
            }
            News::Hash(piece, _) => _ = self.differ.insert(piece),
            // A hole that does not match never was data.
            News::Hole(..) | News::Absent(_) => {}
            News::Unreadable(piece, file, err) => {
                self.differ.insert(piece);
                self.troubles.push((file, Trouble::Unusable(format!("cannot be read: {err}"))));
            }
        }
    }
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
