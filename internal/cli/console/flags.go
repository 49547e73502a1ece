package console

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client"
	"clusterd/internal/authn"
	"clusterd/internal/tlsconf"
)

// DefaultMaster is where a master is looked for when nothing says where.
const DefaultMaster = "127.0.0.1:5050"

// Category of the flags that every client command has, in help texts.
const Category = "Cluster"

// Flags are on every command that speaks to a cluster, after its own.
func Flags(own ...cliv2.Flag) []cliv2.Flag {
	return slices.Concat(own, []cliv2.Flag{
		&cliv2.StringFlag{
			Name: "master", Category: Category, EnvVars: []string{"CLUSTERD_MASTER", "MESOS_MASTER"}, DefaultText: DefaultMaster,
			Usage: "`ADDRESS` of a master, host:port or a URL; several with commas",
		},
		&cliv2.StringFlag{
			Name: "context", Category: Category, EnvVars: []string{"CLUSTERD_CONTEXT"}, DefaultText: "the current one",
			Usage: "`NAME` of a context of the config file; see clusterd context",
		},
		&cliv2.StringFlag{
			Name: "principal", Category: Category, EnvVars: []string{"CLUSTERD_PRINCIPAL", "MESOS_PRINCIPAL"},
			Usage: "`NAME` that says who you are, with --secret",
		},
		&cliv2.StringFlag{
			Name: "secret", Category: Category, EnvVars: []string{"CLUSTERD_SECRET", "MESOS_SECRET"}, DefaultText: "none",
			Usage: "`SECRET` of --principal, or file:///path to it, which other users of this machine do not see",
		},
		&cliv2.StringFlag{
			Name: "credential", Category: Category, EnvVars: []string{"CLUSTERD_CREDENTIAL"}, DefaultText: "nobody",
			Usage: `FILE with who you are: {"principal": "...", "secret": "..."}`,
		},
		&cliv2.StringFlag{
			Name: "token", Category: Category, EnvVars: []string{"CLUSTERD_TOKEN"}, DefaultText: "none",
			Usage: "`TOKEN` (JWT) that says who you are, or file:///path to it, which other users of this machine do not see",
		},
		&cliv2.StringFlag{
			Name: "tls_ca", Category: Category, Aliases: []string{"tls-ca"}, EnvVars: []string{"CLUSTERD_TLS_CA"},
			Usage: "PEM `FILE` of the authorities of masters and agents; they are spoken to by TLS then, as with https:// in --master",
		},
		&cliv2.StringFlag{
			Name: "tls_cert", Category: Category, Aliases: []string{"tls-cert"}, EnvVars: []string{"CLUSTERD_TLS_CERT"},
			Usage: "PEM `FILE` of the certificate that they are shown",
		},
		&cliv2.StringFlag{
			Name: "tls_key", Category: Category, Aliases: []string{"tls-key"}, EnvVars: []string{"CLUSTERD_TLS_KEY"}, Usage: "PEM `FILE` of its key",
		},
		&cliv2.StringFlag{
			Name: "tls_server_name", Category: Category, Aliases: []string{"tls-server-name"}, EnvVars: []string{"CLUSTERD_TLS_SERVER_NAME"},
			Usage: "`NAME` that the masters' certificates must have, where it is not that of --master",
		},
		&cliv2.StringFlag{
			Name: "leader_timeout", Category: Category, Aliases: []string{"leader-timeout"}, EnvVars: []string{"CLUSTERD_LEADER_TIMEOUT"}, DefaultText: leaderPatience.String(),
			Usage: "wait this `DURATION` for a leader while none leads; 0: not at all",
		},
	})
}

// OutputFlags are on every command that prints a table.
func OutputFlags(own ...cliv2.Flag) []cliv2.Flag {
	return Flags(slices.Concat(own, []cliv2.Flag{
		OutputFlag(),
		&cliv2.StringSliceFlag{Name: "filter", Usage: "show only what fits `KEY=VALUE`, KEY!=VALUE, KEY~REGEXP, KEY!~REGEXP, KEY>N or KEY<N, by the columns of -o wide; repeatable, or with commas"},
		&cliv2.StringFlag{Name: "sort-by", Usage: "sort by `COLUMN`; -COLUMN: backwards"},
		&cliv2.BoolFlag{Name: "no-headers", Usage: "print no line with the names of the columns"},
	})...)
}

// OutputFlag says in which format an answer is printed.
func OutputFlag() cliv2.Flag {
	return &cliv2.StringFlag{
		Name: "output", Aliases: []string{"o"}, EnvVars: []string{"CLUSTERD_OUTPUT"}, DefaultText: "table",
		Usage: "`FORMAT` of the answer: " + strings.Join(formats, ", "),
	}
}

// YesFlag is on every command that asks before it acts.
func YesFlag() cliv2.Flag {
	return &cliv2.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask whether to do it"}
}

// target is which cluster is meant, and who asks.
type target struct {
	masters []string
	opts    client.Options
	output  string
	name    string // of the context, empty without one
}

