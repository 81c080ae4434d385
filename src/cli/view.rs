//! What the user sees of a running session: lines and a live line, or JSON.
//!
//! Layer: programs.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Exit;
use super::flags::Args;
use super::output::Output;
use crate::json::{self, Object};
use crate::printable::printable_bytes;
use crate::progress::{self, Progress};
use crate::session::{Found, Outcome, Summary, Update};
use crate::swarm::{Account, Decision, Status};
use crate::trace::Trace;
use crate::tracker::Report;
use crate::units;

/// How often a `progress` object is printed with `--json`.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// How many peers `--verbose` lists at the end.
const ACCOUNTS_SHOWN: usize = 20;

/// What the user sees of it.
pub struct View {
    progress: Progress,
    json: bool,
    verbose: bool,
    quiet: bool,
    last_json: Option<Instant>,
}

impl View {
    pub fn new(args: &Args, trace: &Trace) -> View {
        View {
            // Lines of a trace would tear the live line apart.
            progress: Progress::new(args.quiet || args.json, !trace.is_on()),
            json: args.json,
            verbose: args.verbose != 0,
            quiet: args.quiet,
            last_json: None,
        }
    }

    /// The torrent's name, for the live line.
    pub fn name(&mut self, name: &str) {
        self.progress.name(name);
    }

