//! `--on-complete CMD`: a command of the user's, once all is here and verified.
//!
//! * It runs once in every run of `get` that comes so far, also where everything was there before:
//!   what follows a download then follows every successful `get`, as `get … && CMD` would.
//! * With `--seed-ratio` and its like it runs when the download is complete, and seeding goes on.
//! * CMD goes to `sh -c` as it was written. What strangers wrote, such as the name, comes to it in
//!   environment variables only: `"$PIECEMEAL_NAME"` is never read as a command.
//! * What it prints goes to standard error; standard output is for results.
//! * If it fails, so does `get` (exit 1): the data is there, but what was asked for did not happen.
//!
//! Layer: programs.

use std::io;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::flags::Args;
use crate::storage::Layout;

/// The command and what it is told, before and after its start.
pub struct Hook {
    command: Option<Command>,
    child: Option<Child>,
}

impl Hook {
    pub fn new(args: &Args, layout: &Layout) -> Hook {
        let torrent = layout.torrent();
        let place = layout.root();
        let command = args.on_complete.as_ref().map(|script| {
            let shell = if cfg!(windows) { ["cmd", "/C"] } else { ["sh", "-c"] };
            let mut command = Command::new(shell[0]);
            let files = torrent.files.iter().filter(|file| file.is_stored()).count();
            command
                .arg(shell[1])
                .arg(script)
                .env("PIECEMEAL_PATH", std::path::absolute(&place).unwrap_or(place))
                .env("PIECEMEAL_NAME", &torrent.name)
                .env("PIECEMEAL_INFO_HASH", torrent.info_hash.to_string())
                .env("PIECEMEAL_SIZE", torrent.stored_length().to_string())
                .env("PIECEMEAL_FILES", files.to_string())
                .stdin(Stdio::null())
                .stdout(io::stderr());
            command
        });
        Hook { command, child: None }
    }

    /// Starts it, unless it has been started.
    pub fn start(&mut self) -> Result<()> {
        if let Some(mut command) = self.command.take() {
            self.child = Some(command.spawn().context("--on-complete: cannot start sh")?);
        }
        Ok(())
    }

    /// Waits for its end, which must be a good one.
    pub fn wait(self) -> Result<()> {
        let Some(mut child) = self.child else { return Ok(()) };
        let status = child.wait().context("--on-complete")?;
        if status.success() { Ok(()) } else { bail!("all is here, but --on-complete: {status}") }
    }
}
