//! Real BitTorrent clients, on loopback: `piecemeal get` against libtorrent, aria2, Transmission,
//! rtorrent, rqbit and WebTorrent, found through an HTTP tracker, a UDP tracker and `--peer`.
//!
//! `make peers` installs them. A test whose client is absent says so and passes; with
//! `PIECEMEAL_REQUIRE_PEERS=1` it fails. Each client has four tests:
//!
//! ```text
//! feeds_libtorrent     the client seeds, libtorrent fetches    the test bed is sound, and so is
//! fed_by_libtorrent    libtorrent seeds, the client fetches    this client in this role
//! feeds_piecemeal      the client seeds, we fetch              every payload by every route
//! fed_by_piecemeal     we seed, the client fetches             every payload by every tracker
//! ```
//!
//! Two more, `all_feed_piecemeal` and `piecemeal_feeds_all`, have them all in one swarm. [`client`]
//! has the table of clients, [`payload`] what is transferred.

mod client;
mod exchange;
mod giving;
mod payload;
mod probe;
mod process;
mod tracker;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use client::{CLIENTS, Client, Running, Swarm};
use payload::{EmptyFiles, Payload};
use process::{Process, free_port, program};
use tracker::Tracker;

/// For one download of some megabytes: Transmission may take ten seconds to unchoke, and all the
/// clients share two cores.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(90);

macro_rules! clients {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn feeds_libtorrent() {
                super::feeds_libtorrent(stringify!($name));
            }
            #[test]
            fn fed_by_libtorrent() {
                super::fed_by_libtorrent(stringify!($name));
            }
            #[test]
            fn feeds_piecemeal() {
                super::feeds_piecemeal(stringify!($name));
            }
            #[test]
            fn fed_by_piecemeal() {
                super::giving::fed_by_piecemeal(stringify!($name));
            }
        }
    )*};
}

clients! { libtorrent aria2 transmission rtorrent rqbit webtorrent }

/// How piecemeal learns of the seeder.
#[derive(Debug, Clone, Copy)]
enum Route {
    Http,
    Udp,
    Peer,
}

fn feeds_piecemeal(name: &str) {
    let Some(bed) = Bed::new(name, "feeds_piecemeal", &[name]) else { return };
    let client = Client::named(name);
    let payloads = bed.payloads(client.cannot_seed);
    let tracker = bed.tracker(&payloads);
    let trackers = [tracker.http(), tracker.udp()];
    let swarm = Swarm { payloads: &payloads, trackers: &trackers, peers: &[] };
    let start = Instant::now();
    let seeder = client.seed(&swarm, &bed.dir.join("seeder"));
    for payload in &payloads {
        let seen = tracker.wait_for_seeders(payload.info_hash, 1);
        seen.unwrap_or_else(|e| panic!("{}: {e}\n{}", payload.name, seeder.log_tail()));
    }
    let mut times = format!("up after {:.1} s", start.elapsed().as_secs_f32());
    for route in [Route::Http, Route::Udp, Route::Peer] {
        let start = Instant::now();
        // The payloads at the same time, the routes one after the other: two downloads of one
        // torrent would find each other and not depend on the seeder.
        thread::scope(|scope| {
            for payload in &payloads {
                let (bed, tracker, seeder) = (&bed, &tracker, &seeder);
                scope.spawn(move || get(bed, payload, route, tracker, seeder));
            }
        });
        times += &format!(", {route:?} {:.1} s", start.elapsed().as_secs_f32());
    }
    say(&format!("{name} feeds piecemeal, {} payloads: {times}", payloads.len()));
    bed.remove();
}

/// All clients seed at once, and the tracker names them all: one swarm of six kinds of peer.
#[test]
fn all_feed_piecemeal() {
    let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
    let Some(bed) = Bed::new("all", "feed_piecemeal", &names) else { return };
    // What every client can seed.
    let refused: Vec<_> = CLIENTS.iter().flat_map(|client| client.cannot_seed).copied().collect();
    let payloads = bed.payloads(&refused);
    let tracker = bed.tracker(&payloads);
    let trackers = [tracker.http(), tracker.udp()];
    let swarm = Swarm { payloads: &payloads, trackers: &trackers, peers: &[] };
    let seeders: Vec<Running> =
        CLIENTS.iter().map(|client| client.seed(&swarm, &bed.dir.join(client.name))).collect();
    for payload in &payloads {
        let seen = tracker.wait_for_seeders(payload.info_hash, seeders.len());
        seen.unwrap_or_else(|e| panic!("{}: {e}", payload.name));
    }
    let start = Instant::now();
    for payload in &payloads {
        get(&bed, payload, Route::Http, &tracker, &seeders[0]);
    }
    let time = start.elapsed().as_secs_f32();
    say(&format!("all feed piecemeal, {} payloads: {time:.1} s", payloads.len()));
    bed.remove();
}

