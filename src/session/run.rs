//! The session's loop: events in, decisions by the swarm, actions out.
//!
//! ```text
//! check what is there ─► open the storage ─► start listener, trackers, assembler
//!       ┌────────────────────────────────────────────┐
//!       └► event ─► swarm.handle ─► actions ─► links ┴─► finished, stopped or given up
//! hang up on everybody ─► assembler flushes ─► resume file ─► trackers hear "stopped"
//! ```
//!
//! Layer: head. The session's thread. Owns the swarm and the connections; all other threads are
//! joined before it ends, but those of trackers that hang (they hold nothing).

use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use crossbeam_channel::{Receiver, Sender};

use super::disk::{keep, look, proofs, put_in_order};
use super::ending::Ending;
use super::finders::{self, Doors, Finders};
use super::hands::Hands;
use super::links::Links;
use super::web::WebSeeds;
use super::{Options, Outcome, Summary, Update};
use crate::address_book::Source;
use crate::assembler::Assembler;
use crate::bitfield::Bitfield;
use crate::check::Existing;
use crate::event::Event;
use crate::hash::VerifiedSet;
use crate::listener::Listening;
use crate::peer::writer::Task;
use crate::storage::{self, Reading, Writing};
use crate::stream::{End, Stream};
use crate::swarm::{Action, Config, Decision, Fact, Order, Swarm, TICK};
use crate::tracker::Report;
use crate::units;
use crate::wait;
use crate::wire::extended::Offer;
use crate::wire::handshake::PeerId;
use crate::wire::metadata::METADATA_LEN_MAX;

/// Events that are taken before the swarm's actions are carried out: many blocks then make one
/// write of requests.
const BATCH_MAX: usize = 64;

/// Descriptors that a session needs beside its connections: files, trackers, listeners.
const DESCRIPTORS_BESIDE: usize = 20;

/// The channels that a session is held by.
pub struct Wires {
    /// For the hands; the session's own copy.
    pub events: Sender<Event>,
    pub inbox: Receiver<Event>,
    pub updates: Sender<Update>,
    /// What came while the disk was looked at, with peers connected already.
    pub backlog: Vec<Event>,
}

/// The session's thread, for a torrent that is known.
pub fn run(options: &Options, mut wires: Wires) -> Result<Summary> {
    let mut rng = fastrand::Rng::new();
    let disk = match ready(options, &mut wires)? {
        Ready::Over(summary) => return Ok(*summary),
        Ready::Go(disk) => *disk,
    };
    let doors = Doors::open(options, listen(options)?);
    let ids = (PeerId::random(&mut rng), rng.u32(..));
    let now = Instant::now();
    let config = config(options, ids.0, doors.listening.port, doors.dht_ports());
    let mut swarm = Swarm::new(config, disk.have.clone(), rng, now);
    let addrs = options.peers.clone();
    swarm.handle(now, Fact::Addresses { source: Source::User, addrs });
    std::thread::scope(|scope| {
        let left = swarm.left();
        let hands = Hands::start(scope, options, doors, &wires, ids, left)?;
        Run::start(scope, options, wires, swarm, disk, hands)?.go()
    })
}

pub fn listen(options: &Options) -> Result<Listening> {
    if options.proxy.is_some() {
        return Ok(Listening::nowhere());
    }
    Listening::open(options.listen, options.port).with_context(|| match options.port {
        Some(port) => format!("cannot listen at port {port}"),
        None => "cannot listen at any port".to_owned(),
    })
}

/// Whether there is anything to do for peers.
pub enum Ready {
    Go(Box<Disk>),
    Over(Box<Summary>),
}

/// Finds out what is on disk, and opens it.
pub fn ready(options: &Options, wires: &mut Wires) -> Result<Ready> {
    let over = |outcome, have| Ok(Ready::Over(Box::new(nothing_to_do(options, outcome, have))));
    let Some(mut existing) = look(options, wires)? else { return over(Outcome::Stopped, None) };
    let wanted = options.layout.wanted();
    let done = wanted.iter().all(|piece| existing.have.contains(piece));
    if done {
        put_in_order(options, &mut existing)?;
        if options.goal.is_none() && options.stream.is_none() {
            return over(Outcome::Complete, Some(existing.have));
        }
    } else if options.seed_only {
        let place = options.layout.root();
        let (have, pieces) = (wanted.common(&existing.have).count(), wanted.count());
        let pieces = units::count(pieces.into(), "piece");
        bail!("{}: {have} of {pieces} are there; get fetches the rest", place.display());
    }
    let Existing { have, aside, .. } = existing;
    Ok(Ready::Go(Box::new(if done {
        Disk { writing: None, reading: Reading::open(options.layout.clone(), aside)?, have }
    } else {
        let (writing, reading) = storage::open_with(&options.layout, &have, &aside)?;
        Disk { writing: Some(writing), reading, have }
    })))
}

