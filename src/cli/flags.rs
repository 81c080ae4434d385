//! The command line: one table of commands and one of flags, from which the parser, the help, the
//! man page and the completions are made. A flag that is not in the table does not exist; its help
//! cannot be forgotten.
//!
//! Names and habits are aria2c's where it has one, else those of transmission-cli and rqbit.
//!
//! Layer: programs.

mod table;
mod value;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use table::{COMMANDS, FLAGS};
use table::{HABITS, OPPOSITES};
use value::Value;

use crate::address_book::Source;
use crate::dial::Dialler;
use crate::hostport::HostPort;
use crate::lab::Knobs;
use crate::proxy::Proxy;
use crate::select::Selection;

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
    pub no_webseed: bool,
    pub no_dht: bool,
    /// Instead of the well-known nodes of the DHT.
    pub dht_bootstrap: Vec<HostPort>,
    pub no_lsd: bool,
    /// Whom to ask for peers; none: the usual.
    pub from: Vec<Source>,
    pub no_pex: bool,
    pub no_port_map: bool,
    pub proxy: Option<Proxy>,
    pub max_peers: Option<u16>,
    pub stop_timeout: Option<Duration>,
    /// Go on uploading until so many sizes of the torrent have gone out, or for so long.
    pub seed_ratio: Option<f64>,
    pub seed_time: Option<Duration>,
    pub keep_seeding: bool,
    /// What to run when a download is complete.
    pub on_complete: Option<OsString>,
    pub super_seed: bool,
    /// The files to fetch; all, unless given.
    pub select: Selection,
    pub list: bool,
    /// Of the lab.
    pub rng: Option<u64>,
    pub leechers: Option<u16>,
    pub lab: Knobs,
    pub html: Option<PathBuf>,
    pub sequential: bool,
    /// Bytes a second; 0 means no limit.
    pub max_download_limit: u64,
    pub max_upload_limit: u64,
    pub check: bool,
    pub piece_hashes: bool,
    pub web_seeds: Vec<String>,
    pub piece_length: Option<u32>,
    pub pad: bool,
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
    /// The only piece that is wanted.
    pub piece: Option<u32>,
    pub trace_file: Option<PathBuf>,
    /// What `decode` is told to take its input for.
    pub decode_as: Option<crate::explain::Kind>,
    pub explain: bool,
    pub hex: bool,
    pub json: bool,
    pub quiet: bool,
    pub verbose: u8,
}

impl Args {
    /// How everything that is dialled goes out.
    pub fn dialler(&self) -> Dialler {
        Dialler::new(self.proxy.clone(), self.listen)
    }
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

/// Reads a command line (without the program's name). Flags may come before their command: what they
/// mean is decided when all has been read.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args> {
    let mut args = Args::default();
    let mut given = Vec::new();
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(word) = parser.next()? {
        let (flag, name, long, opposite) = match word {
            lexopt::Arg::Value(word) if !args.command.is_empty() => {
                args.operands.push(word);
                continue;
            }
            lexopt::Arg::Value(word) if word == "help" => {
                args.help = Some(Help::Long);
                continue;
            }
            // `piecemeal x.torrent`: what is plainly a torrent is to be downloaded.
            lexopt::Arg::Value(word) if is_torrent(&word) => {
                args.command = "get";
                args.operands.push(word);
                continue;
            }
            lexopt::Arg::Value(word) => {
                args.command = command_named(&word)?;
                continue;
            }
            // `-h` is the short help, the long form the long one; all else is the table's.
            lexopt::Arg::Short('h') => {
                args.help = Some(Help::Short);
                continue;
            }
            lexopt::Arg::Short(letter) => {
                let name = letter.to_string();
                let (named, opposite) = opposite(&name).map_or((&*name, false), |own| (own, true));
                let flag = flag_named(named, args.command).with_context(|| {
                    let unknown = format!("unknown option -{letter}");
                    hint(args.command, &name, &unknown).unwrap_or(unknown)
                })?;
                (flag, name, false, opposite)
            }
            lexopt::Arg::Long(name) => {
                let (named, opposite) = opposite(name).map_or((name, false), |own| (own, true));
                let flag = flag_named(named, args.command).filter(|_| 1 < name.len());
                let flag = flag.with_context(|| {
                    let unknown = unknown("option --", name, long_names());
                    hint(args.command, name, &unknown).unwrap_or(unknown)
                })?;
                (flag, name.to_owned(), true, opposite)
            }
        };
        let raw = match flag.value {
            None if opposite != (!long || is_on(flag, parser.optional_value())?) => None,
            None => continue,
            Some(name) if name.starts_with('[') => parser.optional_value(),
            Some(name) => {
                let value = parser.value().ok();
                Some(value.with_context(|| format!("--{} needs a value: {name}", flag.long))?)
            }
        };
        given.push((flag, raw, name));
    }
    for (flag, raw, name) in given {
        let flag = of_command(flag, args.command);
        check_place(&args, flag, &name)?;
        (flag.set)(&mut args, Value { flag: flag.long, raw })?;
    }
    Ok(args)
}

