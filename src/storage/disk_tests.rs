//! Disks that are full, cannot reserve, or change under us; limits of the process.
//!
//! Some need a file system of their own, which only root can mount, and some a process of their own:
//! those run this test binary again with [`CHILD`] set, which a test of the same name looks for.
//!
//! Layer: tests only.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use super::fixture::{Folder, content, torrent};
use super::tests::{TREE, nothing, write_all};
use super::*;
use crate::bitfield::Bitfield;
use crate::geometry::Span;
use crate::resume;
use crate::select::Selection;

/// Holds the folder that a child process is to work in.
const CHILD: &str = "PIECEMEAL_TEST_CHILD";

/// A file system of our own, unmounted when it is dropped.
struct Mount(Folder);

impl Mount {
    /// `None`, and a word about it, where we may not.
    fn new(kind: &str, options: &str) -> Option<Mount> {
        let folder = Folder::temporary();
        let mounted = Command::new("mount")
            .args(["-t", kind, "-o", options, "piecemeal-test"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Mount(folder));
        }
        eprintln!("skipped: cannot mount {kind} (not root?)");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Runs one test of this binary again, in a process of its own, after some words of shell.
fn again(test: &str, shell: &str, folder: &Path) -> Output {
    let exe = std::env::current_exe().unwrap();
    Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$0\" \"$@\"")])
        .arg(exe)
        .args(["--exact", &format!("storage::disk_tests::{test}"), "--nocapture"])
        .args(["--test-threads", "1"])
        .env(CHILD, folder)
        .output()
        .unwrap()
}

fn child_folder() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD).map(Into::into)
}

#[test]
fn too_little_room_is_known_at_the_start() {
    let Some(mount) = Mount::new("tmpfs", "size=1m") else { return };
    let torrent = torrent(&[("a", 600_000), ("b", 600_000)], 16_384);
    let layout = Layout::below(Arc::clone(&torrent), mount.0.path());
    let said = format!("{:#}", open(&layout, &nothing(&torrent)).unwrap_err());
    assert!(said.contains("1.1 MiB more are needed and 1.0 MiB are free: no space left"), "{said}");
    assert_eq!(fs::read_dir(mount.0.path()).unwrap().count(), 0);
}

#[test]
fn a_disk_that_fills_up_meanwhile_is_an_error_and_can_be_gone_on_with() {
    let Some(mount) = Mount::new("tmpfs", "size=1m") else { return };
    let torrent = torrent(&[("a", 16_384), ("b", 600_000)], 16_384);
    let layout = Layout::below(Arc::clone(&torrent), mount.0.path());
    let (mut writing, _) = open(&layout, &nothing(&torrent)).unwrap();
    let span = |piece| torrent.geometry.whole(piece);
    writing.write(span(0), &content(&torrent)[..16_384]).unwrap();
    fs::write(mount.0.join("other"), vec![1; 700_000]).unwrap();
    let said = format!("{:#}", writing.write(span(1), &[0; 16_384]).unwrap_err());
    assert!(said.starts_with("cannot reserve 585.9 KiB for "), "{said}");
    assert!(said.contains("t/b") && said.contains("No space left on device"), "{said}");
    // No room for a resume file either: that is an error, and leaves no half of one.
    let left = 1 << 20;
    let _ = fs::write(mount.0.join("rest"), vec![1; left]);
    writing.flush().unwrap();
    assert!(resume::save(&layout, &nothing(&torrent)).is_err());
    assert!(!mount.0.join(&(layout.resume_name() + ".tmp")).exists());
    fs::remove_file(mount.0.join("other")).unwrap();
    fs::remove_file(mount.0.join("rest")).unwrap();
    write_all(&mut writing, &torrent);
    assert_eq!(fs::read(mount.0.join("t/b")).unwrap(), &content(&torrent)[16_384..]);
}

#[test]
fn a_file_system_that_cannot_reserve_is_written_without_maps() {
    // ramfs has no fallocate.
    let Some(mount) = Mount::new("ramfs", "mode=700") else { return };
    let torrent = torrent(TREE, 16_384);
    let layout = Layout::below(Arc::clone(&torrent), mount.0.path());
    let (mut writing, mut reading) = open(&layout, &nothing(&torrent)).unwrap();
    for token in write_all(&mut writing, &torrent) {
        let whole = torrent.geometry.whole(token.piece());
        let range = torrent.geometry.bytes(whole);
        let got: Vec<u8> =
            reading.slices(&token, whole).unwrap().iter().flatten().copied().collect();
        assert!(got == content(&torrent)[range.start as usize..range.end as usize]);
    }
    assert_eq!(fs::read(mount.0.join("t/c")).unwrap(), &content(&torrent)[65_536..]);
}

#[test]
fn a_file_that_cannot_be_mapped_is_written_and_read_all_the_same() {
    let folder = Folder::temporary();
    let file = fs::File::create_new(folder.join("f")).unwrap();
    let plain = backing::Backing::for_writing(file, 1 << 20, false);
    assert!(!plain.is_map());
    plain.warm(0..1 << 20).unwrap();
    let bytes: Vec<u8> = (0..700_000u32).map(|i| (i % 251) as u8).collect();
    plain.write(1000, &bytes).unwrap();
    let mut back = Vec::new();
    plain.read(1000..701_000, &mut |part| back.extend_from_slice(part)).unwrap();
    assert!(back == bytes);
    assert!(plain.read(701_000..701_001, &mut |_| ()).is_err());
}

