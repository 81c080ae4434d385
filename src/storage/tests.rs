//! What the two ends promise, and what they refuse (disks that are full or fail are in `disk_tests`).
//!
//! Layer: tests only.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::fixture::{Folder, content, plant, torrent};
use super::*;
use crate::bitfield::Bitfield;
use crate::geometry::Span;
use crate::hash::{Hasher, Verified};
use crate::metainfo::Metainfo;

pub(super) const TREE: &[(&str, u64)] =
    &[("a", 40_000), ("d/empty", 0), ("d/e/b", 1), (".pad/7", 25_535), ("c", 70_000), ("z", 0)];

pub(super) fn nothing(torrent: &Metainfo) -> Bitfield {
    Bitfield::new(torrent.geometry.pieces())
}

/// Writes the whole torrent block by block, hashes it back, and gives the tokens.
pub(super) fn write_all(writing: &mut Writing, torrent: &Metainfo) -> Vec<Verified> {
    let content = content(torrent);
    let geometry = torrent.geometry;
    let mut tokens = Vec::new();
    for piece in (0..geometry.pieces()).rev() {
        for block in (0..geometry.blocks(piece)).map(|block| geometry.block(piece, block)) {
            let bytes = geometry.bytes(block);
            writing.write(block, &content[bytes.start as usize..bytes.end as usize]).unwrap();
        }
        let mut hasher = Hasher::new();
        writing.read_back(geometry.whole(piece), &mut |bytes| hasher.update(bytes)).unwrap();
        let token = torrent.piece_hashes.check(piece, hasher.finish()).expect("the hash matches");
        writing.seal(token).unwrap();
        tokens.push(token);
    }
    tokens
}

/// All files below a folder, with their lengths.
fn tree(folder: &Path) -> BTreeMap<String, u64> {
    fn walk(at: &Path, base: &Path, out: &mut BTreeMap<String, u64>) {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), base, out);
            } else {
                let name = entry.path().strip_prefix(base).unwrap().display().to_string();
                out.insert(name, entry.metadata().unwrap().len());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(folder, folder, &mut out);
    out
}

fn refusal(layout: &Layout) -> String {
    match open(layout, &nothing(layout.torrent())) {
        Err(err) => format!("{err:#}"),
        Ok((mut writing, _)) => {
            let span = Span { piece: 0, begin: 0, length: 1 };
            format!("{:#}", writing.write(span, b"x").expect_err("refused"))
        }
    }
}

#[test]
fn what_was_written_is_on_disk_and_comes_out_of_the_reading_end() {
    for piece_length in [16_384, 30_000, 1 << 20] {
        let folder = Folder::temporary();
        let torrent = torrent(TREE, piece_length);
        let layout = Layout::below(Arc::clone(&torrent), folder.path());
        let (mut writing, reading) = open(&layout, &nothing(&torrent)).unwrap();
        let tokens = write_all(&mut writing, &torrent);
        writing.flush().unwrap();
        let content = content(&torrent);
        let mut reading = reading.clone();
        for token in &tokens {
            let whole = torrent.geometry.whole(token.piece());
            let range = torrent.geometry.bytes(whole);
            let slices = reading.slices(token, whole).unwrap();
            let got: Vec<u8> = slices.io_slices().flat_map(|slice| slice.to_vec()).collect();
            assert!(got == content[range.start as usize..range.end as usize]);
        }
        assert_eq!(fs::read(folder.join("t/c")).unwrap(), &content[65_536..]);
        let names = [(".0707070707070707070707070707070707070707.piecemeal", 0), ("t/a", 40_000)];
        let more = [("t/c", 70_000), ("t/d/e/b", 1), ("t/d/empty", 0), ("t/z", 0)];
        let expected = names.into_iter().chain(more).map(|(name, len)| (name.to_owned(), len));
        assert_eq!(tree(folder.path()), expected.collect());
    }
}

#[test]
fn out_names_the_file_or_the_folder_itself() {
    let folder = Folder::temporary();
    let single = torrent(&[("", 5)], 16_384);
    let many = torrent(&[("a/b", 5)], 16_384);
    for (torrent, out, file) in [(single, "new/x", "new/x"), (many, "y", "y/a/b")] {
        let layout = Layout::at(Arc::clone(&torrent), folder.join(out)).unwrap();
        let (mut writing, _) = open(&layout, &nothing(&torrent)).unwrap();
        write_all(&mut writing, &torrent);
        assert_eq!(fs::read(folder.join(file)).unwrap(), content(&torrent));
    }
    let single = torrent(&[("", 5)], 16_384);
    assert!(Layout::at(single, "/").is_err());
}

