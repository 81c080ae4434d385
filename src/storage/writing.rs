//! The writing end: blocks in, unverified bytes back for hashing.
//!
//! Layer: hands. Runs in the assembler's thread, owns the maps that are written to, the lock on the
//! resume file, and the knowledge which pieces must not be written any more.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::aside::{self, Aside};
use super::backing::{Backing, Recent};
use super::folder::{self, Access, Folder, Id};
use super::layout::{Layout, Part};
use super::room::{self, Room};
use crate::bitfield::Bitfield;
use crate::geometry::{PieceIndex, Span};
use crate::hash::Verified;
use crate::units::size;

/// How many files are mapped for writing at a time. Enough for all pieces under way of a torrent of
/// large files; a torrent of tiny ones opens as many as it has, one after another, in any case.
const MAPS_MAX: usize = 64;

/// As [`MAPS_MAX`], for files that cannot be mapped: a descriptor each.
const DESCRIPTORS_MAX: usize = 8;

/// What is made ready to be written in one call, in bytes, if the piece is that long. Longer: the
/// thread would stand still for longer than its channel is deep. (4 MiB: about 1 ms.)
pub const WARM_LEN: u32 = 4 << 20;

/// With more files than this to flush, the whole file system is asked to write
/// out what it has, at once: to wait for the disk for each of 100,000 files would take minutes.
const FSYNC_MAX: usize = 64;

/// The end that writes. There is one for a torrent.
#[derive(Debug)]
pub struct Writing {
    layout: Layout,
    folder: Arc<Folder>,
    /// Pieces that reach into files that are not wanted.
    aside: Aside,
    open: Recent,
    /// Pieces that are verified: writing to one is a mistake of ours.
    sealed: Bitfield,
    /// One bit for each window of [`WARM_LEN`] of each piece: whether it was made ready.
    warm: Vec<u64>,
    /// Files that were opened, by index, and which they were: a file that is moved away or replaced
    /// while it is mapped takes what we write with it.
    touched: BTreeMap<usize, Id>,
    /// Holds the lock for as long as this end exists.
    _claim: Option<File>,
}

impl Writing {
    pub(super) fn new(
        layout: Layout,
        folder: Arc<Folder>,
        have: &Bitfield,
        claim: Option<File>,
    ) -> Writing {
        let windows = u64::from(layout.geometry().pieces()) * windows_a_piece(&layout);
        Writing {
            open: Recent::new(MAPS_MAX, DESCRIPTORS_MAX),
            sealed: have.clone(),
            warm: vec![0; usize::try_from(windows.div_ceil(64)).unwrap_or(0)],
            touched: BTreeMap::new(),
            _claim: claim,
            aside: Aside::default(),
            layout,
            folder,
        }
    }

    /// Takes over what is kept aside. The wanted files get their parts of the verified pieces in it;
    /// a piece that is now in the files with all its bytes leaves it, and border pieces that are not
    /// verified come in.
    pub(super) fn settle(&mut self, kept: &Aside) -> Result<Aside> {
        let borders = aside::borders(&self.layout);
        let verified = kept.only(|piece| self.sealed.contains(piece));
        for piece in verified.pieces() {
            self.copy_out(&verified, piece)?;
        }
        let geometry = self.layout.geometry();
        let in_files = |piece| {
            let mut parts = self.layout.parts(geometry.whole(piece));
            parts.all(|part| !part.stored || self.layout.is_chosen(part.file))
        };
        let missing: Vec<PieceIndex> =
            borders.iter().filter(|&piece| !self.sealed.contains(piece)).collect();
        let rest = verified.only(|piece| !in_files(piece));
        self.aside = rest.extended(&self.layout, &self.folder, &missing)?;
        Ok(self.aside.clone())
    }

