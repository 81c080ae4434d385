//! `piecemeal get`: downloads one torrent, and ends when every piece has been verified, or when as
//! much has been given back as was asked for. `piecemeal seed`: only gives.
//!
//! Layer: programs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use crossbeam_channel::RecvTimeoutError;

use super::flags::Args;
use super::input::{self, Input};
use super::output::is_closed_pipe;
use super::view::View;
use super::{Exit, eprint_line, one_operand, signals};
use crate::limit::Limit;
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
    let interrupted = signals::catch()?;
    let session = Session::start(options)?;
    let mut view = View::new(args, &trace);
    let followed = follow(&session, &interrupted, &mut view);
    if followed.is_err() {
        session.stopper().stop();
    }
    let summary = session.join()?;
    view.finish();
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
    let mut web_seeds = torrent.web_seeds.clone();
    web_seeds.extend(args.web_seeds.iter().cloned());
    if args.no_webseed {
        web_seeds.clear();
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
        web_seeds,
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
