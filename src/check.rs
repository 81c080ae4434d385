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
use crate::order;
use crate::resume;
use crate::storage::folder::{Access, Folder, Status, is_shortage};
use crate::storage::{Aside, Layout};
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
    /// Of the pieces that matched, those whose bytes are kept aside.
    pub aside: Bitfield,
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
    /// Whether every wanted file is there and has its size, the empty ones too.
    pub sound: bool,
    /// The verified pieces that are not in the files.
    pub aside: Aside,
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
    let aside = Aside::load(layout)?;
    let Some(found) = run_with(layout, &aside, &wanted, progress)? else { return Ok(None) };
    // What a resume file vouches for is where it was; of the rest the check has found out.
    let aside = aside.only(|piece| have.contains(piece) || found.aside.contains(piece));
    found.have.iter().for_each(|piece| {
        have.insert(piece);
    });
    let sound = !found.troubles.iter().any(|(file, _)| layout.is_chosen(*file));
    // What is not wanted may be as it likes.
    let differ = layout.wanted().common(&found.differ).count() as u32;
    Ok(Some(Existing { have, differ, sound, aside, resumed }))
}

/// Checks the `wanted` pieces in the files. `None` if `progress` stopped it. What cannot be looked at
/// since we lack descriptors or memory is an error, and neither missing nor wrong.
pub fn run(layout: &Layout, wanted: &Bitfield, progress: Progress) -> Result<Option<Found>> {
    run_with(layout, &Aside::default(), wanted, progress)
}

/// As [`run`], but pieces that are kept aside are looked for there first.
pub fn run_with(
    layout: &Layout,
    aside: &Aside,
    wanted: &Bitfield,
    progress: Progress,
) -> Result<Option<Found>> {
    let none = Bitfield::new(layout.geometry().pieces());
    let (have, differ) = (none.clone(), none.clone());
    let mut found = Found { have, differ, troubles: Vec::new(), aside: none };
    let folder = match Folder::open(layout.folder()) {
        Ok(folder) => Some(folder),
        // Nothing is there yet; pieces of nothing but padding are complete all the same.
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        Err(err) => {
            return Err(err).with_context(|| format!("cannot open {}", layout.folder().display()));
        }
    };
    let sizes = survey(layout, folder.as_ref(), &mut found.troubles)?;
    let open = |file: usize| match &folder {
        Some(folder) => folder.open_file(&layout.components(file), Access::Read),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    let job = Job { layout, aside, sizes: &sizes, wanted, open: &open };
    let mut shortage = None;
    let flow = pieces::hash(&job, progress, &mut |news| match news {
        News::Unreadable(_, file, err) if is_shortage(&err) => {
            shortage = Some((file, err));
            ControlFlow::Break(())
        }
        news => {
            found.note(layout, news);
            ControlFlow::Continue(())
        }
    })?;
    if let Some((file, err)) = shortage {
        return Err(err).with_context(|| cannot_read(layout, file));
    }
    // A file is named once, with the first thing that was wrong with it.
    order::sort_by_key(&mut found.troubles, |(file, _)| *file);
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
            News::Aside(piece) => {
                self.have.insert(piece);
                self.aside.insert(piece);
            }
            News::Hash(piece, _) => _ = self.differ.insert(piece),
            // Zeros that do not match never were data.
            News::Hole(..) | News::Absent(_) => {}
            News::Unreadable(piece, file, err) => {
                self.differ.insert(piece);
                self.troubles.push((file, Trouble::Unusable(format!("cannot be read: {err}"))));
            }
        }
    }
}

fn cannot_read(layout: &Layout, file: usize) -> String {
    format!("cannot read {}", layout.path(file).display())
}

fn stored(layout: &Layout) -> impl Iterator<Item = usize> + '_ {
    let files = layout.files().iter().enumerate();
    files.filter(|(_, file)| file.is_stored()).map(|(index, _)| index)
}