#[test]
fn a_file_cut_short_while_it_is_mapped_ends_in_one_line() {
    if let Some(folder) = child_folder() {
        let torrent = torrent(&[("", 100_000)], 16_384);
        let layout = Layout::below(Arc::clone(&torrent), folder.clone());
        let (mut writing, _) = open(&layout, &nothing(&torrent)).unwrap();
        write_all_but_seal(&mut writing, &torrent);
        fs::OpenOptions::new().write(true).open(folder.join("t")).unwrap().set_len(0).unwrap();
        let _ = writing.write(torrent.geometry.block(3, 0), &[1; 16_384]);
        return;
    }
    let folder = Folder::temporary();
    let output = again("a_file_cut_short_while_it_is_mapped_ends_in_one_line", "", folder.path());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("piecemeal: a file of the torrent was cut short"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

fn write_all_but_seal(writing: &mut Writing, torrent: &crate::metainfo::Metainfo) {
    for piece in 0..torrent.geometry.pieces() {
        let span = torrent.geometry.whole(piece);
        writing.write(span, &vec![7; span.length as usize]).unwrap();
    }
}

#[test]
fn a_window_of_a_file_cut_short_is_an_error_before_it_is_touched() {
    let folder = Folder::temporary();
    let torrent = torrent(&[("", 100_000)], 16_384);
    let layout = Layout::below(Arc::clone(&torrent), folder.path());
    let (mut writing, _) = open(&layout, &nothing(&torrent)).unwrap();
    writing.write(torrent.geometry.whole(0), &[1; 16_384]).unwrap();
    fs::OpenOptions::new().write(true).open(folder.join("t")).unwrap().set_len(0).unwrap();
    let err = writing.write(torrent.geometry.whole(3), &[1; 16_384]).unwrap_err();
    assert!(format!("{err:#}").starts_with("cannot write to "), "{err:#}");
}

#[test]
fn two_thousand_files_need_few_descriptors() {
    if let Some(folder) = child_folder() {
        let names: Vec<String> = (0..2_000).map(|i| format!("d{}/{i}", i % 10)).collect();
        let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1_000)).collect();
        let torrent = torrent(&files, 16_384);
        let layout = Layout::below(Arc::clone(&torrent), folder);
        let (mut writing, mut reading) = open(&layout, &nothing(&torrent)).unwrap();
        let tokens = write_all(&mut writing, &torrent);
        writing.flush().unwrap();
        // Clones as peers have them: maps, but no descriptors.
        let mut readings = vec![reading.clone(); 50];
        for token in &tokens {
            let whole = torrent.geometry.whole(token.piece());
            reading.slices(token, whole).unwrap();
            readings.iter_mut().for_each(|reading| _ = reading.slices(token, whole).unwrap());
        }
        let mut told = |_, _| std::ops::ControlFlow::Continue(());
        let found = crate::check::start(&layout, true, &mut told).unwrap().unwrap();
        assert!(found.have.is_full());
        return;
    }
    let folder = Folder::temporary();
    let output = again("two_thousand_files_need_few_descriptors", "ulimit -n 64;", folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A check with too few of them fails, or finds what is there; nothing is found to be missing or wrong.
#[test]
fn however_few_descriptors_there_are_what_is_right_is_never_called_wrong() {
    if let Some(folder) = child_folder() {
        // Of all pieces a part is in the one file that is wanted; the first and the last are aside.
        let files = [("x/a", 10_000), ("x/y/b", 40_000), ("c", 12_000)];
        let torrent = torrent(&files, 16_384);
        let mut second = Selection::default();
        second.add("2").unwrap();
        let layout = Layout::below(Arc::clone(&torrent), folder).select(&second).unwrap();
        let (mut writing, _) = open(&layout, &nothing(&torrent)).unwrap();
        write_all(&mut writing, &torrent);
        writing.flush().unwrap();
        resume::save(&layout, &Bitfield::full(4)).unwrap();
        drop(writing);
        let mut held = Vec::from_iter(std::iter::from_fn(|| fs::File::open("/dev/null").ok()));
        let (mut failed, mut free) = (0, 0);
        while held.pop().is_some() {
            free += 1;
            for force in [false, true] {
                let mut told = |_, _| std::ops::ControlFlow::Continue(());
                let Ok(existing) = crate::check::start(&layout, force, &mut told) else {
                    failed += 1;
                    continue;
                };
                let existing = existing.unwrap();
                let aside: Vec<_> = existing.aside.pieces().collect();
                let found = (existing.have.count(), existing.differ, existing.sound, aside);
                assert_eq!(found, (4, 0, true, vec![0, 3]), "{free} free, {force}");
            }
        }
        assert!(0 < failed && failed < free, "{failed} of {free}");
        return;
    }
    let folder = Folder::temporary();
    let test = "however_few_descriptors_there_are_what_is_right_is_never_called_wrong";
    let output = again(test, "ulimit -n 64;", folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_file_over_the_limit_of_its_size_is_an_error() {
    if let Some(folder) = child_folder() {
        let torrent = torrent(&[("", 1_000_000)], 16_384);
        let layout = Layout::below(Arc::clone(&torrent), folder);
        let (mut writing, _) = open(&layout, &nothing(&torrent)).unwrap();
        let err = writing.write(Span { piece: 0, begin: 0, length: 1 }, b"x").unwrap_err();
        let said = format!("{err:#}");
        assert!(said.starts_with("cannot reserve") && said.contains("File too large"), "{said}");
        return;
    }
    let folder = Folder::temporary();
    // In units of 512 bytes or 1 KiB, depending on the shell.
    let test = "a_file_over_the_limit_of_its_size_is_an_error";
    let output = again(test, "ulimit -f 100;", folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
