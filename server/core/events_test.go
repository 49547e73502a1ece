package core

import (
	"fmt"
	"strings"
)

// eventText prints an event on one line.
func eventText(e *Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", e.Serial, eventNames[e.Type])
	switch {
	case e.Task != nil:
		fmt.Fprintf(&b, " %s of %s on %s: %s", e.Task.ID, e.Task.FrameworkID, e.Task.AgentID, e.Task.State)
		if e.Status != nil {
			fmt.Fprintf(&b, " by %s", e.Status.GetState())
		}
	case e.Agent != nil:
		a := e.Agent
		fmt.Fprintf(&b, " %s connected=%t active=%t deactivated=%t total=[%s]", e.AgentID, a.Connected, a.Active, a.Deactivated, a.Total)
		if a.DrainInfo != nil {
			fmt.Fprintf(&b, " %s", a.DrainInfo.GetState())
		}
	case e.AgentID != "":
		b.WriteString(" " + e.AgentID)
	case e.Framework != nil:
		f := e.Framework
		fmt.Fprintf(&b, " %s connected=%t active=%t recovered=%t", f.ID, f.Connected, f.Active, f.Recovered)
	}
	for _, q := range e.Quotas {
		b.WriteString(" " + jsonText(q))
	}
	for _, w := range e.Weights {
		b.WriteString(" " + jsonText(w))
	}
	if e.Schedule != nil {
		b.WriteString(" " + jsonText(e.Schedule))
	}
	for _, m := range e.Machines {
		b.WriteString(" " + jsonText(m))
	}
	return b.String()
}

var eventNames = map[EventType]string{
	TaskAdded: "TASK_ADDED", TaskUpdated: "TASK_UPDATED", AgentAdded: "AGENT_ADDED", AgentRemoved: "AGENT_REMOVED",
	FrameworkAdded: "FRAMEWORK_ADDED", FrameworkUpdated: "FRAMEWORK_UPDATED", FrameworkRemoved: "FRAMEWORK_REMOVED",
	AgentUpdated: "AGENT_UPDATED", QuotasUpdated: "QUOTAS_UPDATED", WeightsUpdated: "WEIGHTS_UPDATED",
	MaintenanceUpdated: "MAINTENANCE_UPDATED",
}
