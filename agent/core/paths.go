package core

import (
	"path"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// The layout of --work_dir (src/slave/paths.cpp): tools walk it through /files,
// so it is part of the contract.

func executorDir(workDir, agent, framework, executor string) string {
	return path.Join(workDir, "slaves", agent, "frameworks", framework, "executors", executor)
}

func sandboxDir(workDir, agent, framework, executor, container string) string {
	return path.Join(executorDir(workDir, agent, framework, executor), "runs", container)
}

func latestDir(workDir, agent, framework, executor string) string {
	return path.Join(executorDir(workDir, agent, framework, executor), "runs", "latest")
}

func virtualLatest(framework, executor string) string {
	return "/frameworks/" + framework + "/executors/" + executor + "/runs/latest"
}

// volumePath is where a persistent volume lies
// (paths::getPersistentVolumePath). A role's slashes become spaces.
func volumePath(workDir string, r *mesos.Resource) (p string, isMount bool) {
	role := r.GetRole()
	if n := len(r.GetReservations()); n > 0 {
		role = r.GetReservations()[n-1].GetRole()
	}
	under := func(root string) string {
		return path.Join(root, "volumes", "roles", strings.ReplaceAll(role, "/", " "), r.GetDisk().GetPersistence().GetId())
	}
	abs := func(root string) string {
		if path.IsAbs(root) {
			return root
		}
		return path.Join(workDir, root)
	}
	switch src := r.GetDisk().GetSource(); src.GetType() {
	case mesos.Resource_DiskInfo_Source_PATH:
		return under(abs(src.GetPath().GetRoot())), false
	case mesos.Resource_DiskInfo_Source_MOUNT:
		return abs(src.GetMount().GetRoot()), true
	default:
		return under(workDir), false
	}
}

// safeID says whether an id can be a name of a directory. The master has
// checked as much (src/common/validation.cpp, validateID); an agent does not
// take its word where a path would leave the work directory.
func safeID(id string) bool {
	if id == "" || len(id) > 255 || id == "." || id == ".." {
		return false
	}
	for i := range len(id) {
		if id[i] == '/' || id[i] < 0x20 || id[i] == 0x7f {
			return false
		}
	}
	return true
}
