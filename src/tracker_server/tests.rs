//! The server over real sockets, on loopback: our own client against it, then strangers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::*;
use crate::tracker::{self, Announce, Event};

/// An address of its own for each test: ports never collide.
fn server(last: u8, options: Options) -> TrackerServer {
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let ip = Ipv4Addr::new(127, 1 + high % 250, low, last);
    TrackerServer::start(Options { listen: Some((ip, 0).into()), ..options }).unwrap()
}

fn open(last: u8) -> TrackerServer {
    server(last, Options::default())
}

fn urls(server: &TrackerServer) -> [String; 2] {
    ["http", "udp"].map(|scheme| format!("{scheme}://{}/announce?a=b", server.addrs()[0]))
}

fn announce(port: u16, left: u64, event: Event) -> Announce {
    let mut peer_id = *b"-PM0001-............";
    peer_id[18..].copy_from_slice(&port.to_be_bytes());
    let info_hash = Sha1([0xab; 20]);
    let (uploaded, downloaded, numwant, key, tracker_id) = (1, 2, 50, 7, None);
    Announce {
        info_hash,
        peer_id,
        port,
        uploaded,
        downloaded,
        left,
        event,
        numwant,
        key,
        tracker_id,
    }
}

/// Says something on a connection, and reads until the other side closes it.
fn talk(addr: SocketAddr, words: &[u8]) -> String {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = socket.write_all(words);
    let mut said = Vec::new();
    // A reset counts as closed.
    let _ = socket.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

fn get(addr: SocketAddr, target: &str) -> String {
    talk(addr, format!("GET {target} HTTP/1.0\r\nHost: h\r\n\r\n").as_bytes())
}

#[test]
fn peers_find_each_other_over_http_and_udp() {
    let server = open(1);
    let [http, udp] = urls(&server);
    assert_eq!(tracker::announce(&http, &announce(1, 0, Event::Started)).unwrap().peers, []);
    let second = tracker::announce(&udp, &announce(2, 9, Event::Started)).unwrap();
    let ports = |answer: &tracker::Answer| {
        let mut ports: Vec<u16> = answer.peers.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports
    };
    assert_eq!((ports(&second), second.seeders, second.leechers), (vec![1], Some(1), Some(1)));
    let third = tracker::announce(&http, &announce(3, 9, Event::Started)).unwrap();
    assert_eq!((ports(&third), third.seeders, third.leechers), (vec![1, 2], Some(1), Some(2)));
    assert!(third.external_ip.is_some_and(|ip| ip.is_loopback()));
    assert_eq!((third.interval.as_secs(), third.min_interval.unwrap().as_secs()), (120, 30));
    tracker::announce(&udp, &announce(3, 0, Event::Completed)).unwrap();
    tracker::announce(&http, &announce(1, 0, Event::Stopped)).unwrap();
    for url in [&http, &udp] {
        let expected = tracker::Scrape { seeders: 1, leechers: 1, completed: 1 };
        assert_eq!(tracker::scrape(url, Sha1([0xab; 20])), Ok(expected), "{url}");
    }
}

#[test]
fn ipv6_peers_are_told_in_lists_of_their_own() {
    // A machine may have no IPv6 at all.
    let listen = Some(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0));
    let Ok(server) = TrackerServer::start(Options { listen, ..Options::default() }) else { return };
    let [http, udp] = urls(&server);
    tracker::announce(&http, &announce(1, 0, Event::Started)).unwrap();
    for url in [http, udp] {
        let answer = tracker::announce(&url, &announce(2, 9, Event::Started)).unwrap();
        assert_eq!(answer.peers, [SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 1)]);
    }
}

