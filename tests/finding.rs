//! How peers are found without a tracker, on loopback: the real program among its own kind. What
//! needs a network is in `network.rs`, what needs other clients in `interop`.

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use support::fixture::{Fixture, Recipe};
use support::place::Place;
use support::run::{LIMIT, Run, Running};

/// A whole download, the search for peers included.
const SOON: Duration = Duration::from_secs(10);

/// Where nobody listens now. A peer that dials is seen to come from 127.0.0.1, so it must listen
/// there for others to find it.
fn free_addr() -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap()
}

/// A member of a swarm that finds peers by `--peer` and by what they tell.
fn member(command: &str, at: SocketAddr, place: &Place, args: &[&str]) -> Run {
    let port = at.port().to_string();
    Run::piecemeal(&[command, "-v", "--no-tracker", "--no-lsd", "--listen", "127.0.0.1"])
        .args(["--port", &port])
        .args(args)
        .arg("-d")
        .arg(&place.data)
        .arg(&place.torrent)
}

fn listening(run: Run) -> Running {
    let mut running = run.start();
    running.wait_for("listening at port");
    running
}

fn fixture(name: &str) -> Fixture {
    Recipe::file(name, 4 << 20).make()
}

/// The third peer has nothing itself, and gets next to nothing: it only knows both.
fn third_peer_tells(fixture: &Fixture, seed_dials: bool) -> String {
    let (seed_at, third_at, get_at) = (free_addr(), free_addr(), free_addr());
    let places = [(); 3].map(|()| Place::new(fixture));
    fixture.write_to(&places[0].data);
    let [to_seed, to_third] = [seed_at, third_at].map(|addr| addr.to_string());
    let third = |more: &[&str]| {
        let slow = ["--max-download-limit", "1K"];
        listening(member("get", third_at, &places[1], &[&slow, more].concat()))
    };
    let seed = |more: &[&str]| listening(member("seed", seed_at, &places[0], more));
    let _others = if seed_dials {
        let third = third(&[]);
        (seed(&["--peer", &to_third]), third)
    } else {
        (seed(&[]), third(&["--peer", &to_seed]))
    };
    let get = member("get", get_at, &places[2], &["--peer", &to_third, "--stop-timeout", "20"]);
    let ended = get.run();
    assert!(ended.wall < SOON, "{:?}: {}", ended.wall, ended.stderr);
    if ended.code == Some(0) {
        fixture.assert_in(&places[2].data);
    }
    ended.stderr
}

/// The seed is known to the third peer alone, which dialled it, or was dialled by it.
#[test]
fn a_third_peer_tells_where_the_seed_is() {
    for seed_dials in [false, true] {
        let said = third_peer_tells(&fixture("told.bin"), seed_dials);
        assert!(said.contains("complete"), "{said}");
    }
}

/// Two who meet on the local network of one machine, which has no tracker.
#[test]
fn two_on_one_machine_find_each_other() {
    let fixture = Recipe::file("beside.bin", 1 << 20).seed(u64::from(std::process::id())).make();
    let (home, away) = (Place::new(&fixture), Place::new(&fixture));
    fixture.write_to(&home.data);
    let start = |command, place: &Place| {
        let run = Run::piecemeal(&[command, "-v", "--no-tracker", "--no-port-map", "--port", "0"]);
        run.arg("-d").arg(&place.data).arg(&place.torrent)
    };
    let mut seed = listening(start("seed", &home));
    let ended = start("get", &away).run().expect(0);
    fixture.assert_in(&away.data);
    assert!(ended.wall < SOON, "{:?}: {}", ended.wall, ended.stderr);
    seed.interrupt();
    seed.finish(LIMIT).expect(130);
}
