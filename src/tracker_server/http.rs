//! HTTP for a tracker: small requests, small answers, many strangers (RFC 9112; `httparse` parses).
//!
//! ```text
//! acceptor ──(its own inbox)──► worker 0..63     each has one connection at a time, blocking
//!     ▲                             │
//!     └──────── number ─────────────┘            "I am free again"
//! ```
//!
//! A connection that says nothing costs a worker, so there must always be one to be had: when all are
//! taken, the acceptor hangs up on the connection that is oldest, and its worker takes the new one. An
//! honest client sends its request together with the connection's first packets, and is answered
//! within a millisecond: it is never the oldest, however many idle connections pour in. (A worker that
//! waits has a stack of a few KiB; 10,000 idle connections leave 64 standing.)
//!
//! Layer: hands. The acceptor's thread owns the workers; a worker owns the connection it serves, and
//! the acceptor keeps a handle of it to hang up with.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, Scope};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::answer;
use super::keeper::{Desk, Question, Reply, Via};
use super::query;
use crate::registry::Refusal;

/// Connections at a time, of one family: at 1,000 new ones a second each may take 64 ms.
const WORKERS_MAX: usize = 64;

/// A worker's stack: it parses 8 KiB, and formats text.
const STACK: usize = 256 << 10;

/// How long a request may take from its first byte (or the connection's begin) to its end.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How long a connection may wait for its next request.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// Answers are small and fit the socket's buffer; one that does not is not being read.
const WRITE_TIME: Duration = Duration::from_secs(5);

/// Requests on one connection: enough for a client with many torrents.
const REQUESTS_MAX: usize = 100;

/// How long, and how often, we read on after an answer that the client may not have waited for.
const DRAIN_TIME: Duration = Duration::from_millis(500);
const DRAIN_READS_MAX: usize = 64;

/// The longest request. An announce takes some 400 bytes, a scrape of 74 torrents 5,500.
const HEAD_MAX: usize = 8 << 10;

/// Browsers behind proxies send two dozen headers.
const HEADERS_MAX: usize = 64;

/// How long the acceptor rests when the system has no descriptors left.
const REST: Duration = Duration::from_millis(50);

/// One place for a connection.
struct Slot {
    inbox: Sender<Arc<TcpStream>>,
    /// The connection it serves.
    socket: Option<Arc<TcpStream>>,
    since: Instant,
}

/// The acceptor's thread: until the tracker stops.
pub fn serve(listener: &TcpListener, desk: &Desk, stop: &AtomicBool) {
    let (free, freed) = bounded(WORKERS_MAX);
    thread::scope(|scope| {
        let mut pool = Pool { scope, desk, slots: Vec::new(), free, freed, idle: Vec::new() };
        while !stop.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((socket, _)) => pool.take(socket),
                Err(err) if err.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // Out of descriptors, most likely. Ours may be what is missing.
                    pool.collect();
                    thread::sleep(REST);
                }
            }
        }
        pool.hang_up();
    });
}

struct Pool<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    desk: &'env Desk,
    slots: Vec<Slot>,
    free: Sender<usize>,
    freed: Receiver<usize>,
    idle: Vec<usize>,
}

impl Pool<'_, '_> {
    /// Gives a connection to a worker: a free one, a new one, or that of the oldest connection.
    fn take(&mut self, socket: TcpStream) {
        self.collect();
        if self.idle.is_empty() && (self.slots.len() == WORKERS_MAX || !self.hire()) {
            self.drop_oldest();
        }
        let Some(number) = self.idle.pop() else { return };
        let Some(slot) = self.slots.get_mut(number) else { return };
        let socket = Arc::new(socket);
        slot.socket = Some(socket.clone());
        slot.since = Instant::now();
        // There is room: its worker waits. One that panicked takes its slot with it.
        let _ = slot.inbox.try_send(socket);
    }

    /// Lets go of the connections that have ended.
    fn collect(&mut self) {
        while let Ok(number) = self.freed.try_recv() {
            self.set_free(number);
        }
    }

