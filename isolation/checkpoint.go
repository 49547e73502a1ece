package isolation

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
)

// configFile, in a container's runtime directory, holds what a containerizer that comes
// back has to know of it. Secrets are not in it.
const configFile = "config"

// checkpointVersion is the format of configFile; one of another is not read. A runtime
// directory does not outlive a boot, and seldom a new version.
//
//	1  2026-11-23  first
const checkpointVersion = 1

// errCheckpoint says that what was written down of a container cannot be used.
var errCheckpoint = errors.New("unusable checkpoint of a container")

// checkpointed is what is written of a ContainerConfig: all but its environment and its
// command, which only matter at its start.
type checkpointed struct {
	Version        int
	Class          Class
	Sandbox        string
	Builtin        Builtin
	User           string
	Stdout, Stderr string

	StdoutRotation, StderrRotation Rotation
	Stdin                          bool

	// Dir is the working directory of its command.
	Dir    string
	RootFS string
	Image  *ImageConfig
	// Volumes are ContainerConfig.Volumes.
	Volumes []string
	// The following are protobuf messages.
	Resources                              [][]byte
	Limits                                 map[string][]byte
	ContainerInfo, FrameworkID, ExecutorID []byte
}

// checkpoint writes down what has to be known of a container. Without it one that nobody
// else remembers is an orphan, so a half written file does no harm.
func (m *Mesos) checkpoint(c *container) error {
	status, err := m.launcher.Status(c.id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	config, dir := c.config, c.dir
	c.mu.Unlock()
	b, err := encodeCheckpoint(config, dir)
	if err != nil {
		return fmt.Errorf("write down container %s: %w", Key(c.id), err)
	}
	temp := filepath.Join(status.RuntimeDir, configFile+".tmp")
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return fmt.Errorf("write down the container: %w", err)
	}
	if err := os.Rename(temp, filepath.Join(status.RuntimeDir, configFile)); err != nil {
		return fmt.Errorf("write down the container: %w", err)
	}
	return nil
}

func encodeCheckpoint(config *ContainerConfig, dir string) ([]byte, error) {
	w := checkpointed{
		Version: checkpointVersion, Class: config.Class, Sandbox: config.Sandbox, Builtin: config.Builtin, User: config.User,
		Stdout: config.Stdout, Stderr: config.Stderr,
		StdoutRotation: config.StdoutRotation, StderrRotation: config.StderrRotation, Stdin: config.Stdin,
		Dir: dir, RootFS: config.RootFS, Image: config.Image, Volumes: config.Volumes,
	}
	var errs []error
	marshal := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		errs = append(errs, err)
		return b
	}
	for _, r := range config.Resources {
		w.Resources = append(w.Resources, marshal(r))
	}
	for name, limit := range config.Limits {
		if w.Limits == nil {
			w.Limits = make(map[string][]byte, len(config.Limits))
		}
		w.Limits[name] = marshal(limit)
	}
	if config.ContainerInfo != nil {
		w.ContainerInfo = marshal(withoutSecrets(config.ContainerInfo))
	}
	if config.FrameworkID != nil {
		w.FrameworkID = marshal(config.FrameworkID)
	}
	if config.ExecutorID != nil {
		w.ExecutorID = marshal(config.ExecutorID)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return json.Marshal(&w)
}

// readCheckpoint reads what was written of a container: its configuration and its
// command's working directory.
func readCheckpoint(runtimeDir string, id *mesos.ContainerID) (config *ContainerConfig, dir string, err error) {
	b, err := os.ReadFile(filepath.Join(runtimeDir, configFile))
	if err != nil {
		return nil, "", err
	}
	return decodeCheckpoint(b, id)
}

func decodeCheckpoint(b []byte, id *mesos.ContainerID) (config *ContainerConfig, dir string, err error) {
	var w checkpointed
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, "", fmt.Errorf("%w: %w", errCheckpoint, err)
	}
	if w.Version != checkpointVersion {
		return nil, "", fmt.Errorf("%w: version %d", errCheckpoint, w.Version)
	}
	config = &ContainerConfig{
		ID: id, Class: w.Class, Sandbox: w.Sandbox, Builtin: w.Builtin, User: w.User, Stdout: w.Stdout, Stderr: w.Stderr,
		StdoutRotation: w.StdoutRotation, StderrRotation: w.StderrRotation, Stdin: w.Stdin,
		RootFS: w.RootFS, Image: w.Image, Volumes: w.Volumes,
	}
	var errs []error
	for _, b := range w.Resources {
		r := &mesos.Resource{}
		errs = append(errs, proto.Unmarshal(b, r))
		config.Resources = append(config.Resources, r)
	}
	for name, b := range w.Limits {
		limit := &mesos.Value_Scalar{}
		errs = append(errs, proto.Unmarshal(b, limit))
		if config.Limits == nil {
			config.Limits = make(map[string]*mesos.Value_Scalar, len(w.Limits))
		}
		config.Limits[name] = limit
	}
	if w.ContainerInfo != nil {
		config.ContainerInfo = &mesos.ContainerInfo{}
		errs = append(errs, proto.Unmarshal(w.ContainerInfo, config.ContainerInfo))
	}
	if w.FrameworkID != nil {
		config.FrameworkID = &mesos.FrameworkID{}
		errs = append(errs, proto.Unmarshal(w.FrameworkID, config.FrameworkID))
	}
	if w.ExecutorID != nil {
		config.ExecutorID = &mesos.ExecutorID{}
		errs = append(errs, proto.Unmarshal(w.ExecutorID, config.ExecutorID))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, "", fmt.Errorf("%w: %w", errCheckpoint, err)
	}
	return config, w.Dir, nil
}
