// Package executorlink is how the executors that come with clusterd speak with their agent:
// what they read from their environment, a subscription that is renewed while the agent is
// away, status updates that stay until they are acknowledged, and calls.
//
// [Link] is the main type. It is owned by the one goroutine of its executor ([Owner]); the
// link's own goroutines only dial, read and wait, and post what they find to it.
//
// Executors are started for every task or pod, so the package is made for a quick start: HTTP
// and protobuf are done by hand (sub-package wire). agent/commandexecutor,
// agent/defaultexecutor and agent/checks import it.
package executorlink
