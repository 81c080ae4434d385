//! The command line: one table of commands and one of flags, from which the parser and the help
//! are made. A flag that is not in the table does not exist; its help cannot be forgotten.
//!
//! Names and habits are aria2c's where it has one, else those of transmission-cli and rqbit.
//!
//! Layer: programs.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

/// What the command line asked for. One struct for all commands: the table below says which flag
/// belongs to which.
#[derive(Debug, Default)]
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

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "get", aliases: &["download"], operand: "TORRENT", help: "download; exit 0 once every piece has been verified" },
    Command { name: "seed", aliases: &[], operand: "TORRENT", help: "check what is in --dir, then upload it until Ctrl-C (or ratio, or time)" },
    Command { name: "create", aliases: &[], operand: "PATH", help: "make a .torrent from a file or a folder" },
    Command { name: "show", aliases: &["info"], operand: "TORRENT", help: "name, info hash, size, files, trackers, magnet link" },
    Command { name: "verify", aliases: &[], operand: "TORRENT", help: "check the data in --dir against the hashes" },
    Command { name: "tracker", aliases: &[], operand: "[TORRENT]...", help: "run a tracker: HTTP and UDP on one port; open, or for these torrents" },
    Command { name: "decode", aliases: &[], operand: "FILE", help: "print bencode as JSON" },
];

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

