//! The UDP tracker protocol (BEP 15, 41), seen from the tracker. All numbers are big-endian; the
//! packets are drawn in the client's half, [`tracker`](crate::tracker).
//!
//! Anybody can write any sender's address on a packet. So before we answer at length, or note an
//! address down, the sender proves that it gets what we send there: it repeats a connection id that
//! we sent. We keep none: an id is a keyed hash of the address and of the time, so that we can tell
//! ours by computing it again. The key is drawn when the tracker starts.
//!
//! ```text
//! connection id = SipHash(key, IP address, half minute)      good in this half minute and 4 more
//! ```
//!
//! Nothing that comes without a good id gets an answer longer than itself. What is too short to be a
//! request is dropped.
//!
//! Layer: hands. One thread for each family; owns nothing but the key, the socket is the server's.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::answer::packed;
use super::keeper::{Desk, Question, Reply, Report, Via};
use super::known_as;
use super::query::{NUMWANT, SCRAPE_MAX};
use crate::hash::Sha1;
use crate::registry::{Announce, Event};
use crate::udp_tracker::{ANNOUNCE, CONNECT, ERROR, MAGIC, SCRAPE};

/// The longest packet that we read whole; the rest of a longer one is cut off by the system.
const PACKET_MAX: usize = 2048;

/// The addresses of one answer, in bytes: with the headers it fits 1280 bytes, the least that IPv6
/// guarantees to carry.
const PEERS_LEN_MAX: usize = 1280 - 48 - 20;

/// A connection id is good for at least two minutes (BEP 15), in steps of this.
const STEP: Duration = Duration::from_secs(30);
const STEPS: u64 = 4;

/// The pause after an error that we do not know: it may stay for a while, and must not keep a core busy.
/// Short enough that the socket's buffer holds what comes meanwhile.
const REST: Duration = Duration::from_millis(50);

/// Makes connection ids and knows them again.
struct Ids {
    key: RandomState,
    start: Instant,
}

impl Ids {
    fn id(&self, ip: IpAddr, step: u64) -> u64 {
        self.key.hash_one((ip, step))
    }

    fn step(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / STEP.as_secs()
    }

    fn issue(&self, ip: IpAddr, now: Instant) -> u64 {
        self.id(ip, self.step(now))
    }

    fn is_good(&self, id: u64, ip: IpAddr, now: Instant) -> bool {
        let now = self.step(now);
        (now.saturating_sub(STEPS)..=now).any(|step| self.id(ip, step) == id)
    }
}

/// The thread: until the tracker stops.
pub fn serve(socket: &UdpSocket, desk: &Desk, stop: &AtomicBool) {
    serve_what(&mut |packet| socket.recv_from(packet), socket, desk, stop);
}

/// How many bytes, and from whom.
type Received = io::Result<(usize, SocketAddr)>;

