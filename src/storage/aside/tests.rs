//! What is kept aside: written, read, found again, and not believed.

use std::fs;
use std::ops::ControlFlow;

use super::*;
use crate::check::{self, Existing};
use crate::resume;
use crate::select::Selection;
use crate::storage::fixture::{Folder as Temporary, content, plant, torrent};
use crate::storage::{Reading, open_with};

/// Four pieces of 16 KiB and a bit: `b` shares its first with `a` and its last with `c`.
const FILES: &[(&str, u64)] = &[("a", 20_000), ("b", 30_000), ("c", 17_000)];

fn select(folder: &Temporary, list: &str) -> Layout {
    let layout = Layout::below(torrent(FILES, 16_384), folder.path());
    let mut selection = Selection::default();
    selection.add(list).unwrap();
    layout.select(&selection).unwrap()
}

/// What a run finds at its start, and whether it had to read anything for it.
fn start(layout: &Layout) -> (Existing, u64) {
    let mut hashed = 0;
    let mut progress = |done, _| {
        hashed = done;
        ControlFlow::Continue(())
    };
    let existing = check::start(layout, false, &mut progress).unwrap().unwrap();
    (existing, hashed)
}

/// Downloads what is wanted and missing, and ends in order.
fn download(layout: &Layout) -> (Reading, Vec<PieceIndex>) {
    let (mut existing, _) = start(layout);
    let (geometry, bytes) = (layout.geometry(), content(layout.torrent()));
    let (mut writing, reading) = open_with(layout, &existing.have, &existing.aside).unwrap();
    let missing: Vec<PieceIndex> =
        layout.wanted().iter().filter(|&piece| !existing.have.contains(piece)).collect();
    for &piece in &missing {
        for block in 0..geometry.blocks(piece) {
            let span = geometry.block(piece, block);
            let range = geometry.bytes(span);
            writing.write(span, &bytes[range.start as usize..range.end as usize]).unwrap();
        }
        let mut hasher = crate::hash::Hasher::new();
        writing.read_back(geometry.whole(piece), &mut |bytes| hasher.update(bytes)).unwrap();
        let verified = layout.torrent().piece_hashes.check(piece, hasher.finish()).unwrap();
        writing.seal(verified).unwrap();
        existing.have.insert(piece);
    }
    writing.flush().unwrap();
    resume::save(layout, &existing.have).unwrap();
    (reading, missing)
}

#[track_caller]
fn assert_files(folder: &Temporary, names: &[&str]) {
    let bytes = content(&torrent(FILES, 16_384));
    let mut at = 0;
    for &(name, length) in FILES {
        let found = fs::read(folder.join(&format!("t/{name}"))).ok();
        let right = &bytes[at..at + length as usize];
        assert_eq!(found.is_some(), names.contains(&name), "{name}");
        assert!(found.is_none_or(|found| found == right), "{name}");
        at += length as usize;
    }
}

#[test]
fn a_border_piece_is_whole_though_its_files_are_not() {
    let folder = Temporary::temporary();
    let layout = select(&folder, "b");
    let (mut reading, fetched) = download(&layout);
    assert_eq!(fetched, [1, 2, 3]);
    assert_files(&folder, &["b"]);
    let bytes = content(layout.torrent());
    for piece in [1, 2, 3] {
        let verified = layout.torrent().piece_hashes.trust(piece).unwrap();
        let span = layout.geometry().whole(piece);
        let range = layout.geometry().bytes(span);
        let slices = reading.slices(&verified, span).unwrap();
        let read: Vec<u8> = slices.iter().flatten().copied().collect();
        assert!(read == bytes[range.start as usize..range.end as usize]);
    }
    // The resume file vouches for all of them. Only pieces 0 and 4 are looked for, and not found.
    let (existing, hashed) = start(&layout);
    assert_eq!(existing.have.iter().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(existing.aside.pieces().collect::<Vec<_>>(), [1, 3]);
    assert_eq!((hashed, existing.sound, existing.resumed), (16_384 + 1_464, true, true));
}

#[test]
fn files_that_are_wanted_later_get_their_share() {
    let folder = Temporary::temporary();
    download(&select(&folder, "b"));
    assert_eq!(download(&select(&folder, "a")).1, [0], "b and its borders are there");
    assert_files(&folder, &["a", "b"]);
    let whole = select(&folder, "1-");
    assert!(whole.is_whole());
    assert_eq!(download(&whole).1, [4]);
    assert_files(&folder, &["a", "b", "c"]);
    assert!(!folder.join(&whole.aside_name()).exists());
}

#[test]
fn without_a_resume_file_it_is_hashed_and_kept() {
    let folder = Temporary::temporary();
    let layout = select(&folder, "b");
    download(&layout);
    resume::remove(&layout).unwrap();
    let (existing, hashed) = start(&layout);
    assert_eq!(existing.have.iter().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((existing.aside.pieces().count(), hashed), (2, 67_000));
    // Changed behind our back: what was kept aside is in doubt, and is found to be wrong.
    download(&layout);
    let path = folder.join(&layout.aside_name());
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (existing, _) = start(&layout);
    assert_eq!(existing.have.iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(download(&layout).1, [3]);
    assert_files(&folder, &["b"]);
}

#[test]
fn what_is_in_the_files_is_not_looked_for_aside() {
    let folder = Temporary::temporary();
    let layout = select(&folder, "b");
    // Killed before anything came: slots without bytes.
    let none = Bitfield::new(layout.geometry().pieces());
    drop(open_with(&layout, &none, &Aside::default()).unwrap());
    assert_eq!(Aside::load(&layout).unwrap().pieces().collect::<Vec<_>>(), [1, 3]);
    plant(&layout);
    let (existing, _) = start(&layout);
    assert!(existing.have.is_full() && existing.aside.is_empty());
    drop(open_with(&layout, &existing.have, &existing.aside).unwrap());
    assert!(!folder.join(&layout.aside_name()).exists());
}

#[test]
fn a_table_that_makes_no_sense_is_no_table() {
    let folder = Temporary::temporary();
    let layout = select(&folder, "b");
    download(&layout);
    let path = folder.join(&layout.aside_name());
    let good = fs::read(&path).unwrap();
    assert_eq!(good[..36], *b"piecemeal aside\n\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0");
    let changed = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        bad
    };
    let cut = good[..35].to_vec();
    for bad in [changed(0, b'P'), changed(19, 2), changed(19, 6), changed(16, 1), cut, Vec::new()] {
        fs::write(&path, &bad).unwrap();
        assert!(Aside::load(&layout).unwrap().is_empty());
    }
    // Cut behind the table, the pieces are not there.
    fs::write(&path, &good[..4096]).unwrap();
    let (existing, _) = start(&layout);
    assert_eq!(existing.have.iter().collect::<Vec<_>>(), [2]);
    assert_eq!(download(&layout).1, [1, 3]);
    assert_files(&folder, &["b"]);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert!(Aside::load(&layout).unwrap().is_empty());
}
