//! A film that is watched while it loads, in virtual time: whoever reads in order must not wait behind
//! what is rare, nor behind those that are slow. And a swarm of which some pieces are wanted.

use std::collections::BTreeMap;

use super::*;

/// 64 MiB in pieces of 256 KiB.
const FILM: u32 = 64 << 20;
const PIECE: u32 = 256 << 10;

/// A step of the play.
const STEP: Duration = Duration::from_millis(10);

/// A peer or a web server of the play: how much it sends a second, and what it has sent of the block
/// that is next.
struct Source {
    conn: ConnId,
    rate: f64,
    sent: f64,
    /// What a server was asked for and has not sent, in bytes of the torrent.
    run: Option<std::ops::Range<u64>>,
}

impl Source {
    fn hears(&mut self, action: &Action) {
        match action {
            Action::Fetch { conn, bytes } if *conn == self.conn => self.run = Some(bytes.clone()),
            Action::CutFetch { conn, at } if *conn == self.conn => {
                self.run = self.run.take().map(|run| run.start..run.end.min(*at));
            }
            _ => {}
        }
    }

    /// The next block that it is to send.
    fn next(&mut self, p: &mut Play) -> Option<Span> {
        let Some(run) = self.run.clone() else { return p.asked(self.conn).first().copied() };
        if run.start < run.end {
            return Some(p.swarm.picker.geometry().block_at(run.start));
        }
        self.run = None;
        p.fact(Fact::FetchEnded { conn: self.conn, end: FetchEnd::Done { in_order: false } });
        None
    }

    fn sends(&mut self, p: &mut Play, span: Span) {
        match &mut self.run {
            Some(run) => {
                run.start += u64::from(span.length);
                p.fact(Fact::Fetched { conn: self.conn, spans: vec![span] });
            }
            None => p.says(self.conn, [Message::Block(span)]),
        }
    }
}

/// What the reader saw.
#[derive(Debug)]
struct Watched {
    /// From the start of the swarm to the first piece.
    first: Duration,
    /// How long it stood still after that, all together.
    stalled: Duration,
    whole: Duration,
    wasted: u64,
}

fn watch(in_order: bool, rates: &[f64], watch: f64) -> Watched {
    watch_from(in_order, rates, &[], watch)
}

/// Lets peers and servers of these rates (bytes a second) send a film to somebody who watches it at
/// `watch` bytes a second, from the moment on when a second of it is there.
fn watch_from(in_order: bool, rates: &[f64], servers: &[f64], watch: f64) -> Watched {
    let mut p = play_with(|config| {
        config.geometry = Geometry::new(u64::from(FILM), PIECE).unwrap();
        (config.in_order, config.trace) = (in_order, false);
        config.goal = Some(Goal::default());
    });
    let pieces = FILM / PIECE;
    let source = |conn, rate| Source { conn, rate, sent: 0.0, run: None };
    let now = p.now;
    let mut sources: Vec<Source> = Vec::new();
    for &rate in servers {
        sources.push(source(p.swarm.add_web_seed("http://h".to_owned(), [].into(), now), rate));
    }
    sources.extend(rates.iter().map(|&rate| source(p.joins(0..pieces), rate)));
    let begin = p.now;
    let mut blocks: BTreeMap<u32, std::collections::BTreeSet<u32>> = BTreeMap::new();
    let (mut seen, mut first, mut whole) = (0.0, None, None);
    let mut stalled = Duration::ZERO;
    let mut contiguous = 0;
    while seen < f64::from(FILM) && p.now < begin + Duration::from_secs(600) {
        p.wait(Duration::ZERO);
        p.now += STEP;
        if (p.now - begin).as_millis().is_multiple_of(TICK.as_millis()) {
            p.swarm.tick(p.now);
        }
        for source in &mut sources {
            source.sent += source.rate * STEP.as_secs_f64();
            while let Some(span) = source.next(&mut p) {
                if source.sent < f64::from(span.length) {
                    break;
                }
                source.sent -= f64::from(span.length);
                source.sends(&mut p, span);
                let here = blocks.entry(span.piece).or_default();
                if here.insert(span.begin) && here.len() as u32 == PIECE / BLOCK_LEN {
                    p.fact(Fact::Stored { piece: span.piece });
                }
            }
            if p.asked(source.conn).is_empty() && source.run.is_none() {
                source.sent = 0.0;
            }
        }
        p.actions.append(&mut p.swarm.take_actions());
        for action in p.actions.drain(..) {
            sources.iter_mut().for_each(|source| source.hears(&action));
        }
        while contiguous < pieces && p.swarm.have().contains(contiguous) {
            contiguous += 1;
        }
        let there = f64::from(contiguous * PIECE);
        if contiguous == pieces {
            whole.get_or_insert(p.now - begin);
        }
        if watch.min(f64::from(FILM)) <= there {
            first.get_or_insert(p.now - begin);
        }
        if first.is_some() {
            let step = watch * STEP.as_secs_f64();
            if there < (seen + step).min(f64::from(FILM)) {
                stalled += STEP;
            }
            seen = (seen + step).min(there);
        }
    }
    let wasted = p.swarm.status(p.now).wasted;
    let (first, whole) = (first.expect("it came"), whole.expect("all of it"));
    Watched { first, stalled, whole, wasted }
}

