//! `-h` and `--help`, made from the tables in [`flags`](super::flags).
//!
//! Layer: programs.

use std::fmt::Write;

use super::flags::{Args, COMMANDS, Command, FLAGS, Flag, Help};
use crate::terminal;

/// What the program is, in a line.
pub const ABOUT: &str = "a BitTorrent client to use, to read and to watch";

/// What an operand called TORRENT may be.
pub const TORRENT: &str = "TORRENT is a file, - (standard input), the http(s):// address of a \
     .torrent, or a magnet: link. Without a COMMAND it is downloaded.";

/// The exit codes and what they mean.
pub const EXITS: &[(&str, &str)] = &[
    ("0", "done"),
    ("1", "it failed: bad input, data that does not match, a full disk"),
    ("2", "the command line is wrong"),
    ("3", "gave up: nothing came within --stop-timeout"),
    ("130", "interrupted; what was verified is kept"),
];

/// What is set for the command of `--on-complete`.
pub const HOOK: &[(&str, &str)] = &[
    ("PIECEMEAL_PATH", "the file or folder that was downloaded"),
    ("PIECEMEAL_NAME", "the name of the torrent"),
    ("PIECEMEAL_INFO_HASH", "its info hash, 40 hex digits"),
    ("PIECEMEAL_SIZE", "its bytes"),
    ("PIECEMEAL_FILES", "how many files it has"),
];

/// The help text for what was asked: the program, or one command.
pub fn text(args: &Args, kind: Help) -> String {
    match COMMANDS.iter().find(|command| command.name == args.command) {
        None => program(kind),
        Some(command) => one(command, kind),
    }
}

/// The flags of a command; those that all commands have come last.
pub fn flags_of(command: &str) -> impl Iterator<Item = &'static Flag> {
    let own = FLAGS.iter().filter(move |flag| flag.on.contains(&command));
    own.chain(FLAGS.iter().filter(|flag| flag.on.is_empty()))
}

fn one(command: &Command, kind: Help) -> String {
    let Command { name, operand, .. } = command;
    let mut text = format!("{}\n\nusage: piecemeal {name} [options] {operand}\n\n", command.help);
    for flag in flags_of(name) {
        let short = flag.short.map_or(String::from("    "), |letter| format!("-{letter}, "));
        let usage = format!("{short}--{}{}", flag.long, value(flag));
        let also = also(flag);
        match kind {
            Help::Short => row(&mut text, &usage, first_words(flag.help)),
            Help::Long if also.is_empty() => row(&mut text, &usage, flag.help),
            Help::Long => row(&mut text, &usage, &format!("{}; also {also}", flag.help)),
        }
    }
    if kind == Help::Long {
        if !command.aliases.is_empty() {
            let _ = writeln!(text, "\nalso: {}", command.aliases.join(", "));
        }
        if *name == "get" {
            text += "\nin the environment of --on-complete:\n";
            HOOK.iter().for_each(|(name, what)| row(&mut text, name, what));
        }
        text += "\nexamples:\n";
        examples(name).iter().for_each(|line| _ = writeln!(text, "  {line}"));
    }
    text
}

/// What is said before the first pause.
fn first_words(help: &str) -> &str {
    let pauses = [";", ": ", " ("].into_iter().filter_map(|pause| help.find(pause));
    &help[..pauses.min().unwrap_or(help.len())]
}

/// A term and its text, which goes on below itself.
fn row(out: &mut String, term: &str, text: &str) {
    let width = terminal::width().clamp(60, 100) - COLUMN;
    let mut term = format!("  {term:<width$}", width = COLUMN - 3);
    for line in wrapped(text, width) {
        let _ = writeln!(out, "{term} {line}");
        term = " ".repeat(COLUMN - 1);
    }
}

/// The column where texts begin.
const COLUMN: usize = 32;

/// The words of a text in lines of at most so many bytes.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("begun");
        match line.len() {
            0 => line.push_str(word),
            used if width < used + 1 + word.len() => lines.push(word.to_owned()),
            _ => line.extend([" ", word]),
        }
    }
    lines
}

