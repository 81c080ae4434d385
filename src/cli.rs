//! The programs: `piecemeal get`, `show`, `verify` and the others, one file each.
//!
//! A command takes the [`Args`] and ends with an [`Exit`] or an error. Results go to standard
//! output, progress and logs to standard error; an error is one line there, printed here and
//! nowhere else.
//!
//! Layer: programs.

mod completions;
mod create;
mod decode;
mod events;
mod exit;
mod fetch;
pub mod flags;
mod get;
mod handshake;
mod help;
mod hook;
pub mod input;
mod lab;
mod look;
mod man;
mod output;
mod peers;
mod place;
mod show;
mod signals;
mod tracker;
mod verify;
mod view;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use anyhow::Result;

pub use exit::Exit;
use flags::Args;
use output::Output;

use crate::printable::{clipped, printable};
use crate::terminal::eprint_line;

/// The whole program: reads the command line, runs the command, reports how it ended.
pub fn main() -> ExitCode {
    let args = match flags::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(err) => {
            let json = std::env::args_os().any(|word| word == "--json");
            return report(json, &err, Exit::Usage);
        }
    };
    // Their output is the answer or nothing, or the data itself.
    let data = place::is_stream(&args) || ["show", "decode"].contains(&args.command);
    let json = args.json && !data;
    match run(&args) {
        Ok(exit) => exit.into(),
        // The reader of our output has left, and knows that better than we do.
        Err(err) if output::is_closed_pipe(&err) => Exit::Done.into(),
        Err(err) if err.is::<Misuse>() => report(json, &err, Exit::Usage),
        Err(err) if err.is::<view::GaveUp>() => report(json, &err, Exit::GaveUp),
        Err(err) => report(json, &err, Exit::Failed),
    }
}

fn run(args: &Args) -> Result<Exit> {
    if let Some(kind) = args.help {
        return print(&help::text(args, kind));
    }
    if args.version {
        return print(&format!("piecemeal {}\n", env!("CARGO_PKG_VERSION")));
    }
    let asks = |word: &OsString| word.to_string_lossy().contains("://");
    let asks = ["get", "seed", "peers"].contains(&args.command) || args.operands.iter().any(asks);
    if asks {
        crate::web::check_environment(args.proxy.is_none()).map_err(Misuse)?;
    }
    match args.command {
        "get" => get::run(args),
        "seed" => get::seed(args),
        "create" => create::run(args),
        "show" => show::run(args),
        "verify" => verify::run(args),
        "tracker" => tracker::run(args),
        "decode" => decode::run(args),
        "peers" => peers::run(args),
        "handshake" => handshake::run(args),
        "lab" => lab::run(args),
        "completions" => completions(args),
        "man" => print(&man::page()),
        _ => {
            eprint_line(&help::text(args, flags::Help::Short));
            Ok(Exit::Usage)
        }
    }
}

/// The command line is wrong, which shows only when the torrent is known.
#[derive(Debug)]
pub struct Misuse(String);

impl std::fmt::Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// The one operand that a command takes. If there is none, or more than one, `None`, and standard
/// error has said so: the command ends with [`Exit::Usage`].
fn one_operand(args: &Args) -> Option<&OsStr> {
    match args.operands.as_slice() {
        [operand] => Some(operand),
        others => {
            let (command, count) = (args.command, others.len());
            eprint_line(&format!(
                "piecemeal: {command} takes one operand, not {count}; see piecemeal {command} --help"
            ));
            None
        }
    }
}

fn completions(args: &Args) -> Result<Exit> {
    let Some(shell) = one_operand(args) else { return Ok(Exit::Usage) };
    match completions::script(&shell.to_string_lossy()) {
        Some(script) => print(&script),
        None => {
            let (shell, shells) = (clipped(&shell.to_string_lossy(), 40), completions::SHELLS);
            eprint_line(&format!("piecemeal: {shell}: completions are for {}", shells.join(", ")));
            Ok(Exit::Usage)
        }
    }
}

fn print(text: &str) -> Result<Exit> {
    let mut output = Output::new();
    output.line(text.trim_end())?;
    output.finish()?;
    Ok(Exit::Done)
}

/// One line on standard error, whatever strangers put into the message; for `--json` an object too.
fn report(json: bool, err: &anyhow::Error, exit: Exit) -> ExitCode {
    let message = printable(&format!("{err:#}"));
    if json {
        let _ = events::print(events::error(&message, exit));
    }
    eprint_line(&format!("piecemeal: {message}"));
    exit.into()
}
