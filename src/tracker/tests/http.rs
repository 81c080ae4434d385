//! HTTP trackers (T1 to T5 of the fault list).

use super::*;

/// The whole call may take this long; everything else is patient.
fn hasty() -> Limits {
    Limits { whole: Duration::from_millis(200), ..patient() }
}

#[track_caller]
fn fails_against(
    limits: Limits,
    script: impl Fn(&mut TcpStream) + Send + Sync + 'static,
    why: &str,
) {
    let tracker = HttpTracker::start(move |_, stream| script(stream));
    fails(within_seconds(|| ask(&tracker.url(), &limits)), why);
}

#[test]
fn an_announce_and_its_answer() {
    let tracker = HttpTracker::answering("200 OK", GOOD);
    let answer = ask(&format!("{}?passkey=1", tracker.url()), &patient()).unwrap();
    assert_eq!(answer.peers, the_peer());
    assert_eq!((answer.seeders, answer.leechers), (Some(1), Some(2)));
    let request = tracker.request();
    let hash = "%AB".repeat(20);
    let line =
        format!("GET /announce?passkey=1&info_hash={hash}&peer_id=-PM0100-abcdefghijkl&port=");
    assert!(request.starts_with(&line), "{request}");
    assert!(request.contains("&event=started HTTP/1.1\r\n"), "{request}");
    let agent = concat!("user-agent: piecemeal/", env!("CARGO_PKG_VERSION"), "\r\n");
    assert!(request.to_ascii_lowercase().contains(agent), "{request}");
}

#[test]
fn a_scrape() {
    let body = [b"d5:filesd20:".as_slice(), &[0xab; 20], b"d8:completei4eeee"].concat();
    let tracker = HttpTracker::answering("200 OK", body);
    let counts = scrape(&tracker.url(), Sha1([0xab; 20])).unwrap();
    assert_eq!(counts, Scrape { seeders: 4, leechers: 0, completed: 0 });
    assert!(tracker.request().starts_with("GET /scrape?info_hash=%AB"));
}

#[test]
fn nobody_listens() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/announce");
    fails(within_seconds(|| ask(&url, &patient())), "connection refused");
}

#[test]
fn it_hangs_anywhere() {
    // Before it accepts: the system's queue takes the connection.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    fails(within_seconds(|| ask(&url, &hasty())), "no whole answer within 200ms");
    let late = "no whole answer within 200ms";
    fails_against(hasty(), until_closed, late);
    let in_head = |stream: &mut TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-").unwrap();
        until_closed(stream);
    };
    fails_against(hasty(), in_head, late);
    let in_body = |stream: &mut TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nd8:int").unwrap();
        until_closed(stream);
    };
    fails_against(hasty(), in_body, late);
}

#[test]
fn it_drips() {
    let drip = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        // The pause between two bytes is a read that nothing comes of.
        while stream.read(&mut [0]).is_err() && stream.write_all(b"d").is_ok() {}
    };
    fails_against(hasty(), drip, "no whole answer within 200ms");
}

#[test]
fn it_closes_too_soon() {
    fails_against(patient(), |_| {}, "");
    let short = |stream: &mut TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nde").unwrap();
    };
    fails_against(patient(), short, "the connection ended in the middle of the answer");
}

#[test]
fn a_body_without_end_is_not_read_to_its_end() {
    let (sent, total) = unbounded();
    let flood = move |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        let mut count = 0;
        while count < 100_000_000 && stream.write_all(&[b'1'; 10_000]).is_ok() {
            count += 10_000;
        }
        let _ = sent.send(count);
    };
    fails_against(patient(), flood, "an answer of over 1048576 bytes, the limit");
    // Some megabytes fit into the buffers between the two.
    assert!(total.recv_timeout(PROMPT).unwrap() < 50_000_000);
}

#[test]
fn headers_without_end() {
    let flood = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X-More: and more and more and more\r\n").is_ok() {}
    };
    fails_against(Limits { whole: Duration::from_secs(2), ..patient() }, flood, "");
}

#[test]
fn statuses_and_bodies() {
    let check = |status: &'static str, body: &[u8], why: &str| {
        fails(ask(&HttpTracker::answering(status, body).url(), &patient()), why);
    };
    check("400 Bad Request", b"d14:failure reason7:go awaye", "the tracker refuses: go away");
    check("200 OK", b"d14:failure reason5:\x1b[2J!e", "refuses: \\u{1b}[2J!");
    check("403 Forbidden", b"<html>no</html>", "HTTP status 403");
    check("500 Oops", GOOD, "HTTP status 500");
    check("200 OK", b"<html>hello</html>", "not bencode");
    check("200 OK", b"\x1f\x8b\x08\0\0\0\0\0", "not bencode");
    check("200 OK", &[b'd'; 100_000], "not bencode");
    check("200 OK", b"", "an empty answer");
    check("304 Not Modified", b"", "HTTP status 304");
    fails_against(patient(), |s| s.write_all(b"rubbish\r\n\r\n").unwrap(), "");
    let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\nd\r\n";
    fails_against(patient(), |s| s.write_all(chunks).unwrap(), "");
}

#[test]
fn redirects_are_followed_up_to_a_limit() {
    let to = |location: String| {
        HttpTracker::start(move |_, stream| {
            let head =
                format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
        })
    };
    let good = HttpTracker::answering("200 OK", GOOD);
    let first = to(good.url());
    assert_eq!(ask(&first.url(), &patient()).unwrap().peers, the_peer());
    let in_circles = to("announce?again".to_owned());
    fails(ask(&in_circles.url(), &patient()), "more than 5 redirects, the limit");
    assert_eq!(in_circles.requests.len(), 6);
    fails(ask(&to("file:///etc/passwd".to_owned()).url(), &patient()), "no web address");
    fails(ask(&to("udp://127.0.0.1:9/announce".to_owned()).url(), &patient()), "only http");
    fails(ask(&to("/admin?delete".to_owned()).url(), &patient()), "must have a path");
}

/// What counts is where it leads, not how it is written.
#[test]
fn on_this_machine_only_pages_of_trackers_are_asked_for() {
    let tracker = HttpTracker::answering("200 OK", GOOD);
    let port = tracker.address.port();
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.0x1", "0177.0.0.1", "127.1"] {
        for page in ["admin/reboot?now=1", "", "?announce", "announce/admin"] {
            let url = format!("http://{host}:{port}/{page}");
            fails(ask(&url, &patient()), "must have a path that ends in /announce");
        }
        assert!(tracker.requests.is_empty(), "{host} was asked");
        let url = format!("http://{host}:{port}/key/announce.php?key=1");
        assert_eq!(ask(&url, &patient()).unwrap().peers, the_peer());
        tracker.request();
    }
}

#[test]
fn a_call_can_be_abandoned() {
    let tracker = HttpTracker::start(|_, stream| until_closed(stream));
    let result = within_seconds(|| abandon(&tracker.url(), &tracker.requests));
    assert_eq!(result, Err(Error::Abandoned));
}
