//! The resume file: what an earlier run has verified, so that the next need not hash it all again.
//!
//! ```text
//! .HASH.piecemeal   next to the torrent's file or folder; HASH is the info hash, 40 digits
//!
//! d 8:bitfield  N:...                         as in BEP 3, one bit a piece
//!   5:files     l i size e i time e ... e     of each stored file, in order; nanoseconds
//!                                             since 1970; -1 and 0: not there
//!   5:aside l i size e i time e e           of the file with what is kept aside, if there is one
//!   9:info hash 20:...
//!   7:version   i1e
//! e
//! ```
//!
//! It is left behind by a run that ended in order, and emptied by the next that writes
//! ([`storage::open`](crate::storage::open)): a run that was killed leaves nothing to trust. Where a
//! file's size or time differs from what was noted, or its size cannot hold what is said to be in it,
//! its pieces are in doubt and are hashed again; the others are kept. It is written to a temporary file, flushed and renamed, so it is there
//! wholly or not at all.
//!
//! Layer: hands. Nobody owns it between runs; while one writes, `storage::Writing` holds it locked.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};

use anyhow::{Context, Result};

use crate::bencode::{self, Dictionary};
use crate::bitfield::Bitfield;
use crate::storage::folder::{Access, Folder, Kind};
use crate::storage::{Aside, Layout};

const VERSION: i64 = 1;

/// More than the largest one we write: a bit for each of 2 Mi pieces, two numbers (at most 42 bytes)
/// for each of a million files.
const LEN_MAX: u64 = 48 << 20;

/// Size and time of a file that is not there.
const MISSING: [i64; 2] = [-1, 0];

/// What a resume file vouches for.
#[derive(Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Pieces that were verified, and whose files have not changed since.
    pub have: Bitfield,
    /// Pieces with a byte in a file that has changed since: nobody knows.
    pub doubt: Bitfield,
}

/// Reads the resume file. `None` if there is none, or it is damaged, of another version or of another
/// torrent: then everything is checked, which is always right.
pub fn load(layout: &Layout) -> Option<Resumed> {
    let folder = Folder::open(layout.folder()).ok()?;
    let bytes = read(&folder, &layout.resume_name())?;
    let document = bencode::decode(&bytes).ok()?;
    let dict = document.root().dict()?;
    let pieces = layout.geometry().pieces();
    if dict.int("version") != Some(VERSION)
        || dict.bytes("info hash") != Some(&layout.torrent().info_hash.0)
    {
        return None;
    }
    let mut have = Bitfield::from_wire(dict.bytes("bitfield")?, pieces)?;
    let noted: Vec<i64> =
        dict.list("files")?.iter().map(bencode::Value::int).collect::<Option<_>>()?;
    let now = stamps(layout, &folder);
    if noted.len() != now.len() * 2 {
        return None;
    }
    let mut doubt = Bitfield::new(pieces);
    let aside = Aside::load(layout).ok()?;
    let then: Option<Vec<i64>> =
        dict.list("aside").and_then(|list| list.iter().map(bencode::Value::int).collect());
    let kept = then.is_some_and(|then| then == stamp(&folder, &[layout.aside_name().as_ref()]));
    for ((file, now), then) in now.iter().zip(noted.as_chunks::<2>().0) {
        // What is kept aside is not in this file, whatever has become of it.
        let here = |piece| !(kept && aside.contains(piece));
        // A file that was not there then, or too short for what is verified in it, and is so now, has
        // not changed, but nobody has it: it was removed or cut while the run that wrote this went on.
        let lengths = layout.lengths(*file, |piece| have.contains(piece) && here(piece));
        if now == then && u64::try_from(now[0]).is_ok_and(|size| lengths.contains(&size)) {
            continue;
        }
        for piece in layout.pieces_of(*file).filter(|&piece| here(piece)) {
            doubt.insert(piece);
            have.remove(piece);
        }
    }
    for piece in aside.pieces().filter(|_| !kept) {
        doubt.insert(piece);
        have.remove(piece);
    }
    Some(Resumed { have, doubt })
}

/// Notes what is verified. Call it after [`Writing::flush`](crate::storage::Writing::flush), when
/// nobody writes any more.
pub fn save(layout: &Layout, have: &Bitfield) -> Result<()> {
    let path = layout.folder().join(layout.resume_name());
    write(layout, have).with_context(|| format!("cannot write the resume file {}", path.display()))
}

