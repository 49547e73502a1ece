package tlsconf

import (
	"crypto/tls"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestFromEnvironment(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string {
		p := filepath.Join(dir, name)
		write(t, p, []byte("x"))
		return p
	}
	cert, key, ca, flag := path("cert"), path("key"), path("ca"), path("flag")
	base := map[string]string{"LIBPROCESS_SSL_ENABLED": "1", "LIBPROCESS_SSL_CERT_FILE": cert, "LIBPROCESS_SSL_KEY_FILE": key}
	on, off := new(true), new(false)
	plain := Options{CertFile: cert, KeyFile: key, VerifyServerCert: off}
	with := func(change func(*Options)) Options {
		o := plain
		change(&o)
		return o
	}
	for name, row := range map[string]struct {
		env      string // more variables; of the base, one without a value is taken away
		flags    Options
		want     Options
		warnings []string
		err      error
		text     string // of the error
	}{
		"base":                     {want: plain},
		"true":                     {env: "LIBPROCESS_SSL_ENABLED=true", want: plain},
		"off":                      {env: "LIBPROCESS_SSL_ENABLED=0", want: Options{}},
		"false":                    {env: "LIBPROCESS_SSL_ENABLED=false", want: Options{}},
		"not on":                   {env: "LIBPROCESS_SSL_ENABLED=", want: Options{}},
		"yes":                      {env: "LIBPROCESS_SSL_ENABLED=yes", err: ErrVariable, text: "LIBPROCESS_SSL_ENABLED=yes"},
		"legacy prefix":            {env: "LIBPROCESS_SSL_ENABLED= LIBPROCESS_SSL_CERT_FILE= LIBPROCESS_SSL_KEY_FILE= SSL_ENABLED=1 SSL_CERT_FILE=" + cert + " SSL_KEY_FILE=" + key, want: plain},
		"another's variables":      {env: "LIBPROCESS_SSL_ENABLED= LIBPROCESS_SSL_CERT_FILE= LIBPROCESS_SSL_KEY_FILE= SSL_CERT_FILE=/etc/ssl/cert.pem SSL_CERT_DIR=/etc", want: Options{}},
		"prefixes differ":          {env: "SSL_KEY_FILE=" + ca, want: plain, warnings: []string{"LIBPROCESS_SSL_KEY_FILE and SSL_KEY_FILE differ"}},
		"no key":                   {env: "LIBPROCESS_SSL_KEY_FILE=", err: ErrContradiction, text: "LIBPROCESS_SSL_KEY_FILE is not set"},
		"no such key":              {env: "LIBPROCESS_SSL_KEY_FILE=/none", err: os.ErrNotExist, text: "LIBPROCESS_SSL_KEY_FILE: "},
		"no such authority":        {env: "LIBPROCESS_SSL_CA_FILE=/none", err: os.ErrNotExist, text: "LIBPROCESS_SSL_CA_FILE: "},
		"no such directory":        {env: "LIBPROCESS_SSL_CA_DIR=/none", err: os.ErrNotExist, text: "LIBPROCESS_SSL_CA_DIR: "},
		"authority, unused":        {env: "LIBPROCESS_SSL_CA_FILE=" + ca, want: with(func(o *Options) { o.CAFile = ca })},
		"directory":                {env: "LIBPROCESS_SSL_CA_DIR=" + dir, want: with(func(o *Options) { o.CADir = dir })},
		"verify":                   {env: "LIBPROCESS_SSL_VERIFY_SERVER_CERT=1", want: with(func(o *Options) { o.VerifyServerCert = on })},
		"verify, alias":            {env: "LIBPROCESS_SSL_VERIFY_CERT=1", want: with(func(o *Options) { o.VerifyServerCert = on })},
		"aliases differ":           {env: "LIBPROCESS_SSL_VERIFY_CERT=1 LIBPROCESS_SSL_VERIFY_SERVER_CERT=0", err: ErrContradiction, text: "LIBPROCESS_SSL_VERIFY_SERVER_CERT=0 and LIBPROCESS_SSL_VERIFY_CERT=1"},
		"require":                  {env: "LIBPROCESS_SSL_REQUIRE_CLIENT_CERT=1", want: with(func(o *Options) { o.RequireClientCert, o.VerifyServerCert = on, on })},
		"require, alias":           {env: "LIBPROCESS_SSL_REQUIRE_CERT=true", want: with(func(o *Options) { o.RequireClientCert, o.VerifyServerCert = on, on })},
		"require, verify not":      {env: "LIBPROCESS_SSL_REQUIRE_CERT=1 LIBPROCESS_SSL_VERIFY_CERT=0", want: with(func(o *Options) { o.RequireClientCert, o.VerifyServerCert = on, on }), warnings: []string{"LIBPROCESS_SSL_VERIFY_CERT=false does not count"}},
		"require aliases differ":   {env: "LIBPROCESS_SSL_REQUIRE_CERT=1 LIBPROCESS_SSL_REQUIRE_CLIENT_CERT=0", err: ErrContradiction, text: "REQUIRE_CERT"},
		"depth":                    {env: "LIBPROCESS_SSL_VERIFY_DEPTH=2", want: with(func(o *Options) { o.VerifyDepth = 2 })},
		"depth, name in the code":  {env: "LIBPROCESS_SSL_VERIFICATION_DEPTH=2", want: with(func(o *Options) { o.VerifyDepth = 2 })},
		"depth 0":                  {env: "LIBPROCESS_SSL_VERIFY_DEPTH=0", want: with(func(o *Options) { o.VerifyDepth = -1 })},
		"depth -1":                 {env: "LIBPROCESS_SSL_VERIFY_DEPTH=-1", err: ErrVariable, text: "LIBPROCESS_SSL_VERIFY_DEPTH=-1"},
		"downgrade":                {env: "LIBPROCESS_SSL_SUPPORT_DOWNGRADE=1", want: with(func(o *Options) { o.Downgrade = true })},
		"downgrade, as documented": {env: "LIBPROCESS_SSL_ENABLE_DOWNGRADE=1", want: plain, warnings: []string{"SUPPORT_DOWNGRADE is the right one"}},
		"a boolean":                {env: "LIBPROCESS_SSL_SUPPORT_DOWNGRADE=TRUE", err: ErrVariable, text: "LIBPROCESS_SSL_SUPPORT_DOWNGRADE=TRUE"},
		"SSL 3":                    {env: "LIBPROCESS_SSL_ENABLE_SSL_V3=1", err: ErrVariable, text: "LIBPROCESS_SSL_ENABLE_SSL_V3 is true"},
		"TLS 1.0":                  {env: "LIBPROCESS_SSL_ENABLE_TLS_V1_0=1", err: ErrVariable, text: "LIBPROCESS_SSL_ENABLE_TLS_V1_0 is true"},
		"TLS 1.1":                  {env: "LIBPROCESS_SSL_ENABLE_TLS_V1_1=1", err: ErrVariable, text: "LIBPROCESS_SSL_ENABLE_TLS_V1_1 is true"},
		"no TLS 1.0":               {env: "LIBPROCESS_SSL_ENABLE_TLS_V1_0=0 LIBPROCESS_SSL_ENABLE_SSL_V3=false", want: plain},
		"no TLS 1.2":               {env: "LIBPROCESS_SSL_ENABLE_TLS_V1_2=0", want: with(func(o *Options) { o.MinVersion = tls.VersionTLS13 })},
		"no TLS 1.3":               {env: "LIBPROCESS_SSL_ENABLE_TLS_V1_3=0", want: with(func(o *Options) { o.MaxVersion = tls.VersionTLS12 })},
		"no TLS 1.3, flag":         {env: "LIBPROCESS_SSL_ENABLE_TLS_V1_3=0", flags: Options{MinVersion: tls.VersionTLS13}, want: with(func(o *Options) { o.MinVersion = tls.VersionTLS13 }), warnings: []string{"--tls_min_version=1.3 counts"}},
		"no TLS at all":            {env: "LIBPROCESS_SSL_ENABLE_TLS_V1_2=0 LIBPROCESS_SSL_ENABLE_TLS_V1_3=0", err: ErrContradiction, text: "no version"},
		"Mesos's ciphers": {env: "LIBPROCESS_SSL_CIPHERS=AES128-SHA:AES256-SHA:RC4-SHA:DHE-RSA-AES128-SHA:DHE-DSS-AES128-SHA:DHE-RSA-AES256-SHA:DHE-DSS-AES256-SHA", want: with(func(o *Options) {
			o.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA}
		}), warnings: []string{"LIBPROCESS_SSL_CIPHERS: not served, as weak or unknown: RC4-SHA, DHE-RSA-AES128-SHA, DHE-DSS"}},
		"no cipher":                 {env: "LIBPROCESS_SSL_CIPHERS=RC4-SHA", err: ErrNoCipher, text: "LIBPROCESS_SSL_CIPHERS"},
		"curve":                     {env: "LIBPROCESS_SSL_ECDH_CURVE=prime256v1:P-384:brainpoolP256r1", want: with(func(o *Options) { o.Curves = []tls.CurveID{tls.CurveP256, tls.CurveP384} }), warnings: []string{"LIBPROCESS_SSL_ECDH_CURVE: not served: brainpoolP256r1"}},
		"curves, name in the code":  {env: "LIBPROCESS_SSL_ECDH_CURVES=auto", want: plain},
		"no curve":                  {env: "LIBPROCESS_SSL_ECDH_CURVE=none", err: os.ErrInvalid, text: "LIBPROCESS_SSL_ECDH_CURVE"},
		"host names":                {env: "LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME=openssl", want: plain},
		"host names, legacy":        {env: "LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME=legacy", want: plain, warnings: []string{"reverse DNS is not asked"}},
		"host names, other":         {env: "LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME=other", err: ErrVariable, text: "LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME=other"},
		"addresses":                 {env: "LIBPROCESS_SSL_VERIFY_IPADD=1", want: plain},
		"no addresses":              {env: "LIBPROCESS_SSL_VERIFY_IPADD=0", want: plain, warnings: []string{"LIBPROCESS_SSL_VERIFY_IPADD=false has no effect"}},
		"unknown":                   {env: "LIBPROCESS_SSL_VERIFY=1", want: plain, warnings: []string{"LIBPROCESS_SSL_VERIFY is none of Mesos's"}},
		"flags win":                 {flags: Options{CertFile: flag, KeyFile: flag, CAFile: flag, RequireClientCert: off, VerifyDepth: 3}, env: "LIBPROCESS_SSL_CA_FILE=" + ca + " LIBPROCESS_SSL_REQUIRE_CERT=1 LIBPROCESS_SSL_VERIFY_DEPTH=9", want: Options{CertFile: flag, KeyFile: flag, CAFile: flag, RequireClientCert: off, VerifyDepth: 3}},
		"flags win, off":            {flags: Options{CertFile: flag, KeyFile: flag}, env: "LIBPROCESS_SSL_ENABLED=0", want: Options{CertFile: flag, KeyFile: flag}, warnings: []string{"TLS is on by --tls_cert"}},
		"authority of a flag":       {flags: Options{CAFile: flag}, want: with(func(o *Options) { o.CAFile, o.VerifyServerCert = flag, nil })},
		"authority of a flag, dir":  {flags: Options{CAFile: flag}, env: "LIBPROCESS_SSL_CA_DIR=" + dir, want: with(func(o *Options) { o.CAFile, o.VerifyServerCert = flag, nil })},
		"several errors at a time":  {env: "LIBPROCESS_SSL_KEY_FILE=/none LIBPROCESS_SSL_ENABLE_SSL_V3=1", err: os.ErrNotExist, text: "LIBPROCESS_SSL_ENABLE_SSL_V3"},
		"the empty value of a file": {env: "LIBPROCESS_SSL_CA_FILE=\"\"", want: plain},
	} {
		t.Run(name, func(t *testing.T) {
			vars := maps.Clone(base)
			for kv := range strings.FieldsSeq(row.env) {
				k, v, _ := strings.Cut(kv, "=")
				vars[k] = v
				if v == "" {
					delete(vars, k)
				}
				if v == `""` {
					vars[k] = ""
				}
			}
			var env []string
			for _, k := range slices.Sorted(maps.Keys(vars)) {
				env = append(env, k+"="+vars[k])
			}
			got, warnings, err := FromEnvironment(env, row.flags)
			if row.text != "" {
				if err == nil || !strings.Contains(err.Error(), row.text) || !errors.Is(err, row.err) && !errors.Is(row.err, os.ErrInvalid) {
					t.Errorf("got %v, want %v, %q", err, row.err, row.text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got, cmpopts.IgnoreUnexported(Options{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if len(warnings) != len(row.warnings) {
				t.Fatalf("got warnings %q, want %q", warnings, row.warnings)
			}
			for i, w := range row.warnings {
				if !strings.Contains(warnings[i], w) {
					t.Errorf("got warning %q, want %q", warnings[i], w)
				}
			}
		})
	}
}

// Errors of files name the variable that they came from.
func TestEnvironmentNames(t *testing.T) {
	a := newTestAuthority(t)
	o := put(t, t.TempDir(), a, Request{Name: "node", Hosts: localhost})
	other := put(t, t.TempDir(), a, Request{Name: "node", Hosts: localhost})
	env := []string{"LIBPROCESS_SSL_ENABLED=1", "LIBPROCESS_SSL_CERT_FILE=" + o.CertFile, "LIBPROCESS_SSL_KEY_FILE=" + other.KeyFile}
	opts, _, err := FromEnvironment(env, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = Open(opts)
	if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "LIBPROCESS_SSL_CERT_FILE and LIBPROCESS_SSL_KEY_FILE") {
		t.Errorf("got %v", err)
	}
	env[2] = "LIBPROCESS_SSL_KEY_FILE=" + o.KeyFile
	opts, _, err = FromEnvironment(append(env, "LIBPROCESS_SSL_REQUIRE_CERT=1"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = Open(opts); !errors.Is(err, ErrContradiction) || !strings.Contains(err.Error(), "LIBPROCESS_SSL_REQUIRE_CERT needs") {
		t.Errorf("got %v", err)
	}
}

func TestParseCiphers(t *testing.T) {
	const (
		ecdsa128, rsa128 = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
		ecdsa256, rsa256 = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
		ecdsaCC, rsaCC   = tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
	)
	for list, want := range map[string][]uint16{
		"ECDHE-RSA-AES128-GCM-SHA256":                           {rsa128},
		"ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256":    {rsa128},
		"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256":                 {rsa128},
		"EECDH+AESGCM:@STRENGTH":                                {ecdsa128, rsa128, ecdsa256, rsa256},
		"ECDHE+AESGCM:ECDHE+CHACHA20":                           {ecdsa128, rsa128, ecdsa256, rsa256, ecdsaCC, rsaCC},
		"CHACHA20 ECDHE-ECDSA-AES128-GCM-SHA256":                {ecdsaCC, rsaCC, ecdsa128},
		"HIGH:!aRSA:!SHA1":                                      {ecdsa128, ecdsa256, ecdsaCC},
		"DEFAULT:!aNULL:!MD5:!CBC:!ECDSA":                       {rsa128, rsa256, rsaCC},
		"!ECDHE-ECDSA-AES128-GCM-SHA256:EECDH+AESGCM:-aRSA":     {ecdsa256},
		"EECDH+AESGCM:-EECDH:ECDHE-RSA-AES128-GCM-SHA256":       {rsa128},
		"AESGCM:+ECDHE:!kRSA:!AES256":                           {ecdsa128, rsa128},
		"ECDHE-RSA-AES128-GCM-SHA256,,:ECDHE-RSA-AES128-SHA256": {rsa128},
	} {
		if got, _, err := ParseCiphers(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %x, %v, want %x", list, got, err, want)
		}
	}
	for _, list := range []string{"", ":", "RC4-SHA", "TLS_AES_128_GCM_SHA256", "HIGH:!HIGH", "!", "@STRENGTH", "RSA+"} {
		if got, _, err := ParseCiphers(list); !errors.Is(err, ErrNoCipher) {
			t.Errorf("%q: got %x, %v", list, got, err)
		}
	}
	_, unknown, err := ParseCiphers("RC4-SHA:AES128-SHA:DES-CBC3-SHA")
	if err != nil || !slices.Equal(unknown, []string{"RC4-SHA", "DES-CBC3-SHA"}) {
		t.Errorf("got %q, %v", unknown, err)
	}
	// The table has what Go serves in TLS 1.2 and does not think insecure for its
	// cipher, under Go's own name.
	for _, s := range tls.CipherSuites() {
		if !slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			continue
		}
		if got, _, err := ParseCiphers(s.Name); err != nil || !slices.Equal(got, []uint16{s.ID}) {
			t.Errorf("%s: got %x, %v", s.Name, got, err)
		}
	}
}

func FuzzEnvironment(f *testing.F) {
	f.Add("LIBPROCESS_SSL_ENABLED=1\nLIBPROCESS_SSL_CERT_FILE=/c\nLIBPROCESS_SSL_KEY_FILE=/k")
	f.Add("SSL_ENABLED=true\nSSL_VERIFY_DEPTH=4\nSSL_CIPHERS=ALL:!aNULL\nSSL_ECDH_CURVE=auto")
	f.Add("LIBPROCESS_SSL_ENABLED=0\n=\nSSL_\nLIBPROCESS_SSL_=")
	f.Add("LIBPROCESS_SSL_ENABLED=1\nLIBPROCESS_SSL_ENABLE_TLS_V1_2=0\nLIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME=legacy")
	dir := f.TempDir()
	path := filepath.Join(dir, "x")
	write(f, path, []byte("x"))
	f.Fuzz(func(t *testing.T, text string) {
		for _, flags := range []Options{{}, {CertFile: path, KeyFile: path, CAFile: path}} {
			o, warnings, err := FromEnvironment(strings.Split(text, "\n"), flags)
			if err != nil {
				if len(warnings) > 0 || o.Enabled() != flags.Enabled() {
					t.Errorf("an error, and still %v, %v", o, warnings)
				}
				continue
			}
			if flags.Enabled() && (o.CertFile != path || o.KeyFile != path || o.CAFile != path || o.CADir != "") {
				t.Errorf("the flags do not win: %+v", o)
			}
			if o.Enabled() && (o.CertFile == "" || o.KeyFile == "") {
				t.Errorf("half of it: %+v", o)
			}
			o.setDefaults()
			if err := o.validateVersions(); err != nil {
				t.Errorf("%+v: %v", o, err)
			}
		}
	})
}

func FuzzCiphers(f *testing.F) {
	for _, list := range []string{"", "DEFAULT", "ECDHE+AESGCM:!aNULL:-RSA:+AES@STRENGTH", "AES128-SHA:RC4-SHA", "::,, !"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		suites, _, err := ParseCiphers(list)
		if (err == nil) != (len(suites) > 0) {
			t.Errorf("got %x, %v", suites, err)
		}
		seen := map[uint16]bool{}
		for _, id := range suites {
			if seen[id] || !slices.ContainsFunc(knownSuites, func(s suite) bool { return s.id == id }) {
				t.Errorf("suite %x", id)
			}
			seen[id] = true
		}
		fitForHTTP2(suites)
		ids, _, err := ParseCurves(list)
		if err != nil && len(ids) > 0 {
			t.Errorf("got %v, %v", ids, err)
		}
	})
}
