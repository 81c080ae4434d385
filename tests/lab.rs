//! `piecemeal lab`: the same number plays the same run, every scenario ends with its lesson, and the
//! page works in a real browser (headless Chromium, where there is one).

mod support;

use std::path::Path;

use support::fixture::Folder;
use support::run::Run;

fn lab(args: &[&str]) -> String {
    let ended = Run::piecemeal(&[&["lab"], args].concat()).run().expect(0);
    String::from_utf8(ended.stdout).expect("UTF-8")
}

#[test]
fn the_same_number_plays_the_same_run() {
    let play = |rng| lab(&["corrupt-peer", "--json", "--rng", rng]);
    assert_eq!(play("7"), play("7"));
    assert_ne!(play("7"), play("8"));
}

#[test]
fn every_scenario_has_figures_and_a_lesson() {
    let names = lab(&[]);
    let names: Vec<&str> = names.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(10 <= names.len(), "{names:?}");
    for name in names {
        // A server alone for 32 takes minutes, made-up ones, but many decisions.
        let peers = if name == "why-p2p" { "4" } else { "6" };
        let said = lab(&[name, "--rng", "1", "--peers", peers]);
        let mut lines = said.lines().rev();
        let lesson = lines.next().unwrap_or_default();
        assert!(30 < lesson.len() && lesson.ends_with('.'), "{said}");
        assert!(said.contains("copies"), "{said}");
    }
}

#[test]
fn what_is_unknown_is_said() {
    let ended = Run::piecemeal(&["lab", "gold-rush"]).run().expect(2);
    assert!(ended.stderr.contains("piecemeal lab --list names them"), "{}", ended.stderr);
}

#[test]
fn what_cannot_be_played_is_said() {
    for (args, said) in [
        (["--peers", "500"], "expected 2 to 200"),
        (["--without", "sharing"], "expected some of rarest-first, endgame"),
        (["--up", "0"], "expected 1K to 1G"),
        (["--size", "3"], "expected 64K to 1G"),
        (["--piece-length", "100"], "expected a power of two from 16K to 1G"),
    ] {
        let ended = Run::piecemeal(&[&["lab", "one-seed"], &args[..]].concat()).run().expect(2);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
}

#[test]
fn every_decision_can_be_watched_and_tables_fit_a_terminal() {
    let args = ["lab", "one-seed", "--rng", "1", "--peers", "3", "--size", "256K"];
    let ended = Run::piecemeal(&args).args(["--trace=choker,picker"]).run().expect(0);
    for part in [" choker    S: unchoke 1: ", " picker    1: request piece "] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    // Who is sent what first by the only seed, and why.
    let crowd = Run::piecemeal(&["lab", "one-seed", "--rng", "1", "--trace=choker,peer=S"]);
    let ended = crowd.run().expect(0);
    assert!(
        ended.stderr.contains(": nobody else has it, and of those who ask"),
        "{}",
        ended.stderr
    );
    let one = Run::piecemeal(&args).args(["--trace=choker,peer=2"]).run().expect(0);
    assert!(one.stderr.lines().all(|line| line.contains(" 2: ")), "{}", one.stderr);
    for name in ["one-seed", "super-seeding"] {
        let said = lab(&[name, "--rng", "1", "--peers", "11"]);
        let tables = said.lines().filter(|line| !line.ends_with('.') && !line.contains("--rng"));
        assert_eq!(
            tables.map(|line| line.chars().count()).filter(|len| 80 < *len).count(),
            0,
            "{said}"
        );
    }
}

#[test]
fn the_user_turns_the_knobs() {
    let with = lab(&["one-seed", "--rng", "1", "--size", "1M", "--up", "1M", "--json"]);
    let without = lab(&[
        "one-seed",
        "--rng",
        "1",
        "--size",
        "1M",
        "--up",
        "1M",
        "--json",
        "--without",
        "rationing,endgame",
    ]);
    assert!(with.contains("\"up\":1048576") && with != without, "{with}");
    assert_eq!(lab(&["--list"]), lab(&[]));
}

#[test]
fn the_page_replays_the_run() {
    let folder = Folder::new("lab");
    let page = folder.file("page.html", b"");
    let file = page.to_str().expect("UTF-8");
    lab(&["one-seed", "--rng", "3", "--peers", "4", "--html", file]);
    let browser = Path::new("/usr/bin/chromium");
    if !browser.exists() {
        eprintln!("skipped: no chromium here");
        return;
    }
    let profile = folder.folder("profile");
    let dom = |hash: &str| {
        let ended = Run::program(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--enable-logging=stderr"])
            .args(["--virtual-time-budget=2000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("file://{file}#{hash}"))
            .run()
            .expect(0);
        assert!(!ended.stderr.contains("CONSOLE"), "{}", ended.stderr);
        String::from_utf8(ended.stdout).expect("UTF-8")
    };
    let (start, later) = (dom("t=0"), dom("t=9000"));
    assert!(start.contains(">0.0 of "), "the clock");
    assert!(later.contains(">9.0 of "), "the slider moved");
    // Arrows between peers, a row for each of the five, and the decisions.
    assert!(later.matches("<path").count() > start.matches("<path").count());
    assert_eq!(later.matches("<canvas").count(), 5);
    assert!(later.contains("unchoke"), "the decisions are listed");
    // The list follows the slider.
    assert!(later.contains("class=\"now\">") && start != later);
}
