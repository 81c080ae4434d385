//! `--json`: what happens, as one JSON object a line, each written out at once.
//!
//! Layer: programs.
#![doc = include_str!("json.md")]

use anyhow::Result;

use super::Exit;
use super::fetch;
use super::output::Output;
use crate::json::{self, Object};
use crate::printable::printable_bytes;
use crate::session::{Summary, Update};
use crate::swarm::{Account, Decision, Row, Snapshot, Status, WebSeedRow};
use crate::tracker::Report;

fn event(name: &str) -> Object {
    Object::new().str("event", name)
}

/// Writes an object to standard output, now.
pub fn print(object: Object) -> Result<()> {
    Output::new().line_now(object.done())
}

/// An error that ends the run. It is on standard error as well.
pub fn error(message: &str, exit: Exit) -> Object {
    event("error").str("message", message).num("exit_code", exit as u8)
}

/// The command of `--on-complete` has ended; `None`: by a signal.
pub fn on_complete(code: Option<i32>) -> Object {
    event("on_complete").num_or_null("exit_code", code)
}

/// Something that happened in a session.
pub fn of(update: &Update) -> Object {
    match update {
        Update::Status(now) => status("progress", now),
        Update::Complete(now) => status("complete", now),
        Update::Checking { done, total } => {
            event("checking").num("done", *done).num("total", *total)
        }
        Update::Searching(search) => event("searching")
            .num("have", search.have)
            .num("pieces", search.pieces)
            .num("peers", search.connected as u64)
            .num("known", search.known as u64)
            .str("message", &search.to_string()),
        Update::Metadata(torrent) => fetch::json(torrent),
        Update::Found(found) => event("found")
            .num("have", found.have)
            .num("pieces", found.pieces)
            .num("different", found.different)
            .bool("resumed", found.resumed),
        Update::Listening { port, peer_id } => {
            event("listening").num("port", *port).str("peer_id", &printable_bytes(&peer_id.0))
        }
        Update::Tracker(report) => tracker(report),
        Update::Dht(report) => event("dht").str("message", &report.to_string()),
        Update::PortMap(report) => event("port_map").str("message", &report.to_string()),
        Update::Stored { piece: index } => piece(*index, None),
        Update::Decided(decision) => decided(decision),
        Update::Look(snapshot) => peers(snapshot),
    }
}

/// The peers, as SIGUSR1 asks for them.
pub fn peers(snapshot: &Snapshot) -> Object {
    let row = |row: &Row| {
        Object::new()
            .str("addr", &row.addr.to_string())
            .str("client", &row.client)
            .str("flags", &row.flags)
            .num("download_rate", row.down as u64)
            .num("upload_rate", row.up as u64)
            .num("received", row.received)
            .num("sent", row.sent)
            .raw("share", &format!("{:.3}", row.share))
            .done()
    };
    let web_seed = |row: &WebSeedRow| {
        Object::new()
            .str("url", &row.place)
            .str("state", row.state)
            .num("download_rate", row.down as u64)
            .num("received", row.received)
            .raw("share", &format!("{:.3}", row.share))
            .str_or_null("message", row.trouble.as_deref())
            .done()
    };
    event("peers")
        .raw("list", &json::array(snapshot.peers.iter().map(row)))
        .raw("web_seeds", &json::array(snapshot.web_seeds.iter().map(web_seed)))
}

/// The end of a session; `place` is where the data is kept, if it is.
pub fn end(name: &str, place: Option<&str>, summary: &Summary) -> Object {
    let seconds = format!("{:.3}", summary.time.as_secs_f64());
    status(name, &summary.status)
        .str_or_null("path", place)
        .raw("seconds", &seconds)
        .raw("peers_used", &json::array(summary.accounts.iter().map(account)))
        .raw("web_seeds_used", &json::array(summary.web_seeds.iter().map(web_seed)))
}

fn web_seed((url, received): &(String, u64)) -> String {
    Object::new().str("url", url).num("received", *received).done()
}

fn status(name: &str, status: &Status) -> Object {
    let stuck = status.stuck.as_ref().map(ToString::to_string);
    event(name)
        .num("done_bytes", status.done_bytes)
        .num("total_bytes", status.total_bytes)
        .num("have", status.have)
        .num("pieces", status.pieces)
        .num("download_rate", status.download_rate as u64)
        .num("upload_rate", status.upload_rate as u64)
        .num("downloaded", status.downloaded)
        .num("uploaded", status.uploaded)
        .num("wasted", status.wasted)
        .num("corrupt", status.corrupt)
        .num("peers", status.connected as u64)
        .num("known", status.known as u64)
        .num("web_seeds", status.web_seeds as u64)
        .num("web_seed_bytes", status.web_seed_bytes)
        .num_or_null("eta", status.eta.map(|eta| eta.as_secs()))
        .str_or_null("stuck", stuck.as_deref())
}

/// `senders`: how many peers sent a piece that does not match its hash.
fn piece(index: u32, senders: Option<usize>) -> Object {
    let senders = senders.map(|n| n as u64);
    event("piece").num("piece", index).bool("ok", senders.is_none()).num_or_null("senders", senders)
}

fn tracker(report: &Report) -> Object {
    let object = |state, url: &str| event("tracker").str("state", state).str("url", url);
    let object = match report {
        Report::Asking { url, .. } => object("asking", url),
        Report::Answered { url, peers, seeders, leechers, interval, .. } => object("answered", url)
            .num("peers", peers.len() as u64)
            .num_or_null("seeders", *seeders)
            .num_or_null("leechers", *leechers)
            .num("interval", interval.as_secs()),
        Report::Failed { url, .. } => object("failed", url),
        Report::Ignored { url, .. } => object("ignored", url),
    };
    object.str("message", &report.to_string())
}

fn decided(decision: &Decision) -> Object {
    let peer = |state, addr: &std::net::SocketAddr| {
        event("peer").str("state", state).str("addr", &addr.to_string())
    };
    let object = match decision {
        Decision::Corrupt { piece: index, senders } => piece(*index, Some(*senders)),
        Decision::Welcome { addr, client, incoming, .. } => {
            peer("connected", addr).str("client", client).bool("incoming", *incoming)
        }
        Decision::Drop { addr, .. } => peer("left", addr),
        Decision::Ban { addr, .. } => peer("banned", addr),
        Decision::WebSeed { place, sequel, .. } => {
            event("web_seed").str("state", sequel.state()).str("url", place)
        }
        _ => event("decision"),
    };
    object.str("message", &decision.to_string())
}

fn account(account: &Account) -> String {
    Object::new()
        .str("addr", &account.addr.to_string())
        .bool("incoming", account.incoming)
        .str("client", &account.client)
        .str("peer_id", &printable_bytes(&account.id.0))
        .num("received", account.received)
        .num("sent", account.sent)
        .done()
}
