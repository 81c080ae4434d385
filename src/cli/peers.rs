//! `piecemeal peers TORRENT`: who has it? One address a line, as they are found.
//!
//! ```text
//! tracker    announce `started`, take the answer, say `stopped`: nothing of us stays behind
//! dht        look up, without announcing, as a node that only asks (BEP 43)
//! lsd        search the local network; who dials us for it is asked where it listens
//! pex        dial whom we know, hear whom they know (only when asked for: --from)
//! user       dial those that --peer and the magnet link name: who answers has it
//! ```
//!
//! It ends when every source has answered, or has had its time: the local network [`LSD_TIME`], a
//! peer [`SCOUT_TIME`], all of them [`TIME`] unless `--stop-timeout` says otherwise; and once somebody
//! is found, when nothing new has come for [`QUIET`]: a dead tracker does not hold up a list. An address is
//! printed once, under the source that named it first. A private torrent's trackers only are asked
//! (BEP 27).
//!
//! Layer: programs.

use std::collections::{BTreeSet, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::flags::Args;
use super::input::{self, Input};
use super::output::Output;
use super::{Exit, eprint_line, one_operand, signals};
use crate::address_book::Source;
use crate::dht_node::{self, DhtNode, Sockets};
use crate::event::{EVENTS_MAX, Event};
use crate::hash::Sha1;
use crate::hostport::HostPort;
use crate::json::Object;
use crate::listener::Listening;
use crate::lsd::Lsd;
use crate::printable::printable;
use crate::reach::{Reach, reach};
use crate::scout::{Scout, Seen};
use crate::swarm::Fact;
use crate::tracker::{Me, Report, TRACKERS_MAX, Totals, Trackers};
use crate::wire::handshake::PeerId;

/// How long all of it may take: what a person waits for a command that looks something up.
const TIME: Duration = Duration::from_secs(10);

/// How long the local network has: those who hear us dial at once.
const LSD_TIME: Duration = Duration::from_secs(2);

/// How long one peer may take to say whom it knows; libtorrent needs some seconds.
const SCOUT_TIME: Duration = Duration::from_secs(6);

/// Peers that are asked at a time, and in all.
const SCOUTS_MAX: usize = 32;
const SCOUTED_MAX: usize = 200;

/// Addresses that are printed. More is no list that anybody wants.
const FOUND_MAX: usize = 10_000;

/// How long nothing new may come once somebody is found.
const QUIET: Duration = Duration::from_secs(3);

/// After the last answer: a UDP tracker with two families is asked over the other then.
const LINGER: Duration = Duration::from_millis(300);

/// How soon a signal or the end of a scout is noticed.
const GLANCE: Duration = Duration::from_millis(20);

/// What we tell of a torrent whose size is not known: something is missing.
const UNKNOWN_LEFT: u64 = 16_384;

/// What is looked for, and where.
struct Quest {
    info_hash: Sha1,
    left: u64,
    trackers: Vec<String>,
    /// Named by the user or the link, and to be dialled.
    known: Vec<Target>,
    /// Of the DHT, to begin with.
    nodes: Vec<HostPort>,
    from: Vec<Source>,
}

pub fn run(args: &Args) -> Result<Exit> {
    let Some(operand) = one_operand(args) else { return Ok(Exit::Usage) };
    let quest = Quest::of(args, input::load(operand, &args.dialler())?)?;
    let interrupted = signals::catch()?;
    let mut search = Search::start(args, quest)?;
    let ended = loop {
        if interrupted.load(Ordering::Relaxed) {
            break Ok(Exit::Interrupted);
        }
        match search.step() {
            Ok(true) if search.found.is_empty() => break Ok(Exit::GaveUp),
            Ok(true) => break Ok(Exit::Done),
            Ok(false) => {}
            Err(err) => break Err(err),
        }
    };
    search.stop();
    if matches!(ended, Ok(Exit::GaveUp)) && !args.quiet {
        eprint_line("piecemeal: nobody was found");
    }
    ended
}

impl Quest {
    fn of(args: &Args, input: Input) -> Result<Quest> {
        let (info_hash, left, mut tiers, private, peers, nodes) = match input {
            Input::Torrent(torrent) => {
                let (hash, left) = (torrent.info_hash, torrent.geometry.total_length());
                let (trackers, nodes) = (torrent.trackers, torrent.nodes);
                (hash, left, trackers, torrent.private, Vec::new(), nodes)
            }
            Input::Magnet(magnet) => {
                let tiers = magnet.trackers.into_iter().map(|url| vec![url]).collect();
                (magnet.info_hash, UNKNOWN_LEFT, tiers, false, magnet.peers, Vec::new())
            }
        };
        tiers.extend(args.announce.iter().cloned());
        let mut from = args.from.clone();
        let mut known: Vec<Target> = Vec::new();
        if args.proxy.is_none() && (from.is_empty() || from.contains(&Source::Pex)) {
            known.extend(args.peers.iter().copied().map(Target::Known));
            known.extend(peers.into_iter().map(Target::Named));
            known.truncate(SCOUTED_MAX);
        }
        if from.is_empty() {
            from = vec![Source::Tracker, Source::Dht, Source::Lsd];
        }
        // A proxy carries what we dial for HTTP, and nothing else of this.
        let only_trackers = private || args.proxy.is_some();
        from.retain(|source| match source {
            Source::Tracker => !args.no_tracker,
            Source::Dht => !args.no_dht && !only_trackers,
            Source::Lsd => !args.no_lsd && !only_trackers,
            Source::Pex => !args.no_pex && !only_trackers,
            _ => !only_trackers,
        });
        let mut trackers: Vec<String> = Vec::new();
        if from.contains(&Source::Tracker) {
            let urls = tiers.into_iter().flatten().map(|url| url.trim().to_owned());
            urls.filter(|url| !url.is_empty()).for_each(|url| {
                if trackers.len() < TRACKERS_MAX && !trackers.contains(&url) {
                    trackers.push(url);
                }
            });
        }
        let nobody = known.is_empty() && trackers.is_empty();
        if from.iter().all(|source| *source == Source::Tracker) && nobody {
            bail!("nobody to ask: no tracker, and nothing else is allowed");
        }
        Ok(Quest { info_hash, left, trackers, known, nodes, from })
    }
}

/// Everything that is at work.
struct Search<'a> {
    args: &'a Args,
    quest: Quest,
    scout: Scout,
    listening: Option<Listening>,
    listeners: Vec<JoinHandle<()>>,
    trackers: Trackers,
    /// Trackers that have not answered yet.
    silent: BTreeSet<String>,
    lsd: Option<Lsd>,
    dht: Option<DhtNode>,
    /// Its first round has ended.
    dht_is_over: bool,
    news: Receiver<Event>,
    sender: Sender<Event>,
    found: BTreeSet<SocketAddr>,
    last_found: Instant,
    /// Peers to be dialled, and those that are being asked.
    queue: VecDeque<Target>,
    scouted: usize,
    scouts: Vec<JoinHandle<()>>,
    quiet_from: Instant,
    deadline: Instant,
}

