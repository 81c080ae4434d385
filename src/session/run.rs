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
use crossbeam_channel::{Receiver, Sender, bounded};

use super::disk::{keep, look, proofs, put_in_order};
use super::finders::{Doors, Finders};
use super::links::{Links, Supplies, chunk_pool};
use super::{Options, Outcome, Summary, Update};
use crate::address_book::Source;
use crate::assembler::Assembler;
use crate::bitfield::Bitfield;
use crate::check::Existing;
use crate::dht_node::{self, Sockets};
use crate::event::{DELIVERIES_MAX, Event};
use crate::hash::VerifiedSet;
use crate::listener::Listening;
use crate::peer::Context;
use crate::peer::reader::Outlets;
use crate::peer::writer::Task;
use crate::storage::{self, Reading, Writing};
use crate::stream::{End, Stream};
use crate::swarm::{Action, Config, Fact, Order, Swarm, TICK};
use crate::tracker::{Me, Report};
use crate::wire::extended::Offer;
use crate::wire::handshake::{PeerId, Reserved};
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
}

/// The session's thread.
pub fn run(options: &Options, wires: Wires) -> Result<Summary> {
    let rng = fastrand::Rng::new();
    let Some(mut existing) = look(options, &wires)? else {
        return Ok(nothing_to_do(options, Outcome::Stopped, None));
    };
    let wanted = options.layout.wanted();
    let done = wanted.iter().all(|piece| existing.have.contains(piece));
    if done {
        put_in_order(options, &mut existing)?;
        if options.goal.is_none() && options.stream.is_none() {
            return Ok(nothing_to_do(options, Outcome::Complete, Some(existing.have)));
        }
    } else if options.seed_only {
        let place = options.layout.root();
        let (have, pieces) = (wanted.common(&existing.have).count(), wanted.count());
        bail!("{}: {have} of {pieces} pieces are there; get fetches the rest", place.display());
    }
    let Existing { have, aside, .. } = existing;
    let disk = if done {
        Disk { writing: None, reading: Reading::open(options.layout.clone(), aside)?, have }
    } else {
        let (writing, reading) = storage::open_with(&options.layout, &have, &aside)?;
        Disk { writing: Some(writing), reading, have }
    };
    let listening = match &options.proxy {
        Some(_) => Listening::nowhere(),
        None => {
            Listening::open(options.listen, options.port).with_context(|| match options.port {
                Some(port) => format!("cannot listen at port {port}"),
                None => "cannot listen at any port".to_owned(),
            })?
        }
    };
    let doors = Doors { sockets: dht_sockets(options, listening.port), listening: &listening };
    std::thread::scope(|scope| Run::start(scope, options, wires, rng, disk, doors)?.go())
}

/// The DHT's sockets, at the port at which peers dial us if possible. Without any, others find peers.
/// A private torrent has none (BEP 27), and a proxy takes no datagrams.
fn dht_sockets(options: &Options, port: u16) -> Option<Sockets> {
    let private = options.layout.torrent().private;
    let wanted = options.dht.is_some() && !private && options.proxy.is_none();
    wanted.then(|| Sockets::open(options.listen, port).ok()).flatten()
}

/// What is on disk, and the ways to it.
struct Disk {
    /// `None` where nothing is to be written.
    writing: Option<Writing>,
    reading: Reading,
    have: Bitfield,
}

/// How many connections the operating system lets us have: each takes three descriptors (reader,
/// writer, and the one that ends both), and some are needed beside them. `None`: it does not say.
fn connections_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let descriptors: usize = line.split_whitespace().next()?.parse().ok()?;
    Some((descriptors.saturating_sub(DESCRIPTORS_BESIDE) / 3).max(1))
}

/// The end of a session that needed nobody.
fn nothing_to_do(options: &Options, outcome: Outcome, have: Option<Bitfield>) -> Summary {
    let geometry = options.layout.geometry();
    let have = have.unwrap_or(Bitfield::new(geometry.pieces()));
    let (rng, now) = (fastrand::Rng::new(), Instant::now());
    let config = config(options, PeerId([0; 20]), 0, [None; 2]);
    let status = Swarm::new(config, have, rng, now).status(now);
    Summary { outcome, status, accounts: Vec::new(), time: Duration::ZERO }
}

