//! The listener: takes the connections of peers that dial us (BEP 3).
//!
//! One thread for each family: IPv6 takes no IPv4 connections, so that both can have the same port
//! on every operating system. It ends with [`Listening::close`].
//!
//! Layer: hands. Owns the listening socket. What comes in is the session's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crossbeam_channel::Sender;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::event::Event;

/// Where clients listen by custom, the first one that is free.
const PORTS: std::ops::RangeInclusive<u16> = 6881..=6889;

/// Connections that wait to be accepted. The session refuses more than it has places for.
const BACKLOG: i32 = 128;

/// How long a knock on our own door may take.
const KNOCK: Duration = Duration::from_millis(500);

/// The pause after a connection that could not be accepted. It waits there until it can.
const BREATH: Duration = Duration::from_millis(100);

/// The sockets of one port.
pub struct Listening {
    pub port: u16,
    pub sockets: Vec<TcpListener>,
}

impl Listening {
    /// Nobody is to find us. The port is what trackers are told: some refuse 0, and nobody has 1.
    pub fn nowhere() -> Listening {
        Listening { port: 1, sockets: Vec::new() }
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

    /// Ends the threads. A shut socket accepts nobody, which is enough on Linux and needs no
    /// descriptor; elsewhere the thread sees that the session has ended when somebody knocks.
    pub fn close(&self) {
        for socket in &self.sockets {
            if SockRef::from(socket).shutdown(Shutdown::Both).is_ok() {
                continue;
            }
            let Ok(addr) = socket.local_addr() else { continue };
            let home: IpAddr = match addr.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            let _ = TcpStream::connect_timeout(&SocketAddr::new(home, addr.port()), KNOCK);
        }
    }
}

fn bind_all(ip: Option<IpAddr>, port: u16) -> io::Result<Listening> {
    if let Some(ip) = ip {
        let socket = bind(SocketAddr::new(ip, port))?;
        let port = socket.local_addr()?.port();
        return Ok(Listening { port, sockets: vec![socket] });
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
            Ok(Listening { port: sockets[0].local_addr()?.port(), sockets })
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

/// The thread: until the session has ended.
pub fn run(listener: &TcpListener, events: &Sender<Event>) {
    loop {
        match listener.accept() {
            Ok((socket, addr)) => {
                if events.send(Event::Accepted { socket, addr }).is_err() {
                    return;
                }
            }
            // The socket was shut.
            Err(err) if err.kind() == io::ErrorKind::InvalidInput => return,
            // The peer has gone again, or we are out of descriptors: others may follow.
            Err(_) => std::thread::sleep(BREATH),
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

    #[test]
    fn the_thread_ends_with_the_session() {
        let listening = Listening::open(Some(Ipv4Addr::LOCALHOST.into()), Some(0)).unwrap();
        let addr = listening.sockets[0].local_addr().unwrap();
        let (events, inbox) = crossbeam_channel::bounded(1);
        std::thread::scope(|scope| {
            scope.spawn(|| run(&listening.sockets[0], &events));
            let _peer = TcpStream::connect(addr).unwrap();
            assert!(matches!(inbox.recv(), Ok(Event::Accepted { .. })));
            drop(inbox);
            listening.close();
        });
    }
}
