//! The sums of a run.
//!
//! Layer: decisions. A part of the swarm.

use std::time::Instant;

use crate::rate::Rate;

/// What went over the wires in this run.
pub(super) struct Totals {
    pub down: Rate,
    pub up: Rate,
    pub uploaded: u64,
    pub downloaded: u64,
    pub wasted: u64,
    pub corrupt: u32,
}

impl Totals {
    pub fn new(now: Instant) -> Totals {
        let (down, up) = (Rate::new(now), Rate::new(now));
        Totals { down, up, uploaded: 0, downloaded: 0, wasted: 0, corrupt: 0 }
    }
}
