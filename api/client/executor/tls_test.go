package executor

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Mesos's variables say how an agent that speaks TLS is checked; over a Unix socket
// it is spoken to in clear.
func TestTLSEnvironment(t *testing.T) {
	base := map[string]string{
		"MESOS_FRAMEWORK_ID": "f", "MESOS_EXECUTOR_ID": "e", "MESOS_AGENT_ENDPOINT": "10.0.0.1:5051", "LIBPROCESS_SSL_ENABLED": "1",
	}
	for name, row := range map[string]struct {
		env    map[string]string
		scheme string
		want   TLSFiles
	}{
		"alone":      {nil, "https", TLSFiles{}},
		"authority":  {map[string]string{"LIBPROCESS_SSL_CA_FILE": "/ca"}, "https", TLSFiles{CA: "/ca"}},
		"old prefix": {map[string]string{"SSL_CA_FILE": "/ca", "SSL_CERT_FILE": "/c", "SSL_KEY_FILE": "/k"}, "https", TLSFiles{CA: "/ca", Cert: "/c", Key: "/k"}},
		"unchecked":  {map[string]string{"LIBPROCESS_SSL_VERIFY_CERT": "false"}, "https", TLSFiles{Insecure: true}},
		"checked":    {map[string]string{"LIBPROCESS_SSL_VERIFY_SERVER_CERT": "1"}, "https", TLSFiles{}},
		"socket":     {map[string]string{"MESOS_DOMAIN_SOCKET": "/s", "LIBPROCESS_SSL_CA_FILE": "/ca"}, "http", TLSFiles{}},
		"in clear":   {map[string]string{"LIBPROCESS_SSL_ENABLED": "0", "LIBPROCESS_SSL_CA_FILE": "/ca"}, "http", TLSFiles{}},
	} {
		c, err := ParseEnvironment(func(n string) string {
			if v, ok := row.env[n]; ok {
				return v
			}
			return base[n]
		})
		if err != nil || c.URL.Scheme != row.scheme || c.TLS != row.want {
			t.Errorf("%s: got %s, %+v, %v, want %s, %+v", name, c.URL, c.TLS, err, row.scheme, row.want)
		}
	}
}

func TestTLSFiles(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		files TLSFiles
		good  bool
	}{"authority": {TLSFiles{CA: ca}, true}, "nothing": {TLSFiles{}, false}, "unchecked": {TLSFiles{Insecure: true}, true}} {
		conf, err := row.files.Config()
		if err != nil {
			t.Fatal(name, err)
		}
		tr := &http.Transport{TLSClientConfig: conf}
		res, err := (&http.Client{Transport: tr}).Get(s.URL)
		if err == nil {
			res.Body.Close()
		}
		if (err == nil) != row.good {
			t.Errorf("%s: got %v", name, err)
		}
		tr.CloseIdleConnections()
	}
	if _, err := (TLSFiles{CA: "/none"}).Config(); err == nil {
		t.Error("no such authority")
	}
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (TLSFiles{CA: bad}).Config(); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("got %v", err)
	}
	if _, err := (TLSFiles{Cert: bad, Key: bad}).Config(); err == nil {
		t.Error("a bad pair is taken")
	}
}
