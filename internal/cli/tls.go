package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
	"clusterd/internal/tlsconf"
)

const (
	day = 24 * time.Hour
	// resolvePatience bounds the look-up of a node's addresses.
	resolvePatience = 5 * time.Second
)

func tlsCommand(e env) *cliv2.Command {
	dir := &cliv2.StringFlag{Name: "dir", Usage: "`DIRECTORY` of the authority and its certificates", Value: "tls"}
	ca := &cliv2.StringFlag{Name: "ca", Usage: "PEM `FILE` of another authority, with its key beside it: FILE-key.pem for FILE.pem"}
	days := &cliv2.IntFlag{Name: "days", Usage: "how many `DAYS` certificates are good", Value: 365}
	force := &cliv2.BoolFlag{Name: "force", Usage: "overwrite certificates that are there"}
	action := func(run func(c *cliv2.Context, e env) error) cliv2.ActionFunc {
		return func(c *cliv2.Context) error { return run(c, e) }
	}
	cmd := &cliv2.Command{
		Name:  "tls",
		Usage: "make certificates for a cluster that has no authority of its own, and look at certificates",
		Subcommands: []*cliv2.Command{
			{
				Name:  "init",
				Usage: "make a private authority, and certificates of nodes and of an operator",
				Description: "A second run keeps the authority and what is there, and adds nodes. Nodes dial each\n" +
					"other by address, so that the addresses of a name are looked up and written into its\n" +
					"certificate, besides localhost. Of DIR, a node needs ca.pem and its own two files;\n" +
					"ca-key.pem belongs where nobody else comes.",
				Flags: []cliv2.Flag{
					dir, ca, days, force,
					&cliv2.StringSliceFlag{Name: "hosts", Usage: "`NODES` with commas between them, each a name or an address, or several of one node with + between them: m1+10.0.0.1,m2"},
					&cliv2.StringSliceFlag{Name: "clients", Usage: "`NAMES` of operators with commas between them; the name is the principal", Value: cliv2.NewStringSlice("operator")},
					&cliv2.BoolFlag{Name: "no_lookup", Aliases: []string{"no-lookup"}, Usage: "do not look up addresses"},
					&cliv2.StringFlag{Name: "name", Usage: "common `NAME` of a new authority", Value: "clusterd"},
				},
				Action: action(runTLSInit),
			},
			{
				Name: "show", Usage: "print what certificates say, and when they end", ArgsUsage: "FILE...",
				Action: action(runTLSShow),
			},
			{
				Name:  "renew",
				Usage: "sign certificates anew, with the same names and keys; nodes that run read them by themselves",
				Flags: []cliv2.Flag{
					dir, ca, days,
					&cliv2.IntFlag{Name: "within", Usage: "those that end within this many `DAYS`", Value: 30},
					&cliv2.BoolFlag{Name: "all", Usage: "all of them"},
					&cliv2.BoolFlag{Name: "new_key", Aliases: []string{"new-key"}, Usage: "with new keys"},
				},
				ArgsUsage: "[NAME...]", Action: action(runTLSRenew),
			},
		},
	}
	return console.Group(cmd)
}

func tlsStore(c *cliv2.Context) tlsconf.Store {
	return tlsconf.Store{Dir: c.String("dir"), CAFile: c.String("ca")}
}

// validity is when new certificates end.
func validity(c *cliv2.Context) (time.Time, error) {
	days := c.Int("days")
	if days < 1 || days > 36500 {
		return time.Time{}, fmt.Errorf("%w: --days=%d", console.ErrUsage, days)
	}
	return time.Now().Add(time.Duration(days) * day), nil
}

