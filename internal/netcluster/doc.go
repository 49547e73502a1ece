// Package netcluster runs clusters of real clusterd processes on machines in
// small: each node has a network namespace of its own with one interface, and
// a switch in this process carries the packets between them. So a test can cut
// the network in two, in one direction only, slow it down or lose packets, and
// kill or stop processes meanwhile.
//
//	host "m1"          host "m2"          host "a1"          host "client"
//	10.77.0.1          10.77.0.2          10.77.0.101        10.77.0.254
//	clusterd master    clusterd master    clusterd agent     sockets of the test
//	   | eth0             | eth0             | eth0             | eth0
//	   +------------------+------- Network --+------------------+
//	              drops, delays and loses, each direction by itself
//
// The interfaces are TUN devices. Pairs of veth on a bridge would do for cutting,
// but what slows packets down (netem) or picks them out (nftables, most classifiers
// of tc) is missing from many kernels and containers, and veth needs programs
// to set up. A switch of our own needs root and /dev/net/tun and nothing else,
// does not touch the machine's own network, and leaves nothing behind: the
// namespaces and interfaces have no names, so they are gone with the last process
// inside, even if the test is killed; and the daemons are killed with it.
//
// [New] makes a [Network], [Network.Host] a [Host]. [Start] runs a [Cluster] and
// [Cluster.Subscribe] a [Workload], a framework whose tasks count their own starts.
// A Network is safe for concurrent use; a Cluster and a Workload are used by the
// goroutine of their test. Imported by tests and internal/bench only.
package netcluster
