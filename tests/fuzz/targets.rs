//! The list of targets: everything that takes bytes from strangers, and the swarm.

use crate::engine::Target;
use crate::{game, lan, mutate, tracker, values, wire};

pub const TARGETS: &[Target] = &[
    Target {
        name: "bencode",
        seeds: values::bencode_seeds,
        mutate: mutate::bencode,
        check: values::bencode,
    },
    Target {
        name: "bencode-tree",
        seeds: || vec![b"\x04\x03\x02\x01".repeat(10)],
        mutate: mutate::choices,
        check: values::bencode_tree,
    },
    Target {
        name: "metainfo",
        seeds: values::torrents,
        mutate: mutate::bencode,
        check: values::metainfo,
    },
    Target { name: "magnet", seeds: values::magnets, mutate: mutate::text, check: values::magnet },
    Target {
        name: "handshake",
        seeds: wire::handshakes,
        mutate: mutate::bytes,
        check: wire::handshake,
    },
    Target { name: "message", seeds: wire::streams, mutate: mutate::bytes, check: wire::message },
    Target {
        name: "extended",
        seeds: wire::extended_handshakes,
        mutate: mutate::bencode,
        check: wire::extended,
    },
    Target {
        name: "ut-metadata",
        seeds: wire::metadata_messages,
        mutate: mutate::bencode,
        check: wire::metadata,
    },
    Target {
        name: "ut-pex",
        seeds: wire::exchanges,
        mutate: mutate::bencode,
        check: wire::exchange,
    },
    Target {
        name: "tracker-http",
        seeds: tracker::answers,
        mutate: mutate::bencode,
        check: tracker::http,
    },
    Target {
        name: "tracker-udp",
        seeds: tracker::datagrams,
        mutate: mutate::bytes,
        check: tracker::udp,
    },
    Target { name: "tracker-url", seeds: tracker::urls, mutate: mutate::text, check: tracker::url },
    Target { name: "lsd", seeds: lan::searches, mutate: mutate::text, check: lan::search },
    Target {
        name: "resume",
        seeds: values::resumes,
        mutate: mutate::bencode,
        check: values::resume,
    },
    Target {
        name: "command-line",
        seeds: values::command_lines,
        mutate: values::mutate_words,
        check: values::command_line,
    },
    Target { name: "swarm", seeds: game::seeds, mutate: mutate::choices, check: game::play },
];
