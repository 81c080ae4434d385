//! The real program on machines of its own: what only a network shows. The local network's search
//! (BEP 14), machines without IPv4 or without IPv6, and what a private torrent (BEP 27) sends.
//!
//! Needs root, Linux and iproute2; the tests skip with a reason where namespaces cannot be made.

mod support;

use std::path::Path;
use std::time::Duration;

use support::fixture::{Fixture, Recipe};
use support::netns::{Cable, FAMILIES, Family, Host};
use support::place::Place;
use support::run::{LIMIT, Run, Running};

/// A whole download, the search for peers included.
const SOON: Duration = Duration::from_secs(10);

const MIB: usize = 1 << 20;

fn fixture(name: &str) -> Fixture {
    Recipe::file(name, MIB).make()
}

fn seed(host: &Host, fixture: &Fixture, place: &Place, args: &[&str]) -> Running {
    fixture.write_to(&place.data);
    let run =
        host.piecemeal(&["seed", "-v", "--no-port-map"]).args(args).arg("-d").arg(&place.data);
    let mut running = run.arg(&place.torrent).start();
    running.wait_for("are here and verified");
    running
}

/// Fetches all, in time, and every byte is right.
fn get(host: &Host, fixture: &Fixture, place: &Place, args: &[&str]) {
    let run = host.piecemeal(&["get", "-v", "--no-port-map", "--stop-timeout", "30"]).args(args);
    let ended = run.arg("-d").arg(&place.data).arg(&place.torrent).run().expect(0);
    fixture.assert_in(&place.data);
    assert!(ended.wall < SOON, "{:?}: {}", ended.wall, ended.stderr);
}

/// Whoever comes second asks, whoever came first dials it: and again, if it is started again.
#[test]
fn two_machines_find_each_other_on_the_local_network() {
    for family in FAMILIES {
        let Some(Cable { hosts: [a, b] }) = &Cable::new(family) else { return };
        let fixture = fixture("lan.bin");
        let (home, away) = (Place::new(&fixture), Place::new(&fixture));
        let mut seed = seed(a, &fixture, &home, &["--no-tracker", "--no-dht"]);
        get(b, &fixture, &away, &["--no-tracker", "--no-dht"]);
        get(b, &fixture, &Place::new(&fixture), &["--no-tracker", "--no-dht"]);
        seed.interrupt();
        let ended = seed.finish(Duration::from_secs(5)).expect(130);
        assert!(ended.stderr.contains("uploaded 2.0 MiB"), "{family:?}: {}", ended.stderr);
    }
}

/// Both ways with libtorrent: it finds our seed, and we find its.
#[test]
fn libtorrent_and_we_find_each_other_on_the_local_network() {
    let Some(Cable { hosts: [a, b] }) = &Cable::new(Family::V4) else { return };
    if libtorrent(a, &["version"]).run().code != Some(0) {
        assert!(std::env::var_os("PIECEMEAL_REQUIRE_PEERS").is_none(), "no libtorrent here");
        return eprintln!("skipped: no libtorrent here; see `make peers`");
    }
    let fixture = fixture("lt.bin");
    let places = [(); 3].map(|()| Place::new(&fixture));
    let runs = |host: &Host, place: &Place| {
        let (data, at) = (place.data.display().to_string(), format!("{}:6881", host.ip()));
        let torrent = place.torrent.display().to_string();
        libtorrent(host, &["lan", &data, &at, "", &torrent]).start()
    };
    let mut ours = seed(a, &fixture, &places[0], &["--no-tracker", "--no-dht", "--no-pex"]);
    let mut theirs = runs(b, &places[1]);
    theirs.wait_for("torrent_finished");
    fixture.assert_in(&places[1].data);
    ours.interrupt();
    ours.finish(LIMIT).expect(130);
    get(a, &fixture, &places[2], &["--no-tracker", "--no-dht", "--no-pex"]);
    theirs.kill();
}

/// The helper of the interop tests, with the packages of `make peers`.
fn libtorrent(host: &Host, args: &[&str]) -> Run {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = format!("PYTHONPATH={}", root.join(".peers/python").display());
    let run = host.run("env").arg(path).arg("python3").arg(root.join("tests/interop/seed.py"));
    run.args(args)
}

