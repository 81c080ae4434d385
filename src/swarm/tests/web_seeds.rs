//! What is fetched from servers, and when they give way.

use super::*;

impl Play {
    fn web_seed(&mut self) -> ConnId {
        let files = (0..PIECES).step_by(2).map(|piece| piece..piece + 2).collect();
        self.swarm.add_web_seed("http://h".to_owned(), files, self.now)
    }

    /// The run that a server was asked for last, as far as it is still wanted: blocks from … to.
    fn run_of(&self, conn: ConnId) -> Option<Range<u64>> {
        let mut run = None;
        for action in &self.actions {
            match action {
                Action::Fetch { conn: other, bytes } if *other == conn => run = Some(bytes.clone()),
                Action::CutFetch { conn: other, at } if *other == conn => {
                    run = run.map(|run| run.start..run.end.min(*at).max(run.start));
                }
                _ => {}
            }
        }
        let block = u64::from(BLOCK_LEN);
        run.map(|run| run.start / block..run.end / block)
    }

    /// A server sends so many of the blocks that it was asked for.
    fn serves(&mut self, conn: ConnId, blocks: Range<u64>) {
        for block in blocks {
            let geometry = *self.swarm.picker.geometry();
            let span = geometry.block_at(block * u64::from(BLOCK_LEN));
            self.fact(Fact::Fetched { conn, spans: vec![span] });
            if span.begin + span.length == geometry.piece_len(span.piece) {
                self.fact(Fact::Stored { piece: span.piece });
            }
        }
    }

    fn ends(&mut self, conn: ConnId, end: FetchEnd) {
        self.fact(Fact::FetchEnded { conn, end });
    }
}

fn done() -> FetchEnd {
    FetchEnd::Done { in_order: false }
}

const ALL: u64 = (PIECES * BLOCKS) as u64;

#[test]
fn one_server_alone_is_asked_for_everything_at_once() {
    let mut p = play();
    let server = p.web_seed();
    p.wait(TICK);
    assert_eq!(p.run_of(server), Some(0..ALL));
    p.serves(server, 0..ALL);
    p.ends(server, done());
    assert!(p.actions.contains(&Action::Finished));
    assert_eq!(p.swarm.received_from(server), ALL * u64::from(BLOCK_LEN));
}

#[test]
fn two_servers_share_it_and_nothing_is_asked_twice() {
    let mut p = play();
    let (a, b) = (p.web_seed(), p.web_seed());
    p.wait(TICK);
    assert_eq!((p.run_of(a), p.run_of(b)), (Some(0..ALL / 2), Some(ALL / 2..ALL)));
}

#[test]
fn a_quick_peer_takes_over_what_a_slow_server_would_take_long_for() {
    let mut p = play();
    let server = p.web_seed();
    p.wait(TICK);
    p.serves(server, 0..1);
    p.wait(Duration::from_secs(1));
    let peer = p.joins(0..PIECES);
    p.wait(TICK);
    let left = p.run_of(server).unwrap();
    let asked = p.asked(peer);
    assert!(left.end < ALL && !asked.is_empty(), "{left:?}");
    let geometry = *p.swarm.picker.geometry();
    let first = asked.iter().map(|&span| geometry.bytes(span).start).min().unwrap();
    assert_eq!(first / u64::from(BLOCK_LEN), left.end, "side by side, and nothing twice");
}

#[test]
fn peers_are_not_asked_for_what_a_server_is_about_to_send() {
    let mut p = play();
    let server = p.web_seed();
    p.wait(TICK);
    // 14 of 16 blocks in a tenth of a second: the other two are nearly here.
    p.now += TICK;
    p.serves(server, 0..14);
    let peer = p.joins(0..PIECES);
    assert_eq!(p.asked(peer), []);
    // But not if they do not come.
    p.wait(Duration::from_secs(2));
    assert_eq!(p.asked(peer).len(), 2);
    p.serves(server, 14..16);
    assert!(p.actions.contains(&Action::Finished), "it may send them all the same");
}

#[test]
fn a_server_that_sends_nothing_is_left_alone_only_if_nobody_else_could() {
    let mut p = play();
    let server = p.web_seed();
    p.wait(Duration::from_secs(60));
    assert_eq!(p.run_of(server), Some(0..ALL), "it is all we have");
    let peer = p.joins([0]);
    p.wait(2 * TICK);
    assert_eq!(p.run_of(server), Some(0..0));
    assert_eq!(p.asked(peer).len(), BLOCKS as usize);
    p.actions.clear();
    p.ends(server, done());
    assert_eq!(p.run_of(server), None, "it has to wait");
    p.wait(Duration::from_secs(3));
    assert!(p.run_of(server).is_some(), "and gets another chance");
}

