//! What the user sees of a running session: lines and a live line, or JSON.
//!
//! Layer: programs.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::flags::Args;
use super::help::wrapped;
use super::{Exit, events, fetch, look};
use crate::printable::printable;
use crate::progress::{self, Progress};
use crate::session::{Found, Outcome, Summary, Update};
use crate::swarm::{Account, BanReason, Decision, Snapshot, Status};
use crate::terminal;
use crate::trace::Trace;
use crate::tracker::Report;
use crate::units::{self, count};

/// How often a `progress` object is printed with `--json`.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// How many peers `--verbose` lists at the end.
const ACCOUNTS_SHOWN: usize = 20;

/// How often the map of pieces is made anew, and the table of peers is printed (`-vv`).
const MAP_EVERY: Duration = Duration::from_millis(500);
const TABLE_EVERY: Duration = Duration::from_secs(10);

/// How many bans the last words repeat.
const BAD_SHOWN: usize = 5;

/// What the user sees of it.
pub struct View {
    progress: Progress,
    json: bool,
    verbose: bool,
    quiet: bool,
    /// It only gives.
    seeds: bool,
    last_json: Option<Instant>,
    /// When the map is due; `None`: nobody wants it.
    map_due: Option<Instant>,
    /// When the table is due (`-vv`), and whether it is waited for.
    table_due: Option<Instant>,
    table: bool,
    explain_map: bool,
    /// Pieces that were bad, and who sent them.
    bad: Vec<String>,
}

impl View {
    pub fn new(args: &Args, trace: &Trace) -> View {
        let now = Instant::now();
        View {
            // Lines of a trace would tear the live line apart.
            progress: Progress::new(args.quiet || args.json, !trace.is_shown()),
            json: args.json,
            verbose: args.verbose != 0,
            quiet: args.quiet,
            seeds: args.command == "seed",
            last_json: None,
            map_due: (args.verbose != 0 && !args.json && !args.quiet && !trace.is_on())
                .then_some(now),
            table_due: (1 < args.verbose && !args.json).then_some(now + TABLE_EVERY),
            table: false,
            explain_map: true,
            bad: Vec::new(),
        }
    }

    /// The torrent's name, for the live line.
    pub fn name(&mut self, name: &str) {
        self.progress.name(name);
    }

    /// Whether it is time to look at the swarm, and in how many cells; `asked`: the user wants to see
    /// the peers now.
    pub fn wants_to_look(&mut self, asked: bool) -> Option<usize> {
        let now = Instant::now();
        let due = |at: &mut Option<Instant>, every| {
            let due = at.is_some_and(|at| at <= now);
            *at = if due { Some(now + every) } else { *at };
            due
        };
        let table = due(&mut self.table_due, TABLE_EVERY) || asked;
        self.table |= table;
        let map = due(&mut self.map_due, MAP_EVERY);
        (table || map).then(|| self.progress.map_len())
    }

    fn look(&mut self, snapshot: &Snapshot) {
        if self.map_due.is_some() {
            self.progress.map(look::map(&snapshot.map));
            if std::mem::take(&mut self.explain_map) {
                self.progress.legend(wrapped(look::LEGEND, self.progress.columns()));
            }
        }
        if std::mem::take(&mut self.table) {
            let lines = look::table(snapshot, self.progress.columns());
            lines.iter().for_each(|line| self.progress.say(line));
        }
    }

