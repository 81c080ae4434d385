//! The DHT with real clients: no tracker, no peer exchange, no local network, only nodes on loopback.
//!
//! Six libtorrent nodes are the DHT. Transmission is not among those who fetch: its DHT takes no
//! address in 127.0.0.0/8.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::payload::{EmptyFiles, Payload, python};
use crate::process::{Process, free_port, poll};
use crate::{Bed, DOWNLOAD_TIMEOUT, say};

/// From the start of the program to the last byte (the goal), on two cores shared by all.
const GOAL: Duration = Duration::from_secs(10);

/// Nodes of the DHT, beside ours.
const NODES: u16 = 6;

/// Six ports in a row.
fn ports() -> u16 {
    let first = (0..100).map(|_| free_port()).find(|&first| {
        (1..NODES).all(|n| std::net::UdpSocket::bind(("127.0.0.1", first + n)).is_ok())
    });
    first.expect("six free ports in a row")
}

fn payload() -> &'static Payload {
    Payload::all().iter().find(|payload| payload.name == "single").expect("in the list")
}

/// libtorrent: `nodes` nodes at these ports, and one of them seeds or fetches.
fn libtorrent(work: &Path, data: &Path, port: u16, nodes: u16, with: bool) -> Process {
    fs::create_dir_all(work).expect("making a folder");
    fs::create_dir_all(data).expect("making a folder");
    let mut command = python("seed.py");
    command.arg("dht").arg(data).arg(format!("127.0.0.1:{port}")).arg(nodes.to_string());
    if with {
        command.arg(payload().write_torrent(work, &[]));
    }
    let log = work.join("log");
    let process = Process::start("libtorrent", &command, log.clone());
    wait_for(&log, "dht ready", &process);
    process
}

fn ours(command: &str, work: &Path, data: &Path, port: u16) -> Process {
    fs::create_dir_all(work).expect("making a folder");
    let mut program = Command::new(env!("CARGO_BIN_EXE_piecemeal"));
    program.args([command, "-v", "--no-lsd", "--no-pex", "--no-port-map", "--no-tracker"]);
    program.args(["--listen", "127.0.0.1", "--port", &free_port().to_string()]);
    program.args(["--dht-bootstrap", &format!("127.0.0.1:{port}"), "--dir"]).arg(data);
    program.env("XDG_CACHE_HOME", work.join("cache"));
    program.arg(payload().write_torrent(work, &[]));
    Process::start("piecemeal", &program, work.join("log"))
}

fn wait_for(log: &Path, text: &str, process: &Process) {
    let said = || fs::read_to_string(log).is_ok_and(|said| said.contains(text)).then_some(());
    let found = poll(DOWNLOAD_TIMEOUT, said);
    assert!(found.is_some(), "no \"{text}\"\n{}", process.log_tail());
}

#[test]
fn a_seed_is_found_by_the_dht_alone() {
    let Some(bed) = Bed::new("dht", "get", &["libtorrent"]) else { return };
    let port = ports();
    let (seed, get) = (bed.dir.join("seed"), bed.dir.join("get"));
    payload().write_data(&seed);
    let nodes = libtorrent(&bed.dir.join("nodes"), &seed, port, NODES, true);
    let start = Instant::now();
    let mut process = ours("get", &get, &get.join("out"), port);
    let status = process.wait(DOWNLOAD_TIMEOUT);
    let done = status.is_some_and(|status| status.success());
    assert!(done, "{status:?}\n{}\n{}", process.log_tail(), nodes.log_tail());
    assert_eq!(payload().difference(&get.join("out"), EmptyFiles::MustBe), None);
    say(&format!("found by DHT and fetched in {:.1} s", start.elapsed().as_secs_f32()));
    assert!(start.elapsed() < GOAL, "{:?}", start.elapsed());
    bed.remove();
}

/// A DHT, and a seed of ours that has announced itself there.
fn announced(bed: &Bed, port: u16) -> (Process, Process) {
    let nodes = libtorrent(&bed.dir.join("nodes"), &bed.dir.join("nothing"), port, NODES, false);
    let (work, data) = (bed.dir.join("seed"), bed.dir.join("seed").join("data"));
    payload().write_data(&data);
    let seed = ours("seed", &work, &data, port);
    wait_for(&work.join("log"), "told of us", &seed);
    (nodes, seed)
}

#[test]
fn libtorrent_finds_our_announce() {
    let Some(bed) = Bed::new("dht", "libtorrent", &["libtorrent"]) else { return };
    let port = ports();
    let (_nodes, seed) = announced(&bed, port);
    let start = Instant::now();
    let out = bed.dir.join("out");
    let fetches = libtorrent(&bed.dir.join("fetches"), &out, port, 0, true);
    let done = || payload().difference(&out, EmptyFiles::MustBe).is_none().then_some(());
    let logs = || format!("{}\n{}", fetches.log_tail(), seed.log_tail());
    assert!(poll(DOWNLOAD_TIMEOUT, done).is_some(), "{}", logs());
    say(&format!("libtorrent found us by DHT in {:.1} s", start.elapsed().as_secs_f32()));
    bed.remove();
}

#[test]
fn aria2_finds_our_announce() {
    let Some(bed) = Bed::new("dht", "aria2", &["libtorrent", "aria2"]) else { return };
    let port = ports();
    let (_nodes, seed) = announced(&bed, port);
    let start = Instant::now();
    let (work, out) = (bed.dir.join("aria2"), bed.dir.join("out"));
    fs::create_dir_all(&work).expect("making a folder");
    let own = free_port();
    let mut command = Command::new("aria2c");
    command.args(["--no-conf", "--seed-time=0", "--file-allocation=none", "--disable-ipv6"]);
    command.args(["--enable-dht=true", "--enable-dht6=false", "--bt-enable-lpd=false"]);
    command.args(["--enable-peer-exchange=false", "--summary-interval=0"]);
    command.arg(format!("--dht-entry-point=127.0.0.1:{port}"));
    command.arg(format!("--dht-listen-port={own}")).arg(format!("--listen-port={own}"));
    command.arg("--dht-file-path").arg(work.join("dht.dat")).arg("--dir").arg(&out);
    command.arg(payload().write_torrent(&work, &[]));
    let mut aria2 = Process::start("aria2c", &command, work.join("log"));
    let status = aria2.wait(DOWNLOAD_TIMEOUT);
    let done = status.is_some_and(|status| status.success());
    assert!(done, "{status:?}\n{}\n{}", aria2.log_tail(), seed.log_tail());
    assert_eq!(payload().difference(&out, EmptyFiles::MustBe), None);
    say(&format!("aria2 found us by DHT in {:.1} s", start.elapsed().as_secs_f32()));
    bed.remove();
}
