//! The pieces of the metadata: what to ask of whom, and who lied.
//!
//! ```text
//! attempt  size, pieces │ 0 │ 1 │ 2 │ …     all peers that claim this size together,
//!                                           or, once that gave a wrong hash, one peer alone
//! ```
//!
//! Nobody knows how long the metadata is, and some lie about it: each size that somebody claims is an
//! attempt of its own. The smallest go first, as many at a time as fit [`BUDGET`]; those whose peers
//! answer before those whose peers are silent. When the pieces of
//! several peers do not give the right hash, somebody lied, and nobody knows who: from then on each
//! peer of that size has to deliver all of it alone, and one that alone gives a wrong hash is proved
//! a liar.
//!
//! Others are silent, and a swarm may be full of them. So a stranger is asked for one piece; who has
//! answered is [`Standing::Answers`] for as long as it does, has up to [`ASKED_MAX`] requests, and is
//! soon asked for what strangers were asked for, too. Who was silent is asked again only where nobody
//! answers.
//!
//! Layer: decisions. Pure; owned by [`Search`](super::Search).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::hash::{Sha1, sha1};
use crate::order;
use crate::picker::ConnId;
use crate::wire::metadata::{self, METADATA_LEN_MAX, METADATA_PIECE_LEN};

/// Memory of all attempts that run at the same time. The longest metadata must fit, and beside it what
/// a few liars claim.
const BUDGET: usize = 2 * METADATA_LEN_MAX + 1;

/// Requests that a peer that answers has at a time. Some clients take two, most any number.
const ASKED_MAX: usize = 4;

/// How many peers are asked for the same piece at first; it doubles with each [`DOUBLE_AFTER`] in
/// which nothing comes, so that fifty silent peers cost two seconds and not minutes.
const TWINS: usize = 2;
const DOUBLE_AFTER: Duration = Duration::from_millis(500);
const DOUBLINGS_MAX: u32 = 6;

/// Who lets us wait for so long does not answer, and does not count among those who were asked for a
/// piece when one is to be found for a peer that does; a stranger, after about a round trip.
const IMPATIENCE: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_millis(250);

/// A request that is not answered for so long, while nothing else is answered, is given up, and counts
/// against the peer.
const PATIENCE: Duration = Duration::from_secs(8);

/// After a reject the peer is left alone for so long.
const PAUSE: Duration = Duration::from_secs(2);

/// So many rejects (with a pause after each) or unanswered requests, and no piece between: no use.
const FAILURES_MAX: u32 = 3;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Ask {
        conn: ConnId,
        piece: u32,
    },
    /// It gives no metadata.
    Drop {
        conn: ConnId,
        why: String,
    },
    /// It alone sent metadata of a wrong hash.
    Ban {
        conn: ConnId,
    },
    /// The info dictionary; its hash is right.
    Done(Vec<u8>),
}

/// A size, and the only peer that this attempt asks; `None`: all that claim the size.
type Key = (u32, Option<ConnId>);

pub struct Fetch {
    info_hash: Sha1,
    sources: BTreeMap<ConnId, Source>,
    attempts: BTreeMap<Key, Attempt>,
    /// Sizes whose peers together gave a wrong hash.
    split: BTreeSet<u32>,
}

/// A peer that says that it has the metadata.
struct Source {
    size: u32,
    /// The pieces it was asked for, since when.
    asked: Vec<(u32, Instant)>,
    /// Not asked before.
    paused_until: Instant,
    /// Rejects and time-outs since its last piece.
    failures: u32,
    /// When its last piece came.
    answered: Option<Instant>,
}

/// What is to be expected of a peer: the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Answers,
    /// It was asked for nothing yet, or just now.
    Stranger,
    /// It lets us wait, or has done so, or refuses.
    Silent,
}

