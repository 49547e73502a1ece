package server

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
)

// agentProxyRoutes are those by which agents are reached through masters.
func (s *Server) agentProxyRoutes(rt *httpapi.Router) {
	s.proxy.agent = &httputil.ReverseProxy{
		Transport: throughTunnels{}, FlushInterval: -1, ErrorLog: newErrorLog(s.log),
		Rewrite: s.toAgent, ModifyResponse: s.fromAgent, ErrorHandler: s.agentFails,
	}
	rt.Handle(agentPath, httpapi.Access{Realm: authn.MasterReadwrite, Reading: authn.MasterReadonly}, s.proxyAgent)
}

// toOneAgent is a request that goes to an agent.
type toOneAgent struct {
	t   *term
	id  string
	url *url.URL
	r   *http.Request // as it came
	// who sends it, if this master knows; else authorization is for the agent to look at.
	who           *authz.Principal
	authorization string
}

type agentKey struct{}

func agentOf(r *http.Request) *toOneAgent {
	a, _ := r.Context().Value(agentKey{}).(*toOneAgent)
	return a
}

// throughTunnels sends requests by the connections of their agents.
type throughTunnels struct{}

// RoundTrip sends a request.
func (throughTunnels) RoundTrip(r *http.Request) (*http.Response, error) {
	return agentOf(r).t.tunnels.transport.RoundTrip(r)
}

// tunnelHost is the name of an agent in the URLs of requests to it: ids may hold what a host
// may not.
func tunnelHost(agent string) string { return hex.EncodeToString([]byte(agent)) + ".agent" }

func tunnelAgent(addr string) (string, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	id, err := hex.DecodeString(strings.TrimSuffix(host, ".agent"))
	return string(id), err
}

// proxyAgent serves a path of an agent, at the leader, which has the agents' links. Here the
// caller is authenticated; the agent decides what they may do.
func (s *Server) proxyAgent(w http.ResponseWriter, r *http.Request) error {
	httpapi.Stream(r) // how long agents take says nothing of this master
	path, err := below(r, agentPath)
	if err != nil {
		return err
	}
	if err := ownPages(r); err != nil {
		return err
	}
	t := s.term.Load()
	if t == nil || !t.lead.Holds() {
		if isWithinProxy(r) {
			return noLeader("The leader has just changed")
		}
		return s.passOn(w, r, agentPath+path)
	}
	if httpapi.PrincipalOf(r).OnlyClaims() {
		return httpapi.StatusError(http.StatusForbidden)
	}
	escaped, rest, _ := strings.Cut(path[1:], "/")
	id, err := url.PathUnescape(escaped)
	if err != nil || id == "" {
		return httpapi.NotFound("Expecting the id of an agent below %s", agentPath)
	}
	u, err := url.ParseRequestURI(withQuery(r, "/"+rest))
	if err != nil {
		return httpapi.BadRequest("%v", err)
	}
	u.Scheme, u.Host = "http", tunnelHost(id)
	if err := auditForAgent(w, r, id, u.Path); err != nil {
		return err
	}
	r, done, err := s.proxy.begin(s, r)
	if err != nil {
		return err
	}
	defer done()
	end, err := t.tunnels.begin(id)
	if err != nil {
		return t.agentError(r.Context(), id, err)
	}
	defer end()
	to := &toOneAgent{t: t, id: id, url: u, r: r}
	s.introduce(to)
	s.proxy.agent.ServeHTTP(w, newFlow(w, r.WithContext(context.WithValue(r.Context(), agentKey{}, to))))
	return nil
}

// loaded are what a browser loads into a page. What an agent answers is data: it must not
// become part of a page of ours, however it is labelled.
var loaded = []string{"script", "style", "worker", "sharedworker", "serviceworker", "audioworklet", "paintworklet", "manifest", "object", "embed", "iframe", "frame", "xslt"}

