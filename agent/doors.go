package agent

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

// Doors into containers that Mesos does not have, for browsers and the command line. They are
// made of the same pieces as the calls on nested containers, and ask for the same permissions:
// nobody gets by a door what a session would not give.

// Paths of the doors.
const (
	terminalPath = "/api/clusterd/v1/terminal"
	forwardPath  = "/api/clusterd/v1/forward"
	archivePath  = "/api/clusterd/v1/archive"
)

// maxDoors bounds the doors that are open at one time.
const maxDoors = 256

// doors are the open doors.
type doors struct {
	rt   *httpapi.Router // reports to the audit log
	open atomic.Int64
}

// doorRoutes adds the doors to a router.
func (a *Agent) doorRoutes(rt *httpapi.Router) {
	a.doors.rt = rt
	for path, h := range map[string]httpapi.Handler{terminalPath: a.terminal, forwardPath: a.forward, archivePath: a.archive} {
		rt.Handle(path, httpapi.In(authn.AgentReadwrite), func(w http.ResponseWriter, r *http.Request) error {
			if httpapi.Rest(r) != "" {
				return httpapi.StatusError(http.StatusNotFound)
			}
			if a.doors.open.Add(1) > maxDoors {
				a.doors.open.Add(-1)
				return httpapi.Unavailable("Too many terminals, forwarded ports and archives are open on this agent")
			}
			defer a.doors.open.Add(-1)
			httpapi.Stream(r)
			return h(w, r)
		})
	}
}

// throughDoor serves a connection that was taken over, of which http.Server.Shutdown knows
// nothing: Stop waits for it.
func (a *Agent) throughDoor(serve func()) {
	done := make(chan struct{})
	a.wg.Go(func() {
		defer close(done)
		serve()
	})
	<-done
}

// parseContainer reads the id of a container as Mesos writes it: the root's first.
func parseContainer(text string) (*mesos.ContainerID, error) {
	var id *mesos.ContainerID
	for value := range strings.SplitSeq(text, ".") {
		id = &mesos.ContainerID{Value: strp(value), Parent: id}
	}
	if text == "" {
		return nil, httpapi.BadRequest("Expecting 'container_id=value' in query")
	}
	if why := validateContainerID(id); why != "" {
		return nil, httpapi.BadRequest("'container_id' is invalid: %s", why)
	}
	return id, nil
}

// door is a request for one.
type door struct {
	v  *core.View
	id *mesos.ContainerID
}

// openDoor finds the container of a request.
func (a *Agent) openDoor(r *http.Request) (*door, error) {
	id, err := parseContainer(r.URL.Query().Get("container_id"))
	if err != nil {
		return nil, err
	}
	v, err := a.read(r)
	if err != nil {
		return nil, err
	}
	return &door{v: v, id: id}, nil
}

// authorizeSession is the error of who may not launch a command in the container, as the
// user, who is that of the container if empty.
func (a *Agent) authorizeSession(r *http.Request, d *door, user string) error {
	cmd := &mesos.CommandInfo{}
	if user != "" {
		cmd.User = &user
	}
	return a.authorizeDoor(r, d, authz.LaunchNestedContainerSessionsAsUser, cmd)
}

func (a *Agent) authorizeDoor(r *http.Request, d *door, action authz.Action, cmd *mesos.CommandInfo) error {
	id := d.id
	if cmd != nil {
		id = newSessionID(d.id) // as the call would be asked for
	}
	return a.access(r).authorizeContainer(d.v, &containerCall{id: id, cmd: cmd, action: action, known: true}, func(id *mesos.ContainerID) bool {
		return a.standalone(rootOf(id))
	})
}

// newSessionID is the id of a container for a session in another.
func newSessionID(parent *mesos.ContainerID) *mesos.ContainerID {
	return &mesos.ContainerID{Value: strp("door-" + uuid.NewString()[:13]), Parent: parent}
}

// requireRunning is the error of a container that does not run.
func (a *Agent) requireRunning(r *http.Request, id *mesos.ContainerID) error {
	if !a.exists(r.Context(), id) {
		return httpapi.NotFound("Container %s cannot be found", containerText(id))
	}
	if a.ended(r.Context(), id) {
		return httpapi.Conflict("Container %s has ended", containerText(id))
	}
	return nil
}

// pidOf is the process id of a running container's command.
func (a *Agent) pidOf(r *http.Request, d *door) (int, error) {
	if err := a.requireRunning(r, d.id); err != nil {
		return 0, err
	}
	if ofEngine(d.v, d.id) {
		// What runs here is a process of the agent's that stands for it, on the host.
		return 0, httpapi.Errorf(http.StatusNotImplemented, "Container %s is run by a Docker engine: only its sandbox is within reach", containerText(d.id))
	}
	st, err := a.runner.Status(r.Context(), d.id)
	if err != nil {
		return 0, httpapi.Errorf(http.StatusInternalServerError, "%v", err)
	}
	if st.GetExecutorPid() == 0 {
		return 0, httpapi.Conflict("Container %s has no process yet", containerText(d.id))
	}
	return int(st.GetExecutorPid()), nil
}

// ofEngine says whether a Docker engine runs a container.
func ofEngine(v *core.View, id *mesos.ContainerID) bool {
	_, e := containerOf(v, id)
	if e == nil {
		return false
	}
	docker := func(c *mesos.ContainerInfo) bool { return c != nil && c.GetType() == mesos.ContainerInfo_DOCKER }
	if docker(e.Info.GetContainer()) || slices.ContainsFunc(e.Queued, func(t *mesos.TaskInfo) bool { return docker(t.GetContainer()) }) {
		return true
	}
	for _, tasks := range [][]*mesos.Task{e.Launched, e.Terminated, e.Completed} {
		if slices.ContainsFunc(tasks, func(t *mesos.Task) bool { return docker(t.GetContainer()) }) {
			return true
		}
	}
	return false
}

// procPath is a path below a process of /proc.
func procPath(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }
