//! Real sockets on loopback: a node of ours between liars (H1 to H6), and the whole program.
//!
//! The liars write their packets by hand, by BEP 5.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use piecemeal::dht::Searched;
use piecemeal::dht_node::{Config, DhtNode, Report, Sockets};
use piecemeal::hash::Sha1;

use crate::support::fixture::Recipe;
use crate::support::place::Place;
use crate::support::run::Run;
use crate::support::{free_addr, own_ip};

const HASH: Sha1 = Sha1(*b"the torrent's hash..");
const LIMIT: Duration = Duration::from_secs(20);

/// A node of ours, and what it reports.
struct Ours {
    node: DhtNode,
    addr: SocketAddr,
    reports: Receiver<Report>,
}

impl Ours {
    fn start(bootstrap: &[SocketAddr]) -> Ours {
        let ip = own_ip();
        let sockets = Sockets::open(Some(ip), 0).expect("a socket");
        let addr = SocketAddr::new(ip, sockets.port(false).expect("bound"));
        let host = |addr: &SocketAddr| addr.to_string().parse().expect("a host and a port");
        let bootstrap = Some(bootstrap.iter().map(host).collect());
        let config = Config { bootstrap, cache: None, ..Config::default() };
        let (sender, reports) = unbounded();
        let report = move |report| drop(sender.send(report));
        Ours { node: DhtNode::start(config, sockets, report).expect("a thread"), addr, reports }
    }

    /// Looks once; the peers that were found, and how it went.
    fn look(&self) -> (HashSet<SocketAddr>, Searched) {
        self.node.look(HASH);
        let mut found = HashSet::new();
        loop {
            match self.reports.recv_timeout(LIMIT).expect("the end of the look-up") {
                Report::Found { peers, .. } => found.extend(peers),
                Report::Searched { searched, .. } => return (found, searched),
                _ => {}
            }
        }
    }

    /// Ends it; all its threads must end.
    fn end(self) {
        let ended = Instant::now();
        self.node.end().join().expect("no panic");
        assert!(ended.elapsed() < Duration::from_secs(3));
    }
}

/// A socket that answers each packet with those that `answer` makes of it.
struct Stranger {
    addr: SocketAddr,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Replies = Vec<Vec<u8>>;

impl Stranger {
    fn start(answer: impl FnMut(&[u8]) -> Replies + Send + 'static) -> Stranger {
        let socket = UdpSocket::bind((own_ip(), 0)).expect("a socket");
        Stranger::at(socket, answer)
    }

    fn at(
        socket: UdpSocket,
        mut answer: impl FnMut(&[u8]) -> Replies + Send + 'static,
    ) -> Stranger {
        let addr = socket.local_addr().expect("bound");
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (asked.clone(), stop.clone());
        let body = move || {
            let mut packet = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut packet) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                for reply in answer(&packet[..len]) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        };
        Stranger { addr, asked, stop, thread: Some(std::thread::spawn(body)) }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let knock = UdpSocket::bind((self.addr.ip(), 0)).expect("a socket");
        let _ = knock.send_to(b"", self.addr);
        let _ = self.thread.take().expect("once").join();
    }
}

/// The transaction id in a packet of ours.
fn transaction(packet: &[u8]) -> [u8; 4] {
    let at = packet.windows(5).rposition(|w| w == b"1:t4:");
    let at = at.expect("a transaction id of four bytes") + 5;
    packet[at..at + 4].try_into().expect("four bytes")
}

fn is_get_peers(packet: &[u8]) -> bool {
    packet.windows(9).any(|w| w == b"get_peers")
}

/// An answer: what is inside `r` after the id.
fn answer(id: &[u8; 20], rest: &[u8], t: &[u8]) -> Vec<u8> {
    let len = t.len().to_string();
    [b"d1:rd2:id20:", &id[..], rest, b"e1:t", len.as_bytes(), b":", t, b"1:y1:re"].concat()
}

fn nodes(list: &[(&[u8; 20], SocketAddr)]) -> Vec<u8> {
    let mut bytes = format!("5:nodes{}:", list.len() * 26).into_bytes();
    for (id, addr) in list {
        let SocketAddr::V4(v4) = addr else { panic!("IPv4") };
        bytes.extend([&id[..], &v4.ip().octets(), &v4.port().to_be_bytes()].concat());
    }
    bytes
}

/// An honest node that knows one peer.
fn honest(peer: SocketAddr) -> Stranger {
    let SocketAddr::V4(v4) = peer else { panic!("IPv4") };
    let value = [&v4.ip().octets()[..], &v4.port().to_be_bytes()].concat();
    Stranger::start(move |packet| {
        let rest = [b"5:token2:ok6:valuesl6:", &value[..], b"e"].concat();
        let rest = if is_get_peers(packet) { rest } else { Vec::new() };
        vec![answer(b"honest..............", &rest, &transaction(packet))]
    })
}

