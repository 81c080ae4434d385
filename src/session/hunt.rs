//! The first part of a session that begins with a magnet link: finds the metadata (BEP 9).
//!
//! ```text
//! options of a torrent of which only the hash is known ──► Search ──► info dictionary
//!     ──► then(torrent): its own options ──► what is on disk ──► the loop, with the same connections
//! ```
//!
//! The finders and the connections are those of the whole session: what a peer has said is kept, and
//! the swarm goes on where the search ends. Only where something is on disk already, of which all
//! were told that we have nothing, or the torrent is private, peers are hung up on and dialled anew.
//!
//! Layer: head. Runs on the session's thread.

use std::cell::OnceCell;
use std::thread::Scope;
use std::time::Instant;

use anyhow::{Context, Result};

use super::ending::Ending;
use super::finders::Doors;
use super::hands::Hands;
use super::run::{self, Disk, Ready, Run, Wires};
use super::{Options, Outcome, Summary, Then, Update, finders};
use crate::address_book::Source;
use crate::event::Event;
use crate::metadata::{Search, Wish};
use crate::metainfo::Metainfo;
use crate::peer::writer::Task;
use crate::swarm::{Action, Fact, Heritage, Stuck, Swarm, TICK};
use crate::wait;
use crate::wire::extended::Offer;
use crate::wire::handshake::PeerId;

/// What trackers are told is left while nobody knows: one piece of the usual kind. A 0 would make us
/// a seed, and some trackers name no seeds to seeds.
const LEFT_UNKNOWN: u64 = 16_384;

/// The session's thread, for a magnet link.
pub fn run(options: &Options, then: Then, wires: Wires) -> Result<Summary> {
    let doors = Doors::open(options, run::listen(options)?);
    let torrent = OnceCell::new();
    std::thread::scope(|scope| {
        let mut rng = fastrand::Rng::new();
        let ids = (PeerId::random(&mut rng), rng.u32(..));
        let hands = Hands::start(scope, options, doors, &wires, ids, LEFT_UNKNOWN)?;
        let mut hunt = Hunt::new(options, wires, hands);
        let ready = match hunt.go() {
            Ok(info) => hunt.found(&info, then, &torrent),
            Err(ended) => ended.map(|outcome| Ready::Over(Box::new(hunt.summary(outcome)))),
        };
        match ready {
            Ok(Ready::Go(disk)) => hunt.go_on(scope, torrent.get().unwrap_or(options), *disk, rng),
            other => {
                hunt.hands.close(hunt.wires);
                match other? {
                    Ready::Over(summary) => Ok(*summary),
                    Ready::Go(_) => unreachable!("matched above"),
                }
            }
        }
    })
}

struct Hunt<'scope, 'env> {
    options: &'env Options,
    search: Search,
    /// Once the search is over.
    heritage: Option<Heritage>,
    wires: Wires,
    hands: Hands<'scope, 'env>,
    ending: Ending,
}

impl<'scope, 'env> Hunt<'scope, 'env> {
    fn new(options: &'env Options, wires: Wires, hands: Hands<'scope, 'env>) -> Hunt<'scope, 'env> {
        let pex = options.pex;
        let wish = Wish {
            info_hash: options.layout.torrent().info_hash,
            peer_id: hands.peer_id,
            offer: Offer { port: hands.port, pex, ..Offer::default() },
            fast: options.reserved.fast(),
            max_peers: run::max_peers(options),
            stop_timeout: options.stop_timeout,
            trackers: options.trackers.iter().map(Vec::len).sum(),
            dht: hands.dht_ports != [None; 2],
            lan: options.asks_the_lan(),
            trace: options.trace.is_on(),
        };
        let now = hands.started;
        let mut search = Search::new(wish, now);
        let addrs = options.peers.clone();
        search.handle(now, Fact::Addresses { source: Source::User, addrs });
        Hunt { options, search, heritage: None, wires, hands, ending: Ending::default() }
    }

