//! A tracker on 127.0.0.1: HTTP (BEP 3, 23, 7) and UDP (BEP 15), honest or not.
//!
//! ```text
//! UDP  connect   | 0x41727101980: u64 | action 0: u32 | transaction: u32 |
//!      announce  | connection: u64 | 1: u32 | transaction: u32 | info hash: 20 | peer id: 20 |
//!                | downloaded, left, uploaded: u64 | event, ip, key, numwant: u32 | port: u16 |
//!      answer    | 1: u32 | transaction: u32 | interval, leechers, seeders: u32 | ip: 4, port: 2 |*
//! ```
//!
//! Two threads. Every announce is sent to whoever holds the tracker.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::fixture::string;

/// The connection id we hand out (UDP).
const CONNECTION: u64 = 0x0123_4567_89ab_cdef;

/// How a tracker behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    Honest,
    /// `failure reason`, or an error packet.
    Refuses,
    /// Takes the connection or the packet and says nothing.
    Silent,
    /// Answers what is no bencode.
    Babbles,
}

/// What a client told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    pub udp: bool,
    pub info_hash: Vec<u8>,
    pub port: u16,
    pub uploaded: u64,
    pub downloaded: u64,
    pub left: u64,
    /// `started`, `completed`, `stopped`, or nothing.
    pub event: String,
}

