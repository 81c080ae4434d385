//! The real clients: how each is started so that it seeds, or fetches, without talking to anybody
//! but the tracker and the peers of the test.
//!
//! For all of them the same start does both: a client that finds the data complete seeds it, one
//! that finds nothing fetches it. To add a client, add a row and its function.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::payload::{EmptyFiles, Payload, python};
use crate::probe::{pieces_at, shake_hands};
use crate::process::{Process, free_port, helper, peers_dir, poll, program};

/// rtorrent and Transmission start at their leisure, and two cores may have six clients to run.
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Client {
    pub name: &'static str,
    /// Says what is missing on this machine, if anything.
    missing: fn() -> Option<&'static str>,
    start: fn(&Job) -> Vec<Instance>,
    /// It dials whom a tracker names, at a loopback address and without encryption. The others
    /// have to be dialled: Transmission ignores 127.0.0.0/8, WebTorrent opens with encryption (MSE)
    /// and does not try again without it.
    pub dials_us: bool,
    /// It can be told a magnet link here.
    pub takes_magnets: bool,
    /// Payloads it cannot seed, with the reason.
    pub cannot_seed: &'static [(&'static str, &'static str)],
    /// Payloads it cannot fetch, with the reason; those it cannot seed come on top.
    pub cannot_fetch: &'static [(&'static str, &'static str)],
}

/// Who meets whom over what.
#[derive(Clone, Copy)]
pub struct Swarm<'a> {
    pub payloads: &'a [&'a Payload],
    pub trackers: &'a [String],
    /// Addresses to dial, for those clients that can be told.
    pub peers: &'a [SocketAddr],
    /// The client is given magnet links and no torrents.
    pub magnets: bool,
}

/// One start of a client.
struct Job<'a> {
    torrents: &'a [PathBuf],
    /// Where the data is, or goes.
    data: &'a Path,
    /// For its settings, its state and its log.
    work: &'a Path,
    peers: &'a [SocketAddr],
}

impl Job<'_> {
    fn log(&self) -> PathBuf {
        self.work.join("log")
    }

    fn peers_with_commas(&self) -> String {
        self.peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

/// One process of a client and where it listens.
struct Instance {
    process: Process,
    addr: SocketAddr,
}

const HYBRID_ARIA2: (&str, &str) = ("hybrid", "aria2 1.36 computes a wrong info hash for it");
const HYBRID_TRANSMISSION: (&str, &str) = ("hybrid", "transmission 3.00 refuses the file");
const ODD_TRANSMISSION: (&str, &str) =
    ("odd-pieces", "transmission takes no piece length that halving does not bring under 16 KiB");

pub const CLIENTS: &[Client] = &[
    Client {
        name: "libtorrent",
        missing: || {
            let found = python("seed.py").arg("version").output().is_ok_and(|o| o.status.success());
            (!found).then_some("the Python package libtorrent")
        },
        start: libtorrent,
        dials_us: true,
        takes_magnets: true,
        cannot_seed: &[],
        cannot_fetch: &[],
    },
    Client {
        name: "aria2",
        missing: || lacks("aria2c"),
        start: aria2,
        dials_us: true,
        takes_magnets: true,
        cannot_seed: &[HYBRID_ARIA2],
        cannot_fetch: &[],
    },
    Client {
        name: "transmission",
        missing: || lacks("transmission-daemon"),
        start: transmission,
        dials_us: false,
        takes_magnets: true,
        cannot_seed: &[HYBRID_TRANSMISSION, ODD_TRANSMISSION],
        cannot_fetch: &[],
    },
    Client {
        name: "rtorrent",
        missing: || lacks("rtorrent"),
        start: rtorrent,
        dials_us: true,
        takes_magnets: false,
        cannot_seed: &[],
        cannot_fetch: &[],
    },
    Client {
        name: "rqbit",
        missing: || lacks("rqbit"),
        start: rqbit,
        dials_us: true,
        takes_magnets: true,
        cannot_seed: &[],
        cannot_fetch: &[],
    },
    Client {
        name: "webtorrent",
        missing: || {
            let found = peers_dir().join("webtorrent/node_modules/webtorrent").is_dir()
                && peers_dir().join("node/bin/node").exists();
            (!found).then_some("the Node package webtorrent-cli")
        },
        start: webtorrent,
        dials_us: false,
        takes_magnets: true,
        cannot_seed: &[],
        cannot_fetch: &[],
    },
];

fn lacks(name: &'static str) -> Option<&'static str> {
    program(name).is_none().then_some(name)
}

impl Client {
    pub fn named(name: &str) -> &'static Client {
        CLIENTS.iter().find(|client| client.name == name).expect("a client of the table")
    }

    /// What this client needs and this machine lacks.
    pub fn missing(&self) -> Option<&'static str> {
        (self.missing)()
    }

    /// Starts it on `payloads`, whose data is written for it first, and waits until it offers
    /// every piece of every one.
    pub fn seed(&self, swarm: &Swarm, work: &Path) -> Running {
        let data = work.join("data");
        swarm.payloads.iter().for_each(|payload| payload.write_data(&data));
        let mut running = self.start(swarm, &data, work);
        for payload in swarm.payloads {
            running.wait_until("seed", payload, |addr| {
                let pieces = pieces_at(addr, payload.info_hash)?;
                if pieces == payload.pieces {
                    return Ok(());
                }
                Err(io::Error::other(format!("{pieces} of {} pieces", payload.pieces)))
            });
        }
        running
    }

    /// Starts it on `payloads`, of which it has nothing, and waits until it can be dialled.
    pub fn fetch(&self, swarm: &Swarm, data: &Path, work: &Path) -> Running {
        let mut running = self.start(swarm, data, work);
        for payload in swarm.payloads {
            running
                .wait_until("know", payload, |addr| shake_hands(addr, payload.info_hash).map(drop));
        }
        running
    }

    /// Starts it, and waits for nothing.
    pub fn start(&self, swarm: &Swarm, data: &Path, work: &Path) -> Running {
        fs::create_dir_all(work).expect("making a folder");
        fs::create_dir_all(data).expect("making a folder");
        let write = |payload: &&Payload| match swarm.magnets {
            true => payload.magnet(swarm.trackers, swarm.peers).into(),
            false => payload.write_torrent(work, swarm.trackers),
        };
        let torrents: Vec<PathBuf> = swarm.payloads.iter().map(write).collect();
        let job = Job { torrents: &torrents, data, work, peers: swarm.peers };
        Running { name: self.name, instances: (self.start)(&job) }
    }
}

