//! The command line as people and shells use it: `--help`, the man page and the completions say the
//! same, and real shells complete with them.

mod support;

use std::path::PathBuf;

use piecemeal::cli::flags::{COMMANDS, FLAGS, Flag};
use support::fixture::Folder;
use support::run::{Ended, Run};

#[track_caller]
fn said(args: &[&str]) -> String {
    let ended = Run::piecemeal(args).run().expect(0);
    String::from_utf8(ended.stdout).expect("UTF-8")
}

/// The flags of a command.
fn flags_of(command: &str) -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(move |flag| flag.is_on(command))
}

/// Whether a program is here; if not, why a test is skipped.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// Text with the escapes of roff taken away.
fn plain(roff: &str) -> String {
    roff.replace("\\-", "-").replace("\\(aq", "'").replace("\\fB", "").replace("\\fR", "")
}

/// Words only, whatever the line breaks between them.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn help_man_page_and_completions_know_the_same_flags() {
    let page = plain(&said(&["man"]));
    let [bash, zsh, fish] = ["bash", "zsh", "fish"].map(|shell| said(&["completions", shell]));
    for command in COMMANDS {
        let (name, words) = (command.name, flat(&said(&[command.name, "--help"])));
        let section = page.split(&format!(".SS {name}")).nth(1).expect(name);
        let section = section.split(".SS ").next().unwrap();
        let common = page.split(".SH OPTIONS OF ALL").nth(1).unwrap();
        let first = |line: &&str| line.trim().split(['|', ')']).next() == Some(name);
        let offered = bash.lines().find(first).expect(name);
        let offered = offered.split("flags='").nth(1).expect(name).split('\'').next().unwrap();
        let offered: Vec<_> = offered.split(' ').collect();
        for flag in flags_of(name) {
            let long = format!("--{}", flag.long);
            assert!(words.contains(&long), "{name} --help: {long}");
            assert!(words.contains(&flat(flag.help)), "{name} --help: {}", flag.help);
            let place = if flag.on.is_empty() { common } else { section };
            assert!(place.contains(&long), "man, {name}: {long}");
            assert!(offered.contains(&&*long), "bash, {name}: {long}");
            for alias in flag.names().skip(1) {
                assert!(words.contains(&format!("--{alias}")), "{name} --help: {alias}");
                assert!(place.contains(&format!("--{alias}")), "man, {name}: {alias}");
            }
        }
        // And nothing that it does not have.
        let known = |word: &&str| flags_of(name).any(|flag| *word == format!("--{}", flag.long));
        let strange = offered.iter().filter(|word| word.starts_with("--")).find(|w| !known(w));
        assert_eq!(strange, None, "bash, {name}");
        assert!(words.contains("examples: piecemeal"), "{name} --help has an example");
    }
    for flag in FLAGS {
        assert!(zsh.contains(&format!("--{}", flag.long)), "zsh: {}", flag.long);
        assert!(fish.contains(&format!(" -l {} ", flag.long)), "fish: {}", flag.long);
    }
}

#[test]
fn the_short_help_is_shorter() {
    for command in COMMANDS {
        let [short, long] = ["-h", "--help"].map(|flag| said(&[command.name, flag]));
        assert!(short.lines().count() < long.lines().count(), "{}", command.name);
        assert!(long.lines().all(|line| line.chars().count() <= 100), "{long}");
        assert_eq!(said(&["help", command.name]), long);
    }
}

#[test]
fn the_man_page_has_no_faults() {
    let page = Run::piecemeal(&["man"]).run().expect(0).stdout;
    let checks: [(&str, &[&str]); 2] =
        [("mandoc", &["-Tlint", "-Wwarning"]), ("groff", &["-man", "-ww", "-z", "-Tutf8"])];
    for (program, args) in checks {
        if has(program) {
            let checked = Run::program(program).args(args).stdin(page.clone()).run();
            let Ended { stdout, stderr, .. } = checked.expect(0);
            assert_eq!((String::from_utf8_lossy(&stdout).as_ref(), &*stderr), ("", ""));
        }
    }
}

/// A folder with what a shell may complete, and the completions in it.
fn place(shell: &str) -> (Folder, PathBuf) {
    let folder = Folder::new("shell");
    folder.file("a film.torrent", b"");
    folder.file("notes.txt", b"");
    folder.folder("data");
    let script = folder.file("script", said(&["completions", shell]).as_bytes());
    let path = script.parent().expect("a folder").to_owned();
    (folder, path)
}