// targetOf reads it from flags, environment and config file, in this order. It is the
// one place where they are read for that.
//
// A context is a whole: its credentials and its TLS go to its own masters. Where flags
// or environment name masters, they are used only if --context says that they are meant:
// a secret must not go to a cluster for which it was not given.
func targetOf(c *cliv2.Context) (*target, error) {
	conf, err := LoadConfig()
	if err != nil {
		return nil, err
	}
	t := &target{name: cmp.Or(c.String("context"), conf.Current)}
	given := c.String("master")
	if given != "" && c.String("context") == "" {
		t.name = ""
	}
	x := &Context{}
	if t.name != "" {
		if x, err = conf.Named(t.name); err != nil {
			return nil, err
		}
	}
	t.output = x.Output
	if given == "" {
		t.masters = x.Masters
	} else {
		t.masters = strings.FieldsFunc(given, func(r rune) bool { return r == ',' || r == ' ' })
	}
	if len(t.masters) == 0 {
		t.masters = []string{DefaultMaster}
	}
	if t.opts.TLS, err = tlsOf(c, x, t.masters); err != nil {
		return nil, err
	}
	return t, identify(c, x, &t.opts)
}

// identify says who asks.
func identify(c *cliv2.Context, x *Context, o *client.Options) error {
	way, err := wayOf(c)
	if err != nil {
		return err
	}
	switch way {
	case "token":
		o.Token, err = readToken(c.String("token"))
	case "credential":
		who, _, e := authn.LoadCredential(strings.TrimPrefix(c.String("credential"), "file://"))
		if e != nil {
			return fmt.Errorf("--credential: %w", e)
		}
		o.Credential = &client.Credential{Principal: who.Principal, Secret: string(who.Secret)}
	case "principal":
		o.Credential = &client.Credential{Principal: c.String("principal"), Secret: c.String("secret")}
		if path, ok := strings.CutPrefix(c.String("secret"), "file://"); ok {
			o.Credential.Secret, err = readSecret(path)
		}
	default:
		return identifyByContext(x, o)
	}
	return err
}

// wayOf is which flag says who asks; those of the command line come before the
// environment's.
func wayOf(c *cliv2.Context) (string, error) {
	env := map[string][]string{
		"token": {"CLUSTERD_TOKEN"}, "credential": {"CLUSTERD_CREDENTIAL"}, "principal": {"CLUSTERD_PRINCIPAL", "MESOS_PRINCIPAL"},
	}
	var typed, set []string
	for _, name := range []string{"token", "credential", "principal"} {
		v := c.String(name)
		if v == "" {
			continue
		}
		set = append(set, name)
		if !slices.ContainsFunc(env[name], func(e string) bool { return os.Getenv(e) == v }) {
			typed = append(typed, name)
		}
	}
	if len(typed) > 0 {
		set = typed
	}
	switch len(set) {
	case 0:
		return "", nil
	case 1:
		return set[0], nil
	}
	return "", Usagef("--%s and --%s both say who you are: give one of them", set[0], set[1])
}

func identifyByContext(x *Context, o *client.Options) (err error) {
	switch {
	case x.TokenFile != "":
		text, err := readSecret(x.TokenFile)
		if err != nil {
			return fmt.Errorf("token_file: %w", err)
		}
		o.Token, err = readToken(text)
		return err
	case x.Principal != "":
		o.Credential = &client.Credential{Principal: x.Principal, Secret: x.Secret}
		if x.SecretFile != "" {
			if o.Credential.Secret, err = readSecret(x.SecretFile); err != nil {
				return fmt.Errorf("secret_file: %w", err)
			}
		}
	}
	return nil
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
		return "", Usagef("--token: a token has no blanks in it")
	}
	return text, nil
}

// tlsOf is nil where nothing asks for TLS. Mesos's variables do as well as ours.
func tlsOf(c *cliv2.Context, x *Context, masters []string) (*tls.Config, error) {
	pick := func(flag, context string) string { return cmp.Or(c.String(flag), expandHome(context)) }
	o := tlsconf.Options{CAFile: pick("tls_ca", x.TLS.CA), CertFile: pick("tls_cert", x.TLS.Cert), KeyFile: pick("tls_key", x.TLS.Key)}
	serverName := pick("tls_server_name", x.TLS.ServerName)
	asked := o.CAFile != "" || o.Enabled() || serverName != ""
	if on := mesosTLS("ENABLED"); !asked && (on == "1" || on == "true") {
		asked = true
		o.CAFile, o.CADir, o.CertFile, o.KeyFile = mesosTLS("CA_FILE"), mesosTLS("CA_DIR"), mesosTLS("CERT_FILE"), mesosTLS("KEY_FILE")
		// Not Mesos's default: a credential goes to whom is asked.
		if v := cmp.Or(mesosTLS("VERIFY_SERVER_CERT"), mesosTLS("VERIFY_CERT")); v == "0" || v == "false" {
			o.VerifyServerCert = new(false)
		}
	}
	asked = asked || slices.ContainsFunc(masters, func(a string) bool { return strings.HasPrefix(a, "https://") })
	if !asked {
		return nil, nil
	}
	conf, err := tlsconf.ClientConfig(o)
	if err != nil {
		return nil, err
	}
	if serverName != "" {
		conf.ServerName = serverName
	}
	return conf, nil
}

func mesosTLS(name string) string {
	return cmp.Or(os.Getenv("LIBPROCESS_SSL_"+name), os.Getenv("SSL_"+name))
}
