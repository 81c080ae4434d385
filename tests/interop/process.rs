//! Child processes that cannot outlive the test, their logs, and ports for them to listen on.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How often something is looked at that another process does: there is no event to wait for.
pub const POLL: Duration = Duration::from_millis(25);

/// A running program; dropping it kills it.
pub struct Process {
    child: Child,
    pub name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, with both outputs in `log` and no input.
    ///
    /// `setpriv` asks the kernel to kill the program when this thread ends, so that nothing is left
    /// over when the test itself is killed. So whoever starts a program must outlive it.
    pub fn start(name: &str, command: &Command, log: PathBuf) -> Process {
        let file = File::create(&log).expect("creating a log");
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program());
        wrapped.args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            wrapped.current_dir(dir);
        }
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        wrapped.stdin(Stdio::null()).stdout(file.try_clone().expect("a second handle"));
        let child = wrapped.stderr(file).spawn();
        let child = child.unwrap_or_else(|e| panic!("starting {name}: {e} (setpriv: util-linux)"));
        Process { child, name: name.into(), log }
    }

    /// The status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("waiting for a child")
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        poll(patience, || self.ended())
    }

    /// The end of what it printed, for a failure message.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(30)..];
        format!("the end of what {} printed:\n    {}", self.name, tail.join("\n    "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer or the time is up.
pub fn poll<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if patience <= start.elapsed() {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// A port that is free for TCP and UDP on every address.
///
/// Below the range from which the kernel takes ports for outgoing connections, so that none of
/// those takes it between this moment and the one when its program listens.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two runs at the same time begin at different places.
    let start = (std::process::id() as u16).wrapping_mul(97) % COUNT;
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let any = (Ipv4Addr::UNSPECIFIED, port);
        if TcpListener::bind(any).is_ok() && UdpSocket::bind(any).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} on");
}

/// The program `name`, looked for in `.peers/bin` and then in the path.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = vec![peers_dir().join("bin")];
    dirs.extend(std::env::split_paths(&path));
    dirs.push("/usr/sbin".into());
    dirs.into_iter().map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Where `make peers` puts what is no system package.
pub fn peers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers")
}

/// A file beside this one.
pub fn helper(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name)
}
