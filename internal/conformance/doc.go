// Package conformance runs software for Mesos v1 that nobody here wrote against
// a real clusterd, unchanged: frameworks and executors of the public Go library
// mesos-go, its operator's client and its watcher of events, Telegraf's input for
// Mesos, and the Prometheus exporter for Mesos where MESOS_EXPORTER names one. It
// is a module of its own, and so is telegraf below it, so that what they depend
// on stays out of clusterd's.
package conformance
