package flags

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"clusterd/internal/units"
)

// Notes shared by several flags.
const (
	noteZooKeeper     = "clusterd needs no ZooKeeper: the registry is a Raft log inside the master; --master=HOST:PORT is all that an agent needs"
	noteModules       = "shared-library modules cannot be loaded; clusterd's variants are built in"
	noteRaftLog       = "the registry is kept by Raft, which sizes its own quorum"
	noteV0            = "only the v1 HTTP API is spoken, v0 drivers are not served"
	noteJemalloc      = "there is no jemalloc to profile"
	noteAuthenticatee = "the agent shows its --credential, or its certificate, when it connects"
	noteCMesos        = "clusterd is one binary and needs no helper programs"
)

// common returns the flags that master and agent share.
func common() []Flag {
	return []Flag{
		{Name: "help", Type: Bool, Default: "false", Help: "Print this help and exit."},
		{Name: "version", Type: Bool, Default: "false", Help: "Print the version and exit."},
		{Name: "quiet", Type: Bool, Default: "false", Help: "Log nothing to stderr."},
		{Name: "log_dir", Type: Path, Help: "Directory of log files; unset: stderr only."},
		{Name: "logbufsecs", Type: Int, Default: "0", Help: "Seconds for which lines of --log_dir may wait in memory; what is worse than INFO never waits.", Check: atLeast(0)},
		{Name: "logging_level", Default: "INFO", Help: "Lowest severity to log: INFO, WARNING or ERROR.", Check: oneOf("INFO", "WARNING", "ERROR")},
		{Name: "external_log_file", Type: Path, Help: "Log file written by a supervisor, which /files serves instead of that of --log_dir."},
		{Name: "initialize_driver_logging", Type: Bool, Default: "true", Help: "Whether v0 drivers set up logging.", State: Replaced, Note: noteV0},
		{Name: "memory_profiling", Type: Bool, Default: "false", Help: "Expose jemalloc's profiler.", State: Replaced, Note: noteJemalloc},
		{Name: "advertise_ip", Help: "Address published for others to reach this node.", Check: validIP, Env: []string{"LIBPROCESS_ADVERTISE_IP"}},
		{Name: "advertise_port", Type: Int, Help: "Port published for others to reach this node.", Check: validPort, Env: []string{"LIBPROCESS_ADVERTISE_PORT"}},
		{Name: "ip", Help: "Address to listen on.", Check: validIP, Env: []string{"LIBPROCESS_IP"}},
		{Name: "ip_discovery_command", Type: Path, Help: "Program that prints the address to listen on; excludes --ip."},
		{Name: "hostname", Help: "Host name to advertise; unset: looked up from the address."},
		{Name: "hostname_lookup", Type: Bool, Default: "true", Help: "Look the host name up; if not, the address stands in for it."},
		{Name: "zk_session_timeout", Type: Duration, Default: "10secs", Help: "ZooKeeper session timeout.", State: Replaced, Note: noteZooKeeper},
		{Name: "domain", Type: JSON, Help: "Fault domain of this node, a DomainInfo."},
		{Name: "firewall_rules", Type: JSON, Help: "Endpoints to answer with 403, a Firewall."},
		{Name: "acls", Type: JSON, Help: "Rules of who may do what, an ACLs message; from a file, they are read again when it changes."},
		{Name: "authenticate_http_readonly", Type: Bool, Default: "false", Help: "Ask who calls on read-only endpoints."},
		{Name: "authenticate_http_readwrite", Type: Bool, Default: "false", Help: "Ask who calls on read-write endpoints and /api/v1.", Aliases: []string{"authenticate_http"}},
		{Name: "hooks", Help: "Hook modules to install.", State: Replaced, Note: noteModules},
		{Name: "modules", Type: JSON, Help: "Modules to load.", State: Replaced, Note: "modules cannot be loaded; read are only the parameters of an agent's org_apache_mesos_LogrotateContainerLogger"},
		{Name: "modules_dir", Type: Path, Help: "Directory of module manifests.", State: Replaced, Note: noteModules},

		// Ours.
		{Name: "http_authenticators", Default: "basic", List: true, Help: "How who calls may show who they are, tried in order: basic (with the credentials), jwt (--user_jwt_key), oidc (--oidc_issuer), certificate (--tls_ca)."},
		{Name: "tls_cert", Type: Path, Help: "PEM file of this node's certificate and those above it; with --tls_key, all ports but gossip's speak TLS. Read again when it changes. LIBPROCESS_SSL_* is understood too."},
		{Name: "tls_key", Type: Path, Help: "PEM file of the certificate's key."},
		{Name: "tls_ca", Type: Path, Help: "PEM file of the authorities that others' certificates must come from."},
		{Name: "tls_require_client_cert", Type: Bool, Default: "false", Help: "Refuse clients without a certificate of --tls_ca. Masters always ask each other for theirs."},
		{Name: "tls_min_version", Default: "1.2", Help: "Least version of TLS: 1.2 or 1.3.", Check: oneOf("1.2", "1.3")},
		{Name: "user_jwt_key", Type: Path, Help: "File of what signs users' tokens: an HMAC secret, or a public key in PEM."},
		{Name: "user_jwt_audience", Help: "Audience that users' tokens must be for; unset: any."},
		{Name: "user_jwt_principal_claim", Default: "sub", Help: "Claim of a user's token that is the principal."},
		{Name: "oidc_issuer", Help: "URL of an OpenID provider whose tokens are taken (http_authenticators: oidc).", Check: httpsURL},
		{Name: "oidc_audience", Help: "Audience (client id) that its tokens must be for."},
		{Name: "oidc_ca", Type: Path, Help: "PEM file of the authorities of the provider's certificate; unset: the system's."},
		{Name: "oidc_principal_claim", Default: "sub", Help: "Claim of its tokens that is the principal."},
		{Name: "audit_log", Type: Path, Help: "File of one JSON line for each call that changes something: who, what, result. Unset: they are in the log."},
		{Name: "max_connections", Type: Int, Default: "0", Help: "HTTP connections at once, links not counted; new ones are closed beyond that. 0: half of the files that may be open.", Check: atLeast(0)},
		{Name: "read_header_timeout", Type: Duration, Default: "30secs", Help: "How long a client may take to send the head of a request.", Check: positive},
		{Name: "gossip_key", List: true, Help: "Keys that encrypt gossip, 16, 24 or 32 bytes in base64, or file:///path to them; the first encrypts, all decrypt, so that keys can be rotated.", Check: gossipKeys, Secret: true},
		{Name: "gossip_advertise", Help: "host:port under which others reach this node's gossip.", Check: hostPort},
		{Name: "node_id", Help: "Name of this node among its peers; unset: made once and kept in --work_dir.", Check: nodeID},
	}
}

