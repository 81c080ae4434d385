//! Trackers, seen from a client: who has this torrent? (BEP 3, 7, 12, 15, 23, 41, 48)
//!
//! ```text
//!  Trackers (handle) ── Command ──► tier thread ── starts ──► call thread: one announce, blocking
//!  session ◄────────── Report ───── order, times ◄─ Outcome ──┘ (name look-up, socket, answer)
//! ```
//!
//! | file        | what it holds                                                        |
//! |-------------|----------------------------------------------------------------------|
//! | `url`       | which addresses we announce to at all, and how they are escaped      |
//! | `answer`    | a bencoded answer and the lists of peers, cut down to sane numbers   |
//! | `http`      | one announce or scrape over HTTP                                     |
//! | `packet`    | the bytes of the UDP protocol                                        |
//! | `udp`       | one announce or scrape over UDP: resending, connection ids           |
//! | `timetable` | whom a tier asks when: pure, time is an argument                     |
//! | `tier`      | the thread of a tier, and a thread for each call it makes            |
//! | `team`      | all tiers of a torrent: the handle that the session holds            |
//!
//! A tracker is a stranger: it may be silent, slow, endless or lie. So every call has its own thread,
//! which shares nothing and can be left behind, and everything in an answer has a limit.
//!
//! Layer: hands. This file owns nothing; it names what goes out and what comes in.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::dial::Dialler;
use crate::hash::Sha1;
use crate::web::{self, Hold, Leash};

pub mod answer;
mod http;
pub mod packet;
mod team;
#[cfg(test)]
mod tests;
mod tier;
mod timetable;
mod udp;
mod url;

use answer::Family;
pub use team::{Me, Report, TRACKERS_MAX, Totals, Trackers};
pub use url::{Target, place};

/// How many peers we ask for: enough to fill 50 connections when three in four are dead.
pub const NUMWANT: u32 = 200;

/// What a tracker is told.
#[derive(Debug, Clone)]
pub struct Announce {
    pub info_hash: Sha1,
    pub peer_id: [u8; 20],
    /// Where we listen; 0 is allowed and means that nobody can dial us.
    pub port: u16,
    /// In bytes, since `started` was sent.
    pub uploaded: u64,
    pub downloaded: u64,
    /// What is missing, in bytes; 0 makes us a seeder.
    pub left: u64,
    pub event: Event,
    /// How many peers we would like; a wish, not a limit.
    pub numwant: u32,
    /// Random, the same for the whole run: by this a tracker knows us from another address.
    pub key: u32,
    /// What the tracker called itself in an earlier answer (HTTP only).
    pub tracker_id: Option<Vec<u8>>,
}

/// Why we announce. The numbers are those of BEP 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The interval is over, or we want more peers.
    None = 0,
    /// All pieces are here; sent only by who saw them arrive.
    Completed = 1,
    Started = 2,
    Stopped = 3,
    /// As none, of a partial seed (BEP 21); over UDP it has libtorrent's number.
    Paused = 4,
}

/// The word for it in an HTTP announce; a regular one has none.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Event::None => "",
            Event::Completed => "completed",
            Event::Started => "started",
            Event::Stopped => "stopped",
            Event::Paused => "paused",
        })
    }
}

/// What a tracker said, within our limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// When it wants to hear from us again.
    pub interval: Duration,
    /// Never sooner than this, unless there is an event.
    pub min_interval: Option<Duration>,
    pub peers: Vec<SocketAddr>,
    pub seeders: Option<u32>,
    pub leechers: Option<u32>,
    /// For the user, made printable and clipped.
    pub warning: Option<String>,
    /// To be sent back in the next announce.
    pub tracker_id: Option<Vec<u8>>,
    /// Our own address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

/// How large a swarm is, in a tracker's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrape {
    pub seeders: u32,
    pub leechers: u32,
    /// How many have ever completed it.
    pub completed: u32,
}

/// Why there is no answer. Displays as one printable line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The tracker answered, and said no.
    Refused {
        reason: String,
        /// When it allows us to try again, if it said so (BEP 31).
        retry_in: Option<Duration>,
    },
    /// No such host, no connection, no answer in time, or nothing that makes sense.
    Failed(String),
    /// We hung up ourselves.
    Abandoned,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Refused { reason, .. } => write!(f, "the tracker refuses: {reason}"),
            Error::Failed(why) => f.write_str(why),
            Error::Abandoned => f.write_str("given up, since we are leaving"),
        }
    }
}

impl std::error::Error for Error {}

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// Every time-out and retry of a tracker client, so that tests can shorten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For name look-up, connecting and TLS. A tracker farther away than this helps nobody.
    pub connect: Duration,
    /// For a whole HTTP call, redirects and body included: bytes that drip are no answer.
    pub whole: Duration,
    /// How long the first UDP packet may go unanswered; doubles with each (BEP 15: 15·2ⁿ s).
    pub udp_first: Duration,
    /// How many UDP packets are sent before the call counts as failed. BEP 15 goes on to n = 8, over
    /// two hours; three take 105 s, and then the tier's own retries go on, and the user is told.
    pub udp_tries: u32,
    /// How long one address of a tracker may be silent before the next one is tried as well.
    pub next_address: Duration,
    /// How long one tracker of a tier may be silent before the next one is asked as well.
    pub next_tracker: Duration,
    /// The pause after a whole tier has failed; doubles up to `retry_max`.
    pub retry_first: Duration,
    pub retry_max: Duration,
    /// What all `stopped` announces together may cost the user who is waiting for the prompt.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(10),
            whole: Duration::from_secs(30),
            udp_first: Duration::from_secs(15),
            udp_tries: 3,
            next_address: Duration::from_secs(3),
            next_tracker: Duration::from_secs(3),
            retry_first: Duration::from_secs(5),
            retry_max: Duration::from_secs(30 * 60),
            farewell: Duration::from_secs(2),
        }
    }
}

/// Announces once and waits for the answer: for commands that only want to know.
pub fn announce(url: &str, announce: &Announce) -> Result<Answer> {
    let (_hold, leash) = leash(&Dialler::default());
    call(&Target::parse(url)?, announce, &mut None, None, &once(), &leash)
}

/// Asks how large the swarm is, without joining it (BEP 15, BEP 48).
pub fn scrape(url: &str, info_hash: Sha1) -> Result<Scrape> {
    let (_hold, leash) = leash(&Dialler::default());
    match Target::parse(url)? {
        Target::Http(url) => http::scrape(&url, info_hash, &once(), &leash),
        Target::Udp(place) => udp::scrape(&place, info_hash, &once(), &leash),
    }
}

/// A command that asks once does not wait for three UDP packets.
fn once() -> Limits {
    Limits { udp_tries: 1, ..Limits::default() }
}

/// One announce, blocking; the UDP connection, if any, is used and kept. With `only`, over UDP, it
/// goes to the tracker's addresses of this family.
fn call(
    target: &Target,
    announce: &Announce,
    connection: &mut Option<udp::Connection>,
    only: Option<Family>,
    limits: &Limits,
    leash: &Leash,
) -> Result<Answer> {
    match target {
        Target::Http(url) => http::announce(url, announce, limits, leash),
        Target::Udp(place) => udp::announce(place, announce, connection, only, limits, leash),
    }
}

fn leash(dialler: &Dialler) -> (Hold, Leash) {
    web::leash(http::client(dialler))
}
