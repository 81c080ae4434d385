//! The value of a flag, and what it can be read as.
//!
//! Layer: programs.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::Args;
use crate::address_book::Source;
use crate::explain::{KINDS, Kind};
use crate::geometry::PIECE_LEN_MAX;
use crate::metainfo::url;
use crate::printable::clipped;
use crate::proxy::Proxy;
use crate::swarm::Without;
use crate::terminal::eprint_line;
use crate::tracker_server;
use crate::web;

/// What `--piece-length` may be, in bytes.
const PIECE_LENGTHS: std::ops::RangeInclusive<u32> = 16 * 1024..=PIECE_LEN_MAX;

/// How much of a wrong address an error repeats, in characters.
const SHOWN_MAX: usize = 100;

/// A flag's value, with the flag's name for the error message.
pub struct Value {
    pub flag: &'static str,
    pub raw: Option<OsString>,
}

impl Value {
    pub fn path(self) -> PathBuf {
        self.raw.unwrap_or_default().into()
    }

    pub fn text(self) -> Result<String> {
        let flag = self.flag;
        let raw = self.raw.unwrap_or_default();
        raw.into_string().map_err(|raw| anyhow!("--{flag} {}: not UTF-8", raw.display()))
    }

    /// The text after `=`, or none at all.
    pub fn optional(self) -> Result<String> {
        if self.raw.is_none() { Ok(String::new()) } else { self.text() }
    }

    pub fn parse<T: std::str::FromStr>(self, expected: &str) -> Result<T> {
        let flag = self.flag;
        let text = self.text()?;
        text.trim().parse().map_err(|_| anyhow!("--{flag} {text}: expected {expected}"))
    }

    /// An address, and a port, which everybody but a tracker may have from `--port` as well.
    pub fn listen(self, args: &mut Args) -> Result<()> {
        let flag = self.flag;
        let text = self.text()?;
        let text = text.trim();
        let (ip, port) = match text.parse::<SocketAddr>() {
            Ok(at) => (Some(at.ip()), Some(at.port())),
            Err(_) => (web::bare(text).parse().ok(), None),
        };
        let Some(ip) = ip else { bail!("--{flag} {text}: expected IP or IP:PORT") };
        match args.command {
            "tracker" => {
                args.listen_at = Some(SocketAddr::new(ip, port.unwrap_or(tracker_server::PORT)))
            }
            _ => (args.listen, args.port) = (Some(ip), port.or(args.port)),
        }
        Ok(())
    }

    /// A port, or the first free one of a range, as aria2 has it.
    pub fn port(self) -> Result<u16> {
        let flag = self.flag;
        let text = self.text()?;
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let read = |port: &str| port.trim().parse::<u16>().ok();
        match (read(first), read(last)) {
            (Some(first), Some(last)) if first < last => {
                let free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
                Ok((first..=last).find(free).unwrap_or(first))
            }
            (Some(first), Some(last)) if first == last => Ok(first),
            _ => bail!("--{flag} {text}: expected a port, 1 to 65535, or 0 for any; or FIRST-LAST"),
        }
    }

    pub fn proxy(self) -> Result<Proxy> {
        let flag = self.flag;
        let text = self.text()?;
        // Not the text itself: a password may be in it.
        Proxy::parse(&text).with_context(|| format!("--{flag}"))
    }

    /// What `decode` knows, by its name.
    pub fn kind(self) -> Result<Kind> {
        let text = self.text()?;
        let known = KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
        known.with_context(|| {
            let names = KINDS.map(|(name, _)| name).join(", ");
            format!("--as {text}: expected one of {names}")
        })
    }

    pub fn split(self) -> Result<Vec<Value>> {
        let flag = self.flag;
        let value = |one: &str| Value { flag, raw: Some(one.trim().into()) };
        Ok(self.text()?.split(',').map(value).collect())
    }

    /// Somebody who tells of peers.
    pub fn source(self) -> Result<Source> {
        let flag = self.flag;
        let text = self.text()?;
        let sources = [Source::Tracker, Source::Dht, Source::Lsd, Source::Pex];
        let found = sources.into_iter().find(|source| source.word() == text.trim());
        found.with_context(|| format!("--{flag} {text}: expected tracker, dht, lsd or pex"))
    }

