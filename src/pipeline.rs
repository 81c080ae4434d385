//! How many requests to keep on the way to one peer.
//!
//! One request at a time would leave the path empty while the next one travels: a path of 100 ms and
//! 400 Mbit/s holds 305 blocks. Too many make a slow peer sit on blocks that others could send
//! sooner. So the number is measured, never set:
//!
//! * **rate × latency** is what the path holds. Twice that is asked for, so that a path which holds
//!   more than we thought shows it: while requests are what limits the rate, each round doubles it.
//! * **Deepen while it helps.** Where answers come in gusts (a rate limit, a slow disk), the shortest
//!   latency says too little. Now and then the depth is doubled; if the rate does not grow by a
//!   fifth, it goes back. Several clients are slower with a long queue than with a short one.
//! * **No more than [`HOARD`] of its rate**, and [`TRIED`] while more is being tried: a slow peer holds
//!   a block or two, and what is asked of a seed is not asked long before it can come. While it
//!   waits others fetch the same, and the seed sends it twice. What the path holds comes on top, or
//!   what comes in a gust: nothing comes between two gusts, however much is asked.
//!
//! The rate is what came between a request and its answer, by the time between them. A *round*, over
//! which a deeper queue is judged, begins with an answer (the first one with its request), ends with
//! the first answer to a request made since, and is at least [`ROUND_MIN`] long.
//!
//! Layer: decisions. Pure; one for each peer, owned by the swarm.

use std::time::{Duration, Instant};

use crate::geometry::BLOCK_LEN;

/// Requests to a peer of which nothing is known: a piece of a common size. Fewer would cost clients
/// that answer in pulses (Transmission: every 500 ms) seconds at the start.
const START: f64 = 16.0;

/// One is being sent while the next one is on its way.
const DEPTH_MIN: f64 = 2.0;

/// Most clients drop what goes over 500 to 2,000 waiting requests, some without a word.
const DEPTH_MAX: f64 = 500.0;

/// At most so many seconds' worth of data is asked for ahead: more than the pulse of clients that
/// answer every 500 ms, so that a deeper queue can prove its worth there.
const HOARD: f64 = 0.6;

/// The same while a deeper queue is tried.
const TRIED: f64 = 1.2;

/// A latency longer than this, in seconds, is a queue and not a path, and such a pause between two
/// answers a peer that is slow: neither justifies a queue.
const LATENCY_MAX: f64 = 1.0;

/// Rates are measured over at least so long: a few packets say nothing.
const ROUND_MIN: Duration = Duration::from_millis(20);

/// By how much the rate must grow for a deeper queue to be worth it.
const WORTH: f64 = 1.2;

/// The first pause before a deeper queue is tried again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(16);

/// The depth of one peer's queue of requests.
pub struct Pipeline {
    /// All that came, in bytes.
    received: u64,
    /// The shortest time from a request to its block: the path without a queue, in seconds.
    latency: f64,
    /// What comes at present, in bytes a second.
    rate: f64,
    /// The depth that has proved its worth.
    depth: f64,
    /// The rate at that depth.
    proved: f64,
    trial: Trial,
    round: Option<Round>,
    /// The longest time without an answer while some were due, in seconds; it fades.
    gap: f64,
    last_answer: Option<Instant>,
    /// Since when the peer owes us nothing, if it does.
    idle: Option<Instant>,
}

/// Whether a deeper queue is being tried.
enum Trial {
    /// The depth is doubled while this lasts.
    On { pause: Duration },
    /// Not until then.
    Paused { until: Instant, pause: Duration },
}

struct Round {
    began: Instant,
    bytes: u64,
}

/// What is to be remembered of a request until it is answered.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub at: Instant,
    /// What the peer had sent by then, in bytes.
    received: u64,
}

