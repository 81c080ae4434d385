//! `--max-download-limit` and `--max-upload-limit`: one bucket over all connections, for ten seconds,
//! each second of them.

mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use support::fixture::Recipe;
use support::place::Place;
use support::run::{LIMIT, binary};
use support::seeder::{Seed, Seeder};
use support::{free_addr, own_ip};

const RATE: f64 = 1_000_000.0;
const SECONDS: f64 = 10.0;

/// How many peers share it. Four that have nobody else are a crowd, which a seed rations: then it is not
/// the limit alone that sets the pace.
const PEERS: usize = 3;

/// Follows what a program says of itself every second, until it has transferred `total` bytes. All in
/// all it must be at the rate, and smooth: no second may be far from it but by the hurry of the machine.
#[track_caller]
fn assert_rate(what: &str, key: &str, total: u64, child: &mut Child) {
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let number = |line: &str| -> Option<u64> {
        let (_, rest) = line.split_once(&format!("\"{key}\":"))?;
        rest.split([',', '}']).next()?.parse().ok()
    };
    let mut said: Vec<(Instant, u64)> = Vec::new();
    for line in lines.by_ref().map_while(Result::ok) {
        let count = number(&line).unwrap_or(0);
        // The first moments are handshakes, and what an idle bucket has saved.
        if count != 0 {
            said.push((Instant::now(), count));
        }
        if total <= count {
            break;
        }
    }
    // Whoever stops reading ends it before its time.
    std::thread::spawn(move || lines.for_each(drop));
    // The last one is the end, which may be at any moment.
    said.pop();
    let rate = |from: (Instant, u64), to: (Instant, u64)| {
        (to.1 - from.1) as f64 / to.0.duration_since(from.0).as_secs_f64() / RATE
    };
    let seconds: Vec<f64> = said.windows(2).map(|pair| rate(pair[0], pair[1])).collect();
    let (first, last) = (said[0], said[said.len() - 1]);
    let time = last.0.duration_since(first.0).as_secs_f64();
    let all = rate(first, last);
    println!("{what}: {all:.3} of the limit over {time:.1} s; by the second: {seconds:.2?}");
    assert!(SECONDS - 3.0 < time, "{what}: only {time} s");
    assert!((0.95..=1.05).contains(&all), "{what}: {all:.3} of the limit");
    let rough = seconds.iter().filter(|second| !(0.75..=1.25).contains(*second)).count();
    assert!(rough <= 1, "{what}: not smooth: {seconds:.2?}");
}

/// Starts the program; what it says is read by the test.
fn start(args: &[&str], peers: &[SocketAddr], place: &Place) -> Child {
    let mut command = Command::new(binary());
    command.args(args).args(["--json", "--no-tracker"]);
    for peer in peers {
        command.args(["--peer", &peer.to_string()]);
    }
    command.arg("-d").arg(&place.data).arg(&place.torrent).stdout(Stdio::piped());
    command.spawn().expect("started")
}

#[test]
fn a_download_limit_is_kept_over_several_peers() {
    let fixture = Recipe::file("limited.bin", (RATE * SECONDS) as usize).make();
    let seeders: Vec<Seeder> =
        (0..PEERS).map(|_| Seed::default().at(own_ip()).start(&fixture)).collect();
    let addrs: Vec<SocketAddr> = seeders.iter().map(|seeder| seeder.addr).collect();
    let (place, ip) = (Place::new(&fixture), own_ip().to_string());
    let args = ["get", "--listen", &ip, "--max-download-limit", "1000000"];
    let mut get = start(&args, &addrs, &place);
    assert_rate("download", "downloaded", fixture.data.len() as u64, &mut get);
    assert!(get.wait().expect("a child").success());
    fixture.assert_in(&place.data);
}

#[test]
fn an_upload_limit_is_kept_over_several_peers() {
    let fixture = Recipe::file("limited.bin", (RATE * SECONDS) as usize / PEERS).make();
    let giver = Place::new(&fixture);
    fixture.write_to(&giver.data);
    let addr = free_addr();
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    let args = ["seed", "-u", "1000000", "--listen", &ip, "--port", &port, "--seed-ratio", "3"];
    let mut seed = start(&args, &[], &giver);
    // They know the seed, and nobody else.
    let places: Vec<Place> = (0..PEERS).map(|_| Place::new(&fixture)).collect();
    let get =
        |place: &Place| place.get().args(["-q", "--no-tracker", "--no-pex"]).peers([addr]).start();
    let running: Vec<_> = places.iter().map(get).collect();
    assert_rate("upload", "uploaded", (PEERS * fixture.data.len()) as u64, &mut seed);
    running.into_iter().for_each(|running| drop(running.finish(LIMIT).expect(0)));
    assert!(seed.wait().expect("a child").success());
}
