//! Whom to give to (the choking of BEP 3).
//!
//! Who gives gets: that is what keeps a swarm alive, and it needs no memory and no trust.
//!
//! * **While we lack pieces**, the peers that gave us most over the last seconds are unchoked (*tit
//!   for tat*), as soon as they give, and one more, whatever it gave: the *optimistic unchoke*, so
//!   that we find better peers and newcomers get their first piece. It moves on every thirty seconds
//!   ([`OPTIMISTIC_INTERVAL`]), and after one round if it had something for us and gave nothing; newcomers are three times as likely
//!   to get it. Who owes us blocks for long (*snubs* us) gets nothing but that.
//! * **As a seed** there is nothing to get, so everybody has a turn: who was served least recently
//!   comes first, and stays for [`TURN`].
//!
//! A round is [`ROUND`] long; in between free places are filled at once, since a place that waits is
//! bandwidth lost. How many places there are follows from the rate that goes out ([`Places`]): each
//! should be worth something to who has it.
//!
//! To see what these rules are worth: `piecemeal lab newcomers`, and `lab tit-for-tat`
//! ([`lab::scenario`](crate::lab::scenario)).
//!
//! Layer: decisions. Pure; owned by the swarm.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::geometry::BLOCK_LEN;
use crate::order;
use crate::picker::ConnId;
use crate::units::size;

/// How often the places are given anew (BEP 3: ten seconds, so that TCP can reach its rate).
pub const ROUND: Duration = Duration::from_secs(10);

/// How often the optimistic unchoke moves on (BEP 3: thirty seconds). The longer, the longer newcomers
/// wait for their first piece; the shorter, the less a peer has of its place before it is taken away.
/// `piecemeal lab newcomers` measures the wait: change this number, and play it again.
pub const OPTIMISTIC_INTERVAL: Duration = Duration::from_secs(30);

/// In rounds: the places are given anew at the end of one only.
const OPTIMISTIC_ROUNDS: u32 = (OPTIMISTIC_INTERVAL.as_secs() / ROUND.as_secs()) as u32;

const _: () = assert!(
    OPTIMISTIC_ROUNDS != 0 && OPTIMISTIC_INTERVAL.as_secs().is_multiple_of(ROUND.as_secs()),
    "the interval is a number of rounds"
);

/// How long a seed serves a peer before another one gets its place.
const TURN: Duration = Duration::from_secs(20);

/// Who connected so recently is a newcomer.
const NEWCOMER: Duration = Duration::from_secs(60);
const NEWCOMER_CHANCES: usize = 3;

/// Places at least and at most.
const SLOTS_MIN: usize = 4;
const SLOTS_MAX: usize = 200;

/// What the choker is told of a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Contender {
    pub conn: ConnId,
    /// It wants something of us.
    pub interested: bool,
    /// It owes us blocks for too long.
    pub snubs: bool,
    /// What it gave us lately, in bytes a second.
    pub gives: f64,
    /// It has something that we want.
    pub offers: bool,
    /// How long it has been connected.
    pub age: Duration,
}

/// Why a peer was unchoked or choked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The so-and-so-manieth best uploader of so many that want something, in bytes a second.
    Reciprocates { rank: usize, of: usize, rate: u64 },
    /// A try, whatever it gave.
    Optimistic,
    /// There was a free place.
    FreePlace,
    /// A seed serves everybody in turn.
    Turn,
    /// Others gave more: it is only the so-and-so-manieth of so many.
    Outbid { rank: usize, of: usize, rate: u64 },
    /// Its turn is over.
    TurnOver,
    /// It wants nothing any more.
    NotInterested,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match *self {
            Reason::Reciprocates { rank, of, rate } => {
                write!(f, "uploader {rank} of {of}, best first: it gives {}/s", size(rate))
            }
            Reason::Optimistic => f.write_str("optimistic, to see what it gives"),
            Reason::FreePlace => f.write_str("there was a free place"),
            Reason::Turn => f.write_str("its turn"),
            Reason::Outbid { rank, of, rate } => write!(
                f,
                "others give more: it is uploader {rank} of {of} with {}/s, and the places are few",
                size(rate)
            ),
            Reason::TurnOver => f.write_str("its turn is over, others wait"),
            Reason::NotInterested => f.write_str("it wants nothing any more"),
        }
    }
}

