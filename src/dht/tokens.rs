//! Tokens: who has asked us for peers from an address may announce from it (BEP 5).
//!
//! ```text
//! token = SHA1(secret | address | info hash), the first 8 bytes
//! ```
//!
//! The secret is drawn anew every [`SECRET_AGE`]; tokens of the one before are still good. So a token
//! lives 5 to 10 minutes, we remember none of them, and nobody can announce an address at which he
//! does not receive.
//!
//! Layer: decisions.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::hash::{Sha1, sha1};

/// How long a secret is used for new tokens (BEP 5).
const SECRET_AGE: Duration = Duration::from_secs(5 * 60);

/// Short, so that answers are: who guesses has one chance in 2⁶⁴.
const TOKEN_LEN: usize = 8;

type Secret = [u8; 16];

#[derive(Debug)]
pub struct Tokens {
    /// The present one and the one before.
    secrets: [Secret; 2],
    drawn: Instant,
    rng: fastrand::Rng,
}

impl Tokens {
    pub fn new(mut rng: fastrand::Rng, now: Instant) -> Tokens {
        Tokens { secrets: [secret(&mut rng), secret(&mut rng)], drawn: now, rng }
    }

    /// Draws a new secret when it is time.
    pub fn tick(&mut self, now: Instant) {
        let mut overdue =
            now.saturating_duration_since(self.drawn).as_secs() / SECRET_AGE.as_secs();
        // After a sleep both are too old.
        while overdue != 0 {
            self.secrets = [secret(&mut self.rng), self.secrets[0]];
            self.drawn = now;
            overdue = (overdue - 1).min(1);
        }
    }

    pub fn token(&self, ip: IpAddr, info_hash: Sha1) -> Vec<u8> {
        make(&self.secrets[0], ip, info_hash)
    }

    pub fn is_good(&self, token: &[u8], ip: IpAddr, info_hash: Sha1) -> bool {
        self.secrets.iter().any(|secret| make(secret, ip, info_hash) == token)
    }
}

fn secret(rng: &mut fastrand::Rng) -> Secret {
    let mut secret = [0; 16];
    rng.fill(&mut secret);
    secret
}

fn make(secret: &Secret, ip: IpAddr, info_hash: Sha1) -> Vec<u8> {
    let ip = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    sha1(&[&secret[..], &ip, &info_hash.0].concat()).0[..TOKEN_LEN].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_address_and_torrent_for_five_to_ten_minutes() {
        let start = Instant::now();
        let mut tokens = Tokens::new(fastrand::Rng::with_seed(1), start);
        let (ip, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let hash = Sha1([1; 20]);
        let token = tokens.token(ip, hash);
        assert!(tokens.is_good(&token, ip, hash) && token.len() == TOKEN_LEN);
        assert!(!tokens.is_good(&token, other, hash) && !tokens.is_good(&token, ip, Sha1([2; 20])));
        assert!(!tokens.is_good(b"", ip, hash) && !tokens.is_good(&[0; 64], ip, hash));
        tokens.tick(start + Duration::from_secs(299));
        assert_eq!(tokens.token(ip, hash), token);
        tokens.tick(start + SECRET_AGE);
        assert!(tokens.is_good(&token, ip, hash) && tokens.token(ip, hash) != token);
        tokens.tick(start + 2 * SECRET_AGE);
        assert!(!tokens.is_good(&token, ip, hash));
        let token = tokens.token(ip, hash);
        tokens.tick(start + 20 * SECRET_AGE);
        assert!(!tokens.is_good(&token, ip, hash), "the machine slept");
    }
}
