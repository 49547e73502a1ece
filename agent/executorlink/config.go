package executorlink

import (
	"errors"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// TokenVariable holds the token of an executor, which its tasks do not inherit.
const TokenVariable = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN"

// Config is what the agent says in the environment of an executor.
type Config struct {
	Framework, Executor string
	Agent               Address
	// Sandbox is the executor's working directory as it sees it.
	Sandbox         string
	Checkpoint      bool
	RecoveryTimeout time.Duration
	BackoffMax      time.Duration
	ShutdownGrace   time.Duration
}

// ReadConfig reads the executor's part of an environment, and returns the rest
// of it, which tasks inherit: all but the authentication token.
func ReadConfig(environ []string) (Config, []string, error) {
	values := make(map[string]string, len(environ))
	env := make([]string, 0, len(environ))
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		values[name] = value
		if name != TokenVariable {
			env = append(env, e)
		}
	}
	for _, name := range []string{"MESOS_FRAMEWORK_ID", "MESOS_EXECUTOR_ID"} {
		if values[name] == "" {
			return Config{}, nil, TextError("expecting '" + name + "' to be set in the environment")
		}
	}
	c := Config{
		Framework:  values["MESOS_FRAMEWORK_ID"],
		Executor:   values["MESOS_EXECUTOR_ID"],
		Sandbox:    values["MESOS_SANDBOX"],
		Checkpoint: values["MESOS_CHECKPOINT"] == "1",
		// The agent's own defaults.
		RecoveryTimeout: 15 * time.Minute,
		BackoffMax:      2 * time.Second,
		ShutdownGrace:   5 * time.Second,
	}
	for name, d := range map[string]*time.Duration{
		"MESOS_RECOVERY_TIMEOUT":               &c.RecoveryTimeout,
		"MESOS_SUBSCRIPTION_BACKOFF_MAX":       &c.BackoffMax,
		"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": &c.ShutdownGrace,
	} {
		if values[name] == "" {
			continue
		}
		var err error
		if *d, err = ParseDuration(values[name]); err != nil {
			return Config{}, nil, TextError(name + ": " + err.Error() + ": " + values[name])
		}
	}
	address, err := readAddress(values)
	if err != nil {
		return Config{}, nil, err
	}
	c.Agent = address
	return c, env, nil
}

func readAddress(values map[string]string) (Address, error) {
	endpoint := values["MESOS_AGENT_ENDPOINT"]
	if endpoint == "" { // "slave(1)@10.0.0.1:5051"
		_, endpoint, _ = strings.Cut(values["MESOS_SLAVE_PID"], "@")
	}
	a := Address{Network: "tcp", Address: endpoint, Host: endpoint, Token: values[TokenVariable]}
	if path := values["MESOS_DOMAIN_SOCKET"]; path != "" {
		a.Network, a.Address = "unix", path
		if a.Host == "" {
			a.Host = "agent"
		}
		return a, nil
	}
	if _, _, err := net.SplitHostPort(endpoint); err != nil {
		return a, TextError("expecting 'MESOS_AGENT_ENDPOINT' to be host:port, not '" + endpoint + "'")
	}
	return a, nil
}

// NewUUID makes a random UUID. The kernel is asked directly: crypto/rand brings
// self-tests that a short-lived program would run for every task.
func NewUUID() []byte {
	b := make([]byte, 16)
	for n := 0; n < len(b); {
		m, err := unix.Getrandom(b[n:], 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic("getrandom: " + err.Error())
		}
		n += max(m, 0)
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return b
}

// UUIDText is how a UUID is written.
func UUIDText(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 36)
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = append(out, digits[c>>4], digits[c&0xf])
	}
	return string(out)
}