const MB: f64 = 1e6;

#[test]
fn who_watches_in_order_never_waits_for_what_is_rare_or_slow() {
    // Together 5.06 MB/s; the film needs 4.
    let rates = [2.0 * MB, 1.5 * MB, 1.5 * MB, 0.03 * MB, 0.02 * MB, 0.01 * MB, 0.0];
    let ordered = watch(true, &rates, 4.0 * MB);
    let rarest = watch(false, &rates, 4.0 * MB);
    println!("in order: {ordered:?}\nrarest first: {rarest:?}");
    assert!(ordered.first < Duration::from_secs(4), "{ordered:?}");
    assert_eq!(ordered.stalled, Duration::ZERO, "{ordered:?}");
    assert!(ordered.wasted < u64::from(FILM) / 20, "{ordered:?}");
    assert!(ordered.whole < rarest.whole * 6 / 5, "{ordered:?}, {rarest:?}");
    assert!(4 * ordered.first < rarest.first, "{rarest:?}");
}

#[test]
fn a_slow_server_holds_nobody_up_whoever_is_quicker() {
    for (peers, servers) in [
        (&[2.0 * MB][..], &[0.02 * MB][..]),
        (&[0.3 * MB, 2.0 * MB], &[0.0]),
        (&[], &[0.02 * MB, 2.0 * MB]),
        (&[0.02 * MB], &[0.0, 0.05 * MB, 2.0 * MB]),
    ] {
        let seen = watch_from(true, peers, servers, 1.5 * MB);
        println!("{peers:?} {servers:?}: {seen:?}");
        assert!(seen.first < Duration::from_millis(3500), "{peers:?} {servers:?}: {seen:?}");
        assert!(seen.stalled < Duration::from_millis(200), "{peers:?} {servers:?}: {seen:?}");
        assert!(seen.wasted < u64::from(FILM) / 20, "{peers:?} {servers:?}: {seen:?}");
    }
}

#[test]
fn one_slow_peer_alone_gives_everything_in_order() {
    let alone = watch(true, &[0.5 * MB], 0.4 * MB);
    assert_eq!(alone.stalled, Duration::ZERO, "{alone:?}");
    assert_eq!(alone.wasted, 0, "{alone:?}");
}

#[test]
fn a_swarm_that_wants_some_pieces_is_done_with_those() {
    let mut p = play_with(|config| {
        config.wanted = Some(Bitfield::with(PIECES, [2, 5]));
        config.goal = Some(Goal::default());
    });
    let useless = p.joins([0, 1]);
    let useful = p.joins([1, 5]);
    assert!(!p.told(useless, &Message::Interested) && p.told(useful, &Message::Interested));
    p.sends_everything(useful);
    assert!(p.swarm.have().contains(5) && !p.swarm.have().contains(1));
    assert!(p.told(useful, &Message::NotInterested));
    assert!(!p.swarm.complete_for_us());
    let status = p.swarm.status(p.now);
    assert_eq!((status.have, status.pieces), (1, 2));
    let piece = u64::from(BLOCKS * BLOCK_LEN);
    assert_eq!((status.total_bytes, status.done_bytes), (2 * piece, piece));
    // What nobody wants is missing too.
    assert_eq!(p.swarm.left(), u64::from(PIECES - 1) * piece);
    p.says(useless, [Message::Have(2)]);
    p.sends_everything(useless);
    assert!(p.swarm.complete_for_us());
    assert_eq!(p.swarm.left(), u64::from(PIECES - 2) * piece);
    assert!(p.actions.contains(&Action::Finished));
    assert!(!p.swarm.have().is_full() && p.is_connected(useful));
}
