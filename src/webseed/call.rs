//! One request for a range of a file, redirects followed.
//!
//! A name look-up cannot be interrupted, and neither can a dial. So each request is made on a thread
//! of its own that holds nothing and may be left behind, as with trackers; what it got is handed
//! over as soon as the headers are there, and the body is read by the web seed's own thread.
//!
//! Layer: hands.

use std::ops::Range;
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use ureq::RequestBuilder;
use ureq::http::Uri;
use ureq::typestate::WithoutBody;

use super::{WEB_SEEDS_MAX, WebSeed, address};
use crate::dial::Dialler;
use crate::swarm::FetchEnd;
use crate::web;
use crate::web::client::{Client, Failure, Found, Side};

/// How long a name look-up may take, and a dial with TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may take for its headers, and how long it may send nothing of the body.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A read of a fast server takes so much from the socket, as a chunk does of a peer's.
const INPUT_LEN: usize = 128 * 1024;

/// Requests are short.
const OUTPUT_LEN: usize = 16 * 1024;

/// The answer, and where it came from in the end.
pub type Answered = Result<Found, Failure>;

/// A client that keeps its connections, one for all web seeds.
pub fn client(dialler: &Dialler) -> Client {
    let config = web::config(dialler.proxy.as_ref())
        .accept_encoding("identity")
        .max_idle_connections(WEB_SEEDS_MAX)
        .input_buffer_size(INPUT_LEN)
        .output_buffer_size(OUTPUT_LEN)
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(ANSWER_TIMEOUT))
        .timeout_per_read(Some(ANSWER_TIMEOUT));
    Client::new(config, dialler)
}

/// Asks for a range, first at the address to which this file's last request was redirected, if any.
/// `None`: there is no thread for it.
pub fn ask(
    seed: &WebSeed,
    uri: Uri,
    last: Option<(Uri, Side)>,
    range: Range<u64>,
) -> Option<Receiver<Answered>> {
    let (answer, answered) = bounded(1);
    let client = seed.client.clone();
    let body = move || {
        // Who was sent there from outside may not find it inside.
        let again = last.and_then(|(uri, side)| get(&client, uri, Some(side), &range).ok());
        let found = again.filter(|found| found.response.status().is_success());
        let found = found.map_or_else(|| get(&client, uri, None, &range), Ok);
        // Nobody waits for it any more: then it is closed.
        let _ = answer.send(found);
    };
    Builder::new().name("web seed call".to_owned()).spawn(body).ok()?;
    Some(answered)
}

fn get(client: &Client, uri: Uri, from: Option<Side>, range: &Range<u64>) -> Answered {
    let bytes = format!("bytes={}-{}", range.start, range.end - 1);
    let part = |request: RequestBuilder<WithoutBody>| request.header("Range", &bytes);
    client.get(uri, from, address::check_inside, &part)
}

/// The network failed, or the server was too slow.
pub fn failed(error: ureq::Error) -> FetchEnd {
    let why = web::explain(error, CONNECT_TIMEOUT, ANSWER_TIMEOUT);
    FetchEnd::Failed { why, retry_in: None }
}
