//! The keeper: the thread that owns the registry, and the desk at which the others ask it.
//!
//! ```text
//! desk ── Call { source, question, reply to } ──► keeper
//! desk ◄────────────── Reply ───────────────────────┘
//! ```
//!
//! The keeper ends when the last desk has gone. Should it end before, by a mistake of ours, every desk
//! learns of it, whatever has become of its call.
//!
//! Layer: hands. The keeper owns the registry and the sums; a desk owns nothing.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};

use super::Options;
use super::status::{Stats, Tally};
use crate::hash::Sha1;
use crate::registry::{self, Announce, Counts, Refusal, Registry};

/// Calls that wait for the keeper. Each caller has one at a time, so more would never be used.
const CALLS_MAX: usize = 256;

/// How often those who stayed away are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(30);

/// How it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Http,
    Udp,
}

/// What a client reports of itself, which changes nothing here but is shown to who watches.
#[derive(Debug, Clone)]
pub struct Report {
    pub via: Via,
    pub uploaded: u64,
    pub downloaded: u64,
    pub left: Option<u64>,
    /// The path of the URL it uses, of HTTP or by BEP 41; not made printable.
    pub path: String,
}

/// One announce and what became of it.
#[derive(Debug, Clone)]
pub struct Sighting {
    pub announce: Announce,
    pub report: Report,
    pub outcome: Outcome,
    /// How many before this one could not be told.
    pub missed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was told so many peers.
    Answered {
        peers: usize,
        counts: Counts,
    },
    Refused(Refusal),
}

pub enum Question {
    Announce(Box<(Announce, Report)>),
    Scrape(Via, Vec<Sha1>),
    /// All torrents that we serve.
    ScrapeAll,
    Stats,
}

pub enum Reply {
    Announced(registry::Answer),
    /// In the order of the question; `None` for what nobody is known to be in.
    Scraped(Vec<(Sha1, Option<Counts>)>),
    Stats(Box<Stats>),
    Refused(Refusal),
}

struct Call {
    source: IpAddr,
    question: Question,
    reply: Sender<Reply>,
}

/// Where one thread asks the keeper.
pub struct Desk {
    calls: Sender<Call>,
    reply: Sender<Reply>,
    replies: Receiver<Reply>,
    /// Hangs up when the keeper has gone.
    gone: Receiver<Infallible>,
}

impl Desk {
    fn new(calls: Sender<Call>, gone: Receiver<Infallible>) -> Desk {
        let (reply, replies) = bounded(1);
        Desk { calls, reply, replies, gone }
    }

    /// One for another thread.
    pub fn another(&self) -> Desk {
        Desk::new(self.calls.clone(), self.gone.clone())
    }

    /// Asks and waits. `None` if the keeper has gone.
    pub fn ask(&self, source: SocketAddr, question: Question) -> Option<Reply> {
        let source = source.ip().to_canonical();
        self.calls.send(Call { source, question, reply: self.reply.clone() }).ok()?;
        // The reply's channel tells nothing of a keeper that has gone: we hold a sender of it.
        select! {
            recv(self.replies) -> reply => reply.ok(),
            recv(self.gone) -> _ => None,
        }
    }
}

pub struct Keeper {
    registry: Registry,
    /// What is served, with names; empty for an open tracker.
    torrents: Vec<(Sha1, Option<String>)>,
    inbox: Receiver<Call>,
    /// Held whether or not anybody watches: when it hangs up, the keeper has gone.
    watcher: Sender<Sighting>,
    watched: bool,
    missed: u64,
    tally: Tally,
    start: Instant,
    /// Never carries anything: that it is gone is the message.
    _here: Sender<Infallible>,
}

/// The keeper, to be run in a thread of its own, and the first desk.
pub fn open(registry: Registry, options: &Options, watcher: Sender<Sighting>) -> (Desk, Keeper) {
    let (calls, inbox) = bounded(CALLS_MAX);
    let (here, gone) = bounded(0);
    let keeper = Keeper {
        registry,
        torrents: options.torrents.clone(),
        inbox,
        watcher,
        watched: options.watch,
        missed: 0,
        tally: Tally::default(),
        start: Instant::now(),
        _here: here,
    };
    (Desk::new(calls, gone), keeper)
}

