#!/bin/sh
# your_program.sh of codecrafters' "Build your own BitTorrent", on top of piecemeal: hold your own
# client beside it. src/STAGES.md says which command and which source file is behind each stage.
#
#   PIECEMEAL   the program (piecemeal)
#   FLAGS       more flags for the commands that go out, such as --no-dht
set -eu
piecemeal=${PIECEMEAL:-piecemeal}
quiet="--no-dht --no-lsd ${FLAGS:-}"
stage=$1
shift

# The first peer that the trackers of a torrent or a link know.
a_peer() {
    "$piecemeal" peers $quiet "$1" | head -n 1
}

# -o OUT TORRENT [PIECE]
download() {
    out=$2 torrent=$3
    shift 3
    "$piecemeal" get $quiet --no-port-map --quiet ${1:+--piece "$1"} --out "$out" "$torrent"
}

case $stage in
decode) "$piecemeal" decode "$1" ;;
info) "$piecemeal" show --piece-hashes "$1" ;;
peers) "$piecemeal" peers $quiet "$1" ;;
handshake) "$piecemeal" handshake "$1" "$2" ;;
download_piece | download | magnet_download_piece | magnet_download) download "$@" ;;
magnet_parse) "$piecemeal" show "$1" ;;
magnet_handshake) "$piecemeal" handshake "$1" "$(a_peer "$1")" ;;
magnet_info)
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    "$piecemeal" get $quiet --no-port-map --quiet --metadata-only --out "$folder/x.torrent" "$1"
    "$piecemeal" show "$1" | grep '^Tracker URL'
    "$piecemeal" show --piece-hashes "$folder/x.torrent"
    ;;
*)
    echo "unknown stage $stage" >&2
    exit 2
    ;;
esac
