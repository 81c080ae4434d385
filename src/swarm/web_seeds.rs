//! Servers that have the data (BEP 19): one more source of blocks beside the peers.
//!
//! ```text
//! Ready ──fetch a run──► Busy ──its end──► Ready, or Paused (it failed), or Gone (it is of no use)
//! ```
//!
//! * **A run is some seconds of its rate** ([`RUN_TIME`]): long enough that the round trip of a request
//!   does not count, short enough that it does not sit on what others could send.
//! * **Nothing is fetched twice.** What a server owes is asked of nobody else. When somebody else has
//!   nothing to do, the server gives way: it keeps the part of its run that it will send as soon as
//!   the other sends the rest, and stops there.
//! * **In order** a slow server gets what nobody waits for yet, and what it holds up all the same is
//!   asked of others, servers too.
//! * **A server that sends nothing** while others could is let go: its run is released, and it is
//!   tried again after a pause that doubles with each failure in a row.
//! * **A file that it does not have** makes only its pieces unavailable there, and so does one that
//!   turns out to be another (an older one, mostly), on the same proof as with a peer. A server is
//!   given up when that has come to pass with [`LIES_MAX`] files, or when nothing is left of it.
//!
//! Layer: decisions. A part of the swarm.

mod giving_way;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, Decision, Sequel, Swarm};
use crate::bitfield::Bitfield;
use crate::geometry::{BLOCK_LEN, PieceIndex, Span};
use crate::picker::ConnId;
use crate::picker::run::From;

/// The first run, before anything is known of the rate.
const RUN_FIRST: u64 = 4 << 20;

/// How long a run should take, in seconds: a round trip of 100 ms then costs a fortieth.
const RUN_TIME: f64 = 4.0;

/// The same where the pieces come in order: who waits for the next one must not wait for long.
const RUN_TIME_IN_ORDER: f64 = 1.0;

/// The shortest and the longest run; one piece is fetched whatever its length.
const RUN_MIN: u64 = 256 << 10;
const RUN_MAX: u64 = 64 << 20;

/// A server that has not sent anything for so long is silent.
const SILENT: Duration = Duration::from_millis(500);

/// How long a server may let us wait while others could send: for the first block, when a name must
/// be looked up and redirects followed, and later, in between four times what a block should take.
const PATIENCE_FIRST: Duration = Duration::from_secs(15);
const PATIENCE_MIN: Duration = Duration::from_secs(5);
const PATIENCE_MAX: Duration = Duration::from_secs(30);

/// The pause after the first failure; it doubles with each one in a row.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The longest pause that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// So many files in a row that a server does not have, and none that it has: it has another torrent's.
const LACKING_MAX: u32 = 32;

/// So many of its files are not what they should be: then none is believed to be.
const LIES_MAX: u32 = 3;

/// How a fetch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchEnd {
    /// All that was ordered is here, or all up to where it was cut. `in_order`: the server sends
    /// files from their start only.
    Done { in_order: bool },
    /// It may do better later, but not before `retry_in`.
    Failed { why: String, retry_in: Option<Duration> },
    /// It does not have a file that these pieces are part of.
    Lacks { why: String, pieces: Range<PieceIndex> },
    /// It will never be of use.
    Useless { why: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    /// Until the hand reports the end of the fetch.
    Busy,
    Paused {
        until: Instant,
    },
    Gone,
}

pub(super) struct WebSeed {
    /// What it is called, fit to be shown.
    place: String,
    /// The pieces that have a byte of each file.
    files: Arc<[Range<PieceIndex>]>,
    /// But for the files that it turned out not to have.
    has: Bitfield,
    state: State,
    from: From,
    /// What is left of the run that it was asked for, in order.
    owed: VecDeque<Span>,
    /// The piece behind the run.
    next: PieceIndex,
    /// When the run began, and the bytes of it that have come.
    began: Instant,
    came: u64,
    /// The rate of the run before, in bytes a second; 0 if there was none.
    rate: f64,
    /// The last block, or when the run began.
    waiting_since: Instant,
    received: u64,
    failures: u32,
    /// Files that it did not have, since the last block.
    lacking: u32,
    /// Files that it had, but not those of the torrent.
    lies: u32,
    /// It was let go because it sent nothing.
    stalled: bool,
    trouble: Option<String>,
}