#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    Flag { long: "dir", short: Some('d'), aliases: &[], value: Some("DIR"), on: &["get", "seed", "verify"],
        help: "where the data is or goes (current directory); the torrent's name is appended",
        set: |a, v| { a.dir = Some(v.path()); Ok(()) } },
    Flag { long: "out", short: Some('o'), aliases: &["output"], value: Some("PATH"), on: &["get", "create"],
        help: "the file (or, for several files, the folder) itself",
        set: |a, v| { a.out = Some(v.path()); Ok(()) } },
    Flag { long: "port", short: Some('p'), aliases: &["listen-port"], value: Some("N"), on: &["get", "seed"],
        help: "listen here (6881, else the next free to 6889, else any)",
        set: |a, v| { a.port = Some(v.parse("a port, 1 to 65535")?); Ok(()) } },
    Flag { long: "listen", short: None, aliases: &[], value: Some("IP[:PORT]"), on: &["get", "seed", "tracker"],
        help: "listen on this address only (all, IPv4 and IPv6); tracker: with a port (6969)",
        set: |a, v| v.listen(a) },
    Flag { long: "peer", short: None, aliases: &["initial-peers"], value: Some("IP:PORT"), on: &["get", "seed"],
        help: "a peer to dial; repeatable, or several with commas",
        set: |a, v| { for one in v.split()? { a.peers.push(one.parse("IP:PORT")?) } Ok(()) } },
    Flag { long: "announce", short: Some('a'), aliases: &["tracker"], value: Some("URL"), on: &["get", "seed", "create"],
        help: "a tracker; repeat for a further tier, comma within a tier; also -t",
        set: |a, v| { a.announce.push(v.split()?.into_iter().map(Value::text).collect::<Result<_>>()?); Ok(()) } },
    Flag { long: "no-tracker", short: None, aliases: &[], value: None, on: &["get", "seed"],
        help: "ask no tracker",
        set: |a, _| { a.no_tracker = true; Ok(()) } },
    Flag { long: "max-peers", short: None, aliases: &["bt-max-peers", "peer-limit"], value: Some("N"), on: &["get", "seed"],
        help: "connections at most (50)",
        set: |a, v| { a.max_peers = Some(v.parse("1 to 1000").and_then(|n| if (1..=1000).contains(&n) { Ok(n) } else { bail!("--max-peers {n}: 1 to 1000") })?); Ok(()) } },
    Flag { long: "stop-timeout", short: None, aliases: &["bt-stop-timeout"], value: Some("SEC"), on: &["get"],
        help: "give up after so long without a byte: exit 3",
        set: |a, v| { a.stop_timeout = Some(v.seconds()?); Ok(()) } },
    Flag { long: "seed-ratio", short: None, aliases: &[], value: Some("R"), on: &["get", "seed"],
        help: "go on uploading until R times the size has gone out",
        set: |a, v| { a.seed_ratio = Some(v.fraction()?); Ok(()) } },
    Flag { long: "seed-time", short: None, aliases: &[], value: Some("MIN"), on: &["get", "seed"],
        help: "go on uploading for so many minutes (fractions allowed)",
        set: |a, v| { a.seed_time = Some(Duration::from_secs_f64(v.fraction()? * 60.0)); Ok(()) } },
    Flag { long: "super-seed", short: None, aliases: &[], value: None, on: &["seed"],
        help: "send every piece once before any twice (by itself where a tracker knows no other seed)",
        set: |a, _| { a.super_seed = true; Ok(()) } },
    Flag { long: "max-download-limit", short: None, aliases: &["download-limit"], value: Some("RATE"), on: &["get"],
        help: "bytes a second at most, K M G are powers of 1024 (0: no limit)",
        set: |a, v| { a.max_download_limit = v.rate()?; Ok(()) } },
    Flag { long: "max-upload-limit", short: Some('u'), aliases: &["upload-limit"], value: Some("RATE"), on: &["get", "seed"],
        help: "bytes a second at most, K M G are powers of 1024 (0: no limit)",
        set: |a, v| { a.max_upload_limit = v.rate()?; Ok(()) } },
    Flag { long: "check", short: None, aliases: &["check-integrity"], value: None, on: &["get", "seed"],
        help: "hash all that is there before starting, whatever the resume file says",
        set: |a, _| { a.check = true; Ok(()) } },
    Flag { long: "trace", short: None, aliases: &[], value: Some("[=FILTER]"), on: &["get", "seed"],
        help: "print every message and every decision with its reason; FILTER: wire,picker,choker,swarm,tracker,assembler",
        set: |a, v| { a.trace = Some(v.optional()?); Ok(()) } },
    Flag { long: "web-seed", short: Some('w'), aliases: &[], value: Some("URL"), on: &["create"],
        help: "a server that has the data (BEP 19); repeatable",
        set: |a, v| { a.web_seeds.push(v.text()?); Ok(()) } },
    Flag { long: "piece-length", short: None, aliases: &["piece-size"], value: Some("SIZE"), on: &["create"],
        help: "bytes a piece, K and M are powers of 1024 (by size: 16K to 16M)",
        set: |a, v| { a.piece_length = Some(v.size()?); Ok(()) } },
    Flag { long: "private", short: None, aliases: &[], value: None, on: &["create"],
        help: "peers from the trackers only (BEP 27)",
        set: |a, _| { a.private = true; Ok(()) } },
    Flag { long: "comment", short: Some('c'), aliases: &[], value: Some("TEXT"), on: &["create"],
        help: "a comment to put in the torrent",
        set: |a, v| { a.comment = Some(v.text()?); Ok(()) } },
    Flag { long: "name", short: Some('n'), aliases: &[], value: Some("NAME"), on: &["create"],
        help: "the torrent's name (that of the file or folder)",
        set: |a, v| { a.name = Some(v.text()?); Ok(()) } },
    Flag { long: "source", short: None, aliases: &[], value: Some("TEXT"), on: &["create"],
        help: "a source tag; it changes the info hash",
        set: |a, v| { a.source = Some(v.text()?); Ok(()) } },
    Flag { long: "no-date", short: None, aliases: &[], value: None, on: &["create"],
        help: "leave the creation date out",
        set: |a, _| { a.no_date = true; Ok(()) } },
    Flag { long: "force", short: Some('f'), aliases: &[], value: None, on: &["create"],
        help: "overwrite an existing .torrent",
        set: |a, _| { a.force = true; Ok(()) } },
    Flag { long: "piece-hashes", short: None, aliases: &[], value: None, on: &["show"],
        help: "the SHA-1 of every piece too",
        set: |a, _| { a.piece_hashes = true; Ok(()) } },
    Flag { long: "json", short: None, aliases: &[], value: None, on: &[],
        help: "one JSON object a line on standard output",
        set: |a, _| { a.json = true; Ok(()) } },
    Flag { long: "quiet", short: Some('q'), aliases: &[], value: None, on: &[],
        help: "print nothing but errors",
        set: |a, _| { a.quiet = true; Ok(()) } },
    Flag { long: "verbose", short: Some('v'), aliases: &[], value: None, on: &[],
        help: "say more; twice: still more",
        set: |a, _| { a.verbose = a.verbose.saturating_add(1); Ok(()) } },
    Flag { long: "help", short: Some('h'), aliases: &[], value: None, on: &[],
        help: "this help; -h is shorter",
        set: |a, _| { a.help = Some(Help::Long); Ok(()) } },
    Flag { long: "version", short: Some('V'), aliases: &[], value: None, on: &[],
        help: "the version",
        set: |a, _| { a.version = true; Ok(()) } },
];

