//! The listener: takes the connections of peers that dial us (BEP 3).
//!
//! One thread for each family: IPv6 takes no IPv4 connections, so that both can have the same port
//! on every operating system. They end when [`Listening`] is dropped, whatever they wait for.
//!
//! Strangers decide how many of them dial, so each thread hands over one connection at a time: whoever
//! takes it says by that what becomes of it, before the next one has a descriptor.
//!
//! Layer: hands. Each thread owns its handle of a listening socket. What comes in is the session's.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, select};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::event::Event;
use crate::reach::at_home;

/// Where clients listen by custom, the first one that is free.
const PORTS: std::ops::RangeInclusive<u16> = 6881..=6889;

/// Connections that wait to be accepted. The session refuses more than it has places for.
const BACKLOG: i32 = 128;

/// How long a knock on our own door may take.
const KNOCK: Duration = Duration::from_millis(500);

/// The pause after a connection that could not be accepted. It waits there until it can.
const BREATH: Duration = Duration::from_millis(100);

/// The sockets of one port. Dropped, they are shut, and whoever accepts there ends.
pub struct Listening {
    pub port: u16,
    pub sockets: Vec<TcpListener>,
    /// Never carries anything: its end is that of the threads.
    line: Option<Sender<Infallible>>,
    end: Receiver<Infallible>,
}

impl Listening {
    fn at(port: u16, sockets: Vec<TcpListener>) -> Listening {
        let (line, end) = bounded(0);
        Listening { port, sockets, line: Some(line), end }
    }

    /// Nobody is to find us. The port is what trackers are told: some refuse 0, and nobody has 1.
    pub fn nowhere() -> Listening {
        Listening::at(1, Vec::new())
    }

    /// Listens at `port`, or at the first of [`PORTS`] that is free, or else at any. `ip` is the
    /// only address to listen at; without it all are, of both families where both exist.
    pub fn open(ip: Option<IpAddr>, port: Option<u16>) -> io::Result<Listening> {
        match port {
            Some(port) => bind_all(ip, port),
            None => PORTS
                .map(|port| bind_all(ip, port))
                .find(Result::is_ok)
                .unwrap_or_else(|| bind_all(ip, 0)),
        }
    }

    /// What is to be run, by a thread each.
    pub fn acceptors(&self) -> io::Result<Vec<Acceptor>> {
        let acceptor = |socket: &TcpListener| {
            Ok(Acceptor { socket: socket.try_clone()?, end: self.end.clone() })
        };
        self.sockets.iter().map(acceptor).collect()
    }

