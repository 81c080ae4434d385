//! `--select-file`: some files of a torrent, selections that begin and end inside pieces, and what
//! becomes of the rest of those pieces.
//!
//! ```text
//! piece   |   0   |   1   |   2   |   3   |   4   |   5   |   6   |       64 KiB each
//! file    |  1 a     |   2 b/b  |3|4 d                  |6 f  |           5 is empty
//! ```

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use support::fixture::{Fixture, Recipe, files_below};
use support::own_ip;
use support::place::Place;
use support::run::{LIMIT, Run};
use support::seeder::Seed;
use support::tracker::Tracker;

fn tree() -> Fixture {
    Recipe::tree("tree")
        .with("a", 90_001)
        .with("b/b", 70_000)
        .with("c", 50)
        .with("d", 200_003)
        .with("empty", 0)
        .with("f", 30_000)
        .make()
}

/// The pieces that have a byte of these files, by their numbers.
fn pieces_of(fixture: &Fixture, numbers: &[usize]) -> Vec<usize> {
    let of = |piece: &usize| {
        let range = fixture.piece_range(*piece);
        numbers.iter().any(|number| {
            let file = &fixture.files[number - 1].range;
            !file.is_empty() && file.start < range.end && range.start < file.end
        })
    };
    (0..fixture.pieces()).filter(of).collect()
}

/// What is below the folder but what the client keeps for itself.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    files_below(dir).into_iter().filter(|path| !is_hidden(path)).collect()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// These files, byte by byte, and no others.
#[track_caller]
fn assert_only(fixture: &Fixture, dir: &Path, numbers: &[usize]) {
    let path = |number: &usize| fixture.path_of(&fixture.files[number - 1], dir);
    let mut expected: Vec<PathBuf> = numbers.iter().map(path).collect();
    expected.sort();
    assert_eq!(files_in(dir), expected);
    for number in numbers {
        let file = &fixture.files[number - 1];
        let found = fs::read(fixture.path_of(file, dir)).expect("the file");
        assert!(found == fixture.data[file.range.clone()], "file {number} differs");
    }
}

/// Gets a selection from a seeder of its own; the pieces that this one served.
#[track_caller]
fn get(fixture: &Fixture, place: &Place, select: &[&str]) -> Vec<usize> {
    let seeder = Seed::default().at(own_ip()).start(fixture);
    let end = place.get().args(select).peers([seeder.addr]).run().expect(0);
    assert!(end.stderr.contains("complete"), "{}", end.stderr);
    seeder.pieces_served()
}

#[test]
fn only_the_selected_files_appear_and_only_their_pieces_are_fetched() {
    let fixture = tree();
    for (select, numbers) in [
        (&["-s", "2"][..], &[2][..]),
        (&["-s", "3"], &[3]),
        (&["-s", "1,3-4"], &[1, 3, 4]),
        (&["-s", "1", "--select-file", "6"], &[1, 6]),
        (&["-s", "4-"], &[4, 5, 6]),
        (&["-s", "b/**,c"], &[2, 3]),
        (&["-s", "5"], &[5]),
    ] {
        let place = Place::new(&fixture);
        assert_eq!(get(&fixture, &place, select), pieces_of(&fixture, numbers), "{select:?}");
        assert_only(&fixture, &place.data, numbers);
        // Again: nothing is fetched, and nothing changes.
        let end = place.get().args(select).arg("--no-tracker").run().expect(0);
        assert!(end.stderr.contains("there and verified"), "{}", end.stderr);
        assert_only(&fixture, &place.data, numbers);
    }
}

#[test]
fn a_selection_may_grow_and_nothing_is_fetched_twice() {
    let fixture = tree();
    let place = Place::new(&fixture);
    let mut fetched: Vec<usize> = Vec::new();
    for (select, numbers) in [
        (&["-s", "2"][..], &[2][..]),
        (&["-s", "2,4"], &[2, 4]),
        // Between two that are there: not a byte is needed.
        (&["-s", "3"], &[2, 3, 4]),
        (&["-s", "6"], &[2, 3, 4, 6]),
        (&[], &[1, 2, 3, 4, 5, 6]),
    ] {
        let new = get(&fixture, &place, select);
        assert!(!new.iter().any(|piece| fetched.contains(piece)), "{select:?}: {new:?} again");
        fetched.extend(new);
        assert_only(&fixture, &place.data, numbers);
    }
    fetched.sort_unstable();
    assert_eq!(fetched, (0..fixture.pieces()).collect::<Vec<_>>());
    // All is there: nothing is kept aside any more.
    fixture.assert_in(&place.data);
}