impl Source {
    fn standing(&self, now: Instant) -> Standing {
        let oldest = self.asked.iter().map(|&(_, since)| since).min();
        let late = |oldest| waits_since(oldest, self.answered) + IMPATIENCE <= now;
        let late = oldest.is_some_and(late);
        match self.answered {
            _ if late || self.failures != 0 => Standing::Silent,
            Some(_) => Standing::Answers,
            None => Standing::Stranger,
        }
    }
}

/// Since when a peer lets us wait: one that is slow and has much to send does so since its last piece.
fn waits_since(asked: Instant, answered: Option<Instant>) -> Instant {
    answered.map_or(asked, |answered| answered.max(asked))
}

struct Attempt {
    pieces: Vec<Option<Box<[u8]>>>,
    missing: usize,
    /// The last piece, or the start, or when the circle of those who are asked grew.
    waiting_since: Instant,
    doublings: u32,
    /// Who sent something.
    senders: BTreeSet<ConnId>,
}

impl Attempt {
    fn new(size: u32, now: Instant) -> Attempt {
        let count = metadata::pieces(size as usize) as usize;
        Attempt {
            pieces: vec![None; count],
            missing: count,
            waiting_since: now,
            doublings: 0,
            senders: BTreeSet::new(),
        }
    }
}

impl Fetch {
    pub fn new(info_hash: Sha1) -> Fetch {
        let (sources, attempts, split) = Default::default();
        Fetch { info_hash, sources, attempts, split }
    }

    /// A peer says that it has metadata of so many bytes: 1 to [`METADATA_LEN_MAX`].
    pub fn offered(&mut self, conn: ConnId, size: u32, now: Instant) {
        if self.sources.get(&conn).is_some_and(|source| source.size == size) {
            return;
        }
        self.gone(conn);
        let source =
            Source { size, asked: Vec::new(), paused_until: now, failures: 0, answered: None };
        self.sources.insert(conn, source);
        let key = self.key(conn, size);
        self.attempts.entry(key).or_insert_with(|| Attempt::new(size, now));
    }

    /// The attempt that a peer takes part in.
    fn key(&self, conn: ConnId, size: u32) -> Key {
        (size, self.split.contains(&size).then_some(conn))
    }

    /// A peer has left.
    pub fn gone(&mut self, conn: ConnId) {
        let Some(source) = self.sources.remove(&conn) else { return };
        self.attempts.remove(&(source.size, Some(conn)));
        // What others sent is kept, as long as there is anybody who claims this size.
        if !self.sources.values().any(|other| other.size == source.size) {
            self.attempts.remove(&(source.size, None));
        }
    }

    /// A piece has come. `Err`: it breaks a rule, the text says which.
    pub fn data(
        &mut self,
        conn: ConnId,
        piece: u32,
        total_size: u32,
        bytes: &[u8],
        now: Instant,
    ) -> Result<Vec<Step>, String> {
        let Some(source) = self.sources.get_mut(&conn) else { return Ok(Vec::new()) };
        let Some(at) = source.asked.iter().position(|&(asked, _)| asked == piece) else {
            // Too late, or never asked for.
            return Ok(Vec::new());
        };
        source.asked.remove(at);
        let size = source.size;
        if total_size != size {
            return Err(format!("metadata of {total_size} bytes, after a claim of {size} (BEP 9)"));
        }
        let expected = metadata::range(piece, size as usize).map_or(0, |range| range.len());
        if bytes.len() != expected {
            let len = bytes.len();
            return Err(format!("metadata piece {piece} of {len} bytes, not {expected} (BEP 9)"));
        }
        (source.failures, source.answered) = (0, Some(now));
        let key = self.key(conn, size);
        let Some(attempt) = self.attempts.get_mut(&key) else { return Ok(Vec::new()) };
        (attempt.waiting_since, attempt.doublings) = (now, 0);
        let slot = &mut attempt.pieces[piece as usize];
        if slot.is_none() {
            *slot = Some(bytes.into());
            attempt.missing -= 1;
            attempt.senders.insert(conn);
        }
        if attempt.missing == 0 { Ok(self.judge(key, now)) } else { Ok(Vec::new()) }
    }

