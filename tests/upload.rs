//! Giving back: scripted leechers at the real `seed` and `get`; what they are served, what they are
//! refused, and what it costs.

mod support;

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::fixture::{BLOCK_LEN, Fixture, Recipe};
use support::peer::{Peer, Wire, full_bitfield, handshake, id, message, numbers, peer_id, piece};
use support::place::Place;
use support::run::{Ended, LIMIT, Run, Running};
use support::seeder::Seed;
use support::tracker::Tracker;
use support::{free_addr, own_ip};

const MIB: usize = 1 << 20;

/// Two files, the last piece and its last block short.
fn tree() -> Fixture {
    Recipe::tree("given").with("a.bin", 150_001).with("b/c.bin", 300_003).make()
}

/// `piecemeal seed` or `get` at work.
struct Giver {
    place: Place,
    running: Running,
    addr: SocketAddr,
}

impl Giver {
    /// A seed, verified and listening.
    fn seed(fixture: &Fixture, args: &[&str]) -> Giver {
        Giver::seed_of(fixture, Place::new(fixture), &[&["--no-tracker"], args].concat())
    }

    fn seed_of(fixture: &Fixture, place: Place, args: &[&str]) -> Giver {
        fixture.write_to(&place.data);
        let mut giver = Giver::start("seed", place, args);
        let json = args.contains(&"--json");
        let ready = if json { r#""event":"complete""# } else { "are here and verified" };
        giver.running.wait_for(ready);
        giver
    }

    fn start(command: &str, place: Place, args: &[&str]) -> Giver {
        Giver::start_at(free_addr(), command, place, args)
    }

    fn start_at(addr: SocketAddr, command: &str, place: Place, args: &[&str]) -> Giver {
        let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
        let run = Run::piecemeal(&[command, "--no-lsd", "-v", "--listen", &ip, "--port", &port])
            .args(args);
        let running = run.arg("-d").arg(&place.data).arg(&place.torrent).start();
        let mut giver = Giver { place, running, addr };
        let json = args.contains(&"--json");
        giver.running.wait_for(if json { r#""event":"listening""# } else { "listening at port" });
        giver
    }

    fn stop(mut self) -> Ended {
        self.running.interrupt();
        self.running.finish(LIMIT).expect(130)
    }
}

/// Connects and shakes hands; a leecher that has nothing and has not said anything.
fn dial(fixture: &Fixture, addr: SocketAddr, fast: bool) -> io::Result<Wire> {
    let mut wire = Wire::dial_from(own_ip(), addr)?;
    let n = usize::from(wire.stream.local_addr()?.port());
    wire.send(&handshake(&fixture.info_hash, &peer_id(b"-XX0000-", n), fast))?;
    wire.read_handshake()?;
    Ok(wire)
}

/// The same, interested and unchoked.
fn dial_unchoked(fixture: &Fixture, addr: SocketAddr, fast: bool) -> Wire {
    let mut wire = dial(fixture, addr, fast).expect("a connection");
    wire.send(&message(id::INTERESTED, &[])).expect("sent");
    wire.wait_for(id::UNCHOKE).expect("unchoked");
    wire
}

fn ask(piece: u32, begin: u32, length: u32) -> Vec<u8> {
    numbers(id::REQUEST, &[piece, begin, length])
}

/// Every block of a torrent as a request.
fn blocks(fixture: &Fixture) -> Vec<[u32; 3]> {
    let of_piece = |piece: usize| {
        let len = fixture.piece_range(piece).len();
        let block = move |at: usize| [piece as u32, at as u32, (len - at).min(BLOCK_LEN) as u32];
        (0..len).step_by(BLOCK_LEN).map(block)
    };
    (0..fixture.pieces()).flat_map(of_piece).collect()
}

/// The answer to one request: these bytes, and nothing else, are right.
#[track_caller]
fn assert_block(fixture: &Fixture, payload: &[u8], [piece, begin, length]: [u32; 3]) {
    let start = fixture.piece_range(piece as usize).start + begin as usize;
    let header = [piece.to_be_bytes(), begin.to_be_bytes()].concat();
    assert_eq!(payload[..8], header);
    assert!(payload[8..] == fixture.data[start..start + length as usize], "bytes differ");
}

/// Fetches everything, some requests ahead.
fn fetch_all(fixture: &Fixture, wire: &mut Wire) -> io::Result<()> {
    const AHEAD: usize = 32;
    let blocks = blocks(fixture);
    let (mut asked, mut got) = (0, 0);
    while got < blocks.len() {
        while asked < blocks.len() && asked < got + AHEAD {
            let [piece, begin, length] = blocks[asked];
            wire.send(&ask(piece, begin, length))?;
            asked += 1;
        }
        match wire.message()? {
            (id::PIECE, payload) => {
                assert_block(fixture, &payload, blocks[got]);
                got += 1;
            }
            // What was asked for is forgotten, and has to be asked for again.
            (id::CHOKE, _) => asked = usize::MAX,
            (id::UNCHOKE, _) => asked = got,
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn it_unchokes_who_is_interested_and_serves_the_right_bytes() {
    let fixture = tree();
    let seed = Giver::seed(&fixture, &[]);
    let mut quiet = dial(&fixture, seed.addr, true).unwrap();
    assert_eq!(quiet.message().unwrap().0, id::HAVE_ALL);
    let mut keen = dial(&fixture, seed.addr, false).unwrap();
    let bitfield = keen.message().unwrap();
    assert_eq!(bitfield, (id::BITFIELD, full_bitfield(fixture.pieces())));
    keen.send(&message(id::INTERESTED, &[])).unwrap();
    keen.wait_for(id::UNCHOKE).unwrap();
    fetch_all(&fixture, &mut keen).unwrap();
    // Whoever wanted nothing was not unchoked in the meantime, and is served nothing.
    quiet.send(&ask(0, 0, 16_384)).unwrap();
    let refused = quiet.message().unwrap();
    assert_eq!((refused.0, refused.1.len()), (id::REJECT, 12));
    let ended = seed.stop();
    assert!(ended.stderr.contains("uploaded 439.5 KiB, ratio 1.00"), "{}", ended.stderr);
}

#[test]
fn it_listens_at_ipv6_too() {
    let Ok(free) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    let addr = free.local_addr().unwrap();
    drop(free);
    let (fixture, place) = (tree(), Place::new(&tree()));
    fixture.write_to(&place.data);
    let seed = Giver::start_at(addr, "seed", place, &["--no-tracker"]);
    let mut wire = Wire::dial_from(addr.ip(), addr).unwrap();
    wire.send(&handshake(&fixture.info_hash, b"-XX0000-000000000006", false)).unwrap();
    wire.read_handshake().unwrap();
    wire.send(&message(id::INTERESTED, &[])).unwrap();
    wire.wait_for(id::UNCHOKE).unwrap();
    fetch_all(&fixture, &mut wire).unwrap();
    seed.stop();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fixture = tree();
    let seed = Giver::seed(&fixture, &[]);
    let pieces = fixture.pieces() as u32;
    let last = fixture.piece_range(fixture.pieces() - 1).len() as u32;
    let refused = [
        [0, 0, 0],
        [0, 0, 1 << 20],
        [0, 0, u32::MAX],
        [0, u32::MAX, u32::MAX],
        [0, 65_536, 16_384],
        [0, 65_535, 2],
        [pieces - 1, 0, last + 1],
        [pieces, 0, 16_384],
        [u32::MAX, 0, 16_384],
    ];
    for bad in refused {
        let mut wire = dial_unchoked(&fixture, seed.addr, true);
        wire.send(&numbers(id::REQUEST, &bad)).unwrap();
        let answer = wire.message().unwrap_or_else(|err| panic!("{bad:?}: {err}"));
        assert_eq!(answer, (id::REJECT, numbers(id::REJECT, &bad)[5..].to_vec()));
        // Nor is it served to a peer that cannot be told so; the next request is.
        let mut wire = dial_unchoked(&fixture, seed.addr, false);
        wire.send(&[numbers(id::REQUEST, &bad), ask(1, 0, 16_384)].concat()).unwrap();
        let (kind, payload) = wire.message().unwrap_or_else(|err| panic!("{bad:?}: {err}"));
        assert_eq!(kind, id::PIECE);
        assert_block(&fixture, &payload, [1, 0, 16_384]);
    }
    seed.stop();
}

#[test]
fn a_get_serves_the_pieces_it_has_and_no_other() {
    let fixture = Recipe::file("half.bin", MIB).make();
    let place = Place::new(&fixture);
    // The first half is there already.
    std::fs::write(place.data.join("half.bin"), &fixture.data[..MIB / 2]).unwrap();
    let get = Giver::start("get", place, &["--no-tracker", "--peer", "127.0.0.1:9"]);
    let mut wire = dial_unchoked(&fixture, get.addr, true);
    let (here, missing) = ([7, 16_384, 16_384], [8, 0, 16_384]);
    for request in [missing, here] {
        wire.send(&numbers(id::REQUEST, &request)).unwrap();
    }
    assert_eq!(wire.message().unwrap().0, id::REJECT);
    assert_block(&fixture, &wire.wait_for(id::PIECE).unwrap(), here);
    get.stop();
}

#[test]
fn a_get_gives_from_its_first_piece_on() {
    let fixture = Arc::new(Recipe::file("first.bin", MIB).make());
    let served = fixture.clone();
    // One that has everything and gives the first piece only.
    let miser = Peer::listen(
        own_ip(),
        Arc::new(move |mut wire, n| {
            wire.read_handshake()?;
            wire.send(&handshake(&served.info_hash, &peer_id(b"-XX0001-", n), false))?;
            wire.send(&message(id::BITFIELD, &[&[0x80][..], &[0]].concat()))?;
            wire.wait_for(id::INTERESTED)?;
            wire.send(&message(id::UNCHOKE, &[]))?;
            loop {
                let [index, begin, length] = wire.request()?;
                let start = index as usize * served.piece_length + begin as usize;
                wire.send(&piece(index, begin, &served.data[start..start + length as usize]))?;
            }
        }),
    );
    let peer = miser.addr.to_string();
    let get = Giver::start("get", Place::new(&fixture), &["--no-tracker", "--peer", &peer]);
    let mut wire = dial(&fixture, get.addr, false).unwrap();
    loop {
        match wire.message().unwrap() {
            (id::HAVE, which) if which == [0; 4] => break,
            (id::BITFIELD, bits) if bits[0] & 0x80 != 0 => break,
            _ => {}
        }
    }
    wire.send(&message(id::INTERESTED, &[])).unwrap();
    wire.wait_for(id::UNCHOKE).unwrap();
    wire.send(&ask(0, 32_768, 16_384)).unwrap();
    assert_block(&fixture, &wire.wait_for(id::PIECE).unwrap(), [0, 32_768, 16_384]);
    get.stop();
}

#[test]
fn a_cancelled_block_is_not_sent() {
    let fixture = Recipe::file("cancelled.bin", MIB).make();
    // A quarter of a second a block, so that the others wait.
    let seed = Giver::seed(&fixture, &["-u", "64K"]);
    let mut wire = dial_unchoked(&fixture, seed.addr, true);
    let blocks = &blocks(&fixture)[..40];
    blocks.iter().for_each(|block| wire.send(&numbers(id::REQUEST, block)).unwrap());
    assert_block(&fixture, &wire.wait_for(id::PIECE).unwrap(), blocks[0]);
    blocks[3..].iter().for_each(|block| wire.send(&numbers(id::CANCEL, block)).unwrap());
    let (mut given, mut rejected) = (1, 0);
    while given + rejected < blocks.len() {
        match wire.message().unwrap().0 {
            id::PIECE => given += 1,
            id::REJECT => rejected += 1,
            _ => {}
        }
    }
    assert!((1..=5).contains(&given), "{given} blocks came, {rejected} were rejected");
    seed.stop();
}

#[test]
fn a_flood_of_requests_costs_little_and_ends() {
    let fixture = tree();
    let seed = Giver::seed(&fixture, &[]);
    for fast in [false, true] {
        let mut wire = dial_unchoked(&fixture, seed.addr, fast);
        let flood: Vec<u8> = (0..100_000).flat_map(|n| ask(n % 6, 0, 16_384)).collect();
        // It reads nothing, and the other side hangs up: in the middle of it, or after.
        let end = wire.send(&flood).and_then(|()| wire.ignore());
        assert!(end.is_err(), "still connected");
    }
    // Others are served as before.
    fetch_all(&fixture, &mut dial_unchoked(&fixture, seed.addr, false)).unwrap();
    let ended = seed.stop();
    let most = ended.rss_anon_max;
    assert!(most <= 32 * MIB as u64, "{most} bytes of anonymous memory");
}

#[test]
fn seeds_do_not_keep_seeds() {
    let fixture = tree();
    let seed = Giver::seed(&fixture, &[]);
    for fast in [false, true] {
        let mut wire = dial(&fixture, seed.addr, fast).unwrap();
        wire.send(&message(id::BITFIELD, &full_bitfield(fixture.pieces()))).unwrap();
        assert!(wire.ignore().is_err(), "still connected");
    }
    seed.stop();
}

#[test]
fn ratio_and_time_end_a_seed() {
    let fixture = tree();
    let seed = Giver::seed(&fixture, &["--seed-ratio", "1"]);
    fetch_all(&fixture, &mut dial_unchoked(&fixture, seed.addr, false)).unwrap();
    seed.running.finish(LIMIT).expect(0);
    let seed = Giver::seed(&fixture, &["--seed-time", "0.01"]);
    seed.running.finish(LIMIT).expect(0);
}

/// Over three seconds, as the peer sees it.
#[test]
fn limits_are_kept() {
    let rate = 1_000_000.0;
    let close = |bytes: usize, time: Duration, what: &str| {
        let found = bytes as f64 / time.as_secs_f64() / rate;
        assert!((0.95..1.05).contains(&found), "{what}: {found:.3} of the limit");
    };
    let fixture = Recipe::file("limited.bin", 3 * MIB).make();
    let seed = Giver::seed(&fixture, &["-u", "1000000"]);
    let mut wire = dial_unchoked(&fixture, seed.addr, false);
    let start = Instant::now();
    fetch_all(&fixture, &mut wire).unwrap();
    close(fixture.data.len(), start.elapsed(), "upload");
    seed.stop();

    let seeder = Seed::default().at(own_ip()).start(&fixture);
    let place = Place::new(&fixture);
    let run = place.get().args(["--no-tracker", "--json", "--max-download-limit", "1000000"]);
    let ended = run.peers([seeder.addr]).run().expect(0);
    let seconds = number(&ended, "seconds");
    close(fixture.data.len(), Duration::from_secs_f64(seconds), "download");
}

/// A number of the last object of `--json`.
fn number(ended: &Ended, key: &str) -> f64 {
    let text = String::from_utf8_lossy(&ended.stdout);
    let last = text.lines().last().expect("a line");
    let (_, rest) = last.split_once(&format!("\"{key}\":")).expect("the key");
    let end = rest.find([',', '}']).expect("more");
    rest[..end].parse().expect("a number")
}

#[test]
fn trackers_are_told_the_truth() {
    let fixture = tree();
    let size = fixture.data.len() as u64;
    let tracker = Tracker::start(&[]);
    let place = Place::with_trackers(&fixture, &[&[&tracker.http()]]);
    let seed = Giver::seed_of(&fixture, place, &[]);
    let first = tracker.next();
    assert_eq!((first.event.as_str(), first.left, first.port), ("started", 0, seed.addr.port()));
    fetch_all(&fixture, &mut dial_unchoked(&fixture, seed.addr, false)).unwrap();
    let addr = seed.addr.to_string();
    let get = Place::with_trackers(&fixture, &[&[&tracker.http()]]);
    get.get().args(["--peer", &addr]).run().expect(0);
    let told: Vec<_> =
        tracker.announces().into_iter().map(|a| (a.event, a.left, a.downloaded)).collect();
    let expected = [("started", size, 0), ("completed", 0, size), ("stopped", 0, size)];
    assert_eq!(told, expected.map(|(event, left, down)| (event.to_owned(), left, down)));
    seed.stop();
    let last = tracker.next();
    assert_eq!((last.event.as_str(), last.left, last.downloaded), ("stopped", 0, 0));
    assert_eq!(last.uploaded, 2 * size);
}

#[test]
fn many_leechers_at_once_complete() {
    let fixture = Arc::new(Recipe::file("many.bin", MIB).make());
    let seed = Giver::seed(&fixture, &["--max-peers", "100"]);
    let addr = seed.addr;
    let leech = |_| {
        let fixture = fixture.clone();
        std::thread::spawn(move || {
            fetch_all(&fixture, &mut dial_unchoked(&fixture, addr, false)).unwrap();
        })
    };
    let leechers: Vec<_> = (0..64).map(leech).collect();
    leechers.into_iter().for_each(|leecher| leecher.join().expect("completes"));
    seed.stop();
}

#[test]
fn idle_connections_cost_little() {
    let fixture = tree();
    let seed = Giver::seed(&fixture, &["--max-peers", "400"]);
    let idle: Vec<Wire> = (0..300)
        .map(|_| {
            let mut wire = dial(&fixture, seed.addr, false).unwrap();
            wire.wait_for(id::BITFIELD).unwrap();
            wire
        })
        .collect();
    fetch_all(&fixture, &mut dial_unchoked(&fixture, seed.addr, false)).unwrap();
    let ended = seed.stop();
    drop(idle);
    let most = ended.rss_anon_max;
    assert!(most <= 40 * MIB as u64, "{most} bytes of anonymous memory");
}

/// What the seed gives is passed on: with a limit at the seed, three that get at the same time are
/// served little more than one copy.
#[test]
fn those_that_get_give_to_each_other() {
    let fixture = Recipe::file("shared.bin", 6 * MIB).make();
    let seed = Giver::seed(&fixture, &["-u", "2M", "--json"]);
    let addrs = [free_addr(), free_addr(), free_addr()];
    let gets = addrs.map(|addr| {
        let place = Place::new(&fixture);
        let run =
            Run::piecemeal(&["get", "--json", "--no-tracker", "--no-lsd", "--seed-time", "0.05"])
                .args(["--listen", &addr.ip().to_string(), "--port", &addr.port().to_string()])
                .peers(addrs.iter().filter(|other| **other != addr))
                .peers([seed.addr])
                .arg("-d")
                .arg(&place.data)
                .arg(&place.torrent);
        (run.start(), place)
    });
    for (running, place) in gets {
        let ended = running.finish(LIMIT).expect(0);
        fixture.assert_in(&place.data);
        assert!(String::from_utf8_lossy(&ended.stdout).contains("\"peers_used\":[{\"addr\":"));
    }
    let copies = number(&seed.stop(), "uploaded") / fixture.data.len() as f64;
    assert!(copies < 1.5, "the seed gave {copies:.2} copies");
}

#[test]
fn a_seed_of_half_is_one_clear_line() {
    let fixture = tree();
    let place = Place::new(&fixture);
    fixture.write_to(&place.data);
    std::fs::write(place.data.join("given/b/c.bin"), b"short").unwrap();
    let run = Run::piecemeal(&["seed", "--no-tracker", "-d"]).arg(&place.data).arg(&place.torrent);
    let ended = run.run().expect(1);
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("piecemeal: ") && last.contains(" pieces are there"), "{last}");
}

/// The first files of a torrent are held open, and their bytes with them; a later one is opened when
/// it is asked for.
#[test]
fn a_file_that_vanishes_under_a_seed_is_one_clear_line() {
    let begin = Recipe::tree("given").with("0", 150_001);
    let many = (1..30).fold(begin, |recipe, n| recipe.with(&n.to_string(), 1_000));
    let fixture = many.with("z/c.bin", 300_003).make();
    let seed = Giver::seed(&fixture, &[]);
    std::fs::remove_file(seed.place.data.join("given/0")).unwrap();
    std::fs::remove_file(seed.place.data.join("given/z/c.bin")).unwrap();
    let _ = fetch_all(&fixture, &mut dial_unchoked(&fixture, seed.addr, false));
    let ended = seed.running.finish(LIMIT).expect(1);
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("piecemeal: cannot read ") && last.contains("c.bin"), "{last}");
}

#[test]
fn a_file_that_shrinks_under_a_seed_is_one_clear_line() {
    let fixture = tree();
    let seed = Giver::seed(&fixture, &[]);
    let path = seed.place.data.join("given/b/c.bin");
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
    let mut wire = dial_unchoked(&fixture, seed.addr, false);
    let _ = fetch_all(&fixture, &mut wire);
    let ended = seed.running.finish(LIMIT).expect(1);
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("piecemeal: ") && last.contains("c.bin"), "{last}");
}
