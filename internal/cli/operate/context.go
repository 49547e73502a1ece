package operate

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
)

func contextCommand(e console.Env) *cliv2.Command {
	plain := func(least, most int, run func(x *call, conf *console.Config) error) cliv2.ActionFunc {
		return func(c *cliv2.Context) error {
			args, err := console.Args(c, least, most)
			if err != nil {
				return err
			}
			conf, err := console.LoadConfig()
			if err != nil {
				return err
			}
			return run(&call{Env: e, Context: c, args: args}, conf)
		}
	}
	return noun("context", "name clusters and who you are there, in a config file",
		&cliv2.Command{
			Name: "list", Aliases: []string{"ls"}, Usage: "list contexts", Flags: console.OutputFlags(), Action: plain(0, 0, listContexts),
		},
		&cliv2.Command{
			Name: "show", Usage: "show a context, or the current one", ArgsUsage: "[CONTEXT]",
			Flags:  console.Flags(console.OutputFlag(), &cliv2.BoolFlag{Name: "rights", Usage: "ask the cluster who you are and what you may do"}),
			Action: plain(0, 1, showContext),
		},
		&cliv2.Command{
			Name: "current", Usage: "print the name of the context that is used when nothing says so", Action: plain(0, 0, func(x *call, conf *console.Config) error {
				if conf.Current == "" {
					return console.Hint(console.Mark(console.ErrNotFound, fmt.Errorf("no context is in use")), "clusterd context use NAME")
				}
				x.say("%s", conf.Current)
				return nil
			}),
		},
		&cliv2.Command{
			Name: "use", Usage: "use a context from now on", ArgsUsage: "CONTEXT", Action: plain(1, 1, func(x *call, conf *console.Config) error {
				if _, err := conf.Named(x.args[0]); err != nil {
					return err
				}
				conf.Current = x.args[0]
				return x.done(conf.Save(), "using %s", x.args[0])
			}),
		},
		&cliv2.Command{
			Name: "set", Usage: "make a context, or change what the flags name of one", ArgsUsage: "CONTEXT",
			Description: "The file is ~/.config/clusterd/config.toml ($CLUSTERD_CONFIG). An empty value takes a setting away.\n" +
				"The first context that is made is the current one.",
			Flags: []cliv2.Flag{
				&cliv2.StringFlag{Name: "masters", Usage: "`ADDRESSES` of masters with commas between them"},
				&cliv2.StringFlag{Name: "principal", Usage: "`NAME` that says who you are"},
				&cliv2.StringFlag{Name: "secret_file", Aliases: []string{"secret-file"}, Usage: "`FILE` with the secret of --principal"},
				&cliv2.BoolFlag{Name: "secret_stdin", Aliases: []string{"secret-stdin"}, Usage: "read the secret of --principal from the input and keep it in the config file"},
				&cliv2.StringFlag{Name: "token_file", Aliases: []string{"token-file"}, Usage: "`FILE` with a token (JWT) that says who you are"},
				&cliv2.StringFlag{Name: "tls_ca", Aliases: []string{"tls-ca"}, Usage: "PEM `FILE` of the authorities of masters and agents"},
				&cliv2.StringFlag{Name: "tls_cert", Aliases: []string{"tls-cert"}, Usage: "PEM `FILE` of the certificate that they are shown"},
				&cliv2.StringFlag{Name: "tls_key", Aliases: []string{"tls-key"}, Usage: "PEM `FILE` of its key"},
				&cliv2.StringFlag{Name: "tls_server_name", Aliases: []string{"tls-server-name"}, Usage: "`NAME` that the masters' certificates must have"},
				&cliv2.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FORMAT` of answers when nothing says so"},
			},
			Action: plain(1, 1, setContext),
		},
		&cliv2.Command{
			Name: "remove", Aliases: []string{"rm"}, Usage: "forget contexts", ArgsUsage: "CONTEXT...", Flags: []cliv2.Flag{console.YesFlag()},
			Action: plain(1, -1, removeContexts),
		},
	)
}

func listContexts(x *call, conf *console.Config) error {
	t := &console.Table{Header: []string{"CURRENT", "NAME", "MASTERS", "PRINCIPAL"}, Wide: []string{"TLS CA", "OUTPUT"}}
	items := []any{}
	for _, name := range conf.Names() {
		c := conf.Contexts[name]
		mark := ""
		if name == conf.Current {
			mark = "*"
		}
		who := c.Principal
		if c.TokenFile != "" {
			who = "by token"
		}
		t.Add(mark, name, strings.Join(c.Masters, ","), who, c.TLS.CA, c.Output)
		t.Names = append(t.Names, name)
		items = append(items, map[string]any{"name": name, "current": name == conf.Current, "context": c})
	}
	t.Items = items
	return x.print(t)
}

// session is what a master says of who asks.
type session struct {
	Principal *struct {
		Value string `json:"value"`
	} `json:"principal"`
	Authenticated bool              `json:"authenticated"`
	Required      bool              `json:"required"`
	Cluster       string            `json:"cluster"`
	Actions       map[string]string `json:"actions"`
}

func showContext(x *call, conf *console.Config) error {
	name := x.String("context")
	if len(x.args) > 0 {
		name = x.args[0]
		if err := x.Set("context", name); err != nil {
			return err
		}
	}
	if name == "" {
		name = conf.Current
	}
	c := &console.Context{}
	if name != "" {
		var err error
		if c, err = conf.Named(name); err != nil {
			return err
		}
	}
	d := &console.Detail{Item: map[string]any{"name": name, "context": c}, Name: name}
	if name == "" {
		d.Line("context", "none: flags and environment say which cluster is meant")
	} else {
		d.Line("context", name)
	}
	d.Line("file", conf.Path())
	d.Line("masters", strings.Join(c.Masters, ", "))
	d.Line("principal", c.Principal)
	switch {
	case c.Secret != "":
		d.Line("secret", "in the config file")
	case c.SecretFile != "":
		d.Line("secret", "in "+c.SecretFile)
	case c.TokenFile != "":
		d.Line("token", "in "+c.TokenFile)
	}
	d.Line("tls ca", c.TLS.CA)
	d.Line("tls cert", c.TLS.Cert)
	d.Line("tls key", c.TLS.Key)
	d.Line("tls server name", c.TLS.ServerName)
	d.Line("output", c.Output)
	if x.Bool("rights") {
		if err := addRights(x, d); err != nil {
			return err
		}
	}
	return d.Print(x.Env, x.Context)
}

// addRights asks the cluster who one is there, and what one may do.
func addRights(x *call, d *console.Detail) error {
	cl, err := console.Connect(x.Context)
	if err != nil {
		return err
	}
	var raw rawJSON
	if err := cl.Get(x.ctx(), console.OwnPath+"session", &raw); err != nil {
		return err
	}
	var s session
	if err := raw.into(&s); err != nil {
		return err
	}
	if m, ok := d.Item.(map[string]any); ok {
		m["session"] = raw.value()
	}
	who := "nobody"
	if s.Principal != nil {
		who = s.Principal.Value
	}
	if s.Required && !s.Authenticated {
		who += ": the cluster wants to know"
	}
	d.Line("cluster", s.Cluster)
	d.Line("you are", who)
	t := &console.Table{Header: []string{"ACTION", "ALLOWED"}}
	for _, action := range slices.Sorted(maps.Keys(s.Actions)) {
		t.Add(action, s.Actions[action])
	}
	d.Part("RIGHTS", t)
	return nil
}

func setContext(x *call, conf *console.Config) error {
	name := x.args[0]
	if name == "" || strings.ContainsAny(name, " \t\n,/") {
		return console.Usagef("%q is no name for a context", name)
	}
	c := conf.Contexts[name]
	if c == nil {
		c = &console.Context{}
	}
	if x.IsSet("masters") {
		c.Masters = console.Commas([]string{x.String("masters")})
	}
	for flag, to := range map[string]*string{
		"principal": &c.Principal, "secret_file": &c.SecretFile, "token_file": &c.TokenFile, "output": &c.Output,
		"tls_ca": &c.TLS.CA, "tls_cert": &c.TLS.Cert, "tls_key": &c.TLS.Key, "tls_server_name": &c.TLS.ServerName,
	} {
		if x.IsSet(flag) {
			*to = x.String(flag)
		}
	}
	if x.IsSet("secret_file") || x.IsSet("token_file") {
		c.Secret = ""
	}
	if x.Bool("secret_stdin") {
		b, err := io.ReadAll(io.LimitReader(console.Input(x.ctx(), x.In), 64<<10))
		if err != nil {
			return err
		}
		c.Secret, c.SecretFile, c.TokenFile = strings.TrimRight(string(b), "\r\n"), "", ""
	}
	for _, file := range []string{c.SecretFile, c.TokenFile, c.TLS.CA, c.TLS.Cert, c.TLS.Key} {
		if file == "" || strings.HasPrefix(file, "~/") {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			fmt.Fprintf(x.Err, "clusterd: warning: %v\n", err)
		}
	}
	conf.Contexts[name] = c
	if conf.Current == "" {
		conf.Current = name
	}
	return x.done(conf.Save(), "set context %s", name)
}

func removeContexts(x *call, conf *console.Config) error {
	for _, name := range x.args {
		if _, err := conf.Named(name); err != nil {
			return err
		}
	}
	if err := x.confirm("forget context %s", strings.Join(x.args, ", ")); err != nil {
		return err
	}
	for _, name := range x.args {
		delete(conf.Contexts, name)
		if conf.Current == name {
			conf.Current = ""
		}
	}
	return x.done(conf.Save(), "forgot %s", strings.Join(x.args, ", "))
}
