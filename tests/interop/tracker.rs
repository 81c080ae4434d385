//! A tracker of its own for every swarm: opentracker or ours, on one port for HTTP and UDP.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use piecemeal::hash::Sha1;

use crate::process::{Process, free_port, poll, program};

const TIMEOUT: Duration = Duration::from_secs(10);

pub struct Tracker {
    process: Process,
    addr: SocketAddr,
}

impl Tracker {
    /// Starts a tracker that answers for `torrents` only: Debian's build serves nobody else.
    pub fn start(dir: &Path, torrents: &[Sha1]) -> Tracker {
        let dir = dir.join("tracker");
        fs::create_dir_all(&dir).expect("making a folder");
        let list: String = torrents.iter().map(|hash| format!("{hash}\n")).collect();
        fs::write(dir.join("allowed"), list).expect("writing the list of torrents");
        let port = free_port().to_string();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().expect("a port")));
        let program = program("opentracker").expect("looked for before");
        let mut command = if is_root() { as_nobody(&program) } else { Command::new(&program) };
        command.args(["-i", "127.0.0.1", "-p", &port, "-P", &port, "-w", "allowed"]);
        command.current_dir(&dir);
        Tracker::listening(Process::start("opentracker", &command, dir.join("log")), addr)
    }

    /// Starts `piecemeal tracker`, open to every torrent.
    pub fn ours(dir: &Path) -> Tracker {
        let dir = dir.join("tracker");
        fs::create_dir_all(&dir).expect("making a folder");
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_piecemeal"));
        command.args(["tracker", "-v", "--listen", &addr.to_string()]);
        Tracker::listening(Process::start("piecemeal tracker", &command, dir.join("log")), addr)
    }

    fn listening(process: Process, addr: SocketAddr) -> Tracker {
        let mut tracker = Tracker { process, addr };
        if poll(TIMEOUT, || TcpStream::connect(addr).ok()).is_none() {
            panic!("nobody listens at {addr}\n{}", tracker.log_tail());
        }
        assert!(tracker.process.ended().is_none(), "{}", tracker.log_tail());
        tracker
    }

    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    pub fn http(&self) -> String {
        format!("http://{}/announce", self.addr)
    }

    pub fn udp(&self) -> String {
        format!("udp://{}/announce", self.addr)
    }

    /// Waits until so many have announced that they have all of a torrent.
    pub fn wait_for_seeders(&self, torrent: Sha1, count: usize) -> Result<(), String> {
        self.wait_for(torrent, "complete", count)
    }

    /// The same of those that lack something.
    pub fn wait_for_leechers(&self, torrent: Sha1, count: usize) -> Result<(), String> {
        self.wait_for(torrent, "incomplete", count)
    }

    /// The same of anybody: a client that has a link only may announce that it lacks nothing.
    pub fn wait_for_anybody(&self, torrent: Sha1) -> Result<(), String> {
        let count = |key| self.scrape(torrent, key).unwrap_or_default();
        let seen = poll(TIMEOUT, || (0 < count("complete") + count("incomplete")).then_some(()));
        seen.ok_or_else(|| "nobody announced".to_owned())
    }

    fn wait_for(&self, torrent: Sha1, key: &str, count: usize) -> Result<(), String> {
        let mut seen = 0;
        let done = poll(TIMEOUT, || {
            seen = self.scrape(torrent, key).unwrap_or_default();
            (count <= seen).then_some(())
        });
        done.ok_or_else(|| format!("{seen} of {count} announced themselves as {key}"))
    }

    /// How many peers the tracker counts as such (BEP 48).
    fn scrape(&self, torrent: Sha1, key: &str) -> Option<usize> {
        let mut stream = TcpStream::connect(self.addr).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        let escaped: String = torrent.0.iter().map(|byte| format!("%{byte:02x}")).collect();
        let request = format!("GET /scrape?info_hash={escaped} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (_, count) = answer.split_once(&format!("{}:{key}i", key.len()))?;
        count.split_once('e')?.0.parse().ok()
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n")
}

/// opentracker refuses to run as root. It could change its user itself, but then the kernel would
/// forget that it has to die with the test.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
