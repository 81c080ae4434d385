//! What is kept aside: pieces that reach into files which are not wanted.
//!
//! ```text
//! .HASH.piecemeal.aside, next to the resume file; sparse
//!
//! | "piecemeal aside\n" | u32 of piece 0 | u32 of piece 1 | … | to the next 4 KiB | slot 1 | slot 2 | …
//!   16 bytes              big-endian: the slot that the piece has, 0 for none      a whole piece each
//! ```
//!
//! A piece is verified, given to others and resumed as a whole, but a file that nobody wants must not
//! appear, and one that somebody else has put there must not be touched. So a *border piece*, one
//! that is partly in wanted and partly in other files, is written to a slot here. When its hash has
//! matched, the wanted files get their parts of it; it is read from here ever after.
//!
//! * A piece has a slot, or its bytes are in the files: never both. Which of the two, the table says.
//! * The slots are given out before anything is written, so both ends of the storage know them.
//! * Nothing here is believed: a slot holds a piece if the hash says so. A table that is damaged is
//!   no table.
//! * When a later run wants the other files too, they get their parts, and the slot is free again.
//!   Without any slot in use the file is removed.
//!
//! Layer: hands. Both ends hold it; only the writing one writes, and only to unverified pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::backing::{self, READ_STEP, read_steps};
use super::folder::{Access, Folder, if_there};
use super::layout::{Layout, Part};
use crate::bitfield::Bitfield;
use crate::geometry::{PieceIndex, Span};

const MAGIC: &[u8; 16] = b"piecemeal aside\n";

/// The slots begin at a multiple of this: a block of most file systems.
const ALIGNMENT: u64 = 4096;

/// The pieces that are kept aside. Clones are the same file.
#[derive(Debug, Clone, Default)]
pub struct Aside {
    slots: Arc<BTreeMap<PieceIndex, u32>>,
    file: Option<Arc<File>>,
    /// Where the first slot begins, and how long each is, in bytes.
    begin: u64,
    slot_length: u64,
}

impl Aside {
    /// What an earlier run has kept; nothing if there is no such file, or it makes no sense. An error
    /// says that we cannot know.
    pub fn load(layout: &Layout) -> Result<Aside> {
        let name = layout.aside_name();
        let read = || {
            let Some(folder) = if_there(Folder::open(layout.folder()))? else { return Ok(None) };
            let file = folder.open_file(&[name.as_ref()], Access::Read);
            let Some(file) = if_there(file)? else { return Ok(None) };
            let pieces = layout.geometry().pieces() as usize;
            let mut head = vec![0; MAGIC.len() + 4 * pieces];
            let whole = if_there(backing::read_exact_at(&file, &mut head, 0))?.is_some();
            Ok(if whole { Aside::parse(layout, file, &head) } else { None })
        };
        let read: io::Result<Option<Aside>> = read();
        Ok(read.with_context(|| format!("cannot read {name}"))?.unwrap_or_default())
    }

