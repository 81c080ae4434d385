//! How a bad peer behaves: a table of what it says, once somebody is connected.
//!
//! A behaviour plays the whole connection, from the handshake on; it is the same whether the client
//! dialled or was dialled. It ends when the client hangs up, which is an error here and no failure.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::fixture::{BLOCK_LEN, Fixture};
use super::peer::{
    EXTENDED, Wire, extended, full_bitfield, handshake, id, message, numbers, peer_id, piece,
};

/// What a bad peer knows.
pub struct Scene {
    pub fixture: Arc<Fixture>,
}

pub struct Behaviour {
    /// The row of the fault matrix.
    pub name: &'static str,
    pub what: &'static str,
    /// How many ways there are to do it.
    pub variants: usize,
    pub play: fn(&mut Wire, &Scene, usize) -> io::Result<()>,
}

#[rustfmt::skip]
pub const MATRIX: &[Behaviour] = &[
    Behaviour { name: "P1", what: "connects and says nothing", variants: 1, play: |wire, _, _| wire.ignore() },
    Behaviour { name: "P2", what: "one byte of the handshake a second", variants: 1, play: slow_handshake },
    Behaviour { name: "P3", what: "another protocol", variants: OTHER_PROTOCOLS.len(), play: other_protocol },
    Behaviour { name: "P4", what: "another info hash", variants: 1, play: other_info_hash },
    Behaviour { name: "P5", what: "our own peer id", variants: 1, play: own_peer_id },
    Behaviour { name: "P6", what: "handshake, then silence", variants: 1, play: |wire, scene, n| { scene.greet(wire, n)?; wire.ignore() } },
    Behaviour { name: "P7", what: "closes after the handshake", variants: 8, play: |wire, scene, n| scene.greet(wire, n) },
    Behaviour { name: "P8", what: "a frame of 4 GiB", variants: 1, play: |wire, scene, _| scene.seed_and(wire, &[0xff; 64]) },
    Behaviour { name: "P9", what: "a frame of 2 GiB, byte by byte", variants: 1, play: trickled_frame },
    Behaviour { name: "P10", what: "100,000 keep-alives", variants: 1, play: |wire, scene, _| scene.seed_and(wire, &[0; 400_000]) },
    Behaviour { name: "P11", what: "unknown ids", variants: 4, play: unknown_ids },
    Behaviour { name: "P12", what: "known ids with wrong lengths", variants: WRONG_LENGTHS.len(), play: wrong_length },
    Behaviour { name: "P13", what: "wrong bitfields", variants: 6, play: wrong_bitfield },
    Behaviour { name: "P14", what: "have of a piece that does not exist", variants: 3, play: wrong_have },
    Behaviour { name: "P15", what: "a million haves", variants: 1, play: flood_of_haves },
    Behaviour { name: "P16", what: "Fast messages that contradict themselves, or without BEP 6", variants: 8, play: wrong_fast },
    Behaviour { name: "P17", what: "a block that nobody asked for", variants: 2, play: unasked_block },
    Behaviour { name: "P18", what: "blocks with a bad index, begin or length", variants: 6, play: misplaced_block },
    Behaviour { name: "P19", what: "more bytes than were asked for", variants: 2, play: oversized_block },
    Behaviour { name: "P20", what: "half a block, then silence", variants: 2, play: half_a_block },
    Behaviour { name: "P21", what: "every block corrupt", variants: 2, play: |wire, scene, _| scene.corrupt_where(wire, |_, _| true) },
    Behaviour { name: "P22", what: "one block in a thousand corrupt", variants: 2, play: one_in_a_thousand },
    Behaviour { name: "P23", what: "the last block of each piece corrupt", variants: 2, play: corrupt_last },
    Behaviour { name: "P24", what: "has all, rejects every request", variants: 2, play: reject_all },
    Behaviour { name: "P25", what: "unchokes and chokes without end", variants: 1, play: flicker },
    Behaviour { name: "P26", what: "never unchokes", variants: 1, play: |wire, scene, _| scene.seed_and(wire, b"") },
    Behaviour { name: "P27", what: "a block now and then", variants: 1, play: a_block_a_minute },
    Behaviour { name: "P28", what: "the same block many times", variants: 1, play: same_block },
    Behaviour { name: "P29", what: "requests while choked, of nothing, out of range", variants: 6, play: odd_requests },
    Behaviour { name: "P30", what: "100,000 requests, reading no answer", variants: 1, play: flood_of_requests },
    Behaviour { name: "P31", what: "cancels for everything", variants: 1, play: flood_of_cancels },
    Behaviour { name: "P32", what: "extended handshakes without sense", variants: ODD_EXTENDED, play: odd_extended },
    Behaviour { name: "P37", what: "tells of 100,000 peers, of port 0, of ourselves, of odd lengths", variants: ODD_EXCHANGES, play: odd_exchange },
    Behaviour { name: "P39", what: "a reset in the middle of a block", variants: 64, play: reset_inside },
];