fn peer() -> SocketAddr {
    "127.0.0.1:7777".parse().expect("an address")
}

#[test]
fn h1_answers_with_a_wrong_id_a_wrong_transaction_or_no_bencode() {
    let mut n = 0u8;
    let changing = Stranger::start(move |packet| {
        n = n.wrapping_add(1);
        vec![answer(&[n; 20], b"", &transaction(packet))]
    });
    let forging = Stranger::start(|packet| {
        let mut t = transaction(packet);
        t[0] ^= 1;
        vec![
            answer(&[7; 20], b"", &t),
            answer(&[7; 20], b"", b"x"),
            answer(&[7; 20], b"", &[0; 200]),
        ]
    });
    let babbling = Stranger::start(|_| {
        let deep = [&b"d1:r"[..], &b"l".repeat(1400)].concat();
        vec![b"HTTP/1.1 400".to_vec(), Vec::new(), vec![b'l'; 60_000], deep]
    });
    // It answers in the name of another, who is silent.
    let silent = UdpSocket::bind((own_ip(), 0)).expect("a socket");
    let good = honest(peer());
    let silent_addr = silent.local_addr().expect("bound");
    let ours = Ours::start(&[changing.addr, forging.addr, babbling.addr, silent_addr, good.addr]);
    let (found, searched) = ours.look();
    assert_eq!(found, HashSet::from([peer()]));
    // The one whose id changes is one node, whatever it calls itself.
    assert!((1..=2).contains(&searched.answered), "{searched:?}");
    ours.end();
}

#[test]
fn h2_ten_thousand_nodes_that_do_not_exist() {
    let mut next = 0u32;
    let bogus = move |packet: &[u8]| {
        let mut list = Vec::new();
        for _ in 0..50 {
            next += 1;
            let id: [u8; 20] =
                std::array::from_fn(
                    |i| if i < 16 { HASH.0[i] } else { next.to_be_bytes()[i - 16] },
                );
            // Every tenth has no port, and all are of one network.
            let port = if next.is_multiple_of(10) { 0 } else { 1000 + (next / 250) as u16 };
            list.push((id, SocketAddr::from(([127, 250, 250, (next % 250) as u8], port))));
        }
        let list: Vec<_> = list.iter().map(|(id, addr)| (id, *addr)).collect();
        vec![answer(b"a liar..............", &nodes(&list), &transaction(packet))]
    };
    let liar = Stranger::start(bogus);
    let good = honest(peer());
    let ours = Ours::start(&[liar.addr, good.addr]);
    let (found, searched) = ours.look();
    assert_eq!(found, HashSet::from([peer()]));
    assert!(searched.asked <= 130, "{searched:?}");
    ours.end();
}

