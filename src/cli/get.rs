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
use super::hook::Hook;
use super::input::{self, Input};
use super::output::is_closed_pipe;
use super::place::{self, Place};
use super::view::View;
use super::{Exit, Misuse, one_operand, show, signals};
use crate::dht_node;
use crate::limit::Limit;
use crate::printable::printable;
use crate::select::Selection;
use crate::session::{Options, Outcome, Session, Update};
use crate::stream::Output;
use crate::swarm::Goal;
use crate::terminal::eprint_line;
use crate::trace::{TOPICS, Trace};

/// How soon a signal is noticed at the latest.
const GLANCE: Duration = Duration::from_millis(100);

pub fn run(args: &Args) -> Result<Exit> {
    let stays = args.keep_seeding || args.seed_ratio.is_some() || args.seed_time.is_some();
    transfer(args, stays.then(|| goal(args)), false)
}

/// When it has given enough. A ratio of 0 is none, as aria2 has it.
fn goal(args: &Args) -> Goal {
    Goal { ratio: args.seed_ratio.filter(|&ratio| 0.0 < ratio), time: args.seed_time }
}

/// `piecemeal seed`: as `get`, of data that is all there, until the goal or Ctrl-C.
pub fn seed(args: &Args) -> Result<Exit> {
    transfer(args, Some(goal(args)), true)
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
    if args.json && place::is_stream(args) {
        return Err(Misuse("-o - and --json both want standard output".to_owned()).into());
    }
    let torrent = match input::load(operand, args.proxy.as_ref())? {
        Input::Torrent(torrent) => torrent,
        Input::Magnet(_) => bail!(
            "cannot download from a magnet link yet: it takes the metadata from peers (BEP 9), \
             which is not spoken here; use the .torrent file"
        ),
    };
    if args.list {
        return show::list(&torrent, args.json);
    }
    let name = torrent.name.clone();
    let super_seed = args.super_seed;
    let trackers = torrent.trackers.clone();
    let place = place::place(args, Arc::from(torrent), Selection::default())?;
    let usual = options(args, &place, trackers, trace);
    let options = Options { goal, seed_only, super_seed, ..usual };
    let kept = place.layout.root().display().to_string();
    let kept = place.temporary.is_none().then_some(kept);
    let mut hook = Hook::new(args, &options.layout);
    let interrupted = signals::catch()?;
    let session = Session::start(options)?;
    let mut view = View::new(args, &trace);
    view.name(&name);
    let followed = follow(&session, &interrupted, &mut view, &mut hook);
    if followed.is_err() {
        session.stopper().stop();
    }
    let summary = session.join()?;
    view.finish();
    if summary.outcome == Outcome::Complete && !seed_only {
        hook.start()?;
    }
    let exit = followed.and_then(|()| view.end(&name, kept.as_deref(), &summary));
    match exit {
        // Whoever left while we were downloading must not read from the exit code that all is there.
        Err(err) if summary.outcome != Outcome::Complete && is_closed_pipe(&err) => {
            Err(anyhow!("stopped before the end: {err:#}"))
        }
        exit => hook.wait().and(exit),
    }
}

fn options(args: &Args, place: &Place, mut trackers: Vec<Vec<String>>, trace: Trace) -> Options {
    trackers.extend(args.announce.iter().cloned());
    if args.no_tracker {
        trackers.clear();
    }
    let bootstrap = (!args.dht_bootstrap.is_empty()).then(|| args.dht_bootstrap.clone());
    let nodes = place.layout.torrent().nodes.clone();
    let dht = dht_node::Config { bootstrap, nodes, ..dht_node::Config::default() };
    let usual = Options::at(place.layout.clone());
    Options {
        listen: args.listen,
        port: args.port,
        port_map: !args.no_port_map,
        proxy: args.proxy.clone(),
        peers: args.peers.clone(),
        trackers,
        dht: (!args.no_dht).then_some(dht),
        lsd: !args.no_lsd,
        pex: !args.no_pex,
        max_peers: args.max_peers.map_or(usual.max_peers, usize::from),
        stop_timeout: args.stop_timeout,
        in_order: args.sequential || place.streams,
        stream: place.streams.then_some(standard_output as Output),
        temporary: place.temporary.is_some(),
        check: args.check,
        download_limit: Limit::of(args.max_download_limit),
        upload_limit: Limit::of(args.max_upload_limit),
        trace,
        ..usual
    }
}

/// Standard output as it is: the library's own cuts what goes out into lines.
fn standard_output() -> std::io::Result<Box<dyn std::io::Write>> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        let own = std::io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Box::new(std::fs::File::from(own)))
    }
    #[cfg(not(unix))]
    Ok(Box::new(std::io::stdout()))
}

/// Shows what happens until the session has ended.
fn follow(
    session: &Session,
    interrupted: &AtomicBool,
    view: &mut View,
    hook: &mut Hook,
) -> Result<()> {
    let mut stopping = false;
    loop {
        if interrupted.load(Ordering::Relaxed) && !stopping {
            stopping = true;
            session.stopper().stop();
        }
        match session.updates().recv_timeout(GLANCE) {
            Ok(update) => {
                if let Update::Complete(_) = update {
                    hook.start()?;
                }
                view.update(update)?;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
