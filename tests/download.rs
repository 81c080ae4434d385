//! `piecemeal get`, end to end: the real program against our own seeders and tracker on 127.0.0.x.
//!
//! Every test names what it promises. All wait for events, none for a time to pass.

mod support;

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use support::fixture::{Fixture, Recipe, files_below};
use support::own_ip;
use support::peer::{Peer, Wire};
use support::place::Place;
use support::run::{Ended, Run};
use support::seeder::{Seed, Seeder};
use support::tracker::{Announce, Manner, Tracker};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn four_mib() -> Fixture {
    Recipe::file("four.bin", 4 * MIB).piece_length(128 * KIB).make()
}

/// Downloads from one fast seeder; every byte must be right and none may come twice.
#[track_caller]
fn check_download(recipe: Recipe) {
    let fixture = recipe.make();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    place.get().peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    assert!(seeder.most_often() <= 1, "a block came {} times", seeder.most_often());
}

#[test]
fn a_single_file() {
    check_download(Recipe::file("image.bin", 3 * MIB + 12_345));
    check_download(Recipe::file("one byte", 1));
    check_download(Recipe::file("one piece.bin", 64 * KIB));
}

#[test]
fn a_tree_with_odd_sizes_empty_files_and_names_from_everywhere() {
    check_download(
        Recipe::tree("дерево 🌳")
            .with("a", 1)
            .with("empty at the start", 0)
            .with("b/c/d/e/f/deep.bin", 100_001)
            .with("b/ünï/文件.txt", 65_537)
            .with("b/empty", 0)
            .with("z/last", 333_333)
            .with("z/empty at the end", 0),
    );
}

#[test]
fn piece_lengths_that_are_no_multiple_of_a_block_and_very_large_ones() {
    check_download(Recipe::file("odd.bin", 1_000_003).piece_length(50_001));
    check_download(Recipe::file("tiny.bin", 100_003).piece_length(1_000));
    check_download(Recipe::file("large.bin", 33 * MIB + 5).piece_length(16 * MIB));
}

#[test]
fn pad_files_are_not_written() {
    let recipe = Recipe::tree("padded").piece_length(64 * KIB);
    let recipe = recipe.with("a", 100_000).pad().with("b", 7).pad().with("c/d", 70_000);
    check_download(recipe.clone());
    let fixture = recipe.make();
    assert!(fixture.files.iter().any(|file| file.pad), "a fixture without pads proves nothing");
}

#[test]
fn four_seeds_share_the_work() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let slow = Seed::default().rate(2 * MIB as u64).delay(Duration::from_millis(5));
    let seeders: Vec<Seeder> = (0..4).map(|_| slow.clone().at(own_ip()).start(&fixture)).collect();
    place.get().peers(seeders.iter().map(|seeder| seeder.addr)).run().expect(0);
    fixture.assert_in(&place.data);
    let served: Vec<u64> = seeders.iter().map(Seeder::served).collect();
    // The end of a download asks several for the same blocks, so a little may come twice.
    let (least, sum) = (fixture.data.len() as u64 / 10, served.iter().sum::<u64>());
    assert!(served.iter().all(|bytes| least < *bytes), "unfair: {served:?}");
    assert!(sum < fixture.data.len() as u64 * 5 / 4, "too much came twice: {served:?}");
}

#[test]
fn over_ipv6() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let seeder = Seed::default().at(IpAddr::V6(Ipv6Addr::LOCALHOST)).start(&fixture);
    // Without --listen: an IPv4 address there must not forbid to dial IPv6, but is another test's.
    let run = Run::piecemeal(&["get", "--no-lsd"]).arg(&place.torrent).arg("-d").arg(&place.data);
    run.peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
}

#[test]
fn seeds_that_speak_the_fast_extension_or_tell_their_pieces_one_by_one() {
    for seed in [Seed::default().fast(), Seed::default().without_bitfield()] {
        let fixture = four_mib();
        let (place, seeder) = (Place::new(&fixture), seed.start(&fixture));
        place.get().peers([seeder.addr]).run().expect(0);
        fixture.assert_in(&place.data);
    }
}