/// A client at work; dropping it ends its processes.
pub struct Running {
    name: &'static str,
    instances: Vec<Instance>,
}

impl Running {
    /// Where it listens for peers of a torrent.
    pub fn addr(&self) -> SocketAddr {
        self.instances[0].addr
    }

    /// Asks until `ready` says yes; panics with its last refusal if it never does.
    fn wait_until(
        &mut self,
        what: &str,
        payload: &Payload,
        ready: impl Fn(SocketAddr) -> io::Result<()>,
    ) {
        let addr = self.addr();
        let mut refusal = None;
        let done = poll(START_TIMEOUT, || {
            self.assert_alive();
            refusal = ready(addr).err();
            refusal.is_none().then_some(())
        });
        if done.is_none() {
            let (name, payload) = (self.name, payload.name);
            panic!("{name} does not {what} {payload}: {refusal:?}\n{}", self.log_tail());
        }
    }

    /// Waits until all of `payload` is in `dir`, byte by byte.
    pub fn wait_for_download(&mut self, payload: &Payload, dir: &Path, patience: Duration) {
        let mut last = None;
        let done = poll(patience, || {
            self.assert_alive();
            last = payload.difference(dir, EmptyFiles::MayLack);
            last.is_none().then_some(())
        });
        if done.is_none() {
            let (name, what) = (self.name, payload.name);
            panic!("{name} does not fetch {what}: {last:?}\n{}", self.log_tail());
        }
    }

    fn assert_alive(&mut self) {
        for instance in &mut self.instances {
            if let Some(status) = instance.process.ended() {
                panic!("{} ended: {status}\n{}", self.name, instance.process.log_tail());
            }
        }
    }

