package agent

import (
	"net/http"
	"slices"
	"sync"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

// logPath is where /files shows the log of an agent (AGENT_LOG_VIRTUAL_PATH in
// src/slave/constants.hpp).
const logPath = "/slave/log"

// SetLogFile shows a file as this agent's log; it may be called again when the log goes to
// another one.
func (a *Agent) SetLogFile(path string) error {
	return a.files.AttachAuthorized(path, logPath, func(p *authz.Principal) bool {
		return a.policy.Load().Approver(p, authz.AccessMesosLogs).Allows("")
	})
}

// pendingOperations are the containerizer's operations that are under way, in the order
// in which they began.
type pendingOperations struct {
	mu  sync.Mutex // mu guards what follows.
	all []*pendingOperation
}

type pendingOperation struct {
	name string
	id   *mesos.ContainerID
}

// add notes an operation until done is called.
func (p *pendingOperations) add(name string, id *mesos.ContainerID) (done func()) {
	op := &pendingOperation{name, id}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, op)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.all = slices.DeleteFunc(p.all, func(o *pendingOperation) bool { return o == op })
	}
}

// containerizerDebug is /containerizer/debug: what the containerizer is doing, to find
// out where a container is stuck.
func (a *Agent) containerizerDebug(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	a.pending.mu.Lock()
	all := slices.Clone(a.pending.all)
	a.pending.mu.Unlock()
	o := &object{}
	o.begin('{')
	list(o, "pending", all, func(p *pendingOperation) {
		o.begin('{')
		o.str("operation", p.name)
		o.name("args")
		o.begin('{')
		o.str("containerId", containerText(p.id))
		o.end('}')
		o.end('}')
	})
	o.end('}')
	return httpapi.WriteJSON(w, r, o.b)
}