/// What a tracker is told from the start to the end of a download.
#[track_caller]
fn check_tracker(udp: bool) {
    let fixture = four_mib();
    let seeder = Seeder::start(&fixture);
    let tracker = Tracker::start(&[seeder.addr]);
    let url = if udp { tracker.udp() } else { tracker.http() };
    let place = Place::with_trackers(&fixture, &[&[&url]]);
    place.get().run().expect(0);
    fixture.assert_in(&place.data);
    let announces = tracker.announces();
    let events: Vec<&str> = announces.iter().map(|announce| announce.event.as_str()).collect();
    assert_eq!(events.first(), Some(&"started"), "{announces:?}");
    assert_eq!(events.last(), Some(&"stopped"), "{announces:?}");
    assert_eq!(events.iter().filter(|event| **event == "completed").count(), 1, "{announces:?}");
    let size = fixture.data.len() as u64;
    let ours = |announce: &Announce| {
        announce.info_hash == fixture.info_hash && announce.port != 0 && announce.udp == udp
    };
    assert!(announces.iter().all(ours), "{announces:?}");
    assert_eq!((announces[0].left, announces[0].downloaded), (size, 0));
    let last = announces.last().expect("checked");
    assert_eq!((last.left, last.downloaded, last.uploaded), (0, size, 0));
}

#[test]
fn an_http_tracker_hears_started_completed_stopped() {
    check_tracker(false);
}

#[test]
fn a_udp_tracker_hears_started_completed_stopped() {
    check_tracker(true);
}

#[test]
fn bad_trackers_delay_nobody() {
    let fixture = four_mib();
    let seeder = Seeder::start(&fixture);
    let bad = [Manner::Silent, Manner::Refuses, Manner::Babbles];
    let bad: Vec<Tracker> = bad.iter().map(|m| Tracker::with_manner(&[], *m)).collect();
    let good = Tracker::start(&[seeder.addr]);
    let mut urls: Vec<String> = bad.iter().flat_map(|t| [t.http(), t.udp()]).collect();
    urls.push("http://127.0.0.1:1/announce".to_owned());
    urls.push(good.http());
    let tiers: Vec<[&str; 1]> = urls.iter().map(|url| [url.as_str()]).collect();
    let tiers: Vec<&[&str]> = tiers.iter().map(|tier| &tier[..]).collect();
    let place = Place::with_trackers(&fixture, &tiers);
    let end = place.get().run().expect(0);
    fixture.assert_in(&place.data);
    // A silent tracker gets the two seconds that a farewell may take, and not more.
    assert!(end.wall < Duration::from_secs(6), "took {:?}", end.wall);
}

#[test]
fn no_tracker_means_none() {
    let fixture = four_mib();
    let seeder = Seeder::start(&fixture);
    let tracker = Tracker::start(&[seeder.addr]);
    let place = Place::with_trackers(&fixture, &[&[&tracker.http()]]);
    place.get().arg("--no-tracker").peers([seeder.addr]).run().expect(0);
    assert_eq!(tracker.announces(), []);
}

/// The last line of a finished `get` contains `complete`, on standard error.
#[track_caller]
fn assert_complete(end: &Ended) {
    let last = end.stderr.trim_end().lines().last().unwrap_or_default();
    assert!(last.contains("complete"), "last line: {last:?} of {}", end.stderr);
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!end.stderr.contains(control), "no terminal, but: {:?}", end.stderr);
}

#[test]
fn without_a_terminal_progress_is_whole_lines_and_the_last_says_complete() {
    let fixture = four_mib();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    let end = place.get().peers([seeder.addr]).run().expect(0);
    assert_complete(&end);
    assert_eq!(end.stdout, b"");
    let quiet = Place::new(&fixture);
    let end = quiet.get().arg("-q").peers([seeder.addr]).run().expect(0);
    assert_eq!((end.stdout, end.stderr.as_str()), (Vec::new(), ""));
}

#[test]
fn nothing_within_the_stop_timeout_is_exit_3() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let silent = Peer::listen(own_ip(), Arc::new(|mut wire: Wire, _| wire.ignore()));
    let end = place.get().args(["--stop-timeout", "1"]).peers([silent.addr]).run().expect(3);
    assert!(end.wall < Duration::from_secs(5), "took {:?}", end.wall);
    assert!(0 < silent.met());
}

