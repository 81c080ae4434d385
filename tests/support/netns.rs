//! Machines of a test's own: network namespaces, joined by one cable.
//!
//! ```text
//! namespace a: lo, eth0 10.0.0.1, fd00::1 ════ cable ════ namespace b: lo, eth0 10.0.0.2, fd00::2
//! ```
//!
//! Each may have IPv4, IPv6, or both. Needs Linux, iproute2 and root (or CAP_NET_ADMIN); where one
//! of them is missing, the tests say so and pass, or fail with `PIECEMEAL_REQUIRE_PEERS=1`.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::run::{Run, binary};

/// Which addresses a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
    Both,
}

pub const FAMILIES: [Family; 3] = [Family::V4, Family::V6, Family::Both];

/// Two machines. Dropped, they are gone, and so are the programs' sockets.
pub struct Cable {
    pub hosts: [Host; 2],
}

pub struct Host {
    name: String,
    number: u8,
    pub family: Family,
}

/// Runs `ip`; what it says if it fails.
fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split_whitespace()).output();
    let output = output.map_err(|err| format!("ip {words}: {err}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("ip {words}: {said}")) }
}

impl Cable {
    /// `None`, and a line that says why, where namespaces cannot be made.
    pub fn new(family: Family) -> Option<Cable> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let host = |number: u8| {
            let name =
                format!("pm{}x{n}{}", std::process::id(), if number == 1 { 'a' } else { 'b' });
            Host { name, number, family }
        };
        let cable = Cable { hosts: [host(1), host(2)] };
        match cable.lay() {
            Ok(()) => Some(cable),
            Err(why) if std::env::var_os("PIECEMEAL_REQUIRE_PEERS").is_none() => {
                eprintln!("skipped: no network namespaces: {why}");
                None
            }
            Err(why) => panic!("no network namespaces: {why}"),
        }
    }

    fn lay(&self) -> Result<(), String> {
        let [a, b] = self.hosts.each_ref().map(|host| host.name.as_str());
        ip(&format!("netns add {a}"))?;
        ip(&format!("netns add {b}"))?;
        ip(&format!("link add eth0 netns {a} type veth peer name eth0 netns {b}"))?;
        for Host { name, number, family } in &self.hosts {
            if *family == Family::V4 {
                for kind in ["all", "default", "lo", "eth0"] {
                    let off = format!("echo 1 > /proc/sys/net/ipv6/conf/{kind}/disable_ipv6");
                    let inside = ["netns", "exec", name, "sh", "-c", &off];
                    let status = Command::new("ip").args(inside).status();
                    status.map_err(|err| err.to_string())?;
                }
            }
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} link set eth0 up"))?;
            if *family == Family::V6 {
                ip(&format!("-n {name} addr del 127.0.0.1/8 dev lo"))?;
            } else {
                ip(&format!("-n {name} addr add 10.0.0.{number}/24 dev eth0"))?;
            }
            if *family != Family::V4 {
                ip(&format!("-n {name} addr add fd00::{number}/64 dev eth0 nodad"))?;
            }
        }
        Ok(())
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = ip(&format!("netns del {}", host.name));
        }
    }
}

impl Host {
    /// An address at which the other machine reaches it; IPv4 where it has both.
    pub fn ip(&self) -> IpAddr {
        let text = match self.family {
            Family::V6 => format!("fd00::{}", self.number),
            _ => format!("10.0.0.{}", self.number),
        };
        text.parse().expect("an address")
    }

    /// A program that runs there.
    pub fn run(&self, program: impl AsRef<OsStr>) -> Run {
        Run::program("ip").args(["netns", "exec", &self.name]).arg(program)
    }

    /// The same, where these lines are what names mean (as in `/etc/hosts`).
    pub fn piecemeal_with_names(&self, hosts: &Path, args: &[&str]) -> Run {
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        self.run("sh").args(["-c", script]).arg(hosts).arg(binary()).args(args)
    }

    pub fn piecemeal(&self, args: &[&str]) -> Run {
        self.run(binary()).args(args)
    }
}

/// An address as it stands in a URL.
pub fn in_url(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}