/// Whom to dial.
enum Target {
    /// Whether they live shows their answer only.
    Known(SocketAddr),
    Named(HostPort),
    /// It is printed already; whom it knows is to be heard.
    Found(SocketAddr),
}

impl<'a> Search<'a> {
    fn start(args: &'a Args, mut quest: Quest) -> Result<Search<'a>> {
        let start = Instant::now();
        let deadline = start + args.stop_timeout.unwrap_or(TIME);
        let (sender, news) = bounded(EVENTS_MAX);
        let listening = Listening::open(args.listen, Some(args.port.unwrap_or(0)));
        let listening = listening.context("cannot listen")?;
        let (port, both) = (listening.port, 1 < listening.sockets.len());
        let peer_id = PeerId::random(&mut fastrand::Rng::new());
        let wants = |source| quest.from.contains(&source);
        let totals = Arc::new(Totals::default());
        totals.left.store(quest.left, Ordering::Relaxed);
        let (info_hash, dialler) = (quest.info_hash, args.dialler());
        let me = Me { info_hash, peer_id: peer_id.0, port, key: fastrand::u32(..), both, dialler };
        // All of them are asked, so each is a tier of its own.
        let tiers = quest.trackers.iter().map(|url| vec![url.clone()]).collect();
        let to = sender.clone();
        let report = move |report| drop(to.send(Event::Tracker(report)));
        let trackers = Trackers::start(tiers, me, totals, report);
        let scout = Scout { info_hash, peer_id, port, pex: wants(Source::Pex), until: deadline };
        let mut search = Search {
            silent: quest.trackers.iter().cloned().collect(),
            queue: std::mem::take(&mut quest.known).into(),
            lsd: None,
            dht: None,
            dht_is_over: false,
            listening: None,
            listeners: Vec::new(),
            found: BTreeSet::new(),
            last_found: start,
            scouted: 0,
            scouts: Vec::new(),
            quiet_from: start,
            args,
            quest,
            scout,
            trackers,
            news,
            sender,
            deadline,
        };
        if search.quest.from.contains(&Source::Dht) {
            search.search_dht(port)?;
        }
        if search.quest.from.contains(&Source::Lsd) {
            search.search_lan(listening, start)?;
        }
        Ok(search)
    }

    fn search_dht(&mut self, port: u16) -> Result<()> {
        let Ok(sockets) = Sockets::open(self.args.listen, port) else { return Ok(()) };
        let named = &self.args.dht_bootstrap;
        let config = dht_node::Config {
            bootstrap: (!named.is_empty()).then(|| named.clone()),
            nodes: self.quest.nodes.clone(),
            read_only: true,
            ..dht_node::Config::default()
        };
        let events = self.sender.clone();
        let report = move |report| drop(events.send(Event::Dht(report)));
        let dht = DhtNode::start(config, sockets, report).context("cannot start a thread")?;
        dht.look(self.quest.info_hash);
        self.dht = Some(dht);
        Ok(())
    }

    /// Who hears us on the local network dials us.
    fn search_lan(&mut self, listening: Listening, start: Instant) -> Result<()> {
        for acceptor in listening.acceptors()? {
            let events = self.sender.clone();
            let listen = move || acceptor.run(&events);
            self.listeners.push(Builder::new().name("listener".to_owned()).spawn(listen)?);
        }
        let events = self.sender.clone();
        let report = move |addr| {
            let fact = Fact::Addresses { source: Source::Lsd, addrs: vec![addr] };
            let _ = events.send(Event::Fact(fact));
        };
        let port = listening.port;
        self.lsd = Some(Lsd::start(self.quest.info_hash, port, self.args.listen, report));
        self.listening = Some(listening);
        self.quiet_from = start + LSD_TIME;
        Ok(())
    }

    /// Takes what has come; true if that was all.
    fn step(&mut self) -> Result<bool> {
        match self.news.recv_timeout(GLANCE) {
            Ok(Event::Tracker(report)) => self.tracker(report)?,
            Ok(Event::Dht(dht_node::Report::Found { peers, .. })) => {
                self.take(peers, Source::Dht)?
            }
            Ok(Event::Dht(dht_node::Report::Searched { .. })) => self.dht_is_over = true,
            Ok(Event::Fact(Fact::Addresses { source, addrs })) => self.take(addrs, source)?,
            Ok(Event::Accepted { socket, addr, .. }) => {
                // Who comes from afar has heard of us by a tracker.
                let near = reach(addr.ip()) != Reach::Everywhere;
                let source = if near { Source::Lsd } else { Source::Incoming };
                let scout = Scout { until: self.scout_until(), ..self.scout };
                self.send_out(source, move || scout.meet(socket, addr));
            }
            _ => {}
        }
        self.scouts.retain(|scout| !scout.is_finished());
        while self.scouts.len() < SCOUTS_MAX {
            let Some(target) = self.queue.pop_front() else { break };
            self.scouted += 1;
            let scout = Scout { until: self.scout_until(), ..self.scout };
            let dialler = self.args.dialler();
            match target {
                Target::Known(addr) => {
                    self.send_out(Source::User, move || scout.dial(addr, &dialler));
                }
                Target::Named(host) => {
                    self.send_out(Source::User, move || scout.dial_named(&host, &dialler));
                }
                Target::Found(addr) => {
                    self.send_out(Source::Pex, move || scout.dial(addr, &dialler));
                }
            }
        }
        let now = Instant::now();
        let asking = !self.scouts.is_empty() || !self.queue.is_empty() || !self.news.is_empty();
        let answered = self.silent.is_empty() && (self.dht_is_over || self.dht.is_none());
        let quiet = !self.found.is_empty() && self.last_found + QUIET <= now;
        let over = !asking && self.quiet_from <= now && (answered || quiet);
        Ok(self.deadline <= now || over)
    }

    fn scout_until(&self) -> Instant {
        self.deadline.min(Instant::now() + SCOUT_TIME)
    }

    /// A scout's thread. Whoever dialled us is known by where it listens.
    fn send_out(
        &mut self,
        source: Source,
        talk: impl FnOnce() -> std::io::Result<Seen> + Send + 'static,
    ) {
        let events = self.sender.clone();
        let body = move || {
            let Ok(Seen { listens_at, knows }) = talk() else { return };
            let named = listens_at.filter(|_| source != Source::Pex);
            for (source, addrs) in [(source, Vec::from_iter(named)), (Source::Pex, knows)] {
                let _ = events.send(Event::Fact(Fact::Addresses { source, addrs }));
            }
        };
        if self.scouts.len() < 2 * SCOUTS_MAX {
            self.scouts.extend(Builder::new().name("scout".to_owned()).spawn(body));
        }
    }

    fn tracker(&mut self, report: Report) -> Result<()> {
        let failed = matches!(report, Report::Failed { .. } | Report::Ignored { .. });
        if (failed || self.args.verbose != 0) && !self.args.quiet {
            eprint_line(&printable(&report.to_string()));
        }
        match report {
            Report::Asking { .. } => {}
            Report::Failed { url, .. } | Report::Ignored { url, .. } => {
                _ = self.silent.remove(&url)
            }
            Report::Answered { url, peers, .. } => {
                if url.starts_with("udp") {
                    self.quiet_from = self.quiet_from.max(Instant::now() + LINGER);
                }
                self.silent.remove(&url);
                self.take(peers, Source::Tracker)?;
            }
        }
        Ok(())
    }

    /// Prints what is new.
    fn take(&mut self, addrs: Vec<SocketAddr>, source: Source) -> Result<()> {
        let mut out = Output::new();
        for addr in addrs {
            let fits = self.found.len() < FOUND_MAX && !self.is_ours(addr);
            if !fits || !self.found.insert(addr) {
                continue;
            }
            self.last_found = Instant::now();
            let was_asked = source == Source::User;
            if self.scout.pex && !was_asked && self.scouted + self.queue.len() < SCOUTED_MAX {
                self.queue.push_back(Target::Found(addr));
            }
            let text = addr.to_string();
            let line = match self.args.json {
                true => Object::new().str("addr", &text).str("from", source.word()).done(),
                false => text,
            };
            out.line(line)?;
        }
        out.finish()
    }

    /// Trackers tell us of ourselves too. A port that we drew is nobody else's, but by chance.
    fn is_ours(&self, addr: SocketAddr) -> bool {
        let here = || UdpSocket::bind((addr.ip(), 0)).is_ok();
        addr.port() == self.scout.port && (self.args.port.is_none() || here())
    }

    /// Says goodbye to the trackers; everything ends.
    fn stop(self) {
        // Nobody waits for room in a channel that is gone.
        drop((self.news, self.sender));
        drop(self.listening);
        self.lsd.into_iter().for_each(Lsd::stop);
        let dht = self.dht.map(DhtNode::end);
        self.trackers.stop();
        // It saves its table.
        dht.into_iter().for_each(|thread| drop(thread.join()));
        // Scouts end by their dates, or with the program.
        self.listeners.into_iter().for_each(|thread| drop(thread.join()));
    }
}