    fn set_free(&mut self, number: usize) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.socket = None;
            self.idle.push(number);
        }
    }

    fn hire(&mut self) -> bool {
        let number = self.slots.len();
        let (inbox, jobs) = bounded::<Arc<TcpStream>>(1);
        let (free, desk) = (self.free.clone(), self.desk.another());
        let worker = Builder::new().name(format!("tracker http {number}")).stack_size(STACK);
        let hired = worker.spawn_scoped(self.scope, move || {
            for socket in jobs {
                let _ = Connection::new(&socket, &desk).map(|mut connection| connection.serve());
                let _ = socket.shutdown(Shutdown::Both);
                if free.send(number).is_err() {
                    return;
                }
            }
        });
        if hired.is_ok() {
            self.slots.push(Slot { inbox, socket: None, since: Instant::now() });
            self.idle.push(number);
        }
        hired.is_ok()
    }

    fn drop_oldest(&mut self) {
        let busy = self.slots.iter().filter(|slot| slot.socket.is_some());
        if let Some(socket) = busy.min_by_key(|slot| slot.since).and_then(|s| s.socket.as_ref()) {
            let _ = socket.shutdown(Shutdown::Both);
            // Woken, it is free in no time; if it is not, the new connection is one too many.
            if let Ok(number) = self.freed.recv_timeout(REST) {
                self.set_free(number);
            }
        }
    }

    /// The end: workers in the middle of a request see their connection close.
    fn hang_up(&mut self) {
        for slot in self.slots.drain(..) {
            if let Some(socket) = slot.socket {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }
}

/// What is answered to a request.
struct Response {
    status: &'static str,
    kind: &'static str,
    body: Vec<u8>,
    /// Nothing more can be understood on this connection.
    last: bool,
}

impl Response {
    fn bencode(body: Vec<u8>) -> Response {
        Response { status: "200 OK", kind: "text/plain", body, last: false }
    }

    /// A client shows its user the reason of a refusal, but hardly ever that of an HTTP error.
    fn refusal(reason: &str) -> Response {
        Response::bencode(answer::refusal(reason))
    }

    fn text(status: &'static str, last: bool) -> Response {
        let body = format!("{status}\n").into_bytes();
        Response { status, kind: "text/plain; charset=utf-8", body, last }
    }
}

/// A request's first line and what we need of its headers.
#[derive(Debug)]
struct Request {
    is_head: bool,
    /// Path and query.
    target: String,
    host: Option<String>,
    keep_alive: bool,
}

struct Connection<'a> {
    socket: &'a TcpStream,
    desk: &'a Desk,
    from: SocketAddr,
    /// What has been read and not been understood yet.
    input: Vec<u8>,
}

