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
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::{WEB_SEEDS_MAX, WebSeed, address};
use crate::proxy::Proxy;
use crate::swarm::FetchEnd;
use crate::web::{self, REDIRECTS_MAX};

/// How long a name look-up may take, and a dial with TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may take for its headers, and how long it may send nothing of the body.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A read of a fast server takes so much from the socket, as a chunk does of a peer's.
const INPUT_LEN: usize = 128 * 1024;

/// Requests are short.
const OUTPUT_LEN: usize = 16 * 1024;

/// The answer, and where it came from in the end.
pub type Answered = Result<(Response<Body>, Uri), FetchEnd>;

/// A client that keeps its connections, one for all web seeds.
pub fn agent(proxy: Option<&Proxy>) -> Agent {
    web::config(proxy)
        .accept_encoding("identity")
        .max_idle_connections(WEB_SEEDS_MAX)
        .input_buffer_size(INPUT_LEN)
        .output_buffer_size(OUTPUT_LEN)
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(ANSWER_TIMEOUT))
        .timeout_per_read(Some(ANSWER_TIMEOUT))
        .build()
        .new_agent()
}

/// Asks for a range, first at the address to which this file's last request was redirected, if any.
/// `None`: there is no thread for it.
pub fn ask(
    seed: &WebSeed,
    uri: Uri,
    last: Option<Uri>,
    range: Range<u64>,
) -> Option<Receiver<Answered>> {
    let (answer, answered) = bounded(1);
    let (agent, through) = (seed.agent.clone(), seed.through);
    let body = move || {
        let again = last.and_then(|uri| get(&agent, through, uri, &range).ok());
        let found = again.filter(|(response, _)| response.status().is_success());
        let found = found.map_or_else(|| get(&agent, through, uri, &range), Ok);
        // Nobody waits for it any more: then it is closed.
        let _ = answer.send(found);
    };
    Builder::new().name("web seed call".to_owned()).spawn(body).ok()?;
    Some(answered)
}

fn get(agent: &Agent, through: bool, mut uri: Uri, range: &Range<u64>) -> Answered {
    let useless = |why| FetchEnd::Useless { why };
    address::check(&uri, through).map_err(useless)?;
    for _ in 0..=REDIRECTS_MAX {
        let bytes = format!("bytes={}-{}", range.start, range.end - 1);
        let mut request = agent.get(&uri).header("Range", bytes);
        if !through && uri.host().is_some_and(web::is_loopback) {
            // No proxy of the environment can reach our own machine.
            request = request.config().proxy(None).build();
        }
        let response = request.call().map_err(failed)?;
        let location =
            response.headers().get("location").filter(|_| response.status().is_redirection());
        match location.map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned()) {
            Some(to) => {
                let rule = if through { through_proxy } else { direct };
                uri = web::redirected(&uri, &to, rule, through).map_err(useless)?;
            }
            None => return Ok((response, uri)),
        }
    }
    Err(useless(format!("more than {REDIRECTS_MAX} redirects, the limit")))
}

fn direct(uri: &Uri) -> Result<(), String> {
    address::check(uri, false)
}

fn through_proxy(uri: &Uri) -> Result<(), String> {
    address::check(uri, true)
}

/// The network failed, or the server was too slow.
pub fn failed(error: ureq::Error) -> FetchEnd {
    let why = web::explain(error, CONNECT_TIMEOUT, ANSWER_TIMEOUT);
    FetchEnd::Failed { why, retry_in: None }
}
