//! Some files only, from libtorrent: onto the disk, and to standard output; and what aria2 makes of
//! the same numbers.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::client::{Client, Swarm};
use crate::payload::Payload;
use crate::process::{Process, free_port};
use crate::{Bed, DOWNLOAD_TIMEOUT, say};

/// Payload, the selection, and the files that it means. Neighbours share pieces with them; in the
/// hybrid torrent every other number is padding.
const CHOICES: [(&str, &str, &[&str]); 3] = [
    ("tree", "6,8", &["tree/nested/in/deep/folders/file.dat", "tree/Ünïcödé/файл.txt"]),
    ("tree", "9", &["tree/Ünïcödé/日本語 🎉.bin"]),
    ("hybrid", "3", &["hybrid/b/c.bin"]),
];

#[test]
fn selected_files_come_from_libtorrent_and_aria2_means_the_same() {
    let Some(bed) = Bed::new("selecting", "from_libtorrent", &["libtorrent", "aria2"]) else {
        return;
    };
    for (n, (name, select, files)) in CHOICES.into_iter().enumerate() {
        let payloads: Vec<&Payload> =
            Payload::all().iter().filter(|payload| payload.name == name).collect();
        let payload = payloads[0];
        let dir = bed.dir.join(n.to_string());
        fs::create_dir_all(&dir).expect("making a folder");
        let tracker = bed.tracker(&payloads);
        let trackers = [tracker.http()];
        let swarm = Swarm { payloads: &payloads, trackers: &trackers, peers: &[] };
        let seeder = Client::named("libtorrent").seed(&swarm, &dir.join("seeder"));
        tracker.wait_for_seeders(payload.info_hash, 1).unwrap_or_else(|e| panic!("{name}: {e}"));
        let right = dir.join("seeder/data");
        let torrent = payload.write_torrent(&dir, &trackers);
        let start = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).arg(&torrent).current_dir(&dir);
            let log = dir.join(format!("log {}", args.join(" ").replace('/', "_")));
            let mut process = Process::start(program, &command, log);
            let status = process.wait(DOWNLOAD_TIMEOUT);
            let done = status.is_some_and(|status| status.success());
            assert!(done, "{program} {args:?}: {status:?}\n{}", process.log_tail());
        };
        let (ours, peer) = (env!("CARGO_BIN_EXE_piecemeal"), seeder.addr().to_string());
        let port = free_port().to_string();
        let alone = ["--no-tracker", "--no-lsd", "--no-dht", "--listen", "127.0.0.1", "--peer"];
        let get = [&["get"], &alone[..], &[&peer, "-p", &port, "-s", select]].concat();

        start(ours, &[&get[..], &["-d", "ours"]].concat());
        assert_same(&right, &dir.join("ours"), files);
        if let [file] = files {
            let line = "exec \"$@\" > streamed";
            start("sh", &[&["-c", line, "sh", ours], &get[..], &["-o", "-"]].concat());
            let streamed = fs::read(dir.join("streamed")).expect("the output");
            assert!(streamed == fs::read(right.join(file)).expect("the payload"), "{file}");
        }
        // aria2 1.36 computes a wrong info hash for hybrids, and makes the neighbours too.
        if name != "hybrid" {
            let select = format!("--select-file={select}");
            let theirs = ["--no-conf", "--seed-time=0", "--enable-dht=false", "--disable-ipv6"];
            let folder = dir.join("theirs").display().to_string();
            let more = ["--bt-tracker-interval=1", "--dir", &folder, &select];
            start("aria2c", &[&theirs[..], &more[..]].concat());
            for file in files {
                let theirs = fs::read(dir.join("theirs").join(file)).expect("what aria2 fetched");
                assert!(theirs == fs::read(right.join(file)).expect("the payload"), "{file}");
            }
        }
        say(&format!("libtorrent feeds piecemeal -s {select} of {name}"));
    }
    bed.remove();
}

/// These files are there as they should be, and no others.
#[track_caller]
fn assert_same(right: &Path, found: &Path, files: &[&str]) {
    for file in files {
        let bytes = fs::read(found.join(file)).unwrap_or_else(|err| panic!("{file}: {err}"));
        assert!(bytes == fs::read(right.join(file)).expect("the payload"), "{file} differs");
    }
    let mut count = 0;
    let mut folders = vec![found.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            match entry.file_type().expect("a kind").is_dir() {
                true => folders.push(entry.path()),
                false => {
                    count += usize::from(!entry.file_name().to_string_lossy().starts_with('.'));
                }
            }
        }
    }
    assert_eq!(count, files.len(), "files below {}", found.display());
}
