package tlsconf

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ErrVariable says that a variable of the environment has a value that cannot be
// taken; its name is before it.
var ErrVariable = errors.New("bad value")

// Prefixes of Mesos's variables, the first one first; the second is that of Mesos
// before 1.0, which others use too.
var prefixes = []string{"LIBPROCESS_SSL_", "SSL_"}

// environment are Mesos's variables by their names without prefix.
type environment struct {
	values   map[string]string
	names    map[string]string // with the prefix
	warnings []string
	errs     []error
}

// mesosVariables are what src/openssl.cpp of libprocess and Mesos's docs name; where they
// differ, both are taken.
var mesosVariables = []string{
	"ENABLED", "SUPPORT_DOWNGRADE", "KEY_FILE", "CERT_FILE", "VERIFY_CERT", "VERIFY_SERVER_CERT", "REQUIRE_CERT",
	"REQUIRE_CLIENT_CERT", "VERIFY_DEPTH", "VERIFICATION_DEPTH", "VERIFY_IPADD", "CA_DIR", "CA_FILE", "CIPHERS",
	"ENABLE_SSL_V3", "ENABLE_TLS_V1_0", "ENABLE_TLS_V1_1", "ENABLE_TLS_V1_2", "ENABLE_TLS_V1_3", "ECDH_CURVE",
	"ECDH_CURVES", "HOSTNAME_VALIDATION_SCHEME", "ENABLE_DOWNGRADE",
}

// readEnvironment picks them. Those with the prefix SSL_ may be meant for others
// (OpenSSL reads SSL_CERT_FILE and SSL_CERT_DIR), so that nothing is said of
// unknown ones, and none counts unless SSL_ENABLED or LIBPROCESS_SSL_ENABLED does.
func readEnvironment(env []string) *environment {
	e := &environment{values: map[string]string{}, names: map[string]string{}}
	var unknown []string
	for i, prefix := range prefixes {
		for _, kv := range env {
			full, value, ok := strings.Cut(kv, "=")
			name, is := strings.CutPrefix(full, prefix)
			if !ok || !is {
				continue
			}
			if !slices.Contains(mesosVariables, name) {
				if i == 0 {
					unknown = append(unknown, full)
				}
				continue
			}
			if was, twice := e.values[name]; twice {
				if was != value && e.names[name] != full {
					e.warnings = append(e.warnings, fmt.Sprintf("%s and %s differ: the first counts", e.names[name], full))
				}
				continue
			}
			e.values[name], e.names[name] = value, full
		}
	}
	slices.Sort(unknown)
	for _, full := range unknown {
		e.warnings = append(e.warnings, full+" is none of Mesos's variables, and is ignored")
	}
	return e
}

// first is the value of the first of the names that is set, and its full name.
func (e *environment) first(names ...string) (value, full string, ok bool) {
	for _, n := range names {
		if v, ok := e.values[n]; ok {
			if len(names) > 1 {
				e.differ(v, e.names[n], names)
			}
			return v, e.names[n], true
		}
	}
	return "", "", false
}

// differ complains of aliases that say something else.
func (e *environment) differ(value, full string, names []string) {
	for _, n := range names {
		if v, ok := e.values[n]; ok && v != value {
			e.errs = append(e.errs, fmt.Errorf("%w: %s=%s and %s=%s mean the same and differ", ErrContradiction, full, value, e.names[n], v))
		}
	}
}

func (e *environment) boolean(names ...string) *bool {
	v, full, ok := e.first(names...)
	if !ok {
		return nil
	}
	switch v {
	case "1", "true":
		return new(true)
	case "0", "false":
		return new(false)
	}
	e.errs = append(e.errs, fmt.Errorf("%s=%s: %w: true or false (1 or 0) is expected", full, v, ErrVariable))
	return nil
}

func (e *environment) warn(format string, args ...any) {
	e.warnings = append(e.warnings, fmt.Sprintf(format, args...))
}

