//! `piecemeal get`, end to end: the real program against our own seeders and tracker on 127.0.0.x.
//!
//! Every test names what it promises. All wait for events, none for a time to pass.

mod support;

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use support::fixture::{BLOCK_LEN, Fixture, Folder, Recipe, files_below};
use support::own_ip;
use support::peer::{Peer, Wire, handshake, id, peer_id};
use support::run::{Ended, LIMIT, Run};
use support::seeder::{Seed, Seeder};
use support::tracker::{Announce, Manner, Tracker};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A torrent on disk, and an empty folder for its data.
struct Place {
    _folder: Folder,
    torrent: PathBuf,
    data: PathBuf,
}

impl Place {
    fn new(fixture: &Fixture) -> Place {
        Place::with_trackers(fixture, &[])
    }

    fn with_trackers(fixture: &Fixture, tiers: &[&[&str]]) -> Place {
        let folder = Folder::new("download");
        let torrent = folder.file("a.torrent", &fixture.torrent(tiers));
        let data = folder.folder("data");
        Place { _folder: folder, torrent, data }
    }

    fn get(&self) -> Run {
        Run::get(&self.torrent, &self.data)
    }
}

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
    let run = Run::piecemeal(&["get"]).arg(&place.torrent).arg("-d").arg(&place.data);
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

/// A peer that has nothing and listens to what the client says it has: the number of its pieces, as
/// it grows.
fn observer(fixture: &Fixture) -> (Peer, Receiver<usize>) {
    let (sender, counts) = unbounded();
    let info_hash = fixture.info_hash;
    let script = move |mut wire: Wire, n: usize| {
        wire.send(&handshake(&info_hash, &peer_id(b"-OB0001-", n), false))?;
        wire.read_handshake()?;
        let mut count = 0;
        loop {
            match wire.message()? {
                (id::BITFIELD, bits) => {
                    count = bits.iter().map(|byte| byte.count_ones() as usize).sum();
                }
                (id::HAVE, _) => count += 1,
                _ => continue,
            }
            let _ = sender.send(count);
        }
    };
    (Peer::listen(own_ip(), Arc::new(script)), counts)
}

/// Waits until the client has told of so many pieces.
#[track_caller]
fn wait_for_pieces(counts: &Receiver<usize>, wanted: usize) {
    while counts.recv_timeout(LIMIT).expect("news of more pieces") < wanted {}
}

/// Downloads until half of the pieces are verified, and not much more.
fn half_a_download(place: &Place, fixture: &Fixture) -> support::run::Running {
    let (observer, counts) = observer(fixture);
    let half = fixture.data.len() as u64 / 2 + fixture.piece_length as u64 * 2;
    // At this pace the observer is there long before the half is.
    let seed = Seed::default().at(own_ip()).rate(8 * MIB as u64).pause_after(half);
    let seeder = seed.start(fixture);
    let running = place.get().peers([seeder.addr, observer.addr]).start();
    wait_for_pieces(&counts, fixture.pieces() / 2);
    running
}

#[test]
fn a_kill_at_half_loses_no_verified_piece() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let mut running = half_a_download(&place, &fixture);
    running.kill();
    assert_eq!(running.finish(LIMIT).signal, Some(9));

    let seeder = Seeder::start(&fixture);
    place.get().peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    let verified = fixture.pieces() / 2 * fixture.piece_length;
    let unverified = (fixture.data.len() - verified) as u64;
    assert!(seeder.served() <= unverified, "{} of {unverified} bytes", seeder.served());
    assert!(0 < seeder.served());
}

/// Changes one byte of a file and gives the file its old time back.
fn flip_byte_secretly(path: &Path, at: u64) {
    let mut file = fs::File::options().read(true).write(true).open(path).expect("the file");
    let modified = file.metadata().and_then(|meta| meta.modified()).expect("a time");
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).expect("a place in the file");
    file.read_exact(&mut byte).expect("a byte");
    file.seek(SeekFrom::Start(at)).expect("a place in the file");
    file.write_all(&[!byte[0]]).expect("written");
    file.set_modified(modified).expect("a time");
}

/// The one file below a folder that is not the payload.
fn resume_files(place: &Place, fixture: &Fixture) -> Vec<PathBuf> {
    let payload: Vec<PathBuf> =
        fixture.files.iter().map(|file| fixture.path_of(file, &place.data)).collect();
    files_below(&place.data).into_iter().filter(|path| !payload.contains(path)).collect()
}

/// The resume file is trusted: that shows by a wrong byte which nobody looks at. With `--check`
/// somebody does.
#[test]
fn an_interrupt_leaves_a_resume_file_that_is_trusted_unless_check_is_given() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let mut running = half_a_download(&place, &fixture);
    running.interrupt();
    let end = running.finish(LIMIT).expect(130);
    assert!(end.wall < Duration::from_secs(10), "took {:?}", end.wall);
    assert_eq!(resume_files(&place, &fixture).len(), 1, "{:?}", files_below(&place.data));

    // Somewhere there is a verified piece; a byte in it is changed behind the client's back.
    let path = fixture.path_of(&fixture.files[0], &place.data);
    let on_disk = fs::read(&path).expect("half of the data");
    let right = |piece: &usize| {
        let range = fixture.piece_range(*piece);
        on_disk.get(range.clone()) == Some(&fixture.data[range])
    };
    let piece = (0..fixture.pieces()).find(right).expect("a verified piece");
    let at = fixture.piece_range(piece).start as u64 + 77;
    flip_byte_secretly(&path, at);

    let seeder = Seeder::start(&fixture);
    place.get().peers([seeder.addr]).run().expect(0);
    assert!(!seeder.pieces_served().contains(&piece), "piece {piece} was fetched again");
    assert_eq!(resume_files(&place, &fixture), [] as [PathBuf; 0]);
    let difference = fixture.difference(&place.data).expect_err("nobody should have looked");
    assert!(difference.contains(&format!("byte {at} differs")), "{difference}");

    let seeder = Seeder::start(&fixture);
    place.get().arg("--check").peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    assert_eq!(seeder.pieces_served(), [piece]);
}

