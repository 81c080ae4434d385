//! Web servers for a fixture's files: an honest one, and one for each way of misbehaving.
//!
//! ```text
//! GET /NAME or /NAME/path  [Range: bytes=a-b]  ──► answer of the manner ──► kept open, or closed
//! ```
//!
//! Written from RFC 9110 with std alone; every request is noted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use super::fixture::Fixture;
use super::own_ip;

/// What a server does with a request for a file that it has.
#[derive(Debug, Clone)]
pub enum Manner {
    Honest,
    /// 200 and the whole file, whatever the range.
    IgnoresRange,
    /// A status and a header line, or an empty one.
    Answers(u16, &'static str),
    /// The first request is answered like this, all others honestly.
    Once(u16, &'static str),
    /// One byte in so many is wrong; so are the others that lie as far from each other.
    Corrupt(usize),
    /// The body ends after so many bytes, and the connection with it.
    Short(usize),
    /// As `Short`, but the headers say that all is well: no length at all.
    ShortWithoutLength(usize),
    /// More bytes than the headers say.
    Long,
    /// The range that was asked for is not what is sent.
    WrongRange,
    /// The headers, then a byte now and then.
    Trickle(Duration),
    /// Headers, and then nothing.
    Hangs,
    /// Takes the request and says nothing.
    Silent,
    /// Says that the body is compressed.
    Encoded,
    /// Not HTTP.
    Babbles,
    /// So many bytes a second.
    Slow(u64),
    /// Honest, but without this file.
    Lacks(&'static str),
    /// Honest, but this file is an older one of the same length.
    Stale(&'static str),
    /// Sends everybody there.
    Redirects(String),
}

/// A server that stops with the value.
pub struct Server {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    fixture: FixtureFiles,
    manner: Manner,
    stopped: AtomicBool,
    connections: AtomicUsize,
    served: AtomicU64,
    requests: Mutex<Vec<Request>>,
}

/// What the server needs of a fixture.
struct FixtureFiles {
    data: Arc<Vec<u8>>,
    /// URL path, place in the data.
    files: Vec<(String, Range<usize>)>,
}

#[derive(Debug, Clone)]
pub struct Request {
    /// As it was sent.
    pub path: String,
    pub range: Option<Range<usize>>,
    pub headers: String,
}

impl Server {
    pub fn start(fixture: &Fixture, manner: Manner) -> Server {
        let files = fixture.files.iter().filter(|file| !file.pad).map(|file| {
            let path = match fixture.single {
                true => format!("/{}", fixture.name),
                false => format!("/{}/{}", fixture.name, file.path),
            };
            (path, file.range.clone())
        });
        let fixture = FixtureFiles { data: fixture.data.clone(), files: files.collect() };
        let listener = TcpListener::bind((own_ip(), 0)).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            fixture,
            manner,
            stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            requests: Mutex::new(Vec::new()),
        });
        let for_thread = shared.clone();
        let thread = spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if for_thread.stopped.load(Ordering::SeqCst) {
                    return;
                }
                for_thread.connections.fetch_add(1, Ordering::SeqCst);
                let shared = for_thread.clone();
                spawn(move || drop(serve(socket, &shared)));
            }
        });
        Server { addr, shared, thread: Some(thread) }
    }

    /// Of the folder that holds the torrent's file or folder.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no panic").clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that were sent.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: TcpStream, shared: &Shared) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut from = BufReader::new(socket.try_clone()?);
    let mut to = socket;
    while let Some(request) = read_request(&mut from)? {
        let number = {
            let mut requests = shared.requests.lock().expect("no panic");
            requests.push(request.clone());
            requests.len()
        };
        let manner = match &shared.manner {
            Manner::Once(status, header) if number == 1 => Manner::Answers(*status, header),
            Manner::Once(..) => Manner::Honest,
            other => other.clone(),
        };
        if !answer(&mut to, &mut from, &request, &manner, shared)? {
            return Ok(());
        }
    }
    Ok(())
}

fn read_request(from: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut headers = String::new();
    while !headers.ends_with("\r\n\r\n") {
        if from.read_line(&mut headers)? == 0 {
            return Ok(None);
        }
    }
    let path = headers.split(' ').nth(1).unwrap_or_default().to_owned();
    let range = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value =
            value.trim().strip_prefix("bytes=").filter(|_| name.eq_ignore_ascii_case("range"))?;
        let (first, last) = value.split_once('-')?;
        Some(first.parse().ok()?..last.parse::<usize>().ok()? + 1)
    });
    Ok(Some(Request { path, range, headers }))
}

