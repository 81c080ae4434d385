//! Targets: packets of the DHT, a node that gets them, and what it remembers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use piecemeal::dht::{Action, Announce, Config, Dht, Memory};
use piecemeal::hash::Sha1;
use piecemeal::krpc::{Body, Message, NODES_MAX, PACKET_LEN_MAX};
use piecemeal::reach::can_be_dialled;

const HASH: Sha1 = Sha1(*b"aaaaaaaaaaaaaaaaaaaa");

pub fn packets() -> Vec<Vec<u8>> {
    [
        b"d1:ad2:id20:bbbbbbbbbbbbbbbbbbbbe1:q4:ping1:t2:aa1:y1:qe".as_slice(),
        b"d1:ad2:id20:bbbbbbbbbbbbbbbbbbbb6:target20:cccccccccccccccccccc4:wantl2:n42:n6ee1:q9:find_node\
          2:roi1e1:t2:aa1:v4:LT011:y1:qe",
        b"d1:ad2:id20:bbbbbbbbbbbbbbbbbbbb9:info_hash20:aaaaaaaaaaaaaaaaaaaa6:scrapei1ee1:q9:get_peers\
          1:t2:aa1:y1:qe",
        b"d1:ad2:id20:bbbbbbbbbbbbbbbbbbbb12:implied_porti1e9:info_hash20:aaaaaaaaaaaaaaaaaaaa4:porti6881e\
          4:seedi1e5:token8:12345678e1:q13:announce_peer1:t2:aa1:y1:qe",
        b"d2:ip6:\x01\x02\x03\x04\x1a\xe11:rd2:id20:bbbbbbbbbbbbbbbbbbbb5:nodes26:ccccccccccccccccccc\
          c\x01\x02\x03\x04\x1a\xe15:token2:ok6:valuesl6:\x01\x02\x03\x04\x1a\xe1ee1:t4:TTTT1:y1:re",
        b"d1:eli201e5:no wae1:t2:aa1:y1:ee",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// What is taken is bounded and can be sent to; what is written is read as the same.
pub fn krpc(input: &[u8]) -> bool {
    let message = match Message::decode(input) {
        Ok(message) => message,
        Err(error) => {
            let said = error.to_string();
            assert!(said.len() < 200 && !said.chars().any(char::is_control), "{said}");
            return false;
        }
    };
    assert!(input.len() <= PACKET_LEN_MAX);
    if let Body::Answer(answer) = &message.body {
        assert!(answer.nodes.len() <= 2 * NODES_MAX && answer.peers.len() < PACKET_LEN_MAX / 8);
        let nodes = answer.nodes.iter().map(|node| node.addr);
        assert!(nodes.chain(answer.peers.iter().copied()).all(can_be_dialled));
    }
    let again = message.encode();
    if again.len() <= PACKET_LEN_MAX {
        let read = Message::decode(&again).expect("what we write is a message");
        // An error's text may have been cut to a length that counts characters.
        assert!(read == message || matches!(message.body, Body::Error { .. }), "{message:?}");
    }
    true
}

/// A node that is asked and answered, its own questions among them (`TTTT` stands for the number of
/// the last): it does not panic, sends little, and never wants to be woken in the past.
pub fn node(input: &[u8]) -> bool {
    let mut now = Instant::now();
    let config = Config { v4: true, v6: true, read_only: false };
    let rng = fastrand::Rng::with_seed(input.len() as u64);
    let mut dht = Dht::new(config, &Memory::default(), rng, now);
    let asked: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    dht.add_starts(&[asked], now);
    dht.search(HASH, Some(Announce { port: 1, implied_port: true, seed: false }), now);
    let mut numbers = Vec::new();
    for round in 0..6u32 {
        let mut sent = 0;
        for action in dht.take_actions() {
            let Action::Send { packet, .. } = action else { continue };
            sent += 1;
            assert!(packet.len() <= 1000, "{} bytes", packet.len());
            if let Ok(Message { transaction, body: Body::Query(_), .. }) = Message::decode(&packet)
            {
                numbers.push(transaction);
            }
        }
        assert!(sent <= 64, "{sent} packets at once");
        let number = numbers.pop().filter(|number| number.len() == 4);
        let mut packet = input.to_vec();
        let at = packet.windows(4).position(|window| window == b"TTTT");
        if let (Some(at), Some(number)) = (at, number) {
            packet[at..at + 4].copy_from_slice(&number);
        }
        let from = if round % 3 == 2 { "8.8.8.8:8" } else { "127.0.0.1:1" };
        dht.receive(from.parse().expect("an address"), &packet, now);
        now += Duration::from_millis(700) * round;
        dht.tick(now);
        assert!(now < dht.deadline());
    }
    dht.counters().garbage == 0
}

pub fn memories() -> Vec<Vec<u8>> {
    let nodes = [&b"bbbbbbbbbbbbbbbbbbbb"[..], &[1, 2, 3, 4, 26, 225]].concat();
    let file = [b"d3:ipsl4:\x01\x02\x03\x04e5:nodes26:".as_slice(), &nodes, b"6:nodes60:e"];
    vec![file.concat()]
}

/// What is remembered is bounded, and is the same when it is written and read again.
pub fn memory(input: &[u8]) -> bool {
    let memory = Memory::decode(input);
    assert!(memory.nodes.len() <= 1000 && memory.ips.len() <= 2);
    assert_eq!(Memory::decode(&memory.encode()).nodes.len(), memory.nodes.len());
    memory != Memory::default()
}