/// What is on disk, and the ways to it.
pub struct Disk {
    /// `None` where nothing is to be written.
    writing: Option<Writing>,
    reading: Reading,
    pub have: Bitfield,
}

/// How many connections the operating system lets us have: each takes three descriptors (reader,
/// writer, and the one that ends both), and some are needed beside them. `None`: it does not say.
fn connections_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let descriptors: usize = line.split_whitespace().next()?.parse().ok()?;
    Some((descriptors.saturating_sub(DESCRIPTORS_BESIDE) / 3).max(1))
}

/// Connections at most.
pub fn max_peers(options: &Options) -> usize {
    connections_max().map_or(options.max_peers, |max| max.min(options.max_peers))
}

/// The end of a session that needed nobody.
pub fn nothing_to_do(options: &Options, outcome: Outcome, have: Option<Bitfield>) -> Summary {
    let geometry = options.layout.geometry();
    let have = have.unwrap_or(Bitfield::new(geometry.pieces()));
    let (rng, now) = (fastrand::Rng::new(), Instant::now());
    let config = config(options, PeerId([0; 20]), 0, [None; 2]);
    let status = Swarm::new(config, have, rng, now).status(now);
    let (accounts, web_seeds) = (Vec::new(), Vec::new());
    Summary { outcome, status, accounts, web_seeds, time: Duration::ZERO }
}

pub fn config(
    options: &Options,
    peer_id: PeerId,
    port: u16,
    dht_ports: [Option<u16>; 2],
) -> Config {
    let metadata_size = match options.layout.torrent().info.len() {
        size @ ..=METADATA_LEN_MAX => size as u32,
        _ => 0,
    };
    let torrent = options.layout.torrent();
    // Of the peers of a private torrent only its trackers speak (BEP 27).
    let pex = options.pex && !torrent.private;
    Config {
        geometry: options.layout.geometry(),
        peer_id,
        offer: Offer { port, metadata_size, pex },
        max_peers: max_peers(options),
        stop_timeout: options.stop_timeout,
        goal: options.goal,
        super_seed: options.super_seed,
        download_limit: options.download_limit.rate(),
        upload_limit: options.upload_limit.rate(),
        private: torrent.private,
        wanted: (!options.layout.is_whole()).then(|| options.layout.wanted()),
        in_order: options.in_order,
        without: Default::default(),
        trackers: options.trackers.iter().map(Vec::len).sum(),
        lan: options.asks_the_lan(),
        watch: options.watch,
        dht_ports,
        trace: options.trace.is_on(),
    }
}

/// The stream, if there is to be one.
fn stream(options: &Options, reading: &Reading, to: &Sender<Event>) -> Result<Option<Stream>> {
    let start = |output| Stream::start(&options.layout, reading.clone(), output, to);
    options.stream.map(start).transpose()
}

/// Everything that lives while peers are connected.
pub struct Run<'scope, 'env> {
    options: &'env Options,
    wires: Wires,
    swarm: Swarm,
    links: Links<'scope, 'env>,
    web_seeds: WebSeeds,
    finders: Finders,
    /// `None` where nothing is to be written.
    assembler: Option<ScopedJoinHandle<'scope, (Writing, Bitfield)>>,
    /// What may be uploaded.
    verified: VerifiedSet,
    /// Until it has ended.
    stream: Option<Stream>,
    started: Instant,
    ending: Ending,
}

