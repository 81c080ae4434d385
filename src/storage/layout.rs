//! Where a torrent's bytes lie on disk: folder, root, files.
//!
//! ```text
//! get -d DIR                DIR / NAME / a/b        folder = DIR            prefix = NAME
//! get --out PATH  (files)   PATH / a/b              folder = PATH           no prefix
//! get --out PATH  (file)    parent / last of PATH   folder = PATH's parent  prefix = PATH's last part
//!                           the same for one file of several, if it alone is wanted
//! ```
//!
//! The folder is the user's word: links in it are followed. All below it, the torrent's name
//! included, is a stranger's word: links there are never followed (see [`Folder`](super::folder::Folder)).
//!
//! Layer: hands, but pure: nothing here touches the disk.

use std::ffi::{OsStr, OsString};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::bitfield::Bitfield;
use crate::geometry::{Geometry, PieceIndex, Span};
use crate::metainfo::{File, Metainfo};
use crate::select::{self, Selection};

/// A torrent and the place where its data is or goes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Layout {
    torrent: Arc<Metainfo>,
    folder: PathBuf,
    /// The component between the folder and the files' own paths.
    prefix: Option<OsString>,
    /// Which files are wanted; `None`: all of them.
    chosen: Option<Arc<[bool]>>,
    /// Only this piece is wanted, and no file.
    piece: Option<PieceIndex>,
    /// The only wanted file of several is the prefix itself, whatever its path.
    renamed: bool,
}

/// A run of bytes inside one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Index into [`Layout::files`].
    pub file: usize,
    /// Offset in the file, in bytes.
    pub at: u64,
    /// In bytes, never 0.
    pub length: usize,
    /// Whether the bytes are on disk. If not (pad files, links), they are zero by definition.
    pub stored: bool,
}

impl Layout {
    /// The torrent's name is appended to `dir`, as `-d` has it.
    pub fn below(torrent: Arc<Metainfo>, dir: impl Into<PathBuf>) -> Layout {
        let prefix = Some(OsString::from(&torrent.name));
        let folder = whole(dir.into());
        Layout { torrent, folder, prefix, chosen: None, piece: None, renamed: false }
    }

    /// `out` is the file itself, or for several files the folder itself, as `--out` has it.
    pub fn at(torrent: Arc<Metainfo>, out: impl Into<PathBuf>) -> Result<Layout> {
        let out = out.into();
        let layout = Layout::below(torrent, out);
        match layout.torrent.single {
            true => layout.named_by_folder(),
            false => Ok(Layout { prefix: None, ..layout }),
        }
    }

    /// The folder's path is that of the one file.
    fn named_by_folder(self) -> Result<Layout> {
        let out = &self.folder;
        let name =
            out.file_name().with_context(|| format!("{}: not a file name", out.display()))?;
        let folder = whole(out.parent().map(Path::to_owned).unwrap_or_default());
        Ok(Layout { prefix: Some(name.to_owned()), folder, ..self })
    }

    /// The same, but `out` is not the folder of several files: it is the only one that is wanted.
    pub fn renamed(self) -> Result<Layout> {
        Ok(Layout { renamed: true, ..self.named_by_folder()? })
    }

    /// The same with these files only: the others are neither made nor changed.
    pub fn select(self, selection: &Selection) -> Result<Layout, select::Error> {
        let chosen = selection.resolve(&self.torrent)?;
        let all = self.torrent.files.iter().zip(&chosen).all(|(file, &c)| c || !file.is_stored());
        Ok(Layout { chosen: (!all).then(|| chosen.into()), ..self })
    }

    /// The same with one piece only and no file: it is kept aside.
    pub fn one_piece(self, piece: PieceIndex) -> Layout {
        let chosen = vec![false; self.torrent.files.len()].into();
        Layout { chosen: Some(chosen), piece: Some(piece), ..self }
    }

    /// The piece that is wanted, if no file is.
    pub fn piece(&self) -> Option<PieceIndex> {
        self.piece
    }

    /// Whether every file is wanted.
    pub fn is_whole(&self) -> bool {
        self.chosen.is_none()
    }

    /// The file that is wanted, if it is one alone.
    pub fn only_file(&self) -> Option<usize> {
        let mut files = (0..self.torrent.files.len()).filter(|&file| self.is_chosen(file));
        files.next().filter(|_| files.next().is_none())
    }

    /// Whether a file is wanted, and is to be on disk.
    pub fn is_chosen(&self, file: usize) -> bool {
        self.torrent.files[file].is_stored()
            && self.chosen.as_ref().is_none_or(|chosen| chosen[file])
    }

