//! What somebody types who comes from aria2c or transmission-cli, and what must then happen; and
//! `--on-complete`.

mod support;

use std::fs;

use support::fixture::{Fixture, Recipe, files_below};
use support::own_ip;
use support::place::Place;
use support::run::{Ended, LIMIT, Run, binary};
use support::seeder::Seeder;

const KIB: usize = 1 << 10;

struct Everyday {
    fixture: Fixture,
    place: Place,
    seeder: Seeder,
}

impl Everyday {
    fn new() -> Everyday {
        Everyday::called("linux.iso")
    }

    fn called(name: &str) -> Everyday {
        let fixture = Recipe::file(name, 300 * KIB).piece_length(64 * KIB).make();
        let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
        Everyday { fixture, place, seeder }
    }

    /// Runs `piecemeal` in the folder of the data; `T` stands for the torrent, and where the peer is
    /// comes first, as from a shell's alias.
    #[track_caller]
    fn types(&self, line: &str, code: i32) -> Ended {
        self.types_also(line, &[], code)
    }

    #[track_caller]
    fn types_also(&self, line: &str, more: &[&str], code: i32) -> Ended {
        let torrent = self.place.torrent.to_str().expect("UTF-8");
        let words = line.split(' ').map(|word| if word == "T" { torrent } else { word });
        let ip = own_ip().to_string();
        let network = ["--listen", &ip, "--no-port-map", "--no-lsd", "--no-dht"];
        let reads_only = ["-S", "--show-files", "show", "info", "verify", "-V", "-h", "help"];
        let mut run = Run::piecemeal(&[]).in_folder(&self.place.data);
        if !line.split(' ').any(|word| reads_only.contains(&word)) || line.contains("-V T") {
            run = run.args(network).peers([self.seeder.addr]);
        }
        run.args(words).args(more).run().expect(code)
    }

    #[track_caller]
    fn is_here(&self) {
        self.fixture.assert_in(&self.place.data);
    }
}

fn text(ended: &Ended) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

#[test]
fn a_torrent_alone_is_downloaded() {
    let day = Everyday::new();
    day.types("T", 0);
    day.is_here();
}

#[test]
fn into_a_folder_and_without_seeding() {
    for line in ["-d sub --seed-time=0 T", "-w sub T", "T --dir=sub --continue=true"] {
        let day = Everyday::new();
        fs::create_dir(day.place.data.join("sub")).expect("a folder");
        day.types(line, 0);
        day.fixture.assert_in(&day.place.data.join("sub"));
    }
}

#[test]
fn a_file_has_the_name_that_is_wanted() {
    let day = Everyday::new();
    fs::create_dir(day.place.data.join("sub")).expect("a folder");
    day.types("-d sub -o other.iso --stop-timeout=0 T", 0);
    let got = fs::read(day.place.data.join("sub/other.iso")).expect("it is there");
    assert!(got == *day.fixture.data);
    // One of several, though others are there too.
    let tree = Recipe::tree("tree").with("a/one", 100_000).with("two", 100_001).make();
    let (place, seeder) = (Place::new(&tree), Seeder::start(&tree));
    let get = |more: &[&str]| {
        let get = Run::get(&place.torrent, &place.data).peers([seeder.addr]);
        get.args(more).run().expect(0);
    };
    get(&["-s", "1", "-o", "first"]);
    get(&["-s", "1", "-o", "first"]);
    get(&["-s", "two", "-o", "./second"]);
    get(&["-s", "two", "-o", "folder/"]);
    let read = |name: &str| fs::read(place.data.join(name)).expect(name);
    assert!(read("first") == tree.data[..100_000]);
    assert!(read("second") == tree.data[100_000..] && read("folder/two") == read("second"));
}

