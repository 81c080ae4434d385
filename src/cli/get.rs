//! `piecemeal get`: downloads one torrent, and ends when every piece has been verified, or when as
//! much has been given back as was asked for. `piecemeal seed`: only gives.
//!
//! Layer: programs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::flags::Args;
use super::hook::Hook;
use super::input::{self, Input};
use super::output::is_closed_pipe;
use super::place::{self, Place};
use super::view::View;
use super::{Exit, Misuse, fetch, one_operand, show, signals};
use crate::dht_node;
use crate::hash::Sha1;
use crate::limit::Limit;
use crate::magnet::Magnet;
use crate::metainfo::Metainfo;
use crate::printable::printable;
use crate::select::Selection;
use crate::session::{Options, Outcome, Session, Summary, Update};
use crate::storage::Layout;
use crate::stream::Output;
use crate::swarm::Goal;
use crate::terminal::eprint_line;
use crate::trace::{Recorder, TOPICS, Trace};

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
    if args.metadata_only {
        return fetch::metadata_only(args, operand);
    }
    let Some(trace) = trace(args) else { return Ok(Exit::Usage) };
    if args.json && place::is_stream(args) {
        return Err(Misuse("-o - and --json both want standard output".to_owned()).into());
    }
    if args.list {
        return match fetch::load(args, operand)? {
            Ok(torrent) => show::list(&torrent, args.json),
            Err(exit) => Ok(exit),
        };
    }
    let (input, super_seed) = (input::load(operand, &args.dialler())?, args.super_seed);
    let recorder = recorder(args, &trace, input.info_hash())?;
    let trace = recorder.as_ref().map_or(trace, |recorder| trace.recorded(recorder));
    // What becomes of a torrent that is known: its place is told, and kept until all is over.
    let (told, known) = bounded(1);
    let own = args.clone();
    let go_on = move |torrent: Metainfo, offered| {
        fetch::save(&own, &torrent)?;
        let trackers = torrent.trackers.clone();
        let place = place::place(&own, Arc::new(torrent), offered)?;
        let usual = options(&own, place.layout.clone(), trackers, trace);
        let stream = place.streams.then_some(standard_output as Output);
        let in_order = usual.in_order || place.streams;
        let temporary = place.temporary.is_some();
        let _ = told.try_send(place);
        Ok(Options { goal, seed_only, super_seed, stream, in_order, temporary, ..usual })
    };
    let interrupted = signals::catch()?;
    let mut view = View::new(args, &trace);
    let session = match input {
        Input::Torrent(torrent) => {
            view.name(&torrent.name);
            Session::start(go_on(*torrent, Selection::default())?)?
        }
        Input::Magnet(magnet) => {
            let first = magnet_options(args, &magnet, trace)?;
            let offered = magnet.select.as_deref().map(Selection::offered).unwrap_or_default();
            let then = move |torrent| go_on(torrent, offered).map(Some);
            Session::start_magnet(first, Box::new(then))?
        }
    };
    let mut job = Job { args, known, place: None, hook: None };
    let followed = follow(&session, &interrupted, &mut view, || job.complete());
    if followed.is_err() {
        session.stopper().stop();
    }
    let summary = session.join();
    finish(recorder, &trace)?;
    let summary = summary?;
    view.finish();
    if summary.outcome == Outcome::Complete {
        job.deliver(seed_only)?;
    }
    let exit = followed.and_then(|()| job.last_word(&mut view, &summary));
    match exit {
        // Whoever left while we were downloading must not read from the exit code that all is there.
        Err(err) if summary.outcome != Outcome::Complete && is_closed_pipe(&err) => {
            Err(anyhow!("stopped before the end: {err:#}"))
        }
        exit => job.hook.map_or(Ok(()), |hook| hook.wait(args.json)).and(exit),
    }
}

/// Who writes the file of the trace, and adds up the times for its end.
fn recorder(args: &Args, trace: &Trace, info_hash: Sha1) -> Result<Option<Recorder>> {
    let file = args.trace_file.as_deref();
    let wanted = file.is_some() || trace.is_shown();
    wanted.then(|| Recorder::create(file, info_hash)).transpose()
}

fn finish(recorder: Option<Recorder>, trace: &Trace) -> Result<()> {
    if let Some(times) = recorder.map(Recorder::finish).transpose()?
        && trace.is_shown()
    {
        times.sentences().for_each(|line| trace.ending(&format!("where the time went: {line}")));
    }
    Ok(())
}

/// What is to be done when all is here, and where that is.
struct Job<'a> {
    args: &'a Args,
    /// Tells the place once, when the torrent is known.
    known: Receiver<Place>,
    place: Option<Place>,
    hook: Option<Hook>,
}