/// Answers what is received, wherever that comes from.
fn serve_what(
    receive: &mut dyn FnMut(&mut [u8]) -> Received,
    socket: &UdpSocket,
    desk: &Desk,
    stop: &AtomicBool,
) {
    let ids = Ids { key: RandomState::new(), start: Instant::now() };
    let mut packet = [0; PACKET_MAX];
    loop {
        let received = receive(&mut packet);
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let (len, from) = match received {
            Ok(received) => received,
            // An earlier answer met a closed port; that says nothing about the next request.
            Err(err) if is_about_another(&err) => continue,
            // Out of memory, most likely. The socket is as good as before: what waits there, and
            // who comes later, is answered when this has passed.
            Err(_) => {
                thread::sleep(REST);
                continue;
            }
        };
        let request = packet.get(..len).unwrap_or_default();
        if let Some(answer) = answer(request, from, &ids, desk, Instant::now()) {
            // A full buffer or an unreachable host: to the client it is a lost packet.
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn is_about_another(err: &io::Error) -> bool {
    use io::ErrorKind::*;
    let known = [ConnectionReset, ConnectionRefused, HostUnreachable, NetworkUnreachable];
    known.contains(&err.kind()) || err.kind() == Interrupted || err.kind() == WouldBlock
}

/// Takes numbers off the front of a packet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }
}

/// The answer to a packet, if it deserves one.
fn answer(
    packet: &[u8],
    from: SocketAddr,
    ids: &Ids,
    desk: &Desk,
    now: Instant,
) -> Option<Vec<u8>> {
    let mut reader = Reader(packet);
    let (id, action, transaction) = (reader.u64()?, reader.u32()?, reader.u32()?);
    let ip = from.ip();
    if action == CONNECT {
        let answer = [head(CONNECT, transaction), ids.issue(ip, now).to_be_bytes().to_vec()];
        return (id == MAGIC).then(|| answer.concat());
    }
    let question = match action {
        ANNOUNCE => announce(&mut reader, from)?,
        SCRAPE => scrape(&mut reader)?,
        _ => return None,
    };
    if !ids.is_good(id, ip, now) {
        // Shorter than an announce and than a scrape: nobody can be flooded with it.
        return Some(error(transaction, "connect first"));
    }
    Some(match desk.ask(from, question)? {
        Reply::Announced(answer) => {
            let (counts, mut packet) = (answer.counts, head(ANNOUNCE, transaction));
            for number in [answer.interval, counts.leechers, counts.seeds] {
                packet.extend_from_slice(&number.to_be_bytes());
            }
            let entry_len = if from.ip().to_canonical().is_ipv6() { 18 } else { 6 };
            let peers = answer.peers.iter().take(PEERS_LEN_MAX / entry_len);
            packet.extend(peers.flat_map(|peer| packed(peer.address)));
            packet
        }
        Reply::Scraped(all) => {
            let mut packet = head(SCRAPE, transaction);
            for (_, counts) in all {
                let counts = counts.unwrap_or_default();
                for number in [counts.seeds, counts.completed, counts.leechers] {
                    packet.extend_from_slice(&number.to_be_bytes());
                }
            }
            packet
        }
        Reply::Refused(refusal) => error(transaction, &refusal.to_string()),
        Reply::Stats(_) => return None,
    })
}

fn announce(reader: &mut Reader, from: SocketAddr) -> Option<Question> {
    let (info_hash, peer_id) = (Sha1(reader.take()?), reader.take()?);
    let (downloaded, left, uploaded) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let event = match reader.u32()? {
        1 => Event::Completed,
        2 => Event::Started,
        3 => Event::Stopped,
        _ => Event::Regular,
    };
    let claimed = Ipv4Addr::from_bits(reader.u32()?);
    let (key, numwant, port) = (reader.u32()?, reader.u32()?, reader.u16()?);
    // The field has four bytes in either family. An address of the other family than the packet's
    // could not be answered in kind.
    let source = from.ip().to_canonical();
    let claimed = source.is_ipv4().then_some(IpAddr::V4(claimed));
    let announce = Announce {
        info_hash,
        peer_id,
        key,
        address: known_as(from, claimed, port),
        source,
        complete: left == 0,
        event,
        // -1 is "as many as you like to give".
        numwant: if numwant as i32 >= 0 { numwant as usize } else { NUMWANT },
        both_families: false,
    };
    let path = url_data(reader.0);
    let report = Report { via: Via::Udp, uploaded, downloaded, left: Some(left), path };
    Some(Question::Announce(Box::new((announce, report))))
}

fn scrape(reader: &mut Reader) -> Option<Question> {
    let (hashes, _) = reader.0.as_chunks::<20>();
    let hashes: Vec<Sha1> = hashes.iter().take(SCRAPE_MAX).map(|hash| Sha1(*hash)).collect();
    (!hashes.is_empty()).then_some(Question::Scrape(Via::Udp, hashes))
}

/// The options of BEP 41: the path and query of the URL, in parts of up to 255 bytes.
///
/// ```text
/// | 0 |  end        | 1 |  nothing        | 2 | length: u8 | part |        others as 2, skipped
/// ```
fn url_data(mut options: &[u8]) -> String {
    let mut url = Vec::new();
    while let [kind, rest @ ..] = options {
        options = match (kind, rest) {
            (0, _) => break,
            (1, rest) => rest,
            (kind, [len, rest @ ..]) => {
                let Some((part, rest)) = rest.split_at_checked(usize::from(*len)) else { break };
                if *kind == 2 {
                    url.extend_from_slice(part);
                }
                rest
            }
            (_, []) => break,
        };
    }
    String::from_utf8_lossy(&url).into_owned()
}

fn head(action: u32, transaction: u32) -> Vec<u8> {
    [action.to_be_bytes(), transaction.to_be_bytes()].concat()
}

fn error(transaction: u32, text: &str) -> Vec<u8> {
    [&head(ERROR, transaction), text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker_server::{self, keeper};

    #[test]
    fn an_id_is_good_for_two_minutes_at_its_address_only() {
        let start = Instant::now();
        let ids = Ids { key: RandomState::new(), start };
        let at = |second| start + Duration::from_secs(second);
        let (here, there) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        for issued in [0, 29, 30, 1_000_000] {
            let id = ids.issue(here, at(issued));
            assert!([0, 60, 120].iter().all(|age| ids.is_good(id, here, at(issued + age))));
            assert!(!ids.is_good(id, here, at(issued + 151)));
            assert!(!ids.is_good(id, there, at(issued)) && !ids.is_good(id ^ 1, here, at(issued)));
            let others = Ids { key: RandomState::new(), start };
            assert!(!others.is_good(id, here, at(issued)));
        }
    }

    /// The system may be short of memory for a moment, or say what nobody has foreseen.
    #[test]
    fn an_error_is_not_the_end() {
        let options = tracker_server::Options::default();
        let (sightings, _) = crossbeam_channel::bounded(1);
        let registry = tracker_server::registry(&options);
        let (desk, _keeper) = keeper::open(registry, &options, sightings);
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.send(&[&MAGIC.to_be_bytes()[..], &[0; 8]].concat()).unwrap();
        let (stop, mut calls) = (AtomicBool::new(false), 0);
        serve_what(
            &mut |packet| {
                calls += 1;
                // The last call is the knock at the end.
                stop.store(calls == 4, Ordering::SeqCst);
                match calls {
                    3 => server.recv_from(packet),
                    _ => Err(io::ErrorKind::OutOfMemory.into()),
                }
            },
            &server,
            &desk,
            &stop,
        );
        assert_eq!(calls, 4);
        assert_eq!(client.recv(&mut [0; 64]).unwrap(), 16);
    }

    #[test]
    fn options() {
        let check = |options: &[u8], url: &str| assert_eq!(url_data(options), url);
        check(b"", "");
        check(b"\x02\x04/ann\x01\x02\x03?a=\x00\x02\x01x", "/ann?a=");
        check(b"\x07\x02ab\x02\x01/", "/");
        check(b"\x02\x09/cut", "");
        check(b"\x02", "");
    }
}
