package render

import (
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// FullTasks writes the tasks of one id in the form of the v1 API, which tells more than
// /tasks: messages, reasons and sources of statuses, the kill policy. A framework id of ""
// means any. Newest last.
func FullTasks(v *core.View, frameworkID, taskID string, viewer *authz.Viewer) Body {
	var p plan
	p.text(`{"tasks":[`)
	if taskID != "" {
		q := TaskQuery{FrameworkID: frameworkID, TaskID: taskID, Limit: -1, Ascending: true}
		list(&p, pickTasks(v, q, sight{viewer}, nil), jsonTask)
	}
	p.text("]}")
	return p.write()
}
