//! A session: one torrent, from what is on disk to every piece verified. The library's front door.
//!
//! ```text
//! Options ──► Session::start ──► updates (what happens), stop() ──► join(): how it ended
//! ```
//!
//! The session's thread checks what is there, starts the hands (listener, trackers, assembler, a
//! reader and a writer for each peer), and then runs the loop: an event comes in, the swarm decides,
//! the actions are carried out ([`run`]). It never waits for a hand; when it ends, all of them do.
//!
//! All that the commands can do is done with this: `get` and `seed` are a session, a terminal and an
//! exit code. One that gives and one that gets, as a program has them:
//!
//! ```
//! # fn main() -> anyhow::Result<()> {
//! use std::net::Ipv4Addr;
//! use std::ops::ControlFlow;
//!
//! use piecemeal::create::{Plan, Wishes};
//! use piecemeal::session::{Options, Outcome, Session, Update};
//! use piecemeal::swarm::Goal;
//!
//! let dir = std::env::temp_dir().join(format!("piecemeal-doc-{}", std::process::id()));
//! std::fs::create_dir_all(dir.join("here"))?;
//! std::fs::write(dir.join("here/image.iso"), vec![7; 300_000])?;
//! let plan = Plan::new(&dir.join("here/image.iso"), Wishes::default())?;
//! let made = plan.hash(&mut |_done, _total| ControlFlow::Continue(()))?.expect("nobody stops it");
//!
//! // The fields that are not named stay as usual; here nobody is asked, and no router.
//! let home = |dir| Options {
//!     listen: Some(Ipv4Addr::LOCALHOST.into()),
//!     port: Some(0),
//!     port_map: false,
//!     ..Options::new(made.torrent.clone(), dir)
//! };
//! let seed = Session::start(Options { goal: Some(Goal::default()), ..home(dir.join("here")) })?;
//! let port = seed.updates().iter().find_map(|update| match update {
//!     Update::Listening { port, .. } => Some(port),
//!     _ => None,
//! });
//! let peers = vec![(Ipv4Addr::LOCALHOST, port.expect("it listens")).into()];
//! std::fs::create_dir(dir.join("there"))?;
//! let get = Session::start(Options { peers, ..home(dir.join("there")) })?;
//! for update in get.updates() {
//!     if let Update::Status(status) = update {
//!         println!("{} of {} pieces", status.have, status.pieces);
//!     }
//! }
//! assert_eq!(get.join()?.outcome, Outcome::Complete);
//! seed.stopper().stop();
//! assert_eq!(seed.join()?.outcome, Outcome::Stopped);
//! assert_eq!(std::fs::read(dir.join("there/image.iso"))?, vec![7; 300_000]);
//! # std::fs::remove_dir_all(dir)?;
//! # Ok(())
//! # }
//! ```
//!
//! Layer: head.

mod disk;
mod ending;
mod finders;
mod hands;
mod hunt;
mod links;
mod run;
mod web;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::dht_node;
use crate::dial::Dialler;
use crate::event::{EVENTS_MAX, Event};
use crate::geometry::PieceIndex;
use crate::hostport::HostPort;
use crate::limit::Limit;
use crate::metadata;
use crate::metainfo::Metainfo;
use crate::port_map;
use crate::proxy::Proxy;
use crate::storage::Layout;
use crate::stream::Output;
use crate::swarm::{Account, Decision, Goal, Snapshot, Status};
use crate::trace::Trace;
use crate::tracker::Report;
use crate::wire::handshake::{PeerId, Reserved};

/// Updates that may wait for their reader. A status that finds no room is dropped: the next one
/// says more. The same goes for the rest when nobody reads at all.
const UPDATES_MAX: usize = 256;

/// Pieces leave so much of that to what matters more.
const PIECES_MAX: usize = UPDATES_MAX / 2;

