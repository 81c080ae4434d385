//! A look at the swarm for a person who watches: a map of the pieces, and a row for each peer
//! and each web seed.
//!
//! Layer: decisions. A part of the swarm; made only when somebody asks for it.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Swarm, WebSeedRow};
use crate::order;
use crate::picker::Cell;

/// The swarm at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub map: Vec<Cell>,
    /// The busiest first.
    pub peers: Vec<Row>,
    pub web_seeds: Vec<WebSeedRow>,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub addr: SocketAddr,
    /// What it calls itself. Printable.
    pub client: String,
    /// In the letters that Transmission and qBittorrent use:
    ///
    /// ```text
    /// D it sends to us         d we want to, it chokes us      S it lets us wait
    /// U we send to it          u it wants to, we choke it      I it dialled us
    /// ```
    pub flags: String,
    /// Bytes a second over the last seconds.
    pub down: f64,
    pub up: f64,
    /// Bytes of blocks in this run.
    pub received: u64,
    pub sent: u64,
    /// How much of the torrent it has, 0 to 1.
    pub share: f64,
}

impl Swarm {
    /// What there is to see now, the pieces in at most so many cells.
    pub fn snapshot(&mut self, cells: usize, now: Instant) -> Snapshot {
        let pieces = f64::from(self.picker.geometry().pieces().max(1));
        let choker = &self.choker;
        let row = |(conn, peer): (&_, &mut super::Peer)| {
            let unchoked = choker.is_unchoked(*conn);
            let letters = [
                ('D', peer.interested && !peer.choking),
                ('d', peer.interested && peer.choking),
                ('U', peer.wants && unchoked),
                ('u', peer.wants && !unchoked),
                ('S', peer.snubbed.is_some()),
                ('I', peer.incoming),
            ];
            Row {
                addr: peer.addr,
                client: peer.client(),
                flags: letters.iter().filter(|(_, set)| *set).map(|(letter, _)| letter).collect(),
                down: peer.down.per_second(now),
                up: peer.up.per_second(now),
                received: peer.received,
                sent: peer.sent,
                share: f64::from(peer.has.count()) / pieces,
            }
        };
        let mut peers: Vec<Row> = self.peers.iter_mut().map(row).collect();
        order::sort_by(&mut peers, |a, b| (b.down + b.up).total_cmp(&(a.down + a.up)));
        let web_seeds = self.web_seed_rows(now);
        Snapshot { map: self.picker.map(cells), peers, web_seeds }
    }
}