// ownPages refuses requests that a page may not make, or not of another site.
func ownPages(r *http.Request) error {
	if slices.Contains(loaded, r.Header.Get("Sec-Fetch-Dest")) {
		return httpapi.Forbidden("What agents answer is not to be loaded into a page")
	}
	if r.Header.Get("Upgrade") != "" && !httpapi.FromHere(r) {
		return httpapi.Forbidden("Refused: the request comes from another site (%s)", r.Header.Get("Origin"))
	}
	return nil
}

// maxLooked is the longest call that is looked at, for what is noted of it.
const maxLooked = 64 << 10

// auditForAgent notes a request that may change something. Of calls that only read, which
// those who look at containers make all the time, nothing is noted.
func auditForAgent(w http.ResponseWriter, r *http.Request, id, path string) error {
	upgrade := r.Header.Get("Upgrade") != ""
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && !upgrade {
		return nil
	}
	action := r.Method
	if path == "/api/v1" && r.Method == http.MethodPost && r.ContentLength > 0 && r.ContentLength <= maxLooked &&
		r.Header.Get("Content-Encoding") == "" {
		body, err := httpapi.ReadBody(w, r, maxLooked)
		if err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if typ, ok := callType(r, body); ok {
			if onlyReads(typ) {
				return nil
			}
			action = typ
		}
	}
	httpapi.Audit(r, action, "agent_id", id, "agent_path", path)
	return nil
}

// callType is the type of a call of the agent's API.
func callType(r *http.Request, body []byte) (string, bool) {
	media, err := httpapi.RequestMedia(r)
	if err != nil {
		return "", false
	}
	call := new(agentv1.Call)
	if httpapi.UnmarshalAgentCall(body, media, call) != nil {
		return "", false
	}
	return call.GetType().String(), true
}

func onlyReads(typ string) bool {
	return strings.HasPrefix(typ, "GET_") || strings.HasPrefix(typ, "WAIT_") || typ == "LIST_FILES" || typ == "READ_FILE"
}

// toAgent makes the request that the agent gets.
func (s *Server) toAgent(p *httputil.ProxyRequest) {
	a := agentOf(p.In)
	p.Out.URL = a.url
	p.Out.Host = p.In.Host // what browsers say of an origin is compared with it
	p.SetXForwarded()
	client := p.In.RemoteAddr
	if c := httpapi.ClientOf(p.In); c != "" {
		client = c
	}
	h := p.Out.Header
	h.Set(link.ClientHeader, client)
	for _, name := range []string{link.PrincipalHeader, link.RulesHeader, proxyHeader, certHeader} {
		h.Del(name)
	}
	h.Del("Cookie")
	h.Del("Authorization")
	if a.who != nil {
		h.Set(link.PrincipalHeader, link.EncodePrincipal(a.who.Value, a.who.Claims))
		if rules := s.proxy.rules.encode(s.policy.Load()); rules != "" {
			h.Set(link.RulesHeader, rules)
		}
	}
	if a.authorization != "" {
		h.Set("Authorization", a.authorization)
	}
}

// encodedRules are the rules of this master as agents get them. The zero value is ready for
// use.
type encodedRules struct{ last atomic.Pointer[encoded] }

type encoded struct {
	acls *authz.ACLs
	text string
}

// maxRulesHeader is the longest value that agents take, with room for other headers.
const maxRulesHeader = 128 << 10

// encode makes the value of link.RulesHeader, empty without rules. Rules that are too long
// cannot be read by agents, which then refuse: those that have none of their own.
func (e *encodedRules) encode(acls *authz.ACLs) string {
	if acls == nil {
		return ""
	}
	if last := e.last.Load(); last != nil && last.acls == acls {
		return last.text
	}
	text := link.EncodeRules(acls.Source())
	if len(text) > maxRulesHeader {
		text = "-"
	}
	e.last.Store(&encoded{acls, text})
	return text
}