impl Default for Pipeline {
    fn default() -> Pipeline {
        Pipeline {
            received: 0,
            latency: f64::INFINITY,
            rate: 0.0,
            depth: START,
            proved: 0.0,
            trial: Trial::On { pause: PAUSE_MIN },
            round: None,
            gap: 0.0,
            last_answer: None,
            idle: None,
        }
    }
}

impl Pipeline {
    /// How many requests may be on the way.
    pub fn depth(&self) -> usize {
        if self.rate == 0.0 {
            return START as usize;
        }
        let blocks = |bytes: f64| bytes / f64::from(BLOCK_LEN);
        let held = self.latency.max(self.gap).min(LATENCY_MAX);
        let path = 2.0 * blocks(self.rate * held) + DEPTH_MIN;
        let (tried, ahead) = match self.trial {
            Trial::On { .. } => (2.0 * self.depth, TRIED),
            Trial::Paused { .. } => (self.depth, HOARD),
        };
        let hoard = blocks(self.rate * (ahead + held)) + DEPTH_MIN;
        path.max(tried).min(hoard).clamp(DEPTH_MIN, DEPTH_MAX) as usize
    }

    /// What comes at present, in bytes a second; 0 before the first block.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// A request is made.
    pub fn ask(&self, now: Instant) -> Asked {
        Asked { at: now, received: self.received }
    }

    /// The answer to a request came, a block of `bytes`.
    pub fn arrived(&mut self, asked: Asked, now: Instant, bytes: u32) {
        if self.idle.take().is_some_and(|since| since + ROUND_MIN < asked.at) {
            // Nothing was wanted of it: the time until then says nothing about its rate.
            (self.round, self.last_answer) = (None, None);
        }
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs_f64();
        self.received += u64::from(bytes);
        self.gap = self.gap.max(seconds(self.last_answer.unwrap_or(asked.at)));
        self.last_answer = Some(now);
        let latency = seconds(asked.at).max(1e-6);
        self.latency = self.latency.min(latency);
        let round = self.round.get_or_insert(Round { began: asked.at, bytes: 0 });
        round.bytes += u64::from(bytes);
        let time = seconds(round.began);
        if round.began <= asked.at && ROUND_MIN.as_secs_f64() <= time {
            let rate = round.bytes as f64 / time;
            self.round = Some(Round { began: now, bytes: 0 });
            self.judge(rate, now);
        }
        if ROUND_MIN.as_secs_f64() <= latency {
            self.rate = (self.received - asked.received) as f64 / latency;
        }
    }

    /// The peer owes us nothing from now on.
    pub fn idle(&mut self, now: Instant) {
        self.idle.get_or_insert(now);
    }