#[test]
fn what_lies_there_is_kept_or_refused_but_never_cut() {
    let folder = Folder::temporary();
    let layout = Layout::below(torrent(TREE, 16_384), folder.path());
    let torrent = layout.torrent();
    plant(&layout);
    fs::write(folder.join("t/a"), &content(torrent)[..20_000]).unwrap();
    let mut have = nothing(torrent);
    have.insert(0);
    let (writing, mut reading) = open(&layout, &have).unwrap();
    let token = torrent.piece_hashes.trust(0).unwrap();
    let slices = reading.slices(&token, torrent.geometry.whole(0)).unwrap();
    assert!(slices.iter().eq([&content(torrent)[..16_384]]));
    drop(writing);
    fs::write(folder.join("t/a"), vec![0; 40_001]).unwrap();
    let said = refusal(&layout);
    assert!(said.contains("t/a is 40001 bytes long, in the torrent it is 40000"), "{said}");
    assert_eq!(fs::metadata(folder.join("t/a")).unwrap().len(), 40_001);
    fs::remove_file(folder.join("t/a")).unwrap();
    fs::write(folder.join("t/z"), b"!").unwrap();
    assert!(refusal(&layout).contains("t/z is 1 bytes long"));
    // A refusal leaves nothing behind.
    assert!(!folder.join(&layout.resume_name()).exists());
}

#[test]
fn links_folders_and_pipes_in_a_files_place_are_refused() {
    let outside = Folder::temporary();
    fs::write(outside.join("victim"), b"precious").unwrap();
    type Plant = fn(&Folder, &Folder);
    let cases: &[(Plant, &str)] = &[
        (|f, o| symlink(o.join("victim"), f.join("t/a")).unwrap(), "t/a is a symbolic link"),
        (|f, _| symlink("/dev/zero", f.join("t/a")).unwrap(), "t/a is a symbolic link"),
        (|f, _| symlink("nowhere", f.join("t/a")).unwrap(), "t/a is a symbolic link"),
        (|f, o| symlink(o.path(), f.join("t/d")).unwrap(), "its folder d: is a symbolic link"),
        (|f, _| fs::create_dir(f.join("t/a")).unwrap(), "t/a is a folder"),
        (|f, _| fs::write(f.join("t/d"), b"").unwrap(), "its folder d: is a file, not a folder"),
        (
            |f, _| assert!(Command::new("mkfifo").arg(f.join("t/a")).status().unwrap().success()),
            "t/a is a special file",
        ),
        (
            |f, o| {
                fs::remove_dir(f.join("t")).unwrap();
                symlink(o.path(), f.join("t")).unwrap();
            },
            "its folder t: is a symbolic link",
        ),
    ];
    for (plant, expected) in cases {
        let folder = Folder::temporary();
        fs::create_dir(folder.join("t")).unwrap();
        plant(&folder, &outside);
        let layout = Layout::below(torrent(TREE, 16_384), folder.path());
        let said = refusal(&layout);
        assert!(said.contains(expected), "{said}: expected {expected}");
        assert!(!said.contains('\n'));
    }
    assert_eq!(tree(outside.path()), BTreeMap::from([("victim".to_owned(), 8)]));
    assert_eq!(fs::read(outside.join("victim")).unwrap(), b"precious");
}

#[test]
fn a_link_planted_after_the_start_is_not_followed_either() {
    let (folder, outside) = (Folder::temporary(), Folder::temporary());
    fs::write(outside.join("a"), b"precious").unwrap();
    let layout = Layout::below(torrent(TREE, 16_384), folder.path());
    let (mut writing, _) = open(&layout, &nothing(layout.torrent())).unwrap();
    symlink(outside.join("a"), folder.join("t/a")).unwrap();
    let err = writing.write(Span { piece: 0, begin: 0, length: 1 }, b"x").unwrap_err();
    assert!(format!("{err:#}").contains("symbolic link"), "{err:#}");
    assert_eq!(fs::read(outside.join("a")).unwrap(), b"precious");
}

