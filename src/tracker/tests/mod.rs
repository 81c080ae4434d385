//! The tracker client against real sockets on this machine, and trackers that do their worst.
//!
//! A time-out that a test waits for is some tens of milliseconds; one that must not be waited for is
//! a minute, and [`within_seconds`] notices if it was.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};

use super::*;

mod http;
mod team;
mod udp;

/// What no test waits for.
const LONG: Duration = Duration::from_secs(60);

/// What it may take instead, on a busy machine.
const PROMPT: Duration = Duration::from_secs(5);

/// Nothing times out.
fn patient() -> Limits {
    Limits {
        connect: LONG,
        whole: LONG,
        udp_first: LONG,
        udp_tries: 3,
        next_address: LONG,
        next_tracker: LONG,
        retry_first: LONG,
        retry_max: LONG,
        farewell: LONG,
    }
}

/// Runs something that has to be over long before the time-outs.
#[track_caller]
fn within_seconds<T>(f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = f();
    assert!(start.elapsed() < PROMPT, "took {:?}", start.elapsed());
    result
}

fn an_announce() -> Announce {
    Announce {
        info_hash: Sha1([0xab; 20]),
        peer_id: *b"-PM0100-abcdefghijkl",
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Event::Started,
        numwant: NUMWANT,
        key: 7,
        tracker_id: None,
    }
}

/// Announces once, with these limits.
fn ask(url: &str, limits: &Limits) -> Result<Answer> {
    let (_hold, leash) = leash(&Default::default());
    call(&Target::parse(url)?, &an_announce(), &mut None, None, limits, &leash)
}

/// A call that is abandoned once `arrived` has a message, and what came of it.
fn abandon<T>(url: &str, arrived: &Receiver<T>) -> Result<Answer> {
    let (hold, leash) = leash(&Default::default());
    let target = Target::parse(url).unwrap();
    std::thread::scope(|scope| {
        let asking =
            scope.spawn(move || call(&target, &an_announce(), &mut None, None, &patient(), &leash));
        arrived.recv_timeout(PROMPT).expect("the tracker was not asked");
        drop(hold);
        asking.join().unwrap()
    })
}

#[track_caller]
fn fails(result: Result<Answer>, why: &str) {
    let error = result.expect_err(why).to_string();
    assert!(error.contains(why), "{error:?} should say {why:?}");
    assert!(!error.contains('\n'), "{error:?}");
}

/// A good answer with one peer.
const GOOD: &[u8] = b"d8:completei1e10:incompletei2e8:intervali1800e5:peers6:\x7f\0\0\x01\x1a\xe1e";

fn the_peer() -> Vec<SocketAddr> {
    vec!["127.0.0.1:6881".parse().unwrap()]
}

/// An HTTP tracker whose every connection is handled by the test.
struct HttpTracker {
    address: SocketAddr,
    /// The head of every request.
    requests: Receiver<String>,
    leaving: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpTracker {
    /// The script gets the head of each request, in a thread of its own.
    fn start(script: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> HttpTracker {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = unbounded();
        let leaving = Arc::new(AtomicBool::new(false));
        let (script, is_leaving) = (Arc::new(script), leaving.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_leaving.load(SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                let (script, sender) = (script.clone(), sender.clone());
                std::thread::spawn(move || {
                    let head = read_head(&mut stream);
                    let _ = sender.send(head.clone());
                    script(&head, &mut stream);
                    let _ = stream.shutdown(Shutdown::Write);
                    // To close with unread bytes would reset the connection before it is read.
                    until_closed(&mut stream);
                });
            }
        });
        HttpTracker { address, requests, leaving, thread: Some(thread) }
    }

    /// Always the same answer.
    fn answering(status: &'static str, body: impl AsRef<[u8]>) -> HttpTracker {
        let body = body.as_ref().to_vec();
        HttpTracker::start(move |_, stream| reply(stream, status, &body))
    }

    fn url(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    fn request(&self) -> String {
        self.requests.recv_timeout(PROMPT).expect("no request arrived")
    }
}

impl Drop for HttpTracker {
    fn drop(&mut self) {
        self.leaving.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn reply(stream: &mut TcpStream, status: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

/// Waits for the client to go.
fn until_closed(stream: &mut TcpStream) {
    let _ = std::io::copy(stream, &mut std::io::sink());
}

/// A UDP tracker whose every packet is handled by the test.
struct UdpTracker {
    address: SocketAddr,
    /// Every packet, as it came.
    packets: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

impl UdpTracker {
    /// The script gets each packet and its sender, and says what to send back.
    fn start(
        listen: impl Into<std::net::IpAddr>,
        mut script: impl FnMut(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static,
    ) -> UdpTracker {
        let socket = UdpSocket::bind((listen.into(), 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, packets) = unbounded();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                // Empty: the test is over.
                if len == 0 {
                    return;
                }
                let _ = sender.send(buffer[..len].to_vec());
                for answer in script(&buffer[..len], from) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        UdpTracker { address, packets, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("udp://{}/announce?k=1", self.address)
    }

    fn packet(&self) -> Vec<u8> {
        self.packets.recv_timeout(PROMPT).expect("no packet arrived")
    }
}

impl Drop for UdpTracker {
    fn drop(&mut self) {
        let local = if self.address.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
        UdpSocket::bind(local).unwrap().send_to(&[], self.address).unwrap();
        let _ = self.thread.take().unwrap().join();
    }
}

#[test]
fn no_answer_panics() {
    let mut random = fastrand::Rng::with_seed(15);
    let seeds: [&[u8]; 4] = [
        GOOD,
        b"d5:peersld2:ip7:1.2.3.44:porti5eee8:intervali9223372036854775808ee",
        b"d14:failure reason2:no8:retry in5:never6:peers618:aaaaaaaaaaaaaaaaaae",
        b"\0\0\0\x01\0\0\0\x08\0\0\x07\x08\0\0\0\x02\0\0\0\x01\x7f\0\0\x01\x1a\xe1",
    ];
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] = *random.choice(b"0123456789-:ilde").unwrap(),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let _ = answer::announce(&bytes).map_err(|e| e.to_string());
        let _ = answer::scrape(&bytes, Sha1([0; 20]));
        let from = "192.0.2.1:80".parse().unwrap();
        for action in [packet::Action::Connect, packet::Action::Announce, packet::Action::Scrape] {
            let _ = packet::decode(&bytes, action, 8, from);
        }
        let _ = Target::parse(&String::from_utf8_lossy(&bytes));
    }
}
