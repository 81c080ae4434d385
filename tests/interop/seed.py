"""A libtorrent peer for the interop tests, and the maker of the hybrid torrent.

    seed.py serve DIR IP:PORT PEERS TORRENT...    seeds what is in DIR, fetches what is not;
                                                  a TORRENT may be a magnet link
    seed.py exchange ...                          the same, and speaks of peers with peers (BEP 11)
    seed.py lan ...                               the same, and searches the local network (BEP 14)
    seed.py knows ...                             the same, but fetches next to nothing itself
    seed.py dht DIR IP:PORT NODES TORRENT...      the same, finding peers by the DHT only, of which it
                                                  is NODES nodes itself, at IP:PORT and the ports after
    seed.py hybrid PATH PIECE_LENGTH OUT          makes a v1 + v2 torrent, with padding, of a folder
    seed.py padded PATH PIECE_LENGTH OUT          the same of v1 alone
    seed.py version                               which libtorrent there is

PEERS is ip:port,ip:port (or an empty word): addresses that `serve` dials. It runs until killed.
"""

import os
import sys

import libtorrent as lt


def session(how: str, listen: str) -> lt.session:
    """A session that talks to trackers and to the peers it is told, to nobody else; with `lan` also to
    the local network."""
    ip = listen.rsplit(":", 1)[0]
    return lt.session(
        {
            "listen_interfaces": listen,
            "outgoing_interfaces": ip,
            "enable_dht": False,
            "enable_lsd": how == "lan",
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            # Every peer of these tests has an address in 127.0.0.0/8, most of them the same one.
            "allow_multiple_connections_per_ip": True,
            # One torrent after the other comes and goes; a peer must not wait for its turn.
            "active_limit": -1,
            "active_seeds": -1,
            "active_downloads": -1,
            "unchoke_slots_limit": -1,
            # Transmission hangs up on the second of two callers from one address while it still
            # shakes hands with the first; the default is to call again after a minute.
            "min_reconnect_time": 1,
            # A tracker on a loopback address is what these tests are about.
            "ssrf_mitigation": False,
            "alert_mask": lt.alert.category_t.error_notification
            | lt.alert.category_t.status_notification,
        }
    )


def serve(how: str, folder: str, listen: str, peers: str, torrents: list[str]) -> None:
    ses = session(how, listen)
    for path in torrents:
        if path.startswith("magnet:"):
            params = lt.parse_magnet_uri(path)
        else:
            params = lt.add_torrent_params()
            params.ti = lt.torrent_info(path)
        params.save_path = folder
        params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        # Only what the test names may bring peers.
        if how in ("serve", "lan"):
            params.flags |= lt.torrent_flags.disable_pex
        handle = ses.add_torrent(params)
        if how == "knows":
            handle.set_download_limit(1000)
        for peer in filter(None, peers.split(",")):
            ip, port = peer.rsplit(":", 1)
            handle.connect_peer((ip, int(port)))
    while True:
        ses.wait_for_alert(1000)
        for alert in ses.pop_alerts():
            print(alert.what(), alert.message(), flush=True)


def dht(folder: str, listen: str, nodes: str, torrents: list[str]) -> None:
    """A DHT of its own, whose last node seeds or fetches. With 0 nodes: one, that knows IP:PORT."""
    ip, port = listen.rsplit(":", 1)
    known = (ip, int(port))
    sessions = []
    for n in range(int(nodes) or 1):
        ses = session("serve", f"{ip}:{known[1] + n}" if int(nodes) else f"{ip}:0")
        ses.apply_settings(
            {
                "enable_dht": True,
                "dht_bootstrap_nodes": f"{ip}:{port}",
                # All of them live at one loopback address.
                "dht_restrict_routing_ips": False,
                "dht_restrict_search_ips": False,
                "dht_ignore_dark_internet": False,
                "dht_enforce_node_id": False,
                "dht_prefer_verified_node_ids": False,
            }
        )
        ses.add_dht_node(known)
        sessions.append(ses)
    # Whoever announces before the nodes know each other has told nobody.
    while int(nodes) and any(ses.status().dht_nodes < 2 for ses in sessions):
        sessions[-1].wait_for_alert(100)
        sessions[-1].pop_alerts()
    for path in torrents:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(path)
        params.save_path = folder
        params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        params.flags |= lt.torrent_flags.disable_pex
        sessions[-1].add_torrent(params)
    print("dht ready", flush=True)
    while True:
        for ses in sessions:
            ses.wait_for_alert(100)
            for alert in ses.pop_alerts():
                print(alert.what(), alert.message(), flush=True)


def hybrid(path: str, piece_length: int, out: str, flags: int = 0) -> None:
    files = lt.file_storage()
    lt.add_files(files, path)
    torrent = lt.create_torrent(files, piece_length, flags)
    lt.set_piece_hashes(torrent, os.path.dirname(path))
    entry = torrent.generate()
    # The test writes its own trackers; the date would change the file from run to run.
    for key in (b"creation date", b"created by"):
        entry.pop(key, None)
    with open(out, "wb") as file:
        file.write(lt.bencode(entry))


def main(words: list[str]) -> None:
    match words:
        case ["serve" | "lan" | "exchange" | "knows" as how, folder, listen, peers, *torrents]:
            serve(how, folder, listen, peers, torrents)
        case ["dht", folder, listen, nodes, *torrents]:
            dht(folder, listen, nodes, torrents)
        case ["hybrid", path, piece_length, out]:
            hybrid(path, int(piece_length), out)
        case ["padded", path, piece_length, out]:
            kind = lt.create_torrent
            flags = kind.v1_only | kind.canonical_files_no_tail_padding
            hybrid(path, int(piece_length), out, flags)
        case ["version"]:
            print(lt.__version__)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
