package operator

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"clusterd/api/client"
	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/api/recordio"
)

// TestEvents loses the stream again and again: each time it is resumed behind the last
// record, be it a heartbeat, at the leader that another master names.
func TestEvents(t *testing.T) {
	var asked []string
	leader := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != EventsPath || r.Header.Get("Accept") != client.JSON.MediaType() {
			t.Errorf("%s %s, Accept %s", r.Method, r.URL.Path, r.Header.Get("Accept"))
		}
		asked = append(asked, r.URL.RawQuery)
		n := len(asked)
		w.Header().Set("Content-Type", client.JSON.MediaType())
		records := recordio.NewWriter(w)
		send := func(e *clusterdv1.OperatorEvent) {
			b, err := client.JSON.Marshal(e)
			if err != nil {
				t.Error(err)
			}
			_, _ = records.Write(b)
		}
		send(&clusterdv1.OperatorEvent{
			Type: clusterdv1.OperatorEvent_SUBSCRIBED.Enum(), Token: new(fmt.Sprintf("x:%d", 10*n)),
			Subscribed: &clusterdv1.OperatorEvent_Subscribed{HeartbeatIntervalSeconds: new(15.0)},
		})
		send(&clusterdv1.OperatorEvent{Type: clusterdv1.OperatorEvent_WEIGHTS_UPDATED.Enum(), Token: new(fmt.Sprintf("x:%d", 10*n+1))})
		send(&clusterdv1.OperatorEvent{Type: clusterdv1.OperatorEvent_HEARTBEAT.Enum(), Token: new(fmt.Sprintf("x:%d", 10*n+2))})
	}))
	defer leader.Close()
	follower := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", leader.URL[len("http:"):]+r.URL.RequestURI())
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer follower.Close()

	m := newMaster(t, Options{Options: client.Options{Format: client.JSON}}, follower.URL)
	var tokens []string
	opts := EventsOptions{Resume: "x:1", Bare: true, Types: []clusterdv1.OperatorEvent_Type{clusterdv1.OperatorEvent_WEIGHTS_UPDATED}}
	for e, err := range m.Events(testContext(t), opts) {
		if err != nil {
			t.Fatal(err)
		}
		if tokens = append(tokens, e.GetToken()); len(tokens) == 6 {
			break
		}
	}
	if diff := cmp.Diff([]string{"x:10", "x:11", "x:20", "x:21", "x:30", "x:31"}, tokens); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	rest := "&snapshot=false&types=WEIGHTS_UPDATED"
	if diff := cmp.Diff([]string{"resume=x%3A1" + rest, "resume=x%3A12" + rest, "resume=x%3A22" + rest}, asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

// TestEventsRefused ends when a subscription is refused for good.
func TestEventsRefused(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer s.Close()
	n := 0
	for e, err := range newMaster(t, Options{}, s.URL).Events(testContext(t), EventsOptions{}) {
		n++
		if status := (*client.StatusError)(nil); !errors.As(err, &status) || status.Code != http.StatusForbidden || e != nil {
			t.Errorf("got %v, %v", e, err)
		}
	}
	if n != 1 {
		t.Errorf("%d events", n)
	}
}
