//! The DHT at work (BEP 5): the thread that plays a [`Dht`] on real sockets.
//!
//! ```text
//! UDP reader × 2 ── Input (bounded, surplus dropped) ──┐
//! name look-ups ─── Input ─────────────────────────────┼──► node's thread ── packets ──► sockets
//! DhtNode (handle) ── Command (bounded, try_send) ─────┘         └── Report ──► session
//! ```
//!
//! The node's thread sleeps until a packet comes or [`Dht::deadline`] is there. A packet that finds
//! no room is lost, as UDP packets are. Dropping the handle's end of the commands ends the thread; it
//! saves the routing table ([`cache`], which it does now and then anyway), wakes its readers and joins
//! them.
//!
//! Layer: hands. The node's thread owns the [`Dht`] and the sockets.

mod cache;
mod socket;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::dht::{self, Action, Announce, Dht, K, Searched};
use crate::explain::hex;
use crate::hash::Sha1;
use crate::hostport::HostPort;
use crate::krpc::Message;
use crate::trace::Trace;

pub use socket::Sockets;

/// Nodes that everybody begins with. They know many others, and are asked only by who knows few.
pub const BOOTSTRAP: [(&str, u16); 4] = [
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("router.utorrent.com", 6881),
    ("dht.libtorrent.org", 25401),
];

/// Packets on their way from the readers: some milliseconds of a flood, 400 KiB at most.
const INPUTS_MAX: usize = 256;

/// Commands on their way. The session gives one now and then, and one for each `port` message.
const COMMANDS_MAX: usize = 64;

/// Inputs that are taken before what follows from them is done.
const BATCH_MAX: usize = 64;

/// How often the routing table is saved, so that a run that is killed has learnt something too.
const SAVE_EVERY: Duration = Duration::from_secs(5 * 60);

/// Names that are looked up: each takes a thread for as long as that takes.
const NAMES_MAX: usize = 16;

/// Addresses of one name that are used.
const ADDRESSES_MAX: usize = 8;

/// How to be a node of the DHT.
#[derive(Debug, Clone)]
pub struct Config {
    /// Instead of [`BOOTSTRAP`].
    pub bootstrap: Option<Vec<HostPort>>,
    /// Further nodes to begin with: those of the torrent.
    pub nodes: Vec<HostPort>,
    /// Ask, but answer nobody (BEP 43).
    pub read_only: bool,
    /// Where the routing table is kept until the next run, if anywhere.
    pub cache: Option<PathBuf>,
    /// Told of every packet.
    pub trace: Trace,
}

impl Default for Config {
    /// A full node that remembers, in the user's cache folder.
    fn default() -> Config {
        let (cache, trace) = (cache::path(), Trace::off());
        Config { bootstrap: None, nodes: Vec::new(), read_only: false, cache, trace }
    }
}

/// What happens in the DHT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It runs, and remembers so many nodes of an earlier run.
    Started { port: u16, remembered: usize },
    /// A bootstrap node's name has no address.
    NoSuchHost { host: HostPort, why: String },
    /// Peers of a torrent, as they come.
    Found { info_hash: Sha1, peers: Vec<SocketAddr> },
    /// One round of looking is over; so many nodes are known.
    Searched { searched: Searched, nodes: usize },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let s = |n: usize| if n == 1 { "" } else { "s" };
        match self {
            Report::Started { port, remembered: n } => {
                write!(f, "dht: at UDP port {port}, {n} node{} remembered", s(*n))
            }
            Report::NoSuchHost { host, why } => write!(f, "dht: {host}: {why}"),
            Report::Found { peers, .. } => write!(f, "dht: {} peer{}", peers.len(), s(peers.len())),
            Report::Searched { searched, nodes } => {
                let Searched { asked, answered, hops, peers, announced, again_in, .. } = searched;
                write!(
                    f,
                    "dht: {nodes} node{}, look-up found {peers} peer{}",
                    s(*nodes),
                    s(*peers)
                )?;
                write!(f, " in {hops} hop{}", s(*hops as usize))?;
                write!(f, " ({answered} of {asked} nodes answered), {announced} told of us")?;
                write!(f, "; again in {} s", again_in.as_secs())
            }
        }
    }
}

enum Command {
    Search(Sha1, Option<Announce>),
    MorePeers(Sha1),
    Node(SocketAddr),
}

/// What comes from other threads.
enum Input {
    Packet(SocketAddr, Vec<u8>),
    /// The addresses of a bootstrap node.
    Resolved(HostPort, Result<Vec<SocketAddr>, String>),
    /// Nothing: its sender wants to know whether anybody is there.
    Knock,
}

/// The handle. Dropped, it ends the node without waiting; [`end`](DhtNode::end) lets wait for that.
pub struct DhtNode {
    commands: Sender<Command>,
    thread: JoinHandle<()>,
    port: Option<u16>,
}

