//! The DHT's sockets: one for each family, at the port at which peers dial us where it is free.
//!
//! Layer: hands. A reader's thread for each; it ends when nobody takes its packets any more.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use socket2::{Domain, Protocol, Socket, Type};

use super::Input;
use crate::krpc::PACKET_LEN_MAX;
use crate::reach::at_home;

/// How often a reader looks by itself whether anybody is there: the packet that tells it so gets lost
/// where the loopback interface is down. The user waits for it.
const GLANCE: Duration = Duration::from_millis(250);

/// The pause after a packet that could not be received.
const BREATH: Duration = Duration::from_millis(100);

/// IPv4, IPv6.
#[derive(Debug)]
pub struct Sockets([Option<UdpSocket>; 2]);

impl Sockets {
    /// Opens them at `port`, or at any other where that is taken. `ip` is the only address to use;
    /// without it all are, of both families where both exist. The error is that of IPv4.
    pub fn open(ip: Option<IpAddr>, port: u16) -> io::Result<Sockets> {
        let v4: IpAddr = Ipv4Addr::UNSPECIFIED.into();
        let v6: IpAddr = Ipv6Addr::UNSPECIFIED.into();
        match ip {
            Some(ip) if ip.is_ipv4() => Ok(Sockets([Some(bind(ip, port)?), None])),
            Some(ip) => Ok(Sockets([None, Some(bind(ip, port)?)])),
            None => match (bind(v4, port), bind(v6, port)) {
                (Err(err), Err(_)) => Err(err),
                (v4, v6) => Ok(Sockets([v4.ok(), v6.ok()])),
            },
        }
    }

    /// The port of a family, if there is a socket for it.
    pub fn port(&self, v6: bool) -> Option<u16> {
        let socket = self.0[usize::from(v6)].as_ref()?;
        Some(socket.local_addr().ok()?.port())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &UdpSocket> {
        self.0.iter().flatten()
    }

    /// Sends a packet. One that cannot be sent is lost, like others on their way.
    pub(super) fn send(&self, to: SocketAddr, packet: &[u8]) {
        if let Some(socket) = &self.0[usize::from(to.is_ipv6())] {
            let _ = socket.send_to(packet, to);
        }
    }

    /// Makes the readers look whether anybody is there, by a packet to each from itself.
    pub(super) fn wake(&self) {
        for socket in self.all() {
            let Ok(addr) = socket.local_addr() else { continue };
            let _ = socket.send_to(b"", at_home(addr));
        }
    }
}

fn bind(ip: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let try_port = |port| -> io::Result<UdpSocket> {
        let addr = SocketAddr::new(ip, port);
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&addr.into())?;
        socket.set_read_timeout(Some(GLANCE))?;
        Ok(socket.into())
    };
    match try_port(port) {
        Err(err) if err.kind() == ErrorKind::AddrInUse => try_port(0),
        bound => bound,
    }
}

/// A reader's thread.
pub(super) fn read(socket: &UdpSocket, inputs: &Sender<Input>) {
    // One byte more, by which what is too long is recognised.
    let mut packet = [0; PACKET_LEN_MAX + 1];
    loop {
        let received = socket.recv_from(&mut packet);
        // An error of one packet, such as an ICMP answer to one of ours; the next may be good.
        let time_out = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
        if received.as_ref().is_err_and(|err| !time_out.contains(&err.kind())) {
            std::thread::sleep(BREATH);
        }
        let input = match received {
            Ok((len, from)) => Input::Packet(from, packet[..len].to_vec()),
            Err(_) => Input::Knock,
        };
        if let Err(TrySendError::Disconnected(_)) = inputs.try_send(input) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_replaced() {
        let home = Some(IpAddr::from(Ipv4Addr::LOCALHOST));
        let first = Sockets::open(home, 0).unwrap();
        let port = first.port(false).unwrap();
        let second = Sockets::open(home, port).unwrap();
        assert!(second.port(false).is_some_and(|other| other != port && other != 0));
        assert_eq!(second.port(true), None);
    }

    #[test]
    fn a_reader_ends_when_nobody_listens() {
        let sockets = Sockets::open(None, 0).unwrap();
        let (sender, inputs) = crossbeam_channel::bounded(1);
        std::thread::scope(|scope| {
            for socket in sockets.all() {
                let sender = sender.clone();
                scope.spawn(move || read(socket, &sender));
            }
            let to = (Ipv4Addr::LOCALHOST, sockets.port(false).unwrap()).into();
            sockets.send(to, b"hello");
            assert!(matches!(inputs.recv(), Ok(Input::Packet(_, packet)) if packet == b"hello"));
            drop(inputs);
            sockets.wake();
        });
    }
}
