package executor

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Config is what the agent tells an executor through its environment.
type Config struct {
	// URL is the agent's executor API.
	URL *url.URL
	// DomainSocket is the path of the socket to reach it by, empty for TCP.
	DomainSocket string
	// FrameworkID, ExecutorID and AgentID say who the executor is and where.
	FrameworkID, ExecutorID, AgentID string
	// Directory is the sandbox on the host, Sandbox the same as the container sees it.
	Directory, Sandbox string
	// Checkpoint says that the executor outlives its agent: it comes back to it for
	// RecoveryTimeout, waiting up to SubscriptionBackoffMax between attempts.
	Checkpoint             bool
	RecoveryTimeout        time.Duration
	SubscriptionBackoffMax time.Duration
	// ShutdownGracePeriod is how long the executor has after SHUTDOWN.
	ShutdownGracePeriod time.Duration
	// Token authenticates the executor, if not empty.
	Token string
	// TLS is where an agent that speaks TLS is checked by, and who the executor is to
	// it: Mesos's LIBPROCESS_SSL_* variables.
	TLS TLSFiles
}

// TLSFiles are files in PEM; empty ones are not read.
type TLSFiles struct {
	// CA holds the authorities that are trusted; empty: the system's are.
	CA string
	// Cert and Key are what the agent is shown.
	Cert, Key string
	// Insecure has the agent not checked.
	Insecure bool
}

const (
	defaultRecoveryTimeout = 15 * time.Minute
	defaultBackoffMax      = 2 * time.Second
	defaultGracePeriod     = 5 * time.Second
)

// FromEnvironment reads the environment of the process and, as Mesos's library does, takes
// MESOS_EXECUTOR_AUTHENTICATION_TOKEN out of it, so that no child sees it.
func FromEnvironment() (Config, error) {
	c, err := ParseEnvironment(os.Getenv)
	return c, errors.Join(err, os.Unsetenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"))
}

// ParseEnvironment reads the variables that the agent sets for executors
// (src/slave/slave.cpp, executorEnvironment) with getenv.
func ParseEnvironment(getenv func(string) string) (Config, error) {
	c := Config{
		FrameworkID:  getenv("MESOS_FRAMEWORK_ID"),
		ExecutorID:   getenv("MESOS_EXECUTOR_ID"),
		AgentID:      getenv("MESOS_SLAVE_ID"),
		Directory:    getenv("MESOS_DIRECTORY"),
		Sandbox:      getenv("MESOS_SANDBOX"),
		Checkpoint:   getenv("MESOS_CHECKPOINT") == "1",
		DomainSocket: getenv("MESOS_DOMAIN_SOCKET"),
		Token:        getenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
	}
	var errs []error
	for name, value := range map[string]string{"MESOS_EXECUTOR_ID": c.ExecutorID, "MESOS_FRAMEWORK_ID": c.FrameworkID} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is not set", name))
		}
	}
	duration := func(name string, missing time.Duration) time.Duration {
		text := getenv(name)
		if text == "" {
			return missing
		}
		d, err := parseDuration(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return d
	}
	c.RecoveryTimeout = duration("MESOS_RECOVERY_TIMEOUT", defaultRecoveryTimeout)
	c.SubscriptionBackoffMax = duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", defaultBackoffMax)
	c.ShutdownGracePeriod = duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", defaultGracePeriod)
	var err error
	if c.URL, err = agentURL(getenv); err != nil {
		errs = append(errs, err)
	}
	if c.URL != nil && c.URL.Scheme == "https" {
		c.TLS = tlsFiles(getenv)
	}
	return c, errors.Join(errs...)
}

// tlsFiles reads the variables of libprocess (3rdparty/libprocess/src/openssl.cpp).
func tlsFiles(getenv func(string) string) TLSFiles {
	get := func(names ...string) string {
		for _, n := range names {
			for _, prefix := range []string{"LIBPROCESS_SSL_", "SSL_"} {
				if v := getenv(prefix + n); v != "" {
					return v
				}
			}
		}
		return ""
	}
	f := TLSFiles{CA: get("CA_FILE"), Cert: get("CERT_FILE"), Key: get("KEY_FILE")}
	switch get("VERIFY_SERVER_CERT", "VERIFY_CERT") {
	case "0", "false": // Mesos's default, but a token goes to whom is asked
		f.Insecure = true
	}
	return f
}

// Config reads the files.
func (f TLSFiles) Config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: f.Insecure}
	if f.CA != "" {
		data, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s: no certificate (PEM) in it", f.CA)
		}
	}
	if f.Cert != "" && f.Key != "" {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// agentURL makes the URL from MESOS_SLAVE_PID, "slave(1)@10.0.0.1:5051", or from
// MESOS_AGENT_ENDPOINT, "10.0.0.1:5051".
func agentURL(getenv func(string) string) (*url.URL, error) {
	id, host, ok := strings.Cut(getenv("MESOS_SLAVE_PID"), "@")
	if !ok {
		id, host = "", ""
	}
	if endpoint := getenv("MESOS_AGENT_ENDPOINT"); endpoint != "" {
		host = endpoint
	}
	if host == "" {
		return nil, errors.New("neither MESOS_AGENT_ENDPOINT nor MESOS_SLAVE_PID says where the agent is")
	}
	u := &url.URL{Scheme: "http", Host: host}
	if getenv("MESOS_DOMAIN_SOCKET") != "" {
		return u.JoinPath(id, Path), nil // which is in clear, TLS or not
	}
	for _, name := range []string{"LIBPROCESS_SSL_ENABLED", "SSL_ENABLED"} {
		if v := getenv(name); v == "1" || v == "true" {
			u.Scheme = "https"
		}
	}
	return u.JoinPath(id, Path), nil
}

// parseDuration parses Mesos's durations, such as 15mins or 2.5secs.
func parseDuration(s string) (time.Duration, error) {
	end := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	units := map[string]time.Duration{
		"ns": time.Nanosecond, "us": time.Microsecond, "ms": time.Millisecond, "secs": time.Second,
		"mins": time.Minute, "hrs": time.Hour, "days": 24 * time.Hour, "weeks": 7 * 24 * time.Hour,
	}
	if end >= 0 {
		n, err := strconv.ParseFloat(s[:end], 64)
		if unit, ok := units[s[end:]]; ok && err == nil && n*float64(unit) < 1<<63 {
			return time.Duration(n * float64(unit)), nil
		}
	}
	return 0, fmt.Errorf("%q is not a duration", s)
}

// maxSocketPath is what fits into a sockaddr_un, without the last NUL.
const maxSocketPath = 107

// socketPath returns a path of the domain socket that fits into an address: the one
// given, or else the same relative to the working directory.
func socketPath(path string) (string, error) {
	if len(path) <= maxSocketPath {
		return path, nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	short, err := filepath.Rel(wd, path)
	if err != nil || len(short) > maxSocketPath {
		return "", fmt.Errorf("the path of the domain socket is longer than %d bytes: %s", maxSocketPath, path)
	}
	return short, nil
}
