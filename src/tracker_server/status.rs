//! What the tracker says about itself: a page for people at `/`, JSON for programs at `/stats`.
//!
//! The JSON is one object, and its fields stay:
//!
//! ```text
//! version               of piecemeal                uptime        in seconds
//! open                  serves all torrents         interval      that clients are told, seconds
//! torrents              known at the moment         peers         known, of which
//! seeders, leechers     by what they have           ipv4, ipv6    by their addresses
//! http, udp             { announces, scrapes } since the start
//! refused               announces and scrapes that got a reason instead
//! served                [{ info_hash, name, seeders, leechers, completed }]; of an open tracker
//!                       empty: who shares what is told only to those who know the info hash
//! ```
//!
//! Layer: hands, but pure: numbers in, text out.

use std::fmt::Write;
use std::time::Duration;

use super::keeper::Via;
use crate::hash::Sha1;
use crate::json::{self, Object};
use crate::printable::printable;
use crate::registry::{Counts, Totals};

/// The torrents that the page lists. The JSON has them all.
const ROWS_MAX: usize = 1000;

/// What was asked since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    http: Asked,
    udp: Asked,
    pub refused: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    announces: u64,
    scrapes: u64,
}

impl Tally {
    pub fn announce(&mut self, via: Via) {
        self.of(via).announces += 1;
    }

    pub fn scrape(&mut self, via: Via) {
        self.of(via).scrapes += 1;
    }

    fn of(&mut self, via: Via) -> &mut Asked {
        match via {
            Via::Http => &mut self.http,
            Via::Udp => &mut self.udp,
        }
    }
}

#[derive(Debug)]
pub struct Stats {
    pub uptime: Duration,
    pub open: bool,
    pub totals: Totals,
    pub interval: u32,
    pub tally: Tally,
    /// The torrents that were given, with their names.
    pub torrents: Vec<(Sha1, Option<String>, Counts)>,
}

impl Stats {
    pub fn json(&self) -> String {
        let Totals { swarms, peers, seeds, leechers, ipv4, ipv6 } = self.totals;
        let asked = |asked: Asked| {
            Object::new().num("announces", asked.announces).num("scrapes", asked.scrapes).done()
        };
        let served = self.torrents.iter().map(|(info_hash, name, counts)| {
            Object::new()
                .str("info_hash", &info_hash.to_string())
                .str_or_null("name", name.as_deref())
                .num("seeders", counts.seeds)
                .num("leechers", counts.leechers)
                .num("completed", counts.completed)
                .done()
        });
        Object::new()
            .str("version", env!("CARGO_PKG_VERSION"))
            .num("uptime", self.uptime.as_secs())
            .bool("open", self.open)
            .num("interval", self.interval)
            .num("torrents", swarms as u64)
            .num("peers", peers as u64)
            .num("seeders", seeds as u64)
            .num("leechers", leechers as u64)
            .num("ipv4", ipv4 as u64)
            .num("ipv6", ipv6 as u64)
            .raw("http", &asked(self.tally.http))
            .raw("udp", &asked(self.tally.udp))
            .num("refused", self.tally.refused)
            .raw("served", &json::array(served))
            .done()
    }

    /// `host` is what the browser called us: with it, the page can say which URLs to announce to.
    pub fn html(&self, host: Option<&str>) -> String {
        let Totals { swarms, peers, seeds, leechers, ipv4, ipv6 } = self.totals;
        let Tally { http, udp, refused } = self.tally;
        let mut page = HEAD.to_owned();
        let _ = write!(
            page,
            "<h1>piecemeal tracker</h1>\n<p>{}, up for {}.</p>\n",
            if self.open { "Open to all torrents" } else { "Serves the torrents below" },
            duration(self.uptime)
        );
        if let Some(host) = host.map(escaped) {
            let _ = writeln!(
                page,
                "<p>Announce to <code>http://{host}/announce</code> or \
                 <code>udp://{host}/announce</code>.</p>"
            );
        }
        page.push_str("<table>\n<tr><th>torrents</th><th>seeders</th><th>leechers</th></tr>\n");
        let _ = write!(
            page,
            "<tr><td>{swarms}</td><td>{seeds}</td><td>{leechers}</td></tr>\n</table>\n\
             <p>{peers} peers: {ipv4} over IPv4, {ipv6} over IPv6. Since the start: {} announces over \
             HTTP and {} over UDP, {} scrapes, {refused} refused.\nClients come again every \
             {} s.</p>\n",
            http.announces,
            udp.announces,
            http.scrapes + udp.scrapes,
            self.interval
        );
        self.rows(&mut page);
        page.push_str("<p><a href=\"/stats\">The same as JSON</a></p>\n</html>\n");
        page
    }

    fn rows(&self, page: &mut String) {
        if self.torrents.is_empty() {
            return;
        }
        page.push_str(
            "<table>\n<tr><th>torrent</th><th>seeders</th><th>leechers</th><th>completed</th></tr>\n",
        );
        for (info_hash, name, counts) in self.torrents.iter().take(ROWS_MAX) {
            let Counts { seeds, leechers, completed } = counts;
            let name = name.as_deref().map(|name| escaped(name) + "<br>").unwrap_or_default();
            let _ = writeln!(
                page,
                "<tr><td>{name}<code>{info_hash}</code></td><td>{seeds}</td><td>{leechers}</td>\
                 <td>{completed}</td></tr>"
            );
        }
        page.push_str("</table>\n");
    }
}

/// Light or dark as the browser is; no script, nothing from elsewhere.
const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<meta name=\"color-scheme\" content=\"light dark\">
<title>piecemeal tracker</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { border-bottom: 1px solid; padding: .25rem 1.5rem .25rem 0; text-align: left }
code { overflow-wrap: anywhere }
</style>
";

/// Text as HTML: torrents are named by strangers, and so are hosts.
fn escaped(text: &str) -> String {
    let text = printable(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// As people say it: `17 s`, `3 min`, `5 h 10 min`, `2 d 4 h`.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_is_escaped() {
        let torrents = vec![(Sha1([1; 20]), Some("<script>\"\x1b&".to_owned()), Counts::default())];
        let (totals, tally) = Default::default();
        let uptime = Duration::from_secs(7_500);
        let stats = Stats { uptime, open: false, totals, interval: 120, tally, torrents };
        let page = stats.html(Some("<b>"));
        assert!(page.contains("&lt;script&gt;&quot;\\u{1b}&amp;") && page.contains("2 h 5 min"));
        assert!(page.contains("http://&lt;b&gt;/announce") && !page.contains("<script"));
        let json = stats.json();
        assert!(json.contains(r#""served":[{"info_hash":"0101"#), "{json}");
    }
}
