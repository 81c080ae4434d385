//! The finders: every hand that finds peers, or is found by them.
//!
//! ```text
//! listener ── Accepted ──┐
//! trackers ── Report ────┤
//! DHT ─────── Report ────┴──► session's inbox
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
use crate::dht_node::{DhtNode, Sockets};
use crate::event::Event;
use crate::hash::Sha1;
use crate::listener::{self, Listening};
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
        let report = move |report| drop(sender.send(Event::Tracker(report)));
        let trackers = Trackers::start(options.trackers.clone(), me, totals.clone(), report);
        let sender = events.clone();
        let report = move |report| drop(sender.send(Event::Dht(report)));
        let start = |(sockets, config): (Sockets, _)| {
            DhtNode::start(config, sockets, me.port, report).context("cannot start a thread")
        };
        let dht = sockets.zip(options.dht.clone()).map(start).transpose()?;
        dht.iter().for_each(|dht| dht.search(me.info_hash, left == 0));
        Ok(Finders { listening, trackers, totals, dht, info_hash: me.info_hash })
    }

    /// A peer is a node of the DHT too.
    pub fn dht_node(&self, addr: SocketAddr) {
        self.dht.iter().for_each(|dht| dht.add_node(addr));
    }

    /// Asks for more peers, where the rules allow it.
    pub fn more_peers(&self) {
        self.trackers.more_peers();
        self.dht.iter().for_each(|dht| dht.more_peers(self.info_hash));
    }

    /// The last piece has just been verified.
    pub fn completed(&self) {
        self.trackers.completed();
        self.dht.iter().for_each(|dht| dht.search(self.info_hash, true));
    }

    /// What trackers will be told, in bytes.
    pub fn post(&self, left: u64, downloaded: u64, uploaded: u64) {
        self.totals.left.store(left, Ordering::Relaxed);
        self.totals.downloaded.store(downloaded, Ordering::Relaxed);
        self.totals.uploaded.store(uploaded, Ordering::Relaxed);
    }

    /// Nobody new is wanted. The farewell takes as long as a tracker takes to answer.
    pub fn stop(self) -> Farewell {
        self.listening.close();
        let (trackers, dht) = (self.trackers, self.dht);
        let body = move || {
            // The table is written to disk meanwhile.
            let commands = dht.map(DhtNode::end);
            trackers.stop();
            commands.into_iter().for_each(|thread| drop(thread.join()));
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
