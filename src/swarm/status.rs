//! The state of a download in numbers, and, when nothing moves, why.
//!
//! Layer: decisions.

use std::fmt;
use std::time::{Duration, Instant};

use crate::geometry::PieceIndex;
use crate::printable::clipped;
use crate::units::count;

#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Verified pieces, of so many: of those that are wanted. The bytes too.
    pub have: u32,
    pub pieces: u32,
    /// Bytes that are here, of so many; those of pieces that are not verified yet included.
    pub done_bytes: u64,
    pub total_bytes: u64,
    /// Bytes a second over the last seconds.
    pub download_rate: f64,
    pub upload_rate: f64,
    /// Peers: connected, of those not choking us, being dialled; addresses known.
    pub connected: usize,
    pub unchoking: usize,
    pub dialling: usize,
    pub known: usize,
    /// `None` while there is no rate to tell it from.
    pub eta: Option<Duration>,
    /// Bytes of blocks received in this run, and of these: blocks that we had already.
    pub downloaded: u64,
    pub wasted: u64,
    pub uploaded: u64,
    /// Web seeds that are in use, and bytes of blocks that came from web seeds.
    pub web_seeds: usize,
    pub web_seed_bytes: u64,
    /// Pieces that did not match their hash.
    pub corrupt: u32,
    /// Why no data comes, once none has for a while.
    pub stuck: Option<Stuck>,
}

/// Why nothing moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stuck {
    /// The metadata of a magnet link has not come; how far that is.
    NoMetadata(String),
    /// No tracker and no peer was given: there is nobody to ask.
    NobodyToAsk,
    /// Nobody was named yet; what each of those that were asked has said.
    NobodyKnown { said: String },
    /// Dials are on the way.
    Dialling { dials: usize },
    /// Nobody could be reached; what one of the dials ended with, and who has not answered yet that
    /// may know others.
    NoneReachable { known: usize, error: Option<String>, said: String },
    /// Every connected peer that has what we lack chokes us.
    AllChoke { peers: usize },
    /// No connected peer has this piece.
    NobodyHas { piece: PieceIndex, peers: usize },
    /// Peers were asked for blocks and send none.
    Waiting { peers: usize, blocks: usize },
    /// The connected peers have not said what they have.
    SayNothing { peers: usize },
    /// The same, and what is the matter with a web seed.
    AndWebSeed(Box<Stuck>, String),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let because = |f: &mut fmt::Formatter, error: &Option<String>| match error {
            Some(error) => write!(f, " ({})", clipped(error, 100)),
            None => Ok(()),
        };
        match self {
            Stuck::NoMetadata(progress) => f.write_str(&clipped(progress, 300)),
            Stuck::NobodyToAsk => f.write_str("no tracker and no peer to ask; try --peer IP:PORT"),
            Stuck::NobodyKnown { said } => f.write_str(said),
            Stuck::Dialling { dials } => write!(f, "dialling {}", peers(*dials)),
            Stuck::NoneReachable { known, error, said } => {
                write!(f, "{} known but none reachable", peers(*known))?;
                because(f, error)?;
                if said.is_empty() { Ok(()) } else { write!(f, "; {said}") }
            }
            Stuck::AllChoke { peers: 1 } => {
                f.write_str("the only peer chokes us; waiting for a turn")
            }
            Stuck::AllChoke { peers: n } => {
                write!(f, "all {} choke us; waiting for a turn", peers(*n))
            }
            Stuck::NobodyHas { piece, peers: 1 } => write!(f, "the only peer lacks piece {piece}"),
            Stuck::NobodyHas { piece, peers: n } => {
                write!(f, "none of {} has piece {piece}", peers(*n))
            }
            Stuck::Waiting { peers: n, blocks } => {
                let blocks = count(*blocks as u64, "block");
                write!(f, "waiting for {blocks} from {}", peers(*n))
            }
            Stuck::AndWebSeed(why, trouble) => write!(f, "{why}; {}", clipped(trouble, 200)),
            Stuck::SayNothing { peers: n } => write!(f, "{} connected but silent", peers(*n)),
        }
    }
}

fn peers(n: usize) -> String {
    count(n as u64, "peer")
}

/// Nothing is said of why nothing moves before it has not moved for so long.
const QUIET: Duration = Duration::from_secs(2);

impl super::Swarm {
    /// The state in numbers.
    pub fn status(&mut self, now: Instant) -> Status {
        let (pieces, missing) = self.picker.wanted();
        let (total_bytes, missing_bytes) = self.picker.wanted_bytes();
        let done_bytes = total_bytes - missing_bytes + self.picker.partial_bytes();
        let download_rate = self.totals.down.per_second(now);
        let eta = (total_bytes - done_bytes) as f64 / download_rate;
        let eta = Duration::try_from_secs_f64(eta).ok();
        let (web_seeds, web_seed_bytes) = self.web_seed_sums();
        let quiet = QUIET <= now.saturating_duration_since(self.last_block);
        Status {
            have: pieces - missing,
            pieces,
            done_bytes,
            total_bytes,
            download_rate,
            upload_rate: self.totals.up.per_second(now),
            connected: self.peers.len(),
            unchoking: self.peers.values().filter(|peer| !peer.choking).count(),
            dialling: self.dials.len(),
            known: self.book.known(),
            eta: eta.filter(|_| 0.0 < download_rate),
            downloaded: self.totals.downloaded,
            wasted: self.totals.wasted,
            uploaded: self.totals.uploaded,
            web_seeds,
            web_seed_bytes,
            corrupt: self.totals.corrupt,
            stuck: (quiet && !self.finished).then(|| self.why_stuck()),
        }
    }

    fn why_stuck(&self) -> Stuck {
        let peers = self.why_peers_are_stuck();
        match self.web_seed_trouble() {
            Some(trouble) => Stuck::AndWebSeed(Box::new(peers), trouble),
            None => peers,
        }
    }

    /// Why nothing moves: the first reason, on the way from nobody to a block, that holds.
    fn why_peers_are_stuck(&self) -> Stuck {
        let peers = self.peers.len();
        if peers == 0 {
            return self.why_nobody();
        }
        let asked: Vec<usize> = self.peers.values().map(|peer| peer.asked.len()).collect();
        let blocks = asked.iter().sum();
        if blocks != 0 {
            return Stuck::Waiting { peers: asked.iter().filter(|&&n| n != 0).count(), blocks };
        }
        if self.peers.values().all(|peer| !peer.told_pieces) {
            return Stuck::SayNothing { peers };
        }
        if let Some(piece) = self.picker.unavailable()
            && self.peers.values().all(|peer| !peer.interested)
        {
            return Stuck::NobodyHas { piece, peers };
        }
        let choking = self.peers.values().filter(|peer| peer.interested && peer.choking).count();
        if choking != 0 {
            return Stuck::AllChoke { peers: choking };
        }
        Stuck::Waiting { peers, blocks }
    }
}