    pub fn update(&mut self, update: Update) -> Result<()> {
        if let Update::Decided(Decision::Ban { addr, reason }) = &update
            && *reason != BanReason::Ourselves
            && self.bad.len() < BAD_SHOWN
        {
            self.bad.push(format!("{addr} was banned: {reason}"));
        }
        if self.json {
            return self.update_json(&update);
        }
        match update {
            Update::Look(snapshot) => self.look(&snapshot),
            Update::Checking { done, total } => {
                self.progress.hashing("checking what is there", done, total)
            }
            Update::Searching(search) => self.progress.searching(&search.to_string()),
            Update::Metadata(torrent) => {
                self.progress.name(&torrent.name);
                self.progress.say(&format!("metadata: {}", fetch::text(&torrent)));
            }
            Update::Found(found) => {
                found_line(&found, self.seeds).iter().for_each(|l| self.progress.say(l))
            }
            Update::Status(status) => self.progress.status(&status),
            Update::Complete(status) => self.progress.say(&format!(
                "complete: {} {} here and verified; giving back until the goal or Ctrl-C",
                units::all(status.pieces.into(), "piece"),
                if status.pieces == 1 { "is" } else { "are" }
            )),
            Update::Listening { port, .. } if self.verbose => {
                self.progress.say(&format!("listening at port {port}"));
            }
            Update::Tracker(report) if self.verbose || is_bad(&report) => {
                self.progress.say(&report.to_string());
            }
            Update::Dht(report) if self.verbose => self.progress.say(&report.to_string()),
            Update::PortMap(report) if self.verbose => self.progress.say(&report.to_string()),
            Update::Decided(decision) if self.verbose || decision.matters() => {
                self.progress.say(&decision.to_string());
            }
            Update::Listening { .. }
            | Update::Stored { .. }
            | Update::Tracker(_)
            | Update::Dht(_)
            | Update::PortMap(_)
            | Update::Decided(_) => {}
        }
        Ok(())
    }

    fn update_json(&mut self, update: &Update) -> Result<()> {
        if let Update::Look(snapshot) = update {
            return match std::mem::take(&mut self.table) {
                true => events::print(events::peers(snapshot)),
                false => Ok(()),
            };
        }
        if let Update::Status(_) | Update::Searching(_) = update {
            if self.last_json.is_some_and(|last| last.elapsed() < JSON_EVERY) {
                return Ok(());
            }
            self.last_json = Some(Instant::now());
        }
        events::print(events::of(update))
    }

    /// Takes the live line away, for the last words.
    pub fn finish(&mut self) {
        self.progress.finish();
    }

    /// The last word. `place` is where the data is kept, if it is.
    /// `again` is the command that gives it back.
    pub fn end(
        &mut self,
        name: &str,
        place: Option<&str>,
        again: Option<&str>,
        summary: &Summary,
    ) -> Result<Exit> {
        let status = &summary.status;
        let (exit, event) = match summary.outcome {
            Outcome::Complete => (Exit::Done, "complete"),
            // As for `head`: whoever has read enough is content.
            Outcome::ReaderLeft => (Exit::Done, "reader_left"),
            Outcome::Stopped => (Exit::Interrupted, "interrupted"),
            Outcome::GaveUp => (Exit::GaveUp, "gave_up"),
        };
        if self.json {
            events::print(events::end(event, place, summary))?;
        } else if !self.quiet {
            if self.verbose {
                let lines = summary.accounts.iter().take(ACCOUNTS_SHOWN).map(account_line);
                lines.for_each(|line| self.progress.say(&line));
                for (url, bytes) in &summary.web_seeds {
                    self.progress.say(&format!("from {url} {}", units::size(*bytes)));
                }
            }
            self.bad.iter().for_each(|line| self.progress.say(line));
            self.progress.put(&last_line(name, place, again, summary));
        }
        if summary.outcome == Outcome::GaveUp {
            bail!(GaveUp(status.stuck.as_ref().map_or(String::new(), |why| format!(": {why}"))));
        }
        Ok(exit)
    }
}

/// Nothing came within `--stop-timeout`; the text says why, as far as it is known.
#[derive(Debug)]
pub struct GaveUp(String);

impl std::fmt::Display for GaveUp {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "gave up: nothing came within --stop-timeout{}", self.0)
    }
}

impl std::error::Error for GaveUp {}

/// Whether a tracker's report goes into the log without `-v`.
fn is_bad(report: &Report) -> bool {
    match report {
        Report::Failed { .. } | Report::Ignored { .. } => true,
        Report::Answered { warning, .. } => warning.is_some(),
        Report::Asking { .. } => false,
    }
}

