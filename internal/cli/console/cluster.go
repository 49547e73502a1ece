package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	"clusterd/api/client"
	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesosjson"
)

// callTimeout bounds a call that is answered at once.
const callTimeout = 30 * time.Second

// OwnPath is the prefix of the endpoints that Mesos has not.
const OwnPath = "/api/clusterd/v1/"

// Cluster is the connection to a cluster: to its leader and to its agents, by way of any
// of its masters. Use [Connect].
type Cluster struct {
	target *target
	urls   []*url.URL
	base   http.RoundTripper
	shared *doorState
	http   *http.Client // to the leader, which is waited for
	atOnce *http.Client // the same, without waiting
	calls  *operator.Master
	master *operator.Master // for events, which wait themselves
}

// Connect reads the flags, the environment and the config file. Nothing is sent yet.
func Connect(c *cliv2.Context) (*Cluster, error) {
	t, err := targetOf(c)
	if err != nil {
		return nil, err
	}
	cl := &Cluster{target: t, shared: &doorState{plain: map[int]bool{}, waiting: Env{Err: c.App.ErrWriter}}}
	if cl.shared.patience, err = patienceOf(c); err != nil {
		return nil, err
	}
	api := client.New(t.opts)
	for _, a := range t.masters {
		u, err := api.ParseAddress(a)
		if err != nil {
			return nil, Hint(fmt.Errorf("%w: --master: %w", ErrUsage, err), "HOST:5050, several with commas")
		}
		cl.urls = append(cl.urls, u)
	}
	cl.base = client.NewTLSClient(nil, t.opts.TLS).Transport
	cl.http, cl.atOnce = cl.through(leaderPrefix, true, nil), cl.through(leaderPrefix, false, nil)
	if cl.master, err = operator.NewMaster(t.masters[:1], operator.Options{Options: cl.Options()}); err != nil {
		return nil, err
	}
	waiting := cl.Options()
	waiting.HTTPClient, waiting.CallTimeout = cl.http, callTimeout+cl.shared.patience
	cl.calls, err = operator.NewMaster(t.masters[:1], operator.Options{Options: waiting})
	return cl, err
}

// AtOnce is for who sees to it that a leader is waited for, or wants to know that there is
// none: nothing that is sent waits any more. Call it while nothing is being sent.
func (cl *Cluster) AtOnce() *Cluster {
	cl.shared.patience = 0
	return cl
}

// through is an HTTP client by a path of the masters. Redirects are not followed: the
// clients of the API do that themselves.
func (cl *Cluster) through(prefix string, patient bool, direct func(context.Context) (*url.URL, error)) *http.Client {
	return &http.Client{
		Transport:     &door{base: cl.base, masters: cl.urls, prefix: prefix, direct: direct, shared: cl.shared, patient: patient},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Options are for clients of the leader's API, such as that of schedulers; use them with
// [Cluster.Address]. These have a way of their own to wait for a leader.
func (cl *Cluster) Options() client.Options {
	o := cl.target.opts
	o.HTTPClient, o.CallTimeout = cl.atOnce, callTimeout
	return o
}

// Address is where clients with [Cluster.Options] send to. It is a master's, but what is
// sent there reaches any.
func (cl *Cluster) Address() string { return cl.target.masters[0] }

// DirectOptions are for what must be sent to one certain server; use them with addresses
// of [Cluster.Masters].
func (cl *Cluster) DirectOptions() client.Options { return cl.target.opts }

// Masters are the addresses of masters that were given.
func (cl *Cluster) Masters() []string { return slices.Clone(cl.target.masters) }

// Principal is whom a credential says that asks, empty without one.
func (cl *Cluster) Principal() string {
	if cl.target.opts.Credential == nil {
		return ""
	}
	return cl.target.opts.Credential.Principal
}

// Context is the name of the context in use, empty without one.
func (cl *Cluster) Context() string { return cl.target.name }

// Explain adds advice to an error of a request.
func (cl *Cluster) Explain(err error) error { return explain(err, cl.target.masters) }

// Ask asks the leader for what a call without arguments gives.
func (cl *Cluster) Ask(ctx context.Context, t master.Call_Type) (*master.Response, error) {
	return cl.Call(ctx, &master.Call{Type: &t})
}

// Call sends the leader a call of the operator API. Errors are explained. A call that only
// looks is sent again where its answer was cut off.
func (cl *Cluster) Call(ctx context.Context, call *master.Call) (*master.Response, error) {
	looks := strings.HasPrefix(call.GetType().String(), "GET_")
	if looks {
		ctx = Harmlessly(ctx)
	}
	for attempt := 0; ; attempt++ {
		res, err := cl.calls.Call(ctx, call)
		if looks && errors.Is(err, io.ErrUnexpectedEOF) && attempt < 3 && ctx.Err() == nil {
			continue
		}
		return res, cl.Explain(err)
	}
}

// Events yields the leader's events: what has changed since, if Bare, else after a
// SUBSCRIBED with the state. It goes on after a failover.
func (cl *Cluster) Events(ctx context.Context, o operator.EventsOptions) iter.Seq2[*clusterdv1.OperatorEvent, error] {
	return func(yield func(*clusterdv1.OperatorEvent, error) bool) {
		for e, err := range cl.master.Events(ctx, o) {
			if !yield(e, cl.Explain(err)) || err != nil {
				return
			}
		}
	}
}

// agentHTTP is an HTTP client of one agent, by way of the masters.
func (cl *Cluster) agentHTTP(id string) *http.Client {
	return cl.through(agentPrefix+url.PathEscape(id), true, func(ctx context.Context) (*url.URL, error) {
		return cl.agentURL(ctx, id)
	})
}

// agentURL is where an agent listens itself, for masters that do not forward.
func (cl *Cluster) agentURL(ctx context.Context, id string) (*url.URL, error) {
	res, err := cl.Ask(ctx, master.Call_GET_AGENTS)
	if err != nil {
		return nil, err
	}
	for _, a := range res.GetGetAgents().GetAgents() {
		if a.GetAgentInfo().GetId().GetValue() == id {
			_, address, _ := strings.Cut(a.GetPid(), "@")
			return client.New(cl.target.opts).ParseAddress(address)
		}
	}
	return nil, Mark(ErrNotFound, fmt.Errorf("agent %s is not registered", id))
}

// Agent speaks the operator API with an agent, by way of the masters. Give its errors to
// [Cluster.Explain].
func (cl *Cluster) Agent(id string) *operator.Agent {
	o := cl.target.opts
	o.HTTPClient, o.CallTimeout = cl.agentHTTP(id), callTimeout+cl.shared.patience
	a, err := operator.NewAgent(cl.target.masters[0], operator.Options{Options: o})
	if err != nil {
		panic(err) // Connect has read this address
	}
	return a
}

// Request makes a request for Do or AgentDo: path is that of the server meant, with its query.
func (cl *Cluster) Request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(cl.urls[0].String(), "/")+"/"+strings.TrimPrefix(path, "/"), body)
	if err != nil {
		return nil, err
	}
	authorize(r, &cl.target.opts)
	return r, nil
}