/// A switch is on, but for `--switch=false`; aria2 has its switches so.
fn is_on(flag: &Flag, value: Option<OsString>) -> Result<bool> {
    match value.as_ref().map(|value| value.to_string_lossy()).as_deref() {
        None | Some("true" | "yes") => Ok(true),
        Some("false" | "no") => Ok(false),
        Some(value) => {
            let value = crate::printable::clipped(value, 40);
            bail!("--{} {value}: expected nothing, true or false", flag.long)
        }
    }
}

/// Whether the first word needs no command before it: nothing but a torrent is written so.
fn is_torrent(word: &OsString) -> bool {
    let text = word.to_string_lossy();
    let command = COMMANDS.iter().any(|c| c.name == text || c.aliases.contains(&&*text));
    // A path is one, even if it leads nowhere.
    let looks = text == "-" || text.contains('/') || text.starts_with("magnet:");
    !command && (looks || text.ends_with(".torrent") || Path::new(word).is_file())
}

/// A flag that its command does not know is an error, not a wish that is silently ignored.
fn check_place(args: &Args, flag: &Flag, name: &str) -> Result<()> {
    if !args.command.is_empty() && !flag.is_on(args.command) {
        let (on, command) = (flag.on.join(", "), args.command);
        let misplaced = format!("--{} belongs to {on}, not to {command}", flag.long);
        bail!(hint(command, name, &misplaced).unwrap_or(misplaced));
    }
    Ok(())
}

impl Flag {
    /// Whether it belongs to a command.
    pub fn is_on(&self, command: &str) -> bool {
        self.on.is_empty() || self.on.contains(&command)
    }

    /// Whether it answers to a name, or to a letter.
    fn is_called(&self, name: &str) -> bool {
        let mut letter = [0; 4];
        let short = self.short.map(|short| &*short.encode_utf8(&mut letter));
        self.long == name || short == Some(name) || self.aliases.contains(&name)
    }

    /// All its letters.
    pub fn letters(&self) -> impl Iterator<Item = char> {
        let one = |alias: &&str| alias.len() == 1;
        let aliases = self.aliases.iter().filter(move |a| one(a)).flat_map(|a| a.chars());
        self.short.into_iter().chain(aliases)
    }

    /// All its names that are written with two dashes, the first of them its own.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let aliases = self.aliases.iter().copied().filter(|alias| 1 < alias.len());
        std::iter::once(self.long).chain(aliases)
    }
}

/// The flag of that name or letter; of several that share a letter, the one of the command.
fn flag_named(name: &str, command: &str) -> Option<&'static Flag> {
    let mut called = FLAGS.iter().filter(|flag| flag.is_called(name));
    let first = called.clone().next();
    called.find(|flag| flag.is_on(command)).or(first)
}

/// The flag of a command that shares its letter with this one, which was written before the command.
fn of_command(flag: &'static Flag, command: &str) -> &'static Flag {
    let other = |other: &&Flag| {
        let takes = other.value.is_some() == flag.value.is_some();
        takes && other.is_on(command) && other.letters().any(|c| flag.letters().any(|d| c == d))
    };
    if flag.is_on(command) { flag } else { FLAGS.iter().find(other).unwrap_or(flag) }
}

/// Our switch that says the opposite of one of another client.
fn opposite(name: &str) -> Option<&'static str> {
    OPPOSITES.iter().find(|(other, _)| *other == name).map(|(_, own)| *own)
}

/// What to write instead of a flag of another client that has no equal here; `wrong` is what is the
/// matter with it.
fn hint(command: &str, name: &str, wrong: &str) -> Option<String> {
    let of_command = format!("{command}:{name}");
    let found = |name: &str| HABITS.iter().find(|(names, _)| names.contains(&name));
    let (_, hint) = found(&of_command).or_else(|| found(name))?;
    Some(format!("{}: {hint}", wrong.split(';').next().unwrap_or_default()))
}

fn long_names() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().flat_map(Flag::names)
}

fn command_named(word: &OsString) -> Result<&'static str> {
    let word = word.to_string_lossy();
    let names = || COMMANDS.iter().flat_map(|c| c.aliases.iter().chain([&c.name])).copied();
    COMMANDS
        .iter()
        .find(|command| command.name == word || command.aliases.contains(&&*word))
        .map(|command| command.name)
        .with_context(|| unknown("command ", &word, names()))
}

