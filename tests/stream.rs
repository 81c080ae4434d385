//! `-o -` and `--sequential`: the bytes in order while they come; slow, fast and vanishing readers;
//! slow peers in between.

mod support;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::fixture::{Fixture, Folder, Recipe, files_below};
use support::own_ip;
use support::place::Place;
use support::run::{LIMIT, Run, binary};
use support::seeder::{Seed, Seeder};
use support::web::{Manner, Server};

const MIB: usize = 1 << 20;

fn film() -> Fixture {
    Recipe::file("film.mkv", 6 * MIB + 12_345).piece_length(128 << 10).make()
}

fn seeder(fixture: &Fixture) -> Seeder {
    Seed::default().at(own_ip()).start(fixture)
}

/// A stream that a test reads itself, in a folder where nothing may be left.
struct Viewer {
    child: Child,
    folder: Folder,
}

impl Viewer {
    fn start(place: &Place, args: &[&str], peers: &[&Seeder]) -> Viewer {
        let folder = Folder::new("viewer");
        let mut command = Command::new(binary());
        command.args([
            "get",
            "-o",
            "-",
            "--no-dht",
            "--no-tracker",
            "--listen",
            &own_ip().to_string(),
        ]);
        for peer in peers {
            command.args(["--peer", &peer.addr.to_string()]);
        }
        command.args(args).arg(&place.torrent).current_dir(&folder.0);
        command.env("TMPDIR", folder.folder("tmp")).stdout(Stdio::piped());
        let child = command.spawn().expect("started");
        Viewer { child, folder }
    }

    /// So many bytes, which must be those of the payload.
    #[track_caller]
    fn reads(&mut self, fixture: &Fixture, from: usize, count: usize) {
        let mut bytes = vec![0; count];
        self.child.stdout.as_mut().expect("piped").read_exact(&mut bytes).expect("bytes");
        assert!(bytes == fixture.data[from..from + count], "bytes from {from} on differ");
    }