    /// Gives the wanted files their parts of a verified piece that is kept aside, where they do not
    /// have them yet.
    fn copy_out(&mut self, aside: &Aside, piece: PieceIndex) -> Result<()> {
        let Writing { layout, folder, open, touched, .. } = self;
        let whole = layout.geometry().whole(piece);
        let mut bytes = Vec::with_capacity(whole.length as usize);
        aside
            .read_each(whole, &mut |step| bytes.extend_from_slice(step))
            .context("cannot read what is kept aside")?;
        let mut rest = &bytes[..];
        for part in layout.parts(whole) {
            let (mine, others) = rest.split_at(part.length);
            rest = others;
            if !layout.is_chosen(part.file) {
                continue;
            }
            let there = aside::is_there(layout, folder, part, mine)
                .with_context(|| cannot("read", layout, part.file))?;
            if !there {
                opened(layout, folder, open, touched, part)?
                    .write(part.at, mine)
                    .with_context(|| cannot("write to", layout, part.file))?;
            }
        }
        Ok(())
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Puts bytes where a span says. The span must be contained in the torrent, as long as the
    /// bytes, and of a piece that is not sealed. What falls into pad files is dropped.
    pub fn write(&mut self, span: Span, mut bytes: &[u8]) -> Result<()> {
        assert_eq!(span.length as usize, bytes.len(), "{span}");
        assert!(!self.sealed.contains(span.piece), "{span}: written to after it was verified");
        if self.aside.contains(span.piece) {
            return self.aside.write(span, bytes);
        }
        self.make_ready(span)?;
        let Writing { layout, folder, open, touched, .. } = self;
        for part in layout.parts(span) {
            let (now, later) = bytes.split_at(part.length);
            bytes = later;
            if part.stored {
                opened(layout, folder, open, touched, part)?
                    .write(part.at, now)
                    .with_context(|| cannot("write to", layout, part.file))?;
            }
        }
        Ok(())
    }

    /// Gives the bytes of a span to `each`, in order, in as few slices as there are files: for
    /// hashing what came out of order. The span must be contained in the torrent.
    pub fn read_back(&mut self, span: Span, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        if self.aside.contains(span.piece) {
            return self.aside.read_each(span, each).context("cannot read what is kept aside");
        }
        let Writing { layout, folder, open, touched, .. } = self;
        for part in layout.parts(span) {
            if part.stored {
                opened(layout, folder, open, touched, part)?
                    .read(part.at..part.at + part.length as u64, each)
                    .with_context(|| cannot("read", layout, part.file))?;
            } else {
                super::reading::zeros(part.length).for_each(&mut *each);
            }
        }
        Ok(())
    }

    /// From now on a piece is not written to any more, and may be read by the other ends. Of one that
    /// is kept aside the wanted files get their parts.
    pub fn seal(&mut self, piece: Verified) -> Result<()> {
        self.sealed.insert(piece.piece());
        if self.aside.contains(piece.piece()) {
            self.copy_out(&self.aside.clone(), piece.piece())?;
        }
        Ok(())
    }

    /// Whether nothing is kept aside.
    pub fn is_settled(&self) -> bool {
        self.aside.is_empty()
    }

    /// Waits until all that was written is on the disk, and the files' times are final. Needed
    /// before a resume file vouches for it.
    pub fn flush(&mut self) -> Result<()> {
        self.check_in_place()?;
        self.open.clear();
        self.aside.flush()?;
        if FSYNC_MAX < self.touched.len() && self.folder.sync_all_of_it().is_ok() {
            return Ok(());
        }
        for &file in self.touched.keys() {
            // The map is gone, but its pages belong to the file; any descriptor will do.
            self.folder
                .open_file(&self.layout.components(file), Access::Read)
                .and_then(|open| open.sync_all())
                .with_context(|| cannot("flush", &self.layout, file))?;
        }
        Ok(())
    }

    /// An error if a file that was written to, in this run or an earlier one, is not at its place any
    /// more, or too short for what is verified in it: somebody has moved, replaced or cut it. Worth a
    /// look before all is called complete.
    pub fn check_in_place(&self) -> Result<()> {
        let stored = self.layout.files().iter().enumerate().filter(|(_, file)| file.is_stored());
        for (file, _) in stored {
            let elsewhere = |piece| !self.layout.is_chosen(file) && self.aside.contains(piece);
            let here = |piece| self.sealed.contains(piece) && !elsewhere(piece);
            let (lengths, known) = (self.layout.lengths(file, here), self.touched.get(&file));
            if *lengths.start() == 0 && known.is_none() {
                continue;
            }
            let there = self.folder.status(&self.layout.components(file));
            let there = there.with_context(|| moved(&self.layout, file))?;
            if known.is_some_and(|id| *id != there.id) {
                bail!(moved(&self.layout, file));
            }
            if !lengths.contains(&there.size) {
                let (path, expected) = (self.layout.path(file), self.layout.files()[file].length);
                bail!(
                    "{} is {} bytes long, and should be {expected}: another program has changed it",
                    path.display(),
                    there.size
                );
            }
        }
        Ok(())
    }

    /// Populates the window that a span begins in, and the one it ends in, on first touch.
    fn make_ready(&mut self, span: Span) -> Result<()> {
        let of_piece = windows_a_piece(&self.layout) * u64::from(span.piece);
        for window in span.begin / WARM_LEN..=(span.begin + span.length - 1) / WARM_LEN {
            let bit = of_piece + u64::from(window);
            let (word, mask) = ((bit / 64) as usize, 1u64 << (bit % 64));
            if self.warm[word] & mask != 0 {
                continue;
            }
            self.warm[word] |= mask;
            let begin = window * WARM_LEN;
            let left = self.layout.geometry().piece_len(span.piece) - begin;
            let whole = Span { piece: span.piece, begin, length: left.min(WARM_LEN) };
            let Writing { layout, folder, open, touched, .. } = self;
            for part in layout.parts(whole).filter(|part| part.stored) {
                opened(layout, folder, open, touched, part)?
                    .warm(part.at..part.at + part.length as u64)
                    .with_context(|| cannot("write to", layout, part.file))?;
            }
        }
        Ok(())
    }
}

fn windows_a_piece(layout: &Layout) -> u64 {
    u64::from(layout.geometry().piece_length().div_ceil(WARM_LEN))
}

/// The file of a part, open for writing; its room is reserved when it is opened.
fn opened<'a>(
    layout: &Layout,
    folder: &Folder,
    open: &'a mut Recent,
    touched: &mut BTreeMap<usize, Id>,
    part: Part,
) -> Result<&'a Backing> {
    open.get(part.file, || {
        let length = layout.files()[part.file].length;
        let file = folder
            .open_file(&layout.components(part.file), Access::Write)
            .with_context(|| cannot("open", layout, part.file))?;
        let id = folder::id(&file).with_context(|| cannot("open", layout, part.file))?;
        if *touched.entry(part.file).or_insert(id) != id {
            bail!(moved(layout, part.file));
        }
        let room = room::reserve(&file, length).with_context(|| {
            let path = layout.path(part.file);
            let kept = "what was verified is kept";
            format!("cannot reserve {} for {} ({kept})", size(length), path.display())
        })?;
        Ok(Backing::for_writing(file, length, room == Room::Reserved))
    })
}

fn moved(layout: &Layout, file: usize) -> String {
    let path = layout.path(file);
    let path = path.display();
    format!("{path} was moved or replaced by another program meanwhile")
}

fn cannot(what: &str, layout: &Layout, file: usize) -> String {
    format!("cannot {what} {}", layout.path(file).display())
}
