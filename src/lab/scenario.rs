//! The scenarios: swarms with a lesson, each played once for every variant that it compares.
//!
//! A lesson is made of the figures of the very run that it stands below, and says so where they do not
//! bear out what one would expect. Which is which:
//!
//! | file | what is compared |
//! |---|---|
//! | `growth` | how many want it |
//! | `rules` | with a rule of the protocol and without |
//! | `trouble` | who lies, is slow or leaves, and a network that breaks |
//!
//! Layer: programs. Pure: tables and sentences.

mod growth;
mod rules;
mod trouble;

use std::time::Duration;

use super::Played;
use super::world::{Kind, Nature, Weather};
use crate::geometry::Geometry;
use crate::swarm::Without;

/// Bytes a second.
const MBIT: f64 = 1e6 / 8.0;

const MIB: u64 = 1 << 20;

/// Times that differ by less are called the same: another `--rng` differs as much.
const SAME: f64 = 0.05;

/// A swarm to play.
pub struct Variant {
    pub label: String,
    pub geometry: Geometry,
    pub natures: Vec<Nature>,
    pub weather: Weather,
}

pub struct Scenario {
    pub name: &'static str,
    /// What is played, in a line.
    pub about: &'static str,
    /// `peers`: how many leechers, if the user said so.
    pub variants: fn(peers: Option<usize>) -> Vec<Variant>,
    /// What the figures teach.
    pub lesson: fn(&[Played]) -> String,
}

pub const SCENARIOS: &[Scenario] = &[
    growth::ONE_SEED,
    growth::WHY_P2P,
    growth::FLASH_CROWD,
    growth::CLUSTER,
    rules::NEWCOMERS,
    rules::TIT_FOR_TAT,
    rules::FREE_RIDERS,
    rules::PICKING,
    rules::ENDGAME,
    rules::SUPER_SEEDING,
    trouble::SEED_LEAVES,
    trouble::CORRUPT_PEER,
    trouble::LYING_BITFIELD,
    trouble::NEVER_UNCHOKES,
    trouble::SLOW_PEERS,
    trouble::TRACKER_DIES,
    trouble::PARTITION,
];

/// One that gives as it should, there from the start. Rates in bytes a second, latency in
/// milliseconds.
pub fn honest(up: f64, down: f64, latency: u64) -> Nature {
    Nature {
        kind: Kind::Honest,
        up,
        down,
        latency: Duration::from_millis(latency),
        joins: Duration::ZERO,
        leaves: None,
        leaves_after: None,
        super_seed: false,
        without: Without::default(),
        in_order: false,
        half: None,
    }
}

fn geometry(size: u64, piece_length: u32) -> Geometry {
    Geometry::new(size, piece_length).expect("sizes of our own choice")
}

/// A seed and so many leechers, who come one after the other within a second.
fn crowd(leechers: usize, seed: f64, up: f64, down: f64) -> Vec<Nature> {
    let mut natures = vec![honest(up, down, 20); leechers + 1];
    natures[0] = Nature { kind: Kind::Seed, ..honest(seed, seed, 20) };
    for (i, nature) in natures.iter_mut().enumerate().skip(1) {
        nature.joins = Duration::from_millis(100 + 900 * i as u64 / leechers as u64);
    }
    natures
}

/// The crowd that most scenarios begin with: lines of 4 Mbit/s up and 16 down.
fn usual(leechers: usize) -> Vec<Nature> {
    crowd(leechers, 4.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT)
}

fn variant(label: &str, natures: Vec<Nature>) -> Variant {
    sized(8 * MIB, 64 << 10, label, natures)
}

fn sized(size: u64, piece_length: u32, label: &str, natures: Vec<Nature>) -> Variant {
    let geometry = geometry(size, piece_length);
    Variant { label: label.to_owned(), geometry, natures, weather: Weather::default() }
}

/// "12.3 s", or "never".
pub fn seconds(time: f64) -> String {
    if time.is_finite() { format!("{time:.1} s") } else { "never".to_owned() }
}

/// How one time compares with another, as the end of "who …".
fn against(time: f64, other: f64) -> String {
    match time / other - 1.0 {
        _ if !time.is_finite() => "never".to_owned(),
        _ if !other.is_finite() => "and not never".to_owned(),
        more if more.abs() < SAME => "no later".to_owned(),
        more if more < 0.0 => format!("{:.0} % sooner", -100.0 * more),
        more => format!("{:.0} % later", 100.0 * more),
    }
}

/// "all 8 completed after 20.1 s", "5 of 8 completed".
fn completed(run: &Played) -> String {
    let o = &run.outcome;
    match o.done {
        0 => format!("none of {} completed", o.of),
        done if done < o.of => format!("{done} of {} completed", o.of),
        _ => format!("all {} completed after {}", o.of, seconds(o.last)),
    }
}

#[cfg(test)]
mod tests;