/// What to fetch, where to put it, whom to ask.
#[derive(Debug, Clone)]
pub struct Options {
    pub layout: Layout,
    /// Listen at this address only, and dial from it; at all of them if it is not given.
    pub listen: Option<IpAddr>,
    /// Listen at this port; at a free one if it is not given.
    pub port: Option<u16>,
    /// Ask the router at home to let peers through (NAT-PMP, PCP).
    pub port_map: bool,
    /// Dial peers and trackers through it, and be found by nobody.
    pub proxy: Option<Proxy>,
    /// Peers to dial whatever the trackers say.
    pub peers: Vec<SocketAddr>,
    /// Peers of a magnet link, to be looked up first if they are names.
    pub hosts: Vec<HostPort>,
    /// Tiers of trackers to ask (BEP 12); those of the torrent, unless changed.
    pub trackers: Vec<Vec<String>>,
    /// Servers that have the data (BEP 19); those of the torrent, unless changed.
    pub web_seeds: Vec<String>,
    /// Be a node of the DHT (BEP 5), and look for peers there. Not done for a private torrent.
    pub dht: Option<dht_node::Config>,
    /// Ask the local network too (BEP 14), unless the torrent is private.
    pub lsd: bool,
    /// Tell peers of other peers, and let them tell us (BEP 11), unless the torrent is private.
    pub pex: bool,
    /// Connections at most.
    pub max_peers: usize,
    /// Give up after so long without a byte.
    pub stop_timeout: Option<Duration>,
    /// Go on uploading once all is here, until then; without it that is the end.
    pub goal: Option<Goal>,
    /// Send every piece once before any twice, while we are the only seed (BEP 16).
    pub super_seed: bool,
    /// Bytes a second over all connections.
    pub download_limit: Limit,
    pub upload_limit: Limit,
    /// Fetch the pieces in their order, not the rarest first.
    pub in_order: bool,
    /// Write the only file that is wanted there while it comes.
    pub stream: Option<Output>,
    /// Whoever called removes the data at the end: nothing is written down about it.
    pub temporary: bool,
    /// Only give: data that is not all there is an error.
    pub seed_only: bool,
    /// Hash everything that is on disk, whatever the resume file says.
    pub check: bool,
    /// Tell of every piece, and of every peer that comes or goes.
    pub watch: bool,
    /// The extensions that our handshakes announce.
    pub reserved: Reserved,
    pub trace: Trace,
}

/// What to do once the metadata of a magnet link is here: the options of the torrent itself, or
/// `None` where the metadata was all that was wanted.
pub type Then = Box<dyn FnOnce(Metainfo) -> Result<Option<Options>> + Send>;

impl Options {
    /// How everything that we dial goes out.
    pub fn dialler(&self) -> Dialler {
        Dialler::new(self.proxy.clone(), self.listen)
    }

    /// The usual: into `dir` under the torrent's name, from its own trackers.
    pub fn new(torrent: Metainfo, dir: impl Into<PathBuf>) -> Options {
        let (trackers, web_seeds) = (torrent.trackers.clone(), torrent.web_seeds.clone());
        let layout = Layout::below(Arc::new(torrent), dir);
        Options { trackers, web_seeds, lsd: true, pex: true, ..Options::at(layout) }
    }

    /// The usual, at a place of one's own choice and with `peers` only.
    pub fn at(layout: Layout) -> Options {
        Options {
            layout,
            listen: None,
            port: None,
            port_map: true,
            proxy: None,
            peers: Vec::new(),
            hosts: Vec::new(),
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            dht: None,
            lsd: false,
            pex: false,
            max_peers: 50,
            stop_timeout: None,
            goal: None,
            super_seed: false,
            download_limit: Limit::none(),
            upload_limit: Limit::none(),
            in_order: false,
            stream: None,
            temporary: false,
            seed_only: false,
            check: false,
            watch: false,
            reserved: Reserved::default().with_fast().with_extended(),
            trace: Trace::off(),
        }
    }

    /// Whether the local network is asked for peers. Those of a private torrent come from its trackers
    /// only (BEP 27); a proxy takes no datagrams.
    pub fn asks_the_lan(&self) -> bool {
        self.lsd && !self.layout.torrent().private && self.proxy.is_none()
    }
}

