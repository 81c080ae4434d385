//! One tier of trackers (BEP 12): its thread, and a thread for each call it makes.
//!
//! The tier's thread never touches the network: it asks the timetable what to do, starts calls, and
//! waits for commands, outcomes and times, whichever comes first. A call's thread does one announce;
//! it may hang in a name look-up, so nobody ever waits for it without a limit, and it holds nothing
//! that others need. No more than one call per tracker is wanted at a time; what an abandoned one
//! still has to say is dropped.
//!
//! A UDP tracker knows the address that a packet comes from, so one that has both families is told
//! over both (as BEP 7 wants it of HTTP): once it has answered over one, it is told *beside* over the
//! other. That second answer brings peers; the timetable does not depend on it.
//!
//! Layer: hands. Owns the timetable, the ids and connections of its trackers, and the calls.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, at, bounded, never, select};

use super::answer::Family;
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
    beside: Beside,
}

/// The same tracker over its other family.
#[derive(Default)]
struct Beside {
    connection: Option<Connection>,
    running: Option<Running>,
    /// It has been told, and so has to be told when we leave.
    is_started: bool,
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
    /// It is the second answer.
    beside: bool,
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
        // Room for what each tracker may say: its call, and one that was cut off before it; and the
        // same beside.
        let outcomes = bounded(4 * targets.len().max(1));
        let trackers = targets
            .into_iter()
            .map(|(url, target)| {
                let (id, connection, running, beside) = Default::default();
                Tracker { url, target, id, connection, running, beside }
            })
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
                Step::Done if self.trackers.iter().all(|t| t.beside.running.is_none()) => return,
                Step::Done => leave_by.map_or_else(never, at),
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
                        self.trackers.iter_mut().for_each(|t| t.beside.running = None);
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
        let Announce { left, numwant, event: said, .. } = self.announce(who, event);
        let tracker = &self.trackers[who];
        let how = match (&tracker.target, tracker.connection) {
            (Target::Http(_), _) => "one HTTP announce (BEP 3)",
            (_, Some(id)) if id.is_good() => {
                "UDP announce with the id of the last connect (BEP 15)"
            }
            _ => "UDP connect for an id, then announce with it (BEP 15)",
        };
        report(Report::Asking { url: tracker.url.clone(), event: said, left, numwant, how });
        match self.start(who, event, None) {
            Ok(running) => self.trackers[who].running = Some(running),
            Err(e) => {
                let why = format!("no thread for it: {e}");
                self.fail(who, Error::Failed(why), report);
            }
        }
    }

    /// Tells a tracker that has just answered over its other family too.
    fn begin_beside(&mut self, who: usize, event: Event) {
        let tracker = &self.trackers[who];
        let may_have_both = match &tracker.target {
            Target::Udp(place) => self.me.both && place.host.parse::<IpAddr>().is_err(),
            Target::Http(_) => false,
        };
        let (true, Some(over)) = (may_have_both, tracker.connection) else { return };
        let event = match (event, tracker.beside.is_started) {
            (Event::Stopped, false) => return,
            (_, false) => Event::Started,
            (event, true) => event,
        };
        let running = self.start(who, event, Some(over.family().other()));
        self.trackers[who].beside.running = running.ok();
    }

    /// Starts a call, over any family, or beside over this one.
    fn start(
        &mut self,
        who: usize,
        event: Event,
        beside: Option<Family>,
    ) -> std::io::Result<Running> {
        let announce = self.announce(who, event);
        let limits = self.limits;
        let sender = self.outcomes.0.clone();
        let (hold, leash) = leash(&self.me.dialler);
        self.serial += 1;
        let serial = self.serial;
        let tracker = &self.trackers[who];
        let target = tracker.target.clone();
        let known = if beside.is_some() { tracker.beside.connection } else { tracker.connection };
        let mut connection = known;
        let body = move || {
            let answer = || call(&target, &announce, &mut connection, beside, &limits, &leash);
            let result = catch_unwind(AssertUnwindSafe(answer))
                .unwrap_or_else(|_| Err(Error::Failed("the call ended in a panic".to_owned())));
            // Nobody there any more: then nobody needs to know.
            let _ = sender.try_send(Outcome {
                who,
                serial,
                beside: beside.is_some(),
                result,
                connection,
            });
        };
        let place = url::place(&tracker.url);
        let name = format!("tracker {}", place.rsplit('/').next().unwrap_or_default());
        let thread = Builder::new().name(name).spawn(body)?;
        Ok(Running { serial, event, _hold: hold, thread })
    }

    fn announce(&self, who: usize, event: Event) -> Announce {
        let event = match event {
            Event::None if self.totals.paused.load(Relaxed) => Event::Paused,
            event => event,
        };
        Announce {
            info_hash: self.me.info_hash,
            peer_id: self.me.peer_id,
            port: self.totals.port(self.me.port),
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
        let slot = if outcome.beside { &mut tracker.beside.running } else { &mut tracker.running };
        let Some(running) = slot.take_if(|running| running.serial == outcome.serial) else {
            return;
        };
        // The outcome is the last thing that a call's thread does.
        let _ = running.thread.join();
        if outcome.beside {
            tracker.beside.connection = outcome.connection;
            // Where there is no such family, or nothing comes through, nobody misses it.
            let Ok(answer) = outcome.result else { return };
            tracker.beside.is_started = running.event != Event::Stopped;
            return self.report_answer(who, running.event, answer, report);
        }
        tracker.connection = outcome.connection;
        match outcome.result {
            Ok(mut answer) => {
                // An answer without an id does not take back the one before it.
                tracker.id = answer.tracker_id.take().or(tracker.id.take());
                let (interval, min) = (answer.interval, answer.min_interval);
                self.timetable.answered(who, Instant::now(), interval, min);
                self.begin_beside(who, running.event);
                self.report_answer(who, running.event, answer, report);
            }
            Err(e) => self.fail(who, e, report),
        }
    }

    fn report_answer(&self, who: usize, event: Event, answer: Answer, report: &dyn Fn(Report)) {
        let Answer { peers, seeders, leechers, interval, warning, .. } = answer;
        let url = self.trackers[who].url.clone();
        report(Report::Answered { url, event, peers, seeders, leechers, interval, warning });
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
