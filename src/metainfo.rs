//! A torrent: what a `.torrent` file says (BEP 3), checked and made safe.
//!
//! ```text
//! announce        the tracker                announce-list   tiers of trackers (BEP 12)
//! url-list        web seeds (BEP 19)         nodes           of the DHT (BEP 5)
//! comment, created by, creation date
//! info            name           of the file, or of the folder
//!                 piece length   in bytes
//!                 pieces         20 bytes of SHA-1 a piece
//!                 length         of the one file, or
//!                 files          a list of: length, path (a list of components), attr (BEP 47)
//!                 private        (BEP 27)
//! ```
//!
//! The info hash is the SHA-1 of the info dictionary's bytes as they came. A field of `info` that the
//! data depends on must be right, or the torrent is refused; any other field of a wrong type is
//! ignored, as other clients do. A hybrid torrent (BEP 52) is taken as what it is to version 1.
//!
//! Where BEP 3 has a string, `name.utf-8`, `path.utf-8` and `comment.utf-8` go first: programs that
//! wrote the plain field in a local encoding wrote these too. [`path`] says how names are made safe.
//!
//! Layer: values.

mod files;
pub mod path;
mod unique;
pub mod url;

use std::fmt;

use crate::bencode::{self, Dict, Dictionary, Value};
use crate::geometry::{Geometry, PIECE_LEN_MAX, PIECES_MAX};
use crate::hash::{PieceHashes, Sha1, sha1};
use crate::hostport::HostPort;
use crate::magnet::Magnet;

pub use files::File;

/// The longest `.torrent` file. The decoder's own limit says why; readers stop here.
pub const TORRENT_LEN_MAX: usize = bencode::INPUT_LEN_MAX;

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

impl Metainfo {
    /// Takes a whole `.torrent` file. Bytes after its dictionary are ignored: a newline is common.
    pub fn from_bytes(bytes: &[u8]) -> Result<Metainfo, Error> {
        let (document, _) = bencode::decode_prefix(bytes).map_err(Error::Bencode)?;
        let root = document.root().dict().ok_or(wrong("it is no dictionary"))?;
        let info = root.dict("info").ok_or(wrong("it has no info dictionary"))?;
        let mut metainfo = Metainfo::from_dict(info)?;
        metainfo.trackers = url::tiers(root);
        metainfo.web_seeds = url::web_seeds(root);
        metainfo.comment = text(root, "comment.utf-8").or_else(|| text(root, "comment"));
        metainfo.created_by = text(root, "created by");
        metainfo.creation_date = root.int("creation date").filter(|&seconds| 0 < seconds);
        metainfo.nodes = nodes(root);
        Ok(metainfo)
    }

    /// Takes an info dictionary alone, as peers send it for a magnet link (BEP 9). Whoever calls
    /// compares the hash, and adds the link's trackers and web seeds.
    pub fn from_info(info: &[u8]) -> Result<Metainfo, Error> {
        let document = bencode::decode(info).map_err(Error::Bencode)?;
        Metainfo::from_dict(document.root().dict().ok_or(wrong("info is no dictionary"))?)
    }

    /// What a magnet link says of a torrent: enough to look for its peers. All that follows from the
    /// metadata is made up; [`is_known`](Self::is_known) tells.
    pub fn from_magnet(magnet: &Magnet) -> Metainfo {
        let hash = magnet.info_hash.to_string();
        let geometry = Geometry::new(1, 1).expect("a byte is a torrent");
        Metainfo {
            info_hash: magnet.info_hash,
            piece_hashes: PieceHashes::from_bytes(&[0; 20]).expect("one hash"),
            trackers: magnet.trackers.iter().map(|url| vec![url.clone()]).collect(),
            web_seeds: magnet.web_seeds.clone(),
            ..Metainfo::bare(magnet.name.clone().unwrap_or(hash), geometry, Vec::new(), true)
        }
    }

    /// Only what is where: no hash of anything, nobody to ask, and no metadata.
    pub fn bare(name: String, geometry: Geometry, files: Vec<File>, single: bool) -> Metainfo {
        Metainfo {
            info_hash: Sha1([0; 20]),
            name,
            geometry,
            piece_hashes: PieceHashes::new(Vec::new()),
            files,
            single,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            private: false,
            comment: None,
            created_by: None,
            creation_date: None,
            nodes: Vec::new(),
            info: Vec::new(),
        }
    }

    /// Whether it holds the metadata, and not only what a magnet link says.
    pub fn is_known(&self) -> bool {
        !self.info.is_empty()
    }

