//! Peers that break every rule. In each case one bad peer (or fifty) and one honest seed: the
//! download ends with the right bytes, in at most twice the time that it takes without them plus
//! ten seconds, without a panic and in little memory.
//!
//! The table is [`support::hostile`]; its names, `P1` to `P40`, are those of the fault matrix. Each
//! bad peer is met in both ways: the client dials it, and it dials the client, once for each
//! variant of what it does.

mod support;

use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};

use support::fixture::{Fixture, Folder, Recipe};
use support::hostile::{Behaviour, MATRIX, Scene};
use support::peer::{Peer, Wire, handshake, peer_id};
use support::run::{Ended, Run};
use support::seeder::{Seed, Seeder};
use support::{free_addr, own_ip};

const MIB: usize = 1 << 20;

/// How many rows of the table run at the same time. Nearly all of them only wait.
const AT_ONCE: usize = 6;

/// The most anonymous memory that the client may have, whoever torments it.
const MEMORY_MAX: u64 = 32 * MIB as u64;

/// At this pace the honest seed takes about a second, so that the bad one has its chance.
const HONEST_RATE: u64 = 2 * MIB as u64;

/// Twice the time without a fault, plus ten seconds.
const TIME_MAX: Duration = Duration::from_secs(12);

fn two_mib() -> Fixture {
    Recipe::file("two.bin", 2 * MIB).piece_length(64 << 10).make()
}

/// One client, one honest seed, some bad peers.
struct Arena {
    fixture: Arc<Fixture>,
    folder: Folder,
    honest: Seeder,
    client: SocketAddr,
}

impl Arena {
    fn new() -> Arena {
        let fixture = Arc::new(two_mib());
        let honest = Seed::default().at(own_ip()).rate(HONEST_RATE).start(&fixture);
        Arena { fixture, folder: Folder::new("hostile"), honest, client: free_addr() }
    }

    fn scene(&self) -> Scene {
        Scene { fixture: self.fixture.clone() }
    }

    fn bad_peer(&self, behaviour: &'static Behaviour) -> Peer {
        let scene = self.scene();
        let play = move |mut wire: Wire, n: usize| {
            (behaviour.play)(&mut wire, &scene, n % behaviour.variants)
        };
        Peer::listen(own_ip(), Arc::new(play))
    }

    /// The client dials the bad peers first and the honest seed last.
    fn run(&self, bad: &[Peer], meanwhile: impl FnOnce(Dialler) + Send) -> Result<Ended, String> {
        let torrent = self.folder.file("two.torrent", &self.fixture.torrent(&[]));
        let data = self.folder.folder("data");
        let running = Run::piecemeal(&["get", "--no-lsd", "-v", "--port"])
            .arg(self.client.port().to_string())
            .arg("--listen")
            .arg(self.client.ip().to_string())
            .arg(&torrent)
            .arg("-d")
            .arg(&data)
            .peers(bad.iter().map(|peer| peer.addr))
            .peers([self.honest.addr])
            .start();
        let end = thread::scope(|scope| {
            let (opened, open) = unbounded::<Weak<TcpStream>>();
            let until = Instant::now() + Duration::from_secs(2);
            let dialler = Dialler { client: self.client, opened, until };
            scope.spawn(|| meanwhile(dialler));
            let end = running.finish(Duration::from_secs(60));
            // One that floods need not notice for a minute that nobody listens any more.
            open.iter().filter_map(|stream| stream.upgrade()).for_each(|stream| {
                let _ = stream.shutdown(Shutdown::Both);
            });
            end
        });
        let said = || format!("; it said:\n{}", end.stderr);
        if end.code != Some(0) {
            return Err(format!("exit code {:?}, signal {:?}{}", end.code, end.signal, said()));
        }
        if end.stderr.contains("panicked") {
            return Err(format!("a panic{}", said()));
        }
        if TIME_MAX < end.wall {
            return Err(format!("took {:?}{}", end.wall, said()));
        }
        if MEMORY_MAX < end.rss_anon_max {
            return Err(format!("{} bytes of memory{}", end.rss_anon_max, said()));
        }
        self.fixture.difference(&data).map_err(|difference| difference + &said())?;
        Ok(end)
    }

    /// Dials the client from an address of its own, once for each variant; until it is gone.
    fn dial_in(&self, behaviour: &'static Behaviour, dialler: &Dialler, met: &AtomicUsize) {
        let scene = self.scene();
        let variants: Vec<usize> = (0..behaviour.variants).collect();
        thread::scope(|scope| {
            // A few at a time: those that wait must not keep the others from their turn.
            for some in variants.chunks(variants.len().div_ceil(4)) {
                let scene = &scene;
                scope.spawn(move || {
                    for &variant in some {
                        let Some(mut wire) = dialler.dial(own_ip()) else { return };
                        met.fetch_add(1, Ordering::Relaxed);
                        let _ = (behaviour.play)(&mut wire, scene, variant);
                    }
                });
            }
        });
    }
}

