//! Exit codes: the part of the command line that scripts read.
//!
//! Layer: programs.

use std::process::ExitCode;

/// How a run ended. The numbers are a contract (README).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// Bad input, data that does not match, a full disk.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Nothing came within `--stop-timeout`.
    GaveUp = 3,
    /// Ctrl-C; what was verified is kept. 128 + SIGINT, as shells have it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
