//! Whom a tier asks, and when (BEP 12).
//!
//! ```text
//! due ──► round: ask the first ── silent for 3 s, or failed ──► ask the next as well …
//!            │ one answers                                        │ all have failed
//!            ▼                                                    ▼
//!   it moves to the front; due again                  due again after a pause: 5 s, 10 s,
//!   when its interval is over                         20 s … 30 min
//! ```
//!
//! A tracker hears `started` until it has answered it, then `completed` if the download ends while it
//! is the one in front, and `stopped` at the end if it ever answered.
//!
//! Layer: hands, but pure: no threads, sockets or clock; `now` is an argument. Owns the order of a
//! tier, what each of its trackers has been told, and the one date that is next.

use std::time::{Duration, Instant};

use super::{Event, Limits};

/// How soon we may ask for more peers where the tracker has stated no minimum of its own.
pub const MORE_PEERS_MIN: Duration = Duration::from_secs(60);

/// What the tier's thread is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Tell this tracker about this event. Its outcome must be reported back.
    Call(usize, Event),
    /// Nothing before this time (`None`: before somebody reports).
    Wait(Option<Instant>),
    /// Everyone has been told that we leave.
    Done,
}

#[derive(Debug)]
pub struct Timetable {
    trackers: Vec<Tracker>,
    /// Indices of `trackers`, in the order of asking.
    order: Vec<usize>,
    limits: Limits,
    phase: Phase,
    /// The soonest that a wish for more peers may be granted; `None` before the first answer.
    more_peers_from: Option<Instant>,
    /// How many rounds in a row nobody answered.
    failures: u32,
    /// All pieces are here and were not when we started.
    is_completed: bool,
}

#[derive(Debug)]
enum Phase {
    /// Nothing to do before this.
    Resting(Instant),
    Round {
        /// How many of the order have been asked.
        asked: usize,
        next_at: Instant,
        /// The shortest pause that any of them demanded; `MAX` while none has failed.
        pause: Duration,
    },
    Leaving,
}

/// What one tracker has been told, and has confirmed by an answer.
#[derive(Debug, Clone, Default)]
struct Tracker {
    busy: Option<Event>,
    is_started: bool,
    is_completed: bool,
    is_stopped: bool,
}

impl Timetable {
    /// A tier of `count` trackers, at least one; `shuffle` brings their indices into random order.
    pub fn new(
        count: usize,
        limits: Limits,
        now: Instant,
        shuffle: impl FnOnce(&mut [usize]),
    ) -> Timetable {
        let mut order: Vec<usize> = (0..count).collect();
        shuffle(&mut order);
        Timetable {
            trackers: vec![Tracker::default(); count],
            order,
            limits,
            phase: Phase::Resting(now),
            more_peers_from: None,
            failures: 0,
            is_completed: false,
        }
    }

    pub fn next(&mut self, now: Instant) -> Step {
        match self.phase {
            Phase::Leaving => return self.next_farewell(),
            Phase::Resting(due) if now < due => return Step::Wait(Some(due)),
            Phase::Resting(_) => {
                self.phase = Phase::Round { asked: 0, next_at: now, pause: Duration::MAX };
            }
            Phase::Round { .. } => {}
        }
        let Phase::Round { asked, next_at, .. } = &mut self.phase else { return Step::Wait(None) };
        while let Some(&who) = self.order.get(*asked) {
            if now < *next_at {
                return Step::Wait(Some(*next_at));
            }
            *asked += 1;
            // Still hanging since an earlier round: its answer will count, a second call would not help.
            if self.trackers[who].busy.is_none() {
                *next_at = now + self.limits.next_tracker;
                let event = self.event_for(who);
                self.trackers[who].busy = Some(event);
                return Step::Call(who, event);
            }
        }
        Step::Wait(None)
    }

