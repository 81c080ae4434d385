//! `piecemeal seed --super-seed`, as its peers see it.

mod support;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use socket2::{Domain, Socket, Type};

use support::fixture::{Fixture, Recipe};
use support::peer::{Wire, full_bitfield, handshake, id, message, peer_id};
use support::place::Place;
use support::run::{LIMIT, Run};
use support::{free_addr, own_ip};

/// A leecher that has nothing and fetches nothing, and which pieces it was told of.
struct Listener {
    wire: Wire,
    told: Vec<bool>,
}

impl Listener {
    fn dial(fixture: &Fixture, addr: SocketAddr, room: Option<usize>) -> Listener {
        let wire = dial(fixture, addr, room).expect("a connection");
        Listener { wire, told: vec![false; fixture.pieces()] }
    }

    /// Reads one message, and tells which it was.
    fn hear(&mut self) -> io::Result<u8> {
        let (message, payload) = self.wire.message()?;
        if let (id::HAVE, Ok(piece)) = (message, payload.try_into()) {
            self.told[u32::from_be_bytes(piece) as usize] = true;
        }
        Ok(message)
    }

    /// Reads until it is welcome.
    fn is_welcomed(&mut self) {
        while self.hear().expect("the seed is there") != id::UNCHOKE {}
    }

    /// Reads until it has been told of every piece.
    fn hears_of_everything(&mut self) -> io::Result<()> {
        while self.told.contains(&false) {
            self.hear()?;
        }
        Ok(())
    }
}

/// Connects from an address of its own, with so much room for what it has not read yet.
fn dial(fixture: &Fixture, addr: SocketAddr, room: Option<usize>) -> io::Result<Wire> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(own_ip(), 0).into())?;
    room.map_or(Ok(()), |room| socket.set_recv_buffer_size(room))?;
    socket.connect(&addr.into())?;
    let mut wire = Wire::new(Arc::new(TcpStream::from(socket)));
    let n = usize::from(wire.stream.local_addr()?.port());
    wire.send(&handshake(&fixture.info_hash, &peer_id(b"-XX0000-", n), false))?;
    wire.read_handshake()?;
    Ok(wire)
}

#[test]
fn a_peer_that_does_not_read_for_a_while_hears_of_everything_at_the_end() {
    // What there is to tell takes 144 KiB: more than lies in sockets.
    let fixture = Recipe::file("many.bin", 16 << 20).piece_length(1 << 10).make();
    let (place, addr) = (Place::new(&fixture), free_addr());
    fixture.write_to(&place.data);
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    let seed = Run::piecemeal(&["seed", "--super-seed", "--no-lsd", "--no-tracker", "-v"])
        .args(["--listen", &ip, "--port", &port])
        .arg("-d")
        .arg(&place.data)
        .arg(&place.torrent);
    let mut seed = seed.start();
    seed.wait_for("are here and verified");
    let mut slow = Listener::dial(&fixture, addr, Some(4 << 10));
    let mut quick = Listener::dial(&fixture, addr, None);
    slow.is_welcomed();
    quick.is_welcomed();
    // With another seed nothing need be hidden any more.
    let mut other = dial(&fixture, addr, None).expect("a connection");
    other.send(&message(id::BITFIELD, &full_bitfield(fixture.pieces()))).expect("sent");
    quick.hears_of_everything().expect("told");
    slow.hears_of_everything().expect("told as well");
    seed.interrupt();
    seed.finish(LIMIT).expect(130);
}