impl Scene {
    fn pieces(&self) -> u32 {
        self.fixture.pieces() as u32
    }

    fn hello(&self, n: usize, fast: bool) -> Vec<u8> {
        // An id for each connection, or all but one would be duplicates.
        let unique = n * 1_000_000 + fastrand::usize(..1_000_000);
        handshake(&self.fixture.info_hash, &peer_id(b"-BA0001-", unique), fast)
    }

    /// Shakes hands.
    fn greet(&self, wire: &mut Wire, n: usize) -> io::Result<()> {
        wire.send(&self.hello(n, false))?;
        wire.read_handshake().map(drop)
    }

    /// Shakes hands, with the bit of the extension protocol set.
    pub fn greet_extended(&self, wire: &mut Wire, n: usize) -> io::Result<()> {
        let mut hello = self.hello(n, false);
        hello[EXTENDED.0] |= EXTENDED.1;
        wire.send(&hello)?;
        wire.read_handshake().map(drop)
    }

    /// Shakes hands, claims to have everything, and sends these bytes; then reads what comes.
    fn seed_and(&self, wire: &mut Wire, bytes: &[u8]) -> io::Result<()> {
        self.greet(wire, 0)?;
        wire.send(&message(id::BITFIELD, &full_bitfield(self.fixture.pieces())))?;
        wire.send(bytes)?;
        wire.ignore()
    }

    /// Shakes hands and unchokes, as a seed does.
    fn unchoke(&self, wire: &mut Wire) -> io::Result<()> {
        self.greet(wire, 0)?;
        let claim = message(id::BITFIELD, &full_bitfield(self.fixture.pieces()));
        wire.send(&[claim, message(id::UNCHOKE, b"")].concat())
    }

    /// The bytes of a request.
    fn block(&self, [index, begin, length]: [u32; 3]) -> &[u8] {
        let start = self.fixture.piece_range(index as usize).start + begin as usize;
        &self.fixture.data[start..start + length as usize]
    }

    /// Answers a request as it should be.
    fn answer(&self, request: [u32; 3]) -> Vec<u8> {
        piece(request[0], request[1], self.block(request))
    }

    /// Serves like a seed, but changes a byte of those blocks.
    fn corrupt_where(
        &self,
        wire: &mut Wire,
        mut corrupt: impl FnMut([u32; 3], usize) -> bool,
    ) -> io::Result<()> {
        self.unchoke(wire)?;
        for n in 0.. {
            let request = wire.request()?;
            let mut answer = self.answer(request);
            if corrupt(request, n) {
                *answer.last_mut().expect("never empty") ^= 1;
            }
            wire.send(&answer)?;
        }
        Ok(())
    }
}

fn slow_handshake(wire: &mut Wire, scene: &Scene, n: usize) -> io::Result<()> {
    wire.trickle(&scene.hello(n, false), Duration::from_secs(1))
}

