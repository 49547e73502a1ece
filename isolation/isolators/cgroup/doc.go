// Package cgroup has the isolators that work through control groups: cgroups/cpu,
// cgroups/mem, cgroups/pids, cgroups/cpuset, cgroups/blkio, cgroups/devices,
// cgroups/hugetlb, cgroups/net_cls, cgroups/net_prio and cgroups/perf_event, on cgroup v1
// and v2. cgroups/all stands for those that the machine has.
//
// Set is the main type: it makes them, all on one cgroups.Tree, which the linux launcher
// shares. Each isolator is one type that does what its subsystem asks for (a controller),
// in a frame that all have in common (isolator): which containers have cgroups of their
// own, and which share those of their parent (LinuxInfo.share_cgroups; DEBUG containers
// always do).
//
//	                 v1                                   v2
//	cpu request      cpu.shares = 1024 a CPU              cpu.weight = 100 a CPU
//	cpu limit        cpu.cfs_quota_us                     cpu.max
//	mem request      memory.soft_limit_in_bytes           memory.low
//	mem burst        -                                    memory.high
//	mem limit        memory.limit_in_bytes (and memsw)    memory.max (and memory.swap.max)
//	out of memory    eventfd on memory.oom_control        inotify on memory.events
//	pressure         eventfds on memory.pressure_level    memory.pressure (PSI)
//	pids             pids.max                             pids.max
//	blkio            blkio.throttle.*                     io.stat, io.max
//	devices          devices.allow, devices.deny          an eBPF program
//
// On v2 memory.low is used for requests, as in Mesos: below its request a container's
// memory is taken by the kernel only when there is nothing else to take, which is what
// the soft limit of v1 comes down to as well. The root directory has no bound on it, or
// the containers' would count for nothing. memory.min would rather call the OOM killer on
// others; it is not touched.
//
// The types are safe for concurrent use. isolation/setup imports the package.
package cgroup
