//! The HTTP client: asks for a page, follows redirects, and connects only where it may.
//!
//! ```text
//! URL ──► name look-up ──► addresses outside of this network ──► connect, GET ──► answer
//!                     └──► addresses inside it, if `Rules` let this URL in there, and no server
//!                          outside has sent us here
//! ```
//!
//! What a name means is known only when it is looked up, and it may mean something else the next
//! time. So it is not looked up to be judged and then once more to connect: each of two agents has a
//! resolver of its own ([`Lookup`]) that gives it addresses of its side only, whatever the URL says
//! and however an address is written in it. The first agent to find any decides on which side the
//! server is.
//!
//! Behind a proxy names are looked up there, and inside is what the URL itself says.
//!
//! Layer: hands. Runs on the caller's thread. The agents keep connections, if they are told to.

use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;

use ureq::config::{Config, ConfigBuilder};
use ureq::http::{Response, Uri};
use ureq::typestate::{AgentScope, WithoutBody};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Agent, Body, Proxy, RequestBuilder};

use super::transport::Way;
use super::{REDIRECTS_MAX, bare, check, is_loopback, redirected};
use crate::dial::Dialler;
use crate::percent;
use crate::printable::clipped;
use crate::reach::{Reach, reach};

/// Which half of the world an address is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Outside,
    /// On this machine or in a private network.
    Inside,
}

impl Side {
    fn of(ip: IpAddr) -> Side {
        if reach(ip) == Reach::Everywhere { Side::Outside } else { Side::Inside }
    }
}

/// What may be asked for inside this network, beside the rules for any address.
pub type Rule = fn(&Uri) -> Result<(), String>;

/// What else there is to say about a request: headers, times.
pub type Prepare<'a> = &'a dyn Fn(RequestBuilder<WithoutBody>) -> RequestBuilder<WithoutBody>;

/// An answer, and where it came from in the end.
pub struct Found {
    pub response: Response<Body>,
    pub uri: Uri,
    pub side: Side,
}

/// Why there is none.
#[derive(Debug)]
pub enum Failure {
    /// It must not be asked for, or leads nowhere.
    Forbidden(String),
    /// The network failed, or the server was too slow.
    Call(ureq::Error),
}

/// Clones share their connections.
#[derive(Clone)]
pub struct Client {
    /// How its connections go out, and what else is of the same call.
    pub dialler: Dialler,
    outside: Agent,
    inside: Agent,
}

impl Client {
    pub fn new(config: ConfigBuilder<AgentScope>, dialler: &Dialler) -> Client {
        Client::judging(config, dialler.clone(), Side::of)
    }

    /// With another idea of what is inside.
    fn judging(
        config: ConfigBuilder<AgentScope>,
        dialler: Dialler,
        side_of: fn(IpAddr) -> Side,
    ) -> Client {
        let config = config.build();
        let agent = |side| {
            let lookup = Lookup { side, side_of, system: DefaultResolver::default() };
            let way = Way { dialler: dialler.clone(), ..Way::default() };
            Agent::with_parts(config.clone(), way, lookup)
        };
        let (outside, inside) = (agent(Side::Outside), agent(Side::Inside));
        Client { dialler, outside, inside }
    }

    /// Interrupts what is being done, wherever that is possible, and ends all of it.
    pub fn shutdown(&self) {
        self.outside.clone().shutdown();
        self.inside.clone().shutdown();
    }

    /// Asks for a page. Whoever comes `from` outside does not get inside.
    pub fn get(
        &self,
        mut uri: Uri,
        mut from: Option<Side>,
        rule: Rule,
        prepare: Prepare,
    ) -> Result<Found, Failure> {
        check(&uri).map_err(Failure::Forbidden)?;
        let mut redirect: Option<String> = None;
        for _ in 0..=REDIRECTS_MAX {
            let asked = self.ask(&uri, from, rule, prepare);
            let (response, side) = asked.map_err(|failure| match (failure, &redirect) {
                (Failure::Forbidden(why), Some(to)) => Failure::Forbidden(not_to(to, &why)),
                (failure, _) => failure,
            })?;
            let location = response.headers().get("location");
            let Some(to) = location.filter(|_| response.status().is_redirection()) else {
                return Ok(Found { response, uri, side });
            };
            let to = String::from_utf8_lossy(to.as_bytes()).into_owned();
            uri = redirected(&uri, &to).map_err(|why| Failure::Forbidden(not_to(&to, &why)))?;
            (from, redirect) = (Some(side), Some(to));
        }
        Err(Failure::Forbidden(format!("more than {REDIRECTS_MAX} redirects, the limit")))
    }

