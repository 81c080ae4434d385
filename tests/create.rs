//! `create` and `verify`: the real binary makes a torrent and checks its data, good and spoilt.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use piecemeal::metainfo::Metainfo;

/// A folder that is gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("piecemeal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("data/sub")).unwrap();
        fs::write(path.join("data/a"), vec![1; 100_000]).unwrap();
        fs::write(path.join("data/sub/b"), vec![2; 50_000]).unwrap();
        fs::write(path.join("data/empty"), "").unwrap();
        Folder(path)
    }

    /// Runs the program in the folder.
    fn run(&self, args: &[&str]) -> Output {
        let binary = env!("CARGO_BIN_EXE_piecemeal");
        Command::new(binary).args(args).current_dir(&self.0).output().unwrap()
    }

    /// Runs it, wants an exit code, and gives what it said on both.
    #[track_caller]
    fn ends(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    }

    fn torrent(&self, name: &str) -> Metainfo {
        Metainfo::from_bytes(&fs::read(self.0.join(name)).unwrap()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_was_asked_for_is_in_the_torrent() {
    let folder = Folder::new("create");
    let said = folder.ends(0, &["create", "data", "--piece-length", "32K", "--no-date"]);
    let torrent = folder.torrent("data.torrent");
    assert!(said.contains(&torrent.info_hash.to_string()) && said.contains(&torrent.magnet()));
    assert_eq!(
        (torrent.geometry.pieces(), torrent.private, torrent.creation_date),
        (5, false, None)
    );
    let line = "create data -o x.torrent -n other -a http://a/x,udp://b:1 -t http://c/x -w http://s/ \
                --private -c words --source tag";
    let words: Vec<&str> = line.split_whitespace().chain(["--json"]).collect();
    let said = folder.ends(0, &words);
    let torrent = folder.torrent("x.torrent");
    assert!(said.contains(&format!(
        r#""path":"x.torrent","name":"other","info_hash":"{}""#,
        torrent.info_hash
    )));
    assert_eq!(torrent.trackers, [vec!["http://a/x", "udp://b:1"], vec!["http://c/x"]]);
    assert_eq!((torrent.web_seeds[0].as_str(), torrent.private), ("http://s/", true));
    assert_eq!(torrent.comment.as_deref(), Some("words"));
    assert!(torrent.creation_date.is_some());
    assert!(torrent.info.windows(13).any(|part| part == b"6:source3:tag"));
}

#[test]
fn an_existing_torrent_is_kept_unless_forced() {
    let folder = Folder::new("force");
    fs::write(folder.0.join("data.torrent"), "mine").unwrap();
    let said = folder.ends(1, &["create", "data"]);
    assert!(said.contains("data.torrent") && said.contains("--force"), "{said}");
    assert_eq!(fs::read(folder.0.join("data.torrent")).unwrap(), b"mine");
    folder.ends(0, &["create", "data", "--force"]);
    assert_eq!(folder.torrent("data.torrent").files.len(), 3);
    let left: Vec<_> =
        fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn what_the_torrent_is_made_of_is_never_written_over() {
    let folder = Folder::new("input");
    let kept = |code, args: &[&str]| {
        let said = folder.ends(code, args);
        assert_eq!(fs::read(folder.0.join("data/a")).unwrap(), vec![1; 100_000], "{args:?}");
        said
    };
    symlink("data/a", folder.0.join("link")).unwrap();
    fs::hard_link(folder.0.join("data/a"), folder.0.join("twin")).unwrap();
    for line in [
        "create data/a -o data/a --force",
        "create data/a -o link --force",
        "create data/a -o twin --force",
        "create link -o data/../data/a --force",
        "create data -o data/a --force",
        "create data -o link --force",
        "create data -o data/new.torrent",
        "create data/. -o data/sub/new.torrent",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        assert!(kept(1, &args).contains("what the torrent is made of"), "{line}");
    }
    assert!(!folder.0.join("data/new.torrent").exists());
    // Beside a single file is another matter.
    folder.ends(0, &["create", "data/a", "-o", "data/a.torrent"]);
}

#[test]
fn a_link_or_a_device_is_written_to_and_stays() {
    let folder = Folder::new("device");
    fs::write(folder.0.join("x"), "old").unwrap();
    symlink("x", folder.0.join("link")).unwrap();
    symlink("/dev/null", folder.0.join("null")).unwrap();
    symlink("nowhere", folder.0.join("lost")).unwrap();
    assert!(folder.ends(1, &["create", "data", "-o", "link"]).contains("--force"));
    assert!(folder.ends(1, &["create", "data", "-o", "lost"]).contains("leads nowhere"));
    folder.ends(0, &["create", "data", "-o", "link", "--force"]);
    assert_eq!(folder.torrent("x").files.len(), 3);
    folder.ends(0, &["create", "data", "-o", "null", "--force"]);
    for link in ["link", "null"] {
        assert!(folder.0.join(link).is_symlink(), "{link}");
    }
    let output = folder.run(&["create", "data", "-o", "/dev/stdout", "--force"]);
    assert!(Metainfo::from_bytes(&output.stdout).is_ok(), "{output:?}");
}

#[test]
fn addresses_and_piece_lengths_that_cannot_be_are_a_wrong_command_line() {
    let folder = Folder::new("usage");
    for line in [
        "create data -a foo",
        "create data -a http://a/x,foo",
        "create data -w foo",
        "create data --web-seed udp://a:1",
        "create data --piece-length 0",
        "create data --piece-length 8K",
        "create data --piece-length 48K",
        "create data --piece-length 2G",
        "get x.torrent -a foo",
        "get x.torrent --web-seed foo",
        "seed x.torrent -a file:///x",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        assert!(folder.ends(2, &args).contains(": expected "), "{line}");
    }
}

#[test]
fn standard_output_is_the_torrent_and_nothing_else() {
    let folder = Folder::new("stdout");
    let output = folder.run(&["create", "data", "-o", "-"]);
    let torrent = Metainfo::from_bytes(&output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&torrent.info_hash.to_string()), "{said}");
}

#[test]
fn verify_tells_good_data_from_spoilt() {
    let folder = Folder::new("verify");
    folder.ends(0, &["create", "data", "--piece-length", "32K"]);
    let verify = |code, more: &[&str]| {
        let args = [&["verify", "data.torrent"], more].concat();
        folder.ends(code, &args)
    };
    assert_eq!(verify(0, &[]), "data: all 5 pieces match, 146.5 KiB\n");
    assert_eq!(verify(0, &["--quiet"]), "");
    let write =
        |name: &str, bytes: &[u8]| fs::write(folder.0.join("data").join(name), bytes).unwrap();
    let mut bytes = vec![1; 100_000];
    bytes[40_000] = 0;
    write("a", &bytes);
    let said = verify(1, &[]);
    assert!(said.contains("4 of 5 pieces match, 1 differ, 0 are not there"), "{said}");
    assert!(said.contains("\n  data/a: 1 of 4 pieces differ\n"), "{said}");
    assert!(!said.contains("sub/b"), "{said}");
    write("a", &[1; 100_000]);
    fs::remove_file(folder.0.join("data/empty")).unwrap();
    assert!(verify(1, &[]).contains("data/empty: missing"));
    write("empty", b"");
    write("sub/b", &[2; 50_001]);
    let said = verify(1, &["--json"]);
    assert!(said.contains(r#""complete":false,"pieces":5,"good":5,"bad":0,"missing":0"#), "{said}");
    assert!(
        said.contains(
            r#"{"path":"data/sub/b","problem":"50001 bytes long, too long: 50000 expected"}"#
        ),
        "{said}"
    );
    assert!(verify(1, &["-d", "nowhere"]).starts_with("piecemeal: cannot open nowhere: "));
    let there: Vec<_> = fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(there.len(), 2, "verify writes nothing");
}

#[test]
fn the_info_hash_is_mktorrents() {
    let folder = Folder::new("mktorrent");
    for (name, text) in [("a-", "x"), ("a.txt", "y"), ("A", "z"), (".h", "h"), ("sub/ü", "ü")] {
        fs::write(folder.0.join("data").join(name), text).unwrap();
    }
    let theirs = Command::new("mktorrent")
        .args(["-l", "15", "-o", "theirs.torrent", "data"])
        .current_dir(&folder.0)
        .output();
    if theirs.is_err() {
        eprintln!("skipped: mktorrent is not installed");
        return;
    }
    folder.ends(0, &["create", "data", "--piece-length", "32K"]);
    assert_eq!(
        folder.torrent("data.torrent").info_hash,
        folder.torrent("theirs.torrent").info_hash
    );
}

#[test]
fn with_padding_every_file_begins_a_piece_and_the_info_hash_is_libtorrents() {
    let folder = Folder::new("padding");
    for (name, length) in [("data/b0", 0), ("data/c", 65_536), ("data/d", 10), ("data/e0", 0)] {
        fs::write(folder.0.join(name), vec![3; length]).unwrap();
    }
    folder.ends(0, &["create", "data", "--piece-length", "32K", "--pad"]);
    let ours = folder.torrent("data.torrent");
    let paths: Vec<String> = ours.files.iter().map(|file| file.path.join("/")).collect();
    let pads = [".pad/31072", ".pad/32758", ".pad/15536"];
    let expected =
        ["a", "b0", pads[0], "c", "d", "e0", "empty", pads[1], "sub/b"].map(str::to_owned);
    assert_eq!(paths, expected);
    let data = ours.files.iter().filter(|file| file.is_stored() && file.length != 0);
    assert!(data.clone().all(|file| file.offset % 32_768 == 0));
    assert!(ours.files.iter().all(|file| file.pad == file.path[0].starts_with(".pad")));
    assert!(folder.ends(0, &["verify", "data.torrent"]).contains("all 9 pieces match"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let theirs = Command::new("python3")
        .env("PYTHONPATH", root.join(".peers/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(root.join("tests/interop/seed.py"))
        .arg("padded")
        .args([folder.0.join("data").as_os_str(), "32768".as_ref()])
        .arg(folder.0.join("theirs.torrent"))
        .output();
    if !theirs.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: libtorrent is not installed");
        return;
    }
    assert_eq!(ours.info_hash, folder.torrent("theirs.torrent").info_hash);
}
