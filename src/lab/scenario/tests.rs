//! What the scenarios show, and that knobs turn them.

use super::*;
use crate::lab::{self, Knobs};

fn play(name: &str, peers: Option<usize>) -> Vec<Played> {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).expect("known");
    lab::play(scenario, peers, &Knobs::default(), 1)
}

#[test]
fn newcomers_wait_for_the_optimistic_unchoke_and_for_nothing_else() {
    let runs = play("newcomers", None);
    let (served, of, mean) = runs[0].first_blocks();
    assert_eq!(served, of);
    let interval = crate::choker::OPTIMISTIC_INTERVAL.as_secs_f64();
    assert!((0.4..3.0).contains(&(mean / interval)), "{mean}");
    assert_eq!(runs[1].first_blocks().0, 0);
}

#[test]
fn giving_pays_with_tit_for_tat_and_hardly_without() {
    let runs = play("tit-for-tat", None);
    let [with, without] = [0, 1].map(|i| runs[i].outcome.riders / runs[i].outcome.honest);
    assert!(1.25 <= with && without < 1.15, "{with} and {without}");
}

#[test]
fn no_run_beats_what_no_protocol_can_beat() {
    for name in ["why-p2p", "one-seed", "cluster"] {
        for run in play(name, Some(8)) {
            let o = &run.outcome;
            assert!(0.5 < o.efficiency() && o.efficiency() <= 1.0, "{name}, {}: {o}", run.label);
        }
    }
}

/// More than anybody has places for: nobody who comes late may find none.
#[test]
fn a_hundred_leechers_are_one_swarm() {
    let runs = play("one-seed", Some(100));
    let o = &runs[0].outcome;
    assert!(o.done == 100 && 0.5 < o.efficiency(), "{o}");
}

#[test]
fn knobs_turn_every_variant() {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == "endgame").expect("known");
    let knobs = Knobs { size: Some(1 << 20), up: Some(1e6), ..Knobs::default() };
    let mut knobs = Knobs { seed_up: Some(2e6), down: Some(4e6), ..knobs };
    knobs.without.leave_out("endgame").expect("a rule");
    let runs = lab::play(scenario, Some(2), &knobs, 1);
    for run in &runs {
        let natures = run.world.nodes.iter().map(|node| &node.nature);
        let lines: Vec<(f64, f64)> = natures.clone().map(|n| (n.up, n.down)).collect();
        assert_eq!(lines, [(2e6, 2e6), (1e6, 4e6), (1e6, 4e6)]);
        assert!(natures.clone().all(|nature| nature.without.endgame));
        assert_eq!(run.world.geometry.total_length(), 1 << 20);
    }
    assert!(knobs.without.leave_out("choking").is_none());
}