impl DhtNode {
    /// Starts the thread. `report` runs on it: it must hand on and return.
    pub fn start(
        config: Config,
        sockets: Sockets,
        report: impl Fn(Report) + Send + 'static,
    ) -> std::io::Result<DhtNode> {
        let (commands, orders) = bounded(COMMANDS_MAX);
        let (sender, inputs) = bounded(INPUTS_MAX);
        let port = sockets.port(false).or(sockets.port(true));
        let body = move || {
            let node = Node::new(config, &sockets, sender.clone(), report);
            std::thread::scope(|scope| {
                for socket in sockets.all() {
                    let inputs = sender.clone();
                    let reader = Builder::new().name("dht reader".to_owned());
                    let _ = reader.spawn_scoped(scope, move || socket::read(socket, &inputs));
                }
                // Which drops the inputs: from then on the readers find nobody.
                node.run(inputs, orders);
                sockets.wake();
            });
        };
        let thread = Builder::new().name("dht".to_owned()).spawn(body)?;
        Ok(DhtNode { commands, thread, port })
    }

    /// Looks for a torrent's peers, and tells the nodes near it that they can dial us at `port`, from
    /// now on. If that is our own, too, the one that packets come from will do.
    pub fn search(&self, info_hash: Sha1, port: u16, seed: bool) {
        let announce = Announce { port, implied_port: self.port == Some(port), seed };
        self.tell(Command::Search(info_hash, Some(announce)));
    }

    /// Looks for a torrent's peers, and tells nobody of us.
    pub fn look(&self, info_hash: Sha1) {
        self.tell(Command::Search(info_hash, None));
    }

    /// Looks again, if the last time was long enough ago.
    pub fn more_peers(&self, info_hash: Sha1) {
        self.tell(Command::MorePeers(info_hash));
    }

    /// A node that a peer has told us of.
    pub fn add_node(&self, addr: SocketAddr) {
        self.tell(Command::Node(addr));
    }

    /// Never waits. A node that is that far behind has other worries.
    fn tell(&self, command: Command) {
        let _ = self.commands.try_send(command);
    }

    /// Ends it. The thread that is returned still saves its table.
    pub fn end(self) -> JoinHandle<()> {
        self.thread
    }
}

/// What the node's thread has.
struct Node<'a, R> {
    dht: Dht,
    sockets: &'a Sockets,
    report: R,
    cache: Option<PathBuf>,
    trace: Trace,
    /// When it is saved next.
    save_at: Instant,
    /// Names that have not been looked up yet, because the memory will do.
    names: Vec<HostPort>,
    /// For the threads that look them up.
    inputs: Sender<Input>,
}

impl<'a, R: Fn(Report)> Node<'a, R> {
    fn new(config: Config, sockets: &'a Sockets, inputs: Sender<Input>, report: R) -> Self {
        let memory = config.cache.as_deref().map(cache::load).unwrap_or_default();
        let remembered = memory.nodes.len();
        let families = dht::Config {
            v4: sockets.port(false).is_some(),
            v6: sockets.port(true).is_some(),
            read_only: config.read_only,
        };
        let port = sockets.port(false).or(sockets.port(true)).unwrap_or(0);
        report(Report::Started { port, remembered });
        let dht = Dht::new(families, &memory, fastrand::Rng::new(), Instant::now());
        let built_in =
            BOOTSTRAP.iter().filter_map(|&(host, port)| HostPort::new(host, port.into()));
        let chosen = config.bootstrap.is_some() || !config.nodes.is_empty();
        let mut names = config.nodes;
        names.extend(config.bootstrap.unwrap_or_else(|| built_in.collect()));
        names.truncate(NAMES_MAX);
        let (cache, trace, save_at) = (config.cache, config.trace, Instant::now() + SAVE_EVERY);
        let mut node = Node { dht, sockets, report, cache, trace, save_at, names, inputs };
        if chosen || remembered < 2 * K {
            node.resolve();
        }
        node
    }

    /// Finds the addresses of the bootstrap nodes: at once where they are written as such, else by
    /// a thread each, since a look-up may take a minute. They hold nothing, and may outlive us.
    fn resolve(&mut self) {
        let mut known = Vec::new();
        for host in std::mem::take(&mut self.names) {
            if let Ok(ip) = host.host.parse() {
                known.push(SocketAddr::new(ip, host.port));
                continue;
            }
            let inputs = self.inputs.clone();
            let _ = Builder::new().name("dht name".to_owned()).spawn(move || {
                let found = (host.host.as_str(), host.port).to_socket_addrs();
                let found = found.map(|addrs| addrs.take(ADDRESSES_MAX).collect());
                let found = found.map_err(|_| "its name has no address".to_owned());
                let _ = inputs.send(Input::Resolved(host, found));
            });
        }
        self.dht.add_starts(&known, Instant::now());
    }