    /// All pieces of an attempt are here.
    fn judge(&mut self, key: Key, now: Instant) -> Vec<Step> {
        let Some(attempt) = self.attempts.remove(&key) else { return Vec::new() };
        let pieces: Vec<Box<[u8]>> = attempt.pieces.into_iter().flatten().collect();
        let info = pieces.concat();
        if sha1(&info) == self.info_hash {
            return vec![Step::Done(info)];
        }
        let size = key.0;
        if let Some(&conn) = attempt.senders.first().filter(|_| attempt.senders.len() == 1) {
            self.gone(conn);
            // The others of this size have another chance together.
            if key.1.is_none() && self.sources.values().any(|source| source.size == size) {
                self.attempts.insert(key, Attempt::new(size, now));
            }
            return vec![Step::Ban { conn }];
        }
        self.split.insert(size);
        for (&conn, source) in self.sources.iter_mut().filter(|(_, source)| source.size == size) {
            source.asked.clear();
            self.attempts.insert((size, Some(conn)), Attempt::new(size, now));
        }
        Vec::new()
    }

    /// A peer will not send a piece.
    pub fn rejected(&mut self, conn: ConnId, piece: u32, now: Instant) -> Option<Step> {
        let source = self.sources.get_mut(&conn)?;
        source.asked.iter().find(|&&(asked, _)| asked == piece)?;
        source.asked.clear();
        source.paused_until = now + PAUSE;
        source.failures += 1;
        (FAILURES_MAX <= source.failures).then(|| {
            self.gone(conn);
            Step::Drop { conn, why: format!("refused the metadata {FAILURES_MAX} times") }
        })
    }

    /// Asks whoever can be asked, and gives up on those that do not answer.
    pub fn tick(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = self.give_up(now);
        let mut budget = BUDGET;
        let standing = |&key: &Key| (self.standing(key, now), key);
        let attempts: Vec<(Standing, Key)> = self.attempts.keys().map(standing).collect();
        // Of each standing in the order of their sizes.
        for turn in [Standing::Answers, Standing::Stranger, Standing::Silent] {
            for &(standing, key) in attempts.iter().filter(|(standing, _)| *standing == turn) {
                budget = budget.saturating_sub(self.cost(key, standing));
                if budget != 0 {
                    self.ask(key, now, &mut steps);
                } else if let Some(attempt) = self.attempts.get_mut(&key) {
                    // It was begun before the smaller ones were known: its memory is needed.
                    *attempt = Attempt::new(key.0, now);
                }
            }
        }
        steps
    }

    /// The best that is to be expected of an attempt's peers.
    fn standing(&self, key: Key, now: Instant) -> Standing {
        let part = self.sources.iter().filter(|(conn, source)| is_part(key, **conn, source));
        part.map(|(_, source)| source.standing(now)).min().unwrap_or(Standing::Silent)
    }

    /// The memory that an attempt needs: all of it if its peers answer, else what they have sent and
    /// could send now. A claim alone takes none.
    fn cost(&self, key: Key, standing: Standing) -> usize {
        if standing == Standing::Answers {
            return key.0 as usize;
        }
        let peers = self.sources.iter().filter(|(conn, source)| is_part(key, **conn, source));
        let asked: usize = peers.map(|(_, source)| source.asked.len().max(1)).sum();
        let here =
            self.attempts.get(&key).map_or(0, |attempt| attempt.pieces.len() - attempt.missing);
        (here + asked) * METADATA_PIECE_LEN
    }

    fn give_up(&mut self, now: Instant) -> Vec<Step> {
        let mut useless = Vec::new();
        for (&conn, source) in &mut self.sources {
            let answered = source.answered;
            let late =
                |&(_, asked): &(u32, Instant)| waits_since(asked, answered) + PATIENCE <= now;
            if source.asked.iter().any(late) {
                source.asked.retain(|asked| !late(asked));
                source.failures += 1;
                if FAILURES_MAX <= source.failures {
                    useless.push(conn);
                }
            }
        }
        let drop = |conn| Step::Drop { conn, why: "offers metadata and sends none".to_owned() };
        useless.iter().for_each(|&conn| self.gone(conn));
        useless.into_iter().map(drop).collect()
    }

