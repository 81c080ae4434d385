//! Making a torrent: which files, how they are cut up, their hashes, the bytes of the `.torrent`.
//!
//! ```text
//! PATH ──► files: sorted ──► piece length ──► hashes, all cores ──► info ──► the torrent's bytes
//! ```
//!
//! Rules, chosen so that the info hash is mktorrent's for the same folder and piece length:
//! * Files are in the order of their whole paths as bytes (`a-`, `a.txt`, `a/z`: `/` is a byte too).
//! * Hidden files and files without a byte are in it. Folders without a file are not: BEP 3 has no
//!   way to name them.
//! * Links are read through, to files as well as to folders, and are no links any more where the
//!   torrent is downloaded. One that leads nowhere, or back to a folder above it, is an error. So are
//!   pipes, sockets and devices, and names that are not UTF-8.
//! * A file that changes while it is read is an error: its hashes would fit no version of it.
//! * `private` and `source` are in the info dictionary only if asked for.
//!
//! Layer: hands. Nothing is written here.

mod files;

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::bencode::{self, Dictionary};
use crate::bitfield::Bitfield;
use crate::check::Progress;
use crate::check::pieces::{self, Job, News};
use crate::geometry::{Geometry, PIECE_LEN_MAX, PIECES_MAX};
use crate::hash::Sha1;
use crate::metainfo::{self, Metainfo};
use crate::storage::{Aside, Layout};
use files::Source;

/// How many pieces a torrent of a usual size is to have at most: with 1,001 to 2,000 of them the
/// hashes are 40 KB, and a peer has something to upload after a thousandth of the whole.
const PIECES_WANTED: u64 = 2_000;

/// The piece lengths that are chosen between, in bytes. Below, a piece is less than a block; above,
/// old clients give up.
const PIECE_LEN_CHOICE: std::ops::RangeInclusive<u32> = 16 * 1024..=16 * 1024 * 1024;

/// What a torrent says beside its files.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Instead of the file's or folder's own name.
    pub name: Option<String>,
    /// Instead of one chosen by size, in bytes.
    pub piece_length: Option<u32>,
    /// Each file begins with a piece: pad files fill the gaps (BEP 47).
    pub pad: bool,
    pub trackers: Vec<Vec<String>>,
    pub web_seeds: Vec<String>,
    pub private: bool,
    pub comment: Option<String>,
    pub source: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
}

/// A torrent that was made.
#[derive(Debug)]
pub struct Created {
    /// The bytes of the `.torrent`.
    pub bytes: Vec<u8>,
    /// The same, as whoever loads it will see it.
    pub torrent: Metainfo,
    /// Paths that will look different where the torrent is downloaded: as here, as there.
    pub renamed: Vec<(String, String)>,
    /// How many files are reached through links, which nobody who checks or uploads will follow.
    pub linked: usize,
}

/// Files that were found, ready to be hashed.
#[derive(Debug)]
pub struct Plan {
    /// The file or folder.
    path: PathBuf,
    name: String,
    single: bool,
    sources: Vec<Source>,
    geometry: Geometry,
    wishes: Wishes,
}

