package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"time"

	mesos "clusterd/api/mesos/v1"
)

// Options are what the flags say.
type Options struct {
	// RuntimeDir is the agent's; what the containerizer keeps lies in its folder docker.
	RuntimeDir string
	// Socket (--docker_socket) is the engine's.
	Socket string
	// SandboxDirectory (--sandbox_directory) is where containers see their sandbox.
	SandboxDirectory string
	// Config (--docker_config) is the content of a config.json with credentials.
	Config string
	// RemoveDelay (--docker_remove_delay) is how long an ended container is kept for
	// whoever wants to look at it.
	RemoveDelay time.Duration
	// StopTimeout (--docker_stop_timeout) is what a container gets between SIGTERM and
	// SIGKILL when it is destroyed.
	StopTimeout time.Duration
	// KillOrphans (--docker_kill_orphans) removes containers of this agent that it does
	// not know when it starts.
	KillOrphans bool
	// MesosImage (--docker_mesos_image) is the image of the container that the agent itself
	// runs in. With it each executor gets a container of that image, which outlives the
	// agent's. Empty: the agent runs on the machine, and executors are its children.
	MesosImage string
	// EnableCFS (--cgroups_enable_cfs) makes the CPUs that are asked for a limit.
	EnableCFS bool
	// Pulled, if set, hears of every pull that ended.
	Pulled func(took time.Duration, err error)
	// Program is this binary; empty: found.
	Program string
	// DNS (--default_container_dns), if set, says which name servers a network has that a
	// container asks for by this name.
	DNS func(mode mesos.ContainerInfo_DockerInfo_Network, network string) (servers, search, options []string)
}

// Names and labels of engine containers.
const (
	// namePrefix is Mesos's: tools look for it.
	namePrefix = "mesos-"
	// agentLabel tells the containers of one agent from those of another, and from all
	// else that the engine runs.
	agentLabel = "clusterd.agent"
	idLabel    = "clusterd.container_id"
)

func (o *Options) dir() string { return filepath.Join(o.RuntimeDir, "docker") }

// owner is what agentLabel says.
func (o *Options) owner() string {
	sum := sha256.Sum256([]byte(o.RuntimeDir))
	return hex.EncodeToString(sum[:8])
}

func (o *Options) program() (string, error) {
	if o.Program != "" {
		return o.Program, nil
	}
	return os.Executable()
}

// run is what the runner is told, in a file.
type run struct {
	Socket string
	Name   string
	// Create is the body of the engine's request.
	Create create
}
