//! Layer: tests only.

use super::*;
use crate::hash::sha1;
use crate::storage::fixture::Folder;

fn make(path: &Path, wishes: Wishes) -> Result<Created> {
    let created = Plan::new(path, wishes)?.hash(&mut |_, _| ControlFlow::Continue(()))?;
    Ok(created.expect("nobody stopped it"))
}

fn said(path: &Path, wishes: Wishes) -> String {
    format!("{:#}", make(path, wishes).expect_err("refused"))
}

#[test]
fn piece_lengths_by_size() {
    const MIB: u64 = 1 << 20;
    for (total, expected) in [
        (1, 16 << 10),
        (2_000 * (16 << 10), 16 << 10),
        (2_000 * (16 << 10) + 1, 32 << 10),
        (700 * MIB, 512 << 10),
        (4_700 * MIB, 4 << 20),
        (u64::MAX, 16 << 20),
    ] {
        assert_eq!(choose_piece_length(total), expected, "{total}");
    }
}

#[test]
fn files_come_in_the_order_of_their_whole_paths_links_read_through() {
    let folder = Folder::temporary();
    for (path, text) in
        [("d/b", "1"), ("d/B", "22"), ("d/a/z", ""), ("d/a.txt", "4"), ("d/a-", "5"), ("d/.h", "6")]
    {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::create_dir(folder.join("d/none")).unwrap();
    std::os::unix::fs::symlink("a.txt", folder.join("d/l")).unwrap();
    std::os::unix::fs::symlink("a", folder.join("d/m")).unwrap();
    let wishes = Wishes { piece_length: Some(3), ..Wishes::default() };
    let Created { torrent, bytes, renamed, linked } = make(&folder.join("d"), wishes).unwrap();
    let paths: Vec<String> = torrent.files.iter().map(|file| file.path.join("/")).collect();
    assert_eq!(linked, 2);
    assert_eq!(paths, [".h", "B", "a-", "a.txt", "a/z", "b", "l", "m/z"]);
    assert_eq!(torrent.piece_hashes.as_slice(), [&b"622"[..], b"541", b"4"].map(sha1));
    assert!(bytes.starts_with(b"d10:created by") && renamed.is_empty());
}

#[test]
fn what_cannot_be_in_a_torrent_is_named() {
    let folder = Folder::temporary();
    let none = Wishes::default;
    assert!(said(&folder.join("nothing"), none()).contains("nothing: No such file"));
    assert!(said(folder.path(), none()).contains("not one byte"));
    fs::create_dir(folder.join("d")).unwrap();
    fs::write(folder.join("d/f"), "x").unwrap();
    for name in ["", "..", "a/b", "a\0b"] {
        let wishes = Wishes { name: Some(name.into()), ..none() };
        assert!(said(folder.path(), wishes).contains("cannot be a torrent's name"), "{name}");
    }
    let wishes = Wishes { piece_length: Some(0), ..none() };
    assert!(said(folder.path(), wishes).contains("a piece length of 0"));
    std::os::unix::fs::symlink("..", folder.join("d/up")).unwrap();
    assert!(said(folder.path(), none()).contains("d/up: a link back to a folder that it is in"));
    fs::remove_file(folder.join("d/up")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join("d/up")).unwrap();
    assert!(said(folder.path(), none()).contains("d/up: No such file"));
    fs::remove_file(folder.join("d/up")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("d/up")).unwrap();
    assert!(said(folder.path(), none()).contains("d/up: neither a file nor a folder"));
}

#[test]
fn a_file_that_changes_between_looking_and_reading() {
    let folder = Folder::temporary();
    fs::write(folder.join("f"), vec![1; 100_000]).unwrap();
    let hash = |plan: Plan| {
        let err = plan.hash(&mut |_, _| ControlFlow::Continue(())).expect_err("refused");
        format!("{err:#}")
    };
    let plan = Plan::new(&folder.join("f"), Wishes::default()).unwrap();
    fs::write(folder.join("f"), vec![1; 99_999]).unwrap();
    assert!(hash(plan).contains("f: became shorter"));
    let plan = Plan::new(&folder.join("f"), Wishes::default()).unwrap();
    fs::write(folder.join("f"), vec![1; 100_001]).unwrap();
    assert!(hash(plan).contains("f: changed while it was read"));
}

#[test]
fn names_that_will_be_others_elsewhere_are_told() {
    let folder = Folder::temporary();
    fs::write(folder.join("a\\b"), "x").unwrap();
    let wishes = Wishes { name: Some("n".into()), ..Wishes::default() };
    let created = make(folder.path(), wishes).unwrap();
    assert_eq!(created.renamed, [("a\\b".to_owned(), "a_b".to_owned())]);
}
