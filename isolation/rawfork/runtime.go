package rawfork

import _ "unsafe" // for linkname

// What the runtime needs around a fork: the very functions that syscall.ForkExec calls.

//go:linkname runtime_BeforeFork syscall.runtime_BeforeFork
func runtime_BeforeFork() //nolint:revive // the runtime's name

//go:linkname runtime_AfterFork syscall.runtime_AfterFork
func runtime_AfterFork() //nolint:revive // the runtime's name

//go:linkname runtime_AfterForkInChild syscall.runtime_AfterForkInChild
func runtime_AfterForkInChild() //nolint:revive // the runtime's name
