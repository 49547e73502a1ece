package console

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"clusterd/internal/flags"
)

// Config is the config file: which clusters there are, and which one is meant when
// nothing says so.
type Config struct {
	// Current names the context in use.
	Current string `toml:"current,omitempty"`
	// Contexts are the clusters by name.
	Contexts map[string]*Context `toml:"contexts,omitempty"`
	// path is where it was read from.
	path string
}

// Context is one cluster, and who one is there.
type Context struct {
	Masters    []string `toml:"masters" json:"masters"`
	Principal  string   `toml:"principal,omitempty" json:"principal,omitempty"`
	Secret     string   `toml:"secret,omitempty" json:"-"`
	SecretFile string   `toml:"secret_file,omitempty" json:"secret_file,omitempty"`
	TokenFile  string   `toml:"token_file,omitempty" json:"token_file,omitempty"`
	Output     string   `toml:"output,omitempty" json:"output,omitempty"`
	TLS        TLS      `toml:"tls,omitempty" json:"tls"`
}

// TLS says how the servers of a context are checked and what they are shown.
type TLS struct {
	CA         string `toml:"ca,omitempty" json:"ca,omitempty"`
	Cert       string `toml:"cert,omitempty" json:"cert,omitempty"`
	Key        string `toml:"key,omitempty" json:"key,omitempty"`
	ServerName string `toml:"server_name,omitempty" json:"server_name,omitempty"`
}

// ConfigPath is where the config file is: $CLUSTERD_CONFIG, or clusterd/config.toml
// below $XDG_CONFIG_HOME or ~/.config. Empty: there is no home to look in.
func ConfigPath() string {
	if p := os.Getenv("CLUSTERD_CONFIG"); p != "" {
		return p
	}
	dir := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // as XDG says of relative ones
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "clusterd", "config.toml")
}

// LoadConfig reads the config file. One that is not there is empty.
func LoadConfig() (*Config, error) {
	c := &Config{path: ConfigPath(), Contexts: map[string]*Context{}}
	if c.path == "" {
		return c, nil
	}
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	meta, err := toml.NewDecoder(bytes.NewReader(b)).Decode(c)
	if err != nil {
		return nil, fmt.Errorf("%w: config file %s: %w", ErrUsage, c.path, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, unknownKey(c.path, unknown[0])
	}
	for name, ctx := range c.Contexts {
		if err := ctx.check(); err != nil {
			return nil, fmt.Errorf("config file %s: context %s: %w", c.path, name, err)
		}
	}
	return c, c.checkMode()
}

// configKeys are the keys of a context, for whom has mistyped one.
var configKeys = []string{"masters", "principal", "secret", "secret_file", "token_file", "output", "tls", "ca", "cert", "key", "server_name", "current", "contexts"}

func unknownKey(path string, key toml.Key) error {
	err := Usagef("config file %s: unknown key %s", path, key)
	if best := flags.Nearest(key[len(key)-1], configKeys); best != "" {
		return Hint(err, "did you mean %q?", best)
	}
	return Hint(err, "the keys are %s", strings.Join(configKeys, ", "))
}

// check refuses what cannot be meant.
func (x *Context) check() error {
	ways := 0
	for _, set := range []bool{x.Secret != "", x.SecretFile != "", x.TokenFile != ""} {
		if set {
			ways++
		}
	}
	switch {
	case len(x.Masters) == 0:
		return Hint(Usagef("no masters"), "masters = [\"HOST:5050\"]")
	case ways > 1:
		return Usagef("secret, secret_file and token_file each say who you are: give one of them")
	case x.Principal != "" && x.Secret == "" && x.SecretFile == "":
		return Hint(Usagef("principal %q without a secret", x.Principal), "secret_file names a file that holds it")
	case x.Principal == "" && (x.Secret != "" || x.SecretFile != ""):
		return Usagef("a secret without a principal")
	}
	return CheckFormat(x.Output)
}

// checkMode refuses a file with secrets that others may read.
func (c *Config) checkMode() error {
	if !slices.ContainsFunc(slices.Collect(maps.Values(c.Contexts)), func(x *Context) bool { return x.Secret != "" }) {
		return nil
	}
	info, err := os.Stat(c.path)
	if err != nil {
		return err
	}
	return private(c.path, info.Mode())
}

func private(path string, mode fs.FileMode) error {
	if mode.Perm()&0o077 == 0 {
		return nil
	}
	return Hint(Usagef("%s holds a secret and others may read it (mode %04o)", path, mode.Perm()), "chmod 600 %s", path)
}

// readSecret reads a file that only its owner may read.
func readSecret(path string) (string, error) {
	path = expandHome(path)
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if err := private(path, info.Mode()); err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// expandHome takes ~/ at the beginning for the home directory, as a shell does.
func expandHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(home, rest)
}

// Path is the file that the config was read from, and is written to.
func (c *Config) Path() string { return c.path }

// Names are the contexts' names in order.
func (c *Config) Names() []string { return slices.Sorted(maps.Keys(c.Contexts)) }

// Named returns a context by its name.
func (c *Config) Named(name string) (*Context, error) {
	if x := c.Contexts[name]; x != nil {
		return x, nil
	}
	err := Mark(ErrNotFound, fmt.Errorf("no context %q in %s", name, c.path))
	if best := flags.Nearest(name, c.Names()); best != "" {
		return nil, Hint(err, "did you mean %q?", best)
	}
	return nil, Hint(err, "clusterd context list shows them, clusterd context set makes one")
}

// Save writes the config file whole or not at all, for its owner alone.
func (c *Config) Save() error {
	if c.path == "" {
		return Hint(errors.New("there is no home directory for a config file"), "$CLUSTERD_CONFIG names one")
	}
	for name, x := range c.Contexts {
		if err := x.check(); err != nil {
			return fmt.Errorf("context %s: %w", name, err)
		}
	}
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(c); err != nil {
		return err
	}
	dir := filepath.Dir(c.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".config.toml.*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text.Bytes())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), c.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
