//! The stream: the bytes of one file, in order, to whoever reads them while they come (`-o -`).
//!
//! ```text
//! session ── the proof of each piece in its turn (bounded) ──► stream ──► standard output
//! ```
//!
//! The bytes are read from the storage again, and only against the proof that they are verified: a
//! slow reader costs a few numbers that wait, and nobody waits for it. A reader that goes away ends
//! the stream, and with it the session.
//!
//! Layer: hands. One thread, which owns the output and a reading end of the storage. Nobody can wake
//! it while its reader takes nothing, so it is not joined then: it holds nothing that others need.

use std::fs::File;
use std::io::{self, Write};
use std::thread::Builder;
use std::time::Duration;

use anyhow::{Context, Error, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::event::{Alarm, Event};
use crate::geometry::{PieceIndex, Span};
use crate::hash::{Verified, VerifiedSet};
use crate::storage::{Layout, Reading, pipe};

/// Proofs that wait for the reader, four bytes each. They are made as pieces come, and at least ten
/// times a second, so with the smallest usual pieces, of 16 KiB, this is enough for 160 MB/s.
const PROOFS_MAX: usize = 1024;

/// How long a stream that is no longer wanted may take to end.
const GRACE: Duration = Duration::from_millis(300);

/// While nothing comes, the reader is looked for so often: it may have given up.
const LOOK: Duration = Duration::from_millis(500);

/// Where the bytes go: made in the thread that writes them.
pub type Output = fn() -> io::Result<File>;

/// How a stream ended.
#[derive(Debug)]
pub enum End {
    /// All bytes were taken.
    Whole,
    /// The reader has gone before that.
    ReaderLeft,
}

/// The session's side of it.
pub struct Stream {
    /// `None` once all proofs are on the way.
    proofs: Option<Sender<Verified>>,
    /// The piece whose proof is next, and the one behind the last.
    next: PieceIndex,
    end: PieceIndex,
    /// Hangs up when the thread ends.
    ended: Receiver<()>,
}

impl Stream {
    /// Starts to write the one file that is wanted.
    pub fn start(
        layout: &Layout,
        reading: Reading,
        output: Output,
        events: &Sender<Event>,
    ) -> Result<Stream> {
        let file = layout.only_file().context("only one file can be streamed")?;
        let pieces = layout.pieces_of(file);
        let (proofs_in, proofs) = bounded(PROOFS_MAX);
        let (ends, ended) = bounded(0);
        let (layout, events) = (layout.clone(), events.clone());
        let body = move || {
            let _alarm = Alarm::new("stream", &events);
            let result = write(&layout, file, reading, output, &proofs);
            drop::<Sender<()>>(ends);
            let _ = events.send(match result {
                // The session has gone first.
                Ok(None) => return,
                Ok(Some(end)) => Event::Streamed(end),
                Err(err) => Event::Failed(err),
            });
        };
        Builder::new().name("stream".to_owned()).spawn(body).context("cannot start a thread")?;
        Ok(Stream { proofs: Some(proofs_in), next: pieces.start, end: pieces.end, ended })
    }

    /// Hands on the proofs that there are and that find room.
    pub fn feed(&mut self, verified: &VerifiedSet) {
        let Some(proofs) = &self.proofs else { return };
        while self.next < self.end
            && let Some(proof) = verified.proof(self.next)
            && proofs.try_send(proof).is_ok()
        {
            self.next += 1;
        }
        if self.next == self.end {
            self.proofs = None;
        }
    }

    /// Nothing more is coming. Waits for the thread if it is quick.
    pub fn close(mut self) {
        self.proofs = None;
        let _ = self.ended.recv_timeout(GRACE);
    }
}

/// Writes piece by piece, until the file is over or no proof comes any more (`None`).
fn write(
    layout: &Layout,
    file: usize,
    mut reading: Reading,
    output: Output,
    proofs: &Receiver<Verified>,
) -> Result<Option<End>> {
    let cannot = "cannot write to standard output";
    let mut output = output().context(cannot)?;
    let geometry = layout.geometry();
    let file = &layout.files()[file];
    let mut left = file.length;
    loop {
        let proof = match proofs.recv_timeout(LOOK) {
            Ok(proof) => proof,
            Err(RecvTimeoutError::Timeout) if pipe::reader_left(&output) => {
                return Ok(Some(End::ReaderLeft));
            }
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let piece = geometry.bytes(geometry.whole(proof.piece()));
        let range = piece.start.max(file.offset)..piece.end.min(file.offset + file.length);
        // Both are inside one piece, so they fit.
        let (begin, length) =
            ((range.start - piece.start) as u32, (range.end - range.start) as u32);
        let slices = reading.slices(&proof, Span { piece: proof.piece(), begin, length })?;
        match slices.iter().try_for_each(|bytes| output.write_all(bytes)) {
            Ok(()) => left -= u64::from(length),
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(Some(End::ReaderLeft));
            }
            Err(err) => return Err(Error::new(err).context(cannot)),
        }
    }
    if left != 0 {
        return Ok(None);
    }
    output.flush().context(cannot)?;
    Ok(Some(End::Whole))
}