/// Bytes of a URL: `%20` is a blank.
fn unescaped(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'%' => {
                let (hex, after) = rest.split_at(2);
                rest = after;
                u8::from_str_radix(std::str::from_utf8(hex).expect("hex"), 16).expect("hex")
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// True if the connection stays.
fn answer(
    to: &mut TcpStream,
    from: &mut BufReader<TcpStream>,
    request: &Request,
    manner: &Manner,
    shared: &Shared,
) -> std::io::Result<bool> {
    let path = unescaped(&request.path);
    let FixtureFiles { data, files } = &shared.fixture;
    if let Manner::Redirects(base) = manner {
        let place = format!("{base}{}", &request.path[1..]);
        write!(to, "HTTP/1.1 302 There\r\nContent-Length: 0\r\nLocation: {place}\r\n\r\n")?;
        return Ok(true);
    }
    let lacks = |name: &str| matches!(manner, Manner::Lacks(lacking) if name.ends_with(lacking));
    let Some((_, place)) = files.iter().find(|(name, _)| *name == path && !lacks(name)) else {
        to.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    };
    let file = &data[place.clone()];
    let older: Vec<u8>;
    let file = match manner {
        Manner::Stale(stale) if path.ends_with(stale) => {
            older = file.iter().map(|byte| byte ^ 0x55).collect();
            &older
        }
        _ => file,
    };
    match manner {
        Manner::IgnoresRange => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len());
            return send(to, shared, &head, file).map(|()| true);
        }
        Manner::Answers(status, header) => {
            let line = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
            write!(to, "HTTP/1.1 {status} So\r\nContent-Length: 0\r\n{line}\r\n")?;
            return Ok(true);
        }
        _ => {}
    }
    let range = request.range.clone().unwrap_or(0..file.len());
    if file.len() <= range.start {
        to.write_all(b"HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    let range = range.start..range.end.min(file.len());
    send_range(to, from, file, range, manner, shared)
}

/// True if the connection stays.
fn send_range(
    to: &mut TcpStream,
    from: &mut BufReader<TcpStream>,
    file: &[u8],
    range: Range<usize>,
    manner: &Manner,
    shared: &Shared,
) -> std::io::Result<bool> {
    let mut body = file[range.clone()].to_vec();
    let head = |length: usize, more: &str| {
        let (start, last, all) = (range.start, range.end - 1, file.len());
        format!(
            "HTTP/1.1 206 Partial\r\nContent-Length: {length}\r\n\
             Content-Range: bytes {start}-{last}/{all}\r\n{more}\r\n"
        )
    };
    match manner {
        Manner::Corrupt(every) => {
            let first = (every - range.start % every) % every;
            (first..body.len()).step_by(*every).for_each(|at| body[at] ^= 0x55);
            send(to, shared, &head(body.len(), ""), &body)?;
            return Ok(true);
        }
        Manner::Short(n) => {
            let n = (*n).min(body.len());
            send(to, shared, &head(body.len(), ""), &body[..n])?;
        }
        Manner::ShortWithoutLength(n) => {
            let n = (*n).min(body.len());
            let (start, last, all) = (range.start, range.end - 1, file.len());
            let range = format!("Content-Range: bytes {start}-{last}/{all}");
            let head = format!("HTTP/1.1 206 Partial\r\n{range}\r\nConnection: close\r\n\r\n");
            send(to, shared, &head, &body[..n])?;
        }
        Manner::Long => {
            let length = body.len();
            body.extend([7; 5_000]);
            send(to, shared, &head(length, ""), &body)?;
        }
        Manner::WrongRange => {
            let head =
                head(body.len(), "").replace("Content-Range: bytes ", "Content-Range: bytes 1");
            send(to, shared, &head, &body)?;
        }
        Manner::Encoded => {
            send(to, shared, &head(body.len(), "Content-Encoding: gzip\r\n"), &body)?
        }
        Manner::Babbles => to.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n")?,
        Manner::Trickle(pause) => {
            return send_slowly(to, shared, &head(body.len(), ""), &body, 1, *pause);
        }
        Manner::Slow(rate) => {
            let (head, portion) = (head(body.len(), ""), (*rate / 50).max(1) as usize);
            return send_slowly(to, shared, &head, &body, portion, Duration::from_millis(20));
        }
        Manner::Hangs | Manner::Silent => {
            if matches!(manner, Manner::Hangs) {
                to.write_all(head(body.len(), "").as_bytes())?;
            }
            // Until the other end hangs up.
            let _ = from.read(&mut [0]);
        }
        // The honest ones; what is left has been answered already.
        _ => return send(to, shared, &head(body.len(), ""), &body).map(|()| true),
    }
    Ok(false)
}

fn send_slowly(
    to: &mut TcpStream,
    shared: &Shared,
    head: &str,
    body: &[u8],
    portion: usize,
    pause: Duration,
) -> std::io::Result<bool> {
    to.write_all(head.as_bytes())?;
    for part in body.chunks(portion) {
        send(to, shared, "", part)?;
        std::thread::sleep(pause);
    }
    Ok(true)
}

fn send(to: &mut TcpStream, shared: &Shared, head: &str, body: &[u8]) -> std::io::Result<()> {
    to.write_all(head.as_bytes())?;
    for part in body.chunks(64 << 10) {
        to.write_all(part)?;
        shared.served.fetch_add(part.len() as u64, Ordering::SeqCst);
    }
    Ok(())
}
