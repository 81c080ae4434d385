//! What is on disk: looked at before a session, put in order where nothing is missing, and written
//! down after it.
//!
//! Layer: head.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::Result;

use super::run::Wires;
use super::{Found, Options, Update};
use crate::bitfield::Bitfield;
use crate::check::{self, Existing};
use crate::event::{EVENTS_MAX, Event};
use crate::hash::{PieceHashes, VerifiedSet};
use crate::resume;
use crate::storage::{self, Aside, Writing};
use crate::swarm::TICK;

/// Events that are kept while the disk is looked at. With a magnet link the finders are at work
/// meanwhile. Peers are connected only if there is nothing to be looked at, which takes no time; from
/// the others, who are hung up on, there are some last words, and then only what trackers and the DHT
/// say, which may be asked again.
const BACKLOG_MAX: usize = 4 * EVENTS_MAX;

/// Finds out what is on disk. `None`: the user stopped it.
pub fn look(options: &Options, wires: &mut Wires) -> Result<Option<Existing>> {
    let mut last = Instant::now();
    let mut progress = |done, total| {
        let mut stopped = false;
        for event in wires.inbox.try_iter() {
            match event {
                Event::Stop => stopped = true,
                // Nobody can be given a place yet. Closed, they may dial again; kept, they would take
                // the descriptors that are needed for looking.
                Event::Accepted { .. } => {}
                event if wires.backlog.len() < BACKLOG_MAX => wires.backlog.push(event),
                _ => {}
            }
        }
        if TICK <= last.elapsed() {
            last = Instant::now();
            let _ = wires.updates.try_send(Update::Checking { done, total });
        }
        if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let Some(existing) = check::start(&options.layout, options.check, &mut progress)? else {
        return Ok(None);
    };
    let wanted = options.layout.wanted();
    let _ = wires.updates.try_send(Update::Found(Found {
        have: wanted.common(&existing.have).count() as u32,
        pieces: wanted.count(),
        different: existing.differ,
        resumed: existing.resumed,
    }));
    Ok(Some(existing))
}

/// All that is wanted is there. Empty files are made, a file that is too long is refused, and files
/// that were not wanted before get their share of what was kept aside.
pub fn put_in_order(options: &Options, existing: &mut Existing) -> Result<()> {
    if !existing.sound || !existing.aside.is_empty() {
        let (writing, _) = storage::open_with(&options.layout, &existing.have, &existing.aside)?;
        keep(options, writing, &existing.have)?;
        existing.aside = Aside::load(&options.layout)?;
    } else if existing.have.is_full() {
        resume::remove(&options.layout)?;
    }
    Ok(())
}

/// The proofs for what was checked a moment ago, or is vouched for by a resume file.
pub fn proofs(hashes: &PieceHashes, have: &Bitfield) -> VerifiedSet {
    let mut verified = VerifiedSet::new(have.len());
    have.iter().filter_map(|piece| hashes.trust(piece)).for_each(|proof| verified.insert(proof));
    verified
}

/// Writes down what is verified, or removes the note where nothing is left to do. What is kept aside
/// needs the note.
pub fn keep(options: &Options, mut writing: Writing, have: &Bitfield) -> Result<()> {
    if options.temporary {
        return Ok(());
    }
    if have.is_full() && writing.is_settled() {
        writing.check_in_place()?;
        drop(writing);
        return resume::remove(&options.layout);
    }
    if have.is_empty() {
        // A note of nothing would only be litter.
        drop(writing);
        return resume::remove(&options.layout);
    }
    writing.flush()?;
    drop(writing);
    resume::save(&options.layout, have)
}
