//! Every end is an end: a session that fails or panics anywhere between its first socket and its last
//! is over, with an error, and no thread of it waits for ever.

mod support;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread::spawn;

use crossbeam_channel::bounded;
use piecemeal::create::{Plan, Wishes};
use piecemeal::dht_node;
use piecemeal::magnet::Magnet;
use piecemeal::metainfo::Metainfo;
use piecemeal::session::{Options, Session, Summary, Update};
use piecemeal::storage::Layout;
use piecemeal::stream::Output;
use piecemeal::swarm::Goal;

use support::fixture::{Folder, Recipe};
use support::own_ip;
use support::run::{Ended, LIMIT, Run, binary};
use support::seeder::Seed;

/// How a session ends, which it must do soon.
#[track_caller]
fn end_of(session: Session) -> anyhow::Result<Summary> {
    let (sender, end) = bounded(1);
    spawn(move || drop(sender.send(session.join())));
    end.recv_timeout(LIMIT).expect("it is over")
}

#[track_caller]
fn error_of(session: Session) -> String {
    format!("{:#}", end_of(session).expect_err("it failed"))
}

/// A session on loopback, with everything at work that finds others.
fn at_home(options: Options) -> Options {
    let dht = dht_node::Config {
        bootstrap: Some(Vec::new()),
        nodes: Vec::new(),
        read_only: true,
        cache: None,
        ..dht_node::Config::default()
    };
    let (listen, port) = (Some(own_ip()), Some(0));
    Options { listen, port, port_map: false, lsd: true, dht: Some(dht), ..options }
}

/// A folder with two small files, and its torrent.
fn two_files(folder: &Path) -> Metainfo {
    let root = folder.join("two");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("a"), [1; 50_000]).unwrap();
    std::fs::write(root.join("b"), [2; 50_000]).unwrap();
    made_of(&root)
}

fn made_of(path: &Path) -> Metainfo {
    let plan = Plan::new(path, Wishes::default()).unwrap();
    plan.hash(&mut |_, _| ControlFlow::Continue(())).unwrap().unwrap().torrent
}

/// Of two files none can be streamed, which is found out when everybody listens already.
#[test]
fn an_error_once_the_finders_are_at_work() {
    let (from, to) = (Folder::new("ending"), Folder::new("ending"));
    let usual = at_home(Options::new(two_files(&from.0), &to.0));
    let session = Session::start(Options { stream: Some(|| unreachable!()), ..usual }).unwrap();
    assert_eq!(error_of(session), "only one file can be streamed");
}

/// All is here, and nobody is left who would write it out.
#[test]
fn a_panic_of_a_thread_without_which_it_cannot_go_on() {
    let folder = Folder::new("ending");
    let torrent = made_of(&folder.file("one", &[1; 50_000]));
    let stream = Some((|| panic!("a mistake of ours, made on purpose")) as Output);
    let options = Options { stream, ..at_home(Options::new(torrent, &folder.0)) };
    let session = Session::start(options).unwrap();
    assert_eq!(error_of(session), "the stream's thread panicked");
}

/// What is done with a magnet link's torrent is done by the session's thread, beside its peers.
#[test]
fn a_panic_of_the_session_once_peers_are_connected() {
    let (from, to) = (Folder::new("ending"), Folder::new("ending"));
    let torrent = two_files(&from.0);
    let magnet = Magnet::new(torrent.info_hash);
    // One that hears us would knock at our door, which wakes whoever waits there.
    let deaf = Options { lsd: false, dht: None, ..at_home(Options::new(torrent, &from.0)) };
    let ip = deaf.listen.expect("at home");
    let seed = Session::start(Options { goal: Some(Goal::default()), ..deaf }).unwrap();
    let listening = |update| match update {
        Update::Listening { port, .. } => Some(SocketAddr::new(ip, port)),
        _ => None,
    };
    let peers = Vec::from_iter(seed.updates().iter().find_map(listening));
    let stub = Layout::below(Arc::new(Metainfo::from_magnet(&magnet)), &to.0);
    let options = Options { peers, ..at_home(Options::at(stub)) };
    let then = |_| panic!("a mistake of ours, made on purpose");
    let session = Session::start_magnet(options, Box::new(then)).unwrap();
    assert_eq!(error_of(session), "the session's thread panicked");
    seed.stopper().stop();
    end_of(seed).unwrap();
}