#[test]
fn a_file_that_was_not_wanted_and_then_is_gets_its_bytes_though_all_pieces_are_there() {
    let fixture = Recipe::tree("t").with("a", 100_000).with("b", 100).with("c", 100_000).make();
    let place = Place::new(&fixture);
    get(&fixture, &place, &["-s", "1,3"]);
    assert_only(&fixture, &place.data, &[1, 3]);
    let end = place.get().arg("--no-tracker").run().expect(0);
    assert!(end.stderr.contains("complete"), "{}", end.stderr);
    fixture.assert_in(&place.data);
}

/// What lies at the place of a file that is not selected belongs to the user.
#[test]
fn an_unselected_file_that_is_there_is_used_if_right_and_never_touched() {
    let fixture = tree();
    let path =
        |place: &Place, number: usize| fixture.path_of(&fixture.files[number - 1], &place.data);
    let right = fixture.data[fixture.files[0].range.clone()].to_vec();
    let mut wrong = right.clone();
    wrong[right.len() - 1] ^= 1;
    let longer = [&right[..], b"more"].concat();
    for (bytes, keeps_piece_0) in
        [(right.clone(), true), (wrong, true), (longer, true), (right[..10].to_vec(), false)]
    {
        let place = Place::new(&fixture);
        fs::create_dir_all(path(&place, 1).parent().expect("a folder")).expect("made");
        fs::write(path(&place, 1), &bytes).expect("written");
        let modified =
            fs::metadata(path(&place, 1)).and_then(|data| data.modified()).expect("a time");
        assert_eq!(get(&fixture, &place, &["-s", "2"]), pieces_of(&fixture, &[2]));
        assert_eq!(fs::read(path(&place, 1)).expect("still there"), bytes);
        let now = fs::metadata(path(&place, 1)).and_then(|data| data.modified()).expect("a time");
        assert_eq!(now, modified);
        // Wanted later, it keeps what is right of it, and is mended from what was kept aside.
        if bytes.len() <= right.len() {
            let fetched = get(&fixture, &place, &["-s", "1-2"]);
            assert_eq!(fetched, if keeps_piece_0 { vec![] } else { vec![0] });
            assert_only(&fixture, &place.data, &[1, 2]);
        }
    }
    // A folder, or a link, in its place: none of our business.
    let place = Place::new(&fixture);
    fs::create_dir_all(path(&place, 1)).expect("made");
    std::os::unix::fs::symlink("/nowhere", path(&place, 3)).expect("made");
    get(&fixture, &place, &["-s", "2"]);
    assert!(path(&place, 1).is_dir() && path(&place, 3).is_symlink());
}

#[test]
fn a_kill_in_between_and_another_selection_after_it_lose_no_verified_piece() {
    let fixture = Recipe::tree("tree")
        .piece_length(32 << 10)
        .with("a", 1_000_001)
        .with("b", 1_000_003)
        .with("c", 1_000_007)
        .make();
    for signal in [libc::SIGKILL, libc::SIGINT] {
        let place = Place::new(&fixture);
        let seed = Seed::default().at(own_ip()).rate(4 << 20).pause_after(600_000);
        let seeder = seed.start(&fixture);
        let mut running = place.get().args(["-s", "2", "--json"]).peers([seeder.addr]).start();
        // The seed has stopped: what it sent is verified, but for the last pieces.
        running.wait_for("waiting for");
        running.signal(signal);
        drop(running.finish(LIMIT));
        let aside = place.data.join("tree/a");
        assert!(!aside.exists());
        let seeder = Seed::default().at(own_ip()).start(&fixture);
        place.get().args(["-s", "2-3"]).peers([seeder.addr]).run().expect(0);
        assert_only(&fixture, &place.data, &[2, 3]);
        let all = pieces_of(&fixture, &[2, 3]).len();
        let fetched = seeder.pieces_served().len();
        assert!(fetched <= all - 12, "{fetched} of {all} pieces were fetched after {signal}");
        get(&fixture, &place, &[]);
        fixture.assert_in(&place.data);
    }
}