/// A flag's value, with the flag's name for the error message.
struct Value {
    flag: &'static str,
    raw: Option<OsString>,
}

impl Value {
    fn path(self) -> PathBuf {
        self.raw.unwrap_or_default().into()
    }

    fn text(self) -> Result<String> {
        let flag = self.flag;
        let raw = self.raw.unwrap_or_default();
        raw.into_string().map_err(|raw| anyhow!("--{flag} {}: not UTF-8", raw.display()))
    }

    /// The text after `=`, or none at all.
    fn optional(self) -> Result<String> {
        if self.raw.is_none() { Ok(String::new()) } else { self.text() }
    }

    fn parse<T: std::str::FromStr>(self, expected: &str) -> Result<T> {
        let flag = self.flag;
        let text = self.text()?;
        text.trim().parse().map_err(|_| anyhow!("--{flag} {text}: expected {expected}"))
    }

    /// A tracker has its port here, everybody else has `--port`. The command may still follow.
    fn listen(self, args: &mut Args) -> Result<()> {
        let text = self.text()?;
        let at = text.trim();
        args.listen = at.parse().ok();
        args.listen_at = at.parse().ok();
        let expected = match (args.command, args.listen, args.listen_at) {
            ("tracker", _, None) => "IP:PORT",
            ("" | "tracker", _, Some(_)) | (_, Some(_), _) => return Ok(()),
            ("", ..) => "an IP address, or IP:PORT",
            _ => "an IP address",
        };
        bail!("--listen {text}: expected {expected}")
    }

    fn split(self) -> Result<Vec<Value>> {
        let flag = self.flag;
        let value = |one: &str| Value { flag, raw: Some(one.trim().into()) };
        Ok(self.text()?.split(',').map(value).collect())
    }

    fn seconds(self) -> Result<Duration> {
        let flag = self.flag;
        let seconds: f64 = self.parse("seconds")?;
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time <= Duration::from_secs(366 * 86_400) => Ok(time),
            _ => bail!("--{flag} {seconds}: expected 0 to 31622400 seconds"),
        }
    }

    /// A number of 0 to a million, with a point or without.
    fn fraction(self) -> Result<f64> {
        let flag = self.flag;
        let number: f64 = self.parse("a number")?;
        if (0.0..=1e6).contains(&number) {
            Ok(number)
        } else {
            bail!("--{flag} {number}: expected 0 to 1000000")
        }
    }

    /// Bytes, with `K` or `M` for powers of 1024.
    fn size(self) -> Result<u32> {
        let flag = self.flag;
        let text = self.text()?;
        let size = bytes(&text).and_then(|size| u32::try_from(size).ok());
        size.with_context(|| format!("--{flag} {text}: expected a size such as 262144, 256K or 1M"))
    }

    /// Bytes a second, with `K`, `M` or `G` for powers of 1024.
    fn rate(self) -> Result<u64> {
        let flag = self.flag;
        let text = self.text()?;
        bytes(&text).with_context(|| format!("--{flag} {text}: expected a rate such as 500K or 2M"))
    }
}

/// A number with `K`, `M` or `G` for powers of 1024, with or without the `B` or `iB` behind it.
fn bytes(text: &str) -> Option<u64> {
    let trimmed = text.trim().trim_end_matches("iB").trim_end_matches('B');
    let (digits, unit) = match trimmed.char_indices().last()? {
        (at, 'k' | 'K') => (&trimmed[..at], 1 << 10),
        (at, 'm' | 'M') => (&trimmed[..at], 1 << 20),
        (at, 'g' | 'G') => (&trimmed[..at], 1 << 30),
        _ => (trimmed, 1u64),
    };
    let number: f64 = digits.trim().parse().ok()?;
    let bytes = number * unit as f64;
    (0.0..=1e15).contains(&bytes).then_some(bytes as u64)
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
        assert_eq!(said("show x --port 1"), "--port belongs to get, seed, not to show");
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
