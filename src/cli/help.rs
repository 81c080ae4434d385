//! `-h` and `--help`, made from the tables in [`flags`](super::flags).
//!
//! Layer: programs.

use std::fmt::Write;

use super::flags::{Args, COMMANDS, FLAGS, Flag, Help};

/// The help text for what was asked: the program, or one command.
pub fn text(args: &Args, kind: Help) -> String {
    match COMMANDS.iter().find(|command| command.name == args.command) {
        None => program(kind),
        Some(command) => {
            let mut text = format!(
                "{}\n\nusage: piecemeal {} [options] {}\n\n",
                command.help, command.name, command.operand
            );
            let own = |flag: &&Flag| flag.on.contains(&command.name) || flag.on.is_empty();
            FLAGS.iter().filter(own).for_each(|flag| line(&mut text, flag));
            if kind == Help::Long {
                text.push_str(&examples(command.name));
            }
            text
        }
    }
}

fn program(kind: Help) -> String {
    let mut text = String::from(
        "a BitTorrent client to use, to read and to watch\n\nusage: piecemeal COMMAND [options]\n\n",
    );
    for command in COMMANDS {
        let usage = format!("{} {}", command.name, command.operand);
        let _ = writeln!(text, "  {usage:<20} {}", command.help);
    }
    text.push_str(
        "\nTORRENT is a file, - (standard input), the http(s):// address of a .torrent,\n\
         or a magnet: link. `piecemeal COMMAND --help` lists the options of a command.\n",
    );
    if kind == Help::Long {
        text.push_str(
            "\nexit codes: 0 done; 1 it failed; 2 the command line is wrong; 3 gave up: nothing came\n\
             within --stop-timeout; 130 interrupted (what was verified is kept)\n",
        );
        text.push_str(&examples("get"));
    }
    text
}

fn line(text: &mut String, flag: &Flag) {
    let short = flag.short.map_or(String::from("    "), |letter| format!("-{letter}, "));
    let value = match flag.value {
        Some(value) if value.starts_with('[') => value.to_owned(),
        Some(value) => format!(" {value}"),
        None => String::new(),
    };
    let usage = format!("{short}--{}{value}", flag.long);
    let _ = writeln!(text, "  {usage:<26} {}", flag.help);
}

fn examples(command: &str) -> String {
    let lines: &[&str] = match command {
        "get" => &[
            "piecemeal get debian.torrent",
            "piecemeal get https://example.org/debian.torrent -d /tmp",
            "piecemeal get file.torrent --peer 192.0.2.7:6881 --no-tracker --stop-timeout 60",
            "curl -s https://example.org/x.torrent | piecemeal get -",
        ],
        "create" => &["piecemeal create my-folder -a udp://tracker.example.org:6969"],
        "show" => {
            &["piecemeal show file.torrent", "piecemeal show --json file.torrent | jq .files"]
        }
        "verify" => &["piecemeal verify file.torrent -d ~/Downloads"],
        "tracker" => &[
            "piecemeal tracker",
            "piecemeal tracker --listen 192.0.2.7:6969 debian.torrent",
            "piecemeal tracker -v 2b66980093bc11806fab50cb3cb41835b95a0362",
        ],
        "decode" => &["piecemeal decode file.torrent | jq .info.name"],
        _ => &[],
    };
    lines.iter().fold(String::from("\nexamples:\n"), |text, line| text + "  " + line + "\n")
}
