#!/usr/bin/env python3
"""Swarms of real programs on links with a rate: one network namespace a member.

    hub (a bridge in its own namespace)
     ├── member 0: tracker, link without a limit
     ├── member 1: seed           each link: tbf for what the member sends, tbf for what it gets,
     ├── member 2: leecher        and a delay
     └── ...

Each scenario prints when every leecher had all, the bound that no swarm can beat,
max(F/Us, N*F/(Us+sum Ul), F/Dmin), and how many copies the seed sent. Needs root, Linux, iproute2
and target/release/piecemeal; libtorrent (make peers) and aria2c for the mixed swarm.

    sudo tests/bench/crowd.py [crowd] [killed] [cluster] [order] [mixed]
"""

import argparse
import atexit
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PIECEMEAL = ROOT / "target/release/piecemeal"
MIB = 1 << 20
MBIT = 1e6 / 8

# A common home link: 20 ms there and back, and a queue of 100 ms in the modem.
DELAY_MS = 10
QUEUE_MS = 100

# How long those who have all go on giving, as people's clients do; in minutes.
SEED_TIME = 10

# A plain client around libtorrent, run in its own process.
LIBTORRENT = """
import sys, time, libtorrent as lt
torrent, folder, address = sys.argv[1:]
session = lt.session({'listen_interfaces': address + ':6881', 'enable_dht': False,
    'enable_lsd': False, 'enable_upnp': False, 'enable_natpmp': False})
handle = session.add_torrent({'ti': lt.torrent_info(torrent), 'save_path': folder})
while not handle.status().is_seeding:
    time.sleep(0.05)
print('{"event":"complete","uploaded":0,"downloaded":0,"wasted":0}', flush=True)
time.sleep(3600)
"""


def sh(*words):
    subprocess.run([str(word) for word in words], check=True)


class Member:
    """One namespace: its link, and the program in it."""

    # Kernels without netem have links without a delay (but with the modem's queue).
    delayed = True

    def __init__(self, net, number, up, down):
        self.net, self.number, self.up, self.down = net, number, up, down
        self.name = f"{net.name}m{number}"
        self.port = f"{net.name}p{number}"
        self.address = f"10.77.{number // 250}.{number % 250 + 1}"
        self.process, self.complete, self.last = None, None, {}
        hub = net.hub
        sh("ip", "netns", "add", self.name)
        sh("ip", "-n", hub, "link", "add", self.port, "type", "veth",
           "peer", "name", "eth0", "netns", self.name)
        sh("ip", "-n", hub, "link", "set", self.port, "master", "bridge", "up")
        ip = ["ip", "-n", self.name]
        sh(*ip, "link", "set", "lo", "up")
        sh(*ip, "addr", "add", f"{self.address}/16", "dev", "eth0")
        sh(*ip, "link", "set", "eth0", "up")
        self.shape(self.name, "eth0", up, delay=True)
        self.shape(hub, self.port, down, delay=False)

    @staticmethod
    def shape(namespace, device, rate, delay):
        tc = ["tc", "-n", namespace, "qdisc", "add", "dev", device]
        if not rate:
            return
        burst = max(15_000, int(rate / 250))
        sh(*tc, "root", "handle", "1:", "tbf", "rate", f"{int(rate * 8)}bit",
           "burst", burst, "limit", int(rate * QUEUE_MS / 1000) + burst)
        if delay:
            # Behind the tbf a queue of its own: its limit is the tbf's.
            limit = int(rate * QUEUE_MS / 1000 / 1500) + 40
            netem = [*tc, "parent", "1:1", "handle", "10:", "netem",
                     "delay", f"{DELAY_MS}ms", "limit", str(limit)]
            if subprocess.run(netem, capture_output=True).returncode:
                Member.delayed = False

    def run(self, *words, env=None):
        words = ["ip", "netns", "exec", self.name, *map(str, words)]
        self.log = open(self.net.work / f"{self.name}.log", "w", buffering=1)
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=self.log,
                                        env={**os.environ, **(env or {})}, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            now = time.monotonic()
            self.log.write(f"{now - self.net.start:8.3f} {line}")
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("event") in ("progress", "complete"):
                self.last = event
            if event.get("event") == "complete" and self.complete is None:
                self.complete = now - self.net.start

    def stop(self, how=signal.SIGINT):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)