    /// A round has ended with this rate: was the depth worth it?
    fn judge(&mut self, rate: f64, now: Instant) {
        // A path may get longer; a latency that is never met again is forgotten slowly.
        self.latency *= 1.01;
        self.gap *= 0.9;
        self.rate = rate;
        match self.trial {
            Trial::On { .. } if self.proved * WORTH < rate => {
                self.depth = if self.proved == 0.0 { self.depth } else { 2.0 * self.depth };
                self.depth = self.depth.min(DEPTH_MAX);
                self.proved = rate;
                self.trial = Trial::On { pause: PAUSE_MIN };
            }
            Trial::On { pause } => {
                self.proved = rate;
                let longer = (2 * pause).min(PAUSE_MAX);
                self.trial = Trial::Paused { until: now + pause, pause: longer };
            }
            Trial::Paused { until, pause } if until <= now => {
                self.proved = rate;
                self.trial = Trial::On { pause };
            }
            Trial::Paused { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Plays a peer with this rate (bytes/s) and latency for a while, with a queue of its own.
    /// Returns the depth at the end and the share of the rate that was used in the second half.
    fn play(rate: f64, latency: Duration, time: Duration) -> (usize, f64) {
        let mut pipeline = Pipeline::default();
        let start = Instant::now();
        let block_time = Duration::from_secs_f64(f64::from(BLOCK_LEN) / rate);
        let mut asked: VecDeque<(Asked, Instant)> = VecDeque::new();
        let (mut now, mut free_at, mut late_blocks) = (start, start, 0u32);
        while now < start + time {
            while asked.len() < pipeline.depth() {
                // It is sent when the request is there and the line is free, and takes its time.
                let done = (now + latency).max(free_at) + block_time;
                free_at = done;
                asked.push_back((pipeline.ask(now), done));
            }
            let (at, done) = asked.pop_front().unwrap();
            now = done;
            pipeline.arrived(at, now, BLOCK_LEN);
            late_blocks += u32::from(start + time / 2 < now);
        }
        let used = f64::from(late_blocks) * f64::from(BLOCK_LEN) / (time / 2).as_secs_f64() / rate;
        (pipeline.depth(), used)
    }

    #[test]
    fn a_long_fat_path_is_filled() {
        let (depth, used) = play(50e6, Duration::from_millis(100), Duration::from_secs(8));
        assert!(305 <= depth && 0.97 <= used, "{depth} deep, {used:.3} of the rate");
    }

    #[test]
    fn a_slow_peer_does_not_hoard() {
        let (depth, used) = play(20e3, Duration::from_millis(50), Duration::from_secs(60));
        assert!(depth <= 6 && 0.97 <= used, "{depth} deep, {used:.3} of the rate");
        let (depth, _) = play(1e3, Duration::from_millis(50), Duration::from_secs(600));
        assert!(depth <= 3, "{depth} deep");
    }

    /// Plays a peer that answers what waits every `pulse`, at most `rate` bytes a second of it.
    /// Returns the share of the rate that was used in the second half.
    fn play_pulses(rate: f64, pulse: Duration, time: Duration) -> f64 {
        let mut pipeline = Pipeline::default();
        let start = Instant::now();
        let gust = (rate * pulse.as_secs_f64() / f64::from(BLOCK_LEN)) as usize;
        let mut asked: VecDeque<Asked> = VecDeque::new();
        let (mut now, mut late_blocks) = (start, 0);
        while now < start + time {
            let room = pipeline.depth().saturating_sub(asked.len());
            asked.extend(std::iter::repeat_n(pipeline.ask(now), room));
            now += pulse;
            // The whole gust is here before anything new is asked.
            let answered = asked.len().min(gust);
            for (nth, at) in asked.drain(..answered).enumerate() {
                pipeline.arrived(at, now + Duration::from_micros(nth as u64), BLOCK_LEN);
            }
            if asked.is_empty() {
                pipeline.idle(now);
            }
            late_blocks += if start + time / 2 < now { answered } else { 0 };
        }
        late_blocks as f64 / (gust as f64 * (time / 2).as_secs_f64() / pulse.as_secs_f64())
    }

    #[test]
    fn answers_in_gusts_are_used() {
        for ms in [100, 250, 500, 600, 800, 1000, 1500] {
            for rate in [200e3, 500e3, 2e6, 5e6] {
                let used = play_pulses(rate, Duration::from_millis(ms), Duration::from_secs(60));
                assert!(0.85 <= used, "{rate} B/s every {ms} ms: {used:.3} of the rate");
            }
        }
    }

    #[test]
    fn a_short_fast_path_needs_few() {
        let (depth, used) = play(1e9, Duration::from_micros(100), Duration::from_secs(2));
        assert!(depth <= 64 && 0.97 <= used, "{depth} deep, {used:.3} of the rate");
    }

    #[test]
    fn common_paths_are_used() {
        for (rate, ms) in [(1e6, 30), (12e6, 20), (12e6, 200), (125e6, 10), (300e3, 80)] {
            let (depth, used) = play(rate, Duration::from_millis(ms), Duration::from_secs(10));
            assert!(0.95 <= used, "{rate} B/s, {ms} ms: {depth} deep, {used:.3} of the rate");
        }
    }
}
