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
            Some(Event::None | Event::Paused) | None => {}
        }
    }

    fn retry_pause(&self) -> Duration {
        let doubled = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.limits.retry_first.saturating_mul(doubled).min(self.limits.retry_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tier in virtual time, in seconds since its start.
    struct Play {
        table: Timetable,
        start: Instant,
        now: u64,
    }

    const HALF_AN_HOUR: u64 = 1800;

    impl Play {
        fn new(count: usize) -> Play {
            let start = Instant::now();
            // Backwards, so that order and index differ.
            let table = Timetable::new(count, Limits::default(), start, |order| order.reverse());
            Play { table, start, now: 0 }
        }

        fn at(&mut self, now: u64) -> &mut Play {
            self.now = now;
            self
        }

        fn time(&self) -> Instant {
            self.start + Duration::from_secs(self.now)
        }

        #[track_caller]
        fn calls(&mut self, who: usize, event: Event) -> &mut Play {
            assert_eq!(self.table.next(self.time()), Step::Call(who, event));
            self
        }

        /// Nothing to do before this second; 0 stands for no time at all.
        #[track_caller]
        fn waits(&mut self, until: u64) -> &mut Play {
            let until = (until != 0).then(|| self.start + Duration::from_secs(until));
            assert_eq!(self.table.next(self.time()), Step::Wait(until));
            self
        }

        fn answers(&mut self, who: usize) -> &mut Play {
            self.table.answered(who, self.time(), Duration::from_secs(HALF_AN_HOUR), None);
            self
        }

        #[track_caller]
        fn fails(&mut self, who: usize, pause: Option<u64>) -> &mut Play {
            let got = self.table.failed(who, self.time(), None);
            assert_eq!(got, pause.map(Duration::from_secs));
            self
        }

        fn completed(&mut self) -> &mut Play {
            self.table.completed(self.time());
            self
        }

        fn more_peers(&mut self) -> &mut Play {
            self.table.more_peers(self.time());
            self
        }

        #[track_caller]
        fn leaves(&mut self, cut: &[usize]) -> &mut Play {
            assert_eq!(self.table.leave(), cut);
            self
        }

        #[track_caller]
        fn is_done(&mut self) {
            assert_eq!(self.table.next(self.time()), Step::Done);
        }
    }

    #[test]
    fn the_one_that_answers_moves_to_the_front() {
        let mut play = Play::new(3);
        play.calls(2, Event::Started).waits(3).fails(2, None);
        play.calls(1, Event::Started).waits(3).answers(1).waits(HALF_AN_HOUR);
        play.at(HALF_AN_HOUR).calls(1, Event::None).fails(1, None);
        play.calls(2, Event::Started).fails(2, None).calls(0, Event::Started).fails(0, Some(5));
        play.waits(HALF_AN_HOUR + 5);
    }

    #[test]
    fn a_silent_one_delays_nobody_and_its_late_answer_counts() {
        let mut play = Play::new(2);
        play.calls(1, Event::Started).waits(3);
        play.at(3).calls(0, Event::Started).waits(0).answers(0).waits(3 + HALF_AN_HOUR);
        // Still hanging half an hour later: it is not called a second time.
        play.at(3 + HALF_AN_HOUR).calls(0, Event::None).fails(0, None).waits(0);
        play.answers(1).waits(3 + 2 * HALF_AN_HOUR);
        play.leaves(&[]).calls(0, Event::Stopped).calls(1, Event::Stopped).waits(0);
        play.answers(0).fails(1, None).is_done();
    }

    #[test]
    fn pauses_grow_up_to_half_an_hour_and_an_answer_resets_them() {
        let mut play = Play::new(1);
        let mut now = 0;
        for pause in [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800] {
            play.at(now).calls(0, Event::Started).fails(0, Some(pause)).waits(now + pause);
            now += pause;
        }
        play.at(now).calls(0, Event::Started).answers(0).at(now + HALF_AN_HOUR);
        play.calls(0, Event::None).fails(0, Some(5));
    }

    #[test]
    fn a_tracker_may_ask_for_a_longer_pause() {
        let mut play = Play::new(2);
        let hour = Duration::from_secs(3600);
        play.calls(1, Event::Started);
        assert_eq!(play.table.failed(1, play.time(), Some(2 * hour)), None);
        play.calls(0, Event::Started);
        assert_eq!(play.table.failed(0, play.time(), Some(hour)), Some(hour));
        // Where one of them asks for nothing, the tier does not wait for the other.
        play.at(3600).calls(1, Event::Started);
        assert_eq!(play.table.failed(1, play.time(), Some(hour)), None);
        play.calls(0, Event::Started).fails(0, Some(10));
    }

    #[test]
    fn completed_is_said_at_once_and_once() {
        let mut play = Play::new(1);
        play.calls(0, Event::Started).answers(0).at(100).completed();
        play.calls(0, Event::Completed).fails(0, Some(5));
        play.at(105).calls(0, Event::Completed).answers(0).waits(105 + HALF_AN_HOUR);
        play.completed().waits(105 + HALF_AN_HOUR);
    }

    #[test]
    fn completed_waits_for_the_answer_to_started() {
        let mut play = Play::new(1);
        play.calls(0, Event::Started).completed().waits(0);
        play.answers(0).calls(0, Event::Completed).answers(0).waits(HALF_AN_HOUR);
    }

    #[test]
    fn more_peers_are_asked_for_as_soon_as_allowed() {
        let mut play = Play::new(1);
        play.more_peers().calls(0, Event::Started).answers(0);
        play.at(10).more_peers().more_peers().waits(60);
        play.at(60).calls(0, Event::None);
        let (interval, min) = (Duration::from_secs(1800), Duration::from_secs(900));
        play.table.answered(0, play.time(), interval, Some(min));
        play.more_peers().waits(960);
        // A tier that fails keeps to its pauses.
        play.at(960).calls(0, Event::None).fails(0, Some(5)).more_peers().waits(965);
    }

    #[test]
    fn leaving_before_any_answer_is_over_at_once() {
        let mut play = Play::new(2);
        play.calls(1, Event::Started).leaves(&[1]).is_done();
    }

    #[test]
    fn leaving_says_what_is_still_owed() {
        // A regular announce is cut off.
        let mut play = Play::new(1);
        play.calls(0, Event::Started).answers(0).at(HALF_AN_HOUR).calls(0, Event::None);
        play.leaves(&[0]).calls(0, Event::Stopped).answers(0).is_done();
        // A `completed` on its way is not.
        let mut play = Play::new(1);
        play.calls(0, Event::Started).answers(0).completed().calls(0, Event::Completed);
        play.leaves(&[]).waits(0).fails(0, None).calls(0, Event::Stopped).fails(0, None).is_done();
        // One that has not even left yet goes first.
        let mut play = Play::new(1);
        play.calls(0, Event::Started).answers(0).completed().leaves(&[]);
        play.calls(0, Event::Completed).answers(0).calls(0, Event::Stopped).answers(0).is_done();
    }
}
