// Package conformance runs software for Mesos v1 that nobody here wrote against
// a real clusterd: frameworks and executors of the public Go library mesos-go,
// unchanged. It is a module of its own so that what they depend on stays out of
// clusterd's.
package conformance