    /// A `.torrent` file of it: the info dictionary as it was received, its trackers and web seeds.
    pub fn to_torrent(&self) -> Vec<u8> {
        let mut root = Dictionary::new().raw("info", self.info.clone());
        if let Some(first) = self.trackers.iter().flatten().next() {
            root = root.bytes("announce", first);
        }
        if self.trackers.iter().flatten().nth(1).is_some() {
            let tier = |tier: &Vec<String>| {
                bencode::list(tier.iter().map(|url| bencode::bytes(url.as_bytes())))
            };
            root = root.list("announce-list", self.trackers.iter().map(tier));
        }
        if !self.web_seeds.is_empty() {
            root = root
                .list("url-list", self.web_seeds.iter().map(|url| bencode::bytes(url.as_bytes())));
        }
        root.done()
    }

    fn from_dict(info: Dict) -> Result<Metainfo, Error> {
        let info_hash = sha1(info.raw());
        let is_v2 = info.dict("file tree").is_some() || info.int("meta version") == Some(2);
        if is_v2 && info.get("pieces").is_none() {
            return Err(Error::V2Only);
        }
        let piece_length = match info.int("piece length") {
            Some(length @ 1..) => length,
            Some(length) => return Err(wrong(format!("piece length is {length}"))),
            None => return Err(wrong("info has no piece length")),
        };
        let (name, files) = files::read(info, info_hash)?;
        let total_length = files.last().map_or(0, |file| file.offset + file.length);
        if total_length == 0 {
            // As in libtorrent: there is nothing to download, and nothing to know it by.
            return Err(wrong("its files have not one byte"));
        }
        let geometry = geometry(total_length, piece_length)?;
        let pieces = info.bytes("pieces").ok_or(wrong("info has no pieces"))?;
        let piece_hashes = match PieceHashes::from_bytes(pieces) {
            Some(hashes) if hashes.as_slice().len() == geometry.pieces() as usize => hashes,
            _ => {
                let (len, count) = (pieces.len(), geometry.pieces());
                return Err(wrong(format!("{len} bytes of hashes, {count} pieces need 20 each")));
            }
        };
        Ok(Metainfo {
            info_hash,
            name,
            geometry,
            piece_hashes,
            single: info.list("files").is_none(),
            files,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            private: info.int("private").is_some_and(|private| private != 0),
            comment: None,
            created_by: None,
            creation_date: None,
            nodes: Vec::new(),
            info: info.raw().to_vec(),
        })
    }

    /// How many bytes of files there are: the total without pad files.
    pub fn stored_length(&self) -> u64 {
        self.files.iter().filter(|file| file.is_stored()).map(|file| file.length).sum()
    }

    /// How many files are to be on disk.
    pub fn stored_files(&self) -> usize {
        self.files.iter().filter(|file| file.is_stored()).count()
    }

    /// The magnet link of this torrent (BEP 9).
    pub fn magnet(&self) -> String {
        let mut magnet = Magnet::new(self.info_hash);
        magnet.name = Some(self.name.clone());
        magnet.trackers = self.trackers.concat();
        magnet.web_seeds = self.web_seeds.clone();
        magnet.to_string()
    }
}

/// Why a torrent is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// It is no bencode.
    Bencode(bencode::Error),
    /// It has no version 1 part.
    V2Only,
    /// It is bencode, but no torrent.
    Torrent(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Bencode(err) => write!(f, "no torrent: {err}"),
            Error::V2Only => write!(
                f,
                "a BitTorrent v2 torrent (BEP 52) without a v1 part; only v1 and hybrid are supported"
            ),
            Error::Torrent(reason) => write!(f, "no valid torrent: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

/// A torrent that breaks a rule of BEP 3.
fn wrong(reason: impl Into<String>) -> Error {
    Error::Torrent(reason.into())
}

fn geometry(total_length: u64, piece_length: i64) -> Result<Geometry, Error> {
    let in_range = u32::try_from(piece_length).ok().filter(|&length| length <= PIECE_LEN_MAX);
    let piece_length = in_range.ok_or_else(|| {
        wrong(format!("piece length is {piece_length}, the limit is {PIECE_LEN_MAX}"))
    })?;
    Geometry::new(total_length, piece_length).ok_or_else(|| {
        let pieces = total_length.div_ceil(u64::from(piece_length));
        wrong(format!("{pieces} pieces, the limit is {PIECES_MAX}"))
    })
}

/// A string for people; what is not UTF-8 in it becomes U+FFFD. An empty one is none.
fn text(dict: Dict, key: &str) -> Option<String> {
    let bytes = dict.bytes(key).filter(|bytes| !bytes.is_empty())?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// `nodes` (BEP 5) is a list of pairs, host and port.
fn nodes(root: Dict) -> Vec<HostPort> {
    let pair = |node: Value| {
        let mut pair = node.list()?.iter();
        HostPort::new(pair.next()?.str()?, pair.next()?.int()?)
    };
    root.list("nodes").map_or(Vec::new(), |list| list.iter().filter_map(pair).collect())
}
