package cli

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client"
	"clusterd/internal/authn"
	"clusterd/internal/tlsconf"
)

// clientFlags are on every command that speaks to masters or agents, before its own.
func clientFlags(own ...cliv2.Flag) []cliv2.Flag {
	return append([]cliv2.Flag{
		masterFlag(),
		&cliv2.StringFlag{
			Name: "tls_ca", Aliases: []string{"tls-ca"}, EnvVars: []string{"CLUSTERD_TLS_CA"},
			Usage: "PEM `FILE` of the authorities of masters and agents; they are spoken to by TLS then, as with https:// in --master",
		},
		&cliv2.StringFlag{
			Name: "tls_cert", Aliases: []string{"tls-cert"}, EnvVars: []string{"CLUSTERD_TLS_CERT"},
			Usage: "PEM `FILE` of the certificate that they are shown",
		},
		&cliv2.StringFlag{
			Name: "tls_key", Aliases: []string{"tls-key"}, EnvVars: []string{"CLUSTERD_TLS_KEY"}, Usage: "PEM `FILE` of its key",
		},
		&cliv2.StringFlag{
			Name: "credential", EnvVars: []string{"CLUSTERD_CREDENTIAL"},
			Usage: `FILE with who you are: {"principal": "...", "secret": "..."}`, DefaultText: "nobody",
		},
		&cliv2.StringFlag{
			Name: "token", EnvVars: []string{"CLUSTERD_TOKEN"}, DefaultText: "none",
			Usage: "`TOKEN` (JWT) that says who you are, or file:///path to it, which other users of this machine do not see",
		},
	}, own...)
}

// clientOptions say how a command speaks to masters and agents: the one place where
// its flags and environment are read for that.
func clientOptions(c *cliv2.Context) (client.Options, error) {
	var o client.Options
	var err error
	if o.TLS, err = clientTLS(c); err != nil {
		return o, err
	}
	token, credential := c.String("token"), c.String("credential")
	if token != "" && credential != "" {
		// One of the two may come from the environment: the command line counts.
		switch t, f := token != os.Getenv("CLUSTERD_TOKEN"), credential != os.Getenv("CLUSTERD_CREDENTIAL"); {
		case t == f:
			return o, fmt.Errorf("%w: --token and --credential both say who you are: give one of them", errUsage)
		case t:
			credential = ""
		default:
			token = ""
		}
	}
	if o.Token, err = readToken(token); err != nil {
		return o, err
	}
	if credential != "" {
		who, _, err := authn.LoadCredential(strings.TrimPrefix(credential, "file://"))
		if err != nil {
			return o, fmt.Errorf("--credential: %w", err)
		}
		o.Credential = &client.Credential{Principal: who.Principal, Secret: string(who.Secret)}
	}
	return o, nil
}

func readToken(text string) (string, error) {
	path, isFile := strings.CutPrefix(text, "file://")
	if isFile {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("--token: %w", err)
		}
		text = string(b)
	}
	text = strings.TrimSpace(text)
	if strings.ContainsAny(text, "\r\n \t") {
		return "", fmt.Errorf("%w: --token: a token has no blanks in it", errUsage)
	}
	return text, nil
}

// clientTLS is nil where nothing asks for TLS. Mesos's variables do as well as ours.
func clientTLS(c *cliv2.Context) (*tls.Config, error) {
	o := tlsconf.Options{CAFile: c.String("tls_ca"), CertFile: c.String("tls_cert"), KeyFile: c.String("tls_key")}
	asked := o.CAFile != "" || o.Enabled()
	if on := mesosTLS("ENABLED"); !asked && (on == "1" || on == "true") {
		asked = true
		o.CAFile, o.CADir, o.CertFile, o.KeyFile = mesosTLS("CA_FILE"), mesosTLS("CA_DIR"), mesosTLS("CERT_FILE"), mesosTLS("KEY_FILE")
		// Not Mesos's default: a credential goes to whom is asked.
		if v := cmp.Or(mesosTLS("VERIFY_SERVER_CERT"), mesosTLS("VERIFY_CERT")); v == "0" || v == "false" {
			o.VerifyServerCert = new(false)
		}
	}
	for _, a := range masters(c) {
		asked = asked || strings.HasPrefix(a, "https://")
	}
	if !asked {
		return nil, nil
	}
	return tlsconf.ClientConfig(o)
}

func mesosTLS(name string) string {
	return cmp.Or(os.Getenv("LIBPROCESS_SSL_"+name), os.Getenv("SSL_"+name))
}

// explain adds advice to errors that say that a server was not reached, or did
// not take who asked.
func explain(err error, c *cliv2.Context) error {
	if _, hinted := errors.AsType[hinted](err); hinted || err == nil {
		return err
	}
	if status, ok := errors.AsType[*client.StatusError](err); ok {
		return explainStatus(err, status)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return withHint(err, "--tls_ca or $CLUSTERD_TLS_CA names the file of the authority that has signed it")
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return withHint(err, "use a name or address that the certificate has: clusterd tls show FILE lists them")
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return withHint(err, "it does not speak TLS: http:// in --master speaks in clear")
	}
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case !ok:
		return err
	case op.Op == "remote error": // an alert of TLS
		return withHint(err, "is a certificate asked for, or that of --tls_cert not taken? clusterd tls init makes them for operators, too")
	}
	return withHint(err, "is a master running at %s? --master or $CLUSTERD_MASTER says where to look", c.String("master"))
}

func explainStatus(err error, status *client.StatusError) error {
	switch {
	case status.Code == http.StatusUnauthorized:
		return withHint(err, "--credential FILE or --token says who you are")
	case status.Code == http.StatusForbidden:
		return withHint(err, "the cluster's --acls do not allow it to whom you are")
	case status.Code == http.StatusBadRequest && strings.Contains(status.Body, "speaks TLS"):
		return withHint(err, "--tls_ca FILE or https:// in --master")
	}
	return err
}

// authorize adds who asks to a request.
func authorize(r *http.Request, o *client.Options) {
	switch {
	case o.Token != "":
		r.Header.Set("Authorization", "Bearer "+o.Token)
	case o.Credential != nil:
		r.SetBasicAuth(o.Credential.Principal, o.Credential.Secret)
	}
}

// errRedirect says that a redirect is not followed.
var errRedirect = errors.New("redirect is not followed")

// followLeader is for http.Client.CheckRedirect: who asks is told to the leader that a
// master names, at the same path and not out of TLS, and to nobody else. Go by itself
// would not tell another host.
func followLeader(o *client.Options) func(*http.Request, []*http.Request) error {
	return func(r *http.Request, via []*http.Request) error {
		first, last := via[0], via[len(via)-1]
		switch {
		case len(via) >= 5:
			return fmt.Errorf("%w: %w", errRedirect, client.ErrRedirects)
		case last.URL.Scheme == "https" && r.URL.Scheme != "https":
			return fmt.Errorf("%w: %s leads out of TLS", errRedirect, r.URL.Redacted())
		case r.URL.Path != first.URL.Path:
			return fmt.Errorf("%w: %s is not what was asked for", errRedirect, r.URL.Redacted())
		}
		authorize(r, o)
		return nil
	}
}