// commonCheck checks the rules between flags that master and agent share.
func commonCheck(v *Values) error {
	for _, j := range v.List("join") {
		if err := hostPort(Value{Text: j}); err != nil {
			return fmt.Errorf("%w of --join: %w", ErrInvalidValue, err)
		}
	}
	return errors.Join(
		exclusive(v, "ip", "ip_discovery_command"),
		exclusive(v, "modules", "modules_dir"),
	)
}

func exclusive(v *Values, names ...string) error {
	var got []string
	for _, n := range names {
		if v.Given(n) {
			got = append(got, "--"+n)
		}
	}
	if len(got) > 1 {
		return fmt.Errorf("%w: only one of %s may be given", ErrInvalidValue, strings.Join(got, " and "))
	}
	return nil
}

func httpsURL(v Value) error {
	if u, err := url.Parse(v.Text); err != nil || u.Scheme != "https" || u.Host == "" {
		return errors.New("expecting https://host/path")
	}
	return nil
}

func oneOf(words ...string) func(Value) error {
	return func(v Value) error {
		if slices.Contains(words, v.Text) {
			return nil
		}
		return fmt.Errorf("expecting one of %s", strings.Join(words, ", "))
	}
}

func atLeast(n int64) func(Value) error {
	return func(v Value) error {
		if v.i < n {
			return fmt.Errorf("must be at least %d", n)
		}
		return nil
	}
}

