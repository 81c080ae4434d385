//! The benchmark: one torrent over loopback, from a seeder that serves from memory.
//!
//! ```text
//! make bench                             1 GiB, three runs of each client, the median is printed
//! PIECEMEAL_BENCH_MIB=256                another size
//! PIECEMEAL_BENCH_PIECE_KIB=256          another piece length (1024)
//! PIECEMEAL_BENCH_RUNS=1                 another number of runs
//! PIECEMEAL_BENCH_CLIENTS=piecemeal,aria2c    only these
//! ```
//!
//! For each client: wall time, the part of it in which requests came (some wait for seconds before
//! the first), processor time (user and system), the highest anonymous memory, and both times as
//! multiples of piecemeal's. "Hash" is how long the SHA-1 of the payload takes alone, on one thread,
//! measured before each run; wall time cannot be less than that while one thread hashes, and hash / wall is how
//! busy it is. Clients that are not installed are skipped and named.

mod clients;
#[path = "../support/mod.rs"]
mod support;

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use clients::{CLIENTS, Client, Job};
use support::fixture::{Fixture, Folder, Recipe};
use support::run::Ended;
use support::seeder::{Seed, Seeder};
use support::tracker::Tracker;

const MIB: usize = 1 << 20;

/// A download may take so long. Transmission waits ten seconds before it does anything.
const LIMIT: Duration = Duration::from_secs(300);

/// How often the small torrent is fetched: short runs vary, and cost nothing.
const SMALL_RUNS: usize = 15;

fn main() {
    let number = |name: &str, default: usize| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
    };
    let mib = number("PIECEMEAL_BENCH_MIB", 1024);
    let piece_length = number("PIECEMEAL_BENCH_PIECE_KIB", 1024) << 10;
    let runs = number("PIECEMEAL_BENCH_RUNS", 3).max(1);
    let only = std::env::var("PIECEMEAL_BENCH_CLIENTS").unwrap_or_default();
    let wanted = |client: &&Client| only.is_empty() || only.split(',').any(|n| n == client.name);

    println!("payload: {mib} MiB in pieces of {} KiB; median of {runs}", piece_length >> 10);
    let bench = Bench::new(Recipe::file("payload", mib * MIB).piece_length(piece_length).make());
    println!();
    println!(
        "{:<17}   wall s    busy s     MiB/s    CPU s   RssAnon MiB    hash s   hash/wall   wall x   CPU x",
        ""
    );
    let mut ours: Option<(Duration, Duration)> = None;
    for client in CLIENTS.iter().filter(wanted) {
        if let Err(lacks) = (client.find)() {
            println!("{:<17}   skipped: {lacks}", client.name);
            continue;
        }
        match bench.measure(client, runs) {
            Ok(Figures { wall, busy, cpu, memory, hash }) => {
                let (own_wall, own_cpu) = *ours.get_or_insert((wall, cpu));
                println!(
                    "{:<17} {:>8.2} {:>9.2} {:>9.0} {:>8.2} {:>13.1} {:>9.2} {:>10.0}% {:>8.2} {:>7.2}",
                    client.name,
                    wall.as_secs_f64(),
                    busy.as_secs_f64(),
                    mib as f64 / wall.as_secs_f64(),
                    cpu.as_secs_f64(),
                    memory as f64 / MIB as f64,
                    hash.as_secs_f64(),
                    100.0 * hash.as_secs_f64() / wall.as_secs_f64(),
                    wall.as_secs_f64() / own_wall.as_secs_f64(),
                    cpu.as_secs_f64() / own_cpu.as_secs_f64(),
                );
            }
            Err(why) => println!("{:<17}   failed: {why}", client.name),
        }
    }
    println!();
    start_to_finish();
}

fn hash_all(fixture: &Fixture) -> Duration {
    let start = Instant::now();
    for piece in fixture.data.chunks(fixture.piece_length) {
        std::hint::black_box(sha1_smol::Sha1::from(piece).digest());
    }
    start.elapsed()
}

fn median<T: Ord>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values.swap_remove(values.len() / 2)
}

struct Figures {
    /// SHA-1 of the payload alone.
    hash: Duration,
    wall: Duration,
    /// From the first request to the last.
    busy: Duration,
    cpu: Duration,
    /// Anonymous, in bytes.
    memory: u64,
}

/// What all clients download, and whom from.
struct Bench {
    fixture: Fixture,
    seeder: Seeder,
    tracker: Tracker,
}

impl Bench {
    fn new(fixture: Fixture) -> Bench {
        // Transmission takes no peer at 127.x from a tracker; any other address of this machine
        // leads over loopback all the same.
        let seeder = match own_address() {
            Some(ip) => Seed::default().at(ip).start(&fixture),
            None => Seeder::start(&fixture),
        };
        let tracker = Tracker::start(&[seeder.addr]);
        Bench { fixture, seeder, tracker }
    }

    /// The median of each figure.
    fn measure(&self, client: &Client, runs: usize) -> Result<Figures, String> {
        // A machine has good and bad seconds: each run has its own measure beside it.
        let one = |_| {
            let hash = hash_all(&self.fixture);
            Ok((hash, self.once(client)?, self.seeder.busy_time()))
        };
        let runs: Vec<(Duration, Ended, Duration)> =
            (0..runs).map(one).collect::<Result<_, String>>()?;
        Ok(Figures {
            hash: median(runs.iter().map(|run| run.0).collect()),
            wall: median(runs.iter().map(|run| run.1.wall).collect()),
            cpu: median(runs.iter().map(|run| run.1.cpu).collect()),
            memory: median(runs.iter().map(|run| run.1.rss_anon_max).collect()),
            busy: median(runs.iter().map(|run| run.2).collect()),
        })
    }

    fn once(&self, client: &Client) -> Result<Ended, String> {
        // What the last run wrote shall not be written out during this one.
        let _ = Command::new("sync").status();
        let folder = Folder::new("bench");
        let data = folder.folder("data");
        let torrent = self.fixture.torrent(&[&[&self.tracker.http()]]);
        let torrent = folder.file("payload.torrent", &torrent);
        let work = folder.folder("work");
        let job = Job { torrent, data, work, seeder: self.seeder.addr, limit: LIMIT };
        let end = (client.download)(&job)?;
        self.fixture.difference(&job.data)?;
        Ok(end)
    }
}

/// The address that this machine would use to speak to others. Nothing is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// How long it takes from the start of the program to a finished torrent of 1 MiB.
fn start_to_finish() {
    let bench = Bench::new(Recipe::file("small", MIB).make());
    match bench.measure(&CLIENTS[0], SMALL_RUNS) {
        Ok(Figures { wall, .. }) => {
            let time = wall.as_secs_f64() * 1000.0;
            println!(
                "from start to a finished 1 MiB torrent: {time:.0} ms, median of {SMALL_RUNS}"
            );
        }
        Err(why) => println!("1 MiB torrent: failed: {why}"),
    }
}
