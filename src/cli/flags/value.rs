//! The value of a flag, and what it can be read as.
//!
//! Layer: programs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::Args;
use crate::proxy::Proxy;

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

    /// A tracker has its port here, everybody else has `--port`.
    pub fn listen(self, args: &mut Args) -> Result<()> {
        match args.command {
            "tracker" => args.listen_at = Some(self.parse("IP:PORT")?),
            "" => {}
            _ => args.listen = Some(self.parse("an IP address")?),
        }
        Ok(())
    }

    pub fn proxy(self) -> Result<Proxy> {
        let flag = self.flag;
        let text = self.text()?;
        // Not the text itself: a password may be in it.
        Proxy::parse(&text).with_context(|| format!("--{flag}"))
    }

    pub fn split(self) -> Result<Vec<Value>> {
        let flag = self.flag;
        let value = |one: &str| Value { flag, raw: Some(one.trim().into()) };
        Ok(self.text()?.split(',').map(value).collect())
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

    /// Bytes, with `K` or `M` for powers of 1024.
    pub fn size(self) -> Result<u32> {
        let flag = self.flag;
        let text = self.text()?;
        let size = bytes(&text).and_then(|size| u32::try_from(size).ok());
        size.with_context(|| format!("--{flag} {text}: expected a size such as 262144, 256K or 1M"))
    }

    /// Bytes a second, with `K`, `M` or `G` for powers of 1024.
    pub fn rate(self) -> Result<u64> {
        let flag = self.flag;
        let text = self.text()?;
        bytes(&text).with_context(|| format!("--{flag} {text}: expected a rate such as 500K or 2M"))
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
