// Package disk has the isolators of disk space.
//
// DU (disk/du) counts what lies in the directories of containers, now and then, and can
// have a container destroyed that has written more than its share. It works on every
// file system; between two looks a container writes as much as it likes.
//
// XFS (disk/xfs) gives each container a project of XFS's quotas: the kernel counts, and
// refuses what is too much. A task that owns a file may give it to another project,
// unless it runs in a user namespace: the kernel has it so. So this too stops the
// careless rather than the malicious.
//
// Both are safe for concurrent use. Each has one goroutine while it has containers, which
// ends with the last of them, or with Close. isolation/setup imports this package.
package disk
