//! The command line: one table of commands and one of flags, from which the parser and the help
//! are made. A flag that is not in the table does not exist; its help cannot be forgotten.
//!
//! Names and habits are aria2c's where it has one, else those of transmission-cli and rqbit.
//!
//! Layer: programs.

mod table;
mod value;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use table::{COMMANDS, FLAGS};
use value::Value;

/// What the command line asked for. One struct for all commands: the table below says which flag
/// belongs to which.
#[derive(Debug, Default, Clone)]
pub struct Args {
    pub help: Option<Help>,
    pub version: bool,
    /// The row of [`COMMANDS`] that was named.
    pub command: &'static str,
    /// What is left when the flags are taken out: TORRENT, PATH, FILE.
    pub operands: Vec<OsString>,
    pub dir: Option<PathBuf>,
    pub out: Option<PathBuf>,
    pub port: Option<u16>,
    pub listen: Option<IpAddr>,
    /// `--listen` of a tracker.
    pub listen_at: Option<SocketAddr>,
    pub peers: Vec<SocketAddr>,
    /// Tiers of trackers, in the order given (BEP 12).
    pub announce: Vec<Vec<String>>,
    pub no_tracker: bool,
    pub max_peers: Option<u16>,
    pub stop_timeout: Option<Duration>,
    /// Go on uploading until so many sizes of the torrent have gone out, or for so long.
    pub seed_ratio: Option<f64>,
    pub seed_time: Option<Duration>,
    pub super_seed: bool,
    /// Bytes a second; 0 means no limit.
    pub max_download_limit: u64,
    pub max_upload_limit: u64,
    pub check: bool,
    pub piece_hashes: bool,
    pub web_seeds: Vec<String>,
    pub piece_length: Option<u32>,
    pub private: bool,
    pub comment: Option<String>,
    pub name: Option<String>,
    pub source: Option<String>,
    pub no_date: bool,
    pub force: bool,
    pub fetch: bool,
    pub metadata_only: bool,
    pub save_torrent: Option<PathBuf>,
    pub trace: Option<String>,
    pub json: bool,
    pub quiet: bool,
    pub verbose: u8,
}

/// `-h` or `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Help {
    Short,
    Long,
}

pub struct Command {
    pub name: &'static str,
    /// Other names it answers to.
    pub aliases: &'static [&'static str],
    pub operand: &'static str,
    pub help: &'static str,
}

/// One flag: how it is written, where it belongs, what it does.
pub struct Flag {
    pub long: &'static str,
    pub short: Option<char>,
    pub aliases: &'static [&'static str],
    /// The name of its value in the help; `None` for a switch.
    pub value: Option<&'static str>,
    /// The commands it belongs to; none: all of them.
    pub on: &'static [&'static str],
    pub help: &'static str,
    set: fn(&mut Args, Value) -> Result<()>,
}

/// Reads a command line (without the program's name).
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args> {
    let mut args = Args::default();
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(word) = parser.next()? {
        let flag = match word {
            lexopt::Arg::Value(operand) if args.command.is_empty() => {
                args.command = command_named(&operand)?;
                continue;
            }
            lexopt::Arg::Value(operand) => {
                args.operands.push(operand);
                continue;
            }
            // `-h` is the short help, the long form the long one; all else is the table's.
            lexopt::Arg::Short('h') => {
                args.help = Some(Help::Short);
                continue;
            }
            // transmission-create's and rqbit's letter for a tracker.
            lexopt::Arg::Short('t') => flag_named("announce").expect("in the table"),
            lexopt::Arg::Short(letter) => FLAGS
                .iter()
                .find(|flag| flag.short == Some(letter))
                .with_context(|| format!("unknown option -{letter}"))?,
            lexopt::Arg::Long(name) => {
                flag_named(name).with_context(|| unknown("option --", name, long_names()))?
            }
        };
        let raw = match flag.value {
            None => None,
            Some(name) if name.starts_with('[') => parser.optional_value(),
            Some(name) => {
                let value = parser.value().ok();
                Some(value.with_context(|| format!("--{} needs a value: {name}", flag.long))?)
            }
        };
        (flag.set)(&mut args, Value { flag: flag.long, raw })?;
        check_place(&args, flag)?;
    }
    Ok(args)
}

/// A flag that its command does not know is an error, not a wish that is silently ignored.
fn check_place(args: &Args, flag: &Flag) -> Result<()> {
    if !args.command.is_empty() && !flag.on.is_empty() && !flag.on.contains(&args.command) {
        bail!("--{} belongs to {}, not to {}", flag.long, flag.on.join(", "), args.command);
    }
    Ok(())
}

fn flag_named(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.long == name || flag.aliases.contains(&name))
}

fn long_names() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|flag| flag.long)
}

fn command_named(word: &OsString) -> Result<&'static str> {
    let word = word.to_string_lossy();
    COMMANDS
        .iter()
        .find(|command| command.name == word || command.aliases.contains(&&*word))
        .map(|command| command.name)
        .with_context(|| unknown("command ", &word, COMMANDS.iter().map(|c| c.name)))
}

/// "unknown X", with the nearest name that exists if one is near. `kind` ends with what is written
/// before the word ("option --"); only that is repeated before the suggestion.
fn unknown(kind: &str, word: &str, names: impl Iterator<Item = &'static str>) -> String {
    let word = crate::printable::clipped(word, 40);
    let dashes = kind.rsplit(' ').next().unwrap_or_default();
    let nearest = names.map(|name| (distance(&word, name), name)).min();
    match nearest {
        Some((steps, name)) if steps <= 2 && steps < name.len() => {
            format!("unknown {kind}{word}; did you mean {dashes}{name}?")
        }
        _ => format!("unknown {kind}{word}; see piecemeal --help"),
    }
}

/// How many letters must be changed, added or removed to make one word the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Result<Args> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn tiers_aliases_and_sizes() {
        let a = args("get x.torrent -a http://a,udp://b -t http://c --listen-port 7000").unwrap();
        assert_eq!(a.announce, [vec!["http://a", "udp://b"], vec!["http://c"]]);
        assert_eq!((a.command, a.port), ("get", Some(7000)));
        assert_eq!(args("create p --piece-size 256K").unwrap().piece_length, Some(262_144));
        assert_eq!(args("get x --trace").unwrap().trace.as_deref(), Some(""));
        assert_eq!(args("get x --trace=wire").unwrap().trace.as_deref(), Some("wire"));
        assert_eq!(args("info x").unwrap().command, "show");
    }

    #[test]
    fn mistakes_are_named_with_the_nearest_right_word() {
        let said = |line: &str| format!("{:#}", args(line).unwrap_err());
        assert_eq!(said("gte x"), "unknown command gte; did you mean get?");
        assert_eq!(said("get x --prot 1"), "unknown option --prot; did you mean --port?");
        assert_eq!(said("get x --port 99999"), "--port 99999: expected a port, 1 to 65535");
        assert_eq!(
            said("create x --port 1"),
            "--port belongs to get, seed, show, verify, not to create"
        );
        assert_eq!(said("get x --max-peers 0"), "--max-peers 0: 1 to 1000");
    }

    #[test]
    fn no_name_is_given_twice() {
        let mut names: Vec<&str> =
            FLAGS.iter().flat_map(|f| f.aliases.iter().copied().chain([f.long])).collect();
        let mut letters: Vec<char> = FLAGS.iter().filter_map(|f| f.short).collect();
        let (all, all_letters) = (names.len(), letters.len());
        names.sort_unstable();
        names.dedup();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!((names.len(), letters.len()), (all, all_letters));
    }
}
