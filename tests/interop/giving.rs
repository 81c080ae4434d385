//! `piecemeal seed` at the other end: every client fetches from it, and all of them together with
//! `piecemeal get` in one swarm.
//!
//! ```text
//! fed_by_piecemeal    we seed, the client fetches     every payload; it dials us, or we it
//! piecemeal_feeds_all we seed, all fetch at once      one swarm of seven kinds of peer
//! ```

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::client::{CLIENTS, Client, Running, Swarm};
use crate::payload::{EmptyFiles, Payload};
use crate::process::{Process, free_port};
use crate::tracker::Tracker;
use crate::{Bed, DOWNLOAD_TIMEOUT, say};

/// Through which tracker the client and our seed find each other.
#[derive(Debug, Clone, Copy)]
enum Through {
    OursByHttp,
    OursByUdp,
    Opentracker,
}

/// We seed: the client must get every byte of every payload.
pub fn fed_by_piecemeal(name: &str) {
    let Some(bed) = Bed::new(name, "fed_by_piecemeal", &[name]) else { return };
    let client = Client::named(name);
    let payloads = bed.payloads(&[client.cannot_seed, client.cannot_fetch].concat());
    let mut times = String::new();
    for through in [Through::OursByHttp, Through::OursByUdp, Through::Opentracker] {
        let start = Instant::now();
        feed(client, &payloads, through, &bed.dir.join(format!("{through:?}")));
        times += &format!(", {through:?} {:.1} s", start.elapsed().as_secs_f32());
    }
    say(&format!("piecemeal feeds {name}, {} payloads{times}", payloads.len()));
    bed.remove();
}

fn feed(client: &Client, payloads: &[&Payload], through: Through, dir: &Path) {
    fs::create_dir_all(dir).expect("making a folder");
    let hashes: Vec<_> = payloads.iter().map(|payload| payload.info_hash).collect();
    let tracker = match through {
        Through::Opentracker => Tracker::start(dir, &hashes),
        Through::OursByHttp | Through::OursByUdp => Tracker::ours(dir),
    };
    let trackers = match through {
        Through::OursByHttp => vec![tracker.http()],
        Through::OursByUdp => vec![tracker.udp()],
        // It hangs up on some of five announces at once, and the client is sulky for minutes.
        Through::Opentracker => vec![tracker.http(), tracker.udp()],
    };
    let swarm = Swarm { payloads, trackers: &trackers, peers: &[] };
    let out = dir.join("out");
    let fetch = || client.fetch(&swarm, &out, &dir.join("leecher"));
    let known = |tracker: &Tracker, payload: &Payload| {
        let seen = tracker.wait_for_leechers(payload.info_hash, 1);
        seen.unwrap_or_else(|e| panic!("{}: {e}\n{}", payload.name, tracker.log_tail()));
    };
    // Whoever comes second learns of the first from the tracker, and dials it.
    let (mut leecher, mut seeds): (Running, Vec<Seed>);
    if client.dials_us && !matches!(through, Through::Opentracker) {
        seeds = seed_all(&swarm, &tracker, dir);
        leecher = fetch();
    } else {
        leecher = fetch();
        payloads.iter().for_each(|payload| known(&tracker, payload));
        seeds = seed_all(&swarm, &tracker, dir);
    }
    for payload in payloads {
        leecher.wait_for_download(payload, &out, DOWNLOAD_TIMEOUT);
    }
    seeds.iter_mut().for_each(Seed::assert_alive);
}

/// `piecemeal seed` of one payload.
struct Seed(Process);

impl Seed {
    fn start(payload: &Payload, trackers: &[String], dir: &Path) -> Seed {
        let work = dir.join(format!("seed {}", payload.name));
        let data = work.join("data");
        payload.write_data(&data);
        Seed(ours("seed", payload, trackers, &work, &data))
    }

    fn assert_alive(&mut self) {
        if let Some(status) = self.0.ended() {
            panic!("our seed ended: {status}\n{}", self.0.log_tail());
        }
    }
}