class Net:
    """A bridge, its members, and what passes through it."""

    def __init__(self, args):
        self.args, self.members = args, []
        self.name = f"c{os.getpid() % 10000}"
        self.hub = f"{self.name}hub"
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="crowd"))
        self.start = time.monotonic()
        self.samples, self.closed = [], False
        sh("ip", "netns", "add", self.hub)
        sh("ip", "-n", self.hub, "link", "add", "bridge", "type", "bridge")
        sh("ip", "-n", self.hub, "link", "set", "bridge", "up")

    def member(self, up, down):
        self.members.append(Member(self, len(self.members), up, down))
        return self.members[-1]

    def sent(self):
        """Bytes on the wire that each member has sent, by its port."""
        out = subprocess.run(["ip", "-n", self.hub, "-s", "-j", "link"], capture_output=True)
        return {link["ifname"]: link["stats64"]["rx"]["bytes"] for link in json.loads(out.stdout)}

    def sample(self):
        self.samples.append((time.monotonic() - self.start, self.sent()))

    def close(self):
        if self.closed:
            return
        self.closed = True
        for member in self.members:
            member.stop(signal.SIGKILL)
        for member in self.members:
            if member.process:
                member.process.wait()
            subprocess.run(["ip", "netns", "del", member.name])
        subprocess.run(["ip", "netns", "del", self.hub])
        if self.args.keep:
            print(f"  logs: {self.work}")
        else:
            shutil.rmtree(self.work)


class Swarm:
    """A tracker, one seed with the data, and leechers."""

    def __init__(self, args, size, seed_up, seed_down):
        self.size, self.net, self.args = size, Net(args), args
        atexit.register(self.net.close)
        self.tracker = self.net.member(0, 0)
        self.seed = self.net.member(seed_up, seed_down)
        self.leechers = []
        work = self.net.work
        (work / "seed").mkdir()
        (work / "seed/data").write_bytes(os.urandom(size))
        self.torrent = work / "data.torrent"
        url = f"http://{self.tracker.address}:6969/announce"
        length = ["--piece-length", args.piece_length] if args.piece_length else []
        sh(PIECEMEAL, "create", work / "seed/data", "-o", self.torrent, "-a", url, "-q", *length)

    def leecher(self, up, down, client="piecemeal", label=None, flags=()):
        member = self.net.member(up, down)
        member.client, member.label, member.flags = client, label or client, flags
        member.gives = up
        self.leechers.append(member)
        return member

    def launch(self):
        """All at once, as when a release is announced."""
        trace = [f"--trace={self.args.trace}"] if self.args.trace else []
        self.tracker.run(PIECEMEAL, "tracker", "--listen", f"{self.tracker.address}:6969", "-v")
        time.sleep(0.3)
        self.seed.run(PIECEMEAL, "seed", self.torrent, "-d", self.net.work / "seed", "--json", "--no-dht",
                      *self.args.seed_flags.split(), *trace)
        time.sleep(1.0)
        self.net.start = time.monotonic()
        for member in self.leechers:
            folder = self.net.work / member.name
            folder.mkdir()
            if member.client == "libtorrent":
                path = {"PYTHONPATH": str(ROOT / ".peers/python")}
                member.run(sys.executable, "-c", LIBTORRENT, self.torrent, folder, member.address,
                           env=path)
            elif member.client == "aria2c":
                hook = self.net.work / "hook"
                hook.write_text("#!/bin/sh\ntouch \"$(dirname \"$3\")/complete\"\n")
                hook.chmod(0o755)
                member.run("aria2c", self.torrent, "-d", folder, "--seed-time", SEED_TIME, "-q",
                           "--enable-dht=false", "--on-bt-download-complete", hook)
            else:
                member.run(PIECEMEAL, "get", self.torrent, "-d", folder, "--json", "--no-dht",
                           "--seed-time", SEED_TIME, *member.flags, *trace)

    def follow(self, limit, kill_after=None):
        """Until everybody has all. With `kill_after` the seed dies after so many copies."""
        killed = None
        while time.monotonic() - self.net.start < limit:
            self.net.sample()
            for member in self.leechers:
                done = self.net.work / member.name / "complete"
                if member.complete is None and done.exists():
                    member.complete = done.stat().st_mtime - time.time() + (
                        time.monotonic() - self.net.start)
            if kill_after and killed is None and kill_after <= self.copies():
                killed = time.monotonic() - self.net.start
                self.seed.stop(signal.SIGKILL)
            if all(member.complete for member in self.leechers):
                break
            time.sleep(0.2)
        self.net.sample()
        return killed

    def copies(self):
        """What the seed has sent, in sizes of the data; headers of TCP/IP are 5 % of it."""
        sent = self.net.samples[-1][1][self.seed.port]
        return sent * 0.95 / self.size

    def bound(self):
        ups = self.seed.up + sum(member.gives for member in self.leechers)
        return max(self.size / self.seed.up, len(self.leechers) * self.size / ups,
                   self.size / min(member.down for member in self.leechers))

    def used(self, members):
        """The share of their upload that these used, second by second until all was over."""
        rates, last = [], self.net.samples[0]
        for at, sent in self.net.samples:
            if 1.0 <= at - last[0]:
                bytes_sent = sum(sent[m.port] - last[1][m.port] for m in members)
                rates.append(bytes_sent / sum(m.up for m in members) / (at - last[0]))
                last = (at, sent)
        return " ".join(f"{100 * rate:.0f}" for rate in rates)

    def report(self, goal):
        times = sorted((m.complete or float("inf"), m.label) for m in self.leechers)
        bound, last = self.bound(), times[-1][0]
        shown = [f"{t:.1f}" + ("" if name == "piecemeal" else f" {name}") for t, name in times]
        print("  seconds:", ", ".join(shown))
        wasted = sum(m.last.get("wasted", 0) for m in self.leechers) / MIB
        exact = self.seed.last.get("uploaded", 0) / self.size
        print(f"  last {last:.1f} s, bound {bound:.1f} s: efficiency {bound / last:.2f}; seed sent "
              f"{self.copies():.2f} copies (by its own count, a second ago, {exact:.2f}); "
              f"{wasted:.1f} MiB came twice; goal {goal}")
        if not Member.delayed:
            print("  (this kernel has no netem: the links have no delay of their own)")
        if self.args.verbose:
            print("  seed's upload, %:", self.used([self.seed]))
            print("  leechers' upload, %:", self.used(self.leechers))