/// A line and its beginning that is completed; what comes out, and what does not.
const LINES: [(&str, &[&str], &[&str]); 13] = [
    ("", &["get", "tracker", "a film.torrent"], &["notes.txt", "--port"]),
    ("cr", &["create"], &["get"]),
    ("get --se", &["--seed-ratio", "--seed-time"], &["--private"]),
    ("download --seed-t", &["--seed-time"], &[]),
    ("get -d ", &["data"], &["notes.txt", "a film.torrent"]),
    ("get ", &["a film.torrent"], &["notes.txt"]),
    ("completions ", &["bash", "fish", "zsh"], &["notes.txt"]),
    // A switch of one command takes a value with another.
    ("get -c ", &["a film.torrent"], &["notes.txt"]),
    ("create -f n", &["notes.txt"], &[]),
    ("create -c n", &[], &["notes.txt"]),
    // Without a command it is a download.
    ("x.torrent --sequ", &["--sequential"], &["--private"]),
    ("x.torrent -d ", &["data"], &["notes.txt", "a film.torrent"]),
    ("--seed-t", &["--seed-time"], &[]),
];

#[track_caller]
fn check_completed(completed: &str, line: &str, with: &[&str], without: &[&str]) {
    let has = |word: &str| completed.lines().any(|found| found.trim_end_matches('/') == word);
    with.iter().for_each(|word| assert!(has(word), "{line:?}: no {word} in {completed:?}"));
    without.iter().for_each(|word| assert!(!has(word), "{line:?}: {word} in {completed:?}"));
}

#[test]
fn bash_completes() {
    if !has("bash") {
        return;
    }
    let (_folder, path) = place("bash");
    for (line, with, without) in LINES {
        // As bash splits it: the last word is the one that is completed.
        let words: Vec<_> = line.split(' ').collect();
        let script = "source ./script; COMP_WORDS=(piecemeal \"$@\"); COMP_CWORD=$#; \
                      _piecemeal; printf '%s\\n' \"${COMPREPLY[@]}\"; \
                      [[ ${COMPREPLY[*]} != *$'\\n'* ]] || echo 'several words in one'";
        let bash = Run::program("bash").args(["--norc", "-c", script, "bash"]).args(words);
        let ended = bash.in_folder(&path).run().expect(0);
        let without = [without, &["several words in one"]].concat();
        check_completed(&String::from_utf8_lossy(&ended.stdout), line, with, &without);
    }
}

#[test]
fn fish_completes() {
    if !has("fish") {
        return;
    }
    let (_folder, path) = place("fish");
    for (line, with, without) in LINES {
        let script = format!("source ./script; complete -C 'piecemeal {line}'");
        let fish = Run::program("fish").args(["--no-config", "-c", &script]);
        let ended = fish.in_folder(&path).run().expect(0);
        let text = String::from_utf8_lossy(&ended.stdout).replace("\\ ", " ");
        // A tab divides a word from its description.
        let words: Vec<_> = text.lines().map(|l| l.split('\t').next().unwrap_or(l)).collect();
        // fish puts .torrent first, and offers other files behind them.
        let without: Vec<_> = without.iter().copied().filter(|word| *word != "notes.txt").collect();
        check_completed(&words.join("\n"), line, with, &without);
    }
}

#[test]
fn zsh_completes() {
    if !has("zsh") {
        return;
    }
    // zsh completes on a terminal only: it makes one for another zsh. Each step waits for the last.
    let script = r#"
        zmodload zsh/zpty || exit 1
        zpty z "TERM=dumb zsh -f -i"
        zpty -w z 'autoload -U compinit; compinit -u -D; source ./script; print RE""ADY'
        zpty -r z out '*READY*' || exit 1
        zpty -w -n z $'piecemeal get --se\t\t'
        zpty -r z out '*--seed-ratio*--seed-time*' || exit 1
        print -r -- "$out"
        zpty -d z
    "#;
    let (_folder, path) = place("zsh");
    let zsh = Run::program("zsh").args(["-f", "-c", script]).in_folder(&path);
    let ended = zsh.run().expect(0);
    let shown = String::from_utf8_lossy(&ended.stdout);
    assert!(shown.contains("--seed-ratio") && !shown.contains("--private"), "{shown}");
}