/// Tracker, seed and get where one family is all there is, and where both are.
#[test]
fn everything_works_with_either_family_and_with_both() {
    for family in FAMILIES {
        let Some(Cable { hosts: [a, b] }) = &Cable::new(family) else { return };
        let ip = support::netns::in_url(a.ip());
        let any = if family == Family::V6 { "[::]:6969" } else { "0.0.0.0:6969" };
        let mut tracker = a.piecemeal(&["tracker", "--listen", any]).start();
        tracker.wait_for(&format!("udp://{ip}:6969/announce"));
        for scheme in ["http", "udp"] {
            let fixture = fixture(scheme);
            let url = format!("{scheme}://{ip}:6969/announce");
            let place = || Place::with_trackers(&fixture, &[&[&url]]);
            let (home, away) = (place(), place());
            let _seed = seed(a, &fixture, &home, &["--no-lsd", "--no-dht"]);
            get(b, &fixture, &away, &["--no-lsd", "--no-dht"]);
        }
        tracker.interrupt();
        tracker.finish(LIMIT).expect(130);
    }
}

/// A UDP tracker with both families is told over both, at the beginning and at the end: it knows us
/// only by the address that it sees.
#[test]
fn a_udp_tracker_with_both_families_is_told_over_both() {
    let Some(Cable { hosts: [a, b] }) = &Cable::new(Family::Both) else { return };
    let mut tracker = a.piecemeal(&["tracker", "-v"]).start();
    tracker.wait_for("/announce");
    let fixture = fixture("both.bin");
    let place = Place::with_trackers(&fixture, &[&["udp://both.test:6969/announce"]]);
    fixture.write_to(&place.data);
    let names = support::fixture::Folder::new("names");
    let hosts = names.file("hosts", b"10.0.0.1 both.test\nfd00::1 both.test\n");
    let run =
        b.piecemeal_with_names(&hosts, &["seed", "--no-lsd", "--no-dht", "--no-port-map", "-v"]);
    let mut seed = run.arg("-d").arg(&place.data).arg(&place.torrent).start();
    for from in ["10.0.0.2:6881", "[fd00::2]:6881"] {
        tracker.wait_for(&format!("{from} udp started"));
    }
    seed.interrupt();
    seed.finish(Duration::from_secs(5)).expect(130);
    for from in ["10.0.0.2:6881", "[fd00::2]:6881"] {
        tracker.wait_for(&format!("{from} udp stopped"));
    }
}

/// The trackers and the peers that the user names, and not one packet to anybody else.
#[test]
fn a_private_torrent_sends_nothing_to_anybody_but_its_trackers_and_peers() {
    let Some(Cable { hosts: [a, b] }) = &Cable::new(Family::Both) else { return };
    let url = format!("http://{}:6969/announce", a.ip());
    let mut tracker = a.piecemeal(&["tracker", "--listen", "0.0.0.0:6969"]).start();
    tracker.wait_for("/announce");
    for private in [true, false] {
        let recipe = Recipe::file(if private { "private" } else { "public" }, MIB);
        let fixture = if private { recipe.private().make() } else { recipe.make() };
        let mut tap = wiretap(b);
        let place = || Place::with_trackers(&fixture, &[&[&url]]);
        let (home, away) = (place(), place());
        // A node of the DHT that never answers: whoever looks there asks it.
        let node = ["--dht-bootstrap", &format!("{}:9", a.ip())];
        let mut seed = seed(a, &fixture, &home, &node);
        get(b, &fixture, &away, &node);
        seed.interrupt();
        seed.finish(LIMIT).expect(130);
        tap.wait_for("seen tcp");
        tap.kill();
        let seen = String::from_utf8(tap.finish(LIMIT).stdout).unwrap();
        if private {
            assert_eq!(seen.lines().collect::<Vec<_>>(), ["listening", "seen tcp"]);
        } else {
            let all = ["seen lsd", "seen dht", "seen pex"];
            assert!(
                all.iter().all(|kind| seen.contains(kind)),
                "the tap sees what is there: {seen}"
            );
        }
    }
}

fn wiretap(host: &Host) -> Running {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/wiretap.py");
    let mut running = host.run("python3").arg(script).arg("eth0").start();
    running.wait_for("listening");
    running
}
