//! Waiting for a channel, asleep from the start.
//!
//! `Receiver::recv` spins and yields for some microseconds before it sleeps, in the hope that
//! something comes at once. That pays where two threads pass one thing to and fro. A session has a
//! hundred threads that wait for the network: with all of them looking, a machine with twenty
//! sessions spent more switches on those looks than on the work.
//!
//! Layer: hands. Whoever waits calls it.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, TryRecvError};

/// The next message; an error when none has come by then, or none will.
pub fn recv_deadline<T>(from: &Receiver<T>, deadline: Instant) -> Result<T, RecvTimeoutError> {
    match from.try_recv() {
        Ok(message) => return Ok(message),
        Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
        Err(TryRecvError::Empty) => {}
    }
    let mut select = Select::new();
    select.recv(from);
    let ready = select.select_deadline(deadline).map_err(|_| RecvTimeoutError::Timeout)?;
    ready.recv(from).map_err(|_| RecvTimeoutError::Disconnected)
}

/// As [`recv_deadline`], within this time.
pub fn recv_timeout<T>(from: &Receiver<T>, time: Duration) -> Result<T, RecvTimeoutError> {
    recv_deadline(from, Instant::now() + time)
}

/// The next message, whenever it comes; `None` if none will.
pub fn recv<T>(from: &Receiver<T>) -> Option<T> {
    let mut select = Select::new();
    select.recv(from);
    select.select().recv(from).ok()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use crossbeam_channel::unbounded;

    use super::*;

    #[test]
    fn what_is_there_comes_before_the_news_that_nothing_will_follow() {
        let (to, from) = unbounded();
        to.send(1).unwrap();
        drop(to);
        let past = Instant::now();
        assert_eq!(recv_deadline(&from, past), Ok(1));
        assert_eq!(recv_deadline(&from, past), Err(RecvTimeoutError::Disconnected));
        assert_eq!(recv(&from), None);
    }

    #[test]
    fn it_wakes_when_something_comes_and_when_the_time_is_over() {
        let ((to, from), (back_to, back)) = (unbounded(), unbounded());
        thread::scope(|scope| {
            scope.spawn(move || {
                while let Some(n) = recv(&from) {
                    back_to.send(n + 1).unwrap();
                }
            });
            let answer = |n: u32| {
                to.send(n).unwrap();
                recv_timeout(&back, Duration::from_secs(60))
            };
            assert!((0..100).all(|n| answer(n) == Ok(n + 1)));
            let short = Duration::from_millis(1);
            assert_eq!(recv_timeout(&back, short), Err(RecvTimeoutError::Timeout));
            drop(to);
        });
    }
}
