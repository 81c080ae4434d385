//! Web seeds (BEP 19), end to end: the real program against web servers on 127.0.0.x, honest ones and
//! one for each way of misbehaving, beside peers and alone.

mod support;

use std::time::Duration;

use support::fixture::{Fixture, Recipe, string};
use support::own_ip;
use support::place::Place;
use support::run::{Ended, LIMIT, Run};
use support::seeder::{Seed, Seeder};
use support::web::{Manner, Server};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn four_mib() -> Fixture {
    Recipe::file("four.bin", 4 * MIB).piece_length(128 * KIB).make()
}

fn tree() -> Fixture {
    let tree = Recipe::tree("дерево #1 100%").piece_length(50_001);
    let tree = tree.with("a", 1).with("empty", 0).with("b?c/d e&f.bin", 300_000).pad();
    tree.with("b?c/ü+文.txt", 65_537).with("z/last", 333_333).with("z/empty", 0).make()
}

fn get(place: &Place, servers: &[&Server]) -> Run {
    servers.iter().fold(place.get(), |run, server| run.args(["--web-seed", &server.url()]))
}

/// The last line of `--json`.
fn last_json(end: &Ended) -> String {
    let text = String::from_utf8_lossy(&end.stdout);
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_torrent_without_peers_comes_from_one_server_over_one_connection() {
    let fixture = Recipe::file("disk image.iso", 24 * MIB + 12_345).make();
    let (place, server) = (Place::new(&fixture), Server::start(&fixture, Manner::Honest));
    let end = get(&place, &[&server]).arg("--json").run().expect(0);
    fixture.assert_in(&place.data);
    assert_eq!((server.served(), server.connections()), (fixture.data.len() as u64, 1));
    assert!(server.requests().iter().all(|request| request.path == "/disk%20image.iso"));
    assert!(server.requests()[0].headers.to_lowercase().contains("accept-encoding: identity"));
    let used = format!("\"web_seeds_used\":[{{\"url\":\"{}\",\"received\":", server.url());
    assert!(last_json(&end).contains(&used), "{}", last_json(&end));
}

#[test]
fn a_tree_with_pads_and_names_that_need_escapes() {
    let fixture = tree();
    let (place, server) = (Place::new(&fixture), Server::start(&fixture, Manner::Honest));
    get(&place, &[&server]).run().expect(0);
    fixture.assert_in(&place.data);
    let stored: usize = fixture.files.iter().filter(|f| !f.pad).map(|f| f.range.len()).sum();
    assert_eq!(server.served(), stored as u64, "pads and empty files are not asked for");
}

#[test]
fn the_torrents_own_list_is_used_unless_it_is_forbidden() {
    let fixture = four_mib();
    let (place, server) = (Place::new(&fixture), Server::start(&fixture, Manner::Honest));
    let mut torrent = fixture.torrent(&[]);
    torrent.pop();
    torrent.extend(b"8:url-list");
    string(&mut torrent, server.url().as_bytes());
    torrent.push(b'e');
    std::fs::write(&place.torrent, torrent).expect("a torrent");
    place.get().args(["--no-webseed", "--stop-timeout", "1"]).run().expect(3);
    assert_eq!(server.requests().len(), 0);
    place.get().run().expect(0);
    fixture.assert_in(&place.data);
}

#[test]
fn several_servers_and_peers_share_the_work_and_nothing_comes_twice() {
    let fixture = Recipe::file("shared.bin", 12 * MIB).piece_length(128 * KIB).make();
    let place = Place::new(&fixture);
    let rate = 4 * MIB as u64;
    let servers = [(); 2].map(|()| Server::start(&fixture, Manner::Slow(rate)));
    let seeds = [(); 2].map(|()| Seed::default().rate(rate).at(own_ip()).start(&fixture));
    let run = get(&place, &[&servers[0], &servers[1]]);
    let end = run.peers(seeds.iter().map(|seed| seed.addr)).run().expect(0);
    fixture.assert_in(&place.data);
    let web: Vec<u64> = servers.iter().map(Server::served).collect();
    let peers: Vec<u64> = seeds.iter().map(Seeder::served).collect();
    let least = fixture.data.len() as u64 / 12;
    let sum: u64 = web.iter().chain(&peers).sum();
    assert!(web.iter().chain(&peers).all(|bytes| least < *bytes), "unfair: {web:?} {peers:?}");
    // What is on the wire when a run is cut short is lost.
    assert!(sum < fixture.data.len() as u64 * 5 / 4, "too much twice: {web:?} {peers:?}");
    assert!(end.wall < Duration::from_secs(4), "took {:?}", end.wall);
}

#[test]
fn a_slow_server_does_not_hold_up_a_fast_peer() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let server = Server::start(&fixture, Manner::Slow(20_000));
    let seeder = Seeder::start(&fixture);
    let end = get(&place, &[&server]).peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    assert!(end.wall < Duration::from_secs(4), "took {:?}", end.wall);
}