    pub fn update(&mut self, update: Update) -> Result<()> {
        if self.json {
            return self.update_json(&update);
        }
        match update {
            Update::Checking { done, total } => self.progress.hashing("checking what is there", done, total),
            Update::Found(found) => found_line(&found).iter().for_each(|l| self.progress.say(l)),
            Update::Status(status) => self.progress.status(&status),
            Update::Complete(status) => self.progress.say(&format!(
                "complete: all {} pieces are here and verified; giving back until the goal or Ctrl-C",
                status.pieces
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
            | Update::Tracker(_)
            | Update::Dht(_)
            | Update::PortMap(_)
            | Update::Decided(_) => {}
        }
        Ok(())
    }

    fn update_json(&mut self, update: &Update) -> Result<()> {
        let object = match update {
            Update::Status(status) => {
                if self.last_json.is_some_and(|last| last.elapsed() < JSON_EVERY) {
                    return Ok(());
                }
                self.last_json = Some(Instant::now());
                status_json("progress", status)
            }
            Update::Complete(status) => status_json("complete", status),
            Update::Checking { done, total } => {
                Object::new().str("event", "checking").num("done", *done).num("total", *total)
            }
            Update::Found(found) => Object::new()
                .str("event", "found")
                .num("have", found.have)
                .num("pieces", found.pieces)
                .num("different", found.different)
                .bool("resumed", found.resumed),
            Update::Listening { port, peer_id } => Object::new()
                .str("event", "listening")
                .num("port", *port)
                .str("peer_id", &printable_bytes(&peer_id.0)),
            Update::Tracker(report) => {
                Object::new().str("event", "tracker").str("message", &report.to_string())
            }
            Update::Dht(report) => {
                Object::new().str("event", "dht").str("message", &report.to_string())
            }
            Update::PortMap(report) => {
                Object::new().str("event", "port_map").str("message", &report.to_string())
            }
            Update::Decided(decision) => decision_json(decision),
        };
        print(&object.done())
    }

    /// Takes the live line away, for the last words.
    pub fn finish(&mut self) {
        self.progress.finish();
    }

    /// The last word. `place` is where the data is kept, if it is.
    pub fn end(&mut self, name: &str, place: Option<&str>, summary: &Summary) -> Result<Exit> {
        let status = &summary.status;
        let (exit, event) = match summary.outcome {
            Outcome::Complete => (Exit::Done, "complete"),
            // As for `head`: whoever has read enough is content.
            Outcome::ReaderLeft => (Exit::Done, "reader_left"),
            Outcome::Stopped => (Exit::Interrupted, "interrupted"),
            Outcome::GaveUp => (Exit::GaveUp, "gave_up"),
        };
        if self.json {
            let time = format!("{:.3}", summary.time.as_secs_f64());
            let accounts = json::array(summary.accounts.iter().map(account_json));
            let object =
                status_json(event, status).str_or_null("path", place).raw("seconds", &time);
            print(&object.raw("peers_used", &accounts).done())?;
        } else if !self.quiet {
            if self.verbose {
                let lines = summary.accounts.iter().take(ACCOUNTS_SHOWN).map(account_line);
                lines.for_each(|line| self.progress.say(&line));
            }
            self.progress.say(&last_line(name, place, summary));
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

fn found_line(found: &Found) -> Option<String> {
    let Found { have, pieces, different, resumed } = *found;
    let how = if resumed { "a resume file vouches for" } else { "found" };
    match (have, different) {
        (0, 0) => None,
        (_, 0) => Some(format!("{how} {have} of {pieces} pieces in place")),
        _ => Some(format!(
            "{how} {have} of {pieces} pieces in place; {different} that are there are unfinished \
             or differ, and will be replaced"
        )),
    }
}

fn last_line(name: &str, place: Option<&str>, summary: &Summary) -> String {
    let status = &summary.status;
    let complete = status.have == status.pieces;
    match summary.outcome {
        Outcome::ReaderLeft => format!(
            "{name}: whoever read it has left; {} of {} pieces were here",
            status.have, status.pieces
        ),
        Outcome::Complete if status.downloaded == 0 && status.uploaded == 0 => {
            format!("{name}: complete; all {} pieces were there and verified", status.pieces)
        }
        _ if complete && status.downloaded == 0 => {
            format!("{name}: complete, {} in {}", given(status), time(summary))
        }
        _ if complete => {
            let rate = status.downloaded as f64 / summary.time.as_secs_f64().max(0.001);
            let bad = match status.corrupt {
                0 => String::new(),
                n => format!(", {n} pieces failed their hash and were fetched again"),
            };
            format!(
                "{name}: complete, {} in {} at {}/s{bad}; {}; give back: piecemeal seed",
                units::size(status.downloaded),
                time(summary),
                units::size(rate as u64),
                given(status)
            )
        }
        _ => {
            let how_much = format!("stopped: {} of {} pieces", status.have, status.pieces);
            match place {
                Some(place) => {
                    format!("{how_much} are verified and kept in {place}; the same command goes on")
                }
                None => format!("{how_much} were here; nothing is kept"),
            }
        }
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

fn status_json(event: &str, status: &Status) -> Object {
    let eta = status.eta.map(|eta| eta.as_secs());
    let stuck = status.stuck.as_ref().map(ToString::to_string);
    Object::new()
        .str("event", event)
        .num("done_bytes", status.done_bytes)
        .num("total_bytes", status.total_bytes)
        .num("have", status.have)
        .num("pieces", status.pieces)
        .num("download_rate", status.download_rate as u64)
        .num("upload_rate", status.upload_rate as u64)
        .num("downloaded", status.downloaded)
        .num("uploaded", status.uploaded)
        .num("wasted", status.wasted)
        .num("corrupt", status.corrupt)
        .num("peers", status.connected as u64)
        .num("known", status.known as u64)
        .num_or_null("eta", eta)
        .str_or_null("stuck", stuck.as_deref())
}

fn account_line(account: &Account) -> String {
    let Account { client, addr, received, sent, .. } = account;
    let (received, sent) = (units::size(*received), units::size(*sent));
    format!("from {addr} ({client}) {received}, to it {sent}")
}

fn account_json(account: &Account) -> String {
    Object::new()
        .str("addr", &account.addr.to_string())
        .bool("incoming", account.incoming)
        .str("client", &account.client)
        .str("peer_id", &printable_bytes(&account.id.0))
        .num("received", account.received)
        .num("sent", account.sent)
        .done()
}

fn decision_json(decision: &Decision) -> Object {
    let kind = if decision.matters() { "warning" } else { "peer" };
    Object::new().str("event", kind).str("message", &decision.to_string())
}

fn print(line: &str) -> Result<()> {
    let mut output = Output::new();
    output.line_now(line)
}
