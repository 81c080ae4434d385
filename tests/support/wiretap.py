"""What goes over a wire that a private torrent must not send: run in a network namespace.

    wiretap.py DEVICE

Prints "listening", then one line for each kind of packet when it is first seen: lsd (a datagram to
port 6771), dht (a datagram that begins like a DHT message), pex (ut_pex named or spoken in TCP),
tcp (any data at all, so that a test knows that it looked). Runs until killed.
"""

import socket
import struct
import sys

ETH_P_ALL = 3


def kinds(frame):
    ether_type, ip = struct.unpack("!H", frame[12:14])[0], frame[14:]
    if ether_type == 0x0800:
        protocol, rest = ip[9], ip[(ip[0] & 15) * 4 : struct.unpack("!H", ip[2:4])[0]]
    elif ether_type == 0x86DD:
        protocol, rest = ip[6], ip[40:]
    else:
        return
    if protocol == 17:
        if struct.unpack("!H", rest[2:4])[0] == 6771:
            yield "lsd"
        if rest[8:].startswith((b"d1:", b"d2:")):
            yield "dht"
    elif protocol == 6:
        data = rest[(rest[12] >> 4) * 4 :]
        if data:
            yield "tcp"
        if b"ut_pex" in data or b"5:added" in data:
            yield "pex"


wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
wire.bind((sys.argv[1], ETH_P_ALL))
print("listening", flush=True)
seen = set()
while True:
    for kind in kinds(wire.recv(65536)):
        if kind not in seen:
            seen.add(kind)
            print(f"seen {kind}", flush=True)