func runTLSInit(c *cliv2.Context, e env) error {
	if c.NArg() > 0 {
		return console.Hint(fmt.Errorf("%w: argument %q", console.ErrUsage, c.Args().First()), "nodes are given by --hosts")
	}
	notAfter, err := validity(c)
	if err != nil {
		return err
	}
	i := &tlsInit{env: e, store: tlsStore(c), notAfter: notAfter, force: c.Bool("force"), lookup: !c.Bool("no_lookup")}
	// Whatever is wrong is said before anything is written.
	var nodes []tlsNode
	for _, text := range console.Commas(c.StringSlice("hosts")) {
		name, hosts, err := tlsconf.ParseNode(text)
		if err != nil {
			return fmt.Errorf("%w: --hosts: %w", console.ErrUsage, err)
		}
		nodes = append(nodes, tlsNode{name, hosts})
	}
	for _, text := range console.Commas(c.StringSlice("clients")) {
		if text == "" {
			continue // none
		}
		name, hosts, err := tlsconf.ParseNode(text)
		if err != nil || len(hosts) != 1 {
			return fmt.Errorf("%w: --clients: %q is no name", console.ErrUsage, text)
		}
		if slices.ContainsFunc(nodes, func(n tlsNode) bool { return n.name == name }) {
			return fmt.Errorf("%w: %s is in --hosts and in --clients", console.ErrUsage, name)
		}
		nodes = append(nodes, tlsNode{name, nil})
	}
	made := false
	if i.authority, made, err = i.store.Init(c.String("name"), time.Now().Add(tlsconf.AuthorityValidity)); err != nil {
		return err
	}
	i.said(made, i.store.AuthorityFile(), fmt.Sprintf("the authority %q, until %s", i.authority.Certificate().Subject.CommonName, date(i.authority.Certificate().NotAfter)))
	for _, n := range nodes {
		if err := i.make(c.Context, n); err != nil {
			return err
		}
	}
	if made {
		fmt.Fprintf(e.Out, "\nEach node: --tls_ca=%s --tls_cert=NODE.pem --tls_key=NODE-key.pem\nThis shell: export CLUSTERD_TLS_CA=%s\nKeep %s where nobody else comes.\n",
			filepath.Base(i.store.AuthorityFile()), i.store.AuthorityFile(), tlsconf.KeyFileOf(i.store.AuthorityFile()))
	}
	return nil
}

type tlsNode struct {
	name  string
	hosts []string // none: it is a client
}

// tlsInit is one run of `clusterd tls init`.
type tlsInit struct {
	env
	store         tlsconf.Store
	authority     *tlsconf.Authority
	notAfter      time.Time
	force, lookup bool
}

func (i *tlsInit) said(made bool, file, what string) {
	verb := "kept"
	if made {
		verb = "made"
	}
	fmt.Fprintf(i.Out, "%s %s: %s\n", verb, file, what)
}

// make writes the certificate of one node, unless there is one.
func (i *tlsInit) make(ctx context.Context, n tlsNode) error {
	file := i.store.CertFile(n.name)
	if i.store.Exists(n.name) && !i.force {
		return i.keep(file, n)
	}
	hosts := n.hosts
	if len(hosts) > 0 {
		if i.lookup {
			ctx, cancel := context.WithTimeout(ctx, resolvePatience)
			defer cancel()
			var unknown []string
			if hosts, unknown = tlsconf.Resolve(ctx, hosts); len(unknown) > 0 {
				fmt.Fprintf(i.Err, "clusterd: warning: no address of %s is known here: nodes that dial it by address will refuse its certificate; write %s+ADDRESS\n", strings.Join(unknown, ", "), unknown[0])
			}
		}
		for _, h := range []string{"localhost", "127.0.0.1", "::1"} {
			if !slices.Contains(hosts, h) {
				hosts = append(hosts, h)
			}
		}
	}
	pair, err := i.authority.Issue(tlsconf.Request{Name: commonName(n), Hosts: hosts, NotAfter: i.notAfter})
	if err != nil {
		return err
	}
	if err := i.store.Save(n.name, pair, i.force); err != nil {
		return err
	}
	certs, err := tlsconf.ReadCertificates(file)
	if err != nil {
		return err
	}
	i.said(true, file, describe(certs[0]))
	return nil
}

// commonName is a node's first name, as it was written.
func commonName(n tlsNode) string {
	if len(n.hosts) > 0 {
		return n.hosts[0]
	}
	return n.name
}

