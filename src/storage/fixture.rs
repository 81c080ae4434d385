//! For tests: a folder of its own, a torrent with known bytes.
//!
//! Layer: tests only.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Layout;
use crate::geometry::Geometry;
use crate::hash::{PieceHashes, Sha1, sha1};
use crate::metainfo::{File, Metainfo};

/// A folder that is gone when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn temporary() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("piecemeal-unit-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The torrent's bytes: no two pieces alike, zeros in pad files.
pub fn content(torrent: &Metainfo) -> Vec<u8> {
    let mut bytes = Vec::new();
    for file in &torrent.files {
        let at = |i: u64| if file.pad { 0 } else { (i * 7 + (i >> 9) * 13 + 1) as u8 };
        bytes.extend((file.offset..file.offset + file.length).map(at));
    }
    bytes
}

/// A torrent `t` of files with paths and lengths; a path that begins with `.pad` is a pad file, and
/// a single empty path is a torrent of one file.
pub fn torrent(files: &[(&str, u64)], piece_length: u32) -> Arc<Metainfo> {
    let mut offset = 0;
    let file = |&(path, length): &(&str, u64)| {
        offset += length;
        File {
            path: path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            offset: offset - length,
            length,
            pad: path.starts_with(".pad"),
            executable: false,
            symlink: None,
        }
    };
    let listed: Vec<File> = files.iter().map(file).collect();
    let single = listed[0].path.is_empty();
    let geometry = Geometry::new(offset, piece_length).unwrap();
    let mut torrent = Metainfo::bare("t".into(), geometry, listed, single);
    torrent.info_hash = Sha1([7; 20]);
    let content = content(&torrent);
    torrent.piece_hashes =
        PieceHashes::new(content.chunks(piece_length as usize).map(sha1).collect());
    Arc::new(torrent)
}

/// Writes what a torrent consists of to its place, as another program would.
pub fn plant(layout: &Layout) {
    let content = content(layout.torrent());
    for (index, file) in layout.files().iter().enumerate().filter(|(_, file)| file.is_stored()) {
        let path = layout.path(index);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let range = file.offset as usize..(file.offset + file.length) as usize;
        std::fs::write(path, &content[range]).unwrap();
    }
}
