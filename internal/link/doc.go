// Package link is the stream between a master and an agent: ordered messages in
// both directions over one TCP connection that begins as an HTTP request, so
// that ports, redirects to the leader, authentication and TLS are those of the
// HTTP API.
//
// # How a link opens
//
// The agent posts to [Path] and asks for an upgrade (RFC 9110, 7.8):
//
//	POST /api/clusterd/v1/link HTTP/1.1
//	Connection: Upgrade
//	Upgrade: clusterd-link
//	Clusterd-Link-Version: 1
//
// A master that leads answers 101 and from then on the connection carries
// records. One that does not lead answers 307 with the leader's address, which
// [Dial] follows, or 503. A version that it does not speak is answered 426 and
// a sentence that names both versions.
//
// # Why not an HTTP/2 request
//
// It was measured with 1,000 idle links on Go 1.26: a full-duplex HTTP/2 request
// costs the server 39 KB (three goroutines, two of them with grown stacks, and
// the framer's buffers), an upgraded connection less than 5 KB, without a goroutine
// of its own less than 2 KB. The master's budget is 8 KB for an agent as a whole.
//
// # Records
//
//	record := type (1 byte) length (unsigned varint) payload (length bytes)
//
//	type 1  message    payload is a protobuf message
//	type 2  keepalive  no payload; sent when nothing else was for a while
//	type 3  close      payload is the reason, UTF-8, at most 1 KiB; the last record
//
// A record of another type, a longer length than the limit or a message that
// does not decode ends the link; the side that noticed says why in a close record.
//
// # Tunnels
//
// A master that has to send an agent an HTTP request asks for a connection by a message,
// OpenTunnel, with a token. The agent opens it at [TunnelPath] of the master that its link
// leads to, and serves HTTP on it ([DialTunnel], [AcceptTunnel]). An agent of before
// 2026-11-23 does not know the message and ignores it.
//
// # Promises
//
// Messages arrive in the order of [Conn.Send], each once, or the link ends. Send
// never blocks and never holds more than the configured number of messages and
// bytes: a peer that does not read is cut off with [ErrSlowPeer]. A peer that is
// silent, keepalives included, is given up with [ErrSilent]. Sends that queue up
// while a write is under way leave together in the next one. An idle link owns
// no buffers, and one goroutine: that of its user in [Conn.Receive]. With
// [Conn.Dispatch], as masters use it, it owns none: one epoll instance watches all
// links, and a few workers handle what arrives. A master's memory for an idle
// link fell by that from 10 KB to 2 KB.
//
// All methods of [Conn] may be called from any goroutine, but only one goroutine
// may be in Receive. server and agent import this package.
package link
