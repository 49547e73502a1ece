package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"clusterd/internal/metrics"
)

// Stream notes that the answer of a request goes on for as long as the client likes, so
// that how long it took says nothing.
func Stream(r *http.Request) {
	if req := of(r); req != nil {
		req.stream = true
	}
}

// Measure counts requests and how long they took in a registry, by route, method and
// status. Routes are those that were registered, whatever a client asks for.
func (rt *Router) Measure(m *metrics.Registry) {
	rt.durations = m.HistogramVec("clusterd_http_request_duration_seconds",
		"How long answers to HTTP requests took, streams left out.", "route", "method", "code")
}

// served counts a request.
func (rt *Router) served(r *http.Request, route string, began time.Time, err error) {
	req := of(r)
	if rt.durations == nil || req != nil && req.stream {
		return
	}
	code := "2xx" // a handler that returns no error has answered
	if err != nil {
		code = strconv.Itoa(asError(err).Status/100) + "xx"
	}
	method := r.Method
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodHead:
	default:
		method = "other"
	}
	rt.durations.Observe(time.Since(began), "/"+route, method, code)
}