// keep says what is there, and what it lacks of what was asked for.
func (i *tlsInit) keep(file string, n tlsNode) error {
	certs, err := tlsconf.ReadCertificates(file)
	if errors.Is(err, fs.ErrNotExist) {
		return console.Hint(fmt.Errorf("there is a key without a certificate: %w", err), "--force makes both anew")
	}
	if err != nil {
		return err
	}
	i.said(false, file, describe(certs[0]))
	for _, h := range n.hosts {
		if certs[0].VerifyHostname(h) != nil && !strings.HasPrefix(h, "*") {
			fmt.Fprintf(i.Err, "clusterd: warning: the certificate in %s does not name %s; --force makes it anew\n", file, h)
		}
	}
	return nil
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02") }

// names are all that a certificate is good for.
func names(c *x509.Certificate) []string {
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	return append(all, c.EmailAddresses...)
}

func describe(c *x509.Certificate) string {
	what := "the client " + c.Subject.CommonName
	if n := names(c); len(n) > 0 {
		what = strings.Join(n, " ")
	}
	return what + ", until " + date(c.NotAfter)
}

func runTLSShow(c *cliv2.Context, e env) error {
	if c.NArg() == 0 {
		return console.Hint(fmt.Errorf("%w: no file given", console.ErrUsage), "clusterd tls show FILE...")
	}
	for i, file := range c.Args().Slice() {
		certs, err := tlsconf.ReadCertificates(file)
		if err != nil {
			return err
		}
		for j, cert := range certs {
			if i+j > 0 {
				fmt.Fprintln(e.Out)
			}
			if err := showCertificate(e, file, cert); err != nil {
				return err
			}
		}
	}
	return nil
}

func showCertificate(e env, file string, c *x509.Certificate) error {
	w := tabwriter.NewWriter(e.Out, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, value) }
	row("file", file)
	row("subject", c.Subject.String())
	row("issuer", c.Issuer.String())
	if n := names(c); len(n) > 0 {
		row("names", strings.Join(n, " "))
	}
	row("use", strings.Join(uses(c), ", "))
	row("key", keyKind(c))
	row("begins", c.NotBefore.UTC().Format(time.RFC3339))
	row("ends", c.NotAfter.UTC().Format(time.RFC3339)+", "+remaining(c, time.Now()))
	row("serial", c.SerialNumber.Text(16))
	sum := sha256.Sum256(c.Raw)
	row("sha256", hex.EncodeToString(sum[:]))
	return w.Flush()
}

func uses(c *x509.Certificate) []string {
	if c.IsCA {
		return []string{"authority"}
	}
	known := map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "server", x509.ExtKeyUsageClientAuth: "client", x509.ExtKeyUsageAny: "any"}
	var all []string
	for _, u := range c.ExtKeyUsage {
		if name, ok := known[u]; ok {
			all = append(all, name)
		} else {
			all = append(all, "other")
		}
	}
	if len(all) == 0 {
		return []string{"any"}
	}
	return all
}

func keyKind(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return c.PublicKeyAlgorithm.String()
}

// remaining says how far the end of a certificate is.
func remaining(c *x509.Certificate, now time.Time) string {
	switch left := c.NotAfter.Sub(now); {
	case left <= 0:
		return fmt.Sprintf("which is %d days ago", int(-left/day))
	case now.Before(c.NotBefore):
		return "and has not begun"
	default:
		return fmt.Sprintf("in %d days", int(left/day))
	}
}

func runTLSRenew(c *cliv2.Context, e env) error {
	notAfter, err := validity(c)
	if err != nil {
		return err
	}
	store := tlsStore(c)
	a, err := store.Authority()
	if errors.Is(err, fs.ErrNotExist) {
		return console.Hint(err, "--dir says where clusterd tls init has written")
	}
	if err != nil {
		return err
	}
	files, err := store.List(a)
	if err != nil {
		return err
	}
	if c.NArg() > 0 {
		files = nil
		for _, name := range c.Args().Slice() {
			files = append(files, store.CertFile(strings.TrimSuffix(filepath.Base(name), ".pem")))
		}
	}
	end := time.Now().Add(time.Duration(c.Int("within")) * day)
	for _, file := range files {
		certs, err := tlsconf.ReadCertificates(file)
		if err != nil {
			return err
		}
		if c.NArg() == 0 && !c.Bool("all") && certs[0].NotAfter.After(end) {
			fmt.Fprintf(e.Out, "kept %s: %s\n", file, describe(certs[0]))
			continue
		}
		cert, err := store.Renew(a, file, notAfter, c.Bool("new_key"))
		if err != nil {
			return err
		}
		fmt.Fprintf(e.Out, "renewed %s: %s\n", file, describe(cert))
	}
	if a.Certificate().NotAfter.Before(notAfter) {
		fmt.Fprintf(e.Err, "clusterd: warning: the authority in %s ends at %s, and with it all that it has signed\n", store.AuthorityFile(), date(a.Certificate().NotAfter))
	}
	return nil
}
