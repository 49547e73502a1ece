package operate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
	"clusterd/registry/dump"
	"clusterd/registry/state"
)

func runSave(c *cliv2.Context, e console.Env) error {
	args, err := positional(c, 1, 1)
	if err != nil {
		return err
	}
	saved, size, err := saveSnapshot(c, args[0])
	if err != nil {
		return fmt.Errorf("save to %s: %w", args[0], err)
	}
	fmt.Fprintf(e.Out, "saved %s: %d bytes of cluster %s, epoch %d\n", args[0], size, saved.ClusterID(), saved.Epoch())
	return printCounts(e.Out, dump.Count(saved))
}

// saveSnapshot writes a file that is whole and on the disk, or none. What is
// there under its name stays until the new one has been read back.
func saveSnapshot(c *cliv2.Context, path string) (saved *state.State, size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	defer f.Close()
	query := ""
	if c.Bool("stale") {
		query = "?stale=true"
	}
	err = newRegistryClient(c).stream(c.Context, http.MethodGet, "/snapshot"+query, "", nil, func(r io.Reader) error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		size, err = io.Copy(f, r)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	if err := f.Sync(); err != nil {
		return nil, 0, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, 0, err
	}
	if saved, err = state.ReadSnapshot(f); err != nil {
		return nil, 0, fmt.Errorf("read back: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, 0, err
	}
	return saved, size, syncDir(filepath.Dir(path))
}

// syncDir makes a rename in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func runRestore(c *cliv2.Context, e console.Env) error {
	args, err := positional(c, 1, 1)
	if err != nil {
		return err
	}
	if err := isFile(args[0]); err != nil {
		return err
	}
	body, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	// The master checks it too. Here nothing has to travel for it, and --work_dir
	// has no master.
	restored, err := state.ReadSnapshot(bytes.NewReader(body))
	if err != nil {
		return console.Hint(fmt.Errorf("%s is no snapshot that can be restored: %w", args[0], err), "clusterd registry save writes them")
	}
	if c.IsSet("work_dir") {
		return restoreDir(c, e, body, restored)
	}
	if err := confirmed(c, "replaces all that the running cluster's registry holds"); err != nil {
		return err
	}
	rc := newRegistryClient(c)
	before, err := rc.status(c.Context)
	if err != nil {
		return err
	}
	if _, err := rc.do(c.Context, http.MethodPost, "/snapshot"+forceQuery(c.Bool("force")), "application/octet-stream", body); err != nil {
		return err
	}
	after, err := rc.awaitLeader(c.Context, before.Epoch)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Out, "restored %s; %s at %s leads, epoch %d\n", args[0], after.Leader, after.LeaderAddress, after.Epoch)
	return printCounts(e.Out, dump.Count(restored))
}

func printCounts(w io.Writer, counts dump.Counts) error {
	for _, en := range counts.Entries() {
		if en.N == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "%8d %s\n", en.N, en.What); err != nil {
			return err
		}
	}
	return nil
}

func runInspect(c *cliv2.Context, e console.Env) error {
	args, err := positional(c, 0, 1)
	if err != nil {
		return err
	}
	switch {
	case c.IsSet("work_dir") && len(args) > 0:
		return fmt.Errorf("%w: give --work_dir or a file, not both", console.ErrUsage)
	case c.IsSet("work_dir"):
		return inspectDir(c, e)
	case len(args) > 0:
		return inspectFile(c, e, args[0])
	}
	s, err := fetchSnapshot(c)
	if err != nil {
		return err
	}
	return printState(e, c, s, nil, nil)
}

// fetchSnapshot asks the leader, and if there is none, any master.
func fetchSnapshot(c *cliv2.Context) (*state.State, error) {
	rc := newRegistryClient(c)
	ctx, cancel := context.WithTimeout(c.Context, registryPatience)
	defer cancel()
	body, err := rc.do(ctx, http.MethodGet, "/snapshot", "", nil)
	if err != nil {
		var again error
		if body, again = rc.do(ctx, http.MethodGet, "/snapshot?stale=true", "", nil); again != nil {
			return nil, err
		}
	}
	return state.ReadSnapshot(bytes.NewReader(body))
}

