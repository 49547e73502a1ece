package isolation

// What a containerizer counts, in Mesos's words (section "containers" of the agent's
// metrics).
const (
	// CountDestroyErrors are containers at a limit that could not be destroyed. Of
	// failures of Destroy its caller knows.
	CountDestroyErrors = "containerizer/mesos/container_destroy_errors"
	// CountRemoveErrors are root file systems that could not be removed.
	CountRemoveErrors = "containerizer/mesos/provisioner/remove_container_errors"
)

// SetCount says whom to tell what happened once more. Call it before Recover.
func (m *Mesos) SetCount(count func(name string)) { m.count = count }

func (m *Mesos) counted(name string) {
	if m.count != nil {
		m.count(name)
	}
}

// RootFilesystems says how many containers at the top run in root file systems of their
// own.
func (m *Mesos) RootFilesystems() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, c := range m.containers {
		if c.id.GetParent() != nil {
			continue
		}
		select {
		case <-c.ended:
			continue
		default:
		}
		c.mu.Lock()
		info := c.config.ContainerInfo
		c.mu.Unlock()
		if info.GetMesos().GetImage() != nil {
			n++
		}
	}
	return n
}