/// A web seed as somebody who watches sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct WebSeedRow {
    /// Its scheme and host: a path may hold a passkey.
    pub place: String,
    /// `ready`, `busy`, `paused` or `given_up`.
    pub state: &'static str,
    pub down: f64,
    pub received: u64,
    /// How much of the torrent it is asked for, 0 to 1.
    pub share: f64,
    /// What was last wrong with it.
    pub trouble: Option<String>,
}

impl WebSeed {
    /// Bytes a second, those of its latency included; 0 if nothing ever came.
    fn rate(&self, now: Instant) -> f64 {
        let time = now.saturating_duration_since(self.began).as_secs_f64();
        if self.came == 0 { self.rate } else { self.came as f64 / time.max(1e-3) }
    }

    fn run_bytes(&self, in_order: bool) -> u64 {
        let time = if in_order { RUN_TIME_IN_ORDER } else { RUN_TIME };
        match (self.rate * time) as u64 {
            0 if in_order => RUN_MIN,
            0 => RUN_FIRST,
            bytes if in_order => bytes.min(RUN_MAX),
            bytes => bytes.clamp(RUN_MIN, RUN_MAX),
        }
    }

    /// The same, for this piece; 0 if it is of no help with it.
    pub(super) fn rate_for(&self, piece: PieceIndex, now: Instant) -> f64 {
        match self.state {
            State::Ready | State::Busy if !self.has.contains(piece) => 0.0,
            State::Ready => self.rate,
            State::Busy => self.rate(now),
            State::Paused { .. } | State::Gone => 0.0,
        }
    }

    fn patience(&self, now: Instant) -> Duration {
        let rate = self.rate(now);
        if rate == 0.0 {
            return PATIENCE_FIRST;
        }
        let due = Duration::try_from_secs_f64(4.0 * f64::from(BLOCK_LEN) / rate);
        due.unwrap_or(PATIENCE_MAX).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }

    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.waiting_since)
    }
}

impl Swarm {
    /// A server that has the data, under a name that may be shown. Its number is its own for the
    /// whole run. `files`: the pieces that have a byte of each file.
    pub fn add_web_seed(
        &mut self,
        place: String,
        files: Arc<[Range<PieceIndex>]>,
        now: Instant,
    ) -> ConnId {
        let conn = self.next_conn();
        let seed = WebSeed {
            place,
            files,
            has: Bitfield::full(self.picker.geometry().pieces()),
            state: State::Ready,
            from: From::Anywhere,
            owed: VecDeque::new(),
            next: 0,
            began: now,
            came: 0,
            rate: 0.0,
            waiting_since: now,
            received: 0,
            failures: 0,
            lacking: 0,
            lies: 0,
            stalled: false,
            trouble: None,
        };
        self.web_seeds.insert(conn, seed);
        conn
    }

    /// Servers that are not given up, and the bytes of blocks that came from all there were.
    pub(super) fn web_seed_sums(&self) -> (usize, u64) {
        let used = self.web_seeds.values().filter(|seed| seed.state != State::Gone).count();
        (used, self.web_seeds.values().map(|seed| seed.received).sum())
    }

    /// Bytes of blocks that came from one server.
    pub fn received_from(&self, conn: ConnId) -> u64 {
        self.web_seeds.get(&conn).map_or(0, |seed| seed.received)
    }

    /// A row for each server.
    pub(super) fn web_seed_rows(&self, now: Instant) -> Vec<WebSeedRow> {
        let pieces = f64::from(self.picker.geometry().pieces().max(1));
        let row = |seed: &WebSeed| WebSeedRow {
            place: seed.place.clone(),
            state: match seed.state {
                State::Ready => "ready",
                State::Busy => "busy",
                State::Paused { .. } => "paused",
                State::Gone => "given_up",
            },
            down: if seed.state == State::Busy && seed.came != 0 { seed.rate(now) } else { 0.0 },
            received: seed.received,
            share: f64::from(seed.has.count()) / pieces,
            trouble: seed.trouble.clone(),
        };
        self.web_seeds.values().map(row).collect()
    }

    /// What the first server that has a trouble has, for a run in which nothing moves.
    pub(super) fn web_seed_trouble(&self) -> Option<String> {
        let trouble = |seed: &WebSeed| match &seed.trouble {
            Some(why) => Some(format!("web seed {}: {why}", seed.place)),
            None if seed.state == State::Busy => {
                Some(format!("web seed {} was asked and sends nothing", seed.place))
            }
            None => None,
        };
        self.web_seeds.values().find_map(trouble)
    }