pub struct Tracker {
    pub addr: SocketAddr,
    announces: Receiver<Announce>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Tracker {
    /// An honest one that tells everybody of these peers.
    pub fn start(peers: &[SocketAddr]) -> Tracker {
        Tracker::with_manner(peers, Manner::Honest)
    }

    pub fn with_manner(peers: &[SocketAddr], manner: Manner) -> Tracker {
        let (tcp, udp) = same_port();
        let addr = tcp.local_addr().expect("bound");
        let (sender, announces) = unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let service = Service { peers: peers.to_vec(), manner, sender, stop: stop.clone() };
        let other = service.clone();
        let threads =
            vec![spawn(move || service.serve_http(&tcp)), spawn(move || other.serve_udp(&udp))];
        Tracker { addr, announces, stop, threads }
    }

    pub fn http(&self) -> String {
        format!("http://{}/announce", self.addr)
    }

    pub fn udp(&self) -> String {
        format!("udp://{}/announce", self.addr)
    }

    /// What was announced since the last time somebody asked.
    pub fn announces(&self) -> Vec<Announce> {
        self.announces.try_iter().collect()
    }

    /// The next announce.
    #[track_caller]
    pub fn next(&self) -> Announce {
        self.announces.recv_timeout(Duration::from_secs(20)).expect("an announce within 20 s")
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
        let knock = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let _ = knock.and_then(|socket| socket.send_to(b"", self.addr));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One port number for both. Another process may have one of the two: then the next is tried.
fn same_port() -> (TcpListener, UdpSocket) {
    (0..100)
        .find_map(|_| {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
            Some((tcp, udp))
        })
        .expect("a free port")
}

#[derive(Clone)]
struct Service {
    peers: Vec<SocketAddr>,
    manner: Manner,
    sender: Sender<Announce>,
    stop: Arc<AtomicBool>,
}

impl Service {
    fn serve_http(&self, listener: &TcpListener) {
        // Those that wait for a silent tracker.
        let mut waiting = Vec::new();
        for stream in listener.incoming() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let Ok(mut stream) = stream else { continue };
            let Some(announce) = read_request(&mut stream).and_then(|line| announce_of(&line))
            else {
                continue;
            };
            let _ = self.sender.send(announce);
            let body = match self.manner {
                Manner::Honest => self.answer(),
                Manner::Refuses => b"d14:failure reason8:go away!e".to_vec(),
                Manner::Babbles => b"<html>It works!</html>".to_vec(),
                Manner::Silent => {
                    waiting.push(stream);
                    continue;
                }
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
            let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes());
            let _ = stream.write_all(&body);
        }
    }

    fn answer(&self) -> Vec<u8> {
        let (v4, v6): (Vec<_>, Vec<_>) = self.peers.iter().partition(|peer| peer.is_ipv4());
        let mut answer = b"d8:completei1e10:incompletei1e8:intervali1800e5:peers".to_vec();
        string(&mut answer, &compact(&v4));
        if !v6.is_empty() {
            answer.extend(b"6:peers6");
            string(&mut answer, &compact(&v6));
        }
        answer.push(b'e');
        answer
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut packet = [0; 2048];
        loop {
            let Ok((len, from)) = socket.recv_from(&mut packet) else { continue };
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if let Some(answer) = self.answer_packet(&packet[..len]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    }

    fn answer_packet(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let word = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_be_bytes(packet.get(at..at + 8)?.try_into().ok()?));
        let (action, transaction) = (word(8)?, word(12)?.to_be_bytes());
        let answer = |action: u32| [action.to_be_bytes(), transaction].concat();
        match (self.manner, action) {
            (Manner::Silent, _) => None,
            (Manner::Babbles, _) => Some(b"It works!".to_vec()),
            (_, 0) if long(0)? == 0x0417_2710_1980 => {
                Some([answer(0), CONNECTION.to_be_bytes().to_vec()].concat())
            }
            (_, 1) if long(0)? == CONNECTION => {
                let event = ["", "completed", "started", "stopped"].get(word(80)? as usize)?;
                let _ = self.sender.send(Announce {
                    udp: true,
                    info_hash: packet[16..36].to_vec(),
                    downloaded: long(56)?,
                    left: long(64)?,
                    uploaded: long(72)?,
                    event: event.to_string(),
                    port: u16::from_be_bytes([*packet.get(96)?, *packet.get(97)?]),
                });
                if self.manner == Manner::Refuses {
                    return Some([answer(3), b"go away!".to_vec()].concat());
                }
                let numbers = [1800u32, 1, 1].map(u32::to_be_bytes).concat();
                let v4: Vec<_> = self.peers.iter().filter(|peer| peer.is_ipv4()).collect();
                Some([answer(1), numbers, compact(&v4)].concat())
            }
            _ => Some([answer(3), b"no such action".to_vec()].concat()),
        }
    }
}

fn compact(peers: &[&SocketAddr]) -> Vec<u8> {
    let one = |peer: &&SocketAddr| match peer {
        SocketAddr::V4(v4) => [&v4.ip().octets()[..], &v4.port().to_be_bytes()].concat(),
        SocketAddr::V6(v6) => [&v6.ip().octets()[..], &v6.port().to_be_bytes()].concat(),
    };
    peers.iter().flat_map(one).collect()
}

/// The first line of an HTTP request. `None` if it does not come within two seconds.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(2);
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") && request.len() < 64 << 10 {
        let left = deadline.checked_duration_since(Instant::now())?;
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).ok()?;
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(n) => request.extend(&buffer[..n]),
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(String::from_utf8_lossy(&request).lines().next()?.to_owned())
}

/// `GET /announce?info_hash=%01…&port=6881 HTTP/1.1`
fn announce_of(line: &str) -> Option<Announce> {
    let (_, query) = line.split(' ').nth(1)?.split_once('?')?;
    let value = |name: &str| {
        let mut fields = query.split('&').filter_map(|field| field.split_once('='));
        fields.find(|field| field.0 == name).map(|field| unescape(field.1))
    };
    let number = |name: &str| String::from_utf8(value(name)?).ok()?.parse::<u64>().ok();
    Some(Announce {
        udp: false,
        info_hash: value("info_hash")?,
        port: number("port")? as u16,
        uploaded: number("uploaded")?,
        downloaded: number("downloaded")?,
        left: number("left")?,
        event: value("event").map_or(String::new(), |event| String::from_utf8_lossy(&event).into()),
    })
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, digits.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}
