//! Who gave us what, and what we gave them: one account a peer, kept when the peer has left.
//!
//! A peer is known by its peer id here: it may hang up and come back, dial us after we dialled it,
//! and who dials comes from a port that says nothing.
//!
//! Layer: decisions. A part of the swarm.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Swarm;
use super::peer::Peer;
use crate::order;
use crate::wire::handshake::PeerId;

/// Accounts at most; of more, those with the most bytes are kept. A swarm has seldom more peers, and
/// nobody reads a longer list.
pub const ACCOUNTS_MAX: usize = 256;

/// What went between us and one peer in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: PeerId,
    /// What it calls itself. Printable.
    pub client: String,
    /// Where we dialled it, or where it dialled us from.
    pub addr: SocketAddr,
    pub incoming: bool,
    /// Bytes of blocks.
    pub received: u64,
    pub sent: u64,
}

impl Account {
    fn of(peer: &Peer) -> Account {
        let Peer { id, addr, incoming, received, sent, .. } = *peer;
        Account { id, client: peer.client(), addr, incoming, received, sent }
    }

    fn bytes(&self) -> u64 {
        self.received.saturating_add(self.sent)
    }
}

/// The accounts of peers that have left.
#[derive(Debug, Default)]
pub(super) struct Accounts(BTreeMap<PeerId, Account>);

impl Accounts {
    /// A peer has left.
    pub fn close(&mut self, peer: &Peer) {
        self.add(Account::of(peer));
        if ACCOUNTS_MAX < self.0.len()
            && let Some(least) = self.0.values().min_by_key(|account| account.bytes())
        {
            let least = least.id;
            self.0.remove(&least);
        }
    }

    fn add(&mut self, new: Account) {
        if new.bytes() == 0 {
            return;
        }
        let Some(account) = self.0.get_mut(&new.id) else {
            self.0.insert(new.id, new);
            return;
        };
        account.received = account.received.saturating_add(new.received);
        account.sent = account.sent.saturating_add(new.sent);
        // The address at which it listens says more than the one it came from.
        if account.incoming && !new.incoming {
            (account.addr, account.incoming) = (new.addr, false);
        }
    }
}

impl Swarm {
    /// What went between us and each peer, those that have left included; most bytes first.
    pub fn accounts(&self) -> Vec<Account> {
        let mut all = Accounts(self.accounts.0.clone());
        self.peers.values().for_each(|peer| all.add(Account::of(peer)));
        let mut list: Vec<Account> = all.0.into_values().collect();
        order::sort_by_key(&mut list, |account| std::cmp::Reverse(account.bytes()));
        list.truncate(ACCOUNTS_MAX);
        list
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn peer(name: u32, port: u16, incoming: bool, received: u64, sent: u64) -> Peer {
        let mut id = [b'-'; 20];
        id[..4].copy_from_slice(&name.to_be_bytes());
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let mut peer = Peer::new(addr, incoming, PeerId(id), 1, Instant::now());
        (peer.received, peer.sent) = (received, sent);
        peer
    }

    #[test]
    fn a_peer_that_comes_back_has_one_account_and_its_own_address() {
        let mut accounts = Accounts::default();
        accounts.close(&peer(1, 50_000, true, 3, 4));
        accounts.close(&peer(1, 6_881, false, 10, 20));
        accounts.close(&peer(1, 50_001, true, 0, 100));
        accounts.close(&peer(2, 6_882, false, 0, 0));
        let list: Vec<_> = accounts.0.values().collect();
        assert_eq!(list.len(), 1, "one that gave and got nothing has none");
        assert_eq!((list[0].addr.port(), list[0].received, list[0].sent), (6_881, 13, 124));
    }

    #[test]
    fn strangers_without_number_do_not_push_out_those_that_gave() {
        let mut accounts = Accounts::default();
        accounts.close(&peer(0, 6_881, false, 1 << 20, 0));
        (1..=1_000).for_each(|name| accounts.close(&peer(name, 6_881, true, 0, 16_384)));
        assert_eq!(accounts.0.len(), ACCOUNTS_MAX);
        assert!(accounts.0.values().any(|account| account.received == 1 << 20));
    }
}