impl<'a> Connection<'a> {
    fn new(socket: &'a TcpStream, desk: &'a Desk) -> io::Result<Connection<'a>> {
        socket.set_write_timeout(Some(WRITE_TIME))?;
        socket.set_nodelay(true)?;
        Ok(Connection { socket, desk, from: socket.peer_addr()?, input: Vec::new() })
    }

    /// Answers requests until either side has had enough.
    fn serve(&mut self) -> io::Result<()> {
        for count in 1..=REQUESTS_MAX {
            let patience = if count == 1 { REQUEST_TIME } else { IDLE_TIME };
            let (request, response) = match self.read(Instant::now() + patience)? {
                None => return Ok(()),
                Some(Ok(request)) => {
                    let response = self.respond(&request);
                    (Some(request), response)
                }
                Some(Err(refusal)) => (None, refusal),
            };
            let keep = !response.last
                && count < REQUESTS_MAX
                && request.as_ref().is_some_and(|request| request.keep_alive);
            let is_head = request.is_some_and(|request| request.is_head);
            self.write(&response, is_head, keep)?;
            if !keep {
                let cut_short = response.last || count == REQUESTS_MAX;
                return if cut_short { self.drain() } else { Ok(()) };
            }
        }
        Ok(())
    }

    /// Reads what we will not answer. A connection that is closed with something unread is reset, and
    /// the reset may reach the client before our answer does.
    fn drain(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)?;
        self.socket.set_read_timeout(Some(DRAIN_TIME))?;
        let mut rest = [0; 2048];
        for _ in 0..DRAIN_READS_MAX {
            if self.socket.read(&mut rest)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The next request; what is wrong with it; or nothing, if the connection is over.
    fn read(&mut self, deadline: Instant) -> io::Result<Option<Result<Request, Response>>> {
        let mut chunk = [0; 2048];
        loop {
            match parse(&self.input) {
                Ok(Some((request, len))) => {
                    self.input.drain(..len);
                    return Ok(Some(Ok(request)));
                }
                Ok(None) if HEAD_MAX <= self.input.len() => {
                    let status = "431 Request Header Fields Too Large";
                    return Ok(Some(Err(Response::text(status, true))));
                }
                Ok(None) => {}
                Err(refusal) => return Ok(Some(Err(refusal))),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(n) => self.input.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
    }

    fn write(&mut self, response: &Response, is_head: bool, keep: bool) -> io::Result<()> {
        let Response { status, kind, body, .. } = response;
        let connection = if keep { "keep-alive" } else { "close" };
        let mut head = String::with_capacity(256);
        let _ = write!(
            head,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n\
             Connection: {connection}\r\n\r\n",
            body.len()
        );
        let mut bytes = head.into_bytes();
        if !is_head {
            bytes.extend_from_slice(body);
        }
        self.socket.write_all(&bytes)
    }

    fn respond(&self, request: &Request) -> Response {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        // Prefixes such as passkeys are allowed, and mean nothing.
        match path.rsplit('/').next().unwrap_or_default() {
            "announce" => self.announce(path, query),
            "scrape" => self.scrape(query),
            _ if path == "/" || path == "/stats" => self.status(path, request.host.as_deref()),
            _ => Response::text("404 Not Found", false),
        }
    }

    fn announce(&self, path: &str, query: &str) -> Response {
        let asked = match query::announce(path, query, self.from) {
            Ok(asked) => asked,
            Err(why) => return Response::refusal(&why),
        };
        let question = Question::Announce(Box::new((asked.announce, asked.report)));
        match self.desk.ask(self.from, question) {
            Some(Reply::Announced(told)) => {
                let source = self.from.ip().to_canonical();
                Response::bencode(answer::announce(&told, source, asked.compact, asked.peer_ids))
            }
            Some(Reply::Refused(refusal)) => Response::refusal(&refusal.to_string()),
            _ => stopping(),
        }
    }

    fn scrape(&self, query: &str) -> Response {
        let question = match query::scrape(query) {
            Ok(hashes) if hashes.is_empty() => Question::ScrapeAll,
            Ok(hashes) => Question::Scrape(Via::Http, hashes),
            Err(why) => return Response::refusal(&why),
        };
        match self.desk.ask(self.from, question) {
            Some(Reply::Scraped(counts)) => Response::bencode(answer::scrape(&counts)),
            Some(Reply::Refused(refusal)) => Response::refusal(&refusal.to_string()),
            _ => stopping(),
        }
    }

    fn status(&self, path: &str, host: Option<&str>) -> Response {
        match self.desk.ask(self.from, Question::Stats) {
            Some(Reply::Stats(stats)) if path == "/" => {
                let body = stats.html(host).into_bytes();
                Response { status: "200 OK", kind: "text/html; charset=utf-8", body, last: false }
            }
            Some(Reply::Stats(stats)) => {
                let body = (stats.json() + "\n").into_bytes();
                Response { status: "200 OK", kind: "application/json", body, last: false }
            }
            Some(Reply::Refused(Refusal::TooManyQuestions(_))) => {
                Response::text("429 Too Many Requests", false)
            }
            _ => stopping(),
        }
    }
}

fn stopping() -> Response {
    Response::text("503 Service Unavailable", true)
}

/// A whole request and its length in bytes; nothing yet; or the answer to what is none.
fn parse(input: &[u8]) -> Result<Option<(Request, usize)>, Response> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let len = match parsed.parse(input) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Response::text("431 Request Header Fields Too Large", true));
        }
        Err(_) => return Err(Response::text("400 Bad Request", true)),
    };
    let header = |name: &str| {
        let found = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let is_head = parsed.method == Some("HEAD");
    if !is_head && parsed.method != Some("GET") {
        return Err(Response::text("405 Method Not Allowed", true));
    }
    // A body would be taken for the next request.
    let has_body = header("transfer-encoding").is_some()
        || header("content-length").is_some_and(|len| len.trim() != "0");
    if has_body {
        return Err(Response::text("413 Content Too Large", true));
    }
    let connection = header("connection").unwrap_or_default().to_ascii_lowercase();
    let keep_alive = match parsed.version {
        Some(1) => !connection.contains("close"),
        _ => connection.contains("keep-alive"),
    };
    let host = header("host").map(str::to_owned);
    let target = in_origin_form(parsed.path.unwrap_or_default());
    Ok(Some((Request { is_head, target, host, keep_alive }, len)))
}

/// Path and query of a target that may be a whole URL, as it is to a proxy (RFC 9112, 3.2.2).
fn in_origin_form(target: &str) -> String {
    let absolute = target.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?']));
    let Some((_, rest)) = absolute else { return target.to_owned() };
    match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => rest[at..].to_owned(),
        Some(at) => format!("/{}", &rest[at..]),
        None => "/".to_owned(),
    }
}
