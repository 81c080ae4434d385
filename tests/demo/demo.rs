//! `make demo`: a swarm to watch, all of it on this machine, made of this one program only.
//!
//! ```text
//! create ──► tracker ──► seed (4 MiB/s) ──► get × 4 (4 MiB/s up each), which give to each other
//! ```
//!
//! The first `get` has the terminal, as anybody would start it; the others and the seed report by
//! `--json`, and from that comes the table of who got what from whom. Everybody listens at 127.0.0.1,
//! at a port of its own. Nothing of it leaves the machine or stays on it.

#[path = "../support/mod.rs"]
mod support;

mod report;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use report::Account;
use support::fixture::{Fixture, Folder, Recipe};
use support::run::{Run, Running, binary};

const MIB: usize = 1 << 20;

/// What everybody may send a second, as `-u` has it and in numbers: 24 MiB then take the seed six
/// seconds once, and 24 seconds if it had to feed all four alone.
const RATE: &str = "4M";
const RATE_MIB: usize = 4;

const GETS: usize = 4;

/// Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    // Ctrl-C is for the children; we go on, and clean up.
    let _ =
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::new(AtomicBool::new(false)));
    match build().and_then(|()| demo()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("demo: {what}");
            ExitCode::FAILURE
        }
    }
}

/// `cargo run --example` does not build the program itself.
fn build() -> Result<(), String> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--bin", "piecemeal"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    match command.current_dir(env!("CARGO_MANIFEST_DIR")).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo build: {status}")),
        Err(err) => Err(format!("cargo build: {err}")),
    }
}

fn demo() -> Result<(), String> {
    let fixture = payload();
    let folder = Folder::new("piecemeal-demo");
    let home = folder.folder("seed");
    fixture.write_to(&home);
    let tracker = free_addr();
    let torrent = folder.0.join("demo.torrent");
    let _tracker = start_tracker(tracker)?;
    create(&home.join("demo"), &torrent, tracker)?;
    let mut seed = member(&["seed", "--json", "-u", RATE], &torrent, &home);
    seed.wait_for(r#""event":"complete""#);
    let names: Vec<String> = (1..=GETS).map(|n| format!("get {n}")).collect();
    let dirs: Vec<PathBuf> = names.iter().map(|name| folder.folder(name)).collect();
    // They stay until they are told to go, so that the first one has somebody to get from.
    let words = ["get", "--json", "-u", RATE, "--seed-time", "10"];
    println!("\n$ piecemeal get demo.torrent -u {RATE} --seed-time 10          (three of them)");
    let others: Vec<Running> = dirs[1..].iter().map(|dir| member(&words, &torrent, dir)).collect();
    println!("$ piecemeal get demo.torrent -u {RATE}\n");
    let start = Instant::now();
    first_get(&torrent, &dirs[0])?;
    let mut accounts = Vec::new();
    for mut other in others {
        other.wait_for(r#""event":"complete""#);
        accounts.push(end_of(other)?);
    }
    let time = start.elapsed();
    accounts.insert(0, end_of(seed)?);
    for (name, dir) in names.iter().zip(&dirs) {
        fixture.difference(dir).map_err(|difference| format!("{name}: {difference}"))?;
    }
    report::table(&names, &accounts);
    last_words(&fixture, &accounts[0], time);
    Ok(())
}

fn payload() -> Fixture {
    Recipe::tree("demo")
        .with("a film.bin", 20 * MIB)
        .with("its sound/left.bin", 2 * MIB - 12_345)
        .with("its sound/right.bin", 2 * MIB - 54_321)
        .with("read me first.bin", 66_666)
        .make()
}

/// A port of 127.0.0.1 that is free now.
fn free_addr() -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.local_addr().expect("bound")
}

fn start_tracker(addr: SocketAddr) -> Result<Running, String> {
    println!("$ piecemeal tracker --listen {addr}");
    let running = Run::piecemeal(&["tracker", "--quiet", "--listen", &addr.to_string()]).start();
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(addr).is_err() {
        if until < Instant::now() {
            return Err("the tracker does not listen".to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(running)
}

fn create(payload: &Path, torrent: &Path, tracker: SocketAddr) -> Result<(), String> {
    let url = format!("http://{tracker}/announce");
    println!("$ piecemeal create demo -o demo.torrent -a {url}\n");
    let mut command = Command::new(binary());
    command.args(["create", "-a", &url, "-o"]).arg(torrent).arg(payload);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("create: {status}")),
        Err(err) => Err(format!("{}: {err}", binary().display())),
    }
}

/// One of the swarm, which tells what happens as JSON.
fn member(words: &[&str], torrent: &Path, dir: &Path) -> Running {
    if words[0] == "seed" {
        println!("\n$ piecemeal {} demo.torrent", words.join(" "));
    }
    Run::piecemeal(words).args(place_to_listen()).arg("-d").arg(dir).arg(torrent).start()
}

fn place_to_listen() -> [String; 4] {
    let addr = free_addr();
    ["--listen".into(), addr.ip().to_string(), "--port".into(), addr.port().to_string()]
}

/// The one to watch.
fn first_get(torrent: &Path, dir: &Path) -> Result<(), String> {
    let mut command = Command::new(binary());
    command
        .args(["get", "--no-dht", "-u", RATE])
        .args(place_to_listen())
        .arg("-d")
        .arg(dir)
        .arg(torrent);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the first get: {status}")),
        Err(err) => Err(format!("{}: {err}", binary().display())),
    }
}

/// Tells one to go; what it says at its end.
fn end_of(mut running: Running) -> Result<Account, String> {
    running.interrupt();
    let ended = running.try_finish(PATIENCE)?;
    Account::of(&String::from_utf8_lossy(&ended.stdout))
        .ok_or_else(|| format!("one of the swarm gave no account; it said: {}", ended.stderr))
}

fn last_words(fixture: &Fixture, seed: &Account, time: Duration) {
    let size = fixture.data.len();
    let copies = seed.sent() as f64 / size as f64;
    let (seconds, alone) = (time.as_secs_f64(), GETS * size / (RATE_MIB * MIB));
    println!("\nThe seed gave {copies:.2} copies, and {GETS} were complete after {seconds:.1} s;");
    println!("a server with the seed's {RATE_MIB} MiB/s would have taken {alone} s.");
    println!("Every file of every copy is compared with the original, byte by byte: all equal.");
}
