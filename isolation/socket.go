package isolation

import "path/filepath"

// ContainerSocketDirectory is where a container with a root of its own sees the
// directory of ExecutorSocket.
const ContainerSocketDirectory = "/mnt/mesos/agent"

// ExecutorSocket is a second name of the socket by which executors reach the agent,
// alone in a directory. Containers with a root of their own are given that directory,
// not the socket: they must find the socket of the next agent, too, and nothing else
// of this one's.
func ExecutorSocket(socket string) string { return filepath.Join(socket+".d", "agent.sock") }