/// What happens, as it happens.
#[derive(Debug)]
pub enum Update {
    /// What is on disk is being hashed: bytes, of so many.
    Checking {
        done: u64,
        total: u64,
    },
    /// The metadata of a magnet link is being looked for.
    Searching(metadata::Progress),
    /// The metadata is here.
    Metadata(Box<Metainfo>),
    /// What was found on disk.
    Found(Found),
    /// The port that peers can dial, and the id by which they know us.
    Listening {
        port: u16,
        peer_id: PeerId,
    },
    /// About every [`TICK`](crate::swarm::TICK).
    Status(Status),
    Tracker(Report),
    Dht(dht_node::Report),
    /// What the router at home said to our wish to be reachable.
    PortMap(port_map::Report),
    /// Every wanted piece is verified; from now on it only gives.
    Complete(Status),
    /// A piece is verified. Told with [`Options::watch`], and left out while the reader is behind.
    Stored {
        piece: PieceIndex,
    },
    Decided(Decision),
    /// What [`Session::look`] asked for.
    Look(Box<Snapshot>),
}

/// What was on disk at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Verified pieces, of so many: of those that are wanted.
    pub have: u32,
    pub pieces: u32,
    /// Pieces that have bytes on disk, but not the right ones. They will be replaced.
    pub different: u32,
    /// A resume file vouched for it, nothing needed hashing.
    pub resumed: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every wanted piece is verified and in its place, and the goal, if there was one, is reached.
    Complete,
    /// Whoever read the stream has left.
    ReaderLeft,
    /// [`Stopper::stop`] was called.
    Stopped,
    /// Nothing came within the time that was given.
    GaveUp,
}

#[derive(Debug)]
pub struct Summary {
    pub outcome: Outcome,
    /// The state at the end.
    pub status: Status,
    /// What went between us and each peer, most bytes first.
    pub accounts: Vec<Account>,
    /// The web seeds that gave anything, and how many bytes of blocks.
    pub web_seeds: Vec<(String, u64)>,
    /// Since the peers were first asked; zero if nobody had to be.
    pub time: Duration,
}

/// A running session.
pub struct Session {
    updates: Receiver<Update>,
    events: Sender<Event>,
    thread: JoinHandle<Result<Summary>>,
}

impl Session {
    pub fn start(options: Options) -> Result<Session> {
        Session::spawn(move |wires| run::run(&options, wires))
    }

    /// Begins with a magnet link: `options` are those of [`Metainfo::from_magnet`]. When the metadata
    /// is here, `then` says how to go on; it runs on the session's thread.
    pub fn start_magnet(options: Options, then: Then) -> Result<Session> {
        Session::spawn(move |wires| hunt::run(&options, then, wires))
    }

    fn spawn(body: impl FnOnce(run::Wires) -> Result<Summary> + Send + 'static) -> Result<Session> {
        let (updates, inbox) = bounded(UPDATES_MAX);
        let (events, session_inbox) = bounded(EVENTS_MAX);
        let wires = run::Wires {
            events: events.clone(),
            inbox: session_inbox,
            updates,
            backlog: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("session".to_owned())
            .spawn(move || body(wires))
            .context("cannot start a thread")?;
        Ok(Session { updates: inbox, events, thread })
    }

    /// What happens, until the session has ended.
    pub fn updates(&self) -> &Receiver<Update> {
        &self.updates
    }

    /// A handle to end the session from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.events.clone())
    }

    /// Asks for an [`Update::Look`]: the peers, and the pieces in at most so many cells. There is none
    /// while the session is too busy.
    pub fn look(&self, cells: usize) {
        let _ = self.events.try_send(Event::Look { cells });
    }

    /// Waits for the end.
    pub fn join(self) -> Result<Summary> {
        // Nobody reads the updates any more, so nobody need make them.
        drop(self.updates);
        self.thread.join().map_err(|_| anyhow!("the session's thread panicked"))?
    }
}

/// Ends a session in order: what was verified is kept and written down.
#[derive(Clone)]
pub struct Stopper(Sender<Event>);

impl Stopper {
    pub fn stop(&self) {
        // One that has ended need not be told.
        let _ = self.0.send(Event::Stop);
    }
}
