//! `piecemeal get`: downloads one torrent, and ends when every piece has been verified, or when as
//! much has been given back as was asked for. `piecemeal seed`: only gives.
//!
//! Layer: programs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use crossbeam_channel::RecvTimeoutError;

use super::fetch;
use super::flags::Args;
use super::input::{self, Input};
use super::output::is_closed_pipe;
use super::view::View;
use super::{Exit, eprint_line, one_operand, signals};
use crate::limit::Limit;
use crate::magnet::Magnet;
use crate::metainfo::Metainfo;
use crate::printable::printable;
use crate::session::{Options, Outcome, Session};
use crate::storage::Layout;
use crate::swarm::Goal;
use crate::trace::{TOPICS, Trace};

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
    if args.metadata_only {
        return fetch::metadata_only(args, operand);
    }
    let Some(trace) = trace(args) else { return Ok(Exit::Usage) };
    let super_seed = args.super_seed;
    let input = input::load(operand)?;
    let interrupted = signals::catch()?;
    let session = match input {
        Input::Torrent(torrent) => {
            fetch::save(args, &torrent)?;
            let options = options(args, *torrent, trace)?;
            Session::start(Options { goal, seed_only, super_seed, ..options })?
        }
        Input::Magnet(magnet) => {
            let first = magnet_options(args, &magnet, trace)?;
            let args = args.clone();
            let then = move |torrent: Metainfo| {
                fetch::save(&args, &torrent)?;
                let options = options(&args, torrent, trace)?;
                Ok(Some(Options { goal, seed_only, super_seed, ..options }))
            };
            Session::start_magnet(first, Box::new(then))?
        }
    };
    let mut view = View::new(args, &trace);
    let followed = follow(&session, &interrupted, &mut view);
    if followed.is_err() {
        session.stopper().stop();
    }
    let summary = session.join()?;
    view.finish();
    let name = &summary.layout.torrent().name;
    let place = summary.layout.root().display().to_string();
    let exit = followed.and_then(|()| view.end(name, &place, &summary));
    match exit {
        // Whoever left while we were downloading must not read from the exit code that all is there.
        Err(err) if summary.outcome != Outcome::Complete && is_closed_pipe(&err) => {
            Err(anyhow!("stopped before the end: {err:#}"))
        }
        exit => exit,
    }
}

/// The trace that was asked for; `None` if the filter names what cannot be traced, and standard error
/// has said so.
pub(super) fn trace(args: &Args) -> Option<Trace> {
    match args.trace.as_deref().map(Trace::of) {
        None => Some(Trace::off()),
        Some(Ok(trace)) => Some(trace),
        Some(Err(word)) => {
            let topics = TOPICS.join(", ");
            eprint_line(&format!("piecemeal: --trace={}: topics are {topics}", printable(&word)));
            None
        }
    }
}

/// The options for looking for a magnet link's metadata: those of a torrent of which nothing is known
/// but what the link says. Its `so` (BEP 53) is in [`Magnet::select`].
pub(super) fn magnet_options(args: &Args, magnet: &Magnet, trace: Trace) -> Result<Options> {
    let options = options(args, Metainfo::from_magnet(magnet), trace)?;
    Ok(Options { hosts: magnet.peers.clone(), ..options })
}

/// The options for a torrent. They are made twice for a magnet link: once before its metadata is here
/// ([`Metainfo::is_known`] tells), and once after.
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

/// Shows what happens until the session has ended.
pub(super) fn follow(session: &Session, interrupted: &AtomicBool, view: &mut View) -> Result<()> {
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
