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

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle, Scope};

use anyhow::{Context, Result};
use crossbeam_channel::Sender;

use super::Options;
use crate::address_book::Source;
use crate::event::Event;
use crate::hostport::HostPort;
use crate::listener::{self, Listening};
use crate::lsd::Lsd;
use crate::metainfo::Metainfo;
use crate::port_map::PortMap;
use crate::swarm::Fact;
use crate::tracker::{Me, Report, Totals, Trackers};

/// How many of the addresses of one name are tried.
const ADDRESSES_OF_A_NAME: usize = 8;

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
        look_up(options.hosts.clone(), options.proxy.is_some(), events.clone())?;
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

    /// The metadata of a magnet link is here: of a private torrent only the trackers may speak from
    /// now on (BEP 27).
    pub fn learned(&mut self, torrent: &Metainfo) {
        if torrent.private {
            self.lsd.take().into_iter().for_each(Lsd::stop);
        }
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

/// Looks up the peers that are known by name; not past a proxy, which would be a leak. The thread may
/// outlive the session, if the look-up hangs; it holds nothing.
fn look_up(hosts: Vec<HostPort>, proxied: bool, events: Sender<Event>) -> Result<()> {
    if hosts.is_empty() {
        return Ok(());
    }
    let body = move || {
        for HostPort { host, port } in hosts {
            let addrs: Vec<SocketAddr> = match host.parse::<IpAddr>() {
                Ok(ip) => vec![SocketAddr::new(ip, port)],
                Err(_) if proxied => continue,
                Err(_) => {
                    let addrs = (host.as_str(), port).to_socket_addrs().into_iter().flatten();
                    addrs.take(ADDRESSES_OF_A_NAME).collect()
                }
            };
            let fact = Fact::Addresses { source: Source::User, addrs };
            if events.send(Event::Fact(fact)).is_err() {
                return;
            }
        }
    };
    Builder::new().name("names".to_owned()).spawn(body).context("cannot start a thread").map(drop)
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

/// What a tracker's report is to those that decide.
pub fn fact(report: &Report) -> Option<Fact> {
    match report {
        Report::Answered { peers, .. } => {
            Some(Fact::Addresses { source: Source::Tracker, addrs: peers.clone() })
        }
        Report::Failed { .. } | Report::Ignored { .. } => {
            Some(Fact::TrackerFailed { error: report.to_string() })
        }
        Report::Asking { .. } => None,
    }
}
