//! UDP trackers (T7 of the fault list).

use super::*;

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The connection id that the scripts give out.
const ID: [u8; 8] = *b"TheConId";

fn action(packet: &[u8]) -> u8 {
    packet[11]
}

/// An answer to a packet: its own action and transaction id, then these bytes.
fn answer_to(packet: &[u8], body: &[u8]) -> Vec<u8> {
    [&packet[8..16], body].concat()
}

fn with_action(action: u8, answer: &[u8]) -> Vec<u8> {
    let mut answer = answer.to_vec();
    answer[3] = action;
    answer
}

/// What a good tracker answers.
fn good(packet: &[u8]) -> Vec<u8> {
    match action(packet) {
        0 => answer_to(packet, &ID),
        1 => answer_to(packet, b"\0\0\x07\x08\0\0\0\x02\0\0\0\x01\x7f\0\0\x01\x1a\xe1"),
        _ => answer_to(packet, b"\0\0\0\x01\0\0\0\x02\0\0\0\x03"),
    }
}

/// Resends quickly.
fn hasty() -> Limits {
    Limits { udp_first: Duration::from_millis(100), ..patient() }
}

#[test]
fn connect_announce_and_use_the_connection_again() {
    let tracker = UdpTracker::start(LOCAL, |packet, _| vec![good(packet)]);
    let target = Target::parse(&tracker.url()).unwrap();
    let mut connection = None;
    for _ in 0..2 {
        let (_hold, leash) = leash(&Default::default());
        let answer =
            call(&target, &an_announce(), &mut connection, None, &patient(), &leash).unwrap();
        assert_eq!(answer.peers, the_peer());
        assert_eq!((answer.seeders, answer.leechers), (Some(1), Some(2)));
    }
    let packets: Vec<_> = tracker.packets.try_iter().collect();
    assert_eq!(packets.iter().map(|p| action(p)).collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!((&packets[1][..8], &packets[2][..8]), (&ID[..], &ID[..]));
    assert_eq!(&packets[1][98..], b"\x02\x0d/announce?k=1");
    assert_ne!(packets[1][12..16], packets[2][12..16], "the transaction id is drawn anew");
}

#[test]
fn a_scrape() {
    let tracker = UdpTracker::start(LOCAL, |packet, _| vec![good(packet)]);
    let counts = scrape(&tracker.url(), Sha1([0xab; 20]));
    assert_eq!(counts, Ok(Scrape { seeders: 1, completed: 2, leechers: 3 }));
}

#[test]
fn noise_before_the_answer_is_ignored() {
    let tracker = UdpTracker::start(LOCAL, |packet, from| {
        let right = good(packet);
        // From somewhere else, with everything right: the system drops it.
        let forged = [&right[..8], &[0x66; 12]].concat();
        UdpSocket::bind((LOCAL, 0)).unwrap().send_to(&forged, from).unwrap();
        let mut other_transaction = right.clone();
        other_transaction[7] ^= 1;
        vec![
            vec![],
            right[..7].to_vec(),
            right[..right.len().min(15)].to_vec(),
            other_transaction,
            with_action(2, &right),
            with_action(9, &right),
            right.clone(),
            // A second answer comes too late to matter.
            forged,
        ]
    });
    let answer = within_seconds(|| ask(&tracker.url(), &patient())).unwrap();
    assert_eq!(answer.peers, the_peer());
    tracker.packet();
    assert_eq!(&tracker.packet()[..8], &ID);
}

#[test]
fn lost_packets_are_sent_again() {
    let mut seen = [0; 2];
    let tracker = UdpTracker::start(LOCAL, move |packet, _| {
        seen[usize::from(action(packet))] += 1;
        if seen[usize::from(action(packet))] == 1 { vec![] } else { vec![good(packet)] }
    });
    assert_eq!(ask(&tracker.url(), &hasty()).unwrap().peers, the_peer());
    let actions: Vec<_> = tracker.packets.try_iter().map(|p| action(&p)).collect();
    assert_eq!(actions, [0, 0, 1, 1]);
}

#[test]
fn silence_and_closed_ports() {
    let silent = UdpTracker::start(LOCAL, |_, _| vec![]);
    let limits = Limits { udp_first: Duration::from_millis(20), ..patient() };
    fails(within_seconds(|| ask(&silent.url(), &limits)), "no answer from");
    assert_eq!(silent.packets.len(), 3);
    let closed = UdpSocket::bind((LOCAL, 0)).unwrap().local_addr().unwrap();
    fails(within_seconds(|| ask(&format!("udp://{closed}"), &patient())), "connection refused");
}

#[test]
fn error_packets() {
    let tracker = UdpTracker::start(LOCAL, |packet, _| match action(packet) {
        0 => vec![good(packet)],
        _ => vec![with_action(3, &answer_to(packet, b"go away\n"))],
    });
    fails(within_seconds(|| ask(&tracker.url(), &patient())), "the tracker refuses: go away\\u{a}");
}

#[test]
fn a_torrent_that_it_does_not_serve() {
    let tracker = UdpTracker::start(LOCAL, |packet, _| match action(packet) {
        0 => vec![good(packet)],
        _ => vec![],
    });
    let limits = Limits { udp_tries: 1, ..hasty() };
    fails(within_seconds(|| ask(&tracker.url(), &limits)), "no answer for this torrent from");
}

#[test]
fn a_forgotten_connection_is_made_anew() {
    let mut announces = 0;
    let tracker = UdpTracker::start(LOCAL, move |packet, _| {
        announces += u32::from(action(packet) == 1);
        let forgotten = action(packet) == 1 && announces == 2;
        let error = with_action(3, &answer_to(packet, b"connection id mismatch"));
        vec![if forgotten { error } else { good(packet) }]
    });
    let target = Target::parse(&tracker.url()).unwrap();
    let mut connection = None;
    for _ in 0..2 {
        let (_hold, leash) = leash(&Default::default());
        call(&target, &an_announce(), &mut connection, None, &patient(), &leash).unwrap();
    }
    let actions: Vec<_> = tracker.packets.try_iter().map(|p| action(&p)).collect();
    assert_eq!(actions, [0, 1, 1, 0, 1]);
}

#[test]
fn a_name_with_two_addresses() {
    let tracker = UdpTracker::start(LOCAL, |packet, _| vec![good(packet)]);
    let url = format!("udp://localhost:{}/announce", tracker.address.port());
    assert_eq!(within_seconds(|| ask(&url, &patient())).unwrap().peers, the_peer());
}

#[test]
fn over_ipv6_peers_have_longer_addresses() {
    // Where there is no IPv6 there is nothing to test.
    if UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    let peer = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1";
    let tracker = UdpTracker::start(std::net::Ipv6Addr::LOCALHOST, |packet, _| {
        let counts = b"\0\0\x07\x08\0\0\0\x02\0\0\0\x01";
        match action(packet) {
            0 => vec![good(packet)],
            _ => vec![answer_to(packet, &[counts.as_slice(), peer].concat())],
        }
    });
    let answer = within_seconds(|| ask(&tracker.url(), &patient())).unwrap();
    assert_eq!(answer.peers, ["[2001:db8::1]:6881".parse().unwrap()]);
}

#[test]
fn a_call_can_be_abandoned() {
    let tracker = UdpTracker::start(LOCAL, |_, _| vec![]);
    let result = within_seconds(|| abandon(&tracker.url(), &tracker.packets));
    assert_eq!(result, Err(Error::Abandoned));
}

#[test]
fn a_flood_of_noise_does_not_hold_a_call() {
    let tracker = UdpTracker::start(LOCAL, |packet, _| {
        let mut wrong = good(packet);
        wrong[7] ^= 1;
        vec![wrong; 1000]
    });
    let limits = Limits { udp_first: Duration::from_millis(50), udp_tries: 2, ..patient() };
    fails(within_seconds(|| ask(&tracker.url(), &limits)), "no answer from");
}