    pub fn seconds(self) -> Result<Duration> {
        let flag = self.flag;
        let seconds: f64 = self.parse("seconds")?;
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time <= Duration::from_secs(366 * 86_400) => Ok(time),
            _ => bail!("--{flag} {seconds}: expected 0 to 31622400 seconds"),
        }
    }

    /// A number of 0 to a million, with a point or without.
    pub fn fraction(self) -> Result<f64> {
        let flag = self.flag;
        let number: f64 = self.parse("a number")?;
        if (0.0..=1e6).contains(&number) {
            Ok(number)
        } else {
            bail!("--{flag} {number}: expected 0 to 1000000")
        }
    }

    /// Where to write; standard output has two names.
    pub fn out(self) -> PathBuf {
        match self.path() {
            path if path.as_os_str() == "/dev/stdout" => "-".into(),
            path => path,
        }
    }

    /// The address of a tracker, as it was written.
    pub fn tracker(self) -> Result<String> {
        let expected = "the http://, https:// or udp:// address of a tracker";
        self.address(|raw| url::tracker(raw).is_some(), expected)
    }

    pub fn web_seed(self) -> Result<String> {
        self.address(|raw| url::web_seed(raw).is_some(), "an http:// or https:// address")
    }

    fn address(self, is_good: fn(&[u8]) -> bool, expected: &str) -> Result<String> {
        let flag = self.flag;
        let text = self.text()?;
        if !is_good(text.as_bytes()) {
            bail!("--{flag} {}: expected {expected}", clipped(&text, SHOWN_MAX));
        }
        Ok(text)
    }

    /// Bytes, with `K` or `M` for powers of 1024. Below 16 KiB a piece is less than a block, and not
    /// every client copes with other numbers than powers of two.
    pub fn piece_length(self) -> Result<u32> {
        let flag = self.flag;
        let text = self.text()?;
        let size = bytes(&text).and_then(|size| u32::try_from(size).ok());
        let is_good = |size: &u32| size.is_power_of_two() && PIECE_LENGTHS.contains(size);
        size.filter(is_good).with_context(|| {
            format!(
                "--{flag} {text}: expected a power of two from 16K to 1G, such as 262144 or 256K"
            )
        })
    }

    /// Bytes, with `K` or `M` for powers of 1024.
    pub fn size(self) -> Result<u32> {
        let flag = self.flag;
        let text = self.text()?;
        let size = bytes(&text).and_then(|size| u32::try_from(size).ok());
        size.with_context(|| format!("--{flag} {text}: expected a size such as 262144, 256K or 1M"))
    }

    /// Leaves a rule out of the lab, by its name.
    pub fn rule(self, without: &mut Without) -> Result<()> {
        let text = self.text()?;
        without.leave_out(text.trim()).with_context(|| {
            format!("--without {text}: expected some of {}", Without::NAMES.join(", "))
        })
    }

    /// What a line of the lab carries, in bytes a second.
    pub fn line(self) -> Result<f64> {
        let flag = self.flag;
        let text = self.text()?;
        let rate = bytes(&text).filter(|rate| (1 << 10..=1 << 30).contains(rate));
        let rate = rate.with_context(|| {
            format!("--{flag} {text}: expected 1K to 1G bytes a second, such as 500K")
        })?;
        Ok(rate as f64)
    }

    /// Bytes a second, with `K`, `M` or `G` for powers of 1024.
    pub fn rate(self) -> Result<u64> {
        let flag = self.flag;
        let text = self.text()?;
        let rate = bytes(&text)
            .with_context(|| format!("--{flag} {text}: expected a rate such as 500K or 2M"))?;
        if (1..1024).contains(&rate) {
            let text = text.trim();
            eprint_line(&format!(
                "piecemeal: --{flag} {text} is {rate} bytes a second; did you mean {text}K?"
            ));
        }
        Ok(rate)
    }
}

/// A number with `K`, `M` or `G` for powers of 1024, with or without the `B` or `iB` behind it.
fn bytes(text: &str) -> Option<u64> {
    let trimmed = text.trim().trim_end_matches("iB").trim_end_matches('B');
    let (digits, unit) = match trimmed.char_indices().last()? {
        (at, 'k' | 'K') => (&trimmed[..at], 1 << 10),
        (at, 'm' | 'M') => (&trimmed[..at], 1 << 20),
        (at, 'g' | 'G') => (&trimmed[..at], 1 << 30),
        _ => (trimmed, 1u64),
    };
    let number: f64 = digits.trim().parse().ok()?;
    let bytes = number * unit as f64;
    (0.0..=1e15).contains(&bytes).then_some(bytes as u64)
}
