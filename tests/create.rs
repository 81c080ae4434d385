//! `create` and `verify`: the real binary makes a torrent and checks its data, good and spoilt.

use std::fs;
use std::path::PathBuf;
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
