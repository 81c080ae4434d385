//! The web seeds: a thread for each, its orders, and the way to its end.
//!
//! Layer: head. Owned by the session's loop. Letting go of it interrupts whatever the threads wait
//! for; they are joined with the session.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, Scope};
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};

use super::Options;
use crate::peer::reader::Outlets;
use crate::picker::ConnId;
use crate::swarm::Swarm;
use crate::web::{self, Hold};
use crate::webseed::address::{Address, Names};
use crate::webseed::{WEB_SEEDS_MAX, WebSeed, client};

/// Empty, unless the torrent or the user names web seeds.
#[derive(Default)]
pub struct WebSeeds {
    open: HashMap<ConnId, Open>,
    /// Which URL has which number.
    urls: Vec<(ConnId, String)>,
    /// Dropped, it interrupts all reads: after the orders, so that the threads know why.
    hold: Option<Hold>,
}

struct Open {
    orders: Sender<Range<u64>>,
    until: Arc<AtomicU64>,
}

impl WebSeeds {
    /// Starts a thread for each, and tells the swarm of them.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        options: &Options,
        urls: &[String],
        swarm: &mut Swarm,
        outlets: &Outlets,
    ) -> WebSeeds {
        let mut seeds = WebSeeds::default();
        if urls.is_empty() {
            return seeds;
        }
        let (hold, leash) = web::leash(client(&options.dialler()));
        seeds.hold = Some(hold);
        let files = 0..options.layout.files().len();
        let files: Arc<_> = files.map(|file| options.layout.pieces_of(file)).collect();
        let names = Arc::new(Names::of(options.layout.torrent()));
        for url in urls.iter().take(WEB_SEEDS_MAX) {
            if seeds.urls.iter().any(|(_, known)| known == url) {
                continue;
            }
            let conn = swarm.add_web_seed(web::place(url), files.clone(), Instant::now());
            seeds.urls.push((conn, url.clone()));
            let address = match Address::parse(url) {
                Ok(address) => address,
                Err(why) => {
                    swarm.drop_web_seed(conn, why);
                    continue;
                }
            };
            let (orders_in, orders) = bounded(1);
            let until = Arc::new(AtomicU64::new(0));
            let seed = WebSeed {
                conn,
                address,
                names: names.clone(),
                layout: options.layout.clone(),
                client: leash.client.clone(),
                orders,
                until: until.clone(),
                outlets: outlets.clone(),
                limit: options.download_limit.clone(),
            };
            let builder = Builder::new().name(format!("web seed {conn}"));
            match builder.spawn_scoped(scope, move || seed.run()) {
                Ok(_) => drop(seeds.open.insert(conn, Open { orders: orders_in, until })),
                Err(err) => swarm.drop_web_seed(conn, format!("cannot start a thread: {err}")),
            }
        }
        seeds
    }

    /// Orders a run of bytes. The last one has ended, so there is room for it.
    pub fn fetch(&self, conn: ConnId, bytes: Range<u64>) {
        if let Some(open) = self.open.get(&conn) {
            open.until.store(bytes.end, Ordering::Relaxed);
            let _ = open.orders.try_send(bytes);
        }
    }

    /// What lies behind this is not wanted of the run any more.
    pub fn cut(&self, conn: ConnId, at: u64) {
        if let Some(open) = self.open.get(&conn) {
            open.until.store(at, Ordering::Relaxed);
        }
    }

    /// Bytes of blocks from each that gave any.
    pub fn used(&self, swarm: &Swarm) -> Vec<(String, u64)> {
        let bytes = self.urls.iter().map(|(conn, url)| (url.clone(), swarm.received_from(*conn)));
        bytes.filter(|(_, bytes)| *bytes != 0).collect()
    }
}
