//! Local service discovery (BEP 14): asking the local network who has this torrent.
//!
//! ```text
//! Lsd (handle) ── its end ──► a thread for each family ──► who was heard
//!                                │        ▲
//!                       BT-SEARCH▼        │BT-SEARCH
//!                  239.192.152.143:6771, [ff15::efc0:988f]:6771      at every interface
//! ```
//!
//! | file         | what it holds                                               |
//! |--------------|-------------------------------------------------------------|
//! | `search`     | the text of the message                                     |
//! | `rules`      | when to announce, what to believe: pure, time is an argument |
//! | `interfaces` | where to send                                               |
//!
//! A datagram is a stranger's: it can name its own host's ports only, and not many. One that is sent
//! to us alone, from anywhere in the world, is not seen: the socket is bound to the group.
//!
//! Layer: hands. Each thread owns the socket of its family, and ends with the handle.

pub mod interfaces;
mod rules;
pub mod search;

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, UdpSocket};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::hash::Sha1;
use interfaces::Interface;
pub use rules::Rules;
use search::{DATAGRAM_MAX, Search};

/// The groups of BEP 14.
const PORT: u16 = 6771;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);

/// Datagrams that are read within one [`WINDOW`]. What comes on top waits in the socket's buffer,
/// and is lost when that is full: a flood costs no more processor time than this.
const BURST: u32 = 200;
const WINDOW: Duration = Duration::from_millis(100);

/// Where a socket that is shut does not wake its thread (it does on Linux), it looks so often.
const GLANCE: Duration = Duration::from_secs(1);

/// An announce that is only due after so long goes to all interfaces again.
const GIVE_UP_OWED: Duration = Duration::from_secs(60);

/// The search at work. Dropped, its threads end a little later; [`stop`](Lsd::stop) waits for them.
pub struct Lsd {
    /// Never carries anything: its end is that of the threads.
    line: Option<Sender<Infallible>>,
    families: Vec<(UdpSocket, JoinHandle<()>)>,
}

impl Lsd {
    /// Announces that this torrent is to be had at `port`, at all interfaces or only at that of the
    /// address where we listen. `report` runs on the threads, for each address as it is heard. A family
    /// that the machine lacks is left out.
    pub fn start(
        info_hash: Sha1,
        port: u16,
        listen: Option<IpAddr>,
        report: impl Fn(SocketAddr) + Clone + Send + 'static,
    ) -> Lsd {
        let (line, end) = bounded(0);
        // The same for both families, so that neither hears the other.
        let cookie = format!("{:016x}", fastrand::u64(..)).into_bytes();
        let mut families = Vec::new();
        for group in [IpAddr::V4(GROUP_V4), IpAddr::V6(GROUP_V6)] {
            if listen.is_some_and(|ip| ip.is_ipv6() != group.is_ipv6()) {
                continue;
            }
            let search = Search { port, info_hashes: vec![info_hash], cookie: cookie.clone() };
            let group = SocketAddr::new(group, PORT);
            let Ok((socket, handle)) = open(group).and_then(|s| Ok((s.try_clone()?, s))) else {
                continue;
            };
            let rules = Rules::new(search, fastrand::Rng::new(), Instant::now());
            let (joined, owed) = (Vec::new(), Vec::new());
            let family = Family { group, listen, socket, rules, joined, owed, end: end.clone() };
            let report = report.clone();
            let body = move || {
                let _ = family.run(&report);
            };
            if let Ok(thread) = Builder::new().name("lsd".to_owned()).spawn(body) {
                families.push((handle, thread));
            }
        }
        Lsd { line: Some(line), families }
    }

    /// Ends it. Does not wait for anything but, outside Linux, for [`GLANCE`].
    pub fn stop(mut self) {
        self.close();
        for (_, thread) in self.families.drain(..) {
            let _ = thread.join();
        }
    }