/// Fewer than a download needs, from those with which it cannot even begin; and more than enough.
const FEW: std::ops::RangeInclusive<u32> = 1..=10;
const MANY: u32 = 64;

/// `get` as a user of our own, of whom nobody else's processes count, who may have so many threads.
/// `Err`: why there can be no such user.
fn get_with_threads(threads: u32, args: &[&OsStr], dir: &Path) -> Result<Ended, String> {
    let user = 1_000_000 + std::process::id();
    std::os::unix::fs::chown(dir, Some(user), Some(user)).map_err(|err| err.to_string())?;
    let run = Run::program("env")
        .args(["prlimit", &format!("--nproc={threads}")])
        .args(["setpriv", "--clear-groups"])
        .args([format!("--reuid={user}"), format!("--regid={user}")])
        .arg(binary())
        .args(["get", "--no-port-map", "--dht-bootstrap", "127.0.0.1:1"])
        .args(["--listen", &own_ip().to_string(), "-d"])
        .arg(dir);
    let ended = run.args(args).run();
    let last = ended.stderr.lines().last().unwrap_or_default();
    match ["env", "prlimit", "setpriv"].iter().any(|tool| last.starts_with(tool)) {
        true => Err(last.to_owned()),
        false => Ok(ended),
    }
}

/// Whoever may have fewer threads than are needed gets an error, or goes on without what could not be
/// started, until it gives up. Takes root; skipped where that is not to be had.
#[test]
fn however_few_threads_there_may_be() {
    let fixture = Recipe::file("few.bin", 100_000).make();
    let seeder = Seed::default().at(own_ip()).start(&fixture);
    let peer = format!("--peer={}", seeder.addr);
    let hash: String = fixture.info_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let magnet = format!("magnet:?xt=urn:btih:{hash}&x.pe=localhost:1");
    let mut codes = Vec::new();
    for threads in FEW.chain([MANY]) {
        let folder = Folder::new("few");
        let torrent = folder.file("few.torrent", &fixture.torrent(&[&["http://127.0.0.1:1/"]]));
        let patience = if threads == MANY { "--stop-timeout=30" } else { "--stop-timeout=1" };
        // The seeder has no metadata to give: a link is given up, which need be seen with few only.
        let operands = [magnet.as_ref(), torrent.as_os_str()];
        for operand in &operands[usize::from(threads == MANY)..] {
            let args = [peer.as_ref(), patience.as_ref(), *operand];
            let ended = match get_with_threads(threads, &args, &folder.0) {
                Ok(ended) => ended,
                Err(why) => {
                    assert!(std::env::var_os("PIECEMEAL_REQUIRE_PEERS").is_none(), "{why}");
                    return eprintln!("skipped: {why}");
                }
            };
            codes.push(ended.code);
            match ended.code {
                Some(1) => {
                    let said = ended.stderr.lines().filter(|line| line.starts_with("piecemeal: "));
                    let said: Vec<&str> = said.collect();
                    let right =
                        matches!(said[..], [line] if line.contains("cannot start a thread"));
                    assert!(right, "{threads}: {}", ended.stderr);
                }
                Some(0 | 3) => {}
                _ => panic!("{threads}: {ended:?}"),
            }
        }
    }
    println!("as link, as torrent, and with one thread more: {codes:?}");
    assert_eq!((codes.first(), codes.last()), (Some(&Some(1)), Some(&Some(0))), "{codes:?}");
}
