//! A tracker of our own: HTTP (BEP 3, 7, 23, 24, 48) and UDP (BEP 15, 41) on one port.
//!
//! ```text
//!  acceptor ── socket ──► worker × 64 at most ──┐ Call (bounded)       ┌─ Sighting ─► who watches
//!     (one of each for IPv4 and for IPv6)       ├───────────► keeper ──┤  (bounded, never waits)
//!  UDP thread (one for IPv4, one for IPv6) ─────┘             REGISTRY └─ Reply ────► who called
//! ```
//!
//! | file       | what it holds                                                     |
//! |------------|-------------------------------------------------------------------|
//! | `keeper`   | the thread that owns the registry, and how the others ask it      |
//! | `http`     | connections: the acceptor, its workers, requests and responses    |
//! | `query`    | the query of an announce or scrape, checked                       |
//! | `answer`   | bencoded answers                                                  |
//! | `udp`      | the UDP protocol, seen from the tracker; connection ids           |
//! | `status`   | the page at `/` and the JSON at `/stats`                          |
//!
//! Whoever asks waits for the reply; the keeper waits for nobody. So no cycle of waiting exists, and
//! a flood fills one bounded channel, and then the system's own queues.
//!
//! Measured (release build, the tracker on one core of a virtual machine, the load on another, all on
//! loopback; anonymous memory):
//!
//! | load                                                     | result                             |
//! |----------------------------------------------------------|------------------------------------|
//! | 1,000 HTTP announces a second, a connection each         | 13 % of the core, half in 0.2 ms   |
//! | HTTP announces one after another, a connection each      | 4,000 a second, 73 µs of CPU each  |
//! | UDP announces one after another                          | 7,000–11,000 a second, 45 µs each  |
//! | 100,000 peers in 10 swarms                               | 14.5 MB                            |
//! | 100,000 peers in a swarm each                            | 33 MB                              |
//! | 10,000 idle connections opened, 1,000 announces a second | none failed, the slowest took 9 ms |
//!
//! Layer: hands. This file owns the threads; [`registry`](crate::registry) decides.

mod answer;
mod http;
mod keeper;
mod query;
mod status;
#[cfg(test)]
mod tests;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::hash::Sha1;
use crate::listener::Listening;
use crate::lsd::interfaces;
use crate::reach::{Reach, at_home, is_a_host, reach};
use crate::registry::{Limits, Registry};

pub use keeper::{Outcome, Sighting, Via};

/// Where trackers listen by custom.
pub const PORT: u16 = 6969;

/// Connections that wait to be accepted: a second of a busy tracker.
const BACKLOG: i32 = 1024;

/// Announces that nobody has looked at yet. More are counted, not kept: a slow terminal must not
/// slow a tracker down.
const SIGHTINGS_MAX: usize = 4096;

/// What the UDP sockets may buffer: some 5,000 announces.
const UDP_BUFFER: usize = 4 << 20;

/// What the tracker is to do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The only address to listen at; without it port 6969 of all addresses.
    pub listen: Option<SocketAddr>,
    /// Serve these only, if there are any; with the names that the status page shows.
    pub torrents: Vec<(Sha1, Option<String>)>,
    /// Tell of every announce.
    pub watch: bool,
    pub limits: Limits,
}

