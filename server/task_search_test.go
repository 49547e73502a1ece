package server

import (
	"net/http"
	"testing"
)

// TestTaskSearchRefuses what it does not understand, instead of showing something else.
func TestTaskSearchRefuses(t *testing.T) {
	s := startMaster(t)
	const path = "/api/clusterd/v1/tasks/search"
	for query, want := range map[string]int{
		"":                        http.StatusOK,
		"?ref=web&limit=5":        http.StatusOK,
		"?ref=web&names=true":     http.StatusOK,
		"?ref=web&living=false":   http.StatusOK,
		"?ref=web&limit=-1":       http.StatusBadRequest,
		"?ref=web&limit=many":     http.StatusBadRequest,
		"?ref=web&names=perhaps":  http.StatusBadRequest,
		"?ref=web&living=perhaps": http.StatusBadRequest,
		"/web":                    http.StatusNotFound,
	} {
		got := get(t, s, path+query)
		if got.status != want || want == http.StatusOK && got.body != `{"tasks":[]}` {
			t.Errorf("%q: got %d %s, want %d", query, got.status, got.body, want)
		}
	}
	if got := do(t, http.MethodPost, endpoint(s, path), nil, nil); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d %s", got.status, got.body)
	}
}