/// One download by the program under test: exit code 0, every byte right, no file left over.
fn get(bed: &Bed, payload: &Payload, route: Route, tracker: &Tracker, seeder: &Running) {
    let what = format!("{} by {route:?}", payload.name);
    let work = bed.dir.join(format!("get {what}"));
    let out = work.join("out");
    fs::create_dir_all(&out).expect("making a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_piecemeal"));
    command.args(["get", "--no-lsd", "--no-dht"]).arg("--dir").arg(&out);
    command.args(["--listen", "127.0.0.1"]);
    command.args(["--port", &free_port().to_string(), "--stop-timeout", "60"]);
    let trackers = match route {
        Route::Http => vec![tracker.http()],
        Route::Udp => vec![tracker.udp()],
        Route::Peer => vec![],
    };
    if trackers.is_empty() {
        command.arg("--no-tracker").arg("--peer").arg(seeder.addr().to_string());
    }
    command.arg(payload.write_torrent(&work, &trackers));
    let mut process = Process::start("piecemeal", &command, work.join("log"));
    let Some(status) = process.wait(DOWNLOAD_TIMEOUT) else {
        panic!("{what}: still at it after {DOWNLOAD_TIMEOUT:?}\n{}", process.log_tail());
    };
    assert!(status.success(), "{what}: {status}\n{}\n{}", process.log_tail(), seeder.log_tail());
    let difference = payload.difference(&out, EmptyFiles::MustBe);
    assert_eq!(difference, None, "{what}\n{}", process.log_tail());
    assert_eq!(payload.stranger(&out), None, "{what}: a file that is not the torrent's");
}

/// The client seeds: libtorrent, told its address, must get everything.
fn feeds_libtorrent(name: &str) {
    let Some(bed) = Bed::new(name, "feeds_libtorrent", &[name, "libtorrent"]) else { return };
    let client = Client::named(name);
    let payloads = bed.payloads(client.cannot_seed);
    let tracker = bed.tracker(&payloads);
    let start = Instant::now();
    let trackers = [tracker.http()];
    let swarm = Swarm { payloads: &payloads, trackers: &trackers, peers: &[] };
    let seeder = client.seed(&swarm, &bed.dir.join("seeder"));
    let up = start.elapsed().as_secs_f32();
    let swarm = Swarm { peers: &[seeder.addr()], ..swarm };
    let out = bed.dir.join("out");
    let mut leecher = Client::named("libtorrent").fetch(&swarm, &out, &bed.dir.join("leecher"));
    for payload in &payloads {
        leecher.wait_for_download(payload, &out, DOWNLOAD_TIMEOUT);
    }
    let all = start.elapsed().as_secs_f32();
    say(&format!("{name} feeds libtorrent: up after {up:.1} s, all after {all:.1} s"));
    bed.remove();
}

/// libtorrent seeds and dials: the client must get everything. Some clients ignore a loopback
/// address that a tracker names, so it is not left to them.
fn fed_by_libtorrent(name: &str) {
    let Some(bed) = Bed::new(name, "fed_by_libtorrent", &[name, "libtorrent"]) else { return };
    let client = Client::named(name);
    let payloads = bed.payloads(&[client.cannot_seed, client.cannot_fetch].concat());
    let tracker = bed.tracker(&payloads);
    let start = Instant::now();
    let trackers = [tracker.http()];
    let swarm = Swarm { payloads: &payloads, trackers: &trackers, peers: &[] };
    let out = bed.dir.join("out");
    let mut leecher = client.fetch(&swarm, &out, &bed.dir.join("leecher"));
    let up = start.elapsed().as_secs_f32();
    let peers: [SocketAddr; 1] = [leecher.addr()];
    let swarm = Swarm { peers: &peers, ..swarm };
    let _seeder = Client::named("libtorrent").seed(&swarm, &bed.dir.join("seeder"));
    for payload in &payloads {
        leecher.wait_for_download(payload, &out, DOWNLOAD_TIMEOUT);
    }
    let all = start.elapsed().as_secs_f32();
    say(&format!("libtorrent feeds {name}: up after {up:.1} s, all after {all:.1} s"));
    bed.remove();
}

/// What one test has: a name and a folder.
struct Bed {
    name: String,
    dir: PathBuf,
}

impl Bed {
    /// `None`, after saying why, if the machine lacks one of `clients` or the tracker.
    fn new(client: &str, test: &str, clients: &[&str]) -> Option<Bed> {
        let name = format!("{client}::{test}");
        let mut missing: Vec<&str> =
            clients.iter().filter_map(|client| Client::named(client).missing()).collect();
        missing.extend(program("opentracker").is_none().then_some("opentracker"));
        missing.extend(program("setpriv").is_none().then_some("setpriv"));
        if !missing.is_empty() {
            let reason =
                format!("{name} skipped: no {} here; see `make peers`", missing.join(", "));
            assert!(std::env::var_os("PIECEMEAL_REQUIRE_PEERS").is_none(), "{reason}");
            say(&reason);
            return None;
        }
        // Left behind by a test that failed; its logs are worth more than the space.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{client}-{test}"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("making a folder");
        Some(Bed { name, dir })
    }

    /// All payloads but those that `except` names; it has the reason, which is printed.
    fn payloads(&self, except: &[(&str, &str)]) -> Vec<&'static Payload> {
        for (payload, reason) in except {
            say(&format!("{} skips {payload}: {reason}", self.name));
        }
        let wanted =
            |payload: &&'static Payload| except.iter().all(|(name, _)| *name != payload.name);
        Payload::all().iter().filter(wanted).collect()
    }

    fn tracker(&self, payloads: &[&Payload]) -> Tracker {
        let hashes: Vec<_> = payloads.iter().map(|payload| payload.info_hash).collect();
        Tracker::start(&self.dir, &hashes)
    }

    /// Called where a test has passed.
    fn remove(self) {
        let _ = fs::remove_dir_all(self.dir);
    }
}

/// A line that is shown although the test passes; `println!` would be swallowed.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "interop: {line}");
}