const OTHER_PROTOCOLS: &[&[u8]] = &[
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    b"\x13BitTorrent protocoL\0\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"SSH-2.0-\x1b[31mred\x07\n",
];

fn other_protocol(wire: &mut Wire, _: &Scene, variant: usize) -> io::Result<()> {
    wire.send(OTHER_PROTOCOLS[variant])?;
    wire.ignore()
}

fn other_info_hash(wire: &mut Wire, _: &Scene, n: usize) -> io::Result<()> {
    wire.send(&handshake(&[7; 20], &peer_id(b"-BA0004-", n), false))?;
    wire.ignore()
}

/// It says its id only when it has heard ours; whom it dialled itself it copies from another
/// connection, which it cannot: then it is one peer with an odd id.
fn own_peer_id(wire: &mut Wire, scene: &Scene, _: usize) -> io::Result<()> {
    let mut hello = scene.hello(0, false);
    wire.send(&hello[..48])?;
    wire.stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    if let Ok(theirs) = wire.read_handshake() {
        hello[48..].copy_from_slice(&theirs[48..68]);
    }
    wire.send(&hello[48..])?;
    wire.ignore()
}

fn trickled_frame(wire: &mut Wire, scene: &Scene, n: usize) -> io::Result<()> {
    scene.greet(wire, n)?;
    wire.trickle(&[0x80, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0], Duration::from_millis(100))?;
    wire.ignore()
}

fn unknown_ids(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    let payload = vec![0xd1; [0, 1, 5, 5_000][variant]];
    let known = [13, 14, 15, 16, 17, 20];
    let ids = (10..=255).filter(|id| !known.contains(id));
    let bytes: Vec<u8> = ids.flat_map(|id| message(id, &payload)).collect();
    scene.seed_and(wire, &bytes)
}

/// An id, and a length of the payload that it cannot have. Of 2 MiB in pieces of 64 KiB.
const WRONG_LENGTHS: &[(u8, usize)] = &[
    (0, 1),
    (1, 1),
    (2, 1),
    (3, 1),
    (4, 0),
    (4, 3),
    (4, 5),
    (5, 0),
    (5, 3),
    (5, 5),
    (6, 0),
    (6, 11),
    (6, 13),
    (7, 0),
    (7, 7),
    (7, 8),
    (8, 0),
    (8, 11),
    (8, 13),
    (9, 0),
    (9, 1),
    (9, 3),
    (13, 0),
    (13, 5),
    (14, 1),
    (15, 1),
    (16, 0),
    (16, 11),
    (16, 13),
    (17, 0),
    (17, 3),
    (17, 5),
    (20, 0),
];

fn wrong_length(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    let (id, length) = WRONG_LENGTHS[variant];
    wire.send(&scene.hello(variant, true))?;
    wire.read_handshake()?;
    wire.send(&message(id, &vec![0; length]))?;
    wire.ignore()
}

fn wrong_bitfield(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    let full = full_bitfield(scene.fixture.pieces());
    let field = |bits: &[u8]| message(id::BITFIELD, bits);
    let bytes = match variant {
        0 => field(&full[1..]),
        1 => field(&[&full[..], &[0xff]].concat()),
        2 => field(&vec![0xff; 100_000]),
        3 => [field(&full), field(&vec![0; full.len()])].concat(),
        4 => [numbers(id::HAVE, &[0]), field(&full)].concat(),
        _ => field(&full).repeat(1_000),
    };
    scene.greet(wire, variant)?;
    wire.send(&bytes)?;
    wire.ignore()
}

fn wrong_have(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    let index = [scene.pieces(), u32::MAX, 1 << 31][variant];
    scene.seed_and(wire, &numbers(id::HAVE, &[index]))
}

fn flood_of_haves(wire: &mut Wire, scene: &Scene, n: usize) -> io::Result<()> {
    scene.greet(wire, n)?;
    let some: Vec<u8> = (0..1_000).flat_map(|n| numbers(id::HAVE, &[n % scene.pieces()])).collect();
    (0..1_000).try_for_each(|_| wire.send(&some))?;
    wire.ignore()
}

/// Variants 0 to 3 have announced the Fast extension, 4 to 7 have not.
fn wrong_fast(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    wire.send(&scene.hello(variant, variant < 4))?;
    wire.read_handshake()?;
    let (all, none) = (message(id::HAVE_ALL, b""), message(id::HAVE_NONE, b""));
    let bytes = match variant % 4 {
        0 => [all, none].concat(),
        1 => [none, all].concat().repeat(1_000),
        2 => [all, numbers(id::REJECT, &[0, 0, BLOCK_LEN as u32]).repeat(2_000)].concat(),
        _ => (0..10_000).flat_map(|n| numbers(id::ALLOWED_FAST, &[n])).collect(),
    };
    wire.send(&bytes)?;
    wire.ignore()
}

fn unasked_block(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    let block = vec![0x55; BLOCK_LEN];
    let flood = [1, 200][variant];
    let bytes: Vec<u8> = (0..flood).flat_map(|n| piece(n % scene.pieces(), 0, &block)).collect();
    scene.seed_and(wire, &[message(id::UNCHOKE, b""), bytes].concat())
}

fn misplaced_block(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    scene.unchoke(wire)?;
    loop {
        let [index, begin, length] = wire.request()?;
        let block = scene.block([index, begin, length]);
        let bytes = match variant {
            0 => piece(u32::MAX, begin, block),
            1 => piece(scene.pieces(), begin, block),
            2 => piece(index, begin.wrapping_add(1), block),
            3 => piece(index, u32::MAX - 3, block),
            4 => piece(index, begin, &block[1..]),
            _ => piece(index, begin, b""),
        };
        wire.send(&bytes)?;
    }
}

fn oversized_block(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    scene.unchoke(wire)?;
    loop {
        let [index, begin, length] = wire.request()?;
        let more = [length as usize + 1, 900_000][variant];
        wire.send(&piece(index, begin, &vec![0x66; more]))?;
    }
}

fn half_a_block(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    scene.unchoke(wire)?;
    // The second kind does it after it has shown itself to be of use.
    for _ in 0..variant * 4 {
        let answer = scene.answer(wire.request()?);
        wire.send(&answer)?;
    }
    let answer = scene.answer(wire.request()?);
    wire.send(&answer[..answer.len() / 2])?;
    wire.ignore()
}

fn one_in_a_thousand(wire: &mut Wire, scene: &Scene, _: usize) -> io::Result<()> {
    // Two MiB have 128 blocks, so the one is somewhere at the beginning.
    scene.corrupt_where(wire, |_, n| n == 2)
}

fn corrupt_last(wire: &mut Wire, scene: &Scene, _: usize) -> io::Result<()> {
    let last = scene.fixture.piece_length as u32 - BLOCK_LEN as u32;
    scene.corrupt_where(wire, |[_, begin, _], _| begin == last)
}

/// With the Fast extension and without it, where a reject is not even a word.
fn reject_all(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    wire.send(&scene.hello(0, variant == 0))?;
    wire.read_handshake()?;
    let claim = message(id::BITFIELD, &full_bitfield(scene.fixture.pieces()));
    wire.send(&[claim, message(id::UNCHOKE, b"")].concat())?;
    loop {
        let request = wire.request()?;
        wire.send(&numbers(id::REJECT, &request))?;
    }
}

fn flicker(wire: &mut Wire, scene: &Scene, _: usize) -> io::Result<()> {
    scene.unchoke(wire)?;
    let both = [message(id::CHOKE, b""), message(id::UNCHOKE, b"")].concat().repeat(10);
    loop {
        wire.send(&both)?;
        wire.ignore_for(Duration::from_millis(10))?;
    }
}

fn a_block_a_minute(wire: &mut Wire, scene: &Scene, _: usize) -> io::Result<()> {
    scene.unchoke(wire)?;
    loop {
        let answer = scene.answer(wire.request()?);
        wire.send(&answer)?;
        wire.ignore_for(Duration::from_secs(60))?;
    }
}

fn same_block(wire: &mut Wire, scene: &Scene, _: usize) -> io::Result<()> {
    scene.unchoke(wire)?;
    let answer = scene.answer(wire.request()?);
    (0..1_000).try_for_each(|_| wire.send(&answer))?;
    wire.ignore()
}

fn odd_requests(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    let block = BLOCK_LEN as u32;
    let request = match variant {
        0 => [0, 0, block],
        1 => [0, 0, 0],
        2 => [0, 0, 1 << 20],
        3 => [0, 0, u32::MAX],
        4 => [0, u32::MAX - 5, block],
        _ => [u32::MAX, 0, block],
    };
    let bytes = [message(id::INTERESTED, b""), numbers(id::REQUEST, &request).repeat(20)].concat();
    scene.seed_and(wire, &bytes)
}

/// It reads nothing; only a write that fails tells it that it is alone.
fn flood_of_requests(wire: &mut Wire, scene: &Scene, n: usize) -> io::Result<()> {
    wire.send(&scene.hello(n, true))?;
    wire.send(&message(id::INTERESTED, b""))?;
    let some = numbers(id::REQUEST, &[0, 0, BLOCK_LEN as u32]).repeat(1_000);
    (0..100).try_for_each(|_| wire.send(&some))?;
    // What is left to read makes the end a reset; so be it.
    wire.stream.shutdown(std::net::Shutdown::Write)
}

fn flood_of_cancels(wire: &mut Wire, scene: &Scene, _: usize) -> io::Result<()> {
    let one = |index: u32| numbers(id::CANCEL, &[index, 0, BLOCK_LEN as u32]);
    let all: Vec<u8> = (0..scene.pieces()).flat_map(one).collect();
    scene.seed_and(wire, &all.repeat(100))
}

/// After so many bytes of the message.
fn reset_inside(wire: &mut Wire, scene: &Scene, bytes: usize) -> io::Result<()> {
    scene.unchoke(wire)?;
    let answer = scene.answer(wire.request()?);
    wire.send(&answer[..bytes])?;
    wire.reset_on_drop()
}

const ODD_EXTENDED: usize = 10;

fn odd_extended(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    scene.greet_extended(wire, variant)?;
    let deep = [b"d1:m".to_vec(), b"l".repeat(60_000)].concat();
    let odd: [&[u8]; ODD_EXTENDED] = [
        b"no bencode at all",
        b"",
        &deep,
        &b"d1:m".repeat(100_000),
        &vec![b'l'; 10 << 20],
        b"d1:md11:ut_metadatai0e6:ut_pexi256e11:lt_donthavei-1e11:upload_onlyi99999999999eee",
        b"d1:m4:spame",
        b"d1:mi7e1:vli1ee1:pi0e4:reqqi0e6:yourip1:x11:upload_onlyle13:metadata_size0:e",
        b"d4:reqqi-9223372036854775808e1:pi9223372036854775807ee",
        b"d11:upload_onlyi1e1:v9:\x1b[31mredXe",
    ];
    let claim = message(id::BITFIELD, &full_bitfield(scene.fixture.pieces()));
    wire.send(&[extended(0, odd[variant]), claim].concat())?;
    for id in [0, 1, 2, 3, 4, 5, 255] {
        wire.send(&extended(id, b"li1ee"))?;
    }
    wire.ignore()
}

const ODD_EXCHANGES: usize = 6;

/// Our id for such messages is 2, as our extended handshake says.
fn odd_exchange(wire: &mut Wire, scene: &Scene, variant: usize) -> io::Result<()> {
    scene.greet_extended(wire, variant)?;
    let claim = message(id::BITFIELD, &full_bitfield(scene.fixture.pieces()));
    wire.send(&[extended(0, b"d1:md6:ut_pexi1eee"), claim].concat())?;
    let list = |key: &str, bytes: &[u8]| {
        [b"d", key.as_bytes(), format!("{}:", bytes.len()).as_bytes(), bytes, b"e"].concat()
    };
    let many = |count: u32| {
        let addrs = (0..count).flat_map(|n| [127, 3, (n >> 8) as u8, n as u8, 0, 9]);
        list("5:added", &addrs.collect::<Vec<u8>>())
    };
    let payload = match variant {
        0 => many(100_000),
        1 => list("5:added", &[127, 3, 0, 1, 0, 0].repeat(200)),
        2 => list("5:added", &[127, 0, 0, 1, 0x1a, 0xe1].repeat(200)),
        3 => list("6:added6", &[7; 1_001]),
        4 => b"d5:addedi7e7:droppedlee".to_vec(),
        _ => many(200),
    };
    // The last one floods: nothing of it is forbidden but that it comes without end.
    let times = if variant == ODD_EXCHANGES - 1 { 1_000 } else { 3 };
    for _ in 0..times {
        wire.send(&extended(2, &payload))?;
    }
    wire.ignore()
}
