//! One tier of trackers (BEP 12): its thread, and a thread for each call it makes.
//!
//! The tier's thread never touches the network: it asks the timetable what to do, starts calls, and
//! waits for commands, outcomes and times, whichever comes first. A call's thread does one announce;
//! it may hang in a name look-up, so nobody ever waits for it without a limit, and it holds nothing
//! that others need. No more than one call per tracker is wanted at a time; what an abandoned one
//! still has to say is dropped.
//!
//! Layer: hands. Owns the timetable, the ids and connections of its trackers, and the calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, at, bounded, never, select};

use super::team::{Me, Report, Totals};
use super::timetable::{Step, Timetable};
use super::udp::Connection;
use super::url;
use super::{Announce, Answer, Error, Event, Hold, Limits, NUMWANT, Result, Target, call, leash};

/// What the handle tells a tier.
#[derive(Debug, Clone, Copy)]
pub enum Command {
    Completed,
    MorePeers,
    /// Say goodbye, and end by then.
    Stop {
        deadline: Instant,
    },
}

pub struct Tier {
    trackers: Vec<Tracker>,
    /// URLs that are only reported, with the reason.
    ignored: Vec<(String, String)>,
    timetable: Timetable,
    me: Me,
    totals: Arc<Totals>,
    limits: Limits,
    /// The number of the next call.
    serial: u64,
    outcomes: (Sender<Outcome>, Receiver<Outcome>),
}

struct Tracker {
    url: String,
    target: Target,
    /// What it called itself (BEP 3, `trackerid`).
    id: Option<Vec<u8>>,
    connection: Option<Connection>,
    running: Option<Running>,
}

/// A call on its way. Dropping it interrupts the call.
struct Running {
    serial: u64,
    event: Event,
    _hold: Hold,
    thread: JoinHandle<()>,
}

struct Outcome {
    who: usize,
    serial: u64,
    result: Result<Answer>,
    connection: Option<Connection>,
}

impl Tier {
    pub fn new(
        targets: Vec<(String, Target)>,
        ignored: Vec<(String, String)>,
        me: Me,
        totals: Arc<Totals>,
        limits: Limits,
    ) -> Tier {
        let timetable = Timetable::new(targets.len(), limits, Instant::now(), |order| {
            fastrand::shuffle(order);
        });
        // Room for what each tracker may say: its call, and one that was cut off before it.
        let outcomes = bounded(2 * targets.len().max(1));
        let trackers = targets
            .into_iter()
            .map(|(url, target)| Tracker { url, target, id: None, connection: None, running: None })
            .collect();
        Tier { trackers, ignored, timetable, me, totals, limits, serial: 0, outcomes }
    }

    /// The thread: ends when told to stop, or when the handle is gone.
    pub fn run(mut self, commands: &Receiver<Command>, report: &dyn Fn(Report)) {
        for (url, why) in std::mem::take(&mut self.ignored) {
            report(Report::Ignored { url, why });
        }
        if self.trackers.is_empty() {
            return;
        }
        let mut leave_by = None;
        loop {
            // The swarm may be gone by then: nobody waits for reports about farewells.
            let report = if leave_by.is_some() { &|_| () } else { report };
            let wake = match self.timetable.next(Instant::now()) {
                Step::Done => return,
                Step::Call(who, event) => {
                    self.begin(who, event, report);
                    continue;
                }
                Step::Wait(until) => leave_by.or(until).map_or_else(never, at),
            };
            let outcomes = self.outcomes.1.clone();
            select! {
                recv(commands) -> command => match command {
                    Ok(Command::Completed) => self.timetable.completed(Instant::now()),
                    Ok(Command::MorePeers) => self.timetable.more_peers(Instant::now()),
                    Ok(Command::Stop { deadline }) => {
                        leave_by = Some(deadline);
                        for who in self.timetable.leave() {
                            self.trackers[who].running = None;
                        }
                    }
                    Err(_) => return,
                },
                // We hold a sender ourselves, so there is always a channel to receive from.
                recv(outcomes) -> outcome => if let Ok(outcome) = outcome {
                    self.end(outcome, report);
                },
                recv(wake) -> _ => if leave_by.is_some_and(|by| by <= Instant::now()) {
                    return;
                },
            }
        }
    }

    fn begin(&mut self, who: usize, event: Event, report: &dyn Fn(Report)) {
        let announce = self.announce(who, event);
        let limits = self.limits;
        let sender = self.outcomes.0.clone();
        let (hold, leash) = leash(self.me.proxy.as_ref());
        self.serial += 1;
        let serial = self.serial;
        let tracker = &mut self.trackers[who];
        let target = tracker.target.clone();
        let mut connection = tracker.connection;
        let body = move || {
            let answer = || call(&target, &announce, &mut connection, &limits, &leash);
            let result = catch_unwind(AssertUnwindSafe(answer))
                .unwrap_or_else(|_| Err(Error::Failed("the call ended in a panic".to_owned())));
            // Nobody there any more: then nobody needs to know.
            let _ = sender.try_send(Outcome { who, serial, result, connection });
        };
        report(Report::Asking { url: tracker.url.clone(), event });
        let place = url::place(&tracker.url);
        let name = format!("tracker {}", place.rsplit('/').next().unwrap_or_default());
        match Builder::new().name(name).spawn(body) {
            Ok(thread) => {
                tracker.running = Some(Running { serial, event, _hold: hold, thread });
            }
            Err(e) => {
                let why = format!("no thread for it: {e}");
                self.fail(who, Error::Failed(why), report);
            }
        }
    }

    fn announce(&self, who: usize, event: Event) -> Announce {
        Announce {
            info_hash: self.me.info_hash,
            peer_id: self.me.peer_id,
            port: match self.totals.outside_port.load(Relaxed) {
                0 => self.me.port,
                outside => outside,
            },
            uploaded: self.totals.uploaded.load(Relaxed),
            downloaded: self.totals.downloaded.load(Relaxed),
            left: self.totals.left.load(Relaxed),
            event,
            numwant: if event == Event::Stopped { 0 } else { NUMWANT },
            key: self.me.key,
            tracker_id: self.trackers[who].id.clone(),
        }
    }

    fn end(&mut self, outcome: Outcome, report: &dyn Fn(Report)) {
        let who = outcome.who;
        let tracker = &mut self.trackers[who];
        let Some(running) = tracker.running.take_if(|running| running.serial == outcome.serial)
        else {
            return;
        };
        // The outcome is the last thing that a call's thread does.
        let _ = running.thread.join();
        tracker.connection = outcome.connection;
        match outcome.result {
            Ok(answer) => {
                // An answer without an id does not take back the one before it.
                tracker.id = answer.tracker_id.or(tracker.id.take());
                let (interval, min) = (answer.interval, answer.min_interval);
                self.timetable.answered(who, Instant::now(), interval, min);
                report(Report::Answered {
                    url: self.trackers[who].url.clone(),
                    event: running.event,
                    peers: answer.peers,
                    seeders: answer.seeders,
                    leechers: answer.leechers,
                    interval,
                    warning: answer.warning,
                });
            }
            Err(e) => self.fail(who, e, report),
        }
    }

    fn fail(&mut self, who: usize, error: Error, report: &dyn Fn(Report)) {
        let asked = match &error {
            Error::Refused { retry_in, .. } => *retry_in,
            Error::Failed(_) | Error::Abandoned => None,
        };
        let retry_in = self.timetable.failed(who, Instant::now(), asked);
        let url = self.trackers[who].url.clone();
        report(Report::Failed { url, why: error.to_string(), retry_in });
    }
}