impl Job<'_> {
    fn place(&mut self) -> Option<&Place> {
        self.place = self.place.take().or_else(|| self.known.try_recv().ok());
        self.place.as_ref()
    }

    fn last_word(&mut self, view: &mut View, summary: &Summary) -> Result<Exit> {
        let args = self.args;
        let place = self.place();
        let name = place.map_or("", |place| &place.layout.torrent().name);
        let kept = place.filter(|place| place.temporary.is_none());
        let kept = kept.map(|place| place.layout.root().display().to_string());
        let again = kept.as_ref().and_then(|_| give_back(args));
        view.end(name, kept.as_deref(), again.as_deref(), summary)
    }

    /// All is here that was asked for.
    fn deliver(&mut self, seed_only: bool) -> Result<()> {
        let args = self.args;
        self.place().map_or(Ok(()), |place| place.deliver(args))?;
        if seed_only { Ok(()) } else { self.complete() }
    }

    /// Starts the hook, unless it has been started.
    fn complete(&mut self) -> Result<()> {
        let args = self.args;
        if self.hook.is_none()
            && let Some(place) = self.place()
        {
            self.hook = Some(Hook::new(args, &place.layout));
        }
        self.hook.as_mut().map_or(Ok(()), Hook::start)
    }
}

/// The command that gives back what this one has fetched; `None` where the torrent cannot be had again.
fn give_back(args: &Args) -> Option<String> {
    let operand = args.operands.first().filter(|operand| *operand != "-");
    let saved = args.save_torrent.as_ref().map(|path| path.as_os_str());
    let torrent = saved.or(operand.map(|operand| operand.as_os_str()))?;
    let mut words = vec!["piecemeal".into(), "seed".into(), torrent.to_string_lossy()];
    let selected = args.select.to_string();
    let (dir, out) = (args.dir.as_deref(), args.out.as_deref());
    // Where it goes to standard output, it is kept in the folder.
    let out = out.filter(|_| !place::is_stream(args));
    let places = [("-o", out), ("-d", dir)];
    for (flag, path) in places.iter().filter_map(|(flag, path)| Some((*flag, (*path)?))) {
        words.extend([flag.into(), path.to_string_lossy()]);
    }
    if !selected.is_empty() {
        words.extend(["-s".into(), selected.as_str().into()]);
    }
    for url in args.announce.iter().flatten() {
        words.extend(["-a".into(), url.as_str().into()]);
    }
    Some(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:,=@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
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
            eprint_line(&format!(
                "piecemeal: --trace={}: topics are {topics}; also bytes, peer=IP",
                printable(&word)
            ));
            None
        }
    }
}

/// The options for looking for a magnet link's metadata: those of a torrent of which nothing is known
/// but what the link says.
pub(super) fn magnet_options(args: &Args, magnet: &Magnet, trace: Trace) -> Result<Options> {
    let torrent = Metainfo::from_magnet(magnet);
    let trackers = torrent.trackers.clone();
    let options = options(args, Layout::below(Arc::new(torrent), "."), trackers, trace);
    Ok(Options { hosts: magnet.peers.clone(), ..options })
}

/// The options for a torrent. They are made twice for a magnet link: before its metadata is here
/// ([`Metainfo::is_known`] tells), and after.
fn options(args: &Args, layout: Layout, mut trackers: Vec<Vec<String>>, trace: Trace) -> Options {
    trackers.extend(args.announce.iter().cloned());
    if args.no_tracker {
        trackers.clear();
    }
    let mut web_seeds = layout.torrent().web_seeds.clone();
    web_seeds.extend(args.web_seeds.iter().cloned());
    if args.no_webseed {
        web_seeds.clear();
    }
    let bootstrap = (!args.dht_bootstrap.is_empty()).then(|| args.dht_bootstrap.clone());
    let nodes = layout.torrent().nodes.clone();
    let dht = dht_node::Config { bootstrap, nodes, ..dht_node::Config::default() };
    let usual = Options::at(layout);
    Options {
        listen: args.listen,
        port: args.port,
        port_map: !args.no_port_map,
        proxy: args.proxy.clone(),
        peers: args.peers.clone(),
        trackers,
        web_seeds,
        dht: (!args.no_dht).then_some(dht),
        lsd: !args.no_lsd,
        pex: !args.no_pex,
        max_peers: args.max_peers.map_or(usual.max_peers, usize::from),
        stop_timeout: args.stop_timeout,
        in_order: args.sequential,
        check: args.check,
        download_limit: Limit::of(args.max_download_limit),
        upload_limit: Limit::of(args.max_upload_limit),
        watch: args.json || args.verbose != 0,
        trace,
        ..usual
    }
}

/// Standard output as it is: the library's own cuts what goes out into lines.
fn standard_output() -> std::io::Result<std::fs::File> {
    #[cfg(unix)]
    let own = std::os::fd::AsFd::as_fd(&std::io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let own = std::os::windows::io::AsHandle::as_handle(&std::io::stdout()).try_clone_to_owned()?;
    Ok(own.into())
}

/// Shows what happens until the session has ended.
pub(super) fn follow(
    session: &Session,
    interrupted: &AtomicBool,
    view: &mut View,
    mut on_complete: impl FnMut() -> Result<()>,
) -> Result<()> {
    let mut stopping = false;
    let asked = signals::asked()?;
    loop {
        if let Some(cells) = view.wants_to_look(asked.swap(false, Ordering::Relaxed)) {
            session.look(cells);
        }
        if interrupted.load(Ordering::Relaxed) && !stopping {
            stopping = true;
            session.stopper().stop();
        }
        match session.updates().recv_timeout(GLANCE) {
            Ok(update) => {
                if let Update::Complete(_) = update {
                    on_complete()?;
                }
                view.update(update)?;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