/// A bad server beside a good one: all is well in the end, soon, and whole.
#[track_caller]
fn check_beside(manner: Manner, with_peer: bool) -> (Ended, Server) {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let bad = Server::start(&fixture, manner.clone());
    let run = get(&place, &[&bad]);
    let end = if with_peer {
        let seeder = Seeder::start(&fixture);
        run.peers([seeder.addr]).run()
    } else {
        let good = Server::start(&fixture, Manner::Honest);
        run.args(["--web-seed", &good.url()]).run()
    };
    let end = end.expect(0);
    fixture.assert_in(&place.data);
    assert!(end.wall < Duration::from_secs(10), "{manner:?}: took {:?}", end.wall);
    (end, bad)
}

fn check_bad(manner: Manner) {
    check_beside(manner.clone(), false);
    check_beside(manner, true);
}

#[test]
fn bad_statuses() {
    let statuses = [400, 401, 403, 404, 410, 416, 429, 500, 502, 503, 304, 206, 204];
    for (n, status) in statuses.into_iter().enumerate() {
        check_beside(Manner::Answers(status, ""), n % 2 == 0);
    }
}

#[test]
fn bodies_that_are_too_short_too_long_or_of_another_range() {
    for manner in [
        Manner::Short(0),
        Manner::Short(100_000),
        Manner::ShortWithoutLength(0),
        Manner::ShortWithoutLength(20_000),
        Manner::Long,
        Manner::WrongRange,
        Manner::Encoded,
        Manner::Babbles,
    ] {
        check_bad(manner);
    }
}

#[test]
fn a_server_that_ends_every_answer_early_is_of_use_all_the_same() {
    let fixture = four_mib();
    let (place, server) = (Place::new(&fixture), Server::start(&fixture, Manner::Short(300_000)));
    let end = get(&place, &[&server]).run().expect(0);
    fixture.assert_in(&place.data);
    assert!(end.wall < Duration::from_secs(10), "took {:?}", end.wall);
}

#[test]
fn servers_that_are_silent_hang_or_trickle() {
    let pause = Duration::from_millis(20);
    for manner in [Manner::Silent, Manner::Hangs, Manner::Trickle(pause)] {
        check_bad(manner);
    }
}

#[test]
fn a_server_that_lies_is_dropped_after_proof_and_the_others_go_on() {
    for every in [MIB, 100_000, 4 * MIB] {
        for with_peer in [false, true] {
            let (_, bad) = check_beside(Manner::Corrupt(every), with_peer);
            assert!(bad.served() <= 5 * MIB as u64, "asked again: {} bytes", bad.served());
        }
    }
    let fixture = four_mib();
    let (place, server) = (Place::new(&fixture), Server::start(&fixture, Manner::Corrupt(MIB)));
    let end = get(&place, &[&server]).args(["--stop-timeout", "1"]).run().expect(3);
    assert!(end.stderr.contains("does not match its hash"), "{}", end.stderr);
    assert!(!end.stderr.contains("complete"), "{}", end.stderr);
}

