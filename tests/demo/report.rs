//! Who got what from whom, from what `--json` says at the end of a run.

use std::collections::BTreeMap;

/// What one member of the swarm says of itself and the others.
pub struct Account {
    peer_id: String,
    /// By peer id: bytes received, bytes sent.
    with: BTreeMap<String, (u64, u64)>,
}

impl Account {
    /// From the lines of `--json`: the peer id is in the one that says `listening`, the rest in the
    /// last one.
    pub fn of(lines: &str) -> Option<Account> {
        let listening = lines.lines().find(|line| line.contains(r#""event":"listening""#))?;
        let (_, peers) = lines.lines().last()?.split_once(r#""peers_used":["#)?;
        let peers = peers.split('{').skip(1);
        let one = |peer: &str| {
            let bytes = |key| field(peer, key)?.parse::<u64>().ok();
            let id = field(peer, "peer_id")?.to_owned();
            Some((id, (bytes("received")?, bytes("sent")?)))
        };
        let with = peers.map(one).collect::<Option<_>>()?;
        Some(Account { peer_id: field(listening, "peer_id")?.to_owned(), with })
    }

    pub fn sent(&self) -> u64 {
        self.with.values().map(|(_, sent)| sent).sum()
    }

    fn received_from(&self, id: &str) -> u64 {
        self.with.get(id).map_or(0, |bytes| bytes.0)
    }

    fn sent_to(&self, id: &str) -> u64 {
        self.with.get(id).map_or(0, |bytes| bytes.1)
    }
}

/// The value of a field, as text. Enough for what our own program writes of itself.
fn field<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = object.split_once(&format!("\"{key}\":"))?;
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => rest.split([',', '}']).next(),
    }
}

/// Prints the table. `accounts` are those of the seed and of all but the first of `names`, which
/// had the terminal: what it got, the others know.
pub fn table(names: &[String], accounts: &[Account]) {
    let known = |id: &&String| accounts.iter().any(|account| account.peer_id == **id);
    let all_ids = accounts.iter().flat_map(|account| account.with.keys());
    let first = all_ids.clone().find(|id| !known(id)).cloned().unwrap_or_default();
    // The seed, the first, the others.
    let mut ids: Vec<&str> = accounts.iter().map(|account| account.peer_id.as_str()).collect();
    ids.insert(1, &first);
    let of = |id: &str| accounts.iter().find(|account| account.peer_id == id);
    println!("\nWho got what from whom, in MiB:\n");
    let heads = std::iter::once("the seed").chain(names.iter().map(String::as_str));
    let heads: String = heads.map(|name| format!("{name:>10}")).collect();
    println!("{:>8}{heads}{:>10}", "", "in all");
    for (name, to) in names.iter().zip(&ids[1..]) {
        let got = |from: &&str| match (of(to), of(from)) {
            (Some(receiver), _) => receiver.received_from(from),
            (None, Some(sender)) => sender.sent_to(to),
            (None, None) => 0,
        };
        let row: Vec<u64> = ids.iter().map(got).collect();
        let cell = |(from, bytes): (&&str, &u64)| match from == to {
            true => format!("{:>10}", "-"),
            false => format!("{:>10.1}", mib(*bytes)),
        };
        let cells: String = ids.iter().zip(&row).map(cell).collect();
        println!("{name:>8}{cells}{:>10.1}", mib(row.iter().sum()));
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