fn config(options: &Options, peer_id: PeerId, port: u16, dht_ports: [Option<u16>; 2]) -> Config {
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
        max_peers: connections_max().map_or(options.max_peers, |max| max.min(options.max_peers)),
        stop_timeout: options.stop_timeout,
        goal: options.goal,
        super_seed: options.super_seed,
        upload_limited: options.upload_limit.is_set(),
        private: torrent.private,
        wanted: (!options.layout.is_whole()).then(|| options.layout.wanted()),
        in_order: options.in_order,
        without: Default::default(),
        trackers: options.trackers.iter().map(Vec::len).sum(),
        dht_ports,
        trace: options.trace.is_on(),
    }
}

/// Everything that lives while peers are connected.
struct Run<'scope, 'env> {
    options: &'env Options,
    wires: Wires,
    swarm: Swarm,
    links: Links<'scope, 'env>,
    finders: Finders<'env>,
    /// `None` where nothing is to be written.
    assembler: Option<ScopedJoinHandle<'scope, (Writing, Bitfield)>>,
    /// What may be uploaded.
    verified: VerifiedSet,
    /// Until it has ended.
    stream: Option<Stream>,
    started: Instant,
    outcome: Option<Result<Outcome>>,
}

impl<'scope, 'env> Run<'scope, 'env> {
    fn start(
        scope: &'scope Scope<'scope, 'env>,
        options: &'env Options,
        wires: Wires,
        mut rng: fastrand::Rng,
        disk: Disk,
        doors: Doors<'env>,
    ) -> Result<Run<'scope, 'env>> {
        let Disk { writing, reading, have } = disk;
        let torrent = options.layout.torrent();
        let peer_id = PeerId::random(&mut rng);
        let port = doors.listening.port;
        let dht_ports = [false, true].map(|v6| doors.sockets.as_ref()?.port(v6));
        if !doors.listening.sockets.is_empty() {
            let _ = wires.updates.try_send(Update::Listening { port, peer_id });
        }
        let started = Instant::now();
        let key = rng.u32(..);
        let config = config(options, peer_id, port, dht_ports);
        let mut swarm = Swarm::new(config, have.clone(), rng, started);
        swarm.handle(
            started,
            Fact::Addresses { source: Source::User, addrs: options.peers.clone() },
        );

        let (deliveries_in, deliveries) = bounded(DELIVERIES_MAX);
        let (empty_in, empty) = chunk_pool();
        let hashes = torrent.piece_hashes.clone();
        let verified = proofs(&hashes, &have);
        let events = wires.events.clone();
        let start_assembler = |writing| {
            let assembler = Assembler::new(hashes, writing, have, events);
            Builder::new()
                .name("assembler".to_owned())
                .spawn_scoped(scope, move || assembler.run(deliveries, empty_in))
                .context("cannot start a thread")
        };
        let assembler = writing.map(start_assembler).transpose()?;
        let (info_hash, proxy) = (torrent.info_hash, options.proxy.clone());
        let both = 1 < doors.listening.sockets.len();
        let me = Me { info_hash, peer_id: peer_id.0, port, key, both, proxy };
        let finders = Finders::start(scope, options, doors, me, swarm.left(), &wires.events)?;
        let context = Context {
            info_hash: torrent.info_hash,
            peer_id,
            pieces: options.layout.geometry().pieces(),
            reserved: Reserved::default()
                .with_fast()
                .with_extended()
                .with_dht(dht_ports != [None; 2]),
            trace: options.trace,
        };
        let stream =
            |output| Stream::start(&options.layout, reading.clone(), output, &wires.events);
        let stream = options.stream.map(stream).transpose()?;
        let outlets = Outlets { events: wires.events.clone(), deliveries: deliveries_in, empty };
        let supplies = Supplies {
            storage: reading,
            download_limit: options.download_limit.clone(),
            upload_limit: options.upload_limit.clone(),
            proxy: options.proxy.clone(),
        };
        let links = Links::new(scope, context, outlets, supplies);
        Ok(Run {
            options,
            wires,
            swarm,
            links,
            finders,
            assembler,
            verified,
            stream,
            started,
            outcome: None,
        })
    }