#[test]
fn a_file_that_changed_after_an_interrupt_is_checked_again() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let mut running = half_a_download(&place, &fixture);
    running.interrupt();
    running.finish(LIMIT).expect(130);
    let path = fixture.path_of(&fixture.files[0], &place.data);
    let mut bytes = fs::read(&path).expect("half of the data");
    bytes.iter_mut().step_by(fixture.piece_length).for_each(|byte| *byte = !*byte);
    fs::write(&path, bytes).expect("written");

    let seeder = Seeder::start(&fixture);
    place.get().peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
}

#[test]
fn a_flipped_byte_is_repaired_with_one_piece() {
    let fixture = Recipe::tree("tree").with("a", 300_000).with("b/c", 500_000).make();
    let place = Place::new(&fixture);
    fixture.write_to(&place.data);
    flip_byte_secretly(&place.data.join("tree/b/c"), 250_000);
    let seeder = Seeder::start(&fixture);
    place.get().peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    assert_eq!(seeder.pieces_served(), [550_000 / fixture.piece_length]);
}

#[test]
fn complete_data_needs_nobody() {
    let fixture = Recipe::tree("tree").with("a", 300_000).with("empty", 0).make();
    let seeder = Seeder::start(&fixture);
    let tracker = Tracker::start(&[seeder.addr]);
    let place = Place::with_trackers(&fixture, &[&[&tracker.http(), &tracker.udp()]]);
    fixture.write_to(&place.data);
    let end = place.get().peers([seeder.addr]).run().expect(0);
    assert_complete(&end);
    fixture.assert_in(&place.data);
    assert_eq!((seeder.connections(), tracker.announces()), (0, Vec::new()));
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
    let run = Run::piecemeal(&["get", "--listen", &own_ip().to_string()]).arg(&place.torrent);
    run.arg("--out").arg(&out).peers([seeder.addr]).run().expect(0);
    assert_eq!(fs::read(&out).expect("the file"), *fixture.data);
    assert_eq!(files_below(&place.data), [out]);

    let fixture = Recipe::tree("tree").with("a/b", 100_000).make();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    let out = place.data.join("folder");
    let run = Run::piecemeal(&["get", "--listen", &own_ip().to_string()]).arg(&place.torrent);
    run.arg("--out").arg(&out).peers([seeder.addr]).run().expect(0);
    assert_eq!(files_below(&place.data), [out.join("a/b")]);
    assert_eq!(fs::read(out.join("a/b")).expect("the file"), *fixture.data);
}

#[test]
fn a_torrent_from_standard_input_goes_to_the_current_folder() {
    let fixture = four_mib();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    let run = Run::piecemeal(&["get", "--listen", &own_ip().to_string(), "-"]);
    let run = run.stdin(fixture.torrent(&[])).in_folder(&place.data);
    run.peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
}

#[test]
fn a_longer_file_is_another_file_and_stays_as_it_is() {
    let fixture = four_mib();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    let longer = [&fixture.data[..], b"more"].concat();
    let path = fixture.path_of(&fixture.files[0], &place.data);
    fs::write(&path, &longer).expect("written");
    let end = place.get().peers([seeder.addr]).run().expect(1);
    assert!(end.stderr.contains("four.bin"), "{}", end.stderr);
    assert_eq!(fs::read(&path).expect("the file"), longer);
}

#[test]
fn a_shorter_file_with_right_and_wrong_pieces_keeps_the_right_ones() {
    let fixture = four_mib();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    let mut shorter = fixture.data[..MIB + 1].to_vec();
    shorter[5] ^= 1;
    fs::write(fixture.path_of(&fixture.files[0], &place.data), &shorter).expect("written");
    place.get().peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    let kept = (MIB - fixture.piece_length) as u64;
    assert_eq!(seeder.served(), fixture.data.len() as u64 - kept);
}

#[test]
fn a_torrent_of_no_bytes_is_refused_in_one_line() {
    let tree = Recipe::tree("nothing").with("a", 0).with("b/c", 0);
    for fixture in [Recipe::file("nothing", 0).make(), tree.make()] {
        let place = Place::new(&fixture);
        let end = place.get().run().expect(1);
        assert!(end.stderr.contains("not one byte"), "{}", end.stderr);
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
    assert!(fixture.data.len() / BLOCK_LEN == fixture.blocks());
}

#[test]
fn a_reader_of_the_news_that_leaves_early_does_not_make_it_complete() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let mut child = std::process::Command::new(support::run::binary())
        .args(["get", "--json", "--no-tracker", "--peer", "127.0.0.1:9", "--dir"])
        .args([&place.data, &place.torrent])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("a child");
    drop(child.stdout.take());
    let status = child.wait().expect("a status");
    assert_eq!(status.code(), Some(1));
}