#[test]
fn a_file_that_is_moved_away_or_replaced_is_noticed() {
    type Change = fn(&Folder);
    let changes: [Change; 3] = [
        |folder| fs::remove_file(folder.join("t/c")).unwrap(),
        |folder| {
            fs::copy(folder.join("t/c"), folder.join("t/other")).unwrap();
            fs::rename(folder.join("t/other"), folder.join("t/c")).unwrap();
        },
        |folder| fs::rename(folder.join("t"), folder.join("u")).unwrap(),
    ];
    for change in changes {
        let folder = Folder::temporary();
        let layout = Layout::below(torrent(TREE, 16_384), folder.path());
        let (mut writing, _) = open(&layout, &nothing(layout.torrent())).unwrap();
        write_all(&mut writing, layout.torrent());
        writing.check_in_place().unwrap();
        change(&folder);
        let said = format!("{:#}", writing.flush().unwrap_err());
        assert!(said.contains(" was moved or replaced by another program"), "{said}");
    }
}

/// Neither need it have been written to in this run.
#[test]
fn a_file_whose_verified_bytes_are_gone_is_noticed() {
    for again in [false, true] {
        let folder = Folder::temporary();
        let layout = Layout::below(torrent(TREE, 16_384), folder.path());
        let (mut writing, _) = open(&layout, &nothing(layout.torrent())).unwrap();
        write_all(&mut writing, layout.torrent());
        if again {
            drop(writing);
            let have = Bitfield::full(layout.geometry().pieces());
            writing = open(&layout, &have).unwrap().0;
        }
        writing.check_in_place().unwrap();
        let file = fs::OpenOptions::new().write(true).open(folder.join("t/c")).unwrap();
        for (len, is_right) in [(69_999, false), (0, false), (70_001, false), (70_000, true)] {
            file.set_len(len).unwrap();
            let said = writing.flush().map_err(|err| format!("{err:#}"));
            let expected = format!("t/c is {len} bytes long, and should be 70000");
            assert!(
                said.as_ref().map_or_else(|said| said.contains(&expected), |()| is_right),
                "{said:?}"
            );
        }
    }
}

#[test]
fn the_users_own_folder_may_be_a_link_and_is_created() {
    let (folder, real) = (Folder::temporary(), Folder::temporary());
    symlink(real.path(), folder.join("link")).unwrap();
    let torrent = torrent(TREE, 16_384);
    let layout = Layout::below(Arc::clone(&torrent), folder.join("link/new/deep"));
    write_all(&mut open(&layout, &nothing(&torrent)).unwrap().0, &torrent);
    assert_eq!(fs::metadata(real.join("new/deep/t/c")).unwrap().len(), 70_000);
    fs::write(folder.join("file"), b"").unwrap();
    let layout = Layout::below(torrent, folder.join("file/below"));
    let said = refusal(&layout);
    assert!(said.starts_with("cannot create the folder ") && said.contains("file/below"), "{said}");
}

#[test]
fn a_second_writer_is_refused_until_the_first_has_ended() {
    let folder = Folder::temporary();
    let layout = Layout::below(torrent(TREE, 16_384), folder.path());
    let first = open(&layout, &nothing(layout.torrent())).unwrap();
    assert!(refusal(&layout).contains("another piecemeal is writing there"));
    drop(first);
    open(&layout, &nothing(layout.torrent())).unwrap();
}

#[test]
fn more_files_than_maps_and_names_as_long_as_they_can_be() {
    let folder = Folder::temporary();
    let long = "n".repeat(255);
    let names: Vec<String> = (0..300).map(|i| format!("d{}/{i}", i % 7)).chain([long]).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 100)).collect();
    let torrent = torrent(&files, 16_384);
    let layout = Layout::below(Arc::clone(&torrent), folder.path());
    let (mut writing, mut reading) = open(&layout, &nothing(&torrent)).unwrap();
    let tokens = write_all(&mut writing, &torrent);
    writing.flush().unwrap();
    for token in tokens {
        let whole = torrent.geometry.whole(token.piece());
        assert_eq!(
            reading.slices(&token, whole).unwrap().iter().count(),
            if token.piece() == 0 { 164 } else { 138 }
        );
    }
    assert_eq!(tree(folder.path()).len(), 302);
}

#[test]
#[should_panic(expected = "written to after it was verified")]
fn a_verified_piece_is_never_written_again() {
    let folder = Folder::temporary();
    let layout = Layout::below(torrent(TREE, 16_384), folder.path());
    let (mut writing, _) = open(&layout, &nothing(layout.torrent())).unwrap();
    write_all(&mut writing, layout.torrent());
    let _ = writing.write(Span { piece: 0, begin: 0, length: 1 }, b"x");
}
