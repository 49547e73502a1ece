// Package authn finds out who sends a request: HTTP basic authentication against
// a file of credentials, JSON web tokens of executors, of users and of an OpenID
// provider, and client certificates (Mesos: src/authentication/http).
//
// The main type is [Authenticator]; implementations are safe for concurrent use.
// Imported by internal/httpapi, and by the fronts of master and agent.
package authn

import (
	"net/http"

	"clusterd/internal/authz"
)

// Realm is a set of endpoints that ask for the same credentials.
type Realm string

// Realms of a master and of an agent, by Mesos's names.
const (
	MasterReadonly  Realm = "mesos-master-readonly"
	MasterReadwrite Realm = "mesos-master-readwrite"
	MasterScheduler Realm = "mesos-master-scheduler"
	// MasterAgent is the realm of agents' links, which Mesos has not.
	MasterAgent           Realm = "clusterd-master-agent"
	AgentReadonly         Realm = "mesos-agent-readonly"
	AgentReadwrite        Realm = "mesos-agent-readwrite"
	AgentExecutor         Realm = "mesos-agent-executor"
	AgentResourceProvider Realm = "mesos-agent-resource-provider"
)

// Authenticator finds out who sends a request to an endpoint of a realm. It fails
// with a [*Failure].
type Authenticator interface {
	Authenticate(r *http.Request, realm Realm) (*authz.Principal, error)
}

// Realms are the authenticators of realms; a realm that is not in it is open.
type Realms map[Realm]Authenticator

// Credential is a principal and its secret.
type Credential struct {
	Principal string
	Secret    []byte
}

// ExecutorTokens makes and checks the tokens of executors.
type ExecutorTokens struct{}

// New makes the token of one executor's container.
func (t *ExecutorTokens) New(frameworkID, executorID, containerID string) (string, error) {
	return "", nil
}

// Failure is why a request is not let in.
type Failure struct {
	// Status is 401 or 403.
	Status int
	// Challenges are values of WWW-Authenticate, with a 401.
	Challenges []string
	// Reason is for the log; it never holds a secret.
	Reason string
}

// Error returns the reason.
func (f *Failure) Error() string { return f.Reason }
