//! Peer exchange (BEP 11) with libtorrent: the seed is known to a third peer only.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::payload::{EmptyFiles, Payload, python};
use super::process::{Process, free_port};
use super::{Bed, say};

/// A whole download, with the time it takes until one is told.
const SOON: Duration = Duration::from_secs(10);

fn ours(
    what: &str,
    payload: &Payload,
    at: SocketAddr,
    peer: Option<SocketAddr>,
    work: &Path,
) -> Process {
    let data = work.join("data");
    std::fs::create_dir_all(&data).expect("making a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_piecemeal"));
    command.args([what, "-v", "--no-lsd", "--no-tracker", "--listen", "127.0.0.1"]);
    command.args(["--port", &at.port().to_string()]);
    if let Some(peer) = peer {
        command.args(["--peer", &peer.to_string()]);
    }
    if what == "get" && work.ends_with("third") {
        command.args(["--max-download-limit", "1K"]);
    }
    command.arg("--dir").arg(&data).arg(payload.write_torrent(work, &[]));
    Process::start(&format!("piecemeal {what}"), &command, work.join("log"))
}

fn libtorrent(
    how: &str,
    at: SocketAddr,
    peer: SocketAddr,
    work: &Path,
    payload: &Payload,
) -> Process {
    let data = work.join("data");
    std::fs::create_dir_all(&data).expect("making a folder");
    let mut command = python("seed.py");
    command.arg(how).arg(&data).arg(at.to_string()).arg(peer.to_string());
    command.arg(payload.write_torrent(work, &[]));
    Process::start("libtorrent", &command, work.join("log"))
}

fn addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// libtorrent knows our seed, and tells our `get`.
#[test]
fn libtorrent_tells_us() {
    let Some(bed) = Bed::new("libtorrent", "tells_us", &["libtorrent"]) else { return };
    let payload = &Payload::all()[0];
    let (seed_at, third_at, get_at) = (addr(), addr(), addr());
    let home = bed.dir.join("seed");
    payload.write_data(&home.join("data"));
    let _seed = ours("seed", payload, seed_at, None, &home);
    let _third = libtorrent("knows", third_at, seed_at, &bed.dir.join("third"), payload);
    let start = Instant::now();
    let mut get = ours("get", payload, get_at, Some(third_at), &bed.dir.join("get"));
    let status = get.wait(SOON);
    assert!(status.is_some_and(|status| status.success()), "{}", get.log_tail());
    let difference = payload.difference(&bed.dir.join("get/data"), EmptyFiles::MustBe);
    assert_eq!(difference, None);
    say(&format!("libtorrent told us after at most {:.1} s", start.elapsed().as_secs_f32()));
    bed.remove();
}

/// Our `get` knows our seed, and tells libtorrent.
#[test]
fn we_tell_libtorrent() {
    let Some(bed) = Bed::new("libtorrent", "is_told", &["libtorrent"]) else { return };
    let payload = &Payload::all()[0];
    let (seed_at, third_at, get_at) = (addr(), addr(), addr());
    let home = bed.dir.join("seed");
    payload.write_data(&home.join("data"));
    let _seed = ours("seed", payload, seed_at, None, &home);
    let _third = ours("get", payload, third_at, Some(seed_at), &bed.dir.join("third"));
    let work = bed.dir.join("get");
    let start = Instant::now();
    let get = libtorrent("exchange", get_at, third_at, &work, payload);
    let done = super::process::poll(SOON, || {
        payload.difference(&work.join("data"), EmptyFiles::MayLack).is_none().then_some(())
    });
    assert!(done.is_some(), "{}", get.log_tail());
    say(&format!("libtorrent was told after at most {:.1} s", start.elapsed().as_secs_f32()));
    bed.remove();
}