fn found_line(found: &Found, seeds: bool) -> Option<String> {
    let Found { have, pieces, different, resumed } = *found;
    let pieces = count(pieces.into(), "piece");
    let how = if resumed { "a resume file vouches for" } else { "found" };
    match (have, different) {
        (0, 0) => None,
        (_, 0) => Some(format!("{how} {have} of {pieces} in place")),
        (_, n) => {
            let (are, differ) = if n == 1 { ("is", "differs") } else { ("are", "differ") };
            let what = if seeds { "cannot be given" } else { "will be replaced" };
            Some(format!(
                "{how} {have} of {pieces} in place; {n} that {are} there {are} unfinished or \
                 {differ}, and {what}"
            ))
        }
    }
}

fn last_line(name: &str, place: Option<&str>, again: Option<&str>, summary: &Summary) -> String {
    let name = terminal::isolated(&printable(name));
    let status = &summary.status;
    let complete = status.have == status.pieces && status.pieces != 0;
    match summary.outcome {
        Outcome::ReaderLeft => format!(
            "{name}: whoever read it has left; {} of {} were here",
            status.have,
            count(status.pieces.into(), "piece")
        ),
        Outcome::Complete if status.downloaded == 0 && status.uploaded == 0 => {
            let were = if status.pieces == 1 { "was" } else { "were" };
            let pieces = units::all(status.pieces.into(), "piece");
            format!("{name}: complete; {pieces} {were} there and verified")
        }
        _ if complete && status.downloaded == 0 => {
            format!("{name}: complete, {} in {}", given(status), time(summary))
        }
        _ if complete => {
            let rate = status.downloaded as f64 / summary.time.as_secs_f64().max(0.001);
            let bad = match status.corrupt {
                0 => String::new(),
                1 => ", 1 piece failed its hash and was fetched again".to_owned(),
                n => format!(", {n} pieces failed their hash and were fetched again"),
            };
            let web = match (status.downloaded - status.web_seed_bytes, status.web_seed_bytes) {
                (_, 0) => String::new(),
                (0, _) => ", all from web seeds".to_owned(),
                (_, web) => format!(", {} of it from web seeds", units::size(web)),
            };
            let again = again.map_or(String::new(), |again| format!("; give back: {again}"));
            format!(
                "{name}: complete, {}{} in {} at {}/s{web}{bad}; {}{again}",
                units::size(status.downloaded),
                sources(&summary.accounts),
                time(summary),
                units::size(rate as u64),
                given(status)
            )
        }
        _ if status.pieces == 0 => {
            "stopped before the metadata of the magnet link was here".to_owned()
        }
        _ => {
            let how_much =
                format!("stopped: {} of {}", status.have, count(status.pieces.into(), "piece"));
            match place.map(printable) {
                Some(place) => {
                    format!("{how_much} are verified and kept in {place}; the same command goes on")
                }
                None => format!("{how_much} were here; nothing is kept"),
            }
        }
    }
}

/// How many sent us something.
fn sources(accounts: &[Account]) -> String {
    match accounts.iter().filter(|account| account.received != 0).count() {
        0 => String::new(),
        n => format!(" from {}", count(n as u64, "peer")),
    }
}

/// What was given back, and how that compares to what there is.
fn given(status: &Status) -> String {
    let ratio = status.uploaded as f64 / status.total_bytes.max(1) as f64;
    format!("uploaded {}, ratio {ratio:.2}", units::size(status.uploaded))
}

fn time(summary: &Summary) -> String {
    let seconds = summary.time.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.1} s") } else { progress::time(summary.time) }
}

fn account_line(account: &Account) -> String {
    let Account { client, addr, received, sent, .. } = account;
    let (received, sent) = (units::size(*received), units::size(*sent));
    format!("from {addr} ({client}) {received}, to it {sent}")
}
