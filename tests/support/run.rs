//! A program as a child: what it prints, how it ends, what it costs; and signals.
//!
//! ```text
//! stdout ─┐
//! stderr ─┼─ a thread each ──► news ──► wait_for(text), finish(limit)
//! wait4  ─┘
//! ```
//!
//! Owns the child: dropped before its end, it is killed and reaped.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

/// No test takes so long; one that hangs ends.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How often the memory of the child is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

/// The program under test: built by cargo for tests and benchmarks, else beside the one that runs.
/// `PIECEMEAL=path` names another one, to compare.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PIECEMEAL") {
        return path.into();
    }
    if let Some(path) = option_env!("CARGO_BIN_EXE_piecemeal") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a path");
    own.ancestors().nth(2).expect("target/release").join("piecemeal")
}

/// Lets this process, and its children, have as many descriptors as the system allows it.
pub fn raise_descriptor_limit() {
    // SAFETY: both calls take a pointer to a local that lives through them.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// A program to be started.
pub struct Run {
    command: Command,
    stdin: Vec<u8>,
}

impl Run {
    pub fn program(program: impl AsRef<OsStr>) -> Run {
        Run { command: Command::new(program), stdin: Vec::new() }
    }

    /// `piecemeal` with these arguments.
    pub fn piecemeal(args: &[&str]) -> Run {
        Run::program(binary()).args(args)
    }

    /// `piecemeal get TORRENT -d DIR`, listening at an address of its own. It finds nobody by itself:
    /// tests that run at the same time use the same torrents.
    pub fn get(torrent: &Path, dir: &Path) -> Run {
        let listen = super::own_ip().to_string();
        Run::piecemeal(&["get", "--no-lsd", "--listen", &listen]).arg(torrent).arg("-d").arg(dir)
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.command.arg(arg);
        self
    }

    pub fn args<T: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = T>) -> Run {
        self.command.args(args);
        self
    }

    pub fn peers<T: ToString>(self, addrs: impl IntoIterator<Item = T>) -> Run {
        addrs.into_iter().fold(self, |run, addr| run.arg("--peer").arg(addr.to_string()))
    }

    pub fn stdin(mut self, bytes: Vec<u8>) -> Run {
        self.stdin = bytes;
        self
    }

    pub fn in_folder(mut self, dir: &Path) -> Run {
        self.command.current_dir(dir);
        self
    }

    /// No test asks the well-known nodes of the real DHT; those that are about it name their own.
    fn keep_from_the_dht(&mut self) {
        let has = |start: &str| {
            self.command.get_args().any(|arg| arg.to_string_lossy().starts_with(start))
        };
        let first = self.command.get_args().next();
        let joins = first.is_some_and(|command| command == "get" || command == "seed");
        let ours = self.command.get_program() == binary();
        if ours && joins && !has("--no-dht") && !has("--dht-bootstrap") {
            self.command.arg("--no-dht");
        }
    }

    // `wait4` in a thread waits for it.
    #[expect(clippy::zombie_processes)]
    pub fn start(mut self) -> Running {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A child of a test must not behave as if somebody were looking.
        self.command.env_remove("RUST_BACKTRACE");
        self.keep_from_the_dht();
        let start = Instant::now();
        let name = self.command.get_program().to_owned();
        let mut child = self.command.spawn().unwrap_or_else(|err| panic!("{name:?}: {err}"));
        let (sender, news) = unbounded();
        let (mut stdin, input) = (child.stdin.take().expect("piped"), self.stdin);
        let pid = child.id() as i32;
        let readers = vec![
            listen_to(child.stdout.take().expect("piped"), sender.clone(), News::Out),
            listen_to(child.stderr.take().expect("piped"), sender.clone(), News::Err),
            spawn(move || drop(stdin.write_all(&input))),
            spawn(move || {
                let end = wait_for_end(pid);
                let _ = sender.send(News::Ended(end, start.elapsed()));
            }),
        ];
        let (stdout, stderr, rss_anon_max, end) = Default::default();
        Running { pid, news, readers, stdout, stderr, rss_anon_max, end, sampled: start }
    }

    /// Runs it to its end, which must come before [`LIMIT`].
    #[track_caller]
    pub fn run(self) -> Ended {
        self.start().finish(LIMIT)
    }
}

fn listen_to(
    mut from: impl Read + Send + 'static,
    to: Sender<News>,
    news: fn(Vec<u8>) -> News,
) -> JoinHandle<()> {
    spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let _ = to.send(news(buffer[..n].to_vec()));
        }
    })
}