impl<'scope, 'env> Run<'scope, 'env> {
    /// Starts the assembler; all else runs already.
    pub fn start(
        scope: &'scope Scope<'scope, 'env>,
        options: &'env Options,
        wires: Wires,
        mut swarm: Swarm,
        disk: Disk,
        hands: Hands<'scope, 'env>,
    ) -> Result<Run<'scope, 'env>> {
        let Disk { writing, reading, have } = disk;
        let context = hands.context(options);
        let Hands { mut links, finders, deliveries, empty, started, .. } = hands;
        let hashes = options.layout.torrent().piece_hashes.clone();
        let verified = proofs(&hashes, &have);
        let stream = stream(options, &reading, &wires.events)?;
        links.know(context, reading);
        let events = wires.events.clone();
        let start_assembler = |writing| {
            let assembler = Assembler::new(hashes, writing, have, events).traced(options.trace);
            Builder::new()
                .name("assembler".to_owned())
                .spawn_scoped(scope, move || assembler.run(deliveries, empty))
                .context("cannot start a thread")
        };
        let assembler = writing.map(start_assembler).transpose()?;
        // Where nothing is to be written, none is needed.
        let urls = if assembler.is_some() { &options.web_seeds[..] } else { &[] };
        let web_seeds = WebSeeds::start(scope, options, urls, &mut swarm, links.outlets());
        Ok(Run {
            options,
            wires,
            swarm,
            links,
            web_seeds,
            finders,
            assembler,
            verified,
            stream,
            started,
            ending: Ending::default(),
        })
    }

