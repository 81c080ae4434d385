//! The finders: every hand that finds peers, or is found by them.
//!
//! ```text
//! listener ── Accepted ──┐
//! trackers ── Report ────┼──► session's inbox
//! DHT ─────── Report ────┤
//! lsd ─────── Addresses ─┤
//! router ──── Report ────┘
//! ```
//!
//! Layer: head. Owned by the session's thread, from before the first connection to after the last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle, Scope};

use anyhow::{Context, Result};
use crossbeam_channel::Sender;

use super::Options;
use crate::address_book::Source;
use crate::dht_node::{DhtNode, Sockets};
use crate::event::Event;
use crate::hash::Sha1;
use crate::listener::{self, Listening};
use crate::lsd::Lsd;
use crate::port_map::PortMap;
use crate::swarm::Fact;
use crate::tracker::{Me, Totals, Trackers};

/// Where others come in.
pub struct Doors<'env> {
    pub listening: &'env Listening,
    /// Of the DHT.
    pub sockets: Option<Sockets>,
}

pub struct Finders<'env> {
    listening: &'env Listening,
    trackers: Trackers,
    totals: Arc<Totals>,
    lsd: Option<Lsd>,
    port_map: Option<PortMap>,
    /// Never for a private torrent (BEP 27): no socket was opened then.
    dht: Option<DhtNode>,
    info_hash: Sha1,
}

impl<'env> Finders<'env> {
    /// Starts them all; `left` is what the first announces say.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, 'env>,
        options: &Options,
        doors: Doors<'env>,
        me: Me,
        left: u64,
        events: &Sender<Event>,
    ) -> Result<Finders<'env>> {
        let Doors { listening, sockets } = doors;
        listen(scope, listening, events)?;
        let totals = Arc::new(Totals::default());
        totals.left.store(left, Ordering::Relaxed);
        let sender = events.clone();
        let report = move |report| drop(sender.send(Event::PortMap(report)));
        // Through a proxy nobody can come in.
        let port_map = match options.proxy {
            None if options.port_map => PortMap::start(me.port, options.listen, report),
            _ => None,
        };
        let (info_hash, port) = (me.info_hash, me.port);
        let sender = events.clone();
        let report = move |report| drop(sender.send(Event::Tracker(report)));
        let trackers = Trackers::start(options.trackers.clone(), me, totals.clone(), report);
        // A private torrent's peers come from its trackers only (BEP 27); a proxy takes no datagrams.
        let with_lsd = options.lsd && !options.layout.torrent().private && options.proxy.is_none();
        let lsd = with_lsd.then(|| {
            let sender = events.clone();
            let report = move |addr| {
                let fact = Fact::Addresses { source: Source::Lsd, addrs: vec![addr] };
                let _ = sender.send(Event::Fact(fact));
            };
            Lsd::start(info_hash, port, options.listen, report)
        });
        let sender = events.clone();
        let report = move |report| drop(sender.send(Event::Dht(report)));
        let start = |(sockets, config): (Sockets, _)| {
            DhtNode::start(config, sockets, report).context("cannot start a thread")
        };
        let dht = sockets.zip(options.dht.clone()).map(start).transpose()?;
        dht.iter().for_each(|dht| dht.search(info_hash, port, left == 0));
        Ok(Finders { listening, trackers, totals, lsd, port_map, dht, info_hash })
    }

    /// A peer is a node of the DHT too.
    pub fn dht_node(&self, addr: SocketAddr) {
        self.dht.iter().for_each(|dht| dht.add_node(addr));
    }

    /// Tells the DHT what has changed about us.
    fn tell_dht(&self) {
        let seed = self.totals.left.load(Ordering::Relaxed) == 0;
        let port = match self.totals.outside_port.load(Ordering::Relaxed) {
            0 => self.listening.port,
            outside => outside,
        };
        self.dht.iter().for_each(|dht| dht.search(self.info_hash, port, seed));
    }

    /// Asks for more peers, where the rules allow it.
    pub fn more_peers(&self) {
        self.trackers.more_peers();
        self.dht.iter().for_each(|dht| dht.more_peers(self.info_hash));
    }

    /// The last piece has just been verified.
    pub fn completed(&self) {
        self.trackers.completed();
        self.tell_dht();
    }

    /// What trackers will be told, in bytes.
    pub fn post(&self, left: u64, downloaded: u64, uploaded: u64) {
        self.totals.left.store(left, Ordering::Relaxed);
        self.totals.downloaded.store(downloaded, Ordering::Relaxed);
        self.totals.uploaded.store(uploaded, Ordering::Relaxed);
    }

    /// A router passes this port of its own on to ours: trackers are told of it from now on.
    pub fn mapped(&self, outside: u16) {
        self.totals.outside_port.store(outside, Ordering::Relaxed);
        self.tell_dht();
    }

    /// Nobody new is wanted. The farewell takes as long as a tracker takes to answer.
    pub fn stop(self) -> Farewell {
        self.listening.close();
        // Nobody is left to read what its threads report, so none of them waits.
        self.lsd.into_iter().for_each(Lsd::stop);
        if let Some(port_map) = self.port_map {
            port_map.stop();
        }
        // It saves its table while the trackers are told.
        let dht = self.dht.map(DhtNode::end);
        let trackers = self.trackers;
        let body = move || {
            trackers.stop();
            dht.into_iter().for_each(|thread| drop(thread.join()));
        };
        let thread = Builder::new().name("farewell".to_owned()).spawn(body);
        Farewell(thread.ok())
    }
}

/// Trackers being told that we leave, while the session cleans up.
#[must_use]
pub struct Farewell(Option<JoinHandle<()>>);

impl Farewell {
    pub fn wait(self) {
        if let Some(thread) = self.0 {
            let _ = thread.join();
        }
    }
}

/// One thread for each family that we listen at.
fn listen<'scope>(
    scope: &'scope Scope<'scope, '_>,
    listening: &'scope Listening,
    events: &Sender<Event>,
) -> Result<()> {
    for socket in &listening.sockets {
        let events = events.clone();
        Builder::new()
            .name("listener".to_owned())
            .spawn_scoped(scope, move || listener::run(socket, &events))
            .context("cannot start a thread")?;
    }
    Ok(())
}
