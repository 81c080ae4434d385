//! One open file of the torrent: a map of it, or, where there can be none, the file itself.
//!
//! A map needs no descriptor once it is made, so 100,000 files do not need as many; but the kernel
//! counts maps too (`vm.max_map_count`, 65530), so only the [`Recent`] ones are kept.
//!
//! Layer: hands. Owns the maps. This file and [`room`](super::room), [`folder`](super::folder) and
//! [`bus_error`](super::bus_error) beside it are where `unsafe` is.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

/// A file, open. Clones are the same map or descriptor.
#[derive(Debug, Clone)]
pub enum Backing {
    Map(Arc<MmapRaw>),
    File(Arc<File>),
}

impl Backing {
    /// Maps a file for writing. `reserved` says that its `length` bytes have room on the disk; if
    /// they have not, or there is no address space for them, the file is written to instead.
    pub fn for_writing(file: File, length: u64, reserved: bool) -> Backing {
        match usize::try_from(length) {
            Ok(length) if reserved => MmapOptions::new()
                .len(length)
                .map_raw(&file)
                .map_or_else(|_| Backing::File(Arc::new(file)), |map| Backing::Map(Arc::new(map))),
            _ => Backing::File(Arc::new(file)),
        }
    }

    /// Maps a file for reading. It may be shorter than `length`: only verified bytes are read, and
    /// those have been there.
    pub fn for_reading(file: File, length: u64) -> Backing {
        let Ok(length) = usize::try_from(length) else { return Backing::File(Arc::new(file)) };
        MmapOptions::new()
            .len(length)
            .map_raw_read_only(&file)
            .map_or_else(|_| Backing::File(Arc::new(file)), |map| Backing::Map(Arc::new(map)))
    }

    pub fn is_map(&self) -> bool {
        matches!(self, Backing::Map(_))
    }

    /// Gets the pages of a range ready to be written, in one call instead of one fault for each.
    pub fn warm(&self, range: Range<u64>) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Backing::Map(map) = self {
            let (at, length) = inside(map, &range);
            return match map.advise_range(memmap2::Advice::PopulateWrite, at, length) {
                // Linux before 5.14: each page is then got ready when it is first touched.
                Err(err) if err.raw_os_error() == Some(libc::EINVAL) => Ok(()),
                done => done,
            };
        }
        let _ = range;
        Ok(())
    }

    /// Copies bytes to an offset.
    pub fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Backing::Map(map) => {
                let (at, length) = inside(map, &(at..at + bytes.len() as u64));
                // SAFETY: `inside` has checked that the range lies in the map. The map was made for
                // writing (`Writing` keeps its maps to itself, `&mut self` means that nobody else
                // in this process writes), and `bytes`, an ordinary slice, is not part of it.
                unsafe {
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), map.as_mut_ptr().add(at), length);
                }
                Ok(())
            }
            Backing::File(file) => write_all_at(file, bytes, at),
        }
    }

    /// Gives the bytes of a range to `each`, in order, straight from the map where there is one.
    pub fn read(&self, range: Range<u64>, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        match self {
            Backing::Map(map) => {
                each(bytes(map, &range));
                Ok(())
            }
            Backing::File(file) => read_steps(file, range, &mut vec![0; READ_STEP], each),
        }
    }
}

/// The bytes of a range of a map.
///
/// Others may change a file while it is mapped, and no program can prevent that; we ourselves write
/// only to pieces that are not verified, and read here only verified pieces (`Reading`), or in the
/// thread that writes (`Writing`, which is borrowed meanwhile). The bytes are only ever copied or
/// hashed, so a change from outside makes them wrong, never unsound.
pub fn bytes<'a>(map: &'a MmapRaw, range: &Range<u64>) -> &'a [u8] {
    let (at, length) = inside(map, range);
    // SAFETY: `inside` has checked that the range lies in the map, which lives as long as the
    // borrow; bytes have no invalid values. For changes meanwhile see above. If the file was cut
    // short, touching them is a SIGBUS, which `bus_error` turns into one line and exit 1.
    unsafe { std::slice::from_raw_parts(map.as_ptr().add(at), length) }
}

/// A range as offset and length in a map; one that does not lie inside is our mistake.
fn inside(map: &MmapRaw, range: &Range<u64>) -> (usize, usize) {
    assert!(
        range.start <= range.end && range.end <= map.len() as u64,
        "{range:?} of {}",
        map.len()
    );
    (range.start as usize, (range.end - range.start) as usize)
}

/// What is read at a time where nothing is mapped, in bytes. Large enough that system calls do not
/// show, small enough that a 16 MiB piece does not need as much memory.
pub const READ_STEP: usize = 256 * 1024;

/// Reads a range of a file into `buffer`, step by step. `UnexpectedEof` if the file ends before.
pub fn read_steps(
    file: &File,
    range: Range<u64>,
    buffer: &mut [u8],
    each: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let step = left.min(buffer.len());
        let step = &mut buffer[..step];
        read_exact_at(file, step, at)?;
        each(step);
        at += step.len() as u64;
    }
    Ok(())
}

#[cfg(unix)]
pub fn read_exact_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

#[cfg(unix)]
pub fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(not(unix))]
pub fn read_exact_at(mut file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    use std::io::{Read, Seek};
    file.seek(io::SeekFrom::Start(at))?;
    file.read_exact(buffer)
}

#[cfg(not(unix))]
pub fn write_all_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    use std::io::{Seek, Write};
    file.seek(io::SeekFrom::Start(at))?;
    file.write_all(bytes)
}

/// The files used last, the least recently used one making room for a new one.
#[derive(Debug, Clone)]
pub struct Recent {
    slots: Vec<Slot>,
    /// Counts uses; the smallest is the oldest.
    clock: u64,
    maps_max: usize,
    descriptors_max: usize,
}

#[derive(Debug, Clone)]
struct Slot {
    file: usize,
    used: u64,
    backing: Backing,
}

impl Recent {
    /// Keeps at most so many maps, and so many files that cannot be mapped: those need a descriptor
    /// each, as long as they are open.
    pub fn new(maps_max: usize, descriptors_max: usize) -> Recent {
        Recent { slots: Vec::new(), clock: 0, maps_max, descriptors_max }
    }

    /// A file, opened by `open` if it is not open yet.
    pub fn get(
        &mut self,
        file: usize,
        open: impl FnOnce() -> anyhow::Result<Backing>,
    ) -> anyhow::Result<&Backing> {
        self.clock += 1;
        // Blocks come piece by piece, so the last one found is mostly the next one looked for, and
        // it lies in front.
        let at = match self.slots.iter().position(|slot| slot.file == file) {
            Some(at) => at,
            None => {
                let backing = open()?;
                self.make_room(backing.is_map());
                self.slots.push(Slot { file, used: 0, backing });
                self.slots.len() - 1
            }
        };
        self.slots.swap(0, at);
        let slot = &mut self.slots[0];
        slot.used = self.clock;
        Ok(&slot.backing)
    }

    fn make_room(&mut self, map: bool) {
        let max = if map { self.maps_max } else { self.descriptors_max };
        let alike = || self.slots.iter().enumerate().filter(|(_, s)| s.backing.is_map() == map);
        if max <= alike().count() {
            let oldest = alike().min_by_key(|(_, slot)| slot.used).map(|(at, _)| at);
            oldest.map(|at| self.slots.swap_remove(at));
        }
    }

    /// Closes everything.
    pub fn clear(&mut self) {
        self.slots.clear();
    }
}