    /// The loop.
    fn go(mut self) -> Result<Summary> {
        let mut next_tick = self.started;
        while self.outcome.is_none() {
            let first = self.wires.inbox.recv_deadline(next_tick).ok();
            let now = Instant::now();
            let rest = self.wires.inbox.clone();
            for event in first.into_iter().chain(rest.try_iter().take(BATCH_MAX)) {
                self.take(event, now);
            }
            if next_tick <= now {
                next_tick = now + TICK;
                self.tick(now);
            }
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
                self.swarm.handle(now, Fact::Stored { piece: proof.piece() });
            }
            Event::Accepted { socket, addr } => {
                // No place: closing it says so.
                if let Some(conn) = self.swarm.incoming(addr, now)
                    && let Err(gone) = self.links.accept(conn, addr, socket.into())
                {
                    self.swarm.handle(now, gone);
                }
            }
            Event::Tracker(report) => self.tracker(report, now),
            Event::Dht(report) => self.dht(report, now),
            Event::Streamed(End::ReaderLeft) => self.outcome = Some(Ok(Outcome::ReaderLeft)),
            Event::Streamed(End::Whole) => {
                self.stream = None;
                self.check_done();
            }
            Event::PortMap(report) => {
                self.options.trace.about("swarm", &report);
                report.outside().into_iter().for_each(|port| self.finders.mapped(port));
                let _ = self.wires.updates.try_send(Update::PortMap(report));
            }
            Event::Failed(err) => self.outcome = Some(Err(err)),
            Event::Stop => self.outcome = Some(Ok(Outcome::Stopped)),
        }
    }

    fn tracker(&mut self, report: Report, now: Instant) {
        self.options.trace.about("tracker", &report);
        match &report {
            Report::Answered { peers, .. } => {
                let fact = Fact::Addresses { source: Source::Tracker, addrs: peers.clone() };
                self.swarm.handle(now, fact);
            }
            Report::Failed { .. } | Report::Ignored { .. } => {
                self.swarm.handle(now, Fact::TrackerFailed { error: report.to_string() });
            }
            Report::Asking { .. } => {}
        }
        let _ = self.wires.updates.try_send(Update::Tracker(report));
    }

    fn dht(&mut self, report: dht_node::Report, now: Instant) {
        self.options.trace.about("dht", &report);
        match &report {
            dht_node::Report::Found { peers, .. } => {
                let fact = Fact::Addresses { source: Source::Dht, addrs: peers.clone() };
                self.swarm.handle(now, fact);
            }
            dht_node::Report::Searched { searched, .. } => {
                let fact = Fact::DhtSearched { answered: searched.answered };
                self.swarm.handle(now, fact);
            }
            _ => {}
        }
        let _ = self.wires.updates.try_send(Update::Dht(report));
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
        self.finders.post(swarm.left(), swarm.downloaded(), swarm.uploaded());
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
            Action::MorePeers => self.finders.more_peers(),
            Action::DhtNode { addr } => self.finders.dht_node(addr),
            Action::Finished => self.finished(now),
            Action::Done => self.outcome = Some(Ok(Outcome::Complete)),
            Action::GiveUp => self.outcome = Some(Ok(Outcome::GaveUp)),
            Action::Decided(decision) => {
                self.options.trace.about(decision.topic(), &decision);
                let _ = self.wires.updates.try_send(Update::Decided(decision));
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
            self.outcome = Some(Ok(Outcome::Complete));
        }
    }

    /// The end, in the reverse order of the beginning.
    fn end(mut self) -> Result<Summary> {
        let now = Instant::now();
        let status = self.swarm.status(now);
        let accounts = self.swarm.accounts();
        self.post_totals();
        self.links.close();
        drop(self.wires.inbox);
        if let Some(stream) = self.stream {
            stream.close();
        }
        // After the inbox: a listener that is woken finds that nobody listens to it.
        let farewell = self.finders.stop();
        let saved = match self.assembler.map(ScopedJoinHandle::join) {
            None => Ok(()),
            Some(Ok((writing, have))) => keep(self.options, writing, &have),
            Some(Err(_)) => Err(anyhow!("the assembler's thread panicked")),
        };
        farewell.wait();
        let outcome = self.outcome.unwrap_or(Ok(Outcome::Stopped))?;
        saved?;
        Ok(Summary { outcome, status, accounts, time: now.duration_since(self.started) })
    }
}
