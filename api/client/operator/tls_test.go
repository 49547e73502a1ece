package operator

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client"
	"clusterd/api/mesos/v1/master"
)

// With a configuration of TLS, addresses without a scheme mean https, and who asks is
// told to the leader that a master names, in TLS too.
func TestTLS(t *testing.T) {
	var told []string
	leader := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told = append(told, r.Header.Get("Authorization"))
		b, err := proto.Marshal(&master.Response{Type: master.Response_GET_HEALTH.Enum(), GetHealth: &master.Response_GetHealth{Healthy: new(true)}})
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.Write(b)
	}))
	defer leader.Close()
	follower := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", strings.TrimPrefix(leader.URL, "https:")+r.URL.Path)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer follower.Close()
	roots := x509.NewCertPool()
	roots.AddCert(leader.Certificate())
	opts := Options{Options: client.Options{TLS: &tls.Config{RootCAs: roots}, Token: "secret"}}
	m, err := NewMaster([]string{strings.TrimPrefix(follower.URL, "https://")}, opts)
	if err != nil {
		t.Fatal(err)
	}
	res, err := m.Get(t.Context(), master.Call_GET_HEALTH)
	if err != nil || !res.GetGetHealth().GetHealthy() || len(told) != 1 || told[0] != "Bearer secret" {
		t.Errorf("got %v, %v, told %q", res, err, told)
	}
	// Nobody who is not trusted is told.
	opts.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	if m, err = NewMaster([]string{strings.TrimPrefix(leader.URL, "https://")}, opts); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Get(t.Context(), master.Call_GET_HEALTH); err == nil || len(told) != 1 {
		t.Errorf("got %v, told %q", err, told)
	}
	a, err := NewAgent(strings.TrimPrefix(leader.URL, "https://"), opts)
	if err != nil || a.url.Scheme != "https" {
		t.Errorf("got %v, %v", a, err)
	}
}