    /// How it ended, once nothing more comes; nothing may be left behind.
    #[track_caller]
    fn ends(mut self) -> Option<i32> {
        drop(self.child.stdout.take());
        let until = Instant::now() + LIMIT;
        while self.child.try_wait().expect("a child").is_none() {
            if until < Instant::now() {
                let _ = self.child.kill();
                panic!("still running after {LIMIT:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(files_below(&self.folder.0), [] as [PathBuf; 0]);
        assert_eq!(fs::read_dir(self.folder.0.join("tmp")).expect("a folder").count(), 0);
        self.child.wait().expect("a child").code()
    }
}

#[test]
fn standard_output_is_the_file_and_nothing_is_left_behind() {
    let (fixture, folder) = (film(), Folder::new("stream"));
    let (place, seeder) = (Place::new(&fixture), seeder(&fixture));
    let ip = own_ip().to_string();
    let run = Run::piecemeal(&["get", "-o", "-", "--listen", &ip]).arg(&place.torrent);
    let end = run.in_folder(&folder.0).peers([seeder.addr]).run().expect(0);
    assert!(end.stdout == fixture.data[..], "{} bytes", end.stdout.len());
    assert!(end.stderr.contains("complete"), "{}", end.stderr);
    assert_eq!(files_below(&folder.0), [] as [PathBuf; 0]);
}

#[test]
fn one_file_of_several_is_streamed_from_its_first_to_its_last_byte() {
    let fixture = Recipe::tree("tree")
        .with("a", 100_001)
        .with("film", 700_003)
        .with("empty", 0)
        .with("z", 100_001)
        .make();
    for number in [1, 2, 3, 4] {
        let (place, seeder) = (Place::new(&fixture), seeder(&fixture));
        let select = number.to_string();
        let mut viewer = Viewer::start(&place, &["-s", &select], &[&seeder]);
        let range = fixture.files[number - 1].range.clone();
        viewer.reads(&fixture, range.start, range.len());
        assert_eq!(viewer.ends(), Some(0));
    }
    let place = Place::new(&fixture);
    for args in [&["-o", "-"][..], &["-o", "-", "-s", "1-2"], &["-o", "-", "-s", "2", "--json"]] {
        let end = place.get().args(args).run().expect(2);
        assert_eq!((end.stdout.len(), end.stderr.lines().count()), (0, 1), "{}", end.stderr);
    }
}

/// With a folder given the file is kept, and what is there already goes out at once.
#[test]
fn with_a_folder_the_file_is_kept_and_gone_on_with() {
    let fixture = film();
    let (place, first) = (Place::new(&fixture), Seed::default().at(own_ip()).die_after(3 << 20));
    let first = first.start(&fixture);
    let run = place.get().args(["-o", "-", "--stop-timeout", "1"]).peers([first.addr]);
    let end = run.run().expect(3);
    assert!(end.stdout == fixture.data[..end.stdout.len()]);
    let second = seeder(&fixture);
    let end = place.get().args(["-o", "-"]).peers([second.addr]).run().expect(0);
    assert!(end.stdout == fixture.data[..], "{} bytes", end.stdout.len());
    fixture.assert_in(&place.data);
    assert!(second.served() < 4 << 20, "{}", second.served());
    // Complete: it goes out again, without anybody.
    let end = place.get().args(["-o", "-"]).run().expect(0);
    assert!(end.stdout == fixture.data[..], "{} bytes", end.stdout.len());
    fixture.assert_in(&place.data);
}

#[test]
fn a_reader_that_leaves_ends_it_without_an_error() {
    let fixture = film();
    for read in [0, 1, 100_000, 3 * MIB] {
        // Slow enough that it cannot have been all written into the pipe.
        let place = Place::new(&fixture);
        let seeder = Seed::default().at(own_ip()).rate(8 << 20).start(&fixture);
        let mut viewer = Viewer::start(&place, &[], &[&seeder]);
        viewer.reads(&fixture, 0, read);
        assert_eq!(viewer.ends(), Some(0), "after {read} bytes");
    }
}

/// Nobody reads any more, and nothing comes that could be written.
#[test]
fn a_reader_that_leaves_a_swarm_which_stands_still_ends_it_too() {
    let fixture = film();
    let place = Place::new(&fixture);
    let seeder = Seed::default().at(own_ip()).pause_after(1 << 20).start(&fixture);
    let mut viewer = Viewer::start(&place, &["-q"], &[&seeder]);
    viewer.reads(&fixture, 0, 128 << 10);
    assert_eq!(viewer.ends(), Some(0));
}

#[test]
fn a_full_output_is_an_error_and_an_interrupt_leaves_nothing() {
    let fixture = film();
    let (place, seeder) = (Place::new(&fixture), seeder(&fixture));
    let folder = Folder::new("full");
    let line = r#""$0" get -o - --no-dht --listen "$1" --peer "$2" "$3" > /dev/full"#;
    let run = Run::program("sh").args(["-c", line]).arg(binary()).arg(own_ip().to_string());
    let run = run.arg(seeder.addr.to_string()).arg(&place.torrent).in_folder(&folder.0);
    let end = run.run().expect(1);
    let last = end.stderr.lines().last().expect("a line");
    assert!(last.starts_with("piecemeal: cannot write to standard output: No space"), "{last}");

    // Interrupted while nobody reads: the writing thread cannot be woken, and need not be.
    let mut viewer = Viewer::start(&place, &["-q"], &[&seeder]);
    viewer.reads(&fixture, 0, 1);
    let pid = viewer.child.id().to_string();
    let stdout = viewer.child.stdout.take();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let begin = Instant::now();
    assert_eq!(viewer.ends(), Some(130));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    drop(stdout);
}

/// Whoever reads slowly does not hold up the swarm: all is fetched while a byte has been read.
#[test]
fn a_slow_reader_costs_neither_time_nor_memory() {
    let fixture = Recipe::file("film.mkv", 40 * MIB).piece_length(64 << 10).make();
    let (place, seeder) = (Place::new(&fixture), seeder(&fixture));
    let mut viewer = Viewer::start(&place, &["-q"], &[&seeder]);
    viewer.reads(&fixture, 0, 1);
    let until = Instant::now() + LIMIT;
    while seeder.served() < fixture.data.len() as u64 {
        assert!(Instant::now() < until, "{} bytes were fetched", seeder.served());
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = fs::read_to_string(format!("/proc/{}/status", viewer.child.id()));
    let status = status.expect("it runs");
    let anonymous = status.lines().find(|line| line.starts_with("RssAnon")).expect("Linux");
    let kib: u64 = anonymous.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("kB");
    assert!(kib < 16 << 10, "{anonymous}");
    viewer.reads(&fixture, 1, fixture.data.len() - 1);
    assert_eq!(viewer.ends(), Some(0));
}

/// The order in which pieces were verified, as `--trace` tells it.
fn order(stderr: &str) -> Vec<usize> {
    let number = |line: &str| -> Option<usize> {
        let rest = line.split("request piece ").nth(1)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    stderr.lines().filter_map(number).collect()
}

#[test]
fn sequential_asks_in_order() {
    let fixture = film();
    let (place, seeder) = (Place::new(&fixture), seeder(&fixture));
    let run = place.get().args(["--sequential", "--trace=picker"]).peers([seeder.addr]);
    let asked = order(&run.run().expect(0).stderr);
    assert!(fixture.pieces() <= asked.len() && asked.is_sorted(), "{asked:?}");
    fixture.assert_in(&place.data);
}

/// Reads all of it, and says when the reader had to wait for longest.
fn longest_wait(viewer: &mut Viewer, fixture: &Fixture) -> (Duration, Duration) {
    let mut stdout = viewer.child.stdout.take().expect("piped");
    let (mut at, mut buffer) = (0, vec![0; 64 << 10]);
    let (begin, mut last) = (Instant::now(), Instant::now());
    let (mut first, mut longest) = (Duration::ZERO, Duration::ZERO);
    loop {
        let n = stdout.read(&mut buffer).expect("bytes");
        if n == 0 {
            break;
        }
        if at == 0 {
            first = begin.elapsed();
        } else {
            longest = longest.max(last.elapsed());
        }
        last = Instant::now();
        assert!(buffer[..n] == fixture.data[at..at + n]);
        at += n;
    }
    assert_eq!(at, fixture.data.len());
    (first, longest)
}

/// Two quick peers, one that is fifty times slower, and one that takes requests and answers none: the
/// reader never waits for those.
#[test]
fn slow_and_silent_peers_do_not_hold_up_the_reader() {
    let fixture = Recipe::file("film.mkv", 12 * MIB).piece_length(128 << 10).make();
    let place = Place::new(&fixture);
    let seed = |rate: u64| Seed::default().at(own_ip()).rate(rate).start(&fixture);
    let (slow, quick, other) = (seed(40_000), seed(2 << 20), seed(2 << 20));
    let silent = Seed::default().at(own_ip()).pause_after(0).start(&fixture);
    let mut viewer = Viewer::start(&place, &["-q"], &[&silent, &slow, &quick, &other]);
    let (first, longest) = longest_wait(&mut viewer, &fixture);
    assert_eq!(viewer.ends(), Some(0));
    let total = [&slow, &quick, &other, &silent].map(Seeder::served);
    let wasted = total.iter().sum::<u64>() - fixture.data.len() as u64;
    eprintln!(
        "first byte after {first:?}, longest wait {longest:?}, {wasted} bytes twice; {total:?}"
    );
    assert!(first < Duration::from_secs(3), "{first:?}");
    assert!(longest < Duration::from_millis(2500), "{longest:?}");
    // What those two hold is asked again, and more when the machine is in a hurry.
    assert!(wasted < fixture.data.len() as u64 / 4, "{wasted}");
}

/// A web server took the head of the stream, and then the next piece again and again: whoever is
/// quicker, peer or server, must get the reader over it.
#[test]
fn a_slow_web_server_does_not_hold_up_the_reader() {
    // Not the torrent of another test, whose peers would be found on the local network.
    let fixture = Recipe::file("show.mkv", 12 * MIB).piece_length(128 << 10).make();
    let rate = 4 << 20;
    for with_peer in [true, false] {
        let place = Place::new(&fixture);
        let slow = Server::start(&fixture, Manner::Slow(20_000));
        let quick = Server::start(&fixture, Manner::Slow(rate));
        let seeder = Seed::default().at(own_ip()).rate(rate).start(&fixture);
        let (slow, quick) = (slow.url(), quick.url());
        let (mut args, mut peers) = (vec!["-q", "--web-seed", &slow], vec![&seeder]);
        if !with_peer {
            peers.clear();
            args.extend(["--web-seed", &quick]);
        }
        let mut viewer = Viewer::start(&place, &args, &peers);
        let (first, longest) = longest_wait(&mut viewer, &fixture);
        assert_eq!(viewer.ends(), Some(0));
        eprintln!("with a peer: {with_peer}: first byte after {first:?}, longest wait {longest:?}");
        assert!(first.max(longest) < Duration::from_millis(2500), "{first:?}, {longest:?}");
    }
}

#[test]
fn a_kill_leaves_only_what_the_temporary_folder_says() {
    let fixture = film();
    let place = Place::new(&fixture);
    let seeder = Seed::default().at(own_ip()).rate(4 << 20).start(&fixture);
    let mut viewer = Viewer::start(&place, &["-q"], &[&seeder]);
    viewer.reads(&fixture, 0, 1);
    viewer.child.kill().expect("killed");
    viewer.child.wait().expect("a child");
    let outside = |path: &&PathBuf| !path.starts_with(viewer.folder.0.join("tmp"));
    assert_eq!(files_below(Path::new(&viewer.folder.0)).iter().filter(outside).count(), 0);
}