    fn close(&mut self) {
        self.line = None;
        for (socket, _) in &self.families {
            // An error, since it is connected to nobody; but its reader wakes.
            let _ = SockRef::from(socket).shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Lsd {
    fn drop(&mut self) {
        self.close();
    }
}

/// A socket that hears a group and nothing else, together with all others on this machine.
fn open(group: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(all(unix, not(target_os = "linux")))]
    socket.set_reuse_port(true)?;
    // Systems that cannot bind to a group hear what is sent to the port.
    let unspecified = match group {
        SocketAddr::V4(_) => {
            socket.set_multicast_loop_v4(true)?;
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        }
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_multicast_loop_v6(true)?;
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        }
    };
    let everything = SocketAddr::new(unspecified, group.port());
    socket.bind(&if cfg!(unix) { group } else { everything }.into())?;
    Ok(socket.into())
}

/// One family's thread.
struct Family {
    group: SocketAddr,
    listen: Option<IpAddr>,
    socket: UdpSocket,
    rules: Rules,
    /// Interfaces at which we hear the group.
    joined: Vec<Interface>,
    /// Interfaces at which the announce that is due has not been sent yet.
    owed: Vec<Interface>,
    end: Receiver<Infallible>,
}

impl Family {
    /// Until the handle is gone; an error means that the socket is of no use.
    fn run(mut self, report: &dyn Fn(SocketAddr)) -> io::Result<()> {
        let mut datagram = [0; DATAGRAM_MAX];
        let (mut window, mut read) = (Instant::now(), 0);
        while self.end.try_recv() != Err(TryRecvError::Disconnected) {
            let now = Instant::now();
            if self.rules.next() <= now {
                self.announce(now);
            }
            if window + WINDOW <= now {
                (window, read) = (now, 0);
            } else if BURST <= read {
                match self.end.recv_deadline(window + WINDOW) {
                    Err(RecvTimeoutError::Timeout) => continue,
                    _ => return Ok(()),
                }
            }
            let wait = self.rules.next().saturating_duration_since(now);
            let wait = if cfg!(target_os = "linux") { wait } else { wait.min(GLANCE) };
            // Zero would mean for ever.
            self.socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
            match self.socket.recv_from(&mut datagram) {
                Ok((len, from)) => {
                    read += 1;
                    let datagram = datagram.get(..len).unwrap_or_default();
                    if let Some(addr) = self.rules.heard(from, datagram, Instant::now()) {
                        report(addr);
                    }
                }
                Err(err) if is_pause(&err) => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    /// Sends what is due, to the interfaces that there are now: a laptop's come and go.
    fn announce(&mut self, now: Instant) {
        if self.owed.is_empty() {
            self.owed = interfaces::list(self.group.is_ipv6(), self.listen);
            self.owed.iter().for_each(|&interface| {
                if !self.joined.contains(&interface) && join(&self.socket, interface).is_ok() {
                    self.joined.push(interface);
                }
            });
        }
        let text = self.rules.search().encode(self.group);
        let (socket, group) = (&self.socket, self.group);
        self.owed.retain(|&interface| {
            let chosen = match interface {
                Interface::V4(ip) => SockRef::from(socket).set_multicast_if_v4(&ip),
                Interface::V6(number) => SockRef::from(socket).set_multicast_if_v6(number),
            };
            chosen.and_then(|()| socket.send_to(&text, group)).is_err()
        });
        self.rules.announced(self.owed.is_empty(), now);
        if now + GIVE_UP_OWED <= self.rules.next() {
            self.owed.clear();
        }
    }
}

fn join(socket: &UdpSocket, interface: Interface) -> io::Result<()> {
    match interface {
        Interface::V4(ip) => socket.join_multicast_v4(&GROUP_V4, &ip),
        Interface::V6(number) => socket.join_multicast_v6(&GROUP_V6, number),
    }
}

/// Nothing came in time, or what we sent earlier was not taken by somebody.
fn is_pause(err: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted, TimedOut, WouldBlock};
    matches!(err.kind(), WouldBlock | TimedOut | Interrupted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two on one machine, over loopback, find each other, and end at once.
    #[test]
    fn two_find_each_other() {
        let info_hash = Sha1(std::array::from_fn(|_| fastrand::u8(..)));
        let home = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (sender, found) = crossbeam_channel::unbounded();
        let report = |name: &'static str| {
            let sender = sender.clone();
            move |addr: SocketAddr| {
                let _ = sender.send((name, addr.port()));
            }
        };
        let first = Lsd::start(info_hash, 7001, home, report("first"));
        let second = Lsd::start(info_hash, 7002, home, report("second"));
        let heard = found.recv_timeout(Duration::from_secs(10)).expect("one hears the other");
        assert!([("first", 7002), ("second", 7001)].contains(&heard), "{heard:?}");
        let start = Instant::now();
        first.stop();
        second.stop();
        assert!(start.elapsed() < 2 * GLANCE);
    }

    /// A flood costs no more than the burst in each window.
    #[test]
    fn a_flood_is_read_in_portions() {
        let info_hash = Sha1(std::array::from_fn(|_| fastrand::u8(..)));
        let home = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (sender, found) = crossbeam_channel::unbounded();
        let lsd = Lsd::start(info_hash, 7001, home, move |addr| {
            let _ = sender.send(addr);
        });
        let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
        SockRef::from(&flood).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
        let group = SocketAddr::new(GROUP_V4.into(), PORT);
        for port in 1..=20_000 {
            let search = Search { port, info_hashes: vec![info_hash], cookie: Vec::new() };
            let _ = flood.send_to(&search.encode(group), group);
        }
        assert!(found.recv_timeout(Duration::from_secs(10)).is_ok());
        lsd.stop();
        assert!(found.try_iter().count() < 8, "of one host");
    }
}