/// A tracker at work. It ends when it is told to, or dropped.
pub struct TrackerServer {
    addrs: Vec<SocketAddr>,
    /// More handles of the sockets that accept, to close them with.
    listening: Listening,
    sightings: Receiver<Sighting>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl TrackerServer {
    /// Listens, and starts the threads.
    pub fn start(options: Options) -> io::Result<TrackerServer> {
        let port = options.listen.map_or(PORT, |at| at.port());
        let listening = Listening::open(options.listen.map(|at| at.ip()), Some(port))?;
        let mut sockets = Vec::new();
        for listener in &listening.sockets {
            SockRef::from(listener).listen(BACKLOG)?;
            let addr = listener.local_addr()?;
            sockets.push((addr, listener.try_clone()?, udp_socket(addr)?));
        }
        let addrs: Vec<SocketAddr> = sockets.iter().map(|(addr, ..)| *addr).collect();
        let (sender, sightings) = bounded(SIGHTINGS_MAX);
        let (desk, keeper) = keeper::open(registry(&options), &options, sender);
        let stop = Arc::new(AtomicBool::new(false));
        let mut server = TrackerServer { addrs, listening, sightings, stop, threads: Vec::new() };
        server.spawn("tracker keeper", move |_| keeper.run())?;
        for (_, listener, socket) in sockets {
            let (http_desk, udp_desk) = (desk.another(), desk.another());
            server.spawn("tracker http", move |stop| http::serve(&listener, &http_desk, stop))?;
            server.spawn("tracker udp", move |stop| udp::serve(&socket, &udp_desk, stop))?;
        }
        Ok(server)
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> io::Result<()> {
        let stop = self.stop.clone();
        self.threads.push(Builder::new().name(name.to_owned()).spawn(move || work(&stop))?);
        Ok(())
    }

    /// Where it listens: the same port for all.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// A host and port for others to use: where it listens, or if that is everywhere, the machine's
    /// own address.
    pub fn places(&self) -> Vec<SocketAddr> {
        let place = |addr: &SocketAddr| match addr.ip() {
            ip if ip.is_unspecified() => {
                home(ip.is_ipv6()).map(|ip| SocketAddr::new(ip, addr.port()))
            }
            _ => Some(*addr),
        };
        self.addrs.iter().filter_map(place).collect()
    }

    /// Every announce, if they are watched; hangs up when there is nobody who answers any more.
    pub fn sightings(&self) -> &Receiver<Sighting> {
        &self.sightings
    }

    /// Ends it: what is being answered is answered, everybody else is hung up on.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.listening.close();
        for addr in &self.addrs {
            wake(*addr);
        }
        for thread in self.threads.drain(..) {
            // One that panicked has said so, and the tracker ends anyway.
            let _ = thread.join();
        }
        self.listening.sockets.clear();
    }
}

impl Drop for TrackerServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn registry(options: &Options) -> Registry {
    let homes = [home(false), home(true)].into_iter().flatten().collect();
    let open = Registry::open(options.limits, homes, Instant::now(), fastrand::Rng::new());
    match options.torrents.as_slice() {
        [] => open,
        torrents => open.only(torrents.iter().map(|(info_hash, _)| *info_hash)),
    }
}

fn udp_socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A wish: the system has its own limit.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Lets a UDP thread see that the tracker stops.
fn wake(addr: SocketAddr) {
    let home = at_home(addr);
    let any = SocketAddr::new(home.ip(), 0);
    let _ = UdpSocket::bind(any).and_then(|knock| knock.send_to(&[], home));
}

/// This machine's address on its way to the rest of the world, or else any of its own. Nothing is sent: connecting a UDP
/// socket only looks the route up. The destinations are those reserved for documentation.
fn home(v6: bool) -> Option<IpAddr> {
    let (any, there): (IpAddr, IpAddr) = if v6 {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    } else {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    };
    let route = || {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((there, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let useful = |ip: &IpAddr| reach(*ip) != Reach::Machine;
    // A network without a way out has addresses too.
    route().filter(useful).or_else(|| interfaces::addresses(v6).find(useful))
}

/// The address that a client is known by. One from the public network is taken at what its packets
/// say; from this machine or a private network it may name another (`ip=`), since we cannot see
/// how the rest of the world sees it: a seed beside its tracker, a proxy.
fn known_as(source: SocketAddr, claimed: Option<IpAddr>, port: u16) -> SocketAddr {
    let own = source.ip().to_canonical();
    let claimed = claimed.map(|ip| ip.to_canonical()).filter(|ip| is_a_host(*ip));
    match claimed {
        Some(ip) if reach(own) != Reach::Everywhere && reach(ip) != Reach::Machine => {
            SocketAddr::new(ip, port)
        }
        _ => SocketAddr::new(own, port),
    }
}