/// What has changed: whom to unchoke, whom to choke.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub unchoke: Vec<(ConnId, Reason)>,
    pub choke: Vec<(ConnId, Reason)>,
}

/// How many may be unchoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Whatever they give.
    pub any: usize,
    /// Of those who give. What they get follows from what they give, so nobody has less for it that
    /// they are many.
    pub givers: usize,
}

impl Places {
    /// At so many bytes a second. Anybody: the square root of the rate in units of 25 KiB/s; at
    /// 1 MiB/s six of 170 KiB/s each, at 100 MiB/s sixty-four. Who gives: as many as can have a block
    /// a second.
    pub fn at(rate: f64) -> Places {
        let clamped = |places: f64| (places as usize).clamp(SLOTS_MIN, SLOTS_MAX);
        let any = clamped((rate / (25.0 * 1024.0)).sqrt());
        Places { any, givers: clamped(rate / f64::from(BLOCK_LEN)).max(any) }
    }

    /// As many for everybody.
    pub fn equal(places: usize) -> Places {
        Places { any: places, givers: places }
    }
}

pub struct Choker {
    /// Who is unchoked, since when.
    unchoked: BTreeMap<ConnId, Instant>,
    /// When a seed served a peer last.
    served: BTreeMap<ConnId, Instant>,
    optimistic: Option<ConnId>,
    /// Whether somebody who gives nothing is tried at all.
    tries: bool,
    rounds: u32,
    next_round: Instant,
    rng: fastrand::Rng,
}

impl Choker {
    pub fn new(rng: fastrand::Rng, now: Instant) -> Choker {
        Choker {
            unchoked: BTreeMap::new(),
            served: BTreeMap::new(),
            optimistic: None,
            tries: true,
            rounds: 0,
            next_round: now + ROUND,
            rng,
        }
    }

    /// Without the optimistic unchoke, if so.
    pub fn without_optimistic(self, left_out: bool) -> Choker {
        Choker { tries: !left_out, ..self }
    }

    pub fn is_unchoked(&self, conn: ConnId) -> bool {
        self.unchoked.contains_key(&conn)
    }

    /// Since when it has a place.
    fn since(&self, conn: ConnId) -> Option<Instant> {
        self.unchoked.get(&conn).copied()
    }

    pub fn unchoked(&self) -> usize {
        self.unchoked.len()
    }

    /// A peer has left.
    pub fn gone(&mut self, conn: ConnId) {
        self.unchoked.remove(&conn);
        self.served.remove(&conn);
        self.optimistic = self.optimistic.filter(|&optimistic| optimistic != conn);
    }

    /// Looks at everybody: takes places from those who want nothing, gives the places anew when a
    /// round is over, and fills those that are free.
    pub fn decide(
        &mut self,
        contenders: &[Contender],
        seeding: bool,
        places: Places,
        now: Instant,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        for contender in contenders.iter().filter(|contender| !contender.interested) {
            if self.unchoked.remove(&contender.conn).is_some() {
                self.optimistic = self.optimistic.filter(|&conn| conn != contender.conn);
                verdict.choke.push((contender.conn, Reason::NotInterested));
            }
        }
        let mut wanting: Vec<&Contender> = contenders.iter().filter(|c| c.interested).collect();
        self.rng.shuffle(&mut wanting);
        if self.next_round <= now {
            self.next_round = now + ROUND;
            if seeding {
                self.end_turns(&wanting, places.any, now, &mut verdict);
            } else {
                self.reward(&mut wanting, places, now, &mut verdict);
            }
            self.rounds += 1;
        }
        self.fill(&wanting, seeding, places, now, &mut verdict);
        verdict
    }