    /// Asks the peers of one attempt for what is missing: those that answer first, and of them those
    /// with the least to do.
    fn ask(&mut self, key: Key, now: Instant, steps: &mut Vec<Step>) {
        let best = self.standing(key, now);
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        let mut askers = Askers::new(attempt.pieces.len());
        let mut free: Vec<(Standing, usize, ConnId)> = Vec::new();
        for (&conn, source) in self.sources.iter().filter(|(conn, s)| is_part(key, **conn, s)) {
            let standing = source.standing(now);
            for &(piece, since) in &source.asked {
                let patience = if standing == Standing::Answers { IMPATIENCE } else { GRACE };
                askers.add(piece, now < since + patience);
            }
            let is_hopeless = standing == Standing::Silent && best == Standing::Answers;
            if source.paused_until <= now && !is_hopeless {
                free.push((standing, source.asked.len(), conn));
            }
        }
        if attempt.waiting_since + DOUBLE_AFTER <= now && askers.any() {
            attempt.waiting_since = now;
            attempt.doublings = (attempt.doublings + 1).min(DOUBLINGS_MAX);
        }
        let twins = TWINS << attempt.doublings;
        order::sort(&mut free);
        // One request each, and then a second: everybody begins at once.
        for _ in 0..ASKED_MAX {
            for &(standing, _, conn) in &free {
                let answers = standing == Standing::Answers;
                let Some(source) = self.sources.get_mut(&conn) else { continue };
                if (if answers { ASKED_MAX } else { 1 }) <= source.asked.len() {
                    continue;
                }
                let open = |piece: &u32| {
                    let asked = source.asked.iter().any(|(asked, _)| asked == piece);
                    let is_missing = attempt.pieces[*piece as usize].is_none();
                    is_missing && !asked && askers.count(*piece, answers) < twins
                };
                // What nobody was asked for goes first.
                let rank = |piece: &u32| (askers.count(*piece, false), *piece);
                let pieces = 0..attempt.pieces.len() as u32;
                let Some(piece) = pieces.filter(open).min_by_key(rank) else { continue };
                source.asked.push((piece, now));
                askers.add(piece, true);
                steps.push(Step::Ask { conn, piece });
            }
        }
    }

    /// The attempt that is nearest to its end: pieces here, of so many, and of how many peers.
    pub fn progress(&self) -> (u32, u32, usize) {
        let parts = |(&(size, alone), attempt): (&Key, &Attempt)| {
            let have = attempt.pieces.len() - attempt.missing;
            let claims = self.sources.values().filter(|source| source.size == size).count();
            let peers = if alone.is_some() { 1 } else { claims };
            (have as u32, attempt.pieces.len() as u32, peers)
        };
        let all = self.attempts.iter().map(parts);
        all.max_by_key(|&(have, _, peers)| (have, peers)).unwrap_or((0, 0, 0))
    }
}

/// Whether a peer takes part in an attempt.
fn is_part((size, alone): Key, conn: ConnId, source: &Source) -> bool {
    source.size == size && alone.is_none_or(|alone| alone == conn)
}

/// How many peers were asked for each piece; and how many of them may be expected to answer soon.
struct Askers(Vec<(usize, usize)>);

impl Askers {
    fn new(pieces: usize) -> Askers {
        Askers(vec![(0, 0); pieces])
    }

    fn add(&mut self, piece: u32, soon: bool) {
        let (all, of_use) = &mut self.0[piece as usize];
        *all += 1;
        *of_use += usize::from(soon);
    }

    fn any(&self) -> bool {
        self.0.iter().any(|&(all, _)| all != 0)
    }

    fn count(&self, piece: u32, only_soon: bool) -> usize {
        let (all, of_use) = self.0[piece as usize];
        if only_soon { of_use } else { all }
    }
}