#[test]
fn pauses_double_and_the_servers_wish_is_kept() {
    let mut p = play();
    let server = p.web_seed();
    p.wait(TICK);
    for (retry_in, seconds) in
        [(None, 2), (None, 4), (Some(20), 20), (None, 16), (Some(1 << 40), 3600)]
    {
        let retry_in = retry_in.map(Duration::from_secs);
        p.ends(server, FetchEnd::Failed { why: "answered 503".to_owned(), retry_in });
        p.actions.clear();
        p.wait(Duration::from_secs(seconds) - TICK);
        assert_eq!(p.run_of(server), None, "after {seconds} s less a moment");
        p.wait(2 * TICK);
        assert_eq!(p.run_of(server), Some(0..ALL), "after {seconds} s");
    }
    let stuck = p.swarm.status(p.now).stuck.unwrap().to_string();
    assert!(stuck.contains("web seed http://h: answered 503"), "{stuck}");
}

#[test]
fn a_missing_file_costs_its_pieces_only_and_a_missing_torrent_the_server() {
    let mut p = play();
    let server = p.web_seed();
    p.wait(TICK);
    p.ends(server, FetchEnd::Lacks { why: "answered 404".to_owned(), pieces: 2..4 });
    assert_eq!(p.run_of(server), Some(8..ALL), "the longest gap");
    p.serves(server, 8..ALL);
    p.ends(server, done());
    assert_eq!(p.run_of(server), Some(0..4));
    p.ends(server, FetchEnd::Lacks { why: "answered 404".to_owned(), pieces: 0..2 });
    assert_eq!(p.swarm.status(p.now).web_seeds, 0);
    p.actions.clear();
    p.wait(Duration::from_secs(600));
    assert_eq!(p.run_of(server), None, "it has nothing more that we lack");
}

#[test]
fn a_file_that_is_another_one_costs_its_pieces_and_three_of_them_the_server() {
    let mut p = play();
    let (stale, other) = (p.web_seed(), p.web_seed());
    p.wait(TICK);
    assert_eq!(p.run_of(stale), Some(0..ALL / 2));
    p.fact(Fact::Corrupt { piece: 0, senders: vec![stale, stale] });
    assert_eq!(p.run_of(stale), Some(0..0), "what is left of the run is of the same file");
    p.ends(stale, done());
    assert_eq!(p.run_of(stale), Some(4..8), "and its other files are used");
    // The end of the run that was under way says nothing new.
    p.fact(Fact::Corrupt { piece: 1, senders: vec![stale] });
    assert_eq!(p.swarm.status(p.now).web_seeds, 2);
    p.fact(Fact::Corrupt { piece: 2, senders: vec![stale] });
    p.fact(Fact::Corrupt { piece: 5, senders: vec![stale] });
    let given_up = |d: &Decision| matches!(d, Decision::WebSeed { sequel: Sequel::GivenUp, .. });
    assert!(p.decided(given_up));
    assert_eq!(p.swarm.status(p.now).web_seeds, 1);
    p.actions.clear();
    p.fact(Fact::Corrupt { piece: 6, senders: vec![stale] });
    assert!(!p.decided(given_up), "said once");
    p.ends(stale, done());
    p.serves(other, ALL / 2..ALL);
    p.ends(other, done());
    p.wait(Duration::from_secs(600));
    assert_eq!(p.run_of(stale), None);
    assert!(p.run_of(other).is_some());
}

#[test]
fn a_server_without_ranges_goes_on_where_it_is() {
    let mut p = play_with(|config| {
        config.geometry = Geometry::new(16 << 20, 1 << 20).unwrap();
    });
    let server = p.web_seed();
    let piece = 64;
    p.wait(TICK);
    assert_eq!(p.run_of(server), Some(0..4 * piece));
    p.now += Duration::from_secs(4);
    p.serves(server, 0..4 * piece);
    let peer = p.joins([5]);
    assert_eq!(p.asked(peer)[0].piece, 5);
    p.ends(server, FetchEnd::Done { in_order: true });
    assert_eq!(p.run_of(server), Some(4 * piece..5 * piece), "and not at the longest gap");
}