/// Looks at every file: how long it is, 0 if it cannot be read.
fn survey(
    layout: &Layout,
    folder: Option<&Folder>,
    troubles: &mut Vec<(usize, Trouble)>,
) -> Result<Vec<u64>> {
    let mut sizes = vec![0; layout.files().len()];
    for file in stored(layout) {
        let expected = layout.files()[file].length;
        let status = match folder {
            Some(folder) => folder.status(&layout.components(file)),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let trouble = match status {
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
            Err(err) if is_shortage(&err) => {
                return Err(err).with_context(|| cannot_read(layout, file));
            }
            Err(err) => Some(Trouble::Unusable(err.to_string())),
        };
        troubles.extend(trouble.map(|trouble| (file, trouble)));
    }
    Ok(sizes)
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;
    use crate::geometry::PieceIndex;
    use crate::storage::fixture::{Folder, plant, torrent};

    const FILES: &[(&str, u64)] =
        &[("a", 50_000), ("empty", 0), (".pad", 15_536), ("d/b", 100_000), (".pad2", 40_000)];

    /// Plants the data, spoils it, and checks: which pieces differ, which are absent, which files
    /// are in trouble, and how many bytes were reported as done.
    #[track_caller]
    fn check(spoil: fn(&Folder), differ: &[PieceIndex], absent: &[PieceIndex], troubles: &[&str]) {
        let folder = Folder::temporary();
        let layout = Layout::below(torrent(FILES, 16_384), folder.path());
        plant(&layout);
        spoil(&folder);
        let (pieces, mut last) = (layout.geometry().pieces(), (0, 0));
        let found = run(&layout, &Bitfield::full(pieces), &mut |done, total| {
            assert!(last.0 <= done && done <= total);
            last = (done, total);
            ControlFlow::Continue(())
        });
        let found = found.unwrap().unwrap();
        assert_eq!(found.differ.iter().collect::<Vec<_>>(), differ);
        let neither =
            |&piece: &PieceIndex| !found.have.contains(piece) && !found.differ.contains(piece);
        assert_eq!((0..pieces).filter(neither).collect::<Vec<_>>(), absent);
        let said: Vec<String> = found
            .troubles
            .iter()
            .map(|(file, trouble)| format!("{}: {trouble}", layout.files()[*file].path.join("/")))
            .collect();
        assert_eq!(said, troubles);
        assert_eq!(last, (205_536, 205_536));
    }

    #[test]
    fn what_is_there_is_told_from_what_is_not() {
        check(|_| (), &[], &[], &[]);
        check(
            |folder| {
                let mut bytes = fs::read(folder.join("t/d/b")).unwrap();
                bytes[99_999] ^= 1;
                fs::write(folder.join("t/d/b"), bytes).unwrap();
            },
            &[10],
            &[],
            &[],
        );
        check(
            |folder| fs::remove_file(folder.join("t/a")).unwrap(),
            &[],
            &[0, 1, 2, 3],
            &["a: missing"],
        );
        check(
            |folder| fs::remove_dir_all(folder.join("t/d")).unwrap(),
            &[],
            &[4, 5, 6, 7, 8, 9, 10],
            &["d/b: missing"],
        );
        check(
            |folder| fs::remove_file(folder.join("t/empty")).unwrap(),
            &[],
            &[],
            &["empty: missing"],
        );
        let (short, long) = ("49999 bytes long, too short", "100001 bytes long, too long");
        check(
            |folder| {
                let open = |name: &str| fs::OpenOptions::new().write(true).open(folder.join(name));
                open("t/a").unwrap().set_len(49_999).unwrap();
                open("t/d/b").unwrap().set_len(100_001).unwrap();
            },
            &[],
            &[3],
            &[&format!("a: {short}: 50000 expected"), &format!("d/b: {long}: 100000 expected")],
        );
        check(
            |folder| {
                fs::remove_file(folder.join("t/a")).unwrap();
                std::os::unix::fs::symlink("/dev/zero", folder.join("t/a")).unwrap();
            },
            &[],
            &[0, 1, 2, 3],
            &["a: is a symbolic link; links are not followed"],
        );
    }

    #[test]
    fn room_that_was_only_reserved_is_not_wrong_data() {
        check(
            |folder| {
                let file = fs::File::create(folder.join("t/d/b")).unwrap();
                file.set_len(100_000).unwrap();
            },
            &[],
            &[4, 5, 6, 7, 8, 9, 10],
            &[],
        );
    }

    #[test]
    fn a_folder_that_is_not_there_holds_nothing_and_a_check_can_be_stopped() {
        let folder = Folder::temporary();
        let layout = Layout::below(torrent(FILES, 16_384), folder.join("nowhere"));
        let all = Bitfield::full(layout.geometry().pieces());
        let found = run(&layout, &all, &mut |_, _| ControlFlow::Continue(())).unwrap().unwrap();
        // Pieces 11 and 12 are padding only.
        assert_eq!((found.have.count(), found.troubles.len()), (2, 3));
        let layout = Layout::below(torrent(FILES, 16_384), folder.path());
        assert!(run(&layout, &all, &mut |_, _| ControlFlow::Break(())).unwrap().is_none());
    }
}