    /// Ends the threads. A shut socket accepts nobody, which is enough on Linux and needs no
    /// descriptor; elsewhere the thread sees that the line is cut when somebody knocks.
    pub fn close(&mut self) {
        self.line = None;
        for socket in &self.sockets {
            if SockRef::from(socket).shutdown(Shutdown::Both).is_ok() {
                continue;
            }
            let Ok(addr) = socket.local_addr() else { continue };
            let _ = TcpStream::connect_timeout(&at_home(addr), KNOCK);
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.close();
    }
}

fn bind_all(ip: Option<IpAddr>, port: u16) -> io::Result<Listening> {
    if let Some(ip) = ip {
        let socket = bind(SocketAddr::new(ip, port))?;
        let port = socket.local_addr()?.port();
        return Ok(Listening::at(port, vec![socket]));
    }
    // A machine may lack either family.
    let v4 = bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port));
    let port = v4.as_ref().ok().and_then(|v4| v4.local_addr().ok()).map_or(port, |at| at.port());
    let v6 = bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
    match (v4, v6) {
        (Err(err), Err(_)) => Err(err),
        // Somebody else has the port for one family: it is not ours for the other.
        (Err(err), _) | (_, Err(err)) if err.kind() == io::ErrorKind::AddrInUse => Err(err),
        (v4, v6) => {
            let sockets: Vec<TcpListener> = [v4, v6].into_iter().flatten().collect();
            Ok(Listening::at(sockets[0].local_addr()?.port(), sockets))
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // So that a port that was in use a minute ago can be used again.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One family's door.
pub struct Acceptor {
    socket: TcpListener,
    end: Receiver<Infallible>,
}

impl Acceptor {
    /// The thread: until [`Listening`] is closed, or nobody takes what comes in.
    pub fn run(self, events: &Sender<Event>) {
        loop {
            let accepted = self.socket.accept();
            if self.end.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            match accepted {
                Ok((socket, addr)) => {
                    if !self.hand_over(socket, addr, events) {
                        return;
                    }
                }
                // The peer has gone again, or we are out of descriptors: others may follow.
                Err(_) => {
                    if self.end.recv_timeout(BREATH) == Err(RecvTimeoutError::Disconnected) {
                        return;
                    }
                }
            }
        }
    }

    /// Waits until the connection is somebody's, or nobody's; false: this is the end.
    fn hand_over(&self, socket: TcpStream, addr: SocketAddr, events: &Sender<Event>) -> bool {
        let (turn, over) = bounded(0);
        select! {
            send(events, Event::Accepted { socket, addr, turn }) -> sent => {
                if sent.is_err() {
                    return false;
                }
            }
            recv(self.end) -> _ => return false,
        }
        select! {
            recv(over) -> _ => true,
            // An event that nobody takes keeps its turn.
            recv(self.end) -> _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_an_error_when_named_and_passed_over_when_not() {
        let home = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let first = Listening::open(home, Some(0)).unwrap();
        assert!(Listening::open(home, Some(first.port)).is_err());
        let (a, b) = (Listening::open(home, None).unwrap(), Listening::open(home, None).unwrap());
        assert_ne!(a.port, b.port);
    }

    /// Runs a listener, and does something with its address and what comes in.
    fn with_listener(room: usize, act: impl FnOnce(Listening, SocketAddr, &Receiver<Event>)) {
        let listening = Listening::open(Some(Ipv4Addr::LOCALHOST.into()), Some(0)).unwrap();
        let addr = listening.sockets[0].local_addr().unwrap();
        let (events, inbox) = bounded(room);
        std::thread::scope(|scope| {
            for acceptor in listening.acceptors().unwrap() {
                let events = events.clone();
                scope.spawn(move || acceptor.run(&events));
            }
            act(listening, addr, &inbox);
        });
    }

    /// Whether it waits for somebody to dial, for its connection to be taken (out of the channel or out
    /// of the event), or for room among the events; and with the inbox still there.
    #[test]
    fn the_threads_end_when_what_listens_is_dropped() {
        with_listener(1, |_, _, _| ());
        with_listener(1, |_, addr, inbox| {
            TcpStream::connect(addr).unwrap();
            while inbox.is_empty() {
                std::thread::yield_now();
            }
        });
        with_listener(1, |listening, addr, inbox| {
            TcpStream::connect(addr).unwrap();
            let _taken = inbox.recv().unwrap();
            drop(listening);
        });
        with_listener(0, |_, addr, _| drop(TcpStream::connect(addr).unwrap()));
    }

    /// Whoever looks at a crowd has one of them in hand, and no further one waits in the channel.
    #[test]
    fn one_connection_is_handed_over_at_a_time() {
        with_listener(8, |_listening, addr, inbox| {
            let crowd: Vec<_> = (0..5).map(|_| TcpStream::connect(addr).unwrap()).collect();
            for peer in &crowd {
                let in_hand = inbox.recv().unwrap();
                let Event::Accepted { addr, .. } = &in_hand else { panic!("{in_hand:?}") };
                assert_eq!(*addr, peer.local_addr().unwrap());
                assert!(inbox.recv_timeout(Duration::from_millis(20)).is_err(), "one more");
            }
        });
    }
}