fn program(kind: Help) -> String {
    let mut text = format!("{ABOUT}\n\nusage: piecemeal [COMMAND] [options] ...\n\n");
    for command in COMMANDS {
        let usage = format!("{} {}", command.name, command.operand);
        let _ = writeln!(text, "  {usage:<25} {}", command.help);
    }
    let _ = writeln!(text, "\n{}", wrapped(TORRENT, 78).join("\n"));
    text += "`piecemeal COMMAND --help` lists the options of a command.\n";
    if kind == Help::Long {
        text += "\nexit codes:\n";
        EXITS.iter().for_each(|(code, what)| _ = writeln!(text, "  {code:>3}  {what}"));
        text += "\nexamples:\n";
        let first = COMMANDS.iter().filter_map(|command| examples(command.name).first());
        first.for_each(|line| _ = writeln!(text, "  {line}"));
    }
    text
}

/// A flag's value as it is written behind its name.
pub fn value(flag: &Flag) -> String {
    match flag.value {
        Some(value) if value.starts_with('[') => value.to_owned(),
        Some(value) => format!(" {value}"),
        None => String::new(),
    }
}

/// Its other names, as they are written.
pub fn also(flag: &Flag) -> String {
    let letters = flag.letters().skip(1).map(|letter| format!("-{letter}"));
    let names = flag.names().skip(1).map(|name| format!("--{name}"));
    // A flag without a letter of its own may still have one that another client gives it.
    let first = flag.letters().take(usize::from(flag.short.is_none())).map(|l| format!("-{l}"));
    first.chain(letters).chain(names).collect::<Vec<_>>().join(", ")
}

/// What to type, and what it does.
pub fn examples(command: &str) -> &'static [&'static str] {
    match command {
        "get" => &[
            "piecemeal get debian.torrent",
            "piecemeal get https://example.org/debian.torrent -d /tmp",
            "piecemeal get x.torrent --seed-ratio 1 -u 2M       # then give back, at 2 MiB/s",
            "piecemeal get x.torrent --on-complete 'mv \"$PIECEMEAL_PATH\" /srv'",
            "piecemeal get x.torrent --peer 192.0.2.7:6881 --no-tracker --stop-timeout 60",
            "piecemeal get x.torrent --json | jq .download_rate",
            "piecemeal get film.torrent --list",
            "piecemeal get film.torrent -s 2,4-5,'*.srt'",
            "piecemeal get film.torrent -s 2 -o - | mpv -",
            "curl -s https://example.org/x.torrent | piecemeal get -",
        ],
        "seed" => &["piecemeal seed x.torrent -d /data      # what is in /data/NAME"],
        "create" => &["piecemeal create my-folder -a udp://tracker.example.org:6969"],
        "show" => &["piecemeal show x.torrent", "piecemeal show --json x.torrent | jq .files"],
        "verify" => &["piecemeal verify x.torrent -d ~/Downloads && echo intact"],
        "tracker" => &[
            "piecemeal tracker",
            "piecemeal tracker --listen 192.0.2.7:6969 debian.torrent",
            "piecemeal tracker -v 2b66980093bc11806fab50cb3cb41835b95a0362",
        ],
        "peers" => &[
            "piecemeal peers debian.torrent",
            "piecemeal peers --json --from tracker,lsd,pex 'magnet:?xt=urn:btih:...'",
        ],
        "decode" => &[
            "piecemeal decode x.torrent | jq .info.name",
            "piecemeal decode --explain x.torrent",
            "piecemeal decode 0000000d06000000010000400000004000",
            "piecemeal decode --as krpc packet.bin",
        ],
        "handshake" => &["piecemeal handshake x.torrent 192.0.2.7:6881"],
        "lab" => &[
            "piecemeal lab --list",
            "piecemeal lab newcomers --without optimistic",
            "piecemeal lab free-riders --rng 1",
            "piecemeal lab one-seed --trace=choker,peer=S",
            "piecemeal lab one-seed --html run.html",
        ],
        "completions" => &[
            "piecemeal completions bash > ~/.local/share/bash-completion/completions/piecemeal",
            "piecemeal completions zsh > \"${fpath[1]}/_piecemeal\"",
            "piecemeal completions fish > ~/.config/fish/completions/piecemeal.fish",
        ],
        "man" => &["piecemeal man | man -l -"],
        _ => &[],
    }
}
