// A WebTorrent peer for the interop tests: seeds what is in DIR, fetches what is not.
//
//   node peer.js DIR PORT PEERS TORRENT...     PEERS: ip:port,ip:port or an empty word
//
// It uses the library under webtorrent-cli because the command line cannot turn the DHT off, and
// serves one torrent a process. It runs until it is killed.
import WebTorrent from 'webtorrent'

const [dir, port, peers, ...torrents] = process.argv.slice(2)
const client = new WebTorrent({
  torrentPort: Number(port),
  dht: false,
  lsd: false,
  utPex: false,
  utp: false,
  natUpnp: false,
  natPmp: false,
})
client.on('error', (error) => {
  console.error(error)
  process.exit(1)
})
for (const file of torrents) {
  client.add(file, { path: dir }, (torrent) => {
    console.log(`${torrent.infoHash} ready, ${torrent.progress}`)
    torrent.on('done', () => console.log(`${torrent.infoHash} done`))
    torrent.on('warning', (warning) => console.log(`${torrent.infoHash} ${warning}`))
    for (const peer of peers.split(',').filter(Boolean)) torrent.addPeer(peer)
  })
}
