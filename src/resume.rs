//! The resume file: what an earlier run has verified, so that the next need not hash it all again.
//!
//! ```text
//! .HASH.piecemeal   next to the torrent's file or folder; HASH is the info hash, 40 digits
//!
//! d 8:bitfield  N:...                         as in BEP 3, one bit a piece
//!   5:files     l i size e i time e ... e     of each stored file, in order; nanoseconds
//!                                             since 1970; -1 and 0: not there
//!   9:info hash 20:...
//!   7:version   i1e
//! e
//! ```
//!
//! It is left behind by a run that ended in order, and emptied by the next that writes
//! ([`storage::open`](crate::storage::open)): a run that was killed leaves nothing to trust. Where a
//! file's size or time differs from what was noted, its pieces are in doubt and are hashed again;
//! the others are kept. It is written to a temporary file, flushed and renamed, so it is there
//! wholly or not at all.
//!
//! Layer: hands. Nobody owns it between runs; while one writes, `storage::Writing` holds it locked.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};

use anyhow::{Context, Result};

use crate::bencode::{self, Dictionary};
use crate::bitfield::Bitfield;
use crate::storage::Layout;
use crate::storage::folder::{Access, Folder, Kind};

const VERSION: i64 = 1;

/// More than the largest one we write: a bit for each of 2 Mi pieces, two numbers (at most 42 bytes)
/// for each of a million files.
const LEN_MAX: u64 = 48 << 20;

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
    for ((file, now), then) in now.iter().zip(noted.as_chunks::<2>().0) {
        if now == then {
            continue;
        }
        for piece in layout.pieces_of(*file) {
            doubt.insert(piece);
            have.remove(piece);
        }
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
    let bytes = Dictionary::new()
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

/// Size and time of each stored file, with its index; (-1, 0) for what is no file.
fn stamps(layout: &Layout, folder: &Folder) -> Vec<(usize, [i64; 2])> {
    let stored = layout.files().iter().enumerate().filter(|(_, file)| file.is_stored());
    stored
        .map(|(index, _)| match folder.status(&layout.components(index)) {
            Ok(status) if status.kind == Kind::File => {
                let time = i64::try_from(status.modified).unwrap_or(0);
                (index, [i64::try_from(status.size).unwrap_or(i64::MAX), time])
            }
            _ => (index, [-1, 0]),
        })
        .collect()
}
