//! Signals: the first Ctrl-C (or SIGTERM) asks for an end in order, a second one ends at once.
//!
//! Layer: programs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Exit;

/// The first Ctrl-C (or SIGTERM) asks for an end in order, a second one ends at once.
pub fn catch() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let exit = Exit::Interrupted as i32;
        // The order matters: the flag is looked at before it is set.
        signal_hook::flag::register_conditional_shutdown(signal, exit, interrupted.clone())
            .and_then(|_| signal_hook::flag::register(signal, interrupted.clone()))
            .context("cannot catch signals")?;
    }
    Ok(interrupted)
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
