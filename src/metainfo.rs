//! A torrent: what a `.torrent` file says (BEP 3).
//!
//! Layer: values.

use crate::geometry::Geometry;
use crate::hash::{PieceHashes, Sha1};
use crate::hostport::HostPort;

/// What a `.torrent` file says, checked and made safe.
#[derive(Debug, Clone)]
pub struct Metainfo {
    /// SHA-1 of the info dictionary's bytes as they were received, never re-encoded.
    pub info_hash: Sha1,
    /// The file's or folder's name, made safe: one path component.
    pub name: String,
    /// Sizes; the total includes pad files.
    pub geometry: Geometry,
    pub piece_hashes: PieceHashes,
    /// In the torrent's order, pad files and symlinks among them; never empty.
    pub files: Vec<File>,
    /// Whether the name is that of one file, and not of a folder.
    pub single: bool,
    /// Tiers of trackers (BEP 12), without doubles: http, https, udp, ws and wss only.
    pub trackers: Vec<Vec<String>>,
    /// Servers that have the data (BEP 19): http and https only.
    pub web_seeds: Vec<String>,
    /// Peers from the trackers only (BEP 27).
    pub private: bool,
    pub comment: Option<String>,
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
    /// DHT nodes to begin with (BEP 5).
    pub nodes: Vec<HostPort>,
    /// The info dictionary's bytes as received, for peers that ask for the metadata (BEP 9).
    pub info: Vec<u8>,
}

/// One file of a torrent, at its place in the torrent's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Components below the torrent's own folder, made safe. Empty for a single-file torrent: the
    /// root itself is the file.
    pub path: Vec<String>,
    /// Where the file begins in the torrent's bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
    /// Only fills a gap (BEP 47): its bytes are zero, it is neither written nor read from disk.
    pub pad: bool,
    pub executable: bool,
    /// The target of a symlink (BEP 47). Links are listed, but never created or followed.
    pub symlink: Option<Vec<String>>,
}

impl File {
    /// Whether the file is to be on disk.
    pub fn is_stored(&self) -> bool {
        !self.pad && self.symlink.is_none()
    }
}
