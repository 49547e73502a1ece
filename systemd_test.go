package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"clusterd/internal/flags"
)

const units = "deploy/systemd"

// TestUnitsAreValid has systemd read the units. The program that they start need
// not be installed, so another stands for it.
func TestUnitsAreValid(t *testing.T) {
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: Debian's package systemd has it")
	}
	for _, name := range []string{"clusterd-master.service", "clusterd-agent.service"} {
		text := strings.ReplaceAll(readText(t, filepath.Join(units, name)), "/usr/local/bin/clusterd", "/bin/true")
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), verify, "verify", "--man=no", path).CombinedOutput()
		// Settings that it does not know are only warned of.
		if err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestUnitsKeepTheirPromises: what the daemons and the documents count on.
func TestUnitsKeepTheirPromises(t *testing.T) {
	tests := []struct {
		unit string
		want []string
	}{
		{"clusterd-master.service", []string{
			"Type=notify", "NotifyAccess=main", `WatchdogSec=\d+`, "Restart=always", "StartLimitIntervalSec=0",
			"NoNewPrivileges=yes", "ProtectSystem=strict", "User=clusterd",
		}},
		{"clusterd-agent.service", []string{
			"Type=notify", "NotifyAccess=main", `WatchdogSec=\d+`, "Restart=always", "StartLimitIntervalSec=0",
			"KillMode=process", "OOMPolicy=continue", "Delegate=yes", "RuntimeDirectoryPreserve=yes",
		}},
	}
	for _, tt := range tests {
		text := readText(t, filepath.Join(units, tt.unit))
		for _, want := range tt.want {
			if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(text) {
				t.Errorf("%s lacks the line %s", tt.unit, want)
			}
		}
	}
}

// TestUnitsHaveFlags gives the flags of units and examples, also those that are
// commented out, to the engine that will read them.
func TestUnitsHaveFlags(t *testing.T) {
	setting := regexp.MustCompile(`(?m)^#?(?:Environment=)?(CLUSTERD_[A-Z_]+=.*)$`)
	for mode, set := range map[string]*flags.Set{"master": flags.Master(), "agent": flags.Agent()} {
		var environ []string
		for _, file := range []string{"clusterd-" + mode + ".service", mode + ".env.example"} {
			for _, m := range setting.FindAllStringSubmatch(readText(t, filepath.Join(units, file)), -1) {
				if strings.HasSuffix(m[1], "_KEY=") {
					m[1] += "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
				}
				environ = append(environ, m[1])
			}
		}
		if len(environ) < 4 {
			t.Fatalf("%s: only %q was found", mode, environ)
		}
		v, err := set.Parse(nil, environ)
		if err != nil {
			t.Errorf("%s: %v", mode, err)
			continue
		}
		for _, e := range environ {
			name, _, _ := strings.Cut(strings.TrimPrefix(e, "CLUSTERD_"), "=")
			if !v.Given(strings.ToLower(name)) {
				t.Errorf("%s: %s is no flag", mode, name)
			}
		}
		if w := v.Warnings(); len(w) > 0 {
			t.Errorf("%s: warnings %q", mode, w)
		}
	}
}