func between(low, high time.Duration) func(Value) error {
	return func(v Value) error {
		if v.d < low || v.d > high {
			return fmt.Errorf("must be between %s and %s", units.FormatDuration(low), units.FormatDuration(high))
		}
		return nil
	}
}

func positive(v Value) error {
	if v.d <= 0 {
		return errors.New("must be more than zero")
	}
	return nil
}

func fraction(v Value) error {
	if v.f < 0 || v.f > 1 {
		return errors.New("must be between 0 and 1")
	}
	return nil
}

// validPort accepts 0 too: the system then picks a port.
func validPort(v Value) error {
	if v.i < 0 || v.i > 65535 {
		return errors.New("a port is between 0 and 65535")
	}
	return nil
}

func validIP(v Value) error {
	_, err := netip.ParseAddr(v.Text)
	return err
}

// hostPort accepts host and host:port; the host may be an IPv6 address in brackets.
func hostPort(v Value) error {
	host, port, ok := strings.Cut(v.Text, ":")
	if strings.HasPrefix(v.Text, "[") {
		var rest string
		host, rest, ok = strings.Cut(v.Text[1:], "]")
		if !ok {
			return fmt.Errorf("'%s' lacks a closing bracket", v.Text)
		}
		port, ok = strings.CutPrefix(rest, ":")
		if rest == "" {
			ok = false
		}
	}
	if host == "" {
		return fmt.Errorf("'%s' has no host", v.Text)
	}
	if !ok {
		return nil
	}
	if p, err := parseValue(Flag{Type: Int}, port); err != nil || p.i < 1 || p.i > 65535 {
		return fmt.Errorf("'%s' has no valid port", v.Text)
	}
	return nil
}

// zkURL accepts `zk://[user:password@]host:port[,host:port...]/path`.
func zkURL(v Value) error {
	rest, ok := strings.CutPrefix(v.Text, "zk://")
	if !ok {
		return errors.New("expecting zk://host1:port1,host2:port2/path")
	}
	servers, path, ok := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(servers, '@'); i >= 0 {
		servers = servers[i+1:]
	}
	if !ok || path == "" || servers == "" {
		return errors.New("expecting zk://host1:port1,host2:port2/path")
	}
	for server := range strings.SplitSeq(servers, ",") {
		if err := hostPort(Value{Text: server}); err != nil {
			return err
		}
	}
	return nil
}

// gossipKeys accepts keys of AES-128, AES-192 or AES-256 in base64.
func gossipKeys(v Value) error {
	_, err := ParseGossipKeys(v.Text)
	return err
}

// ParseGossipKeys decodes the value of --gossip_key: a comma list of keys in base64.
func ParseGossipKeys(text string) ([][]byte, error) {
	var keys [][]byte
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' || r == ' ' }) {
		key, err := base64.StdEncoding.DecodeString(word)
		if err != nil {
			return nil, errors.New("a key is not in base64") // the key itself stays out of logs
		}
		if n := len(key); n != 16 && n != 24 && n != 32 {
			return nil, fmt.Errorf("a key has %d bytes, not 16, 24 or 32", n)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// nodeID accepts names that are safe in logs and paths.
func nodeID(v Value) error {
	if len(v.Text) > 64 {
		return errors.New("longer than 64 characters")
	}
	for _, r := range v.Text {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r) {
			return errors.New("only letters, digits, '-', '_' and '.' may be in it")
		}
	}
	return nil
}

func rate(v Value) error {
	_, _, err := units.ParseRate(v.Text)
	return err
}
