//! Random input to everything that strangers can write, and to every decision that follows.
//!
//! ```text
//! cargo run --release --example fuzz -- [--seconds N | --runs N] [--seed N] [--target NAME]
//!                                       [--input FILE]    once, with what an earlier run has saved
//! ```
//!
//! Each [target](targets::TARGETS) has inputs to begin with, a way to change them, and a check of
//! what must hold whatever the input is. A check that panics is reported with an input that is as
//! short as could be found, and that input is saved. The same seed gives the same run, given
//! `--runs`.
//!
//! Nothing here looks at which branches an input took, so no special compiler is needed; it makes
//! up for that by knowing the formats.

mod dice;
mod engine;
mod game;
mod lan;
mod mutate;
mod rules;
mod targets;
mod tracker;
mod values;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use engine::{Limit, Target};
use targets::TARGETS;

const USAGE: &str = "[--seconds N | --runs N] [--seed N] [--target NAME] [--input FILE]";

/// Without `--seconds` and `--runs`: seconds for all targets together.
const SECONDS: f64 = 60.0;

#[derive(Default)]
struct Options {
    seconds: Option<f64>,
    runs: Option<u64>,
    seed: u64,
    target: Option<String>,
    input: Option<String>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match options(&words) {
        Some(options) => run(&options),
        None => {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!("usage: fuzz {USAGE}\ntargets: {}", names.join(" "));
            ExitCode::from(2)
        }
    }
}

fn options(words: &[String]) -> Option<Options> {
    let mut options = Options { seed: 1, ..Options::default() };
    let (pairs, []) = words.as_chunks::<2>() else { return None };
    for [flag, value] in pairs {
        match flag.as_str() {
            "--seconds" => options.seconds = Some(value.parse().ok().filter(|&n| 0.0 < n)?),
            "--runs" => options.runs = Some(value.parse().ok()?),
            "--seed" => options.seed = value.parse().ok()?,
            "--target" => options.target = Some(value.clone()),
            "--input" => options.input = Some(value.clone()),
            _ => return None,
        }
    }
    let exists = |name: &String| TARGETS.iter().any(|target| target.name == *name);
    options.target.iter().all(exists).then_some(options)
}

fn run(options: &Options) -> ExitCode {
    let wanted = |target: &&Target| options.target.as_ref().is_none_or(|name| target.name == *name);
    let targets: Vec<&Target> = TARGETS.iter().filter(wanted).collect();
    if let Some(path) = &options.input {
        return replay(&targets, path);
    }
    let seconds = options.seconds.unwrap_or(SECONDS) / targets.len() as f64;
    let limit = match options.runs {
        Some(runs) => Limit::Runs(runs),
        None => Limit::Time(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
    };
    engine::silence_panics();
    let mut failed = 0;
    for target in &targets {
        let report = engine::fuzz(target, options.seed, limit);
        println!("{report}");
        if let Some(failure) = report.failure {
            failed += 1;
            println!("{}", failure.saved(target.name));
        }
    }
    values::clean_up();
    println!("{} of {} targets held", targets.len() - failed, targets.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Once more, with the panic as Rust prints it.
fn replay(targets: &[&Target], path: &str) -> ExitCode {
    let ([target], Ok(input)) = (targets, std::fs::read(path)) else {
        eprintln!("fuzz: --input needs --target and a file that can be read");
        return ExitCode::from(2);
    };
    let taken = (target.check)(&input);
    values::clean_up();
    println!("{}: held; {}", target.name, if taken { "valid" } else { "refused" });
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each target; all of them take a few seconds, without optimisation.
    const RUNS: u64 = 2_000;

    #[test]
    fn every_target_holds_for_some_thousand_inputs() {
        for target in TARGETS {
            let report = engine::fuzz(target, 1, Limit::Runs(RUNS));
            println!("{report}");
            if let Some(failure) = report.failure {
                panic!("{}: {}", target.name, failure.saved(target.name));
            }
        }
        values::clean_up();
    }
}
