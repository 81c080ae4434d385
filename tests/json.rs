//! `--json`: what is printed is documented, line by line and key by key.

mod support;

use std::fs;
use std::path::Path;

use support::fixture::Recipe;
use support::place::Place;
use support::run::Run;
use support::seeder::Seeder;

const DOCUMENT: &str = include_str!("../src/cli/json.md");

/// The texts between the marks `before` and `"`.
fn quoted<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split('"').next())
}

/// All keys of an object, those of objects in it too. A key is a string before a colon.
fn keys(line: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = line.split("\":").collect();
    parts.pop();
    parts.into_iter().filter_map(|part| part.rsplit('"').next()).collect()
}

/// The value of a key, as it is written.
fn value<'a>(line: &'a str, key: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{line}"));
    rest.split([',', '}']).next().unwrap_or_default().trim_matches('"')
}

#[track_caller]
fn assert_documented(key: &str) {
    assert!(DOCUMENT.contains(&format!("`{key}`")), "{key} is not in src/cli/json.md");
}

#[test]
fn every_key_in_the_source_is_documented() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
    let mut found = 0;
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let source = fs::read_to_string(entry.path()).unwrap_or_default();
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        // rustfmt may put the key on a line of its own.
        let code: String = code.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(");
        for call in ["str", "num", "bool", "raw", "null", "num_or_null", "str_or_null"] {
            for key in quoted(&code, &format!(".{call}(\"")) {
                assert_documented(key);
                found += 1;
            }
        }
        quoted(&code, "event(\"").chain(quoted(&code, "peer(\"")).for_each(assert_documented);
    }
    assert!(50 < found, "only {found} keys");
}

/// Runs a command with `--json`; the lines, each of them an object with documented keys.
#[track_caller]
fn lines(run: Run, code: i32) -> (Vec<String>, String) {
    let ended = run.arg("--json").run().expect(code);
    let text = String::from_utf8(ended.stdout).expect("UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in &lines {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        keys(line).into_iter().for_each(assert_documented);
    }
    (lines, ended.stderr)
}

#[test]
fn a_download_tells_all_that_happens() {
    let fixture = Recipe::file("x.bin", 256 << 10).piece_length(64 << 10).make();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    let run = place.get().peers([seeder.addr]).args(["--no-port-map", "--on-complete", "exit 0"]);
    let (lines, stderr) = lines(run, 0);
    assert_eq!(stderr, "");
    let events: Vec<&str> = lines.iter().map(|line| value(line, "event")).collect();
    for event in ["found", "listening", "peer", "piece", "complete"] {
        assert!(events.contains(&event), "no {event} in {events:?}");
    }
    assert_eq!(events.iter().filter(|event| **event == "piece").count(), 4);
    assert_eq!(events[events.len() - 2..], ["complete", "on_complete"]);
    let last = &lines[lines.len() - 2];
    assert_eq!((value(last, "have"), value(last, "pieces")), ("4", "4"));
    assert!(last.contains("\"peers_used\":[{\"addr\":"), "{last}");
    let came = lines.iter().find(|line| line.contains("\"connected\"")).expect("a peer");
    assert_eq!(value(came, "incoming"), "false");
}

#[test]
fn a_piece_that_is_wrong_and_who_sent_it() {
    let fixture = Recipe::file("x.bin", 256 << 10).piece_length(64 << 10).make();
    let mut other = Recipe::file("x.bin", 256 << 10).piece_length(64 << 10).seed(7).make();
    let place = Place::new(&fixture);
    other.info_hash = fixture.info_hash;
    let liar = Seeder::start(&other);
    let run = place.get().args(["--no-port-map", "--stop-timeout", "3"]).peers([liar.addr]);
    let (lines, _) = lines(run, 3);
    let wrong = lines.iter().find(|line| line.contains("\"ok\":false")).expect("a wrong piece");
    assert_eq!((value(wrong, "event"), value(wrong, "senders")), ("piece", "1"));
    let banned = lines.iter().find(|line| line.contains("\"banned\"")).expect("a ban");
    assert_eq!(value(banned, "event"), "peer");
}

#[test]
fn an_error_is_an_object_and_a_line() {
    let folder = support::fixture::Folder::new("json");
    let bad = folder.file("bad.torrent", b"no torrent");
    for command in ["get", "seed", "verify", "tracker"] {
        let (lines, stderr) = lines(Run::piecemeal(&[command]).arg(&bad), 1);
        assert_eq!((lines.len(), stderr.lines().count()), (1, 1), "{command}");
        assert_eq!((value(&lines[0], "event"), value(&lines[0], "exit_code")), ("error", "1"));
        assert!(stderr.contains("bad.torrent") && lines[0].contains("bad.torrent"));
    }
    let (lines_of_usage, _) = lines(Run::piecemeal(&["get", "--prot", "1"]), 2);
    assert_eq!(value(&lines_of_usage[0], "exit_code"), "2");
    for command in ["show", "decode"] {
        assert!(lines(Run::piecemeal(&[command]).arg(&bad), 1).0.is_empty(), "{command}");
    }
}

#[test]
fn the_other_commands_print_one_object() {
    let fixture = Recipe::file("x.bin", 256 << 10).piece_length(64 << 10).make();
    let place = Place::new(&fixture);
    let one = |args: &[&str], code| {
        let run = Run::piecemeal(args).arg(&place.torrent).in_folder(&place.data);
        let (lines, _) = lines(run, code);
        assert_eq!(lines.len(), 1, "{args:?}: {lines:?}");
        lines[0].clone()
    };
    assert_eq!(value(&one(&["show"], 0), "pieces"), "4");
    assert_eq!(value(&one(&["get", "--list"], 0), "number"), "1");
    assert_eq!(value(&one(&["verify"], 1), "complete"), "false");
    assert_eq!(value(&one(&["create", "-o", "y.torrent"], 0), "path"), "y.torrent");
}