#[test]
fn why_nothing_comes_is_said() {
    let fixture = four_mib();
    for (manner, why) in [
        (Manner::Answers(404, ""), "answered 404"),
        (Manner::Answers(503, "Retry-After: 3600"), "answered 503"),
        (Manner::Silent, "was asked and sends nothing"),
        (Manner::Encoded, "its answer is encoded: gzip"),
    ] {
        let (place, server) = (Place::new(&fixture), Server::start(&fixture, manner));
        let end = get(&place, &[&server]).args(["--stop-timeout", "3"]).run().expect(3);
        let last = end.stderr.lines().last().unwrap_or_default();
        assert!(last.contains(why) && last.contains("web seed http://127."), "{}", end.stderr);
    }
}

#[test]
fn a_server_that_is_busy_is_asked_again_when_it_says() {
    let fixture = four_mib();
    for header in [
        "Retry-After: 3",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:40 GMT",
    ] {
        let place = Place::new(&fixture);
        let server = Server::start(&fixture, Manner::Once(503, header));
        let end = get(&place, &[&server]).run().expect(0);
        fixture.assert_in(&place.data);
        assert!(Duration::from_secs(3) <= end.wall, "took {:?}", end.wall);
    }
}

#[test]
fn a_file_that_a_server_lacks_comes_from_elsewhere_and_the_others_from_it() {
    let fixture = Recipe::tree("t").with("a", MIB).with("b", MIB).with("c", MIB).make();
    let place = Place::new(&fixture);
    let lacks = ["/b", "/c"].map(|path| Server::start(&fixture, Manner::Lacks(path)));
    get(&place, &[&lacks[0], &lacks[1]]).run().expect(0);
    fixture.assert_in(&place.data);
    let refused = lacks[0].requests().iter().filter(|r| r.path.ends_with("/b")).count();
    assert!(refused <= 1, "asked {refused} times for what it does not have");
    assert!(lacks.iter().all(|server| MIB as u64 / 2 < server.served()));
}

