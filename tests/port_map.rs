//! A real router (miniupnpd, which speaks PCP and NAT-PMP) in a network namespace of its own, and
//! piecemeal behind it in another: the port is opened while it runs, and closed again.
//!
//! Namespaces take root. Where they, or miniupnpd, are not to be had the test says so and skips;
//! with `PIECEMEAL_REQUIRE_PEERS=1` it fails.

mod support;

use std::path::Path;
use std::process::Command;

use support::fixture::{Folder, Recipe};
use support::place::Place;
use support::run::{LIMIT, Run, Running, binary};

/// What miniupnpd wants to find in the packet filter.
const FILTER: &str = "table inet filter {
 chain miniupnpd { }
 chain prerouting_miniupnpd { }
 chain postrouting_miniupnpd { }
}
";

/// Two namespaces, and the wire between them. Taken down in the end.
struct Home {
    inside: String,
    router: String,
}

impl Home {
    /// `Err`: this machine has no namespaces for us.
    fn build() -> Result<Home, String> {
        let id = std::process::id();
        let home = Home { inside: format!("pm-in-{id}"), router: format!("pm-rt-{id}") };
        let (inside, router) = (&home.inside, &home.router);
        for line in [
            format!("netns add {inside}"),
            format!("netns add {router}"),
            format!("link add h0 netns {inside} type veth peer name r0 netns {router}"),
            format!("-n {router} link add x0 type veth peer name x1"),
            format!("-n {inside} addr add 192.168.77.2/24 dev h0"),
            format!("-n {router} addr add 192.168.77.1/24 dev r0"),
            format!("-n {router} addr add 8.8.8.1/24 dev x0"),
            format!("-n {inside} link set lo up"),
            format!("-n {inside} link set h0 up"),
            format!("-n {router} link set lo up"),
            format!("-n {router} link set r0 up"),
            format!("-n {router} link set x1 up"),
            format!("-n {router} link set x0 up"),
            format!("-n {inside} route add default via 192.168.77.1"),
        ] {
            output(Command::new("ip").args(line.split(' ')))
                .map_err(|e| format!("ip {line}: {e}"))?;
        }
        Ok(home)
    }

    fn run(&self, namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Run {
        Run::program("ip").args(["netns", "exec", namespace]).arg(program)
    }

    fn rules(&self) -> String {
        let ended = self.run(&self.router, "nft").args(["list", "ruleset"]).run();
        String::from_utf8(ended.expect(0).stdout).expect("text")
    }

    fn start_router(&self, folder: &Folder) -> Running {
        let filter = folder.file("filter", FILTER.as_bytes());
        self.run(&self.router, "nft").arg("-f").arg(filter).run().expect(0);
        let config = "ext_ifname=x0\next_ip=8.8.8.1\nlistening_ip=r0\nenable_natpmp=yes\n\
                      enable_upnp=no\nsecure_mode=yes\n\
                      allow 1024-65535 192.168.77.0/24 1024-65535\n";
        let config = folder.file("miniupnpd.conf", config.as_bytes());
        let pid = folder.file("pid", b"");
        std::fs::remove_file(&pid).expect("just made");
        let mut router = self
            .run(&self.router, "miniupnpd")
            .args(["-d", "-f"])
            .arg(config)
            .arg("-P")
            .arg(pid)
            .start();
        router.wait_for("Listening for NAT-PMP/PCP");
        router
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for namespace in [&self.inside, &self.router] {
            let _ = output(Command::new("ip").args(["netns", "delete", namespace]));
        }
    }
}

/// Its standard output; what it said instead if it failed.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|err| err.to_string())?;
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The test cannot run here.
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    assert!(std::env::var_os("PIECEMEAL_REQUIRE_PEERS").is_none(), "{reason}");
}

#[test]
fn a_router_opens_the_port_and_closes_it_again() {
    let found = |name: &str| Path::new("/usr/sbin").join(name).exists();
    if !found("miniupnpd") || !found("nft") {
        return skip("no miniupnpd and nft here; make peers installs them");
    }
    let home = match Home::build() {
        Ok(home) => home,
        Err(reason) => return skip(&reason),
    };
    let fixture = Recipe::file("mapped.bin", 100_000).make();
    let place = Place::new(&fixture);
    let folder = Folder::new("router");
    let mut router = home.start_router(&folder);

    let get = |args: &[&str]| {
        let run =
            home.run(&home.inside, binary()).args(["get", "-v", "--no-tracker", "-p", "7001"]);
        run.args(args).arg(&place.torrent).arg("-d").arg(&place.data)
    };
    let mut running = get(&[]).start();
    running.wait_for("router 192.168.77.1: TCP port 7001 is open to the world (PCP)");
    running.wait_for("router 192.168.77.1: UDP port 7001 is open to the world (PCP)");
    let rules = home.rules();
    assert!(rules.contains("dnat ip to 192.168.77.2:7001"), "{rules}");
    running.interrupt();
    running.finish(LIMIT).expect(130);
    // Its last packets are on their way when it ends.
    router.wait_for("TCP port 7001 mapping removed");
    router.wait_for("UDP port 7001 mapping removed");
    let rules = home.rules();
    assert!(!rules.contains("7001"), "{rules}");

    let mut running = get(&["--no-port-map", "--stop-timeout", "1"]).start();
    running.wait_for("gave up");
    let ended = running.finish(LIMIT).expect(3);
    assert!(!ended.stderr.contains("router"), "{}", ended.stderr);
}
