//! A web seed gives way: what others could send sooner is asked of them.
//!
//! Layer: decisions. A part of the swarm.

use std::time::Instant;

use super::{SILENT, WebSeed};
use crate::bitfield::Bitfield;
use crate::geometry::BLOCK_LEN;
use crate::picker::ConnId;
use crate::swarm::{Action, Decision, Swarm};

/// What a server will have sent within so many seconds is left to it, unless it is silent.
const NEARLY: f64 = 0.2;

/// Who has nothing to do, and would take over a part of a run.
struct Idle<'a> {
    has: &'a Bitfield,
    rate: f64,
    /// Blocks that it could be asked for.
    room: usize,
}

impl Swarm {
    /// Every block is asked of somebody, and this peer or server could be asked for more: the one
    /// that would take longest for its run gives a part of it away.
    pub(in crate::swarm) fn give_way(&mut self, asker: ConnId, now: Instant) {
        let idle = match (self.peers.get(&asker), self.web_seeds.get(&asker)) {
            (Some(peer), _) => {
                Idle { has: &peer.has, rate: peer.pipeline.rate(), room: peer.room(now) }
            }
            (None, Some(seed)) => Idle { has: &seed.has, rate: seed.rate, room: usize::MAX },
            (None, None) => return,
        };
        let takes = time_left_of(&idle, asker, now);
        let slowest = self.web_seeds.iter().filter_map(takes).max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((conn, time)) = slowest else { return };
        let seed = &self.web_seeds[&conn];
        let (owed, rate) = (seed.owed.len(), seed.rate(now));
        // Of somebody that has shown nothing yet, as much is expected as of the other.
        let share = match (rate, idle.rate) {
            (0.0, _) | (_, 0.0) => 0.5,
            (own, other) => own / (own + other),
        };
        let keep = (owed as f64 * share).ceil() as usize;
        let keep = keep.max(owed.saturating_sub(idle.room)).max(1);
        let silent = SILENT.max(seed.patience(now) / 8) <= seed.silence(now);
        let (keep, at) = if silent && rate == 0.0 {
            (0, Some(0))
        } else if NEARLY <= time && keep < owed {
            (keep, Some(self.picker.geometry().bytes(seed.owed[keep - 1]).end))
        } else if silent {
            // Its last blocks are welcome all the same if they come.
            (0, None)
        } else {
            return;
        };
        self.actions.extend(at.map(|at| Action::CutFetch { conn, at }));
        self.release_run(conn, keep);
        self.decide(|| Decision::GiveWay { conn, blocks: owed - keep });
    }
}

/// How long a server will take for what it owes, in seconds, if the idle one could take of it.
fn time_left_of(
    idle: &Idle,
    asker: ConnId,
    now: Instant,
) -> impl Fn((&ConnId, &WebSeed)) -> Option<(ConnId, f64)> {
    move |(&conn, seed)| {
        let last =
            seed.owed.back().filter(|last| conn != asker && idle.has.contains(last.piece))?;
        let bytes = (seed.owed.len() as u64 - 1) * u64::from(BLOCK_LEN) + u64::from(last.length);
        Some((conn, bytes as f64 / seed.rate(now)))
    }
}
