//! Signals: the first Ctrl-C (or SIGTERM, or the terminal's end) asks for an end in order, a second one
//! ends at once.
//!
//! Layer: programs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Exit;

/// The first Ctrl-C (or SIGTERM, or SIGHUP) asks for an end in order, a second one ends at once.
pub fn catch() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for &signal in ours() {
        let exit = Exit::Interrupted as i32;
        // The order matters: the flag is looked at before it is set.
        signal_hook::flag::register_conditional_shutdown(signal, exit, interrupted.clone())
            .and_then(|_| signal_hook::flag::register(signal, interrupted.clone()))
            .context("cannot catch signals")?;
    }
    Ok(interrupted)
}

/// What ends us. Under nohup the terminal's end does not.
#[cfg(unix)]
fn ours() -> &'static [i32] {
    let all = &[SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // A bit for each signal; where it cannot be seen, the system does with SIGHUP what it ever did.
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    if ignored.is_some_and(|mask| mask & 1 == 0) { all } else { &all[..2] }
}

#[cfg(not(unix))]
fn ours() -> &'static [i32] {
    &[SIGINT, SIGTERM]
}

/// SIGUSR1 asks for the table of peers: set by each.
#[cfg(unix)]
pub fn asked() -> Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, asked.clone())
        .context("cannot catch signals")?;
    Ok(asked)
}

#[cfg(not(unix))]
pub fn asked() -> Result<Arc<AtomicBool>> {
    Ok(Arc::default())
}