    /// One request, and on which side it was answered.
    fn ask(
        &self,
        uri: &Uri,
        from: Option<Side>,
        rule: Rule,
        prepare: Prepare,
    ) -> Result<(Response<Body>, Side), Failure> {
        let may_go_inside = || match from {
            Some(Side::Outside) => Err("not from outside to the inside of this network".to_owned()),
            _ => rule(uri),
        };
        let (proxy, login) = (self.proxy(uri), login(uri));
        let send = |agent: &Agent| {
            let request = prepare(agent.get(uri));
            let request = match &login {
                Some(login) => request.header("Authorization", login),
                None => request,
            };
            request.config().proxy(proxy.cloned()).build().call()
        };
        if proxy.is_some_and(|proxy| !proxy.resolve_target()) {
            let side = written_side(uri).map_err(Failure::Forbidden)?;
            if side == Side::Inside {
                may_go_inside().map_err(Failure::Forbidden)?;
            }
            return send(&self.outside).map(|answer| (answer, side)).map_err(Failure::Call);
        }
        let error = match send(&self.outside) {
            Ok(answer) => return Ok((answer, Side::Outside)),
            Err(error) => error,
        };
        // A name may have addresses on both sides: of those outside nobody answered.
        let nobody_outside = is_other_side(&error);
        if !nobody_outside && !is_no_connection(&error) {
            return Err(Failure::Call(error));
        }
        match may_go_inside() {
            Err(why) if nobody_outside => Err(Failure::Forbidden(why)),
            Err(_) => Err(Failure::Call(error)),
            Ok(()) => match send(&self.inside) {
                Ok(answer) => Ok((answer, Side::Inside)),
                Err(other) if is_other_side(&other) => Err(Failure::Call(error)),
                Err(other) => Err(Failure::Call(other)),
            },
        }
    }

    /// Through which proxy a request goes.
    fn proxy(&self, uri: &Uri) -> Option<&Proxy> {
        // No proxy of the environment can reach our own machine.
        let reaches = |proxy: &&Proxy| !proxy.is_from_env() || !uri.host().is_some_and(is_loopback);
        let config: &Config = self.outside.config();
        config.proxy().filter(reaches).filter(|proxy| !proxy.is_no_proxy(uri))
    }
}

/// The name and password of a URL, as a server wants them (RFC 7617): what is escaped there is not here.
fn login(uri: &Uri) -> Option<String> {
    let (login, _) = uri.authority()?.as_str().rsplit_once('@')?;
    let (name, password) = login.split_once(':').unwrap_or((login, ""));
    let login = [&percent::decode(name)[..], b":", &percent::decode(password)].concat();
    Some(format!("Basic {}", base64(&login)))
}

/// Three bytes in four letters (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |at: usize| usize::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for letter in 0..4 {
            let six = bits >> (18 - 6 * letter) & 63;
            text.push(if three.len() < letter { '=' } else { char::from(LETTERS[six]) });
        }
    }
    text
}

fn not_to(location: &str, why: &str) -> String {
    format!("redirected to {}: {why}", clipped(location, 80))
}

/// On which side a host is, as far as it is written in the URL. A name is for the proxy to look up,
/// but what some take for an address must not pass for a name.
fn written_side(uri: &Uri) -> Result<Side, String> {
    let host = bare(uri.host().unwrap_or_default());
    if let Ok(ip) = host.parse() {
        return Ok(Side::of(ip));
    }
    // As `127.1`, `2130706433` and `0x7f.0.0.1`, all of them 127.0.0.1: no name ends like that.
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    if last.bytes().all(|c| c.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|c| c.is_ascii_hexdigit()))
    {
        return Err("its host is neither a name nor an IP address".to_owned());
    }
    Ok(if is_loopback(host) { Side::Inside } else { Side::Outside })
}

