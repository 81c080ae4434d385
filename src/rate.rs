//! A transfer rate over the last seconds, for display and decisions.
//!
//! ```text
//! | 0.5 s | 0.5 s | 0.5 s | … |   WINDOWS buckets; the rate is their sum over the time they cover
//! ```
//!
//! Layer: decisions. Pure: the time is an argument.

use std::time::{Duration, Instant};

const BUCKET: Duration = Duration::from_millis(500);
const BUCKETS: usize = 10;

#[derive(Debug, Clone)]
pub struct Rate {
    buckets: [u64; BUCKETS],
    /// When the bucket that is being filled began, and which it is.
    began: Instant,
    at: usize,
    /// How many buckets hold something measured; fewer at the beginning.
    filled: usize,
}

impl Rate {
    pub fn new(now: Instant) -> Rate {
        Rate { buckets: [0; BUCKETS], began: now, at: 0, filled: 0 }
    }

    pub fn add(&mut self, bytes: u64, now: Instant) {
        self.turn(now);
        self.buckets[self.at] += bytes;
    }

    /// Bytes a second over the last [`BUCKETS`] × [`BUCKET`], or since the start if that is less.
    pub fn per_second(&mut self, now: Instant) -> f64 {
        self.turn(now);
        let open = now.saturating_duration_since(self.began);
        let time = BUCKET * self.filled as u32 + open;
        let bytes: u64 = self.buckets.iter().sum();
        // A first burst of a millisecond is no rate.
        bytes as f64 / time.max(BUCKET / 2).as_secs_f64()
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began).as_nanos() / BUCKET.as_nanos();
        let passed = usize::try_from(passed).unwrap_or(usize::MAX);
        for _ in 0..passed.min(BUCKETS) {
            self.at = (self.at + 1) % BUCKETS;
            self.buckets[self.at] = 0;
        }
        self.filled = self.filled.saturating_add(passed).min(BUCKETS - 1);
        if BUCKETS <= passed {
            self.began = now;
        } else {
            self.began += BUCKET * passed as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_found_and_forgotten() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let at = |ms: u64| start + Duration::from_millis(ms);
        for ms in (0..8_000).step_by(10) {
            rate.add(1_000, at(ms));
        }
        let found = rate.per_second(at(8_000));
        assert!((95e3..105e3).contains(&found), "{found}");
        assert_eq!(rate.per_second(at(14_000)), 0.0);
        assert_eq!(rate.per_second(at(1_000_000)), 0.0);
    }

    #[test]
    fn the_first_second_counts_at_once() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        rate.add(50_000, start + Duration::from_millis(500));
        let found = rate.per_second(start + Duration::from_millis(1_000));
        assert!((45e3..55e3).contains(&found), "{found}");
    }
}