    pub fn log_tail(&self) -> String {
        self.instances.iter().map(|i| i.process.log_tail()).collect::<Vec<_>>().join("\n")
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn one(name: &str, command: &Command, job: &Job, port: u16) -> Vec<Instance> {
    vec![Instance { process: Process::start(name, command, job.log()), addr: loopback(port) }]
}

fn libtorrent(job: &Job) -> Vec<Instance> {
    let port = free_port();
    let mut command = python("seed.py");
    command.arg("serve").arg(job.data).arg(loopback(port).to_string());
    command.arg(job.peers_with_commas()).args(job.torrents);
    one("libtorrent", &command, job, port)
}

/// Dials nobody but whom the tracker names; `--seed-ratio=0` is for ever.
fn aria2(job: &Job) -> Vec<Instance> {
    let port = free_port();
    let mut command = Command::new("aria2c");
    command.args(["--no-conf", "--check-integrity", "--seed-ratio=0.0", "--file-allocation=none"]);
    // It speaks to UDP trackers with its DHT's socket only. The DHT itself knows nobody.
    command.args(["--enable-dht=true", "--enable-dht6=false", "--bt-enable-lpd=false"]);
    command.arg(format!("--dht-listen-port={port}"));
    command.arg("--dht-file-path").arg(job.work.join("dht.dat"));
    command.args(["--enable-peer-exchange=false", "--disable-ipv6", "--disk-cache=0"]);
    // It asks a tracker again only after the tracker's interval, however few peers it got.
    command.args(["--bt-tracker-interval=1", "--max-concurrent-downloads=100"]);
    command.args(["--summary-interval=0", "--console-log-level=notice"]);
    command.arg(format!("--listen-port={port}")).arg("--dir").arg(job.data).args(job.torrents);
    one("aria2c", &command, job, port)
}

/// Takes torrents from a watched folder. Addresses in 127.0.0.0/8 that a tracker names it ignores,
/// so it has to be dialled.
fn transmission(job: &Job) -> Vec<Instance> {
    let (port, rpc) = (free_port(), free_port());
    let watched = job.work.join("watched");
    fs::create_dir_all(&watched).expect("making a folder");
    let is_link = |torrent: &&PathBuf| torrent.to_string_lossy().starts_with("magnet:");
    for torrent in job.torrents.iter().filter(|torrent| !is_link(torrent)) {
        fs::copy(torrent, watched.join(torrent.file_name().expect("a file"))).expect("copying");
    }
    let mut command = Command::new("transmission-daemon");
    command.args(["--foreground", "--log-info", "--no-auth", "--no-dht", "--no-lpd", "--no-utp"]);
    command.args(["--no-portmap", "--no-incomplete-dir", "--no-global-seedratio"]);
    command.args(["--bind-address-ipv4", "127.0.0.1", "--rpc-bind-address", "127.0.0.1"]);
    command.args(["--peerport", &port.to_string(), "--port", &rpc.to_string()]);
    command.arg("--config-dir").arg(job.work.join("config"));
    command.arg("--download-dir").arg(job.data).arg("--watch-dir").arg(watched);
    let running = one("transmission-daemon", &command, job, port);
    for link in job.torrents.iter().filter(is_link) {
        let mut add = Command::new("transmission-remote");
        add.arg(format!("127.0.0.1:{rpc}")).arg("--add").arg(link);
        let added = || add.output().is_ok_and(|done| done.status.success()).then_some(());
        poll(START_TIMEOUT, added).expect("transmission takes a link");
    }
    running
}

/// Without a terminal it must be told to be a daemon, as a setting.
fn rtorrent(job: &Job) -> Vec<Instance> {
    let port = free_port();
    let mut settings = format!(
        "system.daemon.set = true
network.bind_address.set = 127.0.0.1
network.port_range.set = {port}-{port}
network.port_random.set = no
dht.mode.set = disable
protocol.pex.set = no
trackers.use_udp.set = yes
directory.default.set = \"{}\"
",
        job.data.display()
    );
    for torrent in job.torrents {
        settings += &format!("load.start = \"{}\"\n", torrent.display());
    }
    let file = job.work.join("rtorrent.rc");
    fs::write(&file, settings).expect("writing the settings");
    let mut command = Command::new("rtorrent");
    command.arg("-n").arg("-o").arg(format!("import={}", file.display()));
    command.current_dir(job.work).env("TERM", "dumb").env("HOME", job.work);
    one("rtorrent", &command, job, port)
}

fn rqbit(job: &Job) -> Vec<Instance> {
    let port = free_port();
    let mut command = Command::new(program("rqbit").expect("looked for before"));
    command.args(["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--ipv4-only"]);
    command.args(["--listen-ip", "127.0.0.1", "--listen-port", &port.to_string()]);
    command.args(["--tracker-refresh-interval", "1s", "download", "--disable-http-api"]);
    command.arg("--overwrite").arg("--output-folder").arg(job.data);
    if !job.peers.is_empty() {
        command.arg("--initial-peers").arg(job.peers_with_commas());
    }
    command.args(job.torrents).env("HOME", job.work);
    one("rqbit", &command, job, port)
}

/// The script lies beside its packages, because that is where Node looks for them.
fn webtorrent(job: &Job) -> Vec<Instance> {
    let port = free_port();
    let script = peers_dir().join("webtorrent/peer.js");
    fs::copy(helper("webtorrent/peer.js"), &script).expect("copying a script");
    let mut command = Command::new(peers_dir().join("node/bin/node"));
    command.arg(script).arg(job.data).arg(port.to_string());
    command.arg(job.peers_with_commas()).args(job.torrents);
    one("webtorrent", &command, job, port)
}
