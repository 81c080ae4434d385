//! The file of `--trace-file`, written aside from everything else, and where the time went, for the
//! end of a `--trace`. The format is that of [`capture`](crate::capture).
//!
//! ```text
//! any thread ── record ──► queue (bounded in records and bytes; full = dropped and counted) ─┬► file
//!                                                                                           └► times
//! ```
//!
//! Layer: hands. One thread, which owns the file; it ends with [`Recorder::finish`].

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::{Record, What};
use crate::capture::header;
use crate::explain::times::Times;
use crate::hash::Sha1;

/// Records that wait for the disk: a moment of a fast download.
const QUEUE_MAX: usize = 8192;

/// And their bytes: a bitfield has up to 256 KiB, and strangers send it.
const QUEUE_BYTES_MAX: usize = 4 << 20;

/// Where any thread puts its records. Never blocks.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    queue: Sender<Option<Vec<u8>>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes in the queue.
    waiting: AtomicUsize,
    /// Records dropped since the last that was written.
    lost: AtomicU64,
}

impl Intake {
    pub(super) fn put(&self, what: What, conn: u32, start: Instant, payload: &[&[u8]]) {
        let time = start.elapsed().as_micros() as u64;
        let record = Record::to_bytes(what, conn, time, payload);
        let (len, counts) = (record.len(), &self.counts);
        let before = counts.waiting.fetch_add(len, Ordering::Relaxed);
        if QUEUE_BYTES_MAX < before + len || self.queue.try_send(Some(record)).is_err() {
            counts.waiting.fetch_sub(len, Ordering::Relaxed);
            counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread that writes, and the way to its end.
pub struct Recorder {
    intake: Intake,
    thread: JoinHandle<(std::io::Result<()>, Times)>,
}

impl Recorder {
    /// A new file, or an old one from its beginning. Without a path only the times are kept.
    pub fn create(path: Option<&Path>, info_hash: Sha1) -> Result<Recorder> {
        let file: Box<dyn Write + Send> = match path {
            Some(path) => {
                let created = File::create(path);
                Box::new(created.with_context(|| format!("--trace-file {}", path.display()))?)
            }
            None => Box::new(std::io::sink()),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = header(now.as_micros() as u64, &info_hash.0);
        let (queue, records) = bounded(QUEUE_MAX);
        let intake = Intake { queue, counts: Arc::default() };
        let counts = intake.counts.clone();
        let thread = Builder::new()
            .name("trace file".to_owned())
            .spawn(move || write(BufWriter::new(file), &header, &records, &counts))
            .context("cannot start a thread")?;
        Ok(Recorder { intake, thread })
    }

    pub(super) fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Waits until all of it is in the file; where the time went.
    pub fn finish(self) -> Result<Times> {
        // The one send that may wait: nothing else is going on any more.
        let _ = self.intake.queue.send(None);
        let (done, times) =
            self.thread.join().map_err(|_| anyhow!("the thread of the trace panicked"))?;
        done.context("--trace-file: what came last is not in it")?;
        Ok(times)
    }
}

/// The thread. A disk that fails ends the file, not the session: what still comes is dropped.
fn write(
    mut file: impl Write,
    header: &[u8],
    records: &Receiver<Option<Vec<u8>>>,
    counts: &Counts,
) -> (std::io::Result<()>, Times) {
    let mut times = Times::default();
    let mut done = file.write_all(header);
    loop {
        let next = match records.try_recv() {
            Ok(next) => next,
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                // Who looks meanwhile sees all there is; and so does who looks after a kill.
                done = done.and_then(|()| file.flush());
                records.recv().unwrap_or(None)
            }
        };
        let Some(record) = next else { break };
        counts.waiting.fetch_sub(record.len(), Ordering::Relaxed);
        let lost = counts.lost.swap(0, Ordering::Relaxed);
        if lost != 0 {
            let time = record[5..13].iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
            let lost = Record::to_bytes(What::Lost, 0, time, &[&lost.to_be_bytes()]);
            done = done.and_then(|()| file.write_all(&lost));
        }
        done = done.and_then(|()| file.write_all(&record));
        if let Some(record) = Record::read(&record) {
            times.record(&record);
        }
    }
    (done.and_then(|()| file.flush()), times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (queue, records) = bounded(QUEUE_MAX);
        let intake = Intake { queue, counts: Arc::default() };
        let start = Instant::now();
        let big = vec![7; 1 << 20];
        (0..6).for_each(|_| intake.put(What::Line, 0, start, &[&big]));
        assert_eq!(records.len(), 3, "with their heads four are more than 4 MiB");
        assert_eq!(intake.counts.lost.load(Ordering::Relaxed), 3);
        (0..QUEUE_MAX).for_each(|_| intake.put(What::Line, 0, start, &[b"x"]));
        assert_eq!(records.len(), QUEUE_MAX);
        assert_eq!(intake.counts.lost.load(Ordering::Relaxed), 6);
    }
}
