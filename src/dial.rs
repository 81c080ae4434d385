//! Dialling: through the proxy if there is one, else from the address that the user has named.
//!
//! ```text
//! --proxy            the proxy dials; what it cannot carry is left out
//! --listen IP        from this address only: peers, trackers, web seeds. Who is of the other family,
//!                    or cannot be reached from there, is not reached
//! neither, or 0.0.0.0 and ::     the system chooses
//! ```
//!
//! Layer: hands. Runs on the thread of whoever dials.

use std::io::{self, Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::proxy::Proxy;

/// Who dials, and from where.
#[derive(Debug, Clone, Default)]
pub struct Dialler {
    pub proxy: Option<Proxy>,
    from: Option<IpAddr>,
}

impl Dialler {
    pub fn new(proxy: Option<Proxy>, listen: Option<IpAddr>) -> Dialler {
        Dialler { proxy, from: listen.filter(|ip| !ip.is_unspecified()) }
    }

    /// The address that everything goes out from, if it is not for the system to choose.
    pub fn from(&self) -> Option<IpAddr> {
        self.from.filter(|_| self.proxy.is_none())
    }

    /// A socket for dialling an address.
    pub fn socket(&self, to: SocketAddr) -> io::Result<Socket> {
        let domain = self.proxy.as_ref().map_or(Domain::for_address(to), Proxy::domain);
        Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
    }

    /// Connects such a socket; `timeout` is for the way to a proxy, or to the address itself.
    pub fn connect(&self, socket: &Socket, to: SocketAddr, timeout: Duration) -> io::Result<()> {
        if let Some(proxy) = &self.proxy {
            return proxy.connect(socket, to, timeout);
        }
        if let Some(from) = self.from {
            check_family(from, to)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        self.explained(socket.connect_timeout(&SockAddr::from(to), timeout))
    }

    /// A socket for datagrams to and from one address.
    pub fn datagrams(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let from = match (self.from, to) {
            (Some(from), _) => from,
            (None, SocketAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (None, SocketAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        };
        check_family(from, to)?;
        let socket = UdpSocket::bind((from, 0))?;
        self.explained(socket.connect(to))?;
        Ok(socket)
    }

    /// The system calls it an invalid argument if there is no way out from our address.
    fn explained(&self, done: io::Result<()>) -> io::Result<()> {
        match (done, self.from) {
            (Err(err), Some(from)) if err.kind() == ErrorKind::InvalidInput => {
                let why = format!("not to be reached from {from}");
                Err(Error::new(ErrorKind::AddrNotAvailable, why))
            }
            (done, _) => done,
        }
    }
}

fn check_family(from: IpAddr, to: SocketAddr) -> io::Result<()> {
    if from.is_ipv4() == to.is_ipv4() {
        return Ok(());
    }
    let why = format!("not to be reached from {from}, which is of another family");
    Err(Error::new(ErrorKind::AddrNotAvailable, why))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn from(ip: &str) -> Dialler {
        Dialler::new(None, Some(ip.parse().unwrap()))
    }

    #[test]
    fn what_goes_out_comes_from_the_address_that_was_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        for (named, seen) in [("127.0.0.7", "127.0.0.7"), ("0.0.0.0", "127.0.0.1")] {
            let dialler = from(named);
            let socket = dialler.socket(to).unwrap();
            dialler.connect(&socket, to, TIMEOUT).unwrap();
            assert_eq!(listener.accept().unwrap().1.ip().to_string(), seen);
            let datagrams = dialler.datagrams(to).unwrap();
            assert_eq!(datagrams.local_addr().unwrap().ip().to_string(), seen);
        }
    }

    #[test]
    fn who_cannot_be_reached_from_there_is_not_reached() {
        for to in ["[::1]:9", "192.0.2.1:9"] {
            let (dialler, to) = (from("127.0.0.7"), to.parse().unwrap());
            let socket = dialler.socket(to).unwrap();
            let done = dialler.connect(&socket, to, Duration::from_millis(100));
            assert!(done.unwrap_err().to_string().contains("reached from 127.0.0.7"), "{to}");
            assert!(dialler.datagrams(to).is_err());
        }
    }
}
