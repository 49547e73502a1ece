// Package authn finds out who sends a request: HTTP basic authentication against
// a file of credentials, JSON web tokens of executors, of users and of an OpenID
// provider, and client certificates (Mesos: src/authentication/http, and the
// authenticators of 3rdparty/libprocess).
//
// [New] makes the authenticators of all realms of a node from its settings; the
// main type is [Authenticator]. Implementations are safe for concurrent use, and
// none of them shows a secret: not in errors, not in logs, not in answers.
// Imported by internal/httpapi, internal/link, internal/cli, and by the fronts of
// master and agent.
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

// Kind is a class of failures, for metrics: there are few of them.
type Kind string

// Kinds of failures.
const (
	// Missing says that the request shows nothing that the authenticator looks at.
	Missing Kind = "missing"
	// Malformed says that what it shows cannot be read.
	Malformed Kind = "malformed"
	// Rejected says that principal, secret, signature or claims are wrong.
	Rejected Kind = "rejected"
	// Expired says that a token was good once.
	Expired Kind = "expired"
	// Unavailable says that it cannot be told at present.
	Unavailable Kind = "unavailable"
)

// Kinds are all kinds of failures.
func Kinds() []Kind { return []Kind{Missing, Malformed, Rejected, Expired, Unavailable} }

// Failure is why a request is not let in.
type Failure struct { //nolint:errname // An answer to a request as much as an error.
	// Status is 401 or 403, or 503 if it cannot be told at present: what the request
	// shows may well be good.
	Status int
	// Challenges are values of WWW-Authenticate, with a 401.
	Challenges []string
	// Kind is for metrics.
	Kind Kind
	// Reason is for the log; it never holds a secret.
	Reason string
}

// Error returns the reason.
func (f *Failure) Error() string { return f.Reason }