    /// The loop.
    pub fn go(mut self) -> Result<Summary> {
        let mut next_tick = Instant::now();
        for event in std::mem::take(&mut self.wires.backlog) {
            self.take(event, next_tick);
        }
        while !self.ending.is_over() {
            let wake = self.swarm.news_due().map_or(next_tick, |due| due.min(next_tick));
            let first = wait::recv_deadline(&self.wires.inbox, wake).ok();
            let now = Instant::now();
            let rest = self.wires.inbox.clone();
            for event in first.into_iter().chain(rest.try_iter().take(BATCH_MAX)) {
                self.take(event, now);
            }
            if next_tick <= now {
                next_tick = now + TICK;
                self.tick(now);
            }
            self.swarm.tell_due_news(now);
            self.act(now);
            if let Some(stream) = &mut self.stream {
                stream.feed(&self.verified);
            }
        }
        self.end()
    }

    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Fact(fact) => {
                if let Fact::Connected { conn, .. } = fact {
                    self.links.start_writer(conn);
                }
                self.swarm.handle(now, fact);
            }
            Event::Stored(proof) => {
                self.verified.insert(proof);
                let updates = &self.wires.updates;
                if self.options.watch && updates.len() < super::PIECES_MAX {
                    let _ = updates.try_send(Update::Stored { piece: proof.piece() });
                }
                self.swarm.handle(now, Fact::Stored { piece: proof.piece() });
            }
            Event::Accepted { socket, addr, turn: _turn } => {
                // No place: closing it says so.
                if let Some(conn) = self.swarm.incoming(addr, now)
                    && let Err(gone) = self.links.accept(conn, addr, socket.into())
                {
                    self.swarm.handle(now, gone);
                }
            }
            Event::Tracker(report) => self.tracker(report, now),
            Event::Dht(report) => {
                self.options.trace.about("dht", &report);
                let fact = finders::dht_fact(&report);
                fact.into_iter().for_each(|fact| self.swarm.handle(now, fact));
                let _ = self.wires.updates.try_send(Update::Dht(report));
            }
            Event::Streamed(End::ReaderLeft) => self.ending.end_with(Ok(Outcome::ReaderLeft)),
            Event::Streamed(End::Whole) => {
                self.stream = None;
                self.check_done();
            }
            Event::PortMap(report) => {
                self.options.trace.about("swarm", &report);
                self.finders.mapped(report.outside);
                let _ = self.wires.updates.try_send(Update::PortMap(report));
            }
            Event::Look { cells } => {
                let snapshot = self.swarm.snapshot(cells, now);
                let _ = self.wires.updates.try_send(Update::Look(Box::new(snapshot)));
            }
            Event::Failed(err) => self.ending.end_with(Err(err)),
            Event::Stop => self.ending.end_with(Ok(Outcome::Stopped)),
        }
    }

    fn tracker(&mut self, report: Report, now: Instant) {
        self.options.trace.about("tracker", &report);
        finders::fact(&report).into_iter().for_each(|fact| self.swarm.handle(now, fact));
        let _ = self.wires.updates.try_send(Update::Tracker(report));
    }

    fn tick(&mut self, now: Instant) {
        self.swarm.tick(now);
        self.post_totals();
        // A reader that is behind does not need the numbers of a moment ago.
        if self.wires.updates.len() < 2 {
            let _ = self.wires.updates.try_send(Update::Status(self.swarm.status(now)));
        }
    }

    /// What the trackers will be told.
    fn post_totals(&self) {
        let swarm = &self.swarm;
        let left = swarm.left();
        let paused = left != 0 && swarm.complete_for_us();
        self.finders.post(left, swarm.downloaded(), swarm.uploaded(), paused);
    }

    /// Carries out what the swarm has decided, until it has decided nothing more.
    fn act(&mut self, now: Instant) {
        loop {
            let actions = self.swarm.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.act_once(action, now);
            }
        }
    }

    fn act_once(&mut self, action: Action, now: Instant) {
        match action {
            Action::Dial { conn, addr } => {
                if let Err(gone) = self.links.dial(conn, addr) {
                    self.swarm.handle(now, gone);
                }
            }
            Action::Tell { conn, order: Order::Upload(span) } => {
                // The swarm asks only for pieces that it was told of together with their proof.
                if let Some(proof) = self.verified.proof(span.piece) {
                    self.links.tell(conn, Task::Upload(proof, span));
                }
            }
            Action::Tell { conn, order } => self.links.tell(conn, Task::Order(order)),
            Action::HangUp { conn } => self.links.hang_up(conn),
            Action::Fetch { conn, bytes } => self.web_seeds.fetch(conn, bytes),
            Action::CutFetch { conn, at } => self.web_seeds.cut(conn, at),
            Action::MorePeers => self.finders.more_peers(),
            Action::DhtNode { addr } => self.finders.dht_node(addr),
            Action::Finished => self.finished(now),
            Action::Done => self.ending.end_with(Ok(Outcome::Complete)),
            Action::GiveUp => self.ending.end_with(Ok(Outcome::GaveUp)),
            Action::Decided(decision) => {
                if self.options.trace.is_on() {
                    let (conn, addr) = decision.peer();
                    let addr = addr.or_else(|| conn.and_then(|conn| self.links.addr(conn)));
                    self.options.trace.about_peer(decision.topic(), conn, addr, &decision);
                    if let Decision::Drop { conn, .. } = decision {
                        self.options.trace.ends(conn);
                    }
                }
                // A trace has thousands of these; they would push all else out.
                if decision.topic() != "picker" {
                    let _ = self.wires.updates.try_send(Update::Decided(decision));
                }
            }
        }
    }

    /// Every wanted piece is verified.
    fn finished(&mut self, now: Instant) {
        self.post_totals();
        // One that wanted a part only is no further copy of the torrent.
        if self.assembler.is_some() && self.swarm.have().is_full() {
            self.finders.completed();
        }
        if self.options.goal.is_some() {
            let _ = self.wires.updates.try_send(Update::Complete(self.swarm.status(now)));
        }
        self.check_done();
    }

    /// Without a goal it is over when all is here, and has been written to whoever reads it.
    fn check_done(&mut self) {
        let done = self.swarm.complete_for_us() && self.stream.is_none();
        if done && self.options.goal.is_none() {
            self.ending.end_with(Ok(Outcome::Complete));
        }
    }

    /// The end, in the reverse order of the beginning.
    fn end(mut self) -> Result<Summary> {
        let now = Instant::now();
        let status = self.swarm.status(now);
        let accounts = self.swarm.accounts();
        self.post_totals();
        let web_seeds = self.web_seeds.used(&self.swarm);
        drop(self.links);
        drop(self.web_seeds);
        drop(self.wires.inbox);
        if let Some(stream) = self.stream {
            stream.close();
        }
        let farewell = self.finders.stop();
        let saved = match self.assembler.map(ScopedJoinHandle::join) {
            None => Ok(()),
            Some(Ok((writing, have))) => keep(self.options, writing, &have),
            Some(Err(_)) => Err(anyhow!("the assembler's thread panicked")),
        };
        farewell.wait();
        let outcome = self.ending.take().unwrap_or(Ok(Outcome::Stopped))?;
        saved?;
        let time = now.duration_since(self.started);
        Ok(Summary { outcome, status, accounts, web_seeds, time })
    }
}