/// One seed for each payload, all of which the tracker knows of at the end (it is scraped).
fn seed_all(swarm: &Swarm, tracker: &Tracker, dir: &Path) -> Vec<Seed> {
    let start = |payload: &&Payload| Seed::start(payload, swarm.trackers, dir);
    let seeds: Vec<Seed> = swarm.payloads.iter().map(start).collect();
    for (payload, seed) in swarm.payloads.iter().zip(&seeds) {
        let seen = tracker.wait_for_seeders(payload.info_hash, 1);
        let logs = || format!("{}\n{}", seed.0.log_tail(), tracker.log_tail());
        seen.unwrap_or_else(|e| panic!("{}: {e}\n{}", payload.name, logs()));
    }
    seeds
}

/// The program under test, seeding from or fetching to `data`.
fn ours(what: &str, payload: &Payload, trackers: &[String], work: &Path, data: &Path) -> Process {
    fs::create_dir_all(data).expect("making a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_piecemeal"));
    command.args([
        what,
        "--no-lsd",
        "--no-dht",
        "-v",
        "--listen",
        "127.0.0.1",
        "--port",
        &free_port().to_string(),
    ]);
    command.arg("--dir").arg(data).arg(payload.write_torrent(work, trackers));
    Process::start(&format!("piecemeal {what}"), &command, work.join("log"))
}

/// All clients and two of ours fetch at once from one seed of ours: everybody completes, whoever
/// they get it from.
#[test]
fn piecemeal_feeds_all() {
    let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
    let Some(bed) = Bed::new("all", "fed_by_piecemeal", &names) else { return };
    let refused: Vec<_> = CLIENTS
        .iter()
        .flat_map(|client| [client.cannot_seed, client.cannot_fetch].concat())
        .collect();
    // One after the other: Transmission shakes hands with one caller from an address at a time, and
    // here all of them have the same.
    for payload in bed.payloads(&refused) {
        feed_all(&bed.dir.join(payload.name), payload);
    }
    bed.remove();
}

fn feed_all(dir: &Path, payload: &Payload) {
    fs::create_dir_all(dir).expect("making a folder");
    let tracker = Tracker::ours(dir);
    let trackers = [tracker.http(), tracker.udp()];
    let swarm = Swarm { payloads: &[payload], trackers: &trackers, peers: &[] };
    let out = |name: &str| dir.join(name).join("out");
    // The seed comes last, so that it learns of those too that dial nobody at a loopback address.
    let mut leechers: Vec<Running> = CLIENTS
        .iter()
        .map(|client| client.fetch(&swarm, &out(client.name), &dir.join(client.name)))
        .collect();
    let start = Instant::now();
    let get = |n: usize| {
        let work = dir.join(format!("get {n}"));
        let data = work.join("out");
        (ours("get", payload, &trackers, &work, &data), data)
    };
    let gets = [get(1), get(2)];
    let seen = tracker.wait_for_leechers(payload.info_hash, CLIENTS.len());
    seen.unwrap_or_else(|e| panic!("{}: {e}\n{}", payload.name, tracker.log_tail()));
    let mut seeds = seed_all(&swarm, &tracker, dir);
    for (mut process, data) in gets {
        let status = process.wait(DOWNLOAD_TIMEOUT);
        let done = status.is_some_and(|status| status.success());
        assert!(done, "{}: {status:?}\n{}", payload.name, process.log_tail());
        let difference = payload.difference(&data, EmptyFiles::MustBe);
        assert_eq!(difference, None, "{}", process.log_tail());
    }
    let ours = start.elapsed().as_secs_f32();
    for (client, leecher) in CLIENTS.iter().zip(&mut leechers) {
        leecher.wait_for_download(payload, &out(client.name), DOWNLOAD_TIMEOUT);
    }
    seeds.iter_mut().for_each(Seed::assert_alive);
    let (name, all) = (payload.name, start.elapsed().as_secs_f32());
    say(&format!("piecemeal feeds all {name}: ours after {ours:.1} s, everybody after {all:.1} s"));
}
