//! `make demo`: a download to watch, all of it on this machine.
//!
//! A payload and its torrent in a temporary folder, a tracker on 127.0.0.1, three seeders on
//! 127.0.0.2 to 4 with a limit each, so that it takes some seconds; then the real `piecemeal get`,
//! with the terminal, as anybody would start it. Nothing of it leaves the machine or stays on it.

#[path = "../support/mod.rs"]
mod support;

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use support::fixture::{Fixture, Folder, Recipe};
use support::run::binary;
use support::seeder::{Seed, Seeder};
use support::tracker::Tracker;

const MIB: usize = 1 << 20;

/// Three of them send 64 MiB in about four seconds.
const RATES: [usize; 3] = [8 * MIB, 5 * MIB, 3 * MIB];

fn main() -> ExitCode {
    if let Err(what) = build() {
        eprintln!("demo: {what}");
        return ExitCode::FAILURE;
    }
    // Ctrl-C is for the child; we go on, and clean up.
    let _ =
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::new(AtomicBool::new(false)));
    println!("Making a payload of 64 MiB and its torrent ...");
    let fixture = payload();
    let folder = Folder::new("piecemeal-demo");
    let seeders: Vec<Seeder> = (0..RATES.len()).map(|n| seeder(n, &fixture)).collect();
    let tracker = Tracker::start(&seeders.iter().map(|seeder| seeder.addr).collect::<Vec<_>>());
    let torrent = folder.file("demo.torrent", &fixture.torrent(&[&[&tracker.http()]]));
    let data = folder.folder("downloads");
    for (seeder, rate) in seeders.iter().zip(RATES) {
        println!("A seeder at {} sends at most {} MiB/s.", seeder.addr, rate / MIB);
    }
    println!("A tracker at {} knows them.\n", tracker.addr);

    println!("$ piecemeal get demo.torrent --dir downloads");
    let start = Instant::now();
    let status = Command::new(binary()).arg("get").arg(torrent).arg("--dir").arg(&data).status();
    let time = start.elapsed();
    println!();
    match status {
        Ok(status) if status.success() => report(&fixture, &data, &seeders, time),
        Ok(status) => {
            println!("It ended with {status}.");
            ExitCode::FAILURE
        }
        Err(err) => {
            println!("{}: {err}", binary().display());
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

fn payload() -> Fixture {
    Recipe::tree("demo")
        .piece_length(256 << 10)
        .with("a film.bin", 48 * MIB)
        .with("its sound/left.bin", 8 * MIB - 12_345)
        .with("its sound/right.bin", 8 * MIB - 54_321)
        .with("read me first.bin", 66_666)
        .make()
}

fn seeder(n: usize, fixture: &Fixture) -> Seeder {
    let ip = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2 + n as u8));
    // Not every system takes all of 127.x for its own.
    let ip = if TcpListener::bind((ip, 0)).is_ok() { ip } else { Ipv4Addr::LOCALHOST.into() };
    let delay = Duration::from_millis(10 * (n as u64 + 1));
    Seed::default().at(ip).rate(RATES[n] as u64).delay(delay).start(fixture)
}

fn report(
    fixture: &Fixture,
    data: &std::path::Path,
    seeders: &[Seeder],
    time: Duration,
) -> ExitCode {
    let size = fixture.data.len() as u64;
    let (files, pieces) = (fixture.files.len(), fixture.pieces());
    for seeder in seeders {
        let (served, mib) = (seeder.served(), seeder.served() / MIB as u64);
        println!("{} sent {mib} MiB, {} %.", seeder.addr, 100 * served / size);
    }
    if let Err(difference) = fixture.difference(data) {
        println!("But the bytes are not right: {difference}");
        return ExitCode::FAILURE;
    }
    let seconds = time.as_secs_f64();
    println!("{files} files, {pieces} pieces, {size} bytes in {seconds:.1} s: compared with the");
    println!("original byte by byte, all equal. The folder is removed again.");
    ExitCode::SUCCESS
}