    /// Tit for tat: the best uploaders and the optimistic one keep or get a place, the others lose
    /// theirs.
    fn reward(
        &mut self,
        wanting: &mut [&Contender],
        places: Places,
        now: Instant,
        verdict: &mut Verdict,
    ) {
        order::sort_by(wanting, |a, b| {
            (a.snubs, b.gives).partial_cmp(&(b.snubs, a.gives)).expect("no NaN")
        });
        let of = wanting.len();
        let regular = places.givers.saturating_sub(1).min(of);
        let (best, rest) = wanting.split_at(regular);
        let giving = best.iter().take_while(|c| 0.0 < c.gives && !c.snubs).count();
        for (i, contender) in best[..giving].iter().enumerate() {
            let reason = Reason::Reciprocates { rank: i + 1, of, rate: contender.gives as u64 };
            self.unchoke(contender.conn, reason, now, verdict);
        }
        let others: Vec<&Contender> = best[giving..].iter().chain(rest).copied().collect();
        self.move_optimistic(&others, now, verdict);
        // Places of those who gave nothing are only taken when somebody who gives waits for one.
        let mut over = self.unchoked.len().saturating_sub(places.any.max(giving + 1));
        for (i, contender) in others.iter().enumerate().rev() {
            if over == 0 {
                break;
            }
            if self.optimistic != Some(contender.conn)
                && self.unchoked.remove(&contender.conn).is_some()
            {
                let (rank, rate) = (giving + i + 1, contender.gives as u64);
                verdict.choke.push((contender.conn, Reason::Outbid { rank, of, rate }));
                over -= 1;
            }
        }
    }

    /// Every third round somebody else gets its chance; newcomers are likelier to.
    fn move_optimistic(&mut self, others: &[&Contender], now: Instant, verdict: &mut Verdict) {
        let tried = self.optimistic.and_then(|conn| others.iter().find(|c| c.conn == conn));
        // One that could have given, and did not, has had its chance.
        let stays = tried
            .is_some_and(|c| !c.offers || self.since(c.conn).is_some_and(|at| now < at + ROUND));
        if stays && !self.rounds.is_multiple_of(OPTIMISTIC_ROUNDS) {
            return;
        }
        if !self.tries {
            return;
        }
        let chances = |c: &&Contender| if c.age < NEWCOMER { NEWCOMER_CHANCES } else { 1 };
        let waiting = others.iter().filter(|c| !self.unchoked.contains_key(&c.conn)).copied();
        let lots: Vec<ConnId> =
            waiting.flat_map(|c| std::iter::repeat_n(c.conn, chances(&c))).collect();
        if let Some(&conn) = self.rng.choice(&lots) {
            if let Some(last) = self.optimistic.take()
                && others.iter().any(|c| c.conn == last)
                && self.unchoked.remove(&last).is_some()
            {
                verdict.choke.push((last, Reason::TurnOver));
            }
            self.optimistic = Some(conn);
            self.unchoke(conn, Reason::Optimistic, now, verdict);
        }
    }

    /// A seed: who was served for long enough gives its place to one that waits.
    fn end_turns(
        &mut self,
        wanting: &[&Contender],
        slots: usize,
        now: Instant,
        verdict: &mut Verdict,
    ) {
        let waiting = wanting.iter().filter(|c| !self.unchoked.contains_key(&c.conn)).count();
        let free = slots.saturating_sub(self.unchoked.len());
        let mut served: Vec<(Instant, ConnId)> =
            self.unchoked.iter().map(|(&conn, &since)| (since, conn)).collect();
        order::sort(&mut served);
        let over = served.into_iter().filter(|(since, _)| *since + TURN <= now);
        for (_, conn) in over.take(waiting.saturating_sub(free)) {
            self.unchoked.remove(&conn);
            self.served.insert(conn, now);
            verdict.choke.push((conn, Reason::TurnOver));
        }
    }

