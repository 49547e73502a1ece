package cgroups

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
)

// Names of directories, as Mesos has them
// (src/slave/containerizer/mesos/paths.cpp, .../constants.hpp).
const (
	// nestedDir holds the nested containers of a container.
	nestedDir = "mesos"
	// leafDir holds the processes of a container on cgroup v2, where a cgroup that
	// has others below it may have none of its own.
	leafDir = "leaf"
	// agentDir and slaveDir hold the agent itself, on cgroup v2 and v1.
	agentDir, slaveDir = "agent", "slave"
)

// key is the text form of a container's id.
func key(id *mesos.ContainerID) string {
	if id.GetParent() == nil {
		return id.GetValue()
	}
	return key(id.GetParent()) + "." + id.GetValue()
}

// relative is the path of a container's cgroup below the root.
func relative(id *mesos.ContainerID) string {
	if id.GetParent() == nil {
		return id.GetValue()
	}
	return relative(id.GetParent()) + "/" + nestedDir + "/" + id.GetValue()
}

// usable says whether a container can have this id here: it must be a file name that
// nothing else has.
func usable(id *mesos.ContainerID) bool {
	for i := id; i != nil; i = i.GetParent() {
		v := i.GetValue()
		if v == "" || len(v) > 255 || strings.ContainsAny(v, "/. \t\n\x00") {
			return false
		}
		if i.GetParent() == nil && (v == agentDir || v == slaveDir) {
			return false
		}
	}
	return id != nil
}

// containersIn finds the containers in the directory of a root, or of the containers
// nested in one.
func containersIn(dir string, parent *mesos.ContainerID, found map[string]*mesos.ContainerID) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		id := &mesos.ContainerID{Value: &name, Parent: parent}
		if !e.IsDir() || !usable(id) {
			continue
		}
		found[key(id)] = id
		path := filepath.Join(dir, name)
		if hasChildren(path) {
			if err := containersIn(filepath.Join(path, nestedDir), id, found); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasChildren says whether a cgroup has cgroups below it: its directory has as many
// links as there are, and two.
func hasChildren(dir string) bool {
	var st unix.Stat_t
	return unix.Stat(dir, &st) == nil && st.Nlink != 2
}

// children lists the cgroups right below one.
func children(dir string) []string {
	if !hasChildren(dir) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(dir, e.Name()))
		}
	}
	return dirs
}

// sorted lists ids in order of their keys.
func sorted(found map[string]*mesos.ContainerID) []*mesos.ContainerID {
	keys := make([]string, 0, len(found))
	for k := range found {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	ids := make([]*mesos.ContainerID, 0, len(keys))
	for _, k := range keys {
		ids = append(ids, found[k])
	}
	return ids
}
