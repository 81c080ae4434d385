//! What lives from the first connection to the last, whether or not the torrent is known yet: the
//! connections, the finders, the way from the readers to the assembler.
//!
//! Layer: head. Owned by the search for the metadata, where there is one, and then by the loop.

use std::thread::Scope;
use std::time::Instant;

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::finders::{Doors, Finders};
use super::links::{Links, Supplies, chunk_pool};
use super::run::Wires;
use super::{Options, Update};
use crate::event::{DELIVERIES_MAX, Delivery};
use crate::metainfo::Metainfo;
use crate::peer::Context;
use crate::peer::reader::Outlets;
use crate::tracker::Me;
use crate::wire::handshake::PeerId;

pub struct Hands<'scope, 'env> {
    pub links: Links<'scope, 'env>,
    pub finders: Finders,
    /// For the assembler: what the readers deliver, and where its empty chunks go.
    pub deliveries: Receiver<Delivery>,
    pub empty: Sender<Vec<u8>>,
    pub peer_id: PeerId,
    pub port: u16,
    /// Where our node of the DHT is reached, over IPv4 and over IPv6; nowhere for a private torrent.
    pub dht_ports: [Option<u16>; 2],
    pub started: Instant,
}

impl<'scope, 'env> Hands<'scope, 'env> {
    /// Starts to listen and to ask. `left` is what the first announces say.
    pub fn start(
        scope: &'scope Scope<'scope, 'env>,
        options: &Options,
        doors: Doors,
        wires: &Wires,
        (peer_id, key): (PeerId, u32),
        left: u64,
    ) -> Result<Hands<'scope, 'env>> {
        let (listening, dht_ports) = (&doors.listening, doors.dht_ports());
        let port = listening.port;
        if !listening.sockets.is_empty() {
            let _ = wires.updates.try_send(Update::Listening { port, peer_id });
        }
        let started = Instant::now();
        let torrent = options.layout.torrent();
        let info_hash = torrent.info_hash;
        let both = 1 < listening.sockets.len();
        let me = Me { info_hash, peer_id: peer_id.0, port, key, both, dialler: options.dialler() };
        let finders = Finders::start(scope, options, doors, me, left, &wires.events)?;
        let context = context(options, peer_id, dht_ports);
        let (deliveries_in, deliveries) = bounded(DELIVERIES_MAX);
        let (empty_in, empty) = chunk_pool();
        let outlets = Outlets { events: wires.events.clone(), deliveries: deliveries_in, empty };
        let links = Links::new(scope, context, outlets, Supplies::new(options));
        Ok(Hands { links, finders, deliveries, empty: empty_in, peer_id, port, dht_ports, started })
    }

    /// The metadata of a magnet link is here.
    pub fn learned(&mut self, torrent: &Metainfo) {
        self.finders.learned(torrent);
        if torrent.private {
            self.dht_ports = [None; 2];
        }
    }

    /// What the threads of a connection are to know, by what is known now.
    pub fn context(&self, options: &Options) -> Context {
        context(options, self.peer_id, self.dht_ports)
    }

    /// Ends all of it, where there is nothing to go on with.
    pub fn close(self, wires: Wires) {
        drop(self.links);
        drop(wires.inbox);
        self.finders.stop().wait();
    }
}

fn context(options: &Options, peer_id: PeerId, dht_ports: [Option<u16>; 2]) -> Context {
    let torrent = options.layout.torrent();
    let (info_hash, trace) = (torrent.info_hash, options.trace);
    let pieces = torrent.is_known().then(|| torrent.geometry.pieces());
    // Minimal peers refuse what is beyond the least; then the DHT's bit is left out too.
    let dht = options.reserved.fast() && dht_ports != [None; 2];
    Context { info_hash, peer_id, pieces, reserved: options.reserved.with_dht(dht), trace }
}
