//! `piecemeal completions SHELL`: what bash, zsh and fish complete after `piecemeal`, made from the
//! tables in [`flags`](super::flags).
//!
//! All three ask the same: which command has been named, is the word before a flag that takes a value
//! (and of which kind), else which flags and operands that command has.
//!
//! Layer: programs.

use std::fmt::Write;

use super::flags::{COMMANDS, Command, FLAGS, Flag};
use super::help::flags_of;

/// The shells there are completions for.
pub const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The script for one of [`SHELLS`].
pub fn script(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

/// What a value, or an operand, may be.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Folder,
    File,
    Torrent,
    Shell,
    Other,
}

fn kind(name: &str) -> Kind {
    // Of several operands, the first.
    match name.split(' ').next().unwrap_or_default().trim_matches(['[', ']', '.']) {
        "DIR" => Kind::Folder,
        "PATH" | "FILE" => Kind::File,
        "TORRENT" => Kind::Torrent,
        "SHELL" => Kind::Shell,
        _ => Kind::Other,
    }
}

/// `-d`, `--dir`, …: all the ways to write a flag.
fn spellings(flag: &Flag) -> Vec<String> {
    let letters = flag.letters().map(|letter| format!("-{letter}"));
    letters.chain(flag.names().map(|name| format!("--{name}"))).collect()
}

fn names(command: &Command) -> impl Iterator<Item = &'static str> {
    std::iter::once(command.name).chain(command.aliases.iter().copied())
}

fn joined<'a>(words: impl Iterator<Item = &'a str>, with: &str) -> String {
    words.collect::<Vec<_>>().join(with)
}

/// The flags of a command that must be followed by a value of this kind, as a regular expression.
fn taking(command: &str, wanted: Kind) -> String {
    let taking = |flag: &&Flag| {
        flag.value.is_some_and(|value| !value.starts_with('[') && kind(value) == wanted)
    };
    flags_of(command).filter(taking).flat_map(spellings).collect::<Vec<_>>().join("|")
}

/// The words that an unnamed command may begin with: of a link, up to its colon.
const LOOKS: &str = "*.torrent|*.torrent[\\'\\\"]|magnet|http|https";

fn bash() -> String {
    let commands = joined(COMMANDS.iter().map(|c| c.name), " ");
    let all_names = joined(COMMANDS.iter().flat_map(names), "|");
    let mut flags = String::new();
    for command in COMMANDS {
        let long = flags_of(command.name).map(|flag| format!("--{}", flag.long));
        let short = flags_of(command.name).filter_map(|flag| flag.short);
        let words: Vec<_> = long.chain(short.map(|letter| format!("-{letter}"))).collect();
        let [folders, files, others] =
            [Kind::Folder, Kind::File, Kind::Other].map(|kind| taking(command.name, kind));
        // Without a command it is a download.
        let none = if command.name == "get" { "|''" } else { "" };
        let _ = writeln!(
            flags,
            "    {}{none}) flags='{}' dirs='{folders}' files='{files}' values='{others}' ;;",
            joined(names(command), "|"),
            words.join(" ")
        );
    }
    let shells = SHELLS.join(" ");
    let torrents = "compgen -f -X '!*.torrent' -- \"$cur\"; compgen -d -- \"$cur\"";
    format!(
        "# bash completion for piecemeal\n\
         _piecemeal() {{\n\
         \x20 local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}\n\
         \x20 local cmd= flags= dirs= files= values= w IFS=$'\\n'\n\
         \x20 if [[ $cur == = ]]; then cur=\n\
         \x20 elif [[ $prev == = ]]; then prev=${{COMP_WORDS[COMP_CWORD-2]}}; fi\n\
         \x20 for w in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n\
         \x20   case $w in {all_names}) cmd=$w; break ;;\n\
         \x20     {LOOKS}) cmd=get; break ;;\n\
         \x20   esac\n\
         \x20 done\n\
         \x20 case $cmd in\n{flags}\
         \x20 esac\n\
         \x20 case $cmd:$cur in\n\
         \x20   *:-*) COMPREPLY=($(compgen -W \"${{flags// /$IFS}}\" -- \"$cur\")); return ;;\n\
         \x20   completions:*) COMPREPLY=($(compgen -W $'{}' -- \"$cur\")); return ;;\n\
         \x20   man:*) COMPREPLY=(); return ;;\n\
         \x20 esac\n\
         \x20 compopt -o filenames 2>/dev/null\n\
         \x20 cur=${{cur#[\\'\\\"]}} cur=${{cur//\\\\}}\n\
         \x20 if [[ $prev =~ ^($dirs)$ ]]; then COMPREPLY=($(compgen -d -- \"$cur\")); return; fi\n\
         \x20 if [[ $prev =~ ^($files)$ ]]; then COMPREPLY=($(compgen -f -- \"$cur\")); return; fi\n\
         \x20 if [[ $prev =~ ^($values)$ ]]; then COMPREPLY=(); return; fi\n\
         \x20 case $cmd in\n\
         \x20   '') COMPREPLY=($(compgen -W $'{}' -- \"$cur\"; {torrents})) ;;\n\
         \x20   create|decode) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n\
         \x20   *) COMPREPLY=($({torrents})) ;;\n\
         \x20 esac\n\
         }}\n\
         complete -F _piecemeal piecemeal\n",
        shells.replace(' ', "\\n"),
        commands.replace(' ', "\\n"),
    )
}

