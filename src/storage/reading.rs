//! The reading end: verified bytes out, straight from the map to a socket.
//!
//! ```text
//!   Verified + span ──► Slices ──► IoSlice, IoSlice, …  ──► one write_vectored with the header
//! ```
//!
//! Of a seed, all ends share the maps of the first files: what one upload has faulted in is there for
//! the next (1 GiB to one peer after the other: 0.49 s of processor time each with maps of their own,
//! 0.37 s with shared ones).
//!
//! Layer: hands. Each thread that uploads has its own, and maps what is not shared itself.

use std::io::{self, IoSlice};
use std::sync::Arc;

use anyhow::{Context, Error, Result, anyhow};
use memmap2::MmapRaw;

use super::aside::Aside;
use super::backing::{self, Backing, Recent};
use super::folder::{Access, Folder};
use super::layout::Layout;
use crate::geometry::Span;
use crate::hash::Verified;
use crate::metainfo::Metainfo;

/// How many files one reading end keeps mapped. Small, as there is one end for each peer: a thousand
/// of them are 16,000 maps, and the kernel allows 65,530.
const MAPS_MAX: usize = 16;

/// As [`MAPS_MAX`], for files that cannot be mapped: 50 peers and the usual 1,024 descriptors.
const DESCRIPTORS_MAX: usize = 2;

/// What pad files consist of. Longer runs repeat it.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// The end that reads verified pieces. Clones share nothing that changes.
#[derive(Debug, Clone)]
pub struct Reading {
    layout: Layout,
    folder: Arc<Folder>,
    aside: Aside,
    open: Recent,
}

/// The bytes of a span, held: nothing is copied where there is a map.
#[derive(Debug)]
pub struct Slices(Vec<Held>);

#[derive(Debug)]
enum Held {
    Map(Arc<MmapRaw>, std::ops::Range<u64>),
    Bytes(Vec<u8>),
    Zeros(usize),
}

impl Reading {
    pub(super) fn new(layout: Layout, folder: Arc<Folder>, aside: Aside) -> Reading {
        Reading { layout, folder, aside, open: Recent::new(MAPS_MAX, DESCRIPTORS_MAX) }
    }

    /// The torrent that is read.
    pub fn torrent(&self) -> &Metainfo {
        self.layout.torrent()
    }

    /// A reading end alone, for data that is all there, in the files or aside. Its clones share the
    /// maps of the first files.
    pub fn open(layout: Layout, aside: Aside) -> Result<Reading> {
        super::bus_error::install();
        let folder = Folder::open(layout.folder())
            .with_context(|| format!("cannot open {}", layout.folder().display()))?;
        let mut reading = Reading::new(layout, Arc::new(folder), aside);
        let Reading { layout, folder, open, .. } = &mut reading;
        let files = layout.files().iter().enumerate().filter(|(_, file)| file.is_stored());
        for (file, _) in files.take(MAPS_MAX) {
            // What cannot be opened says so when it is read.
            let _ = backing(layout, folder, open, file);
        }
        Ok(reading)
    }

    /// The bytes of a span of a verified piece. The span must be contained in that piece.
    pub fn slices(&mut self, piece: &Verified, span: Span) -> Result<Slices> {
        assert_eq!(piece.piece(), span.piece, "the token is of another piece");
        let Reading { layout, folder, aside, open } = self;
        if aside.contains(span.piece) {
            let mut bytes = Vec::with_capacity(span.length as usize);
            aside
                .read_each(span, &mut |step| bytes.extend_from_slice(step))
                .context("cannot read what is kept aside")?;
            return Ok(Slices(vec![Held::Bytes(bytes)]));
        }
        let mut held = Vec::with_capacity(1);
        for part in layout.parts(span) {
            if !part.stored {
                held.push(Held::Zeros(part.length));
                continue;
            }
            held.push(match backing(layout, folder, open, part.file)? {
                Backing::Map(map) => {
                    Held::Map(Arc::clone(map), part.at..part.at + part.length as u64)
                }
                Backing::File(file) => {
                    let mut bytes = vec![0; part.length];
                    backing::read_exact_at(file, &mut bytes, part.at)
                        .with_context(|| cannot_read(layout, part.file))?;
                    Held::Bytes(bytes)
                }
            });
        }
        Ok(Slices(held))
    }

    /// What an error of `write_vectored` says of our own side, if it does: the kernel found no page
    /// behind some of the bytes (`EFAULT`), since a file has become shorter than its map.
    pub fn fault(&self, err: &io::Error, mut spans: impl Iterator<Item = Span>) -> Option<Error> {
        if err.raw_os_error() != Some(libc::EFAULT) {
            return None;
        }
        let short = |span: Span| {
            let mut parts = self.layout.parts(span).filter(|part| part.stored);
            parts.find_map(|part| self.cut_short(part.file))
        };
        let unknown = || anyhow!("a file of the torrent cannot be read any more");
        Some(spans.find_map(short).unwrap_or_else(unknown))
    }

    /// Says so if a file is shorter than the torrent has it.
    fn cut_short(&self, file: usize) -> Option<Error> {
        let (path, length) = (self.layout.path(file), self.layout.files()[file].length);
        let open = self.folder.open_file(&self.layout.components(file), Access::Read);
        match open.and_then(|open| open.metadata()) {
            Ok(found) if length <= found.len() => None,
            Ok(found) => Some(anyhow!(
                "{} has {} of {length} bytes: another program has cut it short",
                path.display(),
                found.len()
            )),
            Err(err) => {
                Some(Error::new(err).context(format!("cannot read {} any more", path.display())))
            }
        }
    }
}

/// A file of the torrent, opened and mapped if it is not yet.
fn backing<'a>(
    layout: &Layout,
    folder: &Folder,
    open: &'a mut Recent,
    file: usize,
) -> Result<&'a Backing> {
    open.get(file, || {
        let opened = folder
            .open_file(&layout.components(file), Access::Read)
            .with_context(|| cannot_read(layout, file))?;
        Ok(Backing::for_reading(opened, layout.files()[file].length))
    })
}

fn cannot_read(layout: &Layout, file: usize) -> String {
    format!("cannot read {}", layout.path(file).display())
}

impl Slices {
    /// The bytes in order, for `write_vectored`.
    pub fn io_slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        self.iter().map(IoSlice::new)
    }

    /// The bytes in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flat_map(Held::slices)
    }
}

impl Held {
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let (bytes, pad) = match self {
            Held::Map(map, range) => (backing::bytes(map, range), 0),
            Held::Bytes(bytes) => (&bytes[..], 0),
            Held::Zeros(length) => (&[][..], *length),
        };
        std::iter::once(bytes).filter(|bytes| !bytes.is_empty()).chain(zeros(pad))
    }
}

/// So many zero bytes, without making them.
pub fn zeros<'a>(length: usize) -> impl Iterator<Item = &'a [u8]> {
    let rest: &'a [u8] = &ZEROS[..length % ZEROS.len()];
    let whole = std::iter::repeat_n(&ZEROS[..], length / ZEROS.len());
    whole.chain(std::iter::once(rest).filter(|rest| !rest.is_empty()))
}
