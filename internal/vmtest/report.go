package vmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// event is one of go tool test2json.
type event struct {
	Action, Test, Output string
	Elapsed              float64
}

// node is a test with its subtests.
type node struct {
	name     string
	children []*node
	// action is "pass", "fail", "skip", or empty when the test has not ended.
	action  string
	elapsed float64
	output  strings.Builder
}

// child finds or adds a subtest.
func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	c := &node{name: name}
	n.children = append(n.children, c)
	return c
}

func (n *node) find(test string) *node {
	if test == "" {
		return n
	}
	for part := range strings.SplitSeq(test, "/") {
		n = n.child(part)
	}
	return n
}

// parse makes a tree of what a test binary wrote.
func parse(ctx context.Context, r Result) (*node, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json")
	cmd.Stdin = bytes.NewReader(r.Output)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool test2json: %w", err)
	}
	root := &node{name: r.Package}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var e event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return root, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what test2json writes: %w", err)
		}
		n := root.find(e.Test)
		switch e.Action {
		case "output":
			if !framing(e.Output) {
				n.output.WriteString(e.Output)
			}
		case "pass", "fail", "skip":
			n.action, n.elapsed = e.Action, e.Elapsed
		}
	}
}

// framing says whether a line is the test framework's own.
func framing(line string) bool {
	line = strings.TrimLeft(line, " \x16")
	for _, p := range []string{"=== ", "--- PASS", "--- FAIL", "--- SKIP", "PASS\n", "FAIL\n", "testing: "} {
		if strings.HasPrefix(line, p) {
			return !strings.HasPrefix(line, "testing: warning") // no tests to run
		}
	}
	return false
}

// Report reports results as subtests of t.
func Report(t *testing.T, results []Result) {
	t.Helper()
	for _, r := range results {
		t.Run(strings.TrimPrefix(r.Package, "clusterd/"), func(t *testing.T) { report(t, r) })
	}
}

func report(t *testing.T, r Result) {
	if r.End == nil && len(r.Output) == 0 {
		t.Error("not run: the machine ended before")
		return
	}
	root, err := parse(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range root.children {
		reportNode(t, c)
	}
	failed := t.Failed()
	if out := root.output.String(); out != "" && (testing.Verbose() || !failed && (r.End == nil || r.End.Code != 0)) {
		t.Log(out)
	}
	switch {
	case r.End == nil:
		t.Error("the machine ended in the middle of these tests")
	case r.End.TimedOut:
		t.Errorf("killed after %s", seconds(r.End.Seconds))
	case r.End.Code != 0 && !failed:
		t.Errorf("exit status %d", r.End.Code)
	case len(root.children) == 0 && r.End.Code == 0:
		t.Error("there was no test")
	}
	if r.End != nil {
		t.Logf("%s in the machine", seconds(r.End.Seconds))
		t.Run("Residue", func(t *testing.T) {
			for _, left := range r.End.Residue {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

func reportNode(t *testing.T, n *node) {
	t.Run(n.name, func(t *testing.T) {
		for _, c := range n.children {
			reportNode(t, c)
		}
		out := strings.TrimRight(n.output.String(), "\n")
		switch {
		case n.action == "skip":
			t.Skip(out)
		case n.action == "fail":
			t.Error(out)
		case n.action == "" && len(n.children) == 0:
			t.Errorf("did not end\n%s", out)
		case out != "" && testing.Verbose():
			t.Logf("%s (%s)", out, seconds(n.elapsed))
		}
	})
}