    /// The pieces that have a byte of a wanted file.
    pub fn wanted(&self) -> Bitfield {
        let pieces = self.geometry().pieces();
        if let Some(piece) = self.piece {
            return Bitfield::with(pieces, [piece]);
        }
        let Some(chosen) = &self.chosen else { return Bitfield::full(pieces) };
        let files = chosen.iter().enumerate().filter(|(_, chosen)| **chosen);
        Bitfield::with(pieces, files.flat_map(|(file, _)| self.pieces_of(file)))
    }

    pub fn torrent(&self) -> &Metainfo {
        &self.torrent
    }

    pub fn geometry(&self) -> Geometry {
        self.torrent.geometry
    }

    /// All files in the torrent's order, those that are not stored among them.
    pub fn files(&self) -> &[File] {
        &self.torrent.files
    }

    /// The folder below which everything lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the folder holds of this torrent: its one file or its own folder. For messages.
    pub fn root(&self) -> PathBuf {
        self.prefix.as_ref().map_or_else(|| self.folder.clone(), |name| self.folder.join(name))
    }

    /// The resume file's name. It lies in the folder that holds the root, and its length is fixed,
    /// so it fits whatever the torrent's name is.
    pub fn resume_name(&self) -> String {
        format!(".{}.piecemeal", self.torrent.info_hash)
    }

    /// The name of the file that holds what is kept aside.
    pub fn aside_name(&self) -> String {
        self.resume_name() + ".aside"
    }

    /// A file's components below [`Layout::folder`]: at least one.
    pub fn components(&self, file: usize) -> Vec<&OsStr> {
        let is_prefix = self.renamed && self.is_chosen(file);
        let own = self.torrent.files[file].path.iter().map(OsStr::new);
        let own = own.filter(move |_| !is_prefix);
        self.prefix.as_deref().into_iter().chain(own).collect()
    }

    /// A file's path, for messages.
    pub fn path(&self, file: usize) -> PathBuf {
        self.components(file).iter().fold(self.folder.clone(), |path, part| path.join(part))
    }

    /// The files that a span covers, in order; together exactly its bytes. The span must be
    /// contained in the torrent.
    pub fn parts(&self, span: Span) -> impl Iterator<Item = Part> + use<'_> {
        self.parts_of(self.geometry().bytes(span))
    }

    /// The same for a run of bytes of the torrent, which may lie in many pieces; at most 1 GiB.
    pub fn parts_of(&self, bytes: Range<u64>) -> impl Iterator<Item = Part> + use<'_> {
        let files = self.files();
        // Ends never decrease, so the first file that ends behind the start holds the start.
        let first = files.partition_point(|file| file.offset + file.length <= bytes.start);
        let (from, to) = (bytes.start, bytes.end);
        files[first..]
            .iter()
            .zip(first..)
            .take_while(move |(file, _)| file.offset < to)
            .filter(|(file, _)| file.length != 0)
            .map(move |(file, index)| {
                let start = from.max(file.offset);
                Part {
                    file: index,
                    at: start - file.offset,
                    // A span is at most 1 GiB (`PIECE_LEN_MAX`), so this fits everywhere.
                    length: (to.min(file.offset + file.length) - start) as usize,
                    stored: file.is_stored(),
                }
            })
    }

    /// The pieces that have a byte of a file; none for an empty file.
    pub fn pieces_of(&self, file: usize) -> std::ops::Range<PieceIndex> {
        let file = &self.torrent.files[file];
        let piece_length = u64::from(self.geometry().piece_length());
        // Both fit: a torrent has at most `PIECES_MAX` pieces.
        let first = (file.offset / piece_length) as PieceIndex;
        match file.length {
            0 => first..first,
            length => first..(file.offset + length).div_ceil(piece_length) as PieceIndex,
        }
    }

    /// How long a file may be that holds its part of these pieces. It has its full length only when
    /// the last of them is there, on disks that cannot reserve room; one that nobody wants is never
    /// touched, whatever it ends with.
    pub fn lengths(&self, file: usize, has: impl Fn(PieceIndex) -> bool) -> RangeInclusive<u64> {
        let (geometry, place) = (self.geometry(), &self.torrent.files[file]);
        let last = self.pieces_of(file).rev().find(|&piece| has(piece));
        let needed = last.map_or(0, |last| {
            let end = geometry.piece_offset(last) + u64::from(geometry.piece_len(last));
            end.min(place.offset + place.length) - place.offset
        });
        needed..=if self.is_chosen(file) { place.length } else { u64::MAX }
    }
}

/// The folder that an empty path stands for is the current one.
fn whole(folder: PathBuf) -> PathBuf {
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder }
}
