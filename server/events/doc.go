// Package events serves the operator event streams of a leading master: Mesos's
// SUBSCRIBE of the v1 operator API, and our own stream, which tells more and can be
// resumed.
//
// The main type is [Hub], one for each leadership. The core's goroutine announces events
// to it, which costs the same whoever listens:
//
//	core --Announce--> ring (bounded) --pulse--> every stream reads at its own cursor
//	                                              | shared encodings    | own socket
//	view --snapshot (shared)----------------------+---------------------+
//
// A stream begins with a snapshot rendered from a view, or with the place where a token
// points, and continues with all events after it: nothing is missed, nothing comes twice.
// No stream has a queue. Who reads so slowly that the ring goes round, or takes longer than
// the write timeout for a piece, is cut off. Bytes are made once for all streams of the same
// form and the same rights.
//
// All methods of a Hub may be called from several goroutines, Announce from one. A Hub
// starts goroutines only while somebody is subscribed; Close and Wait end them. Imported by
// server only.
package events