#[test]
fn refusals_are_in_plain_words() {
    let torrents = vec![(Sha1([1; 20]), Some("a name".to_owned()))];
    let server = server(2, Options { torrents, ..Options::default() });
    for url in urls(&server) {
        let error = tracker::announce(&url, &announce(1, 0, Event::Started)).unwrap_err();
        let why = "the tracker refuses: this tracker does not serve this torrent";
        assert_eq!(error.to_string(), why);
    }
    let addr = server.addrs()[0];
    assert!(get(addr, "/announce").ends_with("d14:failure reason20:info_hash is missinge"));
    assert!(get(addr, "/").contains("a name"));
    let stats = get(addr, "/stats");
    assert!(stats.contains(r#""open":false"#) && stats.contains(r#""refused":2"#), "{stats}");
    let all = get(addr, "/scrape");
    assert!(all.contains("d8:completei0e10:downloadedi0e10:incompletei0ee"), "{all}");
}

#[test]
fn what_is_no_request_gets_a_short_answer() {
    let server = open(3);
    let addr = server.addrs()[0];
    let check = |words: &[u8], status: &str| {
        let said = talk(addr, words);
        let expected = format!("HTTP/1.1 {status}");
        assert!(said.starts_with(&expected), "{}: {said}", words.escape_ascii());
        assert!(said.len() < 400, "{said}");
    };
    check(b"\x13BitTorrent protocol", "400");
    check(b"GET /\r\n\r\n", "400");
    check(b"GET / HTTP/9.9\r\n\r\n", "400");
    check(b"POST /announce HTTP/1.1\r\n\r\n", "405");
    check(b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "413");
    check(b"GET /nothing HTTP/1.0\r\n\r\n", "404");
    check(b"GET /../../etc/passwd HTTP/1.0\r\n\r\n", "404");
    check("GET / HTTP/1.1\r\na:b\r\n".repeat(3000).as_bytes(), "");
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
    check(many.as_bytes(), "431");
    // Exactly full, so that nothing unread turns the answer into a reset.
    let long = format!("GET /{}", "a".repeat((8 << 10) - 5));
    check(long.as_bytes(), "431");
    let head = talk(addr, b"HEAD / HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn a_whole_url_is_as_good_as_a_path() {
    let server = open(15);
    let addr = server.addrs()[0];
    for target in ["http://t.example/stats", "HTTP://t.example:80/x/../stats?a=http://b/", "/stats"]
    {
        let found = get(addr, target);
        assert_eq!(found.starts_with("HTTP/1.1 200"), !target.contains(".."), "{target}: {found}");
    }
    assert!(get(addr, "http://t.example").starts_with("HTTP/1.1 200"));
    assert!(get(addr, "http://t.example/announce?x=1").contains("info_hash is missing"));
    assert!(get(addr, "http://t.example?x=1").starts_with("HTTP/1.1 200"));
}

#[test]
fn one_connection_may_ask_often() {
    let server = open(4);
    let ask = "GET /stats HTTP/1.1\r\n\r\n";
    let said = talk(server.addrs()[0], ask.repeat(150).as_bytes());
    assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 100, "then it is closed");
    let last = format!("{ask}GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert_eq!(talk(server.addrs()[0], last.as_bytes()).matches("200 OK").count(), 2);
}

#[test]
fn idle_connections_keep_nobody_out() {
    let server = open(5);
    let addr = server.addrs()[0];
    // Silent, and in the middle of a request: far more than there are workers.
    let mut idle = Vec::new();
    for n in 0..300 {
        let mut socket = TcpStream::connect(addr).unwrap();
        if n % 2 == 0 {
            socket.write_all(b"GET /announce?info_hash=").unwrap();
        }
        idle.push(socket);
        if n % 50 == 49 {
            tracker::announce(&urls(&server)[0], &announce(n, 0, Event::Started)).unwrap();
        }
    }
    // The oldest has been hung up on.
    let mut oldest = &idle[0];
    oldest.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(matches!(oldest.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert!(get(addr, "/stats").contains(r#""announces":6"#));
}

/// Packets of every length, action and connection id: the server still answers afterwards, and has
/// noted nothing down.
#[test]
fn udp_garbage_and_forged_ids() {
    let server = open(6);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(server.addrs()[0]).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut packet = [0u8; 2100];
    for len in (0..130).chain([2047, 2048, 2049, 2100]) {
        for action in 0..5 {
            packet[11] = action;
            socket.send(&packet[..len]).unwrap();
        }
    }
    let mut answer = [0; 100];
    let connect = b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0abcd";
    socket.send(connect).unwrap();
    let mut connected = 0;
    while connected == 0 {
        let len = socket.recv(&mut answer).unwrap();
        match answer[3] {
            3 => assert_eq!(&answer[8..len], b"connect first"),
            other => {
                assert_eq!((other, len, &answer[4..8]), (0, 16, &b"abcd"[..]));
                connected += 1;
            }
        }
    }
    // An id is good for its own address only.
    let elsewhere = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 77), 0)).unwrap();
    elsewhere.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let scrape = [&answer[8..16], &[0, 0, 0, 2], b"abcd", &[0; 20]].concat();
    elsewhere.send_to(&scrape, server.addrs()[0]).unwrap();
    let len = elsewhere.recv(&mut answer).unwrap();
    assert_eq!(&answer[..len], b"\0\0\0\x03abcdconnect first");
    assert!(get(server.addrs()[0], "/stats").contains(r#""peers":0"#));
}

#[test]
fn announces_are_seen_by_who_watches() {
    let server = server(7, Options { watch: true, ..Options::default() });
    let [http, udp] = urls(&server);
    let cases = [(&http, Via::Http, "/announce"), (&udp, Via::Udp, "/announce?a=b")];
    for (url, via, path) in cases {
        tracker::announce(url, &announce(5, 9, Event::Started)).unwrap();
        let seen = server.sightings().recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!((seen.report.via, seen.report.path.as_str()), (via, path));
        assert_eq!((seen.announce.address.port(), seen.report.left), (5, Some(9)));
        assert!(matches!(seen.outcome, Outcome::Answered { peers: 0, .. }));
    }
}

#[test]
fn it_ends_at_once_with_connections_open() {
    let mut server = open(8);
    let addr = server.addrs()[0];
    let _idle: Vec<_> = (0..5).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let begin = Instant::now();
    server.stop();
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    assert!(TcpStream::connect(addr).is_err() && server.threads.is_empty());
}

/// A small version of the measurement that the module's page quotes. The bound is far below what it
/// takes, for machines with other things to do.
#[test]
fn some_hundred_announces_a_second() {
    let server = open(9);
    let addr = server.addrs()[0];
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..4u16 {
            scope.spawn(move || {
                for n in 0..250 {
                    let port = client * 1000 + n + 1;
                    let query = format!(
                        "/announce?info_hash=abcdefghijklmnopqrst&peer_id=-XX0001-{port:012}&port={port}"
                    );
                    assert!(get(addr, &query).contains("5:peers"), "{port}");
                }
            });
        }
    });
    let rate = 1000.0 / begin.elapsed().as_secs_f64();
    assert!(100.0 < rate, "{rate} announces a second");
    assert!(get(addr, "/stats").contains(r#""peers":1000,"#));
}
