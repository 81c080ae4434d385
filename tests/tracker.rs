//! `tracker`: the real binary, from its first line to Ctrl-C.

mod support;

use std::net::UdpSocket;

use piecemeal::hash::Sha1;
use piecemeal::tracker::{self, Announce, Event};
use support::run::{LIMIT, Run, Running};

/// A port of this address that is free for TCP and UDP, since nobody else has the address.
fn own_place() -> String {
    let socket = UdpSocket::bind((support::own_ip(), 0)).unwrap();
    socket.local_addr().unwrap().to_string()
}

fn start(place: &str, args: &[&str]) -> Running {
    let mut running = Run::piecemeal(&["tracker", "--listen", place]).args(args).start();
    running.wait_for(&format!("http://{place}/announce"));
    running
}

fn announce(info_hash: &str, port: u16) -> Announce {
    let (uploaded, downloaded, left, key, numwant) = (0, 0, 5, 1, 50);
    let (event, tracker_id) = (Event::Started, None);
    let mut peer_id = *b"-XX0001-abcdefghijkl";
    peer_id[18..].copy_from_slice(&port.to_be_bytes());
    let info_hash = Sha1::from_hex(info_hash).unwrap();
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

const ONE: &str = "0123456789abcdef0123456789abcdef01234567";
const TWO: &str = "89abcdef0123456789abcdef0123456789abcdef";
const THREE: &str = "1111111111111111111111111111111111111111";

#[test]
fn it_serves_what_it_is_given_and_says_what_it_sees() {
    let place = own_place();
    let magnet = format!("magnet:?xt=urn:btih:{TWO}&dn=two");
    let mut running = start(&place, &["-v", ONE, &magnet]);
    running.wait_for("tracker for 2 torrents");
    for (scheme, hash) in [("http", ONE), ("udp", TWO)] {
        let url = format!("{scheme}://{place}/announce");
        tracker::announce(&url, &announce(hash, 1)).unwrap();
        running.wait_for(&format!("{scheme} started: lacks 5 B; told 0 of 0 seeders, 1 leecher"));
        tracker::announce(&url, &announce(THREE, 1)).unwrap_err();
        running.wait_for("refused: this tracker does not serve this torrent");
    }
    running.interrupt();
    let ended = running.finish(LIMIT).expect(130);
    assert!(ended.stdout.is_empty() && ended.stderr.ends_with("the tracker has ended\n"));
}

#[test]
fn json_is_one_object_a_line() {
    let place = own_place();
    let mut running = start(&place, &["--json"]);
    let url = format!("udp://{place}/announce");
    tracker::announce(&url, &announce(ONE, 7)).unwrap();
    running.wait_for(r#""what":"started""#);
    running.interrupt();
    let ended = running.finish(LIMIT).expect(130);
    let text = String::from_utf8(ended.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().all(|line| line.starts_with(r#"{"event":""#) && line.ends_with('}')));
    assert_eq!(lines.len(), 2);
    assert!(lines[1].contains(&format!(r#""info_hash":"{ONE}""#)), "{text}");
    assert_eq!(ended.stderr, "");
}

#[test]
fn what_it_cannot_do_is_one_line() {
    let place = own_place();
    let running = start(&place, &[]);
    let taken = Run::piecemeal(&["tracker", "--listen", &place]).run().expect(1);
    assert!(taken.stderr.starts_with(&format!("piecemeal: cannot listen at {place}: ")));
    let no_ip = Run::piecemeal(&["tracker", "--listen", "localhost:1"]).run().expect(2);
    assert_eq!(no_ip.stderr, "piecemeal: --listen localhost:1: expected IP or IP:PORT\n");
    Run::piecemeal(&["tracker", "--listen", &place, "/nowhere/x.torrent"]).run().expect(1);
    drop(running);
}
