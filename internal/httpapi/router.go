package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"clusterd/internal/metrics"
)

// Handler answers a request, or returns an error: an [Error] is written as it
// is, anything else as 500. A Handler that has begun its answer returns nil.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Router finds the handler of a path the way libprocess does
// (process.cpp, ProcessBase::consume): with or without the prefix of the main
// process (`/master`, `/slave(1)`), trailing slashes ignored, and the longest
// registered prefix wins, so that `/api/v1/` and `/slaves/<id>` answer as their
// base paths do. Paths also work with the suffix `.json` that old clients add.
type Router struct {
	// OnError, if set, is told every error a handler returned, to log it.
	OnError func(r *http.Request, err error)
	// OnAudit, if set, is told of every request that was to change something.
	OnAudit func(r *http.Request, a Audited)
	// Guards say who is let in.
	Guards

	prefixes []string
	routes   map[string]route
	disabled map[string]bool // by registered path
	// durations of requests; nil until Measure.
	durations *metrics.HistogramVec
}

// route is a registered path.
type route struct {
	access Access
	handle Handler
}

// NewRouter returns a router whose routes also answer below the prefixes, such
// as "master". The first one is the name shown by `/help`.
func NewRouter(prefixes ...string) *Router {
	return &Router{prefixes: prefixes, routes: make(map[string]route), disabled: make(map[string]bool)}
}

// Handle registers a handler for a path such as "/api/v1"; "/" is the handler
// of exactly that path. Registering a path twice panics, and so does an access that
// says neither a realm nor why there is none.
func (rt *Router) Handle(path string, a Access, h Handler) {
	name := strings.Trim(path, "/")
	if (a.Realm == "") == (a.Open == "") {
		panic(fmt.Sprintf("httpapi: route %q must have a realm, or a reason to be open", path))
	}
	if _, ok := rt.routes[name]; ok {
		panic(fmt.Sprintf("httpapi: route %q registered twice", path))
	}
	rt.routes[name] = route{a, h}
}

// Disable makes endpoints answer 403 before anything else is looked at
// (`--firewall_rules`). Where Mesos compares the path of a request with the rule, letter by
// letter, here no other spelling of the path leads around the rule: with or without the
// prefix, a slash at the end, or `.json`. It returns those paths that are none.
func (rt *Router) Disable(paths ...string) (unknown []string) {
	for _, p := range paths {
		found, rest, ok := rt.lookup(rt.trim(p))
		if !ok || rest != "" {
			unknown = append(unknown, p)
			continue
		}
		rt.disabled[found] = true
	}
	return unknown
}

// trim takes the prefix of the main process and the slashes around it off a path.
func (rt *Router) trim(path string) string {
	name := strings.Trim(path, "/")
	for _, prefix := range rt.prefixes {
		if rest, ok := strings.CutPrefix(name, prefix); ok && (rest == "" || rest[0] == '/') {
			return strings.Trim(rest, "/")
		}
	}
	return name
}

// Rest returns what followed the registered path: "a/b" for `/quota/a/b` when
// "/quota" is registered.
func Rest(r *http.Request) string { return r.PathValue("rest") }

// ServeHTTP dispatches the request.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		limitBody(w)
	}
	if err := rt.serve(w, r); err != nil {
		if rt.OnError != nil {
			rt.OnError(r, err)
		}
		WriteError(w, err)
	}
}

func (rt *Router) serve(w http.ResponseWriter, r *http.Request) error {
	path := r.URL.Path
	if strings.Contains(path, "/..") {
		return StatusError(http.StatusNotFound)
	}
	found, rest, ok := rt.lookup(rt.trim(path))
	if !ok {
		return StatusError(http.StatusNotFound)
	}
	if rt.disabled[found] {
		return Forbidden("Endpoint '%s' is disabled", path)
	}
	if err := ownOrigin(r); err != nil {
		return err
	}
	to, began := rt.routes[found], time.Now()
	if rt.Sessions && hasSession(r) {
		// Caches between know that an answer is somebody's own by the Authorization header, and
		// here is none. Handlers of what is for everybody say so.
		w.Header().Set("Cache-Control", "no-store")
	}
	r, err := rt.admit(r, found, to.access)
	if err == nil {
		r.SetPathValue("rest", rest)
		err = to.handle(w, r)
	} else if r.Method != http.MethodGet && r.Method != http.MethodHead {
		// The handler has not said what it is. (Of those who did not authenticate nothing is
		// noted: they must not be able to fill the log.)
		Audit(r, r.Method+" /"+found)
	}
	rt.Report(r, err)
	rt.served(r, found, began, err)
	return err
}

// Routes lists the registered paths and what they demand.
func (rt *Router) Routes() map[string]Access {
	all := make(map[string]Access, len(rt.routes))
	for name, r := range rt.routes {
		all["/"+name] = r.access
	}
	return all
}

// lookup shortens name until it is registered, and returns that and what follows.
func (rt *Router) lookup(name string) (found, rest string, ok bool) {
	for prefix := name; ; {
		rest := strings.TrimLeft(name[len(prefix):], "/")
		if _, ok := rt.routes[prefix]; ok {
			return prefix, rest, true
		}
		if twin, ok := strings.CutSuffix(prefix, ".json"); ok {
			if _, ok := rt.routes[twin]; ok && twin != "" {
				return twin, rest, true
			}
		}
		i := strings.LastIndexByte(prefix, '/')
		if i <= 0 {
			return "", "", false
		}
		prefix = strings.TrimRight(prefix[:i], "/")
	}
}

// process returns the name under which `/help` lists a route: the first
// segment of routes that in Mesos belong to a process of their own, else the
// main process.
func (rt *Router) process(route string) string {
	first, _, nested := strings.Cut(route, "/")
	switch first {
	case "files", "logging", "metrics", "system", "version", "help":
		return first
	}
	if nested && strings.Contains(first, "(1)") {
		return first
	}
	if len(rt.prefixes) > 0 {
		return rt.prefixes[0]
	}
	return first
}

// processes returns the processes of `/help` with their routes, sorted.
func (rt *Router) processes() (names []string, routes map[string][]string) {
	routes = make(map[string][]string)
	for _, route := range slices.Sorted(maps.Keys(rt.routes)) {
		p := rt.process(route)
		routes[p] = append(routes[p], strings.TrimPrefix("/"+route, "/"+p))
	}
	return slices.Sorted(maps.Keys(routes)), routes
}