    /// Until the handle is dropped.
    fn run(mut self, inputs: Receiver<Input>, commands: Receiver<Command>) {
        loop {
            self.act();
            let wait = self.dht.deadline().saturating_duration_since(Instant::now());
            select! {
                recv(commands) -> command => match command {
                    Ok(command) => self.obey(command),
                    Err(_) => break,
                },
                recv(inputs) -> input => {
                    let now = Instant::now();
                    let first = input.into_iter();
                    for input in first.chain(inputs.try_iter().take(BATCH_MAX)) {
                        self.take(input, now);
                    }
                }
                default(wait) => {}
            }
            let now = Instant::now();
            if self.dht.deadline() <= now {
                self.dht.tick(now);
            }
            // The node is woken every few seconds to look after its table.
            if self.save_at <= now {
                self.save(now);
            }
        }
        self.save(Instant::now());
    }

    fn save(&mut self, now: Instant) {
        self.save_at = now + SAVE_EVERY;
        if let Some(path) = &self.cache {
            cache::save(path, &self.dht.memory());
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Search(info_hash, announce) => self.dht.search(info_hash, announce, now),
            Command::MorePeers(info_hash) => self.dht.more_peers(info_hash, now),
            Command::Node(addr) => self.dht.add_node(addr, now),
        }
    }

    fn take(&mut self, input: Input, now: Instant) {
        match input {
            Input::Packet(from, packet) => {
                self.trace.about_peer("dht", None, Some(from), &Packet(from, '←', &packet));
                self.dht.receive(from, &packet, now);
            }
            Input::Resolved(_, Ok(addrs)) => self.dht.add_starts(&addrs, now),
            Input::Resolved(host, Err(why)) => (self.report)(Report::NoSuchHost { host, why }),
            Input::Knock => {}
        }
    }

    /// Carries out what the node has decided.
    fn act(&mut self) {
        loop {
            let actions = self.dht.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Send { to, packet } => {
                        self.trace.about_peer("dht", None, Some(to), &Packet(to, '→', &packet));
                        self.sockets.send(to, &packet);
                    }
                    Action::Silent(to, t) => {
                        let what = format_args!("{to} has not answered t {} in time", hex(&t, 4));
                        self.trace.about_peer("dht", None, Some(to), &what);
                    }
                    Action::Found { info_hash, peers } => {
                        (self.report)(Report::Found { info_hash, peers });
                    }
                    Action::Searched(searched) => {
                        // Those that we remembered are gone: the bootstrap nodes must help.
                        if searched.answered < K && !self.names.is_empty() {
                            self.resolve();
                        }
                        let nodes = self.dht.nodes(Instant::now()).1;
                        (self.report)(Report::Searched { searched, nodes });
                    }
                }
            }
        }
    }
}

/// A packet in a trace: of whom or to whom, and what it means. Read only if somebody looks.
struct Packet<'a>(SocketAddr, char, &'a [u8]);

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Packet(addr, arrow, bytes) = self;
        match Message::decode(bytes) {
            Ok(message) => write!(f, "{addr} {arrow} {}", message.explained()),
            Err(err) => write!(f, "{addr} {arrow} no message of the DHT: {err}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::krpc::{Contact, NodeId};

    /// So that one that is killed has not learnt in vain.
    #[test]
    fn the_table_is_saved_while_the_node_runs() {
        let folder = std::env::temp_dir().join(format!("piecemeal-node-{}", std::process::id()));
        let cache = folder.join("dht");
        let home = "127.0.0.1".parse().expect("an address");
        let sockets = Sockets::open(Some(home), 0).expect("a socket");
        let (sender, inputs) = bounded(INPUTS_MAX);
        let (commands, orders) = bounded(COMMANDS_MAX);
        let bootstrap = Some(Vec::new());
        let config = Config { bootstrap, cache: Some(cache.clone()), ..Config::default() };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut node = Node::new(config, &sockets, sender, |_| {});
                let known = Contact { id: NodeId([1; 20]), addr: ([127, 0, 0, 1], 9).into() };
                node.dht.knows([known], Instant::now());
                node.save_at = Instant::now();
                node.run(inputs, orders);
            });
            commands.send(Command::MorePeers(Sha1([0; 20]))).expect("it runs, and wakes");
            let limit = Instant::now() + Duration::from_secs(20);
            while !cache.exists() {
                assert!(Instant::now() < limit, "it is not saved");
                std::thread::sleep(Duration::from_millis(10));
            }
            drop(commands);
        });
        assert_eq!(cache::load(&cache).nodes.len(), 1);
        std::fs::remove_dir_all(&folder).expect("a folder to remove");
    }
}