impl Keeper {
    pub fn run(mut self) {
        let mut expire_at = Instant::now() + EXPIRE_EVERY;
        loop {
            match self.inbox.recv_deadline(expire_at) {
                Ok(Call { source, question, reply }) => {
                    let answer = self.answer(source, question, Instant::now());
                    // There is room for it, unless the caller has gone.
                    let _ = reply.try_send(answer);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if expire_at <= now {
                self.registry.expire(now);
                expire_at = now + EXPIRE_EVERY;
            }
        }
    }

    fn answer(&mut self, source: IpAddr, question: Question, now: Instant) -> Reply {
        let admitted = self.registry.admit(source, now);
        match question {
            Question::Announce(told) => self.announce(*told, admitted, now),
            _ if admitted.is_err() => self.refuse(admitted.err()),
            Question::Scrape(via, hashes) => {
                self.tally.scrape(via);
                let counts = |hash| (hash, self.registry.scrape(hash));
                Reply::Scraped(hashes.into_iter().map(counts).collect())
            }
            Question::ScrapeAll => {
                self.tally.scrape(Via::Http);
                let counts = |(hash, _): &(Sha1, _)| (*hash, self.registry.scrape(*hash));
                Reply::Scraped(self.torrents.iter().map(counts).collect())
            }
            Question::Stats => Reply::Stats(Box::new(self.stats(now))),
        }
    }

    fn announce(
        &mut self,
        (announce, report): (Announce, Report),
        admitted: Result<(), Refusal>,
        now: Instant,
    ) -> Reply {
        self.tally.announce(report.via);
        let result = admitted.and_then(|()| self.registry.announce(&announce, now));
        if self.watched {
            let outcome = match &result {
                Ok(answer) => {
                    Outcome::Answered { peers: answer.peers.len(), counts: answer.counts }
                }
                Err(refusal) => Outcome::Refused(*refusal),
            };
            let sighting = Sighting { announce, report, outcome, missed: self.missed };
            self.missed = if self.watcher.try_send(sighting).is_ok() { 0 } else { self.missed + 1 };
        }
        match result {
            Ok(answer) => Reply::Announced(answer),
            Err(refusal) => self.refuse(Some(refusal)),
        }
    }

    fn refuse(&mut self, refusal: Option<Refusal>) -> Reply {
        self.tally.refused += 1;
        Reply::Refused(refusal.unwrap_or(Refusal::NotServed))
    }

    fn stats(&self, now: Instant) -> Stats {
        let row = |(hash, name): &(Sha1, Option<String>)| {
            (*hash, name.clone(), self.registry.scrape(*hash).unwrap_or_default())
        };
        Stats {
            uptime: now.saturating_duration_since(self.start),
            open: self.registry.is_open(),
            totals: self.registry.totals(),
            interval: self.registry.interval(),
            tally: self.tally,
            torrents: self.torrents.iter().map(row).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker_server;

    /// A channel keeps what is in it when its receiver has gone, and with it whatever would be dropped.
    #[test]
    fn nobody_waits_for_a_keeper_that_has_gone() {
        let options = Options::default();
        let source = SocketAddr::from(([127, 0, 0, 1], 1));
        for taken in [true, false] {
            let (watcher, sightings) = bounded(1);
            let (desk, keeper) = open(tracker_server::registry(&options), &options, watcher);
            let (told, outcome) = bounded(1);
            std::thread::spawn(move || told.send(desk.ask(source, Question::Stats).is_some()));
            if taken {
                drop(keeper.inbox.recv().expect("a call"));
            } else {
                while keeper.inbox.is_empty() {
                    std::thread::yield_now();
                }
            }
            drop(keeper);
            assert_eq!(outcome.recv_timeout(Duration::from_secs(20)), Ok(false), "taken: {taken}");
            // The command ends by this.
            assert!(sightings.recv().is_err());
        }
    }
}