/// How zsh finds what a value or an operand may be.
fn zsh_action(name: &str) -> String {
    match kind(name) {
        Kind::Folder => "_files -/".to_owned(),
        Kind::File => "_files".to_owned(),
        Kind::Torrent => "_files -g \"*.torrent\"".to_owned(),
        Kind::Shell => format!("({})", SHELLS.join(" ")),
        Kind::Other => " ".to_owned(),
    }
}

/// A text between single quotes, in which `:` and brackets mean nothing.
fn zsh_text(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\'' => out += "'\\''",
            ':' | '[' | ']' | '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

fn zsh() -> String {
    let mut text = String::from(
        "#compdef piecemeal\n\
         # zsh completion for piecemeal\n\
         _piecemeal() {\n\
         \x20 local context state state_descr line ret=1\n\
         \x20 typeset -A opt_args\n\
         \x20 _arguments -C '(- *)'{-h,--help}'[help]' '(- *)'{-V,--version}'[the version]' \\\n\
         \x20   '1: :->command' '*:: :->rest' && ret=0\n\
         \x20 case $state in\n\
         \x20 command)\n\
         \x20   local -a commands=(\n",
    );
    for command in COMMANDS {
        let _ = writeln!(text, "      '{}:{}'", command.name, zsh_text(command.help));
    }
    text += "    )\n    _describe command commands && ret=0\n    _files -g \"*.torrent\" && ret=0\n    ;;\n";
    text += "  rest)\n    case $words[1] in\n";
    // Without a command it is a download: what fits anything comes last.
    let (get, others): (Vec<_>, Vec<_>) = COMMANDS.iter().partition(|c| c.name == "get");
    for command in others.into_iter().chain(get) {
        let any = if command.name == "get" { "|*" } else { "" };
        let _ = write!(text, "    {}{any})\n      _arguments -s -S", joined(names(command), "|"));
        for flag in flags_of(command.name) {
            let value = match flag.value {
                Some(name) if name.starts_with('[') => "::filter: ".to_owned(),
                Some(name) => format!(":{}:{}", zsh_text(name), zsh_action(name)),
                None => String::new(),
            };
            let help = zsh_text(flag.help);
            for word in [flag.short.map(|c| format!("-{c}")), Some(format!("--{}", flag.long))] {
                let Some(word) = word else { continue };
                let joint = match flag.value {
                    Some(name) if name.starts_with('[') => "=-",
                    Some(_) if word.starts_with("--") => "=",
                    Some(_) => "+",
                    None => "",
                };
                let _ = write!(text, " \\\n        '*{word}{joint}[{help}]{value}'");
            }
        }
        if !command.operand.is_empty() {
            let operand = zsh_text(command.operand.trim_matches(['[', ']', '.']));
            let _ = write!(text, " \\\n        '*:{operand}:{}'", zsh_action(command.operand));
        }
        text += " && ret=0\n      ;;\n";
    }
    text += "    esac\n    ;;\n  esac\n  return ret\n}\n\
             if [ \"$funcstack[1]\" = _piecemeal ]; then _piecemeal \"$@\"; else compdef _piecemeal piecemeal; fi\n";
    text
}

fn fish() -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut text = String::from("# fish completion for piecemeal\ncomplete -c piecemeal -f\n");
    let all = joined(COMMANDS.iter().flat_map(names), " ");
    let first = format!("'not __fish_seen_subcommand_from {all}'");
    // Without a command it is a download.
    let _ = writeln!(
        text,
        "function __piecemeal_in\n  __fish_seen_subcommand_from $argv; and return\n  \
         contains get $argv; and not __fish_seen_subcommand_from {all}\nend"
    );
    let torrents = "-k -a '(__fish_complete_suffix .torrent)'";
    let _ = writeln!(text, "complete -c piecemeal -n {first} {torrents}");
    for command in COMMANDS {
        let (name, help) = (command.name, quoted(command.help));
        let _ = writeln!(text, "complete -c piecemeal -n {first} -a {name} -d {help}");
        let given = format!("'__fish_seen_subcommand_from {}'", joined(names(command), " "));
        let operands = match kind(command.operand) {
            Kind::Torrent => torrents.to_owned(),
            Kind::Shell => format!("-a '{}'", SHELLS.join(" ")),
            Kind::File | Kind::Folder => "-F".to_owned(),
            Kind::Other => continue,
        };
        let _ = writeln!(text, "complete -c piecemeal -n {given} {operands}");
    }
    for flag in FLAGS {
        let on = |command: &&Command| flag.on.contains(&command.name);
        let given = COMMANDS.iter().filter(on).flat_map(names);
        let condition = match flag.on {
            [] => String::new(),
            _ => format!(" -n '__piecemeal_in {}'", joined(given, " ")),
        };
        let short = flag.short.map_or(String::new(), |letter| format!(" -s {letter}"));
        let value = match flag.value.map(|value| (value.starts_with('['), kind(value))) {
            None | Some((true, _)) => "",
            Some((_, Kind::Folder)) => " -x -a '(__fish_complete_directories)'",
            Some((_, Kind::File)) => " -r -F",
            Some(_) => " -x",
        };
        let (long, help) = (flag.long, quoted(flag.help));
        let _ =
            writeln!(text, "complete -c piecemeal{condition}{short} -l {long}{value} -d {help}");
    }
    text
}