impl Plan {
    /// Looks at what is to be in the torrent, without reading it.
    pub fn new(path: &Path, wishes: Wishes) -> Result<Plan> {
        let single = !fs::metadata(path).with_context(|| path.display().to_string())?.is_dir();
        let name = match &wishes.name {
            Some(name) => name.clone(),
            None => files::own_name(path)?,
        };
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
            bail!(
                "{name:?} cannot be a torrent's name: it is to be the name of one file or folder"
            );
        }
        let mut sources = files::find(path)?;
        let mut total = total_length(&sources)?;
        if total == 0 {
            bail!("{}: there is not one byte to put into a torrent", path.display());
        }
        let piece_length = wishes.piece_length.unwrap_or_else(|| choose_piece_length(total));
        if wishes.pad && piece_length != 0 {
            sources = files::padded(sources, piece_length);
            total = total_length(&sources)?;
        }
        let geometry = Geometry::new(total, piece_length).with_context(|| {
            format!(
                "a piece length of {piece_length} for {total} bytes: it must be 1 to \
                 {PIECE_LEN_MAX}, with at most {PIECES_MAX} pieces"
            )
        })?;
        Ok(Plan { path: path.to_owned(), name, single, sources, geometry, wishes })
    }

    /// Whether a path is that of a file of the torrent, or lies in the torrent's folder. What is
    /// written there would take the place of data, or be data itself the next time.
    pub fn holds(&self, target: &Path) -> Result<bool> {
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !self.single && fs::canonicalize(folder)?.starts_with(fs::canonicalize(&self.path)?) {
            return Ok(true);
        }
        let Ok(there) = files::identity(target) else { return Ok(false) };
        let mut files = self.sources.iter().filter(|source| !source.pad);
        Ok(files.any(|source| files::identity(&source.path).is_ok_and(|id| id == there)))
    }

    /// The torrent's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads and hashes everything. `None` if `progress` stopped it.
    pub fn hash(self, progress: Progress) -> Result<Option<Created>> {
        let Some(hashes) = self.piece_hashes(progress)? else { return Ok(None) };
        self.sources.iter().try_for_each(Source::check_unchanged)?;
        let bytes = self.encode(&hashes);
        // Whoever loads it sees it as this does; what would be refused there is refused here.
        let torrent = Metainfo::from_bytes(&bytes).context("this would not be a good torrent")?;
        let renamed = self.renamed(&torrent);
        let linked = self.sources.iter().filter(|source| source.linked).count();
        Ok(Some(Created { bytes, torrent, renamed, linked }))
    }

    fn piece_hashes(&self, progress: Progress) -> Result<Option<Vec<Sha1>>> {
        let layout = self.layout();
        let wanted = Bitfield::full(self.geometry.pieces());
        let sizes: Vec<u64> = self.sources.iter().map(|source| source.length).collect();
        let open = |file: usize| -> io::Result<File> { File::open(&self.sources[file].path) };
        let aside = Aside::default();
        let job =
            Job { layout: &layout, aside: &aside, sizes: &sizes, wanted: &wanted, open: &open };
        let mut hashes = vec![Sha1([0; 20]); self.geometry.pieces() as usize];
        let mut failed = None;
        let flow = pieces::hash(&job, progress, &mut |news| match news {
            News::Hash(piece, hash) | News::Hole(piece, hash) => {
                hashes[piece as usize] = hash;
                ControlFlow::Continue(())
            }
            News::Absent(_) | News::Aside(_) => {
                unreachable!("every file is as long as it was found to be")
            }
            News::Unreadable(_, file, err) => {
                failed = Some((file, err));
                ControlFlow::Break(())
            }
        })?;
        match failed {
            Some((file, err)) if err.kind() == io::ErrorKind::UnexpectedEof => {
                bail!("{}: became shorter while it was read", self.sources[file].path.display())
            }
            Some((file, err)) => {
                Err(err).with_context(|| self.sources[file].path.display().to_string())
            }
            None => Ok(flow.is_continue().then_some(hashes)),
        }
    }

    /// Where the files lie in the torrent's bytes. (Their paths here are of no interest to it.)
    fn layout(&self) -> Layout {
        let mut offset = 0;
        let file = |source: &Source| {
            offset += source.length;
            metainfo::File {
                path: source.components.clone(),
                offset: offset - source.length,
                length: source.length,
                pad: source.pad,
                executable: false,
                symlink: None,
            }
        };
        let files = self.sources.iter().map(file).collect();
        let torrent = Metainfo::bare(self.name.clone(), self.geometry, files, self.single);
        Layout::below(Arc::new(torrent), PathBuf::new())
    }

    fn encode(&self, hashes: &[Sha1]) -> Vec<u8> {
        let wishes = &self.wishes;
        let mut root = Dictionary::new()
            .bytes("created by", concat!("piecemeal/", env!("CARGO_PKG_VERSION")))
            .dict("info", self.info(hashes));
        if let Some(first) = wishes.trackers.iter().flatten().next() {
            root = root.bytes("announce", first);
        }
        if 1 < wishes.trackers.iter().flatten().count() {
            let tier = |tier: &Vec<String>| bencode::list(tier.iter().map(text));
            root = root.list("announce-list", wishes.trackers.iter().map(tier));
        }
        if !wishes.web_seeds.is_empty() {
            root = root.list("url-list", wishes.web_seeds.iter().map(text));
        }
        if let Some(comment) = &wishes.comment {
            root = root.bytes("comment", comment);
        }
        if let Some(seconds) = wishes.creation_date {
            root = root.int("creation date", seconds);
        }
        root.done()
    }

    fn info(&self, hashes: &[Sha1]) -> Dictionary {
        let length = |source: &Source| source.length as i64; // Fits: a file's length is an i64.
        let pieces: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        let mut info = Dictionary::new()
            .bytes("name", &self.name)
            .int("piece length", i64::from(self.geometry.piece_length()))
            .bytes("pieces", pieces);
        info = match &self.sources[..] {
            [source] if self.single => info.int("length", length(source)),
            sources => info.list(
                "files",
                sources.iter().map(|source| {
                    let path = source.components.iter().map(text);
                    let file = Dictionary::new().int("length", length(source)).list("path", path);
                    if source.pad { file.bytes("attr", "p").done() } else { file.done() }
                }),
            ),
        };
        if self.wishes.private {
            info = info.int("private", 1);
        }
        if let Some(source) = &self.wishes.source {
            info = info.bytes("source", source);
        }
        info
    }

    /// Names that are made safe when the torrent is loaded, such as those with a backslash.
    fn renamed(&self, torrent: &Metainfo) -> Vec<(String, String)> {
        let own = std::iter::once((self.name.clone(), torrent.name.clone()));
        let files = self.sources.iter().zip(&torrent.files);
        own.chain(files.map(|(here, there)| (here.components.join("/"), there.path.join("/"))))
            .filter(|(here, there)| here != there)
            .collect()
    }
}

fn total_length(sources: &[Source]) -> Result<u64> {
    let total = sources.iter().try_fold(0u64, |sum, file| sum.checked_add(file.length));
    total.context("the files are too long together")
}

fn text(text: &String) -> Vec<u8> {
    bencode::bytes(text.as_bytes())
}

/// The smallest power of two, within limits, that leaves at most [`PIECES_WANTED`] pieces.
fn choose_piece_length(total: u64) -> u32 {
    let (min, max) = (*PIECE_LEN_CHOICE.start(), *PIECE_LEN_CHOICE.end());
    let wanted = total.div_ceil(PIECES_WANTED).min(u64::from(max)) as u32;
    wanted.next_power_of_two().clamp(min, max)
}

/// Seconds since 1970, now.
pub fn today() -> Option<i64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

#[cfg(test)]
mod tests;