    /// Orders a run of every server that is free, and lets those go that send nothing.
    pub(super) fn ask_web_seeds(&mut self, now: Instant) {
        if self.finished {
            return;
        }
        let conns: Vec<ConnId> = self.web_seeds.keys().copied().collect();
        for conn in conns {
            let seed = &self.web_seeds[&conn];
            match seed.state {
                State::Busy if seed.patience(now) <= seed.silence(now) && !seed.stalled => {
                    self.let_go(conn, now);
                }
                State::Ready => self.ask_web_seed(conn, now),
                State::Paused { until } if until <= now => self.ask_web_seed(conn, now),
                _ => {}
            }
        }
    }

    fn ask_web_seed(&mut self, conn: ConnId, now: Instant) {
        if self.picker.is_all_asked() {
            self.give_way(conn, now);
        }
        let in_order = self.config.in_order;
        let rate = self.web_seeds[&conn].rate;
        let slow = in_order && rate != 0.0 && self.has_quicker(rate, now);
        let seed = self.web_seeds.get_mut(&conn).expect("known");
        let bytes = seed.run_bytes(in_order);
        let from = match in_order {
            true if slow => From::Ahead { rate: rate as u64 },
            true => From::Window { rate: rate as u64 },
            false => seed.from,
        };
        let (spans, reason) = self.picker.pick_run(conn, &seed.has, from, bytes, now);
        let (Some(&first), Some(&last)) = (spans.first(), spans.last()) else { return };
        let geometry = self.picker.geometry();
        let bytes = geometry.bytes(first).start..geometry.bytes(last).end;
        (seed.state, seed.stalled, seed.came) = (State::Busy, false, 0);
        (seed.began, seed.waiting_since, seed.next) = (now, now, last.piece + 1);
        seed.owed = spans.into();
        let length = bytes.end - bytes.start;
        self.actions.push(Action::Fetch { conn, bytes });
        self.decide(|| Decision::Fetch { conn, first, bytes: length, reason });
    }

    /// Some blocks of a run are here (their bytes are on their way to the assembler).
    pub(super) fn fetched(&mut self, conn: ConnId, spans: Vec<Span>, now: Instant) {
        for span in spans {
            let Some(seed) = self.web_seeds.get_mut(&conn) else { return };
            if let Some(at) = seed.owed.iter().position(|owed| *owed == span) {
                seed.owed.remove(at);
            }
            let bytes = u64::from(span.length);
            (seed.came, seed.received) = (seed.came + bytes, seed.received + bytes);
            (seed.waiting_since, seed.failures, seed.lacking) = (now, 0, 0);
            if seed.has.is_full() {
                seed.trouble = None;
            }
            self.arrived(conn, span, now);
        }
    }

    /// A fetch has ended, in whatever way.
    pub(super) fn fetch_ended(&mut self, conn: ConnId, end: FetchEnd, now: Instant) {
        let Some(seed) = self.web_seeds.get_mut(&conn) else { return };
        let time = now.saturating_duration_since(seed.began);
        if seed.came != 0 {
            seed.rate = seed.rate(now);
        } else if SILENT <= time && matches!(end, FetchEnd::Done { .. }) {
            // Others were quicker than its first block.
            seed.rate = f64::from(BLOCK_LEN) / time.as_secs_f64();
        }
        let stalled = std::mem::take(&mut seed.stalled);
        let gone = seed.state == State::Gone;
        self.release_run(conn, 0);
        let seed = self.web_seeds.get_mut(&conn).expect("known");
        match end {
            _ if gone => return,
            FetchEnd::Done { .. } if stalled => {
                seed.came = 0;
                self.web_seed_failed(conn, "it sends nothing".to_owned(), None, now);
            }
            FetchEnd::Done { in_order } => {
                seed.state = State::Ready;
                seed.from = if in_order { From::Piece(seed.next) } else { From::Anywhere };
            }
            FetchEnd::Failed { why, retry_in } => self.web_seed_failed(conn, why, retry_in, now),
            FetchEnd::Lacks { why, pieces } => {
                seed.lacking += 1;
                seed.state = State::Ready;
                let all = LACKING_MAX <= seed.lacking && seed.received == 0;
                self.web_seed_without(conn, pieces, all, why);
            }
            FetchEnd::Useless { why } => self.drop_web_seed(conn, why),
        }
        self.ask_web_seeds(now);
        self.ask_everybody(now);
    }

