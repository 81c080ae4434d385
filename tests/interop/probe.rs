//! Asks a client whether it seeds a torrent, as a peer would: by a handshake (BEP 3).
//!
//! A client is ready when its bitfield is full. Its port may be open, and its torrent known, long
//! before it has checked the data.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use piecemeal::hash::Sha1;
use socket2::{Domain, Socket, Type};

/// Answers on loopback take milliseconds; a client that hashes in the same thread, longer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Where the questions come from. Clients remember who called and hung up, so not the address
/// from which the download will come.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 200);

/// Shakes hands with the client at `addr`: it listens and it knows `torrent`.
pub fn shake_hands(addr: SocketAddr, torrent: Sha1) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((FROM, 0)).into())?;
    socket.connect_timeout(&addr.into(), TIMEOUT)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT))?;
    // No reserved bit is set: without the Fast extension the answer must be a plain bitfield.
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    hello.extend(torrent.0);
    hello.extend(format!("-PROBE-{:013}", fastrand::u32(..)).bytes());
    stream.write_all(&hello)?;
    let mut answer = [0; 68];
    stream.read_exact(&mut answer)?;
    if answer[28..48] != torrent.0 {
        return Err(io::Error::other("answered with another info hash"));
    }
    Ok(stream)
}

/// How many pieces of `torrent` the client at `addr` says it has.
pub fn pieces_at(addr: SocketAddr, torrent: Sha1) -> io::Result<usize> {
    let mut stream = shake_hands(addr, torrent)?;
    let mut prefix = [0; 5];
    stream.read_exact(&mut prefix)?;
    let len = u32::from_be_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize;
    if prefix[4] != 5 || len == 0 || 1 << 20 < len {
        return Err(io::Error::other(format!("message {} of {len} bytes came first", prefix[4])));
    }
    let mut bitfield = vec![0; len - 1];
    stream.read_exact(&mut bitfield)?;
    Ok(bitfield.iter().map(|byte| byte.count_ones() as usize).sum())
}