#[test]
fn the_end_of_the_terminal_is_an_end_in_order() {
    let day = Everyday::new();
    day.types("T", 0);
    let ip = own_ip().to_string();
    let args = ["seed", "--json", "--no-port-map", "--no-lsd", "--no-dht", "--listen", &ip];
    let mut seed = Run::piecemeal(&args).arg(&day.place.torrent).in_folder(&day.place.data).start();
    seed.wait_for(r#""event":"complete""#);
    seed.signal(libc::SIGHUP);
    seed.finish(LIMIT).expect(130);
    // But not under nohup.
    let line = r#"trap "" HUP; exec "$0" "$@""#;
    let seed = Run::program("sh").args(["-c", line]).arg(binary()).args(args);
    let mut seed = seed.arg(&day.place.torrent).in_folder(&day.place.data).start();
    seed.wait_for(r#""event":"complete""#);
    seed.signal(libc::SIGHUP);
    seed.signal(libc::SIGUSR1);
    seed.wait_for(r#""event":"peers""#);
    seed.interrupt();
    seed.finish(LIMIT).expect(130);
}

#[test]
fn a_proxy_of_the_environment_that_cannot_be_read_is_said() {
    let day = Everyday::new();
    let get = Run::piecemeal(&["get"]).arg(&day.place.torrent).in_folder(&day.place.data);
    let end = get.env("all_proxy", "bogus://x").run().expect(2);
    assert!(end.stderr.starts_with("piecemeal: all_proxy: expected http://"), "{}", end.stderr);
}

#[test]
fn the_files_are_listed_and_nothing_is_written() {
    let day = Everyday::new();
    for line in ["-S T", "--show-files=true T", "show T", "info T"] {
        assert!(text(&day.types(line, 0)).contains("linux.iso"), "{line}");
    }
    assert!(files_below(&day.place.data).is_empty());
}

#[test]
fn it_is_checked_before_and_after() {
    let day = Everyday::new();
    day.types("verify T", 1);
    day.types("--check-integrity=true T", 0);
    day.types("-V T", 0);
    let only = day.types("get --hash-check-only=true T --seed-ratio=1", 2);
    assert!(only.stderr.contains("belongs to"), "{}", only.stderr);
    assert!(text(&day.types("verify T", 0)).contains("all 5 pieces match"));
    day.is_here();
}

#[test]
fn it_is_limited_and_gives_up() {
    let day = Everyday::new();
    day.types("-u 50K --max-download-limit=10M --bt-max-peers=5 --bt-stop-timeout=60 T", 0);
    day.is_here();
}

#[test]
fn it_goes_on_where_it_stopped_and_leaves_what_is_there() {
    let day = Everyday::new();
    day.types("T", 0);
    let served = day.seeder.served();
    day.types("-c T", 0);
    day.types("T", 0);
    assert_eq!(day.seeder.served(), served);
}

#[test]
fn what_has_no_equal_is_explained() {
    let day = Everyday::new();
    let said = day.types("-x 16 -s 16 T", 2).stderr;
    assert!(said.starts_with("piecemeal: unknown option -x: ") && said.contains("--max-peers"));
    let said = day.types("T --seed-tiem=0", 2).stderr;
    assert!(said.contains("did you mean --seed-time?"), "{said}");
}

#[test]
fn a_command_runs_on_completion_and_knows_what_came() {
    let name = "$(touch owned); `touch owned` '\"&";
    let day = Everyday::called(name);
    let script = "printf '%s|%s|%s|%s|%s|%s' \"$PIECEMEAL_NAME\" \"$PIECEMEAL_PATH\" \
                  $PIECEMEAL_INFO_HASH $PIECEMEAL_SIZE $PIECEMEAL_FILES \"$PWD\" > told; \
                  test -f \"$PIECEMEAL_PATH\" && echo came";
    let end = day.types_also("T", &["--on-complete", script], 0);
    // What it prints is no result of ours.
    assert_eq!((text(&end).as_str(), end.stderr.contains("came\n")), ("", true));
    let told = fs::read_to_string(day.place.data.join("told")).expect("it ran");
    let fields: Vec<&str> = told.split('|').collect();
    let path = files_below(&day.place.data).into_iter().find(|path| !path.ends_with("told"));
    let path = path.expect("the file").canonicalize().expect("a path");
    let size = (300 * KIB).to_string();
    assert_eq!(fields[0], path.file_name().unwrap().to_str().unwrap());
    assert_eq!(std::path::Path::new(fields[1]).canonicalize().expect("absolute"), path);
    assert_eq!((fields[2].len(), fields[3], fields[4]), (40, &*size, "1"));
    assert_eq!(files_below(&day.place.data).len(), 2, "nothing else was made");
}

#[test]
fn what_the_command_says_is_what_get_says() {
    let day = Everyday::new();
    let end = day.types_also("T", &["-f", "exit 7"], 1);
    assert!(
        end.stderr.contains("all is here, but --on-complete: exit status: 7"),
        "{}",
        end.stderr
    );
    day.is_here();
    // Everything is there already: it runs again, once.
    day.types_also("T", &["--on-complete", "echo once >> told"], 0);
    let told = fs::read_to_string(day.place.data.join("told")).expect("it ran");
    assert_eq!(told, "once\n");
}

#[test]
fn the_command_runs_before_the_seeding_and_not_without_completion() {
    let day = Everyday::new();
    let end = day.types_also("--seed-time=0.01 -q T", &["--on-complete", "echo once >> told"], 0);
    assert_eq!(end.stderr, "");
    let told = fs::read_to_string(day.place.data.join("told")).expect("it ran");
    assert_eq!(told, "once\n");
    let day = Everyday::new();
    drop(day.seeder);
    let torrent = day.place.torrent.to_str().expect("UTF-8");
    let line = ["get", torrent, "--no-tracker", "--no-port-map", "--no-lsd", "--no-dht"];
    let run = Run::piecemeal(&line).args(["--on-complete", "touch told", "--stop-timeout", "0.2"]);
    run.in_folder(&day.place.data).run().expect(3);
    assert!(!day.place.data.join("told").exists());
}

/// The last line of a download is a command that a shell takes: blanks, quotes and all.
#[test]
fn the_line_about_giving_back_is_a_command_that_runs() {
    let e = Everyday::called("it's a \"film\".mkv");
    let renamed = e.place.data.join("another's name.mkv");
    for (flag, path) in [("-d", &e.place.data), ("-o", &renamed)] {
        let run = Run::piecemeal(&["get", "--no-tracker", "--no-lsd", flag]).arg(path);
        let listen = own_ip().to_string();
        let run = run.args(["--listen", &listen]).peers([e.seeder.addr]);
        let ended = run.arg(&e.place.torrent).run().expect(0);
        let (_, command) = ended.stderr.trim_end().split_once("give back: ").expect("a hint");
        let command = command.strip_prefix("piecemeal seed ").expect(command);
        for (name, code) in [("seed --seed-time 0", 0), ("verify", 0)] {
            let line = format!("exec '{}' {name} {command}", binary().display());
            let quiet =
                if name == "verify" { "" } else { " --no-dht --no-lsd --no-port-map --port 0" };
            Run::program("sh").arg("-c").arg(line + quiet).run().expect(code);
        }
    }
    // Of the same file, damaged, nothing is said that seeding does not do.
    let mut bytes = fs::read(&renamed).unwrap();
    bytes[0] ^= 1;
    fs::write(&renamed, bytes).unwrap();
    let seed = Run::piecemeal(&["seed", "--no-dht", "-o"]).arg(&renamed).arg(&e.place.torrent);
    let ended = seed.run().expect(1);
    assert!(ended.stderr.contains("1 that is there is unfinished or differs, and cannot be given"));
    Run::piecemeal(&["seed", "-o", "-"]).arg(&e.place.torrent).run().expect(2);
    Run::piecemeal(&["verify", "-o", "-"]).arg(&e.place.torrent).run().expect(2);
}

/// No map follows, so nothing explains it.
#[test]
fn a_map_is_explained_only_where_it_is_drawn() {
    let e = Everyday::new();
    let run = e.place.get().args(["-v", "--no-tracker"]).peers([e.seeder.addr]);
    let ended = run.run().expect(0);
    assert!(!ended.stderr.contains("map of pieces"), "{}", ended.stderr);
}
