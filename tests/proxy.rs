//! `--proxy`: a real SOCKS5 proxy (microsocks) between us and everybody else.
//!
//! Where microsocks is missing the tests say so and skip; with `PIECEMEAL_REQUIRE_PEERS=1` they fail.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use support::fixture::{Fixture, Recipe};
use support::place::Place;
use support::run::{LIMIT, Run, Running};
use support::tracker::Tracker;
use support::{free_addr, own_ip};

/// A proxy that lets `me` with `pass word` through, and dials from an address of its own.
struct Proxy {
    running: Running,
    addr: SocketAddr,
    outside: String,
}

impl Proxy {
    fn start() -> Option<Proxy> {
        if !Path::new("/usr/bin/microsocks").exists() {
            eprintln!("skipped: no microsocks here; make peers installs it");
            assert!(std::env::var_os("PIECEMEAL_REQUIRE_PEERS").is_none(), "no microsocks");
            return None;
        }
        let (addr, outside) = (free_addr(), own_ip().to_string());
        let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
        let running = Run::program("microsocks")
            .args(["-i", &ip, "-p", &port, "-u", "me", "-P", "pass word", "-b", &outside])
            .start();
        // It says nothing when it is ready.
        while std::net::TcpStream::connect(addr).is_err() {
            std::thread::yield_now();
        }
        Some(Proxy { running, addr, outside })
    }

    fn url(&self, login: &str) -> String {
        format!("socks5://{login}@{}", self.addr)
    }
}

fn seed(fixture: &Fixture, addr: SocketAddr) -> (Place, Running) {
    let place = Place::new(fixture);
    fixture.write_to(&place.data);
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    let mut running =
        Run::piecemeal(&["seed", "--json", "--no-tracker", "--no-lsd", "--no-port-map"])
            .args(["--listen", &ip, "--port", &port, "-d"])
            .arg(&place.data)
            .arg(&place.torrent)
            .start();
    running.wait_for(r#""event":"complete""#);
    (place, running)
}

#[test]
fn everything_goes_through_the_proxy() {
    let Some(mut proxy) = Proxy::start() else { return };
    let fixture = Recipe::file("hidden.bin", 300_000).make();
    let addr = free_addr();
    let (_kept, mut seed) = seed(&fixture, addr);
    let tracker = Tracker::start(&[addr]);
    let place = Place::with_trackers(&fixture, &[&[&tracker.http()], &[&tracker.udp()]]);
    let get = Run::piecemeal(&["get", "--proxy", &proxy.url("me:pass%20word")]);
    let ended = get.arg(&place.torrent).arg("-d").arg(&place.data).run().expect(0);
    fixture.assert_in(&place.data);
    assert!(ended.stderr.contains("the proxy carries no UDP"), "{}", ended.stderr);

    // Nobody can come in, and the tracker that is reached over UDP has heard nothing.
    let announces = tracker.announces();
    assert!(announces.iter().all(|announce| !announce.udp && announce.port == 1), "{announces:?}");
    assert!(!announces.is_empty());
    proxy.running.wait_for(&tracker.addr.to_string());
    seed.interrupt();
    let seed = seed.finish(LIMIT).expect(130);
    let seen = String::from_utf8(seed.stdout).expect("JSON");
    let last = seen.lines().last().expect("an end");
    assert!(last.contains(&format!(r#""addr":"{}:"#, proxy.outside)), "{last}");
    assert_eq!(last.matches(r#""addr""#).count(), 1, "{last}");
}

#[test]
fn a_proxy_that_says_no_is_quoted() {
    let Some(proxy) = Proxy::start() else { return };
    let fixture = Recipe::file("refused.bin", 100_000).make();
    let place = Place::new(&fixture);
    let get = Run::piecemeal(&[
        "get",
        "--no-lsd",
        "--trace=swarm",
        "--no-tracker",
        "--stop-timeout",
        "1",
    ]);
    let get = get.args(["--proxy", &proxy.url("me:wrong"), "--peer", "127.0.0.1:9"]);
    let ended = get.arg(&place.torrent).arg("-d").arg(&place.data).run().expect(3);
    assert!(ended.stderr.contains("the proxy: wrong name or password"), "{}", ended.stderr);
}

/// A SOCKS5 proxy that knows nobody, and tells whom it was asked for.
fn knows_nobody() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind((own_ip(), 0)).expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let (tell, asked) = channel();
    let serve = move |mut stream: std::net::TcpStream| -> std::io::Result<()> {
        let mut head = [0; 3];
        stream.read_exact(&mut head)?;
        stream.write_all(&[5, 0])?;
        let mut request = [0; 5];
        stream.read_exact(&mut request)?;
        let mut host = vec![0; usize::from(request[4])];
        stream.read_exact(&mut host)?;
        let kind = if request[3] == 3 { "a name" } else { "an address" };
        let _ = tell.send(format!("{kind}: {}", String::from_utf8_lossy(&host)));
        stream.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0])
    };
    std::thread::spawn(move || listener.incoming().flatten().try_for_each(serve));
    (addr, asked)
}

#[test]
fn names_are_looked_up_by_the_proxy_alone() {
    let fixture = Recipe::file("named.bin", 100_000).make();
    let place = Place::with_trackers(&fixture, &[&["http://tracker.invalid/announce"]]);
    let (addr, asked) = knows_nobody();
    // Nobody but this proxy would take names of `.invalid` (RFC 6761).
    let get = Run::piecemeal(&["get", "--stop-timeout", "1", "--proxy", &addr.to_string()]);
    let get = get.args(["--web-seed", "http://server.invalid/"]);
    get.arg(&place.torrent).arg("-d").arg(&place.data).run().expect(3);
    let mut asked: Vec<String> = asked.try_iter().collect();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["a name: server.invalid", "a name: tracker.invalid"]);
    let (addr, asked) = knows_nobody();
    let proxy = addr.to_string();
    Run::piecemeal(&["show", "--proxy", &proxy, "http://torrents.invalid/x"]).run().expect(1);
    assert_eq!(asked.try_recv().as_deref(), Ok("a name: torrents.invalid"));
}