def crowd(args):
    swarm = Swarm(args, 24 * MIB, 10 * MBIT, 50 * MBIT)
    for _ in range(16):
        swarm.leecher(10 * MBIT, 50 * MBIT)
    return swarm, {}, "0.75 with 1.2 copies"


def killed(args):
    swarm, _, _ = crowd(args)
    return swarm, {"kill_after": 1.05}, "everybody completes"


def cluster(args):
    swarm = Swarm(args, 16 * MIB, 25 * MBIT, 25 * MBIT)
    for _ in range(19):
        swarm.leecher(25 * MBIT, 25 * MBIT)
    return swarm, {}, "9 s"


def order(args):
    swarm = Swarm(args, 24 * MIB, 10 * MBIT, 50 * MBIT)
    for mbit in (1, 2, 4, 8, 16):
        for _ in range(3):
            swarm.leecher(mbit * MBIT, 50 * MBIT, label=f"({mbit} up)")
    for _ in range(3):
        rider = swarm.leecher(10 * MBIT, 50 * MBIT, label="(free rider)", flags=("-u", "1"))
        rider.gives = 0
    return swarm, {}, "who gives more is done sooner, free riders last"


def mixed(args):
    swarm = Swarm(args, 24 * MIB, 10 * MBIT, 50 * MBIT)
    for client in ("piecemeal", "libtorrent", "aria2c"):
        for _ in range(5):
            swarm.leecher(10 * MBIT, 50 * MBIT, client)
    return swarm, {}, "everybody completes"


SCENARIOS = {"crowd": crowd, "killed": killed, "cluster": cluster, "order": order, "mixed": mixed}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scenarios", nargs="*", help=" ".join(SCENARIOS), metavar="SCENARIO")
    parser.add_argument("--client", help="all leechers are this one: libtorrent, aria2c")
    parser.add_argument("--piece-length", help="as for create")
    parser.add_argument("--seed-flags", default="", help="for piecemeal seed")
    parser.add_argument("--trace", help="for all, into the logs")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    parser.add_argument("--limit", type=float, default=150, help="seconds a scenario may take")
    parser.add_argument("-v", "--verbose", action="store_true", help="uploads second by second")
    args = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("tc"):
        sys.exit("crowd.py needs root, and ip and tc (iproute2): it makes network namespaces")
    if not PIECEMEAL.exists():
        sys.exit("crowd.py needs target/release/piecemeal: make build")
    for name in args.scenarios or SCENARIOS:
        print(f"{name}:", flush=True)
        swarm, how, goal = SCENARIOS[name](args)
        for member in swarm.leechers:
            member.client = args.client or member.client
        swarm.launch()
        when = swarm.follow(args.limit, **how)
        if when:
            print(f"  the seed was killed after {when:.1f} s")
        swarm.report(goal)
        swarm.net.close()


if __name__ == "__main__":
    main()
