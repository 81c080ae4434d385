//! How each client is told to download one torrent and then to end, each with what its manual
//! offers for that: no DHT, no LAN discovery, no seeding afterwards.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::own_ip;
use crate::support::run::{Ended, Run, binary};

pub struct Job {
    /// It names a tracker, which knows the seeder.
    pub torrent: PathBuf,
    pub data: PathBuf,
    /// For what the client keeps elsewhere.
    pub work: PathBuf,
    pub seeder: SocketAddr,
    pub limit: Duration,
}

pub struct Client {
    pub name: &'static str,
    /// The program, or what is lacking.
    pub find: fn() -> Result<PathBuf, String>,
    pub download: fn(&Job) -> Result<Ended, String>,
}

/// The first one is ours.
pub const CLIENTS: &[Client] = &[
    Client { name: "piecemeal", find: || Ok(binary()), download: piecemeal },
    Client { name: "aria2c", find: || find("aria2c"), download: aria2c },
    Client {
        name: "transmission-cli",
        find: || find("transmission-cli"),
        download: transmission_cli,
    },
    Client { name: "rqbit", find: || find("rqbit"), download: rqbit },
    Client { name: "webtorrent", find: find_node, download: webtorrent },
];

/// Looks in PATH and then where `make peers` puts things.
fn find(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push(peers_dir().join("bin"));
    let mut files = folders.iter().map(|folder| folder.join(name));
    files.find(|file| file.is_file()).ok_or(format!("{name} is not installed"))
}

fn succeeded(end: Ended) -> Result<Ended, String> {
    match end.code {
        Some(0) => Ok(end),
        code => Err(format!("exit code {code:?}; it said: {}", end.stderr)),
    }
}

fn piecemeal(job: &Job) -> Result<Ended, String> {
    let run = Run::get(&job.torrent, &job.data).args(["--no-tracker", "-q"]);
    succeeded(run.peers([job.seeder]).start().try_finish(job.limit)?)
}

fn aria2c(job: &Job) -> Result<Ended, String> {
    let run = Run::program(find("aria2c")?)
        .args(["--no-conf", "--seed-time=0", "--enable-dht=false", "--enable-dht6=false"])
        .args(["--bt-enable-lpd=false", "--enable-peer-exchange=false", "--summary-interval=0"])
        .args(["--file-allocation=falloc", "--console-log-level=error", "--quiet", "--dir"])
        .arg(&job.data)
        .arg(&job.torrent);
    succeeded(run.start().try_finish(job.limit)?)
}

/// It seeds for ever once it is done, and says so.
fn transmission_cli(job: &Job) -> Result<Ended, String> {
    if job.seeder.ip().is_loopback() {
        return Err("it takes no peers at 127.x, and this machine has no other address".to_owned());
    }
    let settings = r#"{ "dht-enabled": false, "lpd-enabled": false, "pex-enabled": false,
        "utp-enabled": false, "port-forwarding-enabled": false, "preallocation": 1 }"#;
    let config = job.work.join("config");
    fs::create_dir_all(&config)
        .and_then(|()| fs::write(config.join("settings.json"), settings))
        .map_err(|err| err.to_string())?;
    let mut running = Run::program(find("transmission-cli")?)
        .arg("--config-dir")
        .arg(&config)
        .arg("--download-dir")
        .arg(&job.data)
        .args(["--port", "0", "--no-portmap"])
        .arg(&job.torrent)
        .start();
    running.wait_for("Seeding,");
    running.interrupt();
    running.try_finish(job.limit)
}

fn rqbit(job: &Job) -> Result<Ended, String> {
    let run = Run::program(find("rqbit")?)
        .args(["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--ipv4-only"])
        .args(["--listen-ip", &own_ip().to_string(), "download", "--disable-http-api"])
        .args(["--exit-on-finish", "--initial-peers", &job.seeder.to_string()])
        .arg("--output-folder")
        .arg(&job.data)
        .arg(&job.torrent);
    succeeded(run.in_folder(&job.work).start().try_finish(job.limit)?)
}

/// By its library, with the script of the interop tests: the command line cannot leave the DHT and
/// encryption out (our seeder has none). The script must lie beside its packages, because that is
/// where Node looks for them. It runs until killed.
fn webtorrent(job: &Job) -> Result<Ended, String> {
    let (node, script) = (find_node()?, peers_dir().join("webtorrent/bench.js"));
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/webtorrent/peer.js");
    let text = fs::read_to_string(ours).map_err(|err| err.to_string())?;
    let text = text.replace("dht: false,", "dht: false, secure: false,");
    fs::write(&script, text).map_err(|err| err.to_string())?;
    let mut running = Run::program(node)
        .arg(script)
        .arg(&job.data)
        .args(["0", &job.seeder.to_string()])
        .arg(&job.torrent)
        .start();
    running.wait_for(" done");
    running.kill();
    running.try_finish(job.limit)
}

fn find_node() -> Result<PathBuf, String> {
    let node = peers_dir().join("node/bin/node");
    let packages = peers_dir().join("webtorrent/node_modules/webtorrent");
    let there = node.exists() && packages.is_dir();
    there.then_some(node).ok_or("webtorrent is not installed".to_owned())
}

/// Where `make peers` puts what no package manager has.
fn peers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers")
}
