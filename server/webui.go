package server

import (
	"net/http"

	"clusterd/internal/httpapi"
	"clusterd/ui"
)

// webUIPaths are what the web UI's page loads. "/app" is Mesos's name for a part of its own
// UI: whoever serves one of theirs by --webui_dir may have it.
var webUIPaths = []string{"/", "/app", "/assets", "/icon.svg", "/theme.js"}

// webUIRoutes serve the web UI. It is open, for it holds nothing of the cluster: what a page
// shows it asks for, with the reader's name.
func (s *Server) webUIRoutes(rt *httpapi.Router) {
	h := ui.Handler(s.opts.WebUIDir)
	for _, path := range webUIPaths {
		rt.Handle(path, httpapi.Open("the web UI's files hold nothing of the cluster"), func(w http.ResponseWriter, r *http.Request) error {
			// The same page below /master, as Mesos serves it: its links are relative.
			own := r.Clone(r.Context())
			own.URL.Path = path
			if rest := httpapi.Rest(r); rest != "" {
				own.URL.Path += "/" + rest
			}
			h.ServeHTTP(w, own)
			return nil
		})
	}
}
