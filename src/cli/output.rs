//! Standard output, with the two ends it may come to: a reader that has gone, and a full disk.
//!
//! `println!` panics on both. Here a closed pipe is the reader's decision and ends the run quietly
//! (`piecemeal show x | head -1`), anything else is an error like others.
//!
//! Layer: programs.

use std::io::{self, BufWriter, StdoutLock, Write};

use anyhow::{Context, Result};

/// Buffered standard output. Call [`Output::finish`]: what a drop would lose is an error.
pub struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub fn new() -> Output {
        Output(BufWriter::new(io::stdout().lock()))
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).context("cannot write to standard output")
    }

    /// Writes one line.
    pub fn line(&mut self, line: impl AsRef<[u8]>) -> Result<()> {
        self.0
            .write_all(line.as_ref())
            .and_then(|()| self.0.write_all(b"\n"))
            .context("cannot write to standard output")
    }

    /// Writes one line for a reader that waits for it (`--json`).
    pub fn line_now(&mut self, line: impl AsRef<[u8]>) -> Result<()> {
        self.line(line)?;
        self.0.flush().context("cannot write to standard output")
    }

    /// Writes out what is buffered and reports what went wrong with it.
    pub fn finish(mut self) -> Result<()> {
        self.0.flush().context("cannot write to standard output")
    }
}

/// Whether an error is only that nobody reads standard output any more.
pub fn is_closed_pipe(err: &anyhow::Error) -> bool {
    err.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}