// introduce finds out who sends a request, for the agent. A secret that this master can check
// is not shown to agents, who could use it elsewhere: not even where nobody is asked who only
// reads. Where this master asks nobody at all, the agent may.
func (s *Server) introduce(to *toOneAgent) {
	if to.who = httpapi.PrincipalOf(to.r); to.who != nil {
		return
	}
	r, err := httpapi.WithSession(to.r)
	if err != nil {
		return // of another page
	}
	asks := false
	for _, realm := range []authn.Realm{authn.MasterReadwrite, authn.MasterReadonly} {
		by := s.opts.Realms[realm]
		if by == nil {
			continue
		}
		asks = true
		if who, err := by.Authenticate(r, realm); err == nil && !who.OnlyClaims() {
			to.who = who
			return
		}
	}
	if !asks {
		to.authorization = r.Header.Get("Authorization")
	}
}

// fromAgentNever are headers by which an answer would act on our pages' origin.
var fromAgentNever = []string{
	"Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed", "Refresh", "Location", "Link", "Sourcemap", "Alt-Svc",
	"Strict-Transport-Security", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials",
	"Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Expose-Headers",
}

// fromAgent makes an agent's answer one that may come from the address of our pages: sandboxes
// hold what tasks have written, which may be pages with scripts.
func (s *Server) fromAgent(r *http.Response) error {
	a := agentOf(r.Request)
	for _, name := range fromAgentNever {
		r.Header.Del(name)
	}
	r.Header.Set("X-Content-Type-Options", "nosniff")
	r.Header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	var failed error
	if r.StatusCode >= http.StatusBadRequest {
		failed = httpapi.Errorf(r.StatusCode, "refused by the agent")
	}
	// Now, since what follows may go on for days.
	s.router.Report(a.r, failed)
	return flowOf(r.Request).answered(r)
}

func (s *Server) agentFails(w http.ResponseWriter, r *http.Request, err error) {
	a := agentOf(r)
	answer := a.t.agentError(context.WithoutCancel(r.Context()), a.id, err)
	s.router.Report(a.r, answer)
	if r.Context().Err() != nil && !errors.Is(err, errNoDialBack) {
		panic(http.ErrAbortHandler) // the client is gone, or this master stops
	}
	flowOf(r).cutBody()
	httpapi.WriteError(w, answer)
}

// agentError is the answer to a request that did not reach its agent.
func (t *term) agentError(ctx context.Context, id string, err error) error {
	switch {
	case errors.Is(err, errNoDialBack), errors.Is(err, errBusyLink):
		return jsonError(http.StatusGatewayTimeout, fmt.Sprintf("Agent %s: %v", id, err))
	case errors.Is(err, errManyRequests):
		e := jsonError(http.StatusServiceUnavailable, fmt.Sprintf("Agent %s: %v", id, err))
		e.Header.Set("Retry-After", "1")
		return e
	case !errors.Is(err, errNotLinked):
		return jsonError(http.StatusBadGateway, fmt.Sprintf("Agent %s: the connection broke off: %v", id, err))
	}
	v, verr := t.view(ctx)
	if verr != nil {
		return noLeader("The leader has just changed")
	}
	if a, ok := v.Agents.Get(id); ok {
		return jsonError(http.StatusBadGateway, "Agent "+id+" on "+a.Info.GetHostname()+" is disconnected")
	}
	if a, ok := v.RecoveredAgents.Get(id); ok {
		e := jsonError(http.StatusBadGateway, "Agent "+id+" on "+a.GetHostname()+" has not come back since the leader changed")
		e.Header.Set("Retry-After", "1") // most are back within a second or two
		return e
	}
	if _, ok := v.Unreachable.Get(id); ok {
		return jsonError(http.StatusBadGateway, "Agent "+id+" is unreachable")
	}
	if _, ok := v.Gone.Get(id); ok {
		return jsonError(http.StatusNotFound, "Agent "+id+" is gone")
	}
	return jsonError(http.StatusNotFound, "There is no agent "+id)
}