// FromEnvironment adds to the settings of the flags what Mesos's variables say, as
// in os.Environ: LIBPROCESS_SSL_*, or SSL_* as before Mesos 1.0. The flags win. A value
// that cannot be had is an error that names its variable, one that has no effect a
// warning.
func FromEnvironment(env []string, flags Options) (Options, []string, error) {
	e := readEnvironment(env)
	o := flags
	o.names = map[string]string{}
	enabled := e.boolean("ENABLED")
	if err := errors.Join(e.errs...); err != nil {
		return flags, nil, err
	}
	if enabled == nil || !*enabled {
		if enabled != nil && flags.Enabled() {
			e.warn("%s is false, and TLS is on by --tls_cert", e.names["ENABLED"])
		}
		return flags, e.warnings, nil
	}
	e.files(&o)
	e.verification(&o, flags.private())
	e.versions(&o)
	e.suites(&o)
	if err := errors.Join(e.errs...); err != nil {
		return flags, nil, err
	}
	return o, e.warnings, nil
}

func (e *environment) files(o *Options) {
	// A certificate of the flags and a key of the environment would not fit.
	if !o.Enabled() {
		for _, f := range []struct {
			variable, flag string
			to             *string
		}{{"CERT_FILE", "tls_cert", &o.CertFile}, {"KEY_FILE", "tls_key", &o.KeyFile}} {
			v, full, ok := e.first(f.variable)
			if !ok || v == "" {
				e.errs = append(e.errs, fmt.Errorf("%w: %s is true, and %s is not set", ErrContradiction, e.names["ENABLED"], strings.TrimSuffix(e.names["ENABLED"], "ENABLED")+f.variable))
				continue
			}
			*f.to, o.names[f.flag] = v, full
			e.readable(v, full)
		}
	}
	if o.CAFile != "" || o.CADir != "" {
		return
	}
	if v, full, ok := e.first("CA_FILE"); ok && v != "" {
		o.CAFile, o.names["tls_ca"] = v, full
		e.readable(v, full)
	}
	if v, full, ok := e.first("CA_DIR"); ok && v != "" {
		o.CADir, o.names["tls_ca_dir"] = v, full
		e.readable(v, full)
	}
}

func (e *environment) readable(path, full string) {
	f, err := os.Open(path)
	if err != nil {
		e.errs = append(e.errs, fmt.Errorf("%s: %w", full, err))
		return
	}
	_ = f.Close() // nothing was written
}

func (e *environment) verification(o *Options, byFlag bool) {
	require, verify := e.boolean("REQUIRE_CLIENT_CERT", "REQUIRE_CERT"), e.boolean("VERIFY_SERVER_CERT", "VERIFY_CERT")
	if o.RequireClientCert == nil && require != nil {
		o.RequireClientCert = require
		o.names["tls_require_client_cert"] = cmpName(e, "REQUIRE_CLIENT_CERT", "REQUIRE_CERT")
	}
	if o.VerifyServerCert == nil {
		o.names["tls_verify_server_cert"] = cmpName(e, "VERIFY_SERVER_CERT", "VERIFY_CERT")
		switch {
		case verify != nil:
			o.VerifyServerCert = verify
		case byFlag: // the authority is that of the flags: so is the meaning
		default:
			o.VerifyServerCert = new(false) // Mesos's default
		}
		if require != nil && *require && !*orTrue(o.VerifyServerCert) {
			// As in Mesos: who asks for certificates looks at them.
			if verify != nil {
				e.warn("%s is true: %s=false does not count", o.names["tls_require_client_cert"], o.names["tls_verify_server_cert"])
			}
			o.VerifyServerCert = new(true)
		}
	}
	if down := e.boolean("SUPPORT_DOWNGRADE"); down != nil {
		o.Downgrade = o.Downgrade || *down
		o.names["tls_downgrade"] = e.names["SUPPORT_DOWNGRADE"]
	}
	if full, ok := e.names["ENABLE_DOWNGRADE"]; ok {
		e.warn("%s is a name that only Mesos's documentation has: SUPPORT_DOWNGRADE is the right one", full)
	}
	if v, full, ok := e.first("VERIFY_DEPTH", "VERIFICATION_DEPTH"); ok && o.VerifyDepth == 0 {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			e.errs = append(e.errs, fmt.Errorf("%s=%s: %w: a number is expected", full, v, ErrVariable))
		}
		o.VerifyDepth = int(n)
		if n == 0 {
			o.VerifyDepth = -1
		}
	}
	e.hostnames()
}