/// Dials the client, while there is one.
struct Dialler {
    client: SocketAddr,
    opened: Sender<Weak<TcpStream>>,
    /// Before that, the client may still be starting.
    until: Instant,
}

impl Dialler {
    fn dial(&self, from: IpAddr) -> Option<Wire> {
        loop {
            match Wire::dial_from(from, self.client) {
                Ok(wire) => {
                    let _ = self.opened.send(Arc::downgrade(&wire.stream));
                    return Some(wire);
                }
                Err(_) if Instant::now() < self.until => thread::yield_now(),
                Err(_) => return None,
            }
        }
    }
}

/// One row of the table.
fn check(behaviour: &'static Behaviour) -> Result<Duration, String> {
    let arena = Arena::new();
    let bad = [arena.bad_peer(behaviour)];
    let met = AtomicUsize::new(0);
    let end = arena.run(&bad, |dialler| arena.dial_in(behaviour, &dialler, &met))?;
    if bad[0].met() == 0 || met.load(Ordering::Relaxed) == 0 {
        return Err(format!("not met: {} dials, {met:?} calls", bad[0].met()));
    }
    Ok(end.wall)
}

#[test]
fn one_bad_peer_of_each_kind() {
    // To look closely at one: PIECEMEAL_ROW=P15 cargo test --test hostile one_bad -- --nocapture
    let only = std::env::var("PIECEMEAL_ROW").ok();
    let wanted = |row: &&Behaviour| only.as_ref().is_none_or(|only| only == row.name);
    let next = AtomicUsize::new(0);
    let failures: Vec<String> = thread::scope(|scope| {
        let work = || {
            let rows = std::iter::from_fn(|| MATRIX.get(next.fetch_add(1, Ordering::Relaxed)));
            rows.filter(wanted)
                .filter_map(|row| match check(row) {
                    Ok(wall) => {
                        println!("{:<4} {:<60} {:.1} s", row.name, row.what, wall.as_secs_f64());
                        None
                    }
                    Err(why) => Some(format!("{} ({}): {why}", row.name, row.what)),
                })
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(failures.is_empty(), "{} rows failed:\n{}", failures.len(), failures.join("\n\n"));
}

/// Fifty of one kind take all places of a client that has fifty.
#[track_caller]
fn check_fifty(names: &[&str]) {
    let rows: Vec<&'static Behaviour> =
        MATRIX.iter().filter(|row| names.is_empty() || names.contains(&row.name)).collect();
    let arena = Arena::new();
    let bad: Vec<Peer> = (0..50).map(|n| arena.bad_peer(rows[n % rows.len()])).collect();
    if let Err(why) = arena.run(&bad, drop) {
        panic!("fifty of {names:?}: {why}");
    }
}

#[test]
fn fifty_bad_peers_of_all_kinds() {
    check_fifty(&[]);
}

#[test]
fn fifty_silent_peers() {
    check_fifty(&["P1"]);
    check_fifty(&["P6"]);
}

#[test]
fn fifty_peers_that_never_unchoke() {
    check_fifty(&["P26"]);
}

#[test]
fn fifty_peers_that_promise_and_do_not_deliver() {
    check_fifty(&["P20", "P24", "P27"]);
}

#[test]
fn fifty_peers_that_send_garbage_blocks() {
    check_fifty(&["P21"]);
}

#[test]
fn p7_a_peer_that_comes_back_a_thousand_times() {
    let arena = Arena::new();
    let hello = handshake(&arena.fixture.info_hash, &peer_id(b"-BA0007-", 7), false);
    let came = AtomicUsize::new(0);
    let from = own_ip();
    let end = arena.run(&[], |dialler| {
        for _ in 0..1000 {
            let Some(mut wire) = dialler.dial(from) else { return };
            came.fetch_add(1, Ordering::Relaxed);
            let _ = wire.send(&hello);
        }
    });
    end.unwrap_or_else(|why| panic!("{why}"));
    assert!(100 < came.into_inner(), "it came too seldom to mean anything");
}

/// Opens connections and holds them, until the client has ended.
#[track_caller]
fn check_crowd(addresses: impl Iterator<Item = IpAddr> + Send) {
    let arena = Arena::new();
    let mut held = Vec::new();
    let end = arena.run(&[], |dialler| {
        held.extend(addresses.map_while(|from| dialler.dial(from)));
    });
    end.unwrap_or_else(|why| panic!("{why}"));
    assert!(100 < held.len(), "only {} connections", held.len());
}

#[test]
fn p40_three_hundred_connections_from_one_address() {
    let from = own_ip();
    check_crowd((0..300).map(|_| from));
}

#[test]
fn p40_a_connection_from_each_of_many_addresses() {
    support::run::raise_descriptor_limit();
    let address = |n: u16| Ipv4Addr::new(127, 251, (n >> 8) as u8, n as u8 | 1).into();
    check_crowd((0..2000).map(address));
}
