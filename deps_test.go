package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	ImportPath string
	Imports    []string
	Doc        string
}

// packages lists all packages of the module.
func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Doc", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// within reports whether a package lies in a folder of the module.
func within(path string, folders ...string) bool {
	for _, f := range folders {
		if path == "clusterd/"+f || strings.HasPrefix(path, "clusterd/"+f+"/") {
			return true
		}
	}
	return false
}

// TestArrows keeps the import arrows of ARCHITECTURE.md pointing down.
func TestArrows(t *testing.T) {
	rules := []struct {
		folder string
		may    []string // folders of the module that it may import
		why    string
	}{
		{"api", []string{"api"}, "the contract knows nobody"},
		{"allocator", []string{"allocator", "api"}, "who is offered what is a pure function of the contract's types"},
		{"registry", []string{"registry", "api"}, "what masters agree on does not depend on what they do with it"},
		{"ui", nil, "the UI is assets and one handler"},
		{"isolation", []string{"isolation", "api", "allocator/resources", "internal/units", "internal/version"}, "containers know neither agent nor master"},
		{"server/core", []string{"server/core", "allocator", "api", "internal/authz"}, "the core has no shell below it"},
		{"internal/authz", []string{"internal/authz", "api"}, "who may do what is a pure function"},
		{"agent/core", []string{"agent/core", "allocator/resources", "api", "internal/units"}, "the core has no shell below it"},
	}
	for _, p := range packages(t) {
		for _, r := range rules {
			if !within(p.ImportPath, r.folder) {
				continue
			}
			for _, imp := range p.Imports {
				if strings.HasPrefix(imp, "clusterd/") && !within(imp, r.may...) {
					t.Errorf("%s imports %s: %s", p.ImportPath, imp, r.why)
				}
			}
		}
		for _, imp := range p.Imports {
			if within(imp, "isolation") && !within(p.ImportPath, "isolation", "agent", "internal/cli", "internal/bin") {
				t.Errorf("%s imports %s: only the agent runs containers", p.ImportPath, imp)
			}
			if within(imp, "server", "agent") && within(p.ImportPath, "server", "agent", "isolation", "registry", "allocator", "api") {
				if top(imp) != top(p.ImportPath) {
					t.Errorf("%s imports %s: master and agent meet on the link only", p.ImportPath, imp)
				}
			}
		}
	}
}

func top(path string) string { return strings.SplitN(path, "/", 3)[1] }

// TestCoresDoNothing keeps clocks, randomness and I/O out of the deterministic
// packages: what they need arrives as input.
func TestCoresDoNothing(t *testing.T) {
	banned := []string{
		"os", "net", "net/http", "os/exec", "io/fs", "syscall", "crypto/rand", "math/rand", "log", "log/slog",
		"github.com/rs/zerolog", "context", "testing/synctest",
	}
	for _, p := range packages(t) {
		if !within(p.ImportPath, "allocator", "server/core", "agent/core", "registry/state", "internal/authz") {
			continue
		}
		for _, imp := range p.Imports {
			for _, b := range banned {
				if imp == b {
					t.Errorf("%s imports %q: a core takes values and gives values", p.ImportPath, imp)
				}
			}
		}
	}
}

// TestPackageDocs wants one package comment per package.
func TestPackageDocs(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" && !strings.HasPrefix(p.ImportPath, "clusterd/api/mesos") && !strings.HasPrefix(p.ImportPath, "clusterd/api/clusterd") {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