    /// Free places go to those who wait: of a seed to who was served longest ago.
    fn fill(
        &mut self,
        wanting: &[&Contender],
        seeding: bool,
        places: Places,
        now: Instant,
        verdict: &mut Verdict,
    ) {
        let mut waiting: Vec<&&Contender> =
            wanting.iter().filter(|c| !self.unchoked.contains_key(&c.conn)).collect();
        if seeding {
            order::sort_by_key(&mut waiting, |c| self.served.get(&c.conn).copied());
        } else {
            let rank = |c: &&&Contender| (c.snubs, -c.gives);
            order::sort_by(&mut waiting, |a, b| rank(a).partial_cmp(&rank(b)).expect("no NaN"));
        }
        let reason = if seeding { Reason::Turn } else { Reason::FreePlace };
        for contender in waiting {
            // Who gives need not wait for the next round.
            let gives = !seeding && 0.0 < contender.gives && !contender.snubs;
            let places = if gives { places.givers } else { places.any };
            if self.unchoked.len() < places {
                self.unchoke(contender.conn, reason, now, verdict);
            }
        }
    }

    fn unchoke(&mut self, conn: ConnId, reason: Reason, now: Instant, verdict: &mut Verdict) {
        if self.unchoked.contains_key(&conn) {
            return;
        }
        self.unchoked.insert(conn, now);
        // One that was choked a line ago never hears of it.
        match verdict.choke.iter().position(|(choked, _)| *choked == conn) {
            Some(at) => drop(verdict.choke.swap_remove(at)),
            None => verdict.unchoke.push((conn, reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32, gives: f64) -> Contender {
        let (conn, age) = (ConnId(n), Duration::from_secs(600));
        Contender { conn, interested: true, snubs: false, gives, offers: true, age }
    }

    fn choker() -> (Choker, Instant) {
        let now = Instant::now();
        (Choker::new(fastrand::Rng::with_seed(5), now), now)
    }

    fn unchoked(choker: &Choker) -> Vec<u32> {
        choker.unchoked.keys().map(|conn| conn.0).collect()
    }

    #[test]
    fn free_places_are_filled_at_once_and_given_back_when_nothing_is_wanted() {
        let (mut choker, now) = choker();
        let mut peers: Vec<Contender> = (1..=3).map(|n| peer(n, 0.0)).collect();
        let verdict = choker.decide(&peers, false, Places::equal(4), now);
        assert_eq!((verdict.unchoke.len(), unchoked(&choker)), (3, vec![1, 2, 3]));
        peers[0].interested = false;
        let verdict = choker.decide(&peers, false, Places::equal(4), now);
        assert_eq!(verdict.choke, [(ConnId(1), Reason::NotInterested)]);
        assert_eq!(choker.decide(&peers, false, Places::equal(4), now), Verdict::default());
    }

    #[test]
    fn who_gives_gets() {
        let (mut choker, now) = choker();
        let peers: Vec<Contender> = (1..=10).map(|n| peer(n, f64::from(n) * 1e3)).collect();
        for round in 1..20 {
            choker.decide(&peers, false, Places::equal(4), now + ROUND * round);
            let unchoked = unchoked(&choker);
            assert_eq!(unchoked.len(), 4);
            assert!([8, 9, 10].iter().all(|best| unchoked.contains(best)), "{unchoked:?}");
        }
    }

    #[test]
    fn who_begins_to_give_gets_at_once_and_beyond_the_places_of_anybody() {
        let (mut choker, now) = choker();
        let mut peers: Vec<Contender> = (1..=10).map(|n| peer(n, 0.0)).collect();
        let places = Places { any: 4, givers: 8 };
        choker.decide(&peers, false, places, now);
        assert_eq!(unchoked(&choker).len(), 4);
        let waits = |choker: &Choker| (1..=10).find(|n| !unchoked(choker).contains(n)).unwrap();
        let second = Duration::from_secs(1);
        for n in 5..=8 {
            let giver = waits(&choker);
            peers[giver as usize - 1].gives = 1e3;
            let verdict = choker.decide(&peers, false, places, now + second);
            assert_eq!(verdict.unchoke, [(ConnId(giver), Reason::FreePlace)]);
            assert_eq!(unchoked(&choker).len(), n);
        }
        let giver = waits(&choker);
        peers[giver as usize - 1].gives = 1e3;
        assert_eq!(choker.decide(&peers, false, places, now + second), Verdict::default());
        choker.decide(&peers, false, places, now + ROUND);
        assert!(unchoked(&choker).contains(&giver), "those who give nothing make room");
    }

    #[test]
    fn who_could_give_and_does_not_is_tried_for_a_round_only() {
        let tries = |offers| {
            let (mut choker, now) = choker();
            let mut peers: Vec<Contender> = (1..=3).map(|n| peer(n, 1e6)).collect();
            peers.extend((4..=9).map(|n| Contender { offers, ..peer(n, 0.0) }));
            let mut tried = Vec::new();
            for round in 1..=7 {
                choker.decide(&peers, false, Places::equal(4), now + ROUND * round);
                tried.push(choker.optimistic);
            }
            tried.dedup();
            tried.len()
        };
        assert_eq!((tries(true), tries(false)), (7, 3));
    }

    #[test]
    fn everybody_gets_the_optimistic_place_in_time() {
        let (mut choker, now) = choker();
        let peers: Vec<Contender> =
            (1..=10).map(|n| peer(n, if n <= 3 { 1e6 } else { 0.0 })).collect();
        let mut seen = std::collections::BTreeSet::new();
        for round in 1..300 {
            choker.decide(&peers, false, Places::equal(4), now + ROUND * round);
            seen.extend(unchoked(&choker));
        }
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn newcomers_are_likelier_to_be_tried() {
        let mut tries = [0; 2];
        for seed in 0..400 {
            let now = Instant::now();
            let mut choker = Choker::new(fastrand::Rng::with_seed(seed), now);
            let mut peers: Vec<Contender> = (1..=3).map(|n| peer(n, 1e6)).collect();
            choker.decide(&peers, false, Places::equal(4), now + ROUND);
            peers.extend([peer(8, 0.0), peer(9, 0.0)]);
            peers[4].age = Duration::ZERO;
            // All places are taken but the optimistic one.
            choker.decide(&peers, false, Places::equal(4), now + ROUND * 4);
            tries[0] += u32::from(choker.optimistic == Some(ConnId(8)));
            tries[1] += u32::from(choker.optimistic == Some(ConnId(9)));
        }
        assert!(tries[0] * 2 < tries[1], "{tries:?}");
    }

    #[test]
    fn who_snubs_us_loses_its_place_to_who_gives() {
        let (mut choker, now) = choker();
        let mut peers: Vec<Contender> = (1..=6).map(|n| peer(n, 1e3)).collect();
        choker.decide(&peers, false, Places::equal(4), now + ROUND);
        let snubbing = unchoked(&choker)[0];
        peers[snubbing as usize - 1].snubs = true;
        peers[snubbing as usize - 1].gives = 0.0;
        let optimistic = choker.optimistic;
        choker.decide(&peers, false, Places::equal(4), now + ROUND * 2);
        let kept = optimistic == Some(ConnId(snubbing));
        assert!(kept || !unchoked(&choker).contains(&snubbing));
    }

    #[test]
    fn a_seed_serves_everybody_in_turn() {
        let (mut choker, now) = choker();
        let peers: Vec<Contender> = (1..=9).map(|n| peer(n, 0.0)).collect();
        let mut turns = [0u32; 10];
        for round in 0..90 {
            let verdict = choker.decide(&peers, true, Places::equal(3), now + ROUND * round);
            verdict.unchoke.iter().for_each(|(conn, _)| turns[conn.0 as usize] += 1);
            assert_eq!(unchoked(&choker).len(), 3);
        }
        let (least, most) = (turns[1..].iter().min(), turns[1..].iter().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "{turns:?}");
    }

    #[test]
    fn places_follow_the_rate() {
        let at = |rate| (Places::at(rate).any, Places::at(rate).givers);
        assert_eq!((at(0.0), at(1e5), at(f64::from(1 << 20))), ((4, 4), (4, 6), (6, 64)));
        assert_eq!((at(f64::from(100 << 20)), at(1e12)), ((64, 200), (SLOTS_MAX, SLOTS_MAX)));
    }
}