    /// A tracker has answered. Any answer ends the round: this one asks first from now on.
    pub fn answered(
        &mut self,
        who: usize,
        now: Instant,
        interval: Duration,
        min_interval: Option<Duration>,
    ) {
        self.confirm(who);
        if let Phase::Round { .. } = self.phase {
            self.order.retain(|other| *other != who);
            self.order.insert(0, who);
            self.failures = 0;
            self.more_peers_from = Some(now + min_interval.unwrap_or(MORE_PEERS_MIN).min(interval));
            let pause = if self.owes_completed(who) { Duration::ZERO } else { interval };
            self.phase = Phase::Resting(now + pause);
        }
    }

    /// A tracker has failed, and may have said when it is to be asked again. Returns the pause until
    /// then if this ends the round; `None` while others are still to answer.
    pub fn failed(
        &mut self,
        who: usize,
        now: Instant,
        retry_in: Option<Duration>,
    ) -> Option<Duration> {
        let (asked, next_at, pause) = match &mut self.phase {
            Phase::Round { asked, next_at, pause } => (asked, next_at, pause),
            // Of an earlier round, which another tracker has ended.
            Phase::Resting(_) => {
                self.trackers[who].busy = None;
                return None;
            }
            // Whoever does not take our leave is not asked again.
            Phase::Leaving => {
                self.confirm(who);
                return None;
            }
        };
        self.trackers[who].busy = None;
        *next_at = now;
        *pause = (*pause).min(retry_in.unwrap_or(Duration::ZERO));
        if *asked < self.order.len() || self.trackers.iter().any(|t| t.busy.is_some()) {
            return None;
        }
        let demanded = *pause;
        let pause = self.retry_pause().max(demanded);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Resting(now + pause);
        Some(pause)
    }

    /// The last piece has arrived.
    pub fn completed(&mut self, now: Instant) {
        self.is_completed = true;
        if let (Phase::Resting(_), Some(&first)) = (&self.phase, self.order.first())
            && self.owes_completed(first)
        {
            self.phase = Phase::Resting(now);
        }
    }

    /// Brings the next announce forward, as far as the tracker allows.
    pub fn more_peers(&mut self, now: Instant) {
        if let (Phase::Resting(due), Some(from), 0) =
            (&mut self.phase, self.more_peers_from, self.failures)
        {
            *due = (*due).min(from.max(now));
        }
    }

    /// From now on only farewells. Returns whose calls are to be cut off: all but a `completed` on
    /// its way, which trackers count and which would otherwise be lost.
    pub fn leave(&mut self) -> Vec<usize> {
        self.phase = Phase::Leaving;
        let mut cut = Vec::new();
        for (who, tracker) in self.trackers.iter_mut().enumerate() {
            if tracker.busy.is_some_and(|event| event != Event::Completed) {
                tracker.busy = None;
                cut.push(who);
            }
        }
        cut
    }

    fn next_farewell(&mut self) -> Step {
        for who in 0..self.trackers.len() {
            let tracker = &self.trackers[who];
            if tracker.busy.is_none() && tracker.is_started && !tracker.is_stopped {
                let event =
                    if self.owes_completed(who) { Event::Completed } else { Event::Stopped };
                self.trackers[who].busy = Some(event);
                return Step::Call(who, event);
            }
        }
        let waiting = self.trackers.iter().any(|tracker| tracker.busy.is_some());
        if waiting { Step::Wait(None) } else { Step::Done }
    }

    fn event_for(&self, who: usize) -> Event {
        match &self.trackers[who] {
            tracker if !tracker.is_started => Event::Started,
            _ if self.owes_completed(who) => Event::Completed,
            _ => Event::None,
        }
    }

    fn owes_completed(&self, who: usize) -> bool {
        let tracker = &self.trackers[who];
        let is_first = self.order.first() == Some(&who);
        self.is_completed && is_first && tracker.is_started && !tracker.is_completed
    }

    fn confirm(&mut self, who: usize) {
        let tracker = &mut self.trackers[who];
        match tracker.busy.take() {
            Some(Event::Started) => tracker.is_started = true,
            Some(Event::Completed) => tracker.is_completed = true,
            Some(Event::Stopped) => tracker.is_stopped = true,
            Some(Event::None) | None => {}
        }
    }

    fn retry_pause(&self) -> Duration {
        let doubled = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.limits.retry_first.saturating_mul(doubled).min(self.limits.retry_max)
    }
}
