// Stands in for the package webrtc-polyfill, whose native half is no part of the npm package but is
// fetched from elsewhere when it is installed. Without it WebTorrent speaks TCP only, which is the
// half of it that these tests need.
export const RTCPeerConnection = undefined
export const RTCSessionDescription = undefined
export const RTCIceCandidate = undefined
