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

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle, Scope};

use anyhow::{Context, Result};
use crossbeam_channel::Sender;

use super::Options;
use crate::address_book::Source;
use crate::dht_node::{self, DhtNode, Sockets};
use crate::event::Event;
use crate::hash::Sha1;
use crate::hostport::HostPort;
use crate::listener::Listening;
use crate::lsd::Lsd;
use crate::metainfo::Metainfo;
use crate::port_map::PortMap;
use crate::swarm::Fact;
use crate::tracker::{Me, Report, Totals, Trackers};

/// How many of the addresses of one name are tried.
const ADDRESSES_OF_A_NAME: usize = 8;

/// Where others come in.
pub struct Doors {
    pub listening: Listening,
    /// Of the DHT.
    pub sockets: Option<Sockets>,
}

impl Doors {
    /// The DHT's sockets are at the port at which peers dial us if possible. Without any, others find
    /// peers. A private torrent has none (BEP 27), and a proxy takes no datagrams.
    pub fn open(options: &Options, listening: Listening) -> Doors {
        let private = options.layout.torrent().private;
        let wanted = options.dht.is_some() && !private && options.proxy.is_none();
        let open = || Sockets::open(options.listen, listening.port).ok();
        let sockets = wanted.then(open).flatten();
        Doors { listening, sockets }
    }

    /// Where the DHT is reached, over IPv4 and over IPv6.
    pub fn dht_ports(&self) -> [Option<u16>; 2] {
        [false, true].map(|v6| self.sockets.as_ref()?.port(v6))
    }
}

/// Each of them ends when it is dropped: an error or a panic, wherever it is, leaves nobody waiting at
/// a socket. [`stop`](Finders::stop) also says goodbye, and waits.
pub struct Finders {
    listening: Listening,
    trackers: Trackers,
    totals: Arc<Totals>,
    lsd: Option<Lsd>,
    port_map: Option<PortMap>,
    /// Never for a private torrent (BEP 27): no socket was opened then.
    dht: Option<DhtNode>,
    /// Its thread, where it had to end before us.
    retired: Option<JoinHandle<()>>,
    info_hash: Sha1,
}

impl Finders {
    /// Starts them all; `left` is what the first announces say.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        options: &Options,
        doors: Doors,
        me: Me,
        left: u64,
        events: &Sender<Event>,
    ) -> Result<Finders> {
        let Doors { listening, sockets } = doors;
        listen(scope, &listening, events)?;
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
        let lsd = options.asks_the_lan().then(|| {
            let sender = events.clone();
            let report = move |addr| {
                let fact = Fact::Addresses { source: Source::Lsd, addrs: vec![addr] };
                // Never waits, so that the search can be stopped while the session goes on (a magnet
                // link's torrent turns out to be private). A full inbox has enough to do.
                let _ = sender.try_send(Event::Fact(fact));
            };
            Lsd::start(info_hash, port, options.listen, report)
        });
        let sender = events.clone();
        let report = move |report| drop(sender.send(Event::Dht(report)));
        let start = |(sockets, config): (Sockets, dht_node::Config)| {
            let config = dht_node::Config { trace: options.trace, ..config };
            DhtNode::start(config, sockets, report).context("cannot start a thread")
        };
        let dht = sockets.zip(options.dht.clone()).map(start).transpose()?;
        dht.iter().for_each(|dht| dht.search(info_hash, port, left == 0));
        Ok(Finders { listening, trackers, totals, lsd, port_map, dht, retired: None, info_hash })
    }

    /// A peer is a node of the DHT too.
    pub fn dht_node(&self, addr: SocketAddr) {
        self.dht.iter().for_each(|dht| dht.add_node(addr));
    }

    /// Tells the DHT what has changed about us.
    fn tell_dht(&self) {
        let seed = self.totals.left.load(Ordering::Relaxed) == 0;
        let port = self.totals.port(self.listening.port);
        self.dht.iter().for_each(|dht| dht.search(self.info_hash, port, seed));
    }

    /// The metadata of a magnet link is here: of a private torrent only the trackers may speak from
    /// now on (BEP 27).
    pub fn learned(&mut self, torrent: &Metainfo) {
        if torrent.private {
            self.lsd.take().into_iter().for_each(Lsd::stop);
            self.retired = self.dht.take().map(DhtNode::end);
        }
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
    pub fn post(&self, left: u64, downloaded: u64, uploaded: u64, paused: bool) {
        self.totals.paused.store(paused, Ordering::Relaxed);
        self.totals.left.store(left, Ordering::Relaxed);
        self.totals.downloaded.store(downloaded, Ordering::Relaxed);
        self.totals.uploaded.store(uploaded, Ordering::Relaxed);
    }

    /// The port that a router passes on to ours, or none does any more: who asks where we can be
    /// dialled is told so from now on.
    pub fn mapped(&self, outside: Option<u16>) {
        let outside = outside.unwrap_or(0);
        if self.totals.outside_port.swap(outside, Ordering::Relaxed) != outside {
            self.tell_dht();
        }
    }

    /// Nobody new is wanted. The farewell takes as long as a tracker takes to answer. To be called when
    /// the session's inbox is gone: who waits for room in it is joined here.
    pub fn stop(self) -> Farewell {
        drop(self.listening);
        self.lsd.into_iter().for_each(Lsd::stop);
        if let Some(port_map) = self.port_map {
            port_map.stop();
        }
        // It saves its table while the trackers are told.
        let dht = self.dht.map(DhtNode::end).or(self.retired);
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
    listening: &Listening,
    events: &Sender<Event>,
) -> Result<()> {
    for acceptor in listening.acceptors().context("cannot listen")? {
        let events = events.clone();
        Builder::new()
            .name("listener".to_owned())
            .spawn_scoped(scope, move || acceptor.run(&events))
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

/// What a report of the DHT is to those that decide.
pub fn dht_fact(report: &dht_node::Report) -> Option<Fact> {
    match report {
        dht_node::Report::Found { peers, .. } => {
            Some(Fact::Addresses { source: Source::Dht, addrs: peers.clone() })
        }
        dht_node::Report::Searched { searched, .. } => {
            Some(Fact::DhtSearched { answered: searched.answered })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::Dialler;
    use crate::magnet::Magnet;
    use crate::storage::Layout;

    #[test]
    fn a_routers_port_is_told_while_it_is_open() {
        let info_hash = Sha1([1; 20]);
        let torrent = Arc::new(Metainfo::from_magnet(&Magnet::new(info_hash)));
        let options = Options { port_map: false, ..Options::at(Layout::below(torrent, ".")) };
        let (events, _inbox) = crossbeam_channel::bounded(1);
        let doors = Doors { listening: Listening::nowhere(), sockets: None };
        let (peer_id, port, key, both) = ([2; 20], 6881, 0, false);
        let me = Me { info_hash, peer_id, port, key, both, dialler: Dialler::default() };
        std::thread::scope(|scope| {
            let finders = Finders::start(scope, &options, doors, me, 0, &events).unwrap();
            assert_eq!(finders.totals.port(port), 6881);
            for (outside, told) in [(Some(7000), 7000), (None, 6881), (Some(7000), 7000)] {
                finders.mapped(outside);
                assert_eq!(finders.totals.port(port), told);
            }
        });
    }
}
