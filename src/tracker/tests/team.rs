//! Tiers and the handle: order, events, farewells (T9 of the fault list).

use crossbeam_channel::RecvTimeoutError;

use super::*;

fn me() -> Me {
    Me {
        info_hash: Sha1([0xab; 20]),
        peer_id: *b"-PM0100-abcdefghijkl",
        port: 6881,
        both: true,
        key: 7,
        dialler: Default::default(),
    }
}

/// Starts the trackers; the receiver is disconnected once all of their threads have ended.
fn start(limits: Limits, tiers: &[&[&str]]) -> (Trackers, Receiver<Report>) {
    let tiers = tiers.iter().map(|tier| tier.iter().map(|&url| url.to_owned()).collect()).collect();
    let (sender, reports) = unbounded();
    let totals = Arc::new(Totals::default());
    totals.left.store(99, SeqCst);
    let report = move |report| drop(sender.send(report));
    (Trackers::start_with(limits, tiers, me(), totals, report), reports)
}

#[track_caller]
fn until_answered(reports: &Receiver<Report>) -> String {
    loop {
        let report = reports.recv_timeout(PROMPT).expect("no tracker answered");
        if let Report::Answered { url, peers, .. } = report {
            assert_eq!(peers, the_peer());
            return url;
        }
    }
}

#[track_caller]
fn no_thread_is_left(reports: &Receiver<Report>) {
    let deadline = Instant::now() + PROMPT;
    while let Ok(_) | Err(RecvTimeoutError::Timeout) = reports.recv_deadline(deadline) {
        assert!(Instant::now() < deadline, "threads are left over");
    }
}

fn event_of(request: &str) -> String {
    let query = request.split_whitespace().nth(1).unwrap_or_default();
    let event = query.split('&').find_map(|field| field.strip_prefix("event="));
    event.unwrap_or_default().to_owned()
}

fn hanging() -> HttpTracker {
    HttpTracker::start(|_, stream| until_closed(stream))
}

#[test]
fn started_completed_stopped() {
    let tracker = HttpTracker::answering(
        "200 OK",
        b"d8:intervali1800e10:tracker id3:a b5:peers6:\x7f\0\0\x01\x1a\xe1e",
    );
    let (trackers, reports) = start(patient(), &[&[&tracker.url()]]);
    let first = tracker.request();
    assert_eq!(event_of(&first), "started");
    assert!(first.contains("&left=99&") && !first.contains("trackerid"), "{first}");
    until_answered(&reports);
    trackers.completed();
    let second = tracker.request();
    assert_eq!(event_of(&second), "completed");
    assert!(second.contains("&trackerid=a%20b"), "{second}");
    until_answered(&reports);
    within_seconds(|| trackers.stop());
    let last = tracker.request();
    assert_eq!(event_of(&last), "stopped");
    assert!(last.contains("&numwant=0&"), "{last}");
    no_thread_is_left(&reports);
}

#[test]
fn stop_right_after_completed_loses_neither() {
    let tracker = HttpTracker::answering("200 OK", GOOD);
    let (trackers, reports) = start(patient(), &[&[&tracker.url()]]);
    until_answered(&reports);
    trackers.completed();
    within_seconds(|| trackers.stop());
    let events: Vec<_> = tracker.requests.try_iter().map(|request| event_of(&request)).collect();
    assert_eq!(events, ["started", "completed", "stopped"]);
}

#[test]
fn dead_tiers_delay_nobody() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (hanging, alive) = (hanging(), HttpTracker::answering("200 OK", GOOD));
    let refusing = format!("http://{closed}/announce");
    let tiers: &[&[&str]] = &[&[&hanging.url()], &[&refusing], &["wss://x"], &[&alive.url()]];
    let (trackers, reports) = start(patient(), tiers);
    assert_eq!(within_seconds(|| until_answered(&reports)), alive.url());
    assert_eq!(event_of(&hanging.request()), "started");
    // The one that hangs was never heard, so it is owed no farewell.
    within_seconds(|| trackers.stop());
    assert!(hanging.requests.is_empty());
    no_thread_is_left(&reports);
}

#[test]
fn within_a_tier_the_next_one_is_tried() {
    let (first, second) = (hanging(), hanging());
    let alive = HttpTracker::answering("200 OK", GOOD);
    let limits = Limits { next_tracker: Duration::from_millis(20), ..patient() };
    let (trackers, reports) = start(limits, &[&[&first.url(), &second.url(), &alive.url()]]);
    assert_eq!(until_answered(&reports), alive.url());
    within_seconds(|| trackers.stop());
    assert_eq!(event_of(&alive.request()), "started");
    assert_eq!(event_of(&alive.request()), "stopped");
}