#[test]
fn an_old_file_on_a_server_does_not_cost_the_others() {
    let fixture = Recipe::tree("t").with("a", MIB).with("b", MIB).with("c", MIB).make();
    let place = Place::new(&fixture);
    let stale = ["/a", "/c"].map(|path| Server::start(&fixture, Manner::Stale(path)));
    let end = get(&place, &[&stale[0], &stale[1]]).arg("--json").run().expect(0);
    fixture.assert_in(&place.data);
    let said = String::from_utf8_lossy(&end.stdout);
    let lacks = said.lines().filter(|line| line.contains(r#""event":"web_seed","state":"lacks""#));
    assert!((1..=2).contains(&lacks.count()), "{said}");
    assert!(!said.contains("given_up"), "{said}");
    let twice = stale.iter().map(Server::served).sum::<u64>() - fixture.data.len() as u64;
    assert!(twice <= 2 * MIB as u64 + 2 * 64 * KIB as u64, "{twice} bytes for nothing");
}

#[test]
fn a_server_without_ranges_is_read_through_once() {
    let fixture = Recipe::file("large.bin", 24 * MIB).make();
    let (place, server) = (Place::new(&fixture), Server::start(&fixture, Manner::IgnoresRange));
    get(&place, &[&server]).run().expect(0);
    fixture.assert_in(&place.data);
    assert_eq!(server.requests().len(), 1);
    let fixture = tree();
    let (place, server) = (Place::new(&fixture), Server::start(&fixture, Manner::IgnoresRange));
    get(&place, &[&server]).run().expect(0);
    fixture.assert_in(&place.data);
}

#[test]
fn a_server_without_ranges_finishes_what_is_begun_but_is_not_read_for_ever() {
    let fixture = Recipe::file("large.bin", 8 * MIB).make();
    let (place, server) = (Place::new(&fixture), Server::start(&fixture, Manner::IgnoresRange));
    let file = place.data.join("large.bin");
    let holes = |pieces: std::ops::Range<usize>| {
        let mut data = fixture.data.to_vec();
        pieces.for_each(|piece| data[fixture.piece_range(piece)].fill(0));
        std::fs::write(&file, data).expect("the file");
    };
    holes(60..70);
    get(&place, &[&server]).run().expect(0);
    fixture.assert_in(&place.data);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn redirects_are_followed_but_not_for_ever_and_not_everywhere() {
    let fixture = four_mib();
    let (place, good) = (Place::new(&fixture), Server::start(&fixture, Manner::Honest));
    let server = Server::start(&fixture, Manner::Redirects(good.url()));
    get(&place, &[&server]).run().expect(0);
    fixture.assert_in(&place.data);
    for (to, why) in [
        ("/", "redirects, the limit"),
        ("file:///etc/", "no web address"),
        ("ftp://127.0.0.1/", "only http and https"),
        ("http://127.0.0.1:9/admin?x=", "may have no query"),
        // The same address.
        ("http://2130706433:9/admin?x=", "may have no query"),
    ] {
        let place = Place::new(&fixture);
        let server = Server::start(&fixture, Manner::Redirects(to.to_owned()));
        let end = get(&place, &[&server]).args(["--stop-timeout", "1"]).run().expect(3);
        assert!(end.stderr.contains(why), "{to}: {}", end.stderr);
        assert!(server.requests().len() <= 6, "{to}");
    }
}

#[test]
fn the_download_limit_holds_for_servers_and_peers_together() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let servers = [(); 2].map(|()| Server::start(&fixture, Manner::Honest));
    let seeder = Seeder::start(&fixture);
    let run = get(&place, &[&servers[0], &servers[1]]).peers([seeder.addr]);
    let end = run.args(["--max-download-limit", "1M"]).run().expect(0);
    fixture.assert_in(&place.data);
    let seconds = end.wall.as_secs_f64();
    assert!((3.6..6.0).contains(&seconds), "4 MiB at 1 MiB/s took {seconds} s");
}

#[test]
fn an_interrupted_download_goes_on_where_it_was() {
    let fixture = Recipe::file("long.bin", 8 * MIB).make();
    let place = Place::new(&fixture);
    let slow = Server::start(&fixture, Manner::Slow(4 * MIB as u64));
    let mut run = get(&place, &[&slow]).arg("--json").start();
    while slow.served() < 5 * MIB as u64 {
        std::thread::sleep(Duration::from_millis(5));
    }
    run.interrupt();
    let end = run.finish(LIMIT).expect(130);
    let done = last_json(&end);
    let have = done.split("\"have\":").nth(1).and_then(|rest| rest.split(',').next());
    let have: u64 = have.and_then(|have| have.parse().ok()).expect("a number");
    assert!(0 < have, "{done}");
    let server = Server::start(&fixture, Manner::Honest);
    get(&place, &[&server]).run().expect(0);
    fixture.assert_in(&place.data);
    assert_eq!(server.served(), fixture.data.len() as u64 - have * 64 * KIB as u64);
}

#[test]
fn ctrl_c_is_not_kept_waiting_by_a_server() {
    let fixture = four_mib();
    for manner in [Manner::Silent, Manner::Hangs, Manner::Trickle(Duration::from_millis(50))] {
        let (place, server) = (Place::new(&fixture), Server::start(&fixture, manner.clone()));
        let mut run = get(&place, &[&server]).start();
        while server.requests().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        run.interrupt();
        run.finish(Duration::from_secs(2)).expect(130);
    }
}

#[test]
fn what_came_from_a_server_is_given_on_at_once() {
    let fixture = four_mib();
    let (first, second) = (Place::new(&fixture), Place::new(&fixture));
    let server = Server::start(&fixture, Manner::Slow(2 * MIB as u64));
    let ip = own_ip().to_string();
    let run = Run::piecemeal(&["get", "--listen", &ip, "--port", "6881", "--seed-time", "1"]);
    let run =
        run.args(["--web-seed", &server.url()]).arg(&first.torrent).arg("-d").arg(&first.data);
    let mut giver = run.start();
    while server.served() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    second.get().peers([format!("{ip}:6881")]).run().expect(0);
    fixture.assert_in(&second.data);
    giver.interrupt();
    giver.finish(Duration::from_secs(5));
    fixture.assert_in(&first.data);
}
