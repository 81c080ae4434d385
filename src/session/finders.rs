//! The finders: every hand that finds peers, or is found by them.
//!
//! ```text
//! listener ── Accepted ──┐
//! trackers ── Report ────┼──► session's inbox
//! lsd ─────── Addresses ─┤
//! router ──── Report ────┘
//! ```
//!
//! Layer: head. Owned by the session's thread, from before the first connection to after the last.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle, Scope};

use anyhow::{Context, Result};
use crossbeam_channel::Sender;

use super::Options;
use crate::address_book::Source;
use crate::event::Event;
use crate::listener::{self, Listening};
use crate::lsd::Lsd;
use crate::port_map::PortMap;
use crate::swarm::Fact;
use crate::tracker::{Me, Totals, Trackers};

pub struct Finders<'env> {
    listening: &'env Listening,
    trackers: Trackers,
    totals: Arc<Totals>,
    lsd: Option<Lsd>,
    port_map: Option<PortMap>,
}

impl<'env> Finders<'env> {
    /// Starts them all; `left` is what the first announces say.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, 'env>,
        options: &Options,
        listening: &'env Listening,
        me: Me,
        left: u64,
        events: &Sender<Event>,
    ) -> Result<Finders<'env>> {
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
        Ok(Finders { listening, trackers, totals, lsd, port_map })
    }

    /// Asks for more peers, where the rules allow it.
    pub fn more_peers(&self) {
        self.trackers.more_peers();
    }

    /// The last piece has just been verified.
    pub fn completed(&self) {
        self.trackers.completed();
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
    }

    /// Nobody new is wanted. The farewell takes as long as a tracker takes to answer.
    pub fn stop(self) -> Farewell {
        self.listening.close();
        // Nobody is left to read what its threads report, so none of them waits.
        self.lsd.into_iter().for_each(Lsd::stop);
        if let Some(port_map) = self.port_map {
            port_map.stop();
        }
        let trackers = self.trackers;
        let thread = Builder::new().name("farewell".to_owned()).spawn(move || trackers.stop());
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