#[test]
fn border_pieces_are_given_to_others() {
    let fixture = tree();
    let first = Place::new(&fixture);
    get(&fixture, &first, &["-s", "2"]);
    // It has files 2 and, aside, parts of 1, 3 and 4; what is wanted there comes from it alone.
    let addr = support::free_addr();
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    let listen = ["--listen", &ip, "--port", &port];
    let run = Run::piecemeal(&["seed", "-s", "2"]).args(listen);
    let mut giver = run.arg("-d").arg(&first.data).arg(&first.torrent).start();
    giver.wait_for("are here and verified");
    let second = Place::new(&fixture);
    second.get().args(["-s", "2-3"]).peers([addr]).run().expect(0);
    assert_only(&fixture, &second.data, &[2, 3]);
    giver.interrupt();
    giver.finish(LIMIT).expect(130);

    // While it downloads, too: two that want different files of the same pieces, and a seed that
    // sends each byte about once.
    let (third, fourth) = (Place::new(&fixture), Place::new(&fixture));
    let seeder = Seed::default().at(own_ip()).start(&fixture);
    let addr = support::free_addr();
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    let listen = ["--listen", &ip, "--port", &port];
    let run = Run::piecemeal(&["get", "-s", "1", "--seed-time", "1"]).args(listen);
    let mut giver = run.arg("-d").arg(&third.data).arg(&third.torrent).peers([seeder.addr]).start();
    giver.wait_for("giving back");
    drop(seeder);
    fourth.get().args(["-s", "1"]).peers([addr]).run().expect(0);
    assert_only(&fixture, &fourth.data, &[1]);
    giver.interrupt();
    giver.finish(LIMIT).expect(130);
}

#[test]
fn seed_of_a_part_needs_the_selection() {
    let fixture = tree();
    let place = Place::new(&fixture);
    get(&fixture, &place, &["-s", "2"]);
    let seed = |select: &[&str]| {
        let ip = own_ip().to_string();
        let run = Run::piecemeal(&["seed", "--listen", &ip, "--seed-time", "0"]).args(select);
        run.arg("-d").arg(&place.data).arg(&place.torrent).run()
    };
    let end = seed(&[]).expect(1);
    assert!(end.stderr.contains("pieces are there; get fetches the rest"), "{}", end.stderr);
    seed(&["-s", "1-2"]).expect(1);
    seed(&["-s", "2"]).expect(0);
}

#[test]
fn verify_of_a_part_looks_at_that_part_only() {
    let fixture = tree();
    let place = Place::new(&fixture);
    get(&fixture, &place, &["-s", "2,5"]);
    let verify = |select: &str| {
        let run = Run::piecemeal(&["verify", "-s", select]).arg("-d").arg(&place.data);
        run.arg(&place.torrent).run()
    };
    let end = verify("2,5").expect(0);
    let said = String::from_utf8_lossy(&end.stdout).into_owned();
    assert_eq!(said, "tree: all 2 pieces match, 68.4 KiB\n");
    verify("1").expect(1);
    verify("9").expect(2);
    // Right aside is not enough: each byte of the file itself counts.
    let path = place.data.join("tree/b/b");
    for at in [0, 69_999] {
        let right = fs::read(&path).expect("the file");
        let mut wrong = right.clone();
        wrong[at] ^= 1;
        fs::write(&path, wrong).expect("written");
        let end = verify("2").expect(1);
        let said = String::from_utf8_lossy(&end.stdout).into_owned();
        assert!(said.contains("b/b: 1 of 2 pieces differ"), "{said}");
        fs::write(&path, right).expect("written");
    }
}

