//! How peers are found without a tracker, on loopback: the real program among its own kind. What
//! needs a network is in `network.rs`, what needs other clients in `interop`.

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use support::fixture::{Fixture, Recipe};
use support::place::Place;
use support::run::{Ended, LIMIT, Run, Running};
use support::tracker::Tracker;

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
    Run::piecemeal(&[
        command,
        "-v",
        "--no-tracker",
        "--no-dht",
        "--no-lsd",
        "--listen",
        "127.0.0.1",
    ])
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
        let run = Run::piecemeal(&[
            command,
            "-v",
            "--no-tracker",
            "--no-dht",
            "--no-port-map",
            "--port",
            "0",
        ]);
        run.arg("-d").arg(&place.data).arg(&place.torrent)
    };
    let mut seed = listening(start("seed", &home));
    let ended = start("get", &away).run().expect(0);
    fixture.assert_in(&away.data);
    assert!(ended.wall < SOON, "{:?}: {}", ended.wall, ended.stderr);
    seed.interrupt();
    seed.finish(LIMIT).expect(130);
}

/// `piecemeal peers`, and the lines that it prints.
fn peers(place: &Place, args: &[&str]) -> (Vec<String>, Ended) {
    let run = Run::piecemeal(&["peers"]).args(args).arg(&place.torrent);
    let ended = run.run();
    let text = String::from_utf8(ended.stdout.clone()).unwrap();
    (text.lines().map(str::to_owned).collect(), ended)
}

#[test]
fn peers_prints_what_a_tracker_answers_and_leaves_nothing_behind() {
    let fixture = fixture("asked.bin");
    let addrs = ["192.0.2.9:6881", "192.0.2.1:51413", "192.0.2.2:1", "[2001:db8::7]:6881"];
    let tracker = Tracker::start(&addrs.map(|text| text.parse().unwrap()));
    for (url, udp) in [(tracker.http(), false), (tracker.udp(), true)] {
        let place = Place::with_trackers(&fixture, &[&[&url]]);
        let (lines, ended) = peers(&place, &["--from", "tracker"]);
        // A list over UDP is of one family.
        let expected = addrs.iter().filter(|text| !udp || !text.starts_with('['));
        assert_eq!(lines, expected.copied().collect::<Vec<_>>(), "{}", ended.stderr);
        let ended = ended.expect(0);
        assert!(ended.wall < Duration::from_secs(3), "{:?}", ended.wall);
        let [started, stopped] = [tracker.next(), tracker.next()];
        assert_eq!((started.event.as_str(), stopped.event.as_str()), ("started", "stopped"));
        assert!(started.port != 0 && started.left == fixture.data.len() as u64);
    }
    let place = Place::with_trackers(&fixture, &[&[&tracker.http()]]);
    let (lines, _) = peers(&place, &["--json", "--from", "tracker"]);
    assert_eq!(lines[0], r#"{"addr":"192.0.2.9:6881","from":"tracker"}"#);
}

#[test]
fn nobody_is_3_and_nobody_to_ask_is_1() {
    let fixture = fixture("lonely.bin");
    let tracker = Tracker::start(&[]);
    let place = Place::with_trackers(&fixture, &[&[&tracker.http()]]);
    let (lines, ended) = peers(&place, &["--from", "tracker"]);
    assert_eq!(
        (lines.len(), ended.expect(3).stderr.as_str()),
        (0, "piecemeal: nobody was found\n")
    );
    let (lines, ended) = peers(&place, &["--no-tracker", "--from", "tracker"]);
    assert!(lines.is_empty() && ended.expect(1).stderr.contains("nobody to ask"));
    // A private torrent's peers are its trackers' business only.
    let private = Recipe::file("private.bin", 100_000).private().make();
    let (_, ended) = peers(&Place::new(&private), &["--from", "lsd,pex"]);
    ended.expect(1);
}

#[test]
fn peers_finds_those_on_the_local_network_and_those_that_a_peer_knows() {
    let fixture = Recipe::file("known.bin", 1 << 20).seed(u64::from(std::process::id()) + 1).make();
    let (home, third) = (Place::new(&fixture), Place::new(&fixture));
    fixture.write_to(&home.data);
    let (seed_at, third_at) = (free_addr(), free_addr());
    let run = |command, at: SocketAddr, place: &Place, args: &[&str]| {
        let run =
            Run::piecemeal(&[command, "-v", "--no-tracker", "--no-dht", "--listen", "127.0.0.1"]);
        let run = run.args(["--port", &at.port().to_string()]).args(args);
        listening(run.arg("-d").arg(&place.data).arg(&place.torrent))
    };
    let _seed = run("seed", seed_at, &home, &[]);
    let (lines, ended) = peers(&home, &["--from", "lsd", "--listen", "127.0.0.1"]);
    assert_eq!(lines, [seed_at.to_string()], "{}", ended.stderr);
    let slow = ["--no-lsd", "--max-download-limit", "1K", "--peer", &seed_at.to_string()];
    let mut third = run("get", third_at, &third, &slow);
    third.wait_for(" 1 of ");
    let (lines, ended) =
        peers(&home, &["--from", "pex", "--json", "--peer", &third_at.to_string()]);
    let found = |addr: SocketAddr, from| format!(r#"{{"addr":"{addr}","from":"{from}"}}"#);
    assert_eq!(lines, [found(third_at, "user"), found(seed_at, "pex")], "{}", ended.stderr);
    ended.expect(0);
    // A magnet link may name its peers by name; who is not there has nothing.
    let hash: String = fixture.info_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let port = seed_at.port();
    let link = format!(
        "magnet:?xt=urn:btih:{hash}&x.pe=localhost:{port}&x.pe=127.0.0.1:9&x.pe=no-such-host.invalid:1"
    );
    let run = Run::piecemeal(&["peers", "--json", "--no-tracker", "--no-dht", "--no-lsd", &link]);
    let ended = run.run().expect(0);
    assert_eq!(String::from_utf8_lossy(&ended.stdout).trim(), found(seed_at, "user"));
}

/// Whoever watches the other addresses of this machine sees nothing of it.
#[test]
fn with_an_address_of_its_own_everything_goes_out_from_there() {
    let place = Place::new(&Recipe::file("from.bin", 100_000).make());
    let here = support::own_ip();
    let (tracker, peer, web) = (tcp(), tcp(), tcp());
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    udp.set_read_timeout(Some(LIMIT)).unwrap();
    let at = |listener: &TcpListener| listener.local_addr().unwrap();
    let run = Run::piecemeal(&["get", "--no-lsd", "--no-port-map", "--listen", &here.to_string()])
        .args(["-a", &format!("http://{}/announce", at(&tracker))])
        .args(["-a", &format!("udp://{}", udp.local_addr().unwrap())])
        .args(["--web-seed", &format!("http://{}/", at(&web))])
        .peers([at(&peer)]);
    let mut running = run.arg("-d").arg(&place.data).arg(&place.torrent).start();
    for (listener, what) in [(&tracker, "tracker"), (&peer, "peer"), (&web, "web seed")] {
        assert_eq!(listener.accept().unwrap().1.ip(), here, "{what}");
    }
    assert_eq!(udp.recv_from(&mut [0; 64]).unwrap().1.ip(), here);
    running.interrupt();
    running.finish(LIMIT).expect(130);
}

fn tcp() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}