func inspectFile(c *cliv2.Context, e console.Env, path string) error {
	if err := isFile(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := state.ReadSnapshot(f)
	if err != nil {
		return console.Hint(fmt.Errorf("%s: %w", path, err), "is it a file that clusterd registry save has written?")
	}
	return printState(e, c, s, nil, nil)
}

// printState shows a state: as a table how much there is of each kind, with wide
// each entry, as JSON everything. about are further lines for the head of the
// table, value what JSON has beside the registry.
func printState(e console.Env, c *cliv2.Context, s *state.State, about [][]string, value any) error {
	format, err := console.Format(c)
	if err != nil {
		return err
	}
	switch format {
	case "json", "yaml":
		b, err := dump.AppendJSON(nil, s)
		if err != nil {
			return err
		}
		held := any(json.RawMessage(b))
		if value != nil {
			held = map[string]any{"directory": value, "registry": held}
		}
		return console.PrintValue(e.Out, held, format)
	case "name":
		_, err := fmt.Fprintln(e.Out, s.ClusterID())
		return err
	}
	leader := "-"
	if m := s.Master(); m != nil {
		leader = fmt.Sprintf("%s at %s:%d", s.MasterServerID(), m.GetHostname(), m.GetPort())
	}
	t := &console.Table{Header: []string{"WHAT", "VALUE"}}
	t.Rows = append(t.Rows, []string{"cluster", s.ClusterID()}, []string{"epoch", fmt.Sprint(s.Epoch())}, []string{"last leader", leader})
	t.Rows = append(t.Rows, about...)
	for _, en := range dump.Count(s).Entries() {
		t.Rows = append(t.Rows, []string{en.What, fmt.Sprint(en.N)})
	}
	if err := t.Write(e.Out); err != nil || format == "table" {
		return err
	}
	for _, t := range stateTables(s) {
		if len(t.Rows) == 0 {
			continue
		}
		fmt.Fprintln(e.Out)
		if err := t.Write(e.Out); err != nil {
			return err
		}
	}
	return nil
}

// stateTables lists what a state holds.
func stateTables(s *state.State) []*console.Table {
	when := func(t *mesos.TimeInfo) string {
		if t == nil {
			return "-"
		}
		return time.Unix(0, t.GetNanoseconds()).UTC().Format(time.RFC3339)
	}
	agents := &console.Table{Header: []string{"AGENT", "HOST", "STATE", "SINCE"}}
	add := func(t *console.Table, cells ...string) { t.Rows = append(t.Rows, cells) }
	for a := range s.Agents() {
		status := "admitted"
		switch {
		case a.DrainInfo != nil:
			status = strings.ToLower(a.GetDrainInfo().GetState().String())
		case a.GetDeactivated():
			status = "deactivated"
		}
		add(agents, a.GetAgentInfo().GetId().GetValue(), a.GetAgentInfo().GetHostname(), status, "-")
	}
	for d := range s.Unreachable() {
		add(agents, d.GetAgentId().GetValue(), "-", "unreachable", when(d.GetTime()))
	}
	for d := range s.Gone() {
		add(agents, d.GetAgentId().GetValue(), "-", "gone", when(d.GetTime()))
	}
	frameworks := &console.Table{Header: []string{"FRAMEWORK", "NAME", "USER", "STATE", "UNTIL"}}
	for f := range s.Frameworks() {
		status := "connected"
		if f.Deadline != nil {
			status = "waited for"
		}
		info := f.GetFrameworkInfo()
		add(frameworks, info.GetId().GetValue(), info.GetName(), info.GetUser(), status, when(f.Deadline))
	}
	for f := range s.RemovedFrameworks() {
		add(frameworks, f.GetFrameworkId().GetValue(), "-", "-", "removed", when(f.GetTime()))
	}
	roles := &console.Table{Header: []string{"ROLE", "WEIGHT", "GUARANTEE", "LIMIT"}}
	for w := range s.Weights() {
		add(roles, w.GetRole(), fmt.Sprint(w.GetWeight()), "-", "-")
	}
	for q := range s.Quotas() {
		add(roles, q.GetRole(), "-", protoAmounts(q.GetGuarantees()), protoAmounts(q.GetLimits()))
	}
	machines := &console.Table{Header: []string{"MACHINE", "IP", "MODE", "FROM"}}
	for m := range s.Machines() {
		add(machines, m.GetId().GetHostname(), m.GetId().GetIp(), m.GetMode().String(), when(m.GetUnavailability().GetStart()))
	}
	return []*console.Table{agents, frameworks, roles, machines}
}