#[test]
fn a_tier_that_failed_is_tried_again() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let tracker = HttpTracker::start(move |_, stream| match count.fetch_add(1, SeqCst) {
        0 => reply(stream, "200 OK", b"d14:failure reason8:too busye"),
        1 => reply(stream, "200 OK", b"rubbish"),
        _ => reply(stream, "200 OK", GOOD),
    });
    let limits = Limits { retry_first: Duration::from_millis(10), ..patient() };
    let (trackers, reports) = start(limits, &[&[&tracker.url()]]);
    let mut failures = Vec::new();
    while let Ok(report) = reports.recv_timeout(PROMPT) {
        match report {
            Report::Failed { why, retry_in, .. } => failures.push((why, retry_in.is_some())),
            Report::Answered { .. } => break,
            _ => {}
        }
    }
    let whys: Vec<_> = failures.iter().map(|(why, again)| (&why[..20], *again)).collect();
    assert_eq!(whys, [("the tracker refuses:", true), ("the answer is not be", true)]);
    drop(trackers);
}

#[test]
fn stop_says_goodbye_to_all_at_once_and_waits_for_none() {
    // Two that answer `started` and never again, and one that is well.
    let moody = || {
        HttpTracker::start(|head, stream| match event_of(head).as_str() {
            "started" => reply(stream, "200 OK", GOOD),
            _ => until_closed(stream),
        })
    };
    let (one, two, well) = (moody(), moody(), HttpTracker::answering("200 OK", GOOD));
    let limits = Limits { farewell: Duration::from_millis(900), ..patient() };
    let (trackers, reports) = start(limits, &[&[&one.url()], &[&two.url()], &[&well.url()]]);
    (0..3).for_each(|_| drop(until_answered(&reports)));
    let start = Instant::now();
    within_seconds(|| trackers.stop());
    assert!(limits.farewell <= start.elapsed());
    for tracker in [&one, &two, &well] {
        assert_eq!(event_of(&tracker.request()), "started");
        assert_eq!(event_of(&tracker.request()), "stopped");
    }
    no_thread_is_left(&reports);
}

#[test]
fn stop_before_any_answer_returns_at_once() {
    let (tcp, udp) = (hanging(), UdpTracker::start(Ipv4Addr::LOCALHOST, |_, _| vec![]));
    let (trackers, reports) = start(patient(), &[&[&tcp.url()], &[&udp.url()]]);
    tcp.request();
    udp.packet();
    within_seconds(|| trackers.stop());
    no_thread_is_left(&reports);
}

#[test]
fn dropping_the_handle_ends_the_threads_without_a_word() {
    let (alive, silent) = (HttpTracker::answering("200 OK", GOOD), hanging());
    let (trackers, reports) = start(patient(), &[&[&alive.url()], &[&silent.url()]]);
    until_answered(&reports);
    drop(trackers);
    no_thread_is_left(&reports);
    assert_eq!(alive.requests.len(), 1);
}

#[test]
fn a_report_that_blocks_does_not_hold_stop() {
    let tracker = HttpTracker::answering("200 OK", GOOD);
    // Room for nothing, and nobody receives.
    let (sender, reports) = crossbeam_channel::bounded(0);
    let report = move |report| drop(sender.send(report));
    let limits = Limits { farewell: Duration::from_millis(50), ..patient() };
    let tiers = vec![vec![tracker.url()]];
    let trackers = Trackers::start_with(limits, tiers, me(), Arc::default(), report);
    (0..100).for_each(|_| trackers.more_peers());
    trackers.completed();
    within_seconds(|| trackers.stop());
    // The receiver goes, and with it the last reason to wait.
    drop(reports);
}

#[test]
fn no_trackers_at_all() {
    let (trackers, reports) = start(patient(), &[]);
    trackers.completed();
    trackers.more_peers();
    within_seconds(|| trackers.stop());
    no_thread_is_left(&reports);
    let (trackers, reports) = start(patient(), &[&["wss://x/announce"]]);
    let report = reports.recv_timeout(PROMPT).unwrap().to_string();
    assert_eq!(report, "tracker wss://x: not used: we do not speak wss");
    within_seconds(|| trackers.stop());
}