#[test]
fn a_peer_that_dies_in_the_middle_is_replaced() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let slow = Seed::default().rate(4 * MIB as u64);
    let mortal = slow.clone().at(own_ip()).die_after(MIB as u64).start(&fixture);
    let other = slow.at(own_ip()).start(&fixture);
    place.get().peers([mortal.addr, other.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    assert!(MIB as u64 <= mortal.served(), "it served only {} bytes", mortal.served());
}

#[test]
fn out_names_the_file_or_the_folder_itself() {
    let fixture = four_mib();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    let out = place.data.join("other name");
    let run =
        Run::piecemeal(&["get", "--no-lsd", "--listen", &own_ip().to_string()]).arg(&place.torrent);
    run.arg("--out").arg(&out).peers([seeder.addr]).run().expect(0);
    assert_eq!(fs::read(&out).expect("the file"), *fixture.data);
    assert_eq!(files_below(&place.data), [out]);

    let fixture = Recipe::tree("tree").with("a/b", 100_000).make();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    let out = place.data.join("folder");
    let run =
        Run::piecemeal(&["get", "--no-lsd", "--listen", &own_ip().to_string()]).arg(&place.torrent);
    run.arg("--out").arg(&out).peers([seeder.addr]).run().expect(0);
    assert_eq!(files_below(&place.data), [out.join("a/b")]);
    assert_eq!(fs::read(out.join("a/b")).expect("the file"), *fixture.data);
}

#[test]
fn a_torrent_from_standard_input_goes_to_the_current_folder() {
    let fixture = four_mib();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    let run = Run::piecemeal(&["get", "--no-lsd", "--listen", &own_ip().to_string(), "-"]);
    let run = run.stdin(fixture.torrent(&[])).in_folder(&place.data);
    run.peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
}

/// As in libtorrent: there is nothing to download in it, and nothing to know it by.
#[test]
fn a_torrent_of_no_bytes_is_refused_in_one_line() {
    let tree = Recipe::tree("nothing").with("a", 0).with("b/c", 0);
    for fixture in [Recipe::file("nothing", 0).make(), tree.make()] {
        let place = Place::new(&fixture);
        let end = place.get().run().expect(1);
        assert_eq!(end.stderr.lines().count(), 1, "{}", end.stderr);
        assert!(end.stderr.starts_with("piecemeal: "), "{}", end.stderr);
        assert_eq!(files_below(&place.data), [] as [PathBuf; 0]);
    }
}

/// A path of 50 ms with a limit of 40 Mbit/s holds 250 kB: more than a fixed handful of requests.
#[test]
fn a_path_with_a_delay_is_filled() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let seed = Seed::default().rate(5 * MIB as u64).delay(Duration::from_millis(50));
    let seeder = seed.at(own_ip()).start(&fixture);
    let end = place.get().peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    // 0.8 s at full rate. Five requests in flight would take 2.6 s, one 13 s.
    assert!(end.wall < Duration::from_millis(2200), "took {:?}", end.wall);
}

/// With the blocks of a piece larger than any queue of requests.
#[test]
fn memory_stays_small_whatever_the_piece_length() {
    let fixture = Recipe::file("large.bin", 48 * MIB).piece_length(16 * MIB).make();
    let place = Place::new(&fixture);
    let seeders: Vec<Seeder> =
        (0..8).map(|_| Seed::default().at(own_ip()).start(&fixture)).collect();
    let end = place.get().peers(seeders.iter().map(|seeder| seeder.addr)).run().expect(0);
    fixture.assert_in(&place.data);
    let most = end.rss_anon_max;
    assert!(most <= 16 * MIB as u64, "{most} bytes of anonymous memory");
}

#[test]
fn a_reader_of_the_news_that_leaves_early_does_not_make_it_complete() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let mut child = std::process::Command::new(support::run::binary())
        .args(["get", "--json", "--no-tracker", "--no-lsd", "--peer", "127.0.0.1:9", "--dir"])
        .args([&place.data, &place.torrent])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("a child");
    drop(child.stdout.take());
    let status = child.wait().expect("a status");
    assert_eq!(status.code(), Some(1));
}