    fn web_seed_failed(
        &mut self,
        conn: ConnId,
        why: String,
        retry_in: Option<Duration>,
        now: Instant,
    ) {
        let seed = self.web_seeds.get_mut(&conn).expect("known");
        if RUN_MIN <= seed.came && retry_in.is_none() {
            // Some servers end every answer after a while; it is of use.
            (seed.state, seed.trouble) = (State::Ready, Some(why));
            return;
        }
        let doubled = PAUSE_MIN * (1 << seed.failures.min(16));
        let pause = retry_in.unwrap_or_default().min(RETRY_AFTER_MAX);
        let pause = pause.max(doubled.min(PAUSE_MAX));
        seed.failures += 1;
        seed.state = State::Paused { until: now + pause };
        seed.trouble = Some(why.clone());
        let place = seed.place.clone();
        self.announce(Decision::WebSeed { place, why, sequel: Sequel::Again(pause) });
    }

    /// What it sent of a piece is bad, and that is proved: its copy of the file is another one.
    pub(super) fn web_seed_lied(&mut self, conn: ConnId, piece: PieceIndex, why: String) {
        let Some(seed) = self.web_seeds.get_mut(&conn) else { return };
        // More of the run that has cost it the file already.
        if !seed.has.contains(piece) {
            return;
        }
        seed.lies += 1;
        let all = LIES_MAX <= seed.lies;
        let with = seed.files.iter().filter(|pieces| pieces.contains(&piece));
        let pieces = with.fold(piece..piece + 1, |all, pieces| {
            all.start.min(pieces.start)..all.end.max(pieces.end)
        });
        if seed.owed.iter().any(|span| pieces.contains(&span.piece)) {
            self.actions.push(Action::CutFetch { conn, at: 0 });
            self.release_run(conn, 0);
        }
        self.web_seed_without(conn, pieces, all, why);
    }

    /// It is not asked for these pieces any more; for none, if nothing is left that we lack.
    fn web_seed_without(
        &mut self,
        conn: ConnId,
        pieces: Range<PieceIndex>,
        all: bool,
        why: String,
    ) {
        let seed = self.web_seeds.get_mut(&conn).expect("known");
        pieces.clone().for_each(|piece| _ = seed.has.remove(piece));
        let useful = seed.has.iter().any(|piece| self.picker.lacks(piece));
        if all || !useful {
            return self.drop_web_seed(conn, why);
        }
        seed.trouble = Some(why.clone());
        let place = seed.place.clone();
        self.announce(Decision::WebSeed { place, why, sequel: Sequel::Without(pieces) });
    }

    /// It is not asked again in this run.
    pub fn drop_web_seed(&mut self, conn: ConnId, why: String) {
        let Some(seed) = self.web_seeds.get_mut(&conn) else { return };
        if seed.state == State::Gone {
            return;
        }
        if seed.state == State::Busy {
            self.actions.push(Action::CutFetch { conn, at: 0 });
        }
        seed.state = State::Gone;
        seed.trouble = Some(why.clone());
        let place = seed.place.clone();
        self.release_run(conn, 0);
        self.announce(Decision::WebSeed { place, why, sequel: Sequel::GivenUp });
    }

    /// A block that a server owes came from somebody else, or its piece is verified.
    pub(super) fn web_seed_need_not(&mut self, conn: ConnId, span: Span) {
        let Some(seed) = self.web_seeds.get_mut(&conn) else { return };
        seed.owed.retain(|owed| *owed != span);
        if seed.owed.is_empty() && seed.state == State::Busy {
            self.actions.push(Action::CutFetch { conn, at: 0 });
        }
    }

    /// It sends nothing: if anybody else could, what it owes is asked of them.
    fn let_go(&mut self, conn: ConnId, now: Instant) {
        let ready = |(&other, seed): (&ConnId, &WebSeed)| {
            let paused_until = match seed.state {
                State::Ready => now,
                State::Paused { until } => until,
                _ => return false,
            };
            other != conn && paused_until <= now
        };
        let others =
            self.web_seeds.iter().any(ready) || self.peers.values().any(|p| p.can_be_asked());
        if others {
            self.web_seeds.get_mut(&conn).expect("known").stalled = true;
            self.actions.push(Action::CutFetch { conn, at: 0 });
            self.release_run(conn, 0);
        }
    }

    /// Gives all but the first blocks of what a server owes back to the picker.
    fn release_run(&mut self, conn: ConnId, keep: usize) {
        let seed = self.web_seeds.get_mut(&conn).expect("known");
        let keep = keep.min(seed.owed.len());
        for span in seed.owed.split_off(keep) {
            self.picker.released(conn, span);
        }
    }
}
