//! `piecemeal get`: downloads one torrent, and ends when every piece has been verified, or when as
//! much has been given back as was asked for. `piecemeal seed`: only gives.
//!
//! Layer: programs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use crossbeam_channel::RecvTimeoutError;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::flags::Args;
use super::input::{self, Input};
use super::output::{Output, is_closed_pipe};
use super::{Exit, eprint_line, one_operand};
use crate::json::{self, Object};
use crate::limit::Limit;
use crate::metainfo::Metainfo;
use crate::printable::{printable, printable_bytes};
use crate::progress::{self, Progress};
use crate::session::{Found, Options, Outcome, Session, Summary, Update};
use crate::storage::Layout;
use crate::swarm::{Account, Decision, Goal, Status};
use crate::trace::{TOPICS, Trace};
use crate::tracker::Report;
use crate::units;

/// How often a `progress` object is printed with `--json`.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// How many peers `--verbose` lists at the end.
const ACCOUNTS_SHOWN: usize = 20;

/// How soon a signal is noticed at the latest.
const GLANCE: Duration = Duration::from_millis(100);

pub fn run(args: &Args) -> Result<Exit> {
    let goal = Goal { ratio: args.seed_ratio, time: args.seed_time };
    transfer(args, (goal != Goal::default()).then_some(goal), false)
}

/// `piecemeal seed`: as `get`, of data that is all there, until the goal or Ctrl-C.
pub fn seed(args: &Args) -> Result<Exit> {
    let goal = Goal { ratio: args.seed_ratio, time: args.seed_time };
    transfer(args, Some(goal), true)
}

fn transfer(args: &Args, goal: Option<Goal>, seed_only: bool) -> Result<Exit> {
    let Some(operand) = one_operand(args) else { return Ok(Exit::Usage) };
    let trace = match args.trace.as_deref().map(Trace::of) {
        None => Trace::off(),
        Some(Ok(trace)) => trace,
        Some(Err(word)) => {
            let topics = TOPICS.join(", ");
            eprint_line(&format!("piecemeal: --trace={}: topics are {topics}", printable(&word)));
            return Ok(Exit::Usage);
        }
    };
    let torrent = match input::load(operand)? {
        Input::Torrent(torrent) => torrent,
        Input::Magnet(_) => bail!(
            "cannot download from a magnet link yet: it takes the metadata from peers (BEP 9), \
             which is not spoken here; use the .torrent file"
        ),
    };
    let name = torrent.name.clone();
    let super_seed = args.super_seed;
    let options = Options { goal, seed_only, super_seed, ..options(args, *torrent, trace)? };
    let place = options.layout.root();
    let interrupted = catch_signals()?;
    let session = Session::start(options)?;
    let mut view = View::new(args, &trace);
    let followed = follow(&session, &interrupted, &mut view);
    if followed.is_err() {
        session.stopper().stop();
    }
    let summary = session.join()?;
    view.progress.finish();
    let exit = followed.and_then(|()| view.end(&name, &place.display().to_string(), &summary));
    match exit {
        // Whoever left while we were downloading must not read from the exit code that all is there.
        Err(err) if summary.outcome != Outcome::Complete && is_closed_pipe(&err) => {
            Err(anyhow!("stopped before the end: {err:#}"))
        }
        exit => exit,
    }
}

fn options(args: &Args, torrent: Metainfo, trace: Trace) -> Result<Options> {
    let mut trackers = torrent.trackers.clone();
    trackers.extend(args.announce.iter().cloned());
    if args.no_tracker {
        trackers.clear();
    }
    let torrent = Arc::new(torrent);
    let layout = match &args.out {
        Some(out) if out.as_os_str() == "-" => {
            bail!("cannot download to standard output yet: name a file with --out")
        }
        Some(out) => Layout::at(torrent, out)?,
        None => Layout::below(torrent, args.dir.clone().unwrap_or(".".into())),
    };
    let usual = Options::at(layout);
    Ok(Options {
        listen: args.listen,
        port: args.port,
        peers: args.peers.clone(),
        trackers,
        max_peers: args.max_peers.map_or(usual.max_peers, usize::from),
        stop_timeout: args.stop_timeout,
        check: args.check,
        download_limit: Limit::of(args.max_download_limit),
        upload_limit: Limit::of(args.max_upload_limit),
        trace,
        ..usual
    })
}

/// The first Ctrl-C (or SIGTERM) asks for an end in order, a second one ends at once.
pub(super) fn catch_signals() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let exit = Exit::Interrupted as i32;
        // The order matters: the flag is looked at before it is set.
        signal_hook::flag::register_conditional_shutdown(signal, exit, interrupted.clone())
            .and_then(|_| signal_hook::flag::register(signal, interrupted.clone()))
            .context("cannot catch signals")?;
    }
    Ok(interrupted)
}

/// Shows what happens until the session has ended.
fn follow(session: &Session, interrupted: &AtomicBool, view: &mut View) -> Result<()> {
    let mut stopping = false;
    loop {
        if interrupted.load(Ordering::Relaxed) && !stopping {
            stopping = true;
            session.stopper().stop();
        }
        match session.updates().recv_timeout(GLANCE) {
            Ok(update) => view.update(update)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// What the user sees of it.
struct View {
    progress: Progress,
    json: bool,
    verbose: bool,
    quiet: bool,
    last_json: Option<Instant>,
}

impl View {
    fn new(args: &Args, trace: &Trace) -> View {
        View {
            // Lines of a trace would tear the live line apart.
            progress: Progress::new(args.quiet || args.json, !trace.is_on()),
            json: args.json,
            verbose: args.verbose != 0,
            quiet: args.quiet,
            last_json: None,
        }
    }

    fn update(&mut self, update: Update) -> Result<()> {
        if self.json {
            return self.update_json(&update);
        }
        match update {
            Update::Checking { done, total } => self.progress.checking(done, total),
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
            Update::Decided(decision) if self.verbose || decision.matters() => {
                self.progress.say(&decision.to_string());
            }
            Update::Listening { .. } | Update::Tracker(_) | Update::Decided(_) => {}
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
            Update::Decided(decision) => decision_json(decision),
        };
        print(&object.done())
    }

    /// The last word.
    fn end(&mut self, name: &str, place: &str, summary: &Summary) -> Result<Exit> {
        let status = &summary.status;
        let (exit, event) = match summary.outcome {
            Outcome::Complete => (Exit::Done, "complete"),
            Outcome::Stopped => (Exit::Interrupted, "interrupted"),
            Outcome::GaveUp => (Exit::GaveUp, "gave_up"),
        };
        if self.json {
            let time = format!("{:.3}", summary.time.as_secs_f64());
            let accounts = json::array(summary.accounts.iter().map(account_json));
            let object = status_json(event, status).str("path", place).raw("seconds", &time);
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

fn last_line(name: &str, place: &str, summary: &Summary) -> String {
    let status = &summary.status;
    let complete = status.have == status.pieces;
    match summary.outcome {
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
        _ => format!(
            "stopped: {} of {} pieces are verified and kept in {place}; the same command goes on",
            status.have, status.pieces
        ),
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
    let Account { id, addr, received, sent, .. } = account;
    let (received, sent) = (units::size(*received), units::size(*sent));
    format!("from {addr} ({}) {received}, to it {sent}", id.client())
}

fn account_json(account: &Account) -> String {
    Object::new()
        .str("addr", &account.addr.to_string())
        .bool("incoming", account.incoming)
        .str("client", &account.id.client())
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