/// "unknown X", with the nearest name that exists if one is near. `kind` ends with what is written
/// before the word ("option --"); only that is repeated before the suggestion.
fn unknown(kind: &str, word: &str, names: impl Iterator<Item = &'static str>) -> String {
    let word = crate::printable::clipped(word, 40);
    let dashes = kind.rsplit(' ').next().unwrap_or_default();
    let nearest =
        names.map(|name| (distance(&word, name), name.get(..1) != word.get(..1), name)).min();
    match nearest {
        Some((steps, _, name)) if steps <= 2 && steps < name.len() => {
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
        assert_eq!(
            said("get x --port 99999"),
            "--port 99999: expected a port, 1 to 65535, or 0 for any; or FIRST-LAST"
        );
        assert_eq!(
            said("create x --port 1"),
            "--port belongs to get, seed, peers, show, verify, not to create"
        );
        assert_eq!(
            said("--port 1 create x"),
            "--port belongs to get, seed, peers, show, verify, not to create"
        );
        assert_eq!(said("get x --max-peers 0"), "--max-peers 0: 1 to 1000");
        assert_eq!(said("--listen eth0 get x"), "--listen eth0: expected IP or IP:PORT");
        assert_eq!(said("get x --check=maybe"), "--check maybe: expected nothing, true or false");
        assert!(said("-x 16 x.torrent").starts_with("unknown option -x: "));
        assert!(said("get --d x").starts_with("unknown option --d"));
    }

    #[test]
    fn what_users_of_other_clients_write() {
        let read = |line: &str| args(line).unwrap();
        // aria2c
        let a =
            read("-d /data --seed-time=0 --max-upload-limit=50K --check-integrity=true x.torrent");
        assert_eq!((a.command, &*a.operands), ("get", &["x.torrent".into()][..]));
        assert_eq!((a.dir, a.check, a.max_upload_limit), (Some("/data".into()), true, 51_200));
        assert!(read("-S x.torrent").list && read("--show-files magnet:?xt=1").list);
        let a = read("-V --bt-tracker=http://a,http://b --continue=true x.torrent");
        assert_eq!((a.check, a.version, a.announce.len()), (true, false, 1));
        assert_eq!(read("--hash-check-only=true x.torrent").command, "verify");
        assert!(!read("get x --check=false").check);
        assert!(read("-V").version);
        // transmission-cli, transmission-show, transmission-create, mktorrent
        let a = read("-w /data -f ./done.sh -p 7000 http://localhost/x");
        assert_eq!((a.dir, a.port, a.command), (Some("/data".into()), Some(7000), "get"));
        assert_eq!(read("info x").command, "show");
        let a = read("create -p -t udp://a -w http://b x");
        assert_eq!((a.private, a.announce.len(), a.web_seeds.len()), (true, 1, 1));
        assert_eq!(read("-w http://b create x").web_seeds, ["http://b"]);
        let a = read(
            "create --input x --outfile y -r tag --announce-tier udp://a,udp://b --no-creation-date",
        );
        assert_eq!((a.operands.len(), a.no_date, a.source), (1, true, Some("tag".to_owned())));
        assert!(read("get -M x").no_port_map && !read("get -m --portmap x").no_port_map);
        assert!(!read("get --no-uplimit --sequential-download x").no_port_map);
        let a = read("--enable-dht=false --bt-enable-lpd --enable-peer-exchange=false -T x");
        assert_eq!((a.no_dht, a.no_lsd, a.no_pex, a.command), (true, false, true, "get"));
        let said = |line: &str| format!("{:#}", args(line).unwrap_err());
        for (line, instead) in [
            ("create -s 256 x", "--select-file belongs to get, seed, verify, not to create: --so"),
            ("create -l 18 x", "unknown option -l: --piece-length 256K"),
            ("create -x x", "unknown option -x: --source TEXT"),
            ("get --index-out=1=a x", "unknown option --index-out: -s N -o FILE"),
            ("get --bt-save-metadata=true x", "unknown option --bt-save-metadata: --save-torrent"),
        ] {
            assert!(said(line).starts_with(instead), "{}", said(line));
        }
        let a = read("seed x --listen 127.0.0.1:7000");
        assert_eq!((a.listen, a.port), ("127.0.0.1".parse().ok(), Some(7000)));
        assert_eq!(read("tracker --listen [::1]").listen_at, "[::1]:6969".parse().ok());
        let taken = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let port = taken.local_addr().unwrap().port().min(65_000);
        let first = read(&format!("get x --listen-port={port}-65535")).port.unwrap();
        assert!(port <= first && first != taken.local_addr().unwrap().port());
        // webtorrent, rqbit
        assert!(read("download x --keep-seeding").keep_seeding);
        assert_eq!(read("download --output-folder /data x").dir, Some("/data".into()));
        assert_eq!(read("help get").help, Some(Help::Long));
    }

    #[test]
    fn no_name_is_given_twice() {
        let unique = |mut names: Vec<String>, of: &str| {
            names.sort_unstable();
            let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
            assert_eq!(twice, None, "of {of}");
        };
        unique(FLAGS.iter().flat_map(Flag::names).map(str::to_owned).collect(), "all");
        for command in COMMANDS {
            let own = FLAGS.iter().filter(|flag| flag.is_on(command.name));
            unique(own.flat_map(Flag::letters).map(String::from).collect(), command.name);
        }
        let commands = COMMANDS.iter().flat_map(|c| c.aliases.iter().chain([&c.name]));
        unique(commands.map(|name| (*name).to_owned()).collect(), "commands");
    }
}