    /// The loop, until the info dictionary is here, or there is another end.
    fn go(&mut self) -> Result<Vec<u8>, Result<Outcome>> {
        let mut next_tick = self.hands.started;
        self.act();
        loop {
            let event = wait::recv_deadline(&self.wires.inbox, next_tick).ok();
            let now = Instant::now();
            if let Some(event) = event {
                self.take(event, now);
            }
            if next_tick <= now {
                next_tick = now + TICK;
                self.search.tick(now);
                if self.wires.updates.len() < 2 {
                    let progress = self.search.progress();
                    let _ = self.wires.updates.try_send(Update::Searching(progress));
                }
            }
            self.act();
            if let Some(info) = self.search.found() {
                return Ok(info);
            }
            if let Some(outcome) = self.ending.take() {
                return Err(outcome);
            }
        }
    }

    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Fact(fact) => {
                if let Fact::Connected { conn, .. } = fact {
                    self.hands.links.start_writer(conn);
                }
                self.search.handle(now, fact);
            }
            Event::Accepted { socket, addr, turn: _turn } => {
                if let Some(conn) = self.search.incoming(addr, now)
                    && let Err(gone) = self.hands.links.accept(conn, addr, socket.into())
                {
                    self.search.handle(now, gone);
                }
            }
            Event::Tracker(report) => {
                self.options.trace.about("tracker", &report);
                finders::fact(&report).into_iter().for_each(|f| self.search.handle(now, f));
                let _ = self.wires.updates.try_send(Update::Tracker(report));
            }
            Event::Dht(report) => {
                self.options.trace.about("dht", &report);
                finders::dht_fact(&report).into_iter().for_each(|f| self.search.handle(now, f));
                let _ = self.wires.updates.try_send(Update::Dht(report));
            }
            Event::PortMap(report) => {
                self.options.trace.about("swarm", &report);
                self.hands.finders.mapped(report.outside);
                let _ = self.wires.updates.try_send(Update::PortMap(report));
            }
            // Nobody writes pieces yet, or reads them.
            Event::Stored(_) | Event::Streamed(_) => {}
            // There is nothing to be seen of pieces that nobody knows.
            Event::Look { .. } => {}
            Event::Failed(err) => self.ending.end_with(Err(err)),
            Event::Stop => self.ending.end_with(Ok(Outcome::Stopped)),
        }
    }

    fn act(&mut self) {
        let now = Instant::now();
        loop {
            let actions = self.search.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Dial { conn, addr } => {
                        if let Err(gone) = self.hands.links.dial(conn, addr) {
                            self.search.handle(now, gone);
                        }
                    }
                    Action::Tell { conn, order } => {
                        self.hands.links.tell(conn, Task::Order(order));
                    }
                    Action::HangUp { conn } => self.hands.links.hang_up(conn),
                    Action::MorePeers => self.hands.finders.more_peers(),
                    Action::GiveUp => self.ending.end_with(Ok(Outcome::GaveUp)),
                    Action::Decided(decision) => {
                        self.options.trace.about(decision.topic(), &decision);
                        let _ = self.wires.updates.try_send(Update::Decided(decision));
                    }
                    Action::DhtNode { addr } => self.hands.finders.dht_node(addr),
                    Action::Fetch { .. } | Action::CutFetch { .. } => {}
                    Action::Finished | Action::Done => {}
                }
            }
        }
    }

    /// The metadata is here: what to do with it, and what of the data is on disk.
    fn found(
        &mut self,
        info: &[u8],
        then: Then,
        torrent: &'env OnceCell<Options>,
    ) -> Result<Ready> {
        self.heritage = Some(self.search.bequeath());
        let stub = self.options.layout.torrent();
        let mut known = Metainfo::from_info(info).context("the magnet link's metadata")?;
        known.trackers = stub.trackers.clone();
        known.web_seeds = stub.web_seeds.clone();
        let _ = self.wires.updates.try_send(Update::Metadata(Box::new(known.clone())));
        let Some(options) = then(known)? else {
            return Ok(Ready::Over(Box::new(self.summary(Outcome::Complete))));
        };
        let options = torrent.get_or_init(|| options);
        self.hands.learned(options.layout.torrent());
        let private = options.layout.torrent().private;
        if (private || options.layout.root().symlink_metadata().is_ok())
            && let Some(heritage) = &mut self.heritage
        {
            let conns = heritage.hang_up(Instant::now());
            conns.into_iter().for_each(|conn| self.hands.links.hang_up(conn));
            if private {
                // Who is here because of others must not be (BEP 27).
                heritage.book.keep_private();
            }
        }
        run::ready(options, &mut self.wires)
    }

    /// The torrent is known and its place is ready: the swarm goes on with the same connections.
    fn go_on(
        self,
        scope: &'scope Scope<'scope, 'env>,
        options: &'env Options,
        disk: Disk,
        rng: fastrand::Rng,
    ) -> Result<Summary> {
        let (now, hands) = (Instant::now(), self.hands);
        let config = run::config(options, hands.peer_id, hands.port, hands.dht_ports);
        let mut swarm = Swarm::new(config, disk.have.clone(), rng, now);
        if let Some(heritage) = self.heritage {
            swarm.inherit(heritage, now);
        }
        Run::start(scope, options, self.wires, swarm, disk, hands)?.go()
    }

    /// How it ended before there was any data.
    fn summary(&self, outcome: Outcome) -> Summary {
        let mut summary = run::nothing_to_do(self.options, outcome, None);
        (summary.status.pieces, summary.status.total_bytes) = (0, 0);
        summary.status.stuck = Some(Stuck::NoMetadata(self.search.progress().to_string()));
        summary
    }
}
