//! The loop: pick an input, change it, check it; on a panic, look for a shorter input.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Something that takes bytes from strangers, and what must hold for it.
pub struct Target {
    pub name: &'static str,
    /// Inputs to begin with: at least one.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Makes another input of one; the second is another seed, to take parts of.
    pub mutate: fn(&mut fastrand::Rng, &[u8], &[u8]) -> Vec<u8>,
    /// Panics if something does not hold. Whether the input was taken as valid.
    pub check: fn(&[u8]) -> bool,
}

#[derive(Clone, Copy)]
pub enum Limit {
    Runs(u64),
    Time(Duration),
}

/// Inputs that were made of others and are kept to be changed further.
const POOL_MAX: usize = 64;

/// Longer inputs are not kept: they would only be slow.
const KEPT_LEN_MAX: usize = 16 * 1024;

/// How often a shorter input is tried after a failure.
const SHORTEN_TRIES: usize = 3_000;

pub struct Report {
    name: &'static str,
    seed: u64,
    runs: u64,
    /// Inputs that were valid.
    taken: u64,
    time: Duration,
    slowest: Duration,
    pub failure: Option<Failure>,
}

pub struct Failure {
    seed: u64,
    run: u64,
    panic: String,
    input: Vec<u8>,
}

pub fn fuzz(target: &Target, seed: u64, limit: Limit) -> Report {
    let mut rng = fastrand::Rng::with_seed(seed);
    let seeds = (target.seeds)();
    let mut pool = seeds.clone();
    let started = Instant::now();
    let (name, slowest) = (target.name, Duration::ZERO);
    let mut report =
        Report { name, seed, runs: 0, taken: 0, time: slowest, slowest, failure: None };
    loop {
        let over = match limit {
            Limit::Runs(runs) => runs <= report.runs,
            Limit::Time(time) => time <= started.elapsed(),
        };
        if over {
            break;
        }
        // The first inputs are the seeds as they are.
        let input = match seeds.get(report.runs as usize) {
            Some(seed) => seed.clone(),
            None => {
                let (base, other) =
                    (&pool[rng.usize(..pool.len())], &seeds[rng.usize(..seeds.len())]);
                (target.mutate)(&mut rng, base, other)
            }
        };
        let begun = Instant::now();
        let taken = match guarded(target, &input) {
            Ok(taken) => taken,
            Err(panic) => {
                let (panic, input) = shorten(target, panic, input);
                report.failure = Some(Failure { seed, run: report.runs, panic, input });
                break;
            }
        };
        report.slowest = report.slowest.max(begun.elapsed());
        report.runs += 1;
        report.taken += u64::from(taken);
        // Changes on top of changes lead further away, so some are kept for a while; what was
        // refused leads nowhere.
        if taken && rng.u8(..) < 16 && input.len() <= KEPT_LEN_MAX {
            match pool.len() - seeds.len() {
                kept if kept < POOL_MAX => pool.push(input),
                _ => {
                    let old = rng.usize(seeds.len()..pool.len());
                    pool[old] = input;
                }
            }
        }
    }
    report.time = started.elapsed();
    report
}

fn guarded(target: &Target, input: &[u8]) -> Result<bool, String> {
    CHECKING.store(true, Ordering::Relaxed);
    let result = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    CHECKING.store(false, Ordering::Relaxed);
    result.map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default()
}

/// Takes parts out of an input as long as it still fails.
fn shorten(target: &Target, mut panic: String, mut input: Vec<u8>) -> (String, Vec<u8>) {
    let mut tries = 0;
    let mut part = input.len().div_ceil(2);
    while part != 0 && tries < SHORTEN_TRIES {
        let before = input.len();
        let mut at = 0;
        while at < input.len() && tries < SHORTEN_TRIES {
            let mut shorter = input.clone();
            shorter.drain(at..(at + part).min(input.len()));
            tries += 1;
            match guarded(target, &shorter) {
                Err(other) => (panic, input) = (other, shorter),
                Ok(_) => at += part,
            }
        }
        // At the smallest size it goes on for as long as that helps.
        part = if part == 1 && input.len() < before { 1 } else { part / 2 };
    }
    (panic, input)
}

/// Whether a check runs: its panics are told in the report.
static CHECKING: AtomicBool = AtomicBool::new(false);

/// The panics of checks are not printed; our own are.
pub fn silence_panics() {
    let print = take_hook();
    set_hook(Box::new(move |panic| {
        if !CHECKING.load(Ordering::Relaxed) {
            print(panic);
        }
    }));
}

impl Failure {
    /// Saves the input; the report.
    pub fn saved(&self, name: &str) -> String {
        let Failure { seed, run, panic, input } = self;
        let path = std::env::temp_dir().join(format!("piecemeal-fuzz-{name}-{seed}-{run}"));
        let place = match std::fs::write(&path, input) {
            Ok(()) => format!("--target {name} --input {}", path.display()),
            Err(err) => format!("{} cannot be written: {err}", path.display()),
        };
        let shown = &input[..input.len().min(500)];
        format!(
            "  {panic}\n  seed {seed}, run {run}, {} bytes: {}\n  {place}",
            input.len(),
            shown.escape_ascii()
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Report { name, seed, runs, taken, time, slowest, failure } = self;
        let verdict = if failure.is_none() { "held" } else { "FAILED" };
        let rate = *runs as f64 / time.as_secs_f64().max(1e-9);
        let slowest = slowest.as_secs_f64() * 1e3;
        let valid = 100 * taken / runs.max(&1);
        write!(
            f,
            "{name:<13} {verdict:<6} {runs:>9} inputs, {valid:>3} % valid, {rate:>8.0} a second, \
             the slowest {slowest:>5.1} ms, seed {seed}"
        )
    }
}

/// A number that no other temporary folder of this process has.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
