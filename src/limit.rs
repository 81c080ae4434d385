//! A limit in bytes a second over all connections: a token bucket that needs no lock.
//!
//! ```text
//! time ──────────────┬─────────┬──────►      `free`: when all that was granted so far will have
//!                   now      free            been sent at the limit; who comes next starts there
//! ```
//!
//! One number says everything: until when the line is taken. Taking `n` bytes moves it on by
//! `n / rate`, with one atomic operation, and tells the caller how long to wait. An idle line saves
//! up at most [`BURST`], so that the rate is smooth at 10 kB/s and at 1 GB/s.
//!
//! Layer: hands. Shared by all threads of a direction; none waits for another to look.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How much an idle line may save up, in time.
const BURST: Duration = Duration::from_millis(50);

/// A limit, or none. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Limit(Option<Arc<Bucket>>);

#[derive(Debug)]
struct Bucket {
    /// Bytes a second; not 0.
    rate: u64,
    start: Instant,
    /// Nanoseconds after `start` until which the line is taken.
    free: AtomicU64,
}

impl Limit {
    pub fn none() -> Limit {
        Limit(None)
    }

    /// At most so many bytes a second; 0 means no limit, as aria2 has it.
    pub fn of(rate: u64) -> Limit {
        let bucket = |rate| Bucket { rate, start: Instant::now(), free: AtomicU64::new(0) };
        Limit((rate != 0).then(|| Arc::new(bucket(rate))))
    }

    /// Bytes a second, if there is a limit.
    pub fn rate(&self) -> Option<u64> {
        self.0.as_ref().map(|bucket| bucket.rate)
    }

    /// Takes so many bytes, and says how long to wait before they may pass.
    pub fn take(&self, bytes: u64) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |bucket| bucket.take(bytes, Instant::now()))
    }

    /// How many bytes should be taken at a time, so that no wait is long: a twentieth of a second.
    pub fn portion(&self) -> usize {
        let portion = self.0.as_ref().map_or(u64::MAX, |bucket| (bucket.rate / 20).max(1));
        usize::try_from(portion).unwrap_or(usize::MAX)
    }
}

impl Bucket {
    fn take(&self, bytes: u64, now: Instant) -> Duration {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(self.start));
        let needs = u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(self.rate));
        let needs = needs.unwrap_or(u64::MAX / 4);
        let oldest = now.saturating_sub(nanos(BURST));
        let taken = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
            Some(free.max(oldest).saturating_add(needs))
        });
        let (Ok(from) | Err(from)) = taken;
        Duration::from_nanos(from.max(oldest).saturating_add(needs).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_bursts_are_short() {
        for rate in [10_000, 1_000_000, 1_000_000_000] {
            let limit = Limit::of(rate);
            let bucket = limit.0.as_ref().unwrap();
            let portion = limit.portion() as u64;
            let mut now = bucket.start + Duration::from_secs(100);
            let begin = now;
            let mut sent = 0;
            while sent < rate * 3 {
                now += bucket.take(portion, now);
                sent += portion;
            }
            let seconds = (now - begin).as_secs_f64();
            assert!((2.9..=3.0).contains(&seconds), "{rate}: {seconds}");
        }
    }

    #[test]
    fn threads_share_it_and_none_means_none() {
        let limit = Limit::of(1 << 20);
        let waits: Vec<Duration> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| limit.take(1 << 20))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let longest = waits.into_iter().max().unwrap().as_secs_f64();
        assert!((3.8..=4.1).contains(&longest), "{longest}");
        assert_eq!(Limit::none().take(u64::MAX), Duration::ZERO);
        assert_eq!(Limit::of(0).take(1 << 40), Duration::ZERO);
    }
}