// Do sends a request to the leader. An answer other than 2xx is an error, explained.
func (cl *Cluster) Do(r *http.Request) (*http.Response, error) { return cl.do(cl.http, r) }

// AgentDo sends a request to an agent, like Do.
func (cl *Cluster) AgentDo(id string, r *http.Request) (*http.Response, error) {
	return cl.do(cl.agentHTTP(id), r)
}

func (cl *Cluster) do(h *http.Client, r *http.Request) (*http.Response, error) {
	for range 5 {
		res, err := h.Do(r)
		if err != nil {
			return nil, cl.Explain(err)
		}
		if res.StatusCode < 300 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, nil
		}
		text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // the status is the error; a body that cannot be read adds nothing
		_ = res.Body.Close()                                    // it has been read
		if res.StatusCode != http.StatusTemporaryRedirect {
			return nil, cl.Explain(&client.StatusError{Code: res.StatusCode, Body: message(text), Header: res.Header})
		}
		if r, err = followed(r, res.Header.Get("Location")); err != nil {
			return nil, err
		}
	}
	return nil, client.ErrRedirects
}

// message is the text of a refusal; those of our own endpoints are JSON.
func message(body []byte) string {
	var e struct {
		Error   any    `json:"error"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &e) != nil {
		return string(body)
	}
	switch v := e.Error.(type) {
	case string:
		return v
	case map[string]any:
		if m, ok := v["message"].(string); ok {
			return m
		}
	}
	if e.Message != "" {
		return e.Message
	}
	return string(body)
}

// followed is a request again, at the leader that a master that does not forward names:
// at the same path and not out of TLS. Who asks is told to nobody else.
func followed(r *http.Request, location string) (*http.Request, error) {
	to, err := r.URL.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("redirect to %q: %w", location, err)
	}
	switch {
	case r.URL.Scheme == "https" && to.Scheme != "https":
		return nil, fmt.Errorf("%w: %s leads out of TLS", errRedirect, to.Redacted())
	case to.Path != r.URL.Path:
		return nil, fmt.Errorf("%w: %s is not what was asked for", errRedirect, to.Redacted())
	}
	again, err := rewound(r, 1)
	if err != nil {
		return nil, err
	}
	again.URL, again.Host = to, to.Host
	again.URL.RawQuery = r.URL.RawQuery
	return again, nil
}

// Direct is an HTTP client for what must be sent to one certain master. A redirect to the
// leader is followed at the same path and not out of TLS, and who asks is told to that
// leader and to nobody else. Go by itself would not tell another host.
func (cl *Cluster) Direct() *http.Client {
	return &http.Client{Transport: cl.base, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		first, last := via[0], via[len(via)-1]
		switch {
		case len(via) >= 5:
			return fmt.Errorf("%w: %w", errRedirect, client.ErrRedirects)
		case last.URL.Scheme == "https" && r.URL.Scheme != "https":
			return fmt.Errorf("%w: %s leads out of TLS", errRedirect, r.URL.Redacted())
		case r.URL.Path != first.URL.Path:
			return fmt.Errorf("%w: %s is not what was asked for", errRedirect, r.URL.Redacted())
		}
		authorize(r, &cl.target.opts)
		return nil
	}}
}

// Authorize adds who asks to a request for [Cluster.Direct].
func (cl *Cluster) Authorize(r *http.Request) { authorize(r, &cl.target.opts) }

// errRedirect says that a redirect is not followed.
var errRedirect = errors.New("redirect is not followed")

// authorize adds who asks to a request.
func authorize(r *http.Request, o *client.Options) {
	switch {
	case o.Token != "":
		r.Header.Set("Authorization", "Bearer "+o.Token)
	case o.Credential != nil:
		r.SetBasicAuth(o.Credential.Principal, o.Credential.Secret)
	}
}

// Get asks the leader for a path and decodes its JSON into out: a proto message or
// what encoding/json takes.
func (cl *Cluster) Get(ctx context.Context, path string, out any) error {
	return cl.exchange(ctx, cl.Do, http.MethodGet, path, nil, out)
}

// AgentGet is Get at an agent.
func (cl *Cluster) AgentGet(ctx context.Context, id, path string, out any) error {
	return cl.exchange(ctx, func(r *http.Request) (*http.Response, error) { return cl.AgentDo(id, r) }, http.MethodGet, path, nil, out)
}

// Post sends the leader JSON and decodes the answer, if out is not nil.
func (cl *Cluster) Post(ctx context.Context, path string, in, out any) error {
	return cl.exchange(ctx, cl.Do, http.MethodPost, path, in, out)
}

func (cl *Cluster) exchange(ctx context.Context, do func(*http.Request) (*http.Response, error), method, path string, in, out any) error {
	limit := callTimeout + cl.shared.patience
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: no answer within %s", ErrTimeout, limit))
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := encode(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := cl.Request(ctx, method, path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := do(r)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || out == nil {
		return err
	}
	if m, ok := out.(proto.Message); ok {
		return mesosjson.Unmarshal(b, m)
	}
	return json.Unmarshal(b, out)
}

func encode(v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		return mesosjson.Marshal(m)
	}
	return json.Marshal(v)
}

// DialAgent opens a websocket at an agent, by way of the masters.
func (cl *Cluster) DialAgent(ctx context.Context, id, path string) (*websocket.Conn, error) {
	r, err := cl.Request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	conn, res, err := websocket.Dial(ctx, r.URL.String(), &websocket.DialOptions{HTTPClient: cl.agentHTTP(id), HTTPHeader: r.Header}) //nolint:bodyclose // the package says that it is never to be closed
	if err == nil {
		return conn, nil
	}
	if res != nil && res.StatusCode != http.StatusSwitchingProtocols && res.Body != nil {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // the status is the error; a body that cannot be read adds nothing
		err = &client.StatusError{Code: res.StatusCode, Body: message(text), Header: res.Header}
	}
	return nil, cl.Explain(err)
}

// UpgradeAgent opens a stream of bytes at an agent by `Connection: Upgrade`.
func (cl *Cluster) UpgradeAgent(ctx context.Context, id, path, protocol string) (io.ReadWriteCloser, error) {
	r, err := cl.Request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", protocol)
	res, err := cl.AgentDo(id, r)
	if err != nil {
		return nil, err
	}
	rw, ok := res.Body.(io.ReadWriteCloser)
	if res.StatusCode != http.StatusSwitchingProtocols || !ok {
		discard(res)
		return nil, errors.New("the agent did not switch to " + protocol)
	}
	return rw, nil
}

// AgentFiles reads the files of an agent; MasterFiles those of the leader.
func (cl *Cluster) AgentFiles(id string) operator.Files { return lookedAt{cl.Agent(id)} }

// MasterFiles reads the files of the leader.
func (cl *Cluster) MasterFiles() operator.Files { return lookedAt{cl.calls} }

// lookedAt are files; to read them changes nothing.
type lookedAt struct{ files operator.Files }

// ReadFile implements operator.Files.
func (l lookedAt) ReadFile(ctx context.Context, path string, offset, length uint64) ([]byte, uint64, error) {
	return l.files.ReadFile(Harmlessly(ctx), path, offset, length)
}

// ListFiles implements operator.Files.
func (l lookedAt) ListFiles(ctx context.Context, path string) ([]*mesos.FileInfo, error) {
	return l.files.ListFiles(Harmlessly(ctx), path)
}

// AgentID is a wrapper for calls.
func AgentID(id string) *mesos.AgentID { return &mesos.AgentID{Value: &id} }

// FrameworkID is a wrapper for calls.
func FrameworkID(id string) *mesos.FrameworkID { return &mesos.FrameworkID{Value: &id} }
