//! The scenarios: swarms with a lesson, each played once for every variant that it compares.
//!
//! Layer: programs. Pure: tables and sentences.

use std::time::Duration;

use super::Played;
use super::world::{Kind, Nature, Partition, Weather};
use crate::geometry::Geometry;
use crate::swarm::Without;

/// Bytes a second.
const MBIT: f64 = 1e6 / 8.0;

const MIB: u64 = 1 << 20;

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

fn variant(label: &str, natures: Vec<Nature>) -> Variant {
    let geometry = geometry(8 * MIB, 64 << 10);
    Variant { label: label.to_owned(), geometry, natures, weather: Weather::default() }
}

/// "12.3 s", or "never".
pub fn seconds(time: f64) -> String {
    if time.is_finite() { format!("{time:.1} s") } else { "never".to_owned() }
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "one-seed",
        about: "one seed and eight leechers on equal lines",
        variants: |peers| {
            vec![variant("swarm", crowd(peers.unwrap_or(8), 4.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT))]
        },
        lesson: |runs| {
            let o = &runs[0].outcome;
            format!(
                "The seed sent {:.2} copies and {} peers got one each: the rest came from each other. \
                 The last was done after {}, {:.0} % of what no protocol can beat.",
                o.copies,
                o.done,
                seconds(o.last),
                100.0 * o.efficiency()
            )
        },
    },
    Scenario {
        name: "why-p2p",
        about: "a server alone against a swarm, for 1 to 32 who want the file",
        variants: |peers| {
            let counts =
                [1, 2, 4, 8, 16, 32].into_iter().filter(|n| peers.is_none_or(|max| *n <= max));
            let both = |n: usize| {
                let swarm = crowd(n, 8.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
                let mut alone = swarm.clone();
                // Clients of a server: they take, and give nothing.
                alone[1..].iter_mut().for_each(|nature| nature.kind = Kind::Client);
                [
                    variant(&format!("server, {n} clients"), alone),
                    variant(&format!("swarm, {n} peers"), swarm),
                ]
            };
            counts.flat_map(both).collect()
        },
        lesson: |runs| {
            let [.., server, swarm] = runs else { return String::new() };
            format!(
                "With {} who want it the server needs {} and the swarm {}: a server's time grows with \
                 every client, a swarm's hardly, since whoever comes brings an uplink along.",
                swarm.outcome.of,
                seconds(server.outcome.last),
                seconds(swarm.outcome.last)
            )
        },
    },
    Scenario {
        name: "flash-crowd",
        about: "a release: everybody comes at once, and there is one seed",
        variants: |peers| {
            let natures = crowd(peers.unwrap_or(16), 10.0 * MBIT, 10.0 * MBIT, 50.0 * MBIT);
            vec![Variant { geometry: geometry(24 * MIB, 64 << 10), ..variant("crowd", natures) }]
        },
        lesson: |runs| {
            let o = &runs[0].outcome;
            format!(
                "{} peers were served in {}, {:.2} times the bound of {}; the seed sent {:.2} copies. \
                 What counts is that no piece leaves the seed twice before every piece has left it once.",
                o.done,
                seconds(o.last),
                1.0 / o.efficiency(),
                seconds(o.bound),
                o.copies
            )
        },
    },
    Scenario {
        name: "super-seeding",
        about: "the first seed shows everything, or each piece to one peer only (BEP 16)",
        variants: |peers| {
            let run = |label: &str, super_seed| {
                let mut natures = crowd(peers.unwrap_or(16), 4.0 * MBIT, 4.0 * MBIT, 20.0 * MBIT);
                natures[0].super_seed = super_seed;
                variant(label, natures)
            };
            vec![run("shows all", false), run("super-seed", true)]
        },
        lesson: |runs| {
            format!(
                "Until everybody had everything the seed that shows all sent {:.2} copies, the \
                 super-seed {:.2}; the last peer was done after {} and {}.",
                runs[0].outcome.copies,
                runs[1].outcome.copies,
                seconds(runs[0].outcome.last),
                seconds(runs[1].outcome.last)
            )
        },
    },
    Scenario {
        name: "seed-leaves",
        about: "the only seed is gone after it has sent 0.9, 1.05 and 1.5 copies",
        variants: |peers| {
            let run = |copies: f64| {
                let mut natures = crowd(peers.unwrap_or(12), 4.0 * MBIT, 4.0 * MBIT, 20.0 * MBIT);
                natures[0].super_seed = true;
                natures[0].leaves_after = Some(copies);
                variant(&format!("after {copies} copies"), natures)
            };
            vec![run(0.9), run(1.05), run(1.5)]
        },
        lesson: |runs| {
            let line = |run: &Played| format!("{} of {}", run.outcome.done, run.outcome.of);
            format!(
                "A swarm lives on without its seed as soon as every piece is somewhere: after 0.9 \
                 copies {} completed, after 1.05 {}, after 1.5 {}.",
                line(&runs[0]),
                line(&runs[1]),
                line(&runs[2])
            )
        },
    },
    Scenario {
        name: "free-riders",
        about: "four of sixteen take and never give",
        variants: |peers| {
            let n = peers.unwrap_or(16);
            let mut natures = crowd(n, 4.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
            natures[n + 1 - n / 4..].iter_mut().for_each(|nature| nature.kind = Kind::FreeRider);
            vec![variant("swarm", natures)]
        },
        lesson: |runs| {
            let o = &runs[0].outcome;
            let verdict = if o.honest < o.riders {
                "giving pays, without anybody keeping books"
            } else {
                "with so much to be had, taking alone was good enough here"
            };
            format!(
                "Who gave was done after {} on average, who did not after {}: {verdict}.",
                seconds(o.honest),
                seconds(o.riders)
            )
        },
    },
    Scenario {
        name: "corrupt-peer",
        about: "one peer sends wrong bytes in half of its blocks",
        variants: |peers| {
            let mut natures = crowd(peers.unwrap_or(8), 4.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
            natures[1].kind = Kind::Liar;
            vec![variant("swarm", natures)]
        },
        lesson: |runs| {
            let (bad, bans) = (runs[0].corrupt(), runs[0].decisions("ban "));
            format!(
                "{bad} pieces failed their hash and were fetched again; the liar was found and banned \
                 {bans} times, and nobody has a wrong byte. All were done after {}.",
                seconds(runs[0].outcome.last)
            )
        },
    },
    Scenario {
        name: "lying-bitfield",
        about: "one peer says that it has everything, has nothing, and does not answer",
        variants: |peers| {
            let honest = crowd(peers.unwrap_or(8), 4.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
            let mut liar = honest.clone();
            liar[1].kind = Kind::Boaster;
            vec![variant("without it", honest), variant("with it", liar)]
        },
        lesson: |runs| {
            format!(
                "Requests that are not answered are made again of others: the last was done after {} \
                 instead of {}.",
                seconds(runs[1].outcome.last),
                seconds(runs[0].outcome.last)
            )
        },
    },
    Scenario {
        name: "never-unchokes",
        about: "a second seed that has everything and unchokes nobody",
        variants: |peers| {
            let n = peers.unwrap_or(8);
            let fair = crowd(n, 4.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
            let miser = Nature { kind: Kind::Miser, ..fair[0].clone() };
            let with = [fair.clone(), vec![miser]].concat();
            vec![variant("without it", fair), variant("with it", with)]
        },
        lesson: |runs| {
            format!(
                "Nobody waits for a turn that never comes: {} with the miser, {} without.",
                seconds(runs[1].outcome.last),
                seconds(runs[0].outcome.last)
            )
        },
    },
    Scenario {
        name: "slow-peers",
        about: "every second leecher has a tenth of the others' line",
        variants: |peers| {
            let mut natures = crowd(peers.unwrap_or(8), 4.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
            for nature in natures[1..].iter_mut().step_by(2) {
                (nature.up, nature.down) = (nature.up / 10.0, nature.down / 10.0);
            }
            vec![variant("swarm", natures)]
        },
        lesson: |runs| {
            let (fast, slow) = runs[0].fast_and_slow();
            format!(
                "Those with good lines were done after {} on average, the others after {}: nobody is \
                 held up by who is slow, since blocks are asked of those who send.",
                seconds(fast),
                seconds(slow)
            )
        },
    },
    Scenario {
        name: "tracker-dies",
        about: "half of the peers come after the tracker has died",
        variants: |peers| {
            let n = peers.unwrap_or(8);
            let mut natures = crowd(n, 4.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
            for nature in &mut natures[n / 2 + 1..] {
                nature.joins += Duration::from_secs(5);
            }
            let weather = Weather { tracker_dies: Some(Duration::from_secs(3)), partition: None };
            vec![Variant { weather, ..variant("no other source", natures) }]
        },
        lesson: |runs| {
            let o = &runs[0].outcome;
            format!(
                "{} of {} completed: who had met the others needed no tracker any more, who came later \
                 found nobody. This is what the DHT, peer exchange and the search of the local network \
                 are for.",
                o.done, o.of
            )
        },
    },
    Scenario {
        name: "partition",
        about: "the network falls apart for twenty seconds, the seed on one side",
        variants: |peers| {
            let n = peers.unwrap_or(10);
            let natures = crowd(n, 2.0 * MBIT, 2.0 * MBIT, 8.0 * MBIT);
            let first = n / 2 + 1;
            let (from, until) = (Duration::from_secs(8), Duration::from_secs(28));
            let partition = Some(Partition { first, from, until });
            let weather = Weather { tracker_dies: None, partition };
            vec![
                variant("whole", natures.clone()),
                Variant { weather, ..variant("parted", natures) },
            ]
        },
        lesson: |runs| {
            format!(
                "Both sides went on with what they had, and met again: all were done after {}, where \
                 without the cut it took {}.",
                seconds(runs[1].outcome.last),
                seconds(runs[0].outcome.last)
            )
        },
    },
    Scenario {
        name: "picking",
        about: "rarest first, at random, or in order; the seed is slow and soon gone",
        variants: |peers| {
            let run = |label: &str, random: bool, in_order: bool| {
                let mut natures = crowd(peers.unwrap_or(12), 2.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
                natures[0].leaves_after = Some(1.3);
                for nature in &mut natures {
                    nature.without.rarest_first = random;
                    nature.in_order = in_order;
                }
                variant(label, natures)
            };
            vec![
                run("rarest first", false, false),
                run("random", true, false),
                run("in order", false, true),
            ]
        },
        lesson: |runs| {
            let line = |run: &Played| {
                format!(
                    "{} of {} completed ({})",
                    run.outcome.done,
                    run.outcome.of,
                    seconds(run.outcome.last)
                )
            };
            format!(
                "Rarest first: {}; at random: {}; in order: {}. Whoever takes the rarest piece has \
                 something that others want, and no piece is lost with the one who had it.",
                line(&runs[0]),
                line(&runs[1]),
                line(&runs[2])
            )
        },
    },
    Scenario {
        name: "tit-for-tat",
        about: "eight of sixteen never give; the others reward who gives, or serve everybody in turn",
        variants: |peers| {
            let n = peers.unwrap_or(16);
            let run = |label: &str, off: bool| {
                let mut natures = crowd(n, 2.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
                natures.iter_mut().for_each(|nature| nature.without.tit_for_tat = off);
                natures[n + 1 - n / 2..]
                    .iter_mut()
                    .for_each(|nature| nature.kind = Kind::FreeRider);
                variant(label, natures)
            };
            vec![run("tit for tat", false), run("everybody in turn", true)]
        },
        lesson: |runs| {
            let gap = |run: &Played| run.outcome.riders / run.outcome.honest;
            format!(
                "Free riders take {:.2} times as long as those who give where giving is rewarded, and \
                 {:.2} times where it is not. Givers were done after {} and {} on average.",
                gap(&runs[0]),
                gap(&runs[1]),
                seconds(runs[0].outcome.honest),
                seconds(runs[1].outcome.honest)
            )
        },
    },
    Scenario {
        name: "endgame",
        about: "the last blocks are asked of several peers, or waited for",
        variants: |peers| {
            let run = |label: &str, off: bool| {
                let mut natures = crowd(peers.unwrap_or(8), 4.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
                natures.iter_mut().for_each(|nature| nature.without.endgame = off);
                // One who gives drop by drop: what it owes is what the others wait for.
                (natures[1].up, natures[1].down) = (MBIT / 25.0, 4.0 * MBIT);
                variant(label, natures)
            };
            vec![run("with endgame", false), run("without", true)]
        },
        lesson: |runs| {
            format!(
                "The last was done after {} with the endgame and {} without; asking twice cost {:.1} % \
                 more bytes instead of {:.1} %.",
                seconds(runs[0].outcome.last),
                seconds(runs[1].outcome.last),
                100.0 * runs[0].outcome.wasted.max(0.0),
                100.0 * runs[1].outcome.wasted.max(0.0)
            )
        },
    },
];