#[test]
fn h3_a_flood_of_questions_gets_few_answers() {
    let fixture = Recipe::file("flooded", 100_000).make();
    let place = Place::new(&fixture);
    let node = free_addr();
    let (ip, port) = (node.ip().to_string(), node.port().to_string());
    let args = [
        "get",
        "--no-lsd",
        "--no-tracker",
        "-v",
        "--dht-bootstrap",
        "127.0.0.1:1",
        "--listen",
        &ip,
        "--port",
        &port,
    ];
    let mut get = Run::piecemeal(&args).arg(&place.torrent).arg("-d").arg(&place.data).start();
    get.wait_for("dht: at UDP port");
    let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    let start = Instant::now();
    let flood = |socket: &UdpSocket, packets: u32, pause: Duration| {
        let mut next = Instant::now();
        for _ in 0..packets {
            let _ = socket.send_to(ping, node);
            next += pause;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    };
    let count = |socket: &UdpSocket| {
        socket.set_nonblocking(true).expect("a socket");
        let (mut packets, mut bytes, mut buffer) = (0, 0, [0; 2048]);
        while let Ok(len) = socket.recv(&mut buffer) {
            packets += 1;
            bytes += len;
        }
        (packets, bytes)
    };
    // 10,000 a second from one address.
    let one = UdpSocket::bind((own_ip(), 0)).expect("a socket");
    flood(&one, 20_000, Duration::from_micros(100));
    // As many from a thousand.
    let many: Vec<UdpSocket> =
        (0..400).map(|_| UdpSocket::bind((own_ip(), 0)).expect("a socket")).collect();
    many.iter().for_each(|socket| flood(socket, 50, Duration::from_micros(100)));
    get.interrupt();
    let ended = get.finish(LIMIT).expect(130);
    let time = start.elapsed().as_secs_f64();
    let (answers, _) = count(&one);
    let bytes: usize = many.iter().map(|socket| count(socket).1).sum();
    println!(
        "40,000 questions in {time:.1} s: {answers} and {bytes} bytes answered, {:?} CPU",
        ended.cpu
    );
    // And it may have asked back once.
    assert!((1..=51).contains(&answers), "{answers}");
    assert!(bytes as f64 <= 65_536.0 + 16_384.0 * time, "{bytes} bytes in {time} s");
    assert!(ended.cpu.as_secs_f64() < 0.5 * time.max(4.0), "{:?} in {time} s", ended.cpu);
}

/// Asks, and gives the answer.
fn ask(socket: &UdpSocket, node: SocketAddr, question: &[u8]) -> Vec<u8> {
    socket.set_read_timeout(Some(LIMIT)).expect("a socket");
    socket.send_to(question, node).expect("sent");
    let mut buffer = [0; 2048];
    loop {
        let len = socket.recv(&mut buffer).expect("an answer");
        // A node asks back who asks it.
        if !buffer[..len].windows(6).any(|w| w == b"1:y1:q") {
            return buffer[..len].to_vec();
        }
    }
}

#[test]
fn h4_nobody_is_announced_without_a_token() {
    let ours = Ours::start(&[]);
    let socket = UdpSocket::bind((own_ip(), 0)).expect("a socket");
    let has = |packet: &[u8], what: &[u8]| packet.windows(what.len()).any(|w| w == what);
    let announce = |token: &[u8]| {
        let hash = &HASH.0[..];
        let len = token.len().to_string();
        let token = [b"5:token", len.as_bytes(), b":", token].concat();
        let a = [b"d1:ad2:id20:abcdefghij01234567899:info_hash20:", hash, b"4:porti7777e"].concat();
        [&a[..], &token, b"e1:q13:announce_peer1:t2:aa1:y1:qe"].concat()
    };
    let get = [
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:",
        &HASH.0[..],
        b"e1:q9:get_peers1:t2:aa1:y1:qe",
    ]
    .concat();
    for bad in [&b"guess"[..], &[0; 8], &[b'x'; 64]] {
        assert!(has(&ask(&socket, ours.addr, &announce(bad)), b"li203e"));
    }
    let first = ask(&socket, ours.addr, &get);
    assert!(!has(&first, b"6:values"));
    let at = first.windows(9).position(|w| w == b"5:token8:").expect("a token of eight bytes") + 9;
    let token = first[at..at + 8].to_vec();
    // Another address cannot use it.
    let other = UdpSocket::bind((own_ip(), 0)).expect("a socket");
    assert!(has(&ask(&other, ours.addr, &announce(&token)), b"li203e"));
    assert!(has(&ask(&socket, ours.addr, &announce(&token)), b"1:y1:r"));
    assert!(has(&ask(&socket, ours.addr, &get), b"6:valuesl6:"));
    ours.end();
}

#[test]
fn h5_nodes_that_name_only_each_other() {
    let sockets: Vec<UdpSocket> =
        (0..5).map(|_| UdpSocket::bind((own_ip(), 0)).expect("a socket")).collect();
    let addrs: Vec<SocketAddr> = sockets.iter().map(|s| s.local_addr().expect("bound")).collect();
    let ids: Vec<[u8; 20]> = (0..5).map(|n| [b'0' + n; 20]).collect();
    let list: Vec<_> = ids.iter().zip(addrs.iter().copied()).collect();
    let list = nodes(&list);
    let ring: Vec<Stranger> = sockets
        .into_iter()
        .zip(ids)
        .map(|(socket, id)| {
            let list = list.clone();
            Stranger::at(socket, move |packet| vec![answer(&id, &list, &transaction(packet))])
        })
        .collect();
    let ours = Ours::start(&addrs[..1]);
    let (found, searched) = ours.look();
    assert_eq!((found.len(), searched.answered), (0, 5), "{searched:?}");
    let asked: usize = ring.iter().map(|node| node.asked.load(Ordering::Relaxed)).sum();
    assert!(asked <= 40, "{asked} questions");
    ours.end();
}

#[test]
fn h6_ten_megabytes_of_peers() {
    let flood = Stranger::start(move |packet| {
        let t = transaction(packet);
        if !is_get_peers(packet) {
            return vec![answer(&[1; 20], b"", &t)];
        }
        let packet = |n: u32, peers: u32| {
            let mut list = b"6:valuesl".to_vec();
            for peer in 0..peers {
                let [a, b, c, d] = (0x7f00_0000 + n * 1000 + peer).to_be_bytes();
                list.extend([b'6', b':', a, b, c, d, 26, 225]);
            }
            list.push(b'e');
            answer(&[1; 20], &list, &t)
        };
        // One that is too long, and 10 MB of those that are not.
        let many = (1..7200).map(|n| packet(n, 175));
        std::iter::once(packet(0, 7000)).chain(many).collect()
    });
    let good = honest(peer());
    let ours = Ours::start(&[flood.addr, good.addr]);
    let (found, _) = ours.look();
    assert!(found.contains(&peer()) && found.len() <= 176, "{} peers", found.len());
    ours.end();
}