    fn parse(layout: &Layout, file: File, head: &[u8]) -> Option<Aside> {
        let pieces = layout.geometry().pieces();
        let table = head.strip_prefix(MAGIC)?;
        let (mut slots, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for (piece, slot) in (0..).zip(table.as_chunks::<4>().0) {
            let slot = u32::from_be_bytes(*slot);
            if slot != 0 {
                if pieces < slot || !seen.insert(slot) {
                    return None;
                }
                slots.insert(piece, slot);
            }
        }
        Some(Aside { slots: Arc::new(slots), file: Some(Arc::new(file)), ..Aside::of(layout) })
    }

    fn of(layout: &Layout) -> Aside {
        let table = MAGIC.len() as u64 + 4 * u64::from(layout.geometry().pieces());
        Aside {
            begin: table.next_multiple_of(ALIGNMENT),
            slot_length: u64::from(layout.geometry().piece_length()),
            ..Aside::default()
        }
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.slots.contains_key(&piece)
    }

    pub fn pieces(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.slots.keys().copied()
    }

    /// The same with some of its pieces only; nothing on disk changes.
    pub fn only(&self, keep: impl Fn(PieceIndex) -> bool) -> Aside {
        let slots = self.slots.iter().filter(|(piece, _)| keep(**piece));
        let slots = slots.map(|(&piece, &slot)| (piece, slot)).collect();
        Aside { slots: Arc::new(slots), ..self.clone() }
    }

    /// Opens it for writing, with a slot for each of these pieces too. The table is on disk when this
    /// returns; without any piece the file is gone.
    pub(super) fn extended(
        &self,
        layout: &Layout,
        folder: &Folder,
        more: &[PieceIndex],
    ) -> Result<Aside> {
        let cannot =
            || format!("cannot write {}", layout.folder().join(layout.aside_name()).display());
        if self.is_empty() && more.is_empty() {
            remove(layout).with_context(cannot)?;
            return Ok(Aside::default());
        }
        let mut slots: BTreeMap<PieceIndex, u32> = (*self.slots).clone();
        let used: BTreeSet<u32> = slots.values().copied().collect();
        let mut free = (1..).filter(|slot| !used.contains(slot));
        for &piece in more {
            slots.entry(piece).or_insert_with(|| free.next().expect("u32 is more than pieces"));
        }
        let file = folder.open_file(&[layout.aside_name().as_ref()], Access::Write);
        let file = file.with_context(cannot)?;
        let table = (0..layout.geometry().pieces())
            .flat_map(|piece| slots.get(&piece).copied().unwrap_or(0).to_be_bytes());
        let head: Vec<u8> = MAGIC.iter().copied().chain(table).collect();
        backing::write_all_at(&file, &head, 0).with_context(cannot)?;
        Ok(Aside { slots: Arc::new(slots), file: Some(Arc::new(file)), ..Aside::of(layout) })
    }

    /// Where a span is in the file. Its piece must have a slot.
    fn place(&self, span: Span) -> io::Result<(&File, Range<u64>)> {
        let (Some(&slot), Some(file)) = (self.slots.get(&span.piece), &self.file) else {
            return Err(io::Error::other("a piece without a slot"));
        };
        let at = self.begin + u64::from(slot - 1) * self.slot_length + u64::from(span.begin);
        Ok((file, at..at + u64::from(span.length)))
    }

    /// Puts the bytes of a span into its slot.
    pub(super) fn write(&self, span: Span, bytes: &[u8]) -> Result<()> {
        let (file, range) = self.place(span)?;
        backing::write_all_at(file, bytes, range.start)
            .context("cannot write what is kept aside for files that are not selected")
    }

    /// Gives the bytes of a span to `each`, in order. `UnexpectedEof` if they never were written.
    pub fn read_each(&self, span: Span, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let (file, range) = self.place(span)?;
        read_steps(file, range, &mut vec![0; READ_STEP.min(span.length as usize)], each)
    }

    /// Whether the wanted files have their parts of a piece that is kept here.
    pub fn is_in_files(
        &self,
        layout: &Layout,
        folder: &Folder,
        piece: PieceIndex,
    ) -> io::Result<bool> {
        let whole = layout.geometry().whole(piece);
        let mut bytes = Vec::with_capacity(whole.length as usize);
        let read = self.read_each(whole, &mut |step| bytes.extend_from_slice(step));
        if if_there(read)?.is_none() {
            return Ok(false);
        }
        let mut rest = &bytes[..];
        for part in layout.parts(whole) {
            let (mine, others) = rest.split_at(part.length);
            rest = others;
            if layout.is_chosen(part.file) && !is_there(layout, folder, part, mine)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until it is on the disk.
    pub(super) fn flush(&self) -> Result<()> {
        let flushed = self.file.as_ref().map_or(Ok(()), |file| file.sync_all());
        flushed.context("cannot flush what is kept aside")
    }
}

/// The pieces that reach into a wanted file and into another one.
pub fn borders(layout: &Layout) -> Bitfield {
    let (geometry, mut wanted) = (layout.geometry(), layout.wanted());
    if layout.is_whole() {
        return Bitfield::new(geometry.pieces());
    }
    if layout.piece().is_some() {
        return wanted;
    }
    let whole = |piece: PieceIndex| {
        layout.parts(geometry.whole(piece)).all(|part| !part.stored || layout.is_chosen(part.file))
    };
    let inner: Vec<PieceIndex> = wanted.iter().filter(|&piece| whole(piece)).collect();
    for piece in inner {
        wanted.remove(piece);
    }
    wanted
}

/// Whether a file has these bytes already. One that cannot be read has not.
pub(super) fn is_there(
    layout: &Layout,
    folder: &Folder,
    part: Part,
    bytes: &[u8],
) -> io::Result<bool> {
    let opened = folder.open_file(&layout.components(part.file), Access::Read);
    let Some(file) = if_there(opened)? else { return Ok(false) };
    let whole = file.metadata().is_ok_and(|data| data.len() == layout.files()[part.file].length);
    let mut found = vec![0; part.length];
    let read = if_there(backing::read_exact_at(&file, &mut found, part.at))?.is_some();
    Ok(whole && read && found == bytes)
}

fn remove(layout: &Layout) -> io::Result<()> {
    match std::fs::remove_file(layout.folder().join(layout.aside_name())) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

#[cfg(all(test, unix))]
mod tests;
