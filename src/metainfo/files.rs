//! The list of files in an info dictionary (BEP 3, BEP 47): where each lies, and its safe path.
//!
//! ```text
//! the torrent's bytes  |--- a ---|-- b --|pad|------ c ------|
//!                      0         offset of b
//! ```
//!
//! A *pad file* (attr `p`) fills the gap up to the next piece; its bytes are zero and it never exists
//! on disk. A *symlink* (attr `l`) takes no bytes; it is listed, but never created or followed,
//! because a link from a stranger decides where later writes go. The attributes `h` (hidden) and any
//! other are ignored.
//!
//! Layer: values.

use crate::bencode::{Dict, List};
use crate::hash::Sha1;

use super::{Error, path, unique, wrong};

/// What BitComet calls its pad files, which are older than BEP 47 and have no attribute.
const BITCOMET_PAD: &str = "_____padding_file_";

/// How many components all paths may have together. 100,000 files nine folders deep fit; a hostile
/// 8 MiB of one-letter folders would take half a gigabyte in memory.
const COMPONENTS_MAX: usize = 1_000_000;

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

/// The torrent's name and its files, with safe paths of which no two stored files have the same.
pub(super) fn read(info: Dict, info_hash: Sha1) -> Result<(String, Vec<File>), Error> {
    let raw_name = match info.str("name.utf-8").filter(|name| !name.is_empty()) {
        Some(name) => name.as_bytes(),
        None => info.bytes("name").ok_or(wrong("info has no name"))?,
    };
    let Some(list) = info.list("files") else {
        let length = info.int("length").ok_or(wrong("info has neither length nor files"))?;
        if is_blank(raw_name) {
            return Err(wrong("the name is empty"));
        }
        let executable = info.bytes("attr").is_some_and(|attr| attr.contains(&b'x'));
        let length = in_bytes(length, 1)?;
        let symlink = None;
        let file = File { path: Vec::new(), offset: 0, length, pad: false, executable, symlink };
        return Ok((path::component(raw_name), vec![file]));
    };
    // A folder can do without a name of its own: other clients use the hash too.
    let name = if is_blank(raw_name) { info_hash.to_string() } else { path::component(raw_name) };
    let mut files: Vec<File> = Vec::new();
    let mut offset: u64 = 0;
    let mut components = 0;
    for (i, value) in list.iter().enumerate() {
        let number = i + 1;
        let dict = value.dict().ok_or_else(|| wrong(format!("file {number} is no dictionary")))?;
        let file = read_file(dict, number, offset)?;
        components += file.path.len() + file.symlink.as_ref().map_or(0, Vec::len);
        if COMPONENTS_MAX < components {
            return Err(wrong(format!("more than {COMPONENTS_MAX} parts of paths, the limit")));
        }
        let end = offset.checked_add(file.length).filter(|&end| i64::try_from(end).is_ok());
        offset = end.ok_or_else(|| wrong("the files are longer than 2^63 bytes together"))?;
        files.push(file);
    }
    if files.is_empty() {
        return Err(wrong("the list of files is empty"));
    }
    unique::keep_apart(&mut files, unique::DISK_FOLDS_CASE)?;
    Ok((name, files))
}

/// Whether nothing of a name could be read: it is empty, or all of it is control characters.
fn is_blank(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_control)
}

fn read_file(dict: Dict, number: usize, offset: u64) -> Result<File, Error> {
    let attr = dict.bytes("attr").unwrap_or_default();
    let is_link = attr.contains(&b'l');
    // A link takes no bytes, whatever its length says (BEP 47).
    let length = match dict.int("length") {
        _ if is_link => 0,
        Some(length) => in_bytes(length, number)?,
        None => return Err(wrong(format!("file {number} has no length"))),
    };
    let mut pad = attr.contains(&b'p');
    let path = match dict.list("path.utf-8").and_then(utf8_path) {
        Some(path) => path,
        None => match dict.list("path") {
            Some(list) if !list.is_empty() => read_path(list, number)?,
            _ if pad => Vec::new(),
            _ => return Err(wrong(format!("file {number} has no path"))),
        },
    };
    pad |= path.last().is_some_and(|name| name.contains(BITCOMET_PAD));
    if !pad {
        path::check_len(&path)
            .map_err(|len| wrong(format!("file {number} has a path of {len}")))?;
    }
    // A link without a target is an empty file.
    let symlink = match dict.list("symlink path") {
        Some(target) if is_link => Some(read_path(target, number)?),
        _ => None,
    };
    let executable = attr.contains(&b'x');
    Ok(File { path, offset, length, pad, executable, symlink })
}

fn in_bytes(length: i64, number: usize) -> Result<u64, Error> {
    u64::try_from(length).map_err(|_| wrong(format!("file {number} has the length {length}")))
}

/// `path.utf-8`, if it keeps the promise of its name.
fn utf8_path(list: List) -> Option<Vec<String>> {
    let part = |value: crate::bencode::Value| Some(path::component(value.str()?.as_bytes()));
    let parts: Vec<String> = list.iter().map(part).collect::<Option<_>>()?;
    (!parts.is_empty()).then_some(parts)
}

fn read_path(list: List, number: usize) -> Result<Vec<String>, Error> {
    list.iter()
        .map(|value| value.bytes().map(path::component))
        .collect::<Option<_>>()
        .ok_or_else(|| wrong(format!("file {number} has a path that is not made of strings")))
}