func cmpName(e *environment, names ...string) string {
	for _, n := range names {
		if full, ok := e.names[n]; ok {
			return full
		}
	}
	return prefixes[0] + names[0]
}

func orTrue(b *bool) *bool {
	if b == nil {
		return new(true)
	}
	return b
}

// hostnames are checked in one way only, that of everybody else: a name or an
// address that is dialled must be in the certificate. Mesos's legacy scheme trusts
// whoever controls reverse DNS.
func (e *environment) hostnames() {
	if v, full, ok := e.first("HOSTNAME_VALIDATION_SCHEME"); ok {
		switch v {
		case "openssl":
		case "legacy":
			e.warn("%s=legacy is not followed: certificates must hold the name or address that is dialled, reverse DNS is not asked", full)
		default:
			e.errs = append(e.errs, fmt.Errorf("%s=%s: %w: legacy or openssl is expected", full, v, ErrVariable))
		}
	}
	if ip := e.boolean("VERIFY_IPADD"); ip != nil && !*ip {
		e.warn("%s=false has no effect: who is dialled by an address must have it in the certificate", e.names["VERIFY_IPADD"])
	}
}

func (e *environment) versions(o *Options) {
	for _, old := range []string{"ENABLE_SSL_V3", "ENABLE_TLS_V1_0", "ENABLE_TLS_V1_1"} {
		if on := e.boolean(old); on != nil && *on {
			e.errs = append(e.errs, fmt.Errorf("%s is true: %w: clusterd speaks TLS 1.2 and 1.3 only, as what is older is broken", e.names[old], ErrVariable))
		}
	}
	v12, v13 := orTrue(e.boolean("ENABLE_TLS_V1_2")), orTrue(e.boolean("ENABLE_TLS_V1_3"))
	switch {
	case !*v12 && !*v13:
		e.errs = append(e.errs, fmt.Errorf("%w: %s and %s are false, which leaves no version of TLS", ErrContradiction, e.names["ENABLE_TLS_V1_2"], e.names["ENABLE_TLS_V1_3"]))
	case !*v12 && o.MinVersion == 0:
		o.MinVersion = tls.VersionTLS13
	case !*v13 && o.MaxVersion == 0:
		if o.MinVersion == tls.VersionTLS13 {
			e.warn("%s is false, and --tls_min_version=1.3 counts", e.names["ENABLE_TLS_V1_3"])
			break
		}
		o.MaxVersion = tls.VersionTLS12
	}
}

func (e *environment) suites(o *Options) {
	if v, full, ok := e.first("CIPHERS"); ok && v != "" && o.CipherSuites == nil {
		suites, unknown, err := ParseCiphers(v)
		if err != nil {
			e.errs = append(e.errs, fmt.Errorf("%s: %w", full, err))
		}
		if len(unknown) > 0 {
			e.warn("%s: not served, as weak or unknown: %s", full, strings.Join(unknown, ", "))
		}
		o.CipherSuites = suites
	}
	if v, full, ok := e.first("ECDH_CURVE", "ECDH_CURVES"); ok && o.Curves == nil {
		ids, unknown, err := ParseCurves(v)
		if err != nil {
			e.errs = append(e.errs, fmt.Errorf("%s: %w", full, err))
		}
		if len(unknown) > 0 {
			e.warn("%s: not served: %s", full, strings.Join(unknown, ", "))
		}
		o.Curves = ids
	}
}