#[test]
fn a_selection_that_selects_nothing_is_a_wrong_command_line() {
    let fixture = Recipe::tree("t").with("a", 10).pad().with("b", 10).make();
    let place = Place::new(&fixture);
    for select in ["0", "9", "2", "*.iso", "", "3-1", "x", "4-"] {
        let end = place.get().arg("-s").arg(select).run().expect(2);
        assert!(end.stderr.starts_with("piecemeal: --select-file"), "{}", end.stderr);
        assert_eq!((end.stderr.lines().count(), end.stdout.len()), (1, 0), "{}", end.stderr);
    }
    assert_eq!(files_below(&place.data), [] as [PathBuf; 0]);
    // The padding has a number, so that the others have those that every client gives them.
    assert_eq!(get(&fixture, &place, &["-s", "3"]), [1]);
    assert_only(&fixture, &place.data, &[3]);
}

#[test]
fn the_list_has_the_numbers_that_show_prints() {
    let fixture = Recipe::tree("t").with("a", 10).pad().with("b/ü", 2_000_000).make();
    let place = Place::new(&fixture);
    let shown = Run::piecemeal(&["show"]).arg(&place.torrent).run().expect(0);
    let shown = String::from_utf8(shown.stdout).expect("text");
    let files = shown.split_once("Files:\n").expect("a list of files").1;
    assert_eq!(files, "1  a  10\n3  b/ü  2000000 (1.9 MiB)\n");
    for flag in ["--list", "-S", "--show-files"] {
        let listed = place.get().arg(flag).run().expect(0);
        assert_eq!(String::from_utf8_lossy(&listed.stdout), files);
    }
    let json = place.get().args(["--list", "--json"]).run().expect(0);
    let json = String::from_utf8(json.stdout).expect("text");
    assert_eq!(json.lines().nth(1), Some(r#"{"path":"b/ü","length":2000000,"number":3}"#));
    assert_eq!(files_below(&place.data), [] as [PathBuf; 0]);
}

#[test]
fn some_hundreds_of_ten_thousand_files() {
    let many = Recipe::tree("many").piece_length(16 << 10);
    let name = |n: usize| format!("{}/{n}.{}", n % 100, ["txt", "bin", "doc"][n / 100 % 3]);
    let fixture = (0..10_000).fold(many, |recipe, n| recipe.with(&name(n), 200 + n / 8)).make();
    let place = Place::new(&fixture);
    let seeder = Seed::default().at(own_ip()).start(&fixture);
    let mut all: Vec<PathBuf> = Vec::new();
    for select in ["7/*.txt,1-200", "7/*.doc,5000-5199", "7/*.bin,9801-"] {
        let begin = Instant::now();
        place.get().args(["-s", select]).peers([seeder.addr]).run().expect(0);
        eprintln!("-s {select}: {:?}", begin.elapsed());
        let found = files_in(&place.data);
        assert!((200..300).contains(&(found.len() - all.len())), "{} files", found.len());
        assert!(all.iter().all(|path| found.contains(path)));
        all = found;
    }
    for path in &all {
        let below = path.strip_prefix(place.data.join("many")).expect("below");
        let file = fixture.files.iter().find(|file| Path::new(&file.path) == below);
        let range = file.expect("of the torrent").range.clone();
        assert!(fs::read(path).expect("there") == fixture.data[range], "{}", path.display());
    }
    assert!(seeder.most_often() <= 1, "a block was fetched twice");
}

/// A partial seed is no seed (BEP 21): trackers hear of all that is missing.
#[test]
fn trackers_hear_what_the_whole_torrent_lacks() {
    let fixture = tree();
    // The seed is known from the tracker only: nothing can be complete before it was asked.
    let seeder = Seed::default().at(own_ip()).start(&fixture);
    let tracker = Tracker::start(&[seeder.addr]);
    let place = Place::with_trackers(&fixture, &[&[&tracker.http()]]);
    place.get().args(["-s", "2"]).run().expect(0);
    let have: usize =
        pieces_of(&fixture, &[2]).into_iter().map(|piece| fixture.piece_range(piece).len()).sum();
    let told: Vec<_> = tracker.announces().into_iter().map(|a| (a.event, a.left)).collect();
    let left = (fixture.data.len() - have) as u64;
    let expected = [("started", fixture.data.len() as u64), ("stopped", left)];
    assert_eq!(told, expected.map(|(event, left)| (event.to_owned(), left)));
}
