//! Swarms in trouble: who lies, is slow or leaves, and a network that breaks.
//!
//! Layer: programs. Pure.

use std::time::Duration;

use super::{MBIT, SAME, Scenario, against, completed, crowd, seconds, usual, variant};
use crate::lab::world::{Kind, Nature, Partition, Weather};
use crate::lab::{Played, Variant};

/// When the network falls apart, and comes together again.
const CUT: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(28)];

pub const SEED_LEAVES: Scenario = Scenario {
    name: "seed-leaves",
    about: "the only seed is gone after so many copies; it sends first what nobody has, or as asked",
    variants: |peers| {
        let run = |copies: f64, as_asked: bool| {
            let mut natures = crowd(peers.unwrap_or(12), 4.0 * MBIT, 4.0 * MBIT, 20.0 * MBIT);
            natures[0].leaves_after = Some(copies);
            natures[0].without.rationing = as_asked;
            let how = if as_asked { ", as asked" } else { "" };
            variant(&format!("{copies} copies{how}"), natures)
        };
        vec![run(0.9, false), run(1.05, false), run(1.05, true)]
    },
    lesson: |runs| {
        format!(
            "A swarm lives on without its seed as soon as every piece is somewhere else. After 0.9 copies \
             it is not: {}; after 1.05 copies {}; of a seed that answers as asked, and sends \
             some pieces twice before others once, {}.",
            completed(&runs[0]),
            completed(&runs[1]),
            completed(&runs[2])
        )
    },
};

pub const CORRUPT_PEER: Scenario = Scenario {
    name: "corrupt-peer",
    about: "one peer sends wrong bytes in half of its blocks",
    variants: |peers| {
        let honest = usual(peers.unwrap_or(8));
        let mut liar = honest.clone();
        liar[1].kind = Kind::Liar;
        vec![variant("without it", honest), variant("with it", liar)]
    },
    lesson: |runs| {
        let (bad, (found, of)) = (runs[1].corrupt(), runs[1].banned_by());
        format!(
            "{bad} pieces failed their hash and were fetched again; {found} of {of} found out who it was \
             and banned it, and nobody kept a wrong byte. The last was done after {}, without the liar \
             after {}: {}.",
            seconds(runs[1].outcome.last),
            seconds(runs[0].outcome.last),
            against(runs[1].outcome.last, runs[0].outcome.last)
        )
    },
};

/// Somebody who is taken for a seed and gives nothing: with it, without it, and without it and
/// without what it takes away, the rationing of the real seed.
fn false_seed(fair: Vec<Nature>, with: Vec<Nature>) -> Vec<Variant> {
    let mut as_asked = fair.clone();
    as_asked[0].without.rationing = true;
    vec![
        variant("without it", fair),
        variant("with it", with),
        variant("without, as asked", as_asked),
    ]
}

fn false_seed_lesson(runs: &[Played]) -> String {
    let [without, with, as_asked] = runs else { return String::new() };
    let (time, fair) = (with.outcome.last, without.outcome.last);
    let cost = match time / fair - 1.0 <= SAME {
        true => "it costs nobody any time".to_owned(),
        // The real seed takes it for another one, and stops to send first what nobody has.
        false if as_asked.outcome.last / fair - 1.0 <= SAME => "it holds the others up".to_owned(),
        false => format!(
            "the seed believes that it is not the only one, and no longer sends first what nobody has \
             ({:.2} copies instead of {:.2}). A seed that never does takes {} without anybody lying",
            with.outcome.copies,
            without.outcome.copies,
            seconds(as_asked.outcome.last)
        ),
    };
    format!(
        "Nobody waits for it for ever: {}, {} than without it ({}); {cost}.",
        completed(with),
        against(time, fair),
        seconds(fair)
    )
}

pub const LYING_BITFIELD: Scenario = Scenario {
    name: "lying-bitfield",
    about: "one peer says that it has everything, has nothing, and does not answer",
    variants: |peers| {
        let fair = usual(peers.unwrap_or(8));
        let liar = Nature { kind: Kind::Boaster, ..fair[1].clone() };
        let with = [fair.clone(), vec![liar]].concat();
        false_seed(fair, with)
    },
    lesson: false_seed_lesson,
};

pub const NEVER_UNCHOKES: Scenario = Scenario {
    name: "never-unchokes",
    about: "a second seed that has everything and unchokes nobody",
    variants: |peers| {
        let fair = usual(peers.unwrap_or(8));
        let miser = Nature { kind: Kind::Miser, ..fair[0].clone() };
        let with = [fair.clone(), vec![miser]].concat();
        false_seed(fair, with)
    },
    lesson: false_seed_lesson,
};

pub const SLOW_PEERS: Scenario = Scenario {
    name: "slow-peers",
    about: "every second leecher has a tenth of the others' line",
    variants: |peers| {
        let n = peers.unwrap_or(8);
        let mut natures = usual(n);
        for nature in natures[1..].iter_mut().step_by(2) {
            (nature.up, nature.down) = (nature.up / 10.0, nature.down / 10.0);
        }
        vec![variant("all", natures), variant("the fast ones alone", usual((n / 2).max(1)))]
    },
    lesson: |runs| {
        let (fast, slow) = runs[0].fast_and_slow();
        let (alone, _) = runs[1].fast_and_slow();
        format!(
            "Those with good lines were done after {} on average, the others after {}. Without the slow \
             ones they are done after {}: with them {}, for they are served too.",
            seconds(fast),
            seconds(slow),
            seconds(alone),
            against(fast, alone)
        )
    },
};

pub const TRACKER_DIES: Scenario = Scenario {
    name: "tracker-dies",
    about: "half of the peers come after the tracker has died",
    variants: |peers| {
        let n = peers.unwrap_or(8);
        let mut natures = usual(n);
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
};

pub const PARTITION: Scenario = Scenario {
    name: "partition",
    about: "the network falls apart for twenty seconds, the seed on one side",
    variants: |peers| {
        let n = peers.unwrap_or(10);
        let natures = crowd(n, 2.0 * MBIT, 2.0 * MBIT, 8.0 * MBIT);
        let [from, until] = CUT;
        let partition = Some(Partition { first: n / 2 + 1, from, until });
        let weather = Weather { tracker_dies: None, partition };
        vec![variant("whole", natures.clone()), Variant { weather, ..variant("parted", natures) }]
    },
    lesson: |runs| {
        let first = runs[1].world.nodes.len() / 2 + 1;
        let [here, there] = runs[1].blocks_between(CUT, first);
        format!(
            "In the twenty seconds the side with the seed got {here} blocks, the other one {there} from \
             each other. All were done after {}, where without the cut it took {}: {}.",
            seconds(runs[1].outcome.last),
            seconds(runs[0].outcome.last),
            against(runs[1].outcome.last, runs[0].outcome.last)
        )
    },
};