/// Gives addresses of one side only.
#[derive(Debug)]
struct Lookup {
    side: Side,
    side_of: fn(IpAddr) -> Side,
    system: DefaultResolver,
}

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.system.resolve(uri, config, timeout)?;
        // Where a proxy is, is for the user to say.
        if config.proxy().is_some_and(|proxy| proxy.uri() == uri) {
            return Ok(found);
        }
        let mut ours = self.empty();
        let on_our_side = found.iter().filter(|addr| (self.side_of)(addr.ip()) == self.side);
        on_our_side.for_each(|addr| ours.push(*addr));
        if ours.is_empty() { Err(ureq::Error::Other(Box::new(OtherSide))) } else { Ok(ours) }
    }
}

/// All addresses are on the other side.
#[derive(Debug)]
struct OtherSide;

impl fmt::Display for OtherSide {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("no address for its name on this side")
    }
}

impl std::error::Error for OtherSide {}

fn is_other_side(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Other(inner) if inner.is::<OtherSide>())
}

fn is_no_connection(error: &ureq::Error) -> bool {
    use ErrorKind::*;
    let unreachable =
        [ConnectionRefused, HostUnreachable, NetworkUnreachable, AddrNotAvailable, TimedOut];
    match error {
        ureq::Error::Io(error) => unreachable.contains(&error.kind()),
        ureq::Error::ConnectionFailed | ureq::Error::Timeout(ureq::Timeout::Connect) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::thread::JoinHandle;

    use super::*;

    /// All of 127.9.x.y, and ::1, is outside.
    fn client() -> Client {
        Client::judging(crate::web::config(None).proxy(None), Dialler::default(), |ip| match ip {
            IpAddr::V4(ip) if ip.octets()[1] != 9 => Side::Inside,
            _ => Side::Outside,
        })
    }

    /// Gives everybody the same answer, until it is dropped.
    struct Server {
        addr: SocketAddr,
        asked: Arc<AtomicBool>,
        stop: Arc<AtomicBool>,
        thread: Option<JoinHandle<()>>,
    }

    impl Server {
        fn start(ip: &str, status: &str, location: &str) -> Server {
            let listener = TcpListener::bind((ip, 0)).unwrap();
            let addr = listener.local_addr().unwrap();
            let head = format!(
                "HTTP/1.1 {status}\r\nLocation: {location}\r\nConnection: close\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            let (asked, stop) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
            let (ours, stopped) = (asked.clone(), stop.clone());
            let serve = move || {
                while let (Ok((stream, _)), false) = (listener.accept(), stopped.load(SeqCst)) {
                    ours.store(true, SeqCst);
                    let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                    lines.take_while(|line| !line.is_empty()).for_each(drop);
                    let _ = (&stream).write_all(head.as_bytes());
                }
            };
            Server { addr, asked, stop, thread: Some(std::thread::spawn(serve)) }
        }

        fn good(ip: &str) -> Server {
            Server::start(ip, "200 OK", "")
        }

        fn sends_to(ip: &str, location: &str) -> Server {
            Server::start(ip, "302 Found", location)
        }

        fn url(&self, page: &str) -> String {
            format!("http://{}/{page}", self.addr)
        }

        fn was_asked(&self) -> bool {
            self.asked.swap(false, SeqCst)
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.stop.store(true, SeqCst);
            let _ = TcpStream::connect(self.addr);
            let _ = self.thread.take().unwrap().join();
        }
    }

    fn rule(uri: &Uri) -> Result<(), String> {
        if uri.path() == "/good" { Ok(()) } else { Err("against the rule".to_owned()) }
    }

    fn get(url: &str, from: Option<Side>) -> Result<(u16, Side), String> {
        match client().get(url.parse().unwrap(), from, rule, &|request| request) {
            Ok(found) => Ok((found.response.status().as_u16(), found.side)),
            Err(Failure::Forbidden(why)) => Err(why),
            Err(Failure::Call(error)) => Err(format!("call: {error}")),
        }
    }

    #[track_caller]
    fn refused(result: Result<(u16, Side), String>, why: &str) {
        let error = result.expect_err(why);
        assert!(error.contains(why), "{error:?} should say {why:?}");
    }

    const IN: &str = "127.0.0.1";
    const OUT: &str = "127.9.0.1";

    #[test]
    fn inside_only_what_the_rule_lets_in() {
        let (inside, outside) = (Server::good(IN), Server::good(OUT));
        let port = inside.addr.port();
        assert_eq!(get(&inside.url("good"), None), Ok((200, Side::Inside)));
        assert_eq!(get(&outside.url("bad"), None), Ok((200, Side::Outside)));
        assert!(inside.was_asked() && outside.was_asked());
        refused(get(&inside.url("bad"), None), "against the rule");
        refused(get(&format!("http://localhost:{port}/bad"), None), "against the rule");
        refused(get(&format!("http://2130706433:{port}/bad"), None), "against the rule");
        refused(get(&inside.url("good"), Some(Side::Outside)), "not from outside to the inside");
        assert!(!inside.was_asked());
        assert_eq!(get(&inside.url("good"), Some(Side::Inside)), Ok((200, Side::Inside)));
    }

    #[test]
    fn nobody_outside_sends_us_inside() {
        let (inside, outside) = (Server::good(IN), Server::good(OUT));
        let to = inside.url("good");
        let sender = Server::sends_to(OUT, &to);
        let why = format!("redirected to {to}: not from outside to the inside");
        refused(get(&sender.url("x"), None), &why);
        // Nor on a way that began inside.
        let before = Server::sends_to(IN, &sender.url("x"));
        refused(get(&before.url("good"), None), &why);
        assert!(before.was_asked() && sender.was_asked());
        // The same host is not the same server.
        let neighbour = Server::sends_to(IN, &inside.url("bad"));
        refused(get(&neighbour.url("good"), None), "against the rule");
        assert!(!inside.was_asked());
        let neighbour = Server::sends_to(IN, &to);
        assert_eq!(get(&neighbour.url("good"), None), Ok((200, Side::Inside)));
        let sender = Server::sends_to(OUT, &outside.url("bad"));
        assert_eq!(get(&sender.url("x"), None), Ok((200, Side::Outside)));
    }

    /// `localhost` is ::1 too, on most machines, and nobody listens there.
    #[test]
    fn a_host_with_addresses_on_both_sides_is_found_where_it_is() {
        let inside = Server::good(IN);
        let url = |page| format!("http://localhost:{}/{page}", inside.addr.port());
        assert!(get(&url("bad"), None).is_err() && !inside.was_asked());
        assert_eq!(get(&url("good"), None), Ok((200, Side::Inside)));
    }

    #[test]
    fn a_login_is_sent_as_it_is_meant() {
        let login = |url: &str| login(&url.parse().unwrap());
        assert_eq!(login("http://h.example/a@b"), None);
        // RFC 7617's own, RFC 4648's own endings, and what must be escaped in a URL.
        let aladdin = login("http://Aladdin:open%20sesame@h.example/");
        assert_eq!(aladdin.as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!([&b"f"[..], b"fo", b"foo"].map(base64), ["Zg==", "Zm8=", "Zm9v"]);
        let odd = login("http://u%40x:p%3a%2F@h.example/");
        assert_eq!(odd, Some(format!("Basic {}", base64(b"u@x:p:/"))));
    }

    #[test]
    fn what_is_written_is_all_there_is_to_judge_by_behind_a_proxy() {
        for (host, expected) in [
            ("10.0.0.1", Some(Side::Inside)),
            ("[::ffff:127.0.0.1]", Some(Side::Inside)),
            ("LocalHost.", Some(Side::Inside)),
            ("a.localhost", Some(Side::Inside)),
            ("192.0.2.1", Some(Side::Outside)),
            ("3dprinter.example", Some(Side::Outside)),
            ("2130706433", None),
            ("127.1", None),
            ("127.0.0.1.", None),
            ("0x7f.7.0X701", None),
            ("0177.7.7.1", None),
        ] {
            let uri = format!("http://{host}/announce").parse().unwrap();
            assert_eq!(written_side(&uri).ok(), expected, "{host}");
        }
    }
}