fn write(layout: &Layout, have: &Bitfield) -> io::Result<()> {
    let folder = Folder::open(layout.folder())?;
    let files = stamps(layout, &folder).into_iter().flat_map(|(_, stamp)| stamp.map(bencode::int));
    let aside = stamp(&folder, &[layout.aside_name().as_ref()]);
    let aside = (aside != MISSING).then_some(aside.map(bencode::int));
    let bytes = Dictionary::new()
        .list("aside", aside.into_iter().flatten())
        .bytes("bitfield", have.as_bytes())
        .list("files", files)
        .bytes("info hash", layout.torrent().info_hash.0)
        .int("version", VERSION)
        .done();
    let path = layout.folder().join(layout.resume_name());
    let temporary = layout.folder().join(layout.resume_name() + ".tmp");
    // A run that was killed while writing it may have left one. `create_new` follows no link.
    let _ = fs::remove_file(&temporary);
    let written =
        OpenOptions::new().write(true).create_new(true).open(&temporary).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
    let done = written.and_then(|()| fs::rename(&temporary, &path));
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// Removes the resume file, once all is there. That it is not there is fine.
pub fn remove(layout: &Layout) -> Result<()> {
    let path = layout.folder().join(layout.resume_name());
    match fs::remove_file(&path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn read(folder: &Folder, name: &str) -> Option<Vec<u8>> {
    let file = folder.open_file(&[name.as_ref()], Access::Read).ok()?;
    let mut bytes = Vec::new();
    file.take(LEN_MAX + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= LEN_MAX).then_some(bytes)
}

/// Size and time of each stored file, with its index; [`MISSING`] for what is no file.
fn stamps(layout: &Layout, folder: &Folder) -> Vec<(usize, [i64; 2])> {
    let stored = layout.files().iter().enumerate().filter(|(_, file)| file.is_stored());
    stored.map(|(index, _)| (index, stamp(folder, &layout.components(index)))).collect()
}

fn stamp(folder: &Folder, components: &[&OsStr]) -> [i64; 2] {
    match folder.status(components) {
        Ok(status) if status.kind == Kind::File => {
            let time = i64::try_from(status.modified).unwrap_or(0);
            [i64::try_from(status.size).unwrap_or(i64::MAX), time]
        }
        _ => MISSING,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::ops::ControlFlow;
    use std::process::Command;

    use super::*;
    use crate::check;
    use crate::storage::fixture::{Folder, content, plant, torrent};
    use crate::storage::{Layout, open};

    const FILES: &[(&str, u64)] = &[("a", 50_000), ("empty", 0), (".pad", 15_536), ("b", 100_000)];

    /// A torrent of which pieces 0 and 5 were downloaded, and noted in a resume file.
    fn downloaded() -> (Folder, Layout, Bitfield) {
        let folder = Folder::temporary();
        let layout = Layout::below(torrent(FILES, 16_384), folder.path());
        let geometry = layout.geometry();
        let mut have = Bitfield::new(geometry.pieces());
        let (mut writing, _) = open(&layout, &have).unwrap();
        for piece in [0, 5] {
            let span = geometry.whole(piece);
            let range = geometry.bytes(span);
            let content = content(layout.torrent());
            writing.write(span, &content[range.start as usize..range.end as usize]).unwrap();
            have.insert(piece);
        }
        // Killed here, it leaves an empty file, which vouches for nothing.
        assert_eq!(load(&layout), None);
        writing.flush().unwrap();
        save(&layout, &have).unwrap();
        (folder, layout, have)
    }

    fn start(layout: &Layout, force: bool) -> (check::Existing, u64) {
        let mut hashed = 0;
        let mut progress = |done, _| {
            hashed = done;
            ControlFlow::Continue(())
        };
        let existing = check::start(layout, force, &mut progress).unwrap().unwrap();
        (existing, hashed)
    }

    #[test]
    fn what_was_noted_is_trusted_without_reading() {
        let (_folder, layout, have) = downloaded();
        let (existing, hashed) = start(&layout, false);
        assert_eq!((existing.have, existing.resumed, hashed), (have.clone(), true, 0));
        let (forced, hashed) = start(&layout, true);
        assert_eq!((forced.have, forced.resumed), (have, false));
        assert_eq!(hashed, layout.geometry().total_length());
    }

    #[test]
    fn a_byte_changed_by_another_program_is_noticed() {
        let (folder, layout, mut have) = downloaded();
        let changed = Command::new("dd")
            .args(["if=/dev/zero", "bs=1", "count=1", "seek=16400", "conv=notrunc"])
            .arg(format!("of={}", folder.join("t/b").display()))
            .output()
            .unwrap();
        assert!(changed.status.success());
        let resumed = load(&layout).unwrap();
        // All of b is in doubt, nothing of a.
        assert_eq!(resumed.have.iter().collect::<Vec<_>>(), [0]);
        assert_eq!(resumed.doubt.iter().collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9, 10]);
        let (existing, hashed) = start(&layout, false);
        have.remove(5);
        assert_eq!((existing.have, existing.differ, hashed), (have, 1, 100_000));
    }

    #[test]
    fn whoever_writes_takes_the_word_away() {
        let (_folder, layout, have) = downloaded();
        let ends = open(&layout, &have).unwrap();
        assert_eq!(load(&layout), None);
        drop(ends);
        assert_eq!(start(&layout, false).0.have, have);
    }

    #[test]
    fn files_that_are_gone_or_new_are_in_doubt() {
        let (folder, layout, _) = downloaded();
        fs::remove_file(folder.join("t/a")).unwrap();
        let (existing, _) = start(&layout, false);
        assert_eq!(existing.have.iter().collect::<Vec<_>>(), [5]);
        plant(&layout);
        assert!(start(&layout, false).0.have.is_full());
    }

    #[test]
    fn a_file_that_was_removed_during_the_run_is_not_vouched_for() {
        let (folder, layout, have) = downloaded();
        fs::remove_file(folder.join("t/a")).unwrap();
        save(&layout, &have).unwrap();
        assert_eq!(load(&layout).unwrap().have.iter().collect::<Vec<_>>(), [5]);
        let (existing, _) = start(&layout, false);
        assert_eq!(existing.have.iter().collect::<Vec<_>>(), [5]);
    }

    /// The note says what was there when the run ended, and the run did not look.
    #[test]
    fn a_file_that_was_too_short_for_what_is_verified_is_in_doubt() {
        // Piece 5 ends with byte 32,768 of b, piece 0 lies in a.
        for (len, doubtful) in [(32_768, 0), (32_767, 7), (0, 7), (100_001, 7), (100_000, 0)] {
            let (folder, layout, have) = downloaded();
            let path = folder.join("t/b");
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
            save(&layout, &have).unwrap();
            let resumed = load(&layout).unwrap();
            assert_eq!(resumed.doubt.count(), doubtful, "{len}");
            assert_eq!(resumed.have.contains(5), doubtful == 0, "{len}");
            assert!(resumed.have.contains(0), "{len}");
        }
    }

    #[test]
    fn what_is_no_resume_file_of_this_torrent_is_ignored() {
        let (folder, layout, _) = downloaded();
        let path = folder.join(&layout.resume_name());
        let good = fs::read(&path).unwrap();
        let cut = good[..good.len() - 1].to_vec();
        let other_version = good.replace_in(b"7:versioni1e", b"7:versioni2e");
        let other_torrent = good.replace_in(&[7; 20], &[8; 20]);
        let spare_bit = good.replace_in(b"8:bitfield2:\x84\x00", b"8:bitfield2:\x84\x01");
        let fewer_files = good.replace_in(b"i50000e", b"");
        let text = good.replace_in(b"i50000e", b"1:x");
        for bad in [cut, other_version, other_torrent, spare_bit, fewer_files, text, Vec::new()] {
            fs::write(&path, &bad).unwrap();
            assert_eq!(load(&layout), None, "{}", bad.escape_ascii());
        }
        fs::File::create(&path).unwrap().set_len(LEN_MAX + 1).unwrap();
        assert_eq!(load(&layout), None);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(load(&layout), None);
        remove(&layout).unwrap();
        remove(&layout).unwrap();
        assert_eq!(load(&layout), None);
    }

    trait Replace {
        fn replace_in(&self, from: &[u8], to: &[u8]) -> Vec<u8>;
    }

    impl Replace for Vec<u8> {
        fn replace_in(&self, from: &[u8], to: &[u8]) -> Vec<u8> {
            let at = self.windows(from.len()).position(|part| part == from).expect("it is there");
            [&self[..at], to, &self[at + from.len()..]].concat()
        }
    }
}
