//! Port mapping: asks the router at home to let peers through to us (PCP, RFC 6887; NAT-PMP,
//! RFC 6886).
//!
//! Behind a router nobody can dial us unless it is told to pass our port on. Peers that nobody can
//! dial only meet peers that somebody can, so this doubles the swarm for those at home. What was
//! opened is closed again at the end.
//!
//! Layer: hands. One thread, which waits for the router's packets or the next deadline. Owns the
//! socket; ends with [`PortMap`].

mod gateway;
mod mapper;
mod packet;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Shutdown, UdpSocket};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use socket2::SockRef;

use mapper::{Mapper, News};
use packet::{Protocol, Transport};

/// Where routers listen, by both RFCs.
const PORT: u16 = 5351;

/// Longer than any answer (RFC 6887: 1,100 bytes).
const PACKET_MAX: usize = 1_100;

/// What the router said, for the log and for those who tell others our port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub gateway: Ipv4Addr,
    news: News,
    /// The number under which our TCP port can be dialled from outside now; `None`: it cannot.
    pub outside: Option<u16>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let name = |protocol| if protocol == Protocol::Pcp { "PCP" } else { "NAT-PMP" };
        let gateway = self.gateway;
        match self.news {
            News::Open { transport, port, outside, protocol } => {
                let transport = if transport == Transport::Tcp { "TCP" } else { "UDP" };
                let protocol = name(protocol);
                write!(f, "router {gateway}: {transport} port {port} is open to the world")?;
                if outside != port {
                    write!(f, " as {outside}")?;
                }
                write!(f, " ({protocol})")
            }
            News::Refused { protocol, result } => {
                let further = if self.outside.is_some() { " further" } else { "" };
                let name = name(protocol);
                write!(f, "router {gateway}: opens no{further} port, {name} code {result}")
            }
            News::Silent => write!(f, "router {gateway}: does not answer PCP or NAT-PMP"),
        }
    }
}

/// A running mapping. Owned by the session. Dropped, its thread closes what was opened a little later;
/// [`stop`](PortMap::stop) waits for that.
pub struct PortMap {
    socket: UdpSocket,
    /// Nothing is ever sent: that it is gone is the message.
    alive: Option<Sender<std::convert::Infallible>>,
    /// `None` once it is waited for.
    thread: Option<JoinHandle<()>>,
}

impl PortMap {
    /// Asks the default gateway to pass `port` on, TCP and UDP. `None` where that makes no sense:
    /// there is no gateway, it is no router at home, or we listen at another address only.
    pub fn start(
        port: u16,
        listen: Option<IpAddr>,
        report: impl Fn(Report) + Send + 'static,
    ) -> Option<PortMap> {
        let gateway = gateway::default_gateway().filter(Ipv4Addr::is_private)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        // Connected: the kernel lets only the gateway's packets through.
        socket.connect((gateway, PORT)).ok()?;
        let IpAddr::V4(client) = socket.local_addr().ok()?.ip() else { return None };
        if !client.is_private() || listen.is_some_and(|ip| ip != client && !ip.is_unspecified()) {
            return None;
        }
        let (alive, end) = bounded(0);
        let own = socket.try_clone().ok()?;
        let mut nonce = [0; 12];
        fastrand::fill(&mut nonce);
        let mapper = Mapper::new(port, client, nonce, Instant::now());
        let tell = move |news, outside| report(Report { gateway, news, outside });
        let thread = Builder::new().name("port map".to_owned());
        let thread = thread.spawn(move || run(&own, mapper, &end, &tell)).ok()?;
        Some(PortMap { socket, alive: Some(alive), thread: Some(thread) })
    }

    /// Closes what was opened, and ends the thread.
    pub fn stop(mut self) {
        self.close();
        self.thread.take().map(JoinHandle::join);
    }

    fn close(&mut self) {
        self.alive = None;
        // A thread that waits for a packet finds that none will come.
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Read);
    }
}

impl Drop for PortMap {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread.
fn run(
    socket: &UdpSocket,
    mut mapper: Mapper,
    end: &Receiver<std::convert::Infallible>,
    tell: &dyn Fn(News, Option<u16>),
) {
    let mut packet = [0; PACKET_MAX];
    while end.try_recv() != Err(TryRecvError::Disconnected) {
        let (packets, news) = mapper.due(Instant::now());
        packets.iter().for_each(|packet| drop(socket.send(packet)));
        news.into_iter().for_each(|news| tell(news, mapper.outside()));
        let wait = mapper.deadline().saturating_duration_since(Instant::now());
        // Zero would mean for ever.
        let _ = socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))));
        // No router at that port, or none at all: the tries go on, and end.
        if let Ok(len) = socket.recv(&mut packet) {
            let news = mapper.heard(&packet[..len], Instant::now());
            news.into_iter().for_each(|news| tell(news, mapper.outside()));
        }
    }
    mapper.farewell().iter().for_each(|packet| drop(socket.send(packet)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the session is told goes with what the router says, in both directions.
    #[test]
    fn a_port_is_reported_while_it_is_open() {
        let router = UdpSocket::bind("127.0.0.1:0").unwrap();
        router.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        ours.connect(router.local_addr().unwrap()).unwrap();
        let own = ours.try_clone().unwrap();
        let (alive, end) = bounded(0);
        let (sender, reports) = crossbeam_channel::unbounded();
        let mapper = Mapper::new(6881, Ipv4Addr::LOCALHOST, [1; 12], Instant::now());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                run(&own, mapper, &end, &move |_, outside| _ = sender.send(outside))
            });
            let mut packet = [0; PACKET_MAX];
            let (_, from) = router.recv_from(&mut packet).unwrap();
            let say = |bytes: &[u8]| {
                router.send_to(bytes, from).unwrap();
                reports.recv_timeout(Duration::from_secs(20)).unwrap()
            };
            assert_eq!(say(b"\0\x82\0\0\0\0\0\x01\x1a\xe1\x1b\x58\0\0\x0e\x10"), Some(7000));
            assert_eq!(say(b"\0\x82\0\x02\0\0\0\x01"), None);
            drop(alive);
            SockRef::from(&ours).shutdown(Shutdown::Read).unwrap();
        });
    }
}