enum News {
    Out(Vec<u8>),
    Err(Vec<u8>),
    Ended(End, Duration),
}

struct End {
    code: Option<i32>,
    signal: Option<i32>,
    cpu: Duration,
    rss_max: u64,
}

/// Waits for a child and reaps it. `wait4` is the only call that tells what exactly one child used.
fn wait_for_end(pid: i32) -> End {
    let mut status = 0;
    // SAFETY: both pointers are to locals that live through the call; all zeros is a valid rusage.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        while libc::wait4(pid, &mut status, 0, &mut usage) == -1
            && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
        {}
        usage
    };
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    End {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        rss_max: usage.ru_maxrss as u64 * 1024,
    }
}

/// A child that may still run.
pub struct Running {
    pub pid: i32,
    news: Receiver<News>,
    readers: Vec<JoinHandle<()>>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    rss_anon_max: u64,
    end: Option<(End, Duration)>,
    sampled: Instant,
}

impl Running {
    /// Takes the next news; false if there is none before `until`.
    fn pump(&mut self, until: Instant) -> bool {
        loop {
            let sample = self.sampled + SAMPLE_EVERY;
            let next = if self.end.is_some() { until } else { sample.min(until) };
            match self.news.recv_deadline(next) {
                Ok(News::Out(bytes)) => self.stdout.extend(bytes),
                Ok(News::Err(bytes)) => self.stderr.extend(bytes),
                Ok(News::Ended(end, after)) => self.end = Some((end, after)),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) if until <= Instant::now() => return false,
                Err(RecvTimeoutError::Timeout) => {
                    self.sampled = Instant::now();
                    let now = status_bytes(self.pid, "RssAnon:").unwrap_or(0);
                    self.rss_anon_max = self.rss_anon_max.max(now);
                    continue;
                }
            }
            return true;
        }
    }

    /// Waits until standard output or standard error contains a text.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let until = Instant::now() + LIMIT;
        let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(text);
        while !has(&self.stderr) && !has(&self.stdout) {
            let said = String::from_utf8_lossy(&self.stderr).into_owned();
            assert!(self.pump(until), "no \"{text}\" in {LIMIT:?}; it said: {said}");
        }
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: i32) {
        while self.end.is_none() && self.pump(Instant::now()) {}
        if self.end.is_none() {
            // SAFETY: no memory is involved. The child has not been seen to end, so the id is its
            // own, but for the moment between its end and the news of it.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    pub fn interrupt(&mut self) {
        self.signal(libc::SIGINT);
    }

    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
    }

    /// How many threads and descriptors it has now.
    pub fn threads_and_descriptors(&self) -> (u64, usize) {
        let threads = status_value(self.pid, "Threads:").unwrap_or(0);
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.pid));
        (threads, descriptors.map_or(0, Iterator::count))
    }

    /// Waits for its end, which must come within `limit`.
    #[track_caller]
    pub fn finish(self, limit: Duration) -> Ended {
        self.try_finish(limit).unwrap_or_else(|still_running| panic!("{still_running}"))
    }

    /// The same; one that does not end in time is killed, and what it said is the error.
    pub fn try_finish(mut self, limit: Duration) -> Result<Ended, String> {
        let until = Instant::now() + limit;
        while self.pump(until) {}
        let stderr = String::from_utf8_lossy(&self.stderr).into_owned();
        let Some((end, wall)) = self.end.take() else {
            self.kill();
            return Err(format!("still running after {limit:?}; it said: {stderr}"));
        };
        let End { code, signal, cpu, rss_max } = end;
        let (stdout, rss_anon_max) = (std::mem::take(&mut self.stdout), self.rss_anon_max);
        // So that nothing is killed on drop.
        self.pid = 0;
        Ok(Ended { code, signal, cpu, rss_max, rss_anon_max, wall, stdout, stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.pid != 0 {
            self.kill();
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

fn status_value(pid: i32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn status_bytes(pid: i32, field: &str) -> Option<u64> {
    status_value(pid, field).map(|kib| kib * 1024)
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub wall: Duration,
    /// User and system time.
    pub cpu: Duration,
    /// The most memory it had, the pages of its files included.
    pub rss_max: u64,
    /// The most anonymous memory that was seen; 0 if it was too quick for a look.
    pub rss_anon_max: u64,
}

impl Ended {
    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        let Ended { code: found, signal, stderr, .. } = &self;
        assert_eq!((*found, *signal), (Some(code), None), "it said: {stderr}");
        assert!(!stderr.contains("panicked"), "it said: {stderr}");
        self
    }
}
