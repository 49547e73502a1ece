package core

import (
	"net/url"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

func lower(s string) string { return strings.ToLower(s) }

// countTask counts a task that has ended, as Mesos's metrics name it: by state,
// and by state, source and reason in the words of the v0 API.
func (c *Core) countTask(fw *framework, s *mesos.TaskStatus) {
	state := lower(s.GetState().String()) // task_lost
	if Terminal(s.GetState()) {
		name := strings.TrimPrefix(state, "task_")
		c.count("master/tasks_" + name)
		c.countFramework(fw, "tasks/terminal/"+state)
	}
	if s.Reason != nil {
		c.count("master/" + state + "/" + slave(lower(s.GetSource().String())) + "/" + slave(lower(s.GetReason().String())))
	}
}

// slave turns a name of the v1 API into the one that it has in v0.
func slave(name string) string { return strings.Replace(name, "agent", "slave", 1) }

// countFramework counts for one framework.
func (c *Core) countFramework(fw *framework, name string) {
	if c.cfg.PublishFrameworkMetrics {
		c.count(fw.metricsPrefix() + name)
	}
}

// metricsPrefix names the framework in the metrics; its name is percent-encoded,
// for it may hold slashes.
func (fw *framework) metricsPrefix() string {
	return "master/frameworks/" + url.QueryEscape(fw.info.GetName()) + "/" + fw.id + "/"
}
