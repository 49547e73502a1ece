package operate

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
	"clusterd/internal/version"
	"clusterd/registry"
	"clusterd/registry/dump"
	"clusterd/registry/state"
)

// raftDir is where a master keeps its registry below its work directory.
func raftDir(c *cliv2.Context) (string, error) {
	if c.String("work_dir") == "" {
		return "", console.Hint(fmt.Errorf("%w: --work_dir is needed", console.ErrUsage), "it is the --work_dir of a master that does not run")
	}
	return filepath.Join(c.String("work_dir"), "raft"), nil
}

// offline adds advice to what goes wrong with a directory.
func offline(err error, c *cliv2.Context) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, registry.ErrNoRegistry):
		return console.Hint(err, "--work_dir is the master's, above raft/")
	case errors.Is(err, registry.ErrNotEmpty):
		return console.Hint(err, "mv %s elsewhere first", filepath.Join(c.String("work_dir"), "raft"))
	}
	return err
}

// restoreDir founds a new registry of one member from a backup.
func restoreDir(c *cliv2.Context, e console.Env, body []byte, restored *state.State) error {
	dir, err := raftDir(c)
	if err != nil {
		return err
	}
	if err := registry.RestoreDir(dir, c.String("node_id"), bytes.NewReader(body)); err != nil {
		return offline(err, c)
	}
	fmt.Fprintf(e.Out, "founded a registry of one member in %s, of cluster %s\n", dir, restored.ClusterID())
	if err := printCounts(e.Out, dump.Count(restored)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.Out, "start the master there; it must run as who owns these files\n")
	return err
}

// runFound founds a registry of one member that knows nothing but which cluster
// it is of. Agents come back to it under their ids, with their tasks; they would
// stay away from a cluster with another id.
func runFound(c *cliv2.Context, e console.Env) error {
	if _, err := positional(c, 0, 0); err != nil {
		return err
	}
	id := c.String("cluster_id")
	if err := uuid.Validate(id); err != nil {
		return console.Hint(fmt.Errorf("%w: --cluster_id=%s is not the id of a cluster: %w", console.ErrUsage, id, err), "an agent's log names it in the line refused_by_master")
	}
	// The first leader gives a cluster its id.
	none := &mesos.MasterInfo{Id: new("none"), Ip: proto.Uint32(0), Port: proto.Uint32(0), Hostname: new("none")}
	s, results, err := state.New().Apply(&clusterdv1.Entry{Commands: []*clusterdv1.Command{state.ElectMaster(none, "none", id)}})
	if err := errors.Join(append(results, err)...); err != nil {
		return err
	}
	var snapshot bytes.Buffer
	if err := s.WriteSnapshot(&snapshot, version.Clusterd); err != nil {
		return err
	}
	return restoreDir(c, e, snapshot.Bytes(), s)
}

// runRecover makes a surviving member go on alone.
func runRecover(c *cliv2.Context, e console.Env) error {
	if _, err := positional(c, 0, 0); err != nil {
		return err
	}
	dir, err := raftDir(c)
	if err != nil {
		return err
	}
	in, err := registry.InspectDir(dir)
	if err != nil {
		return offline(err, c)
	}
	if err := in.Close(); err != nil {
		return err
	}
	var others []string
	own := false
	for _, m := range in.Members {
		if m.ID == in.ServerID {
			own = m.Voter
		} else {
			others = append(others, m.ID+" at "+m.Addr)
		}
	}
	switch {
	case !own:
		return console.Hint(fmt.Errorf("%s has no vote in the registry of %s", in.ServerID, dir), "recover from a member that has one, or restore a backup")
	case len(others) == 0:
		fmt.Fprintf(e.Out, "%s is the only member already\n", in.ServerID)
		return nil
	case !c.Bool("yes"):
		fmt.Fprintf(e.Out, "%s holds cluster %s up to log index %d of term %d. Its other members\n  %s\nwould be members no more. "+
			"What only they have is lost, and they must never be started again with their disks.\n",
			in.ServerID, in.State.ClusterID(), in.LastIndex, in.CurrentTerm, strings.Join(others, "\n  "))
		return confirmed(c, "gives the other members up")
	}
	if err := registry.RecoverDir(dir); err != nil {
		return offline(err, c)
	}
	fmt.Fprintf(e.Out, "%s is the only member of cluster %s now\n", in.ServerID, in.State.ClusterID())
	if err := printCounts(e.Out, dump.Count(in.State)); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.Out, "start this master, then others with empty work directories and --join")
	return err
}

// directory is what -o json shows of a work directory beside the registry.
type directory struct {
	ServerID     string            `json:"server_id"`
	Term         uint64            `json:"term"`
	VotedFor     string            `json:"voted_for,omitempty"`
	VoteTerm     uint64            `json:"vote_term"`
	FirstIndex   uint64            `json:"first_index"`
	LastIndex    uint64            `json:"last_index"`
	Snapshots    []directorySnap   `json:"snapshots"`
	Members      []directoryMember `json:"members"`
	MembersIndex uint64            `json:"members_index"`
	Log          []directoryEntry  `json:"log"`
}

type directorySnap struct {
	ID    string `json:"id"`
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	Bytes int64  `json:"bytes"`
}

type directoryMember struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
}

type directoryEntry struct {
	Index    uint64            `json:"index"`
	Term     uint64            `json:"term"`
	Type     string            `json:"type"`
	Time     string            `json:"time,omitempty"`
	Build    string            `json:"build,omitempty"`
	Commands []string          `json:"commands,omitempty"`
	Members  []directoryMember `json:"members,omitempty"`
}

// inspectDir shows what a master that does not run has on its disk.
func inspectDir(c *cliv2.Context, e console.Env) (err error) {
	dir, err := raftDir(c)
	if err != nil {
		return err
	}
	in, err := registry.InspectDir(dir)
	if err != nil {
		return offline(err, c)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if format, err := console.Format(c); err == nil && (format == "json" || format == "yaml") {
		d, err := describeDir(in)
		if err != nil {
			return err
		}
		return printState(e, c, in.State, nil, d)
	}
	about := [][]string{
		{"member", in.ServerID},
		{"term", fmt.Sprint(in.CurrentTerm)},
		{"log", fmt.Sprintf("index %d to %d", in.FirstIndex, in.LastIndex)},
	}
	if in.VotedFor != "" {
		about = append(about, []string{"vote", fmt.Sprintf("for %s in term %d", in.VotedFor, in.VoteTerm)})
	}
	for _, s := range in.Snapshots {
		about = append(about, []string{"snapshot", fmt.Sprintf("up to index %d of term %d, %d bytes", s.Index, s.Term, s.Size)})
	}
	for _, m := range in.Members {
		role := "voter"
		if !m.Voter {
			role = "no vote yet"
		}
		about = append(about, []string{"members", fmt.Sprintf("%s at %s, %s", m.ID, m.Addr, role)})
	}
	return printState(e, c, in.State, about, nil)
}

func describeDir(in *registry.Inspection) (*directory, error) {
	d := &directory{
		ServerID: in.ServerID, Term: in.CurrentTerm, VotedFor: in.VotedFor, VoteTerm: in.VoteTerm,
		FirstIndex: in.FirstIndex, LastIndex: in.LastIndex, Members: describeMembers(in.Members), MembersIndex: in.MembersIndex,
	}
	for _, s := range in.Snapshots {
		d.Snapshots = append(d.Snapshots, directorySnap{s.ID, s.Index, s.Term, s.Size})
	}
	for entry, err := range in.Entries() {
		if err != nil {
			return nil, err
		}
		de := directoryEntry{
			Index: entry.Index, Term: entry.Term, Type: entry.Type, Build: entry.Entry.GetBuildVersion(),
			Commands: commandKinds(entry.Entry), Members: describeMembers(entry.Members),
		}
		if !entry.AppendedAt.IsZero() {
			de.Time = entry.AppendedAt.UTC().Format(time.RFC3339Nano)
		}
		d.Log = append(d.Log, de)
	}
	return d, nil
}

func describeMembers(members []registry.Member) (all []directoryMember) {
	for _, m := range members {
		all = append(all, directoryMember{m.ID, m.Addr, m.Voter})
	}
	return all
}

// commandKinds names the commands of an entry.
func commandKinds(e *clusterdv1.Entry) (kinds []string) {
	for _, c := range e.GetCommands() {
		kinds = append(kinds, c.GetKind().String())
	}
	return kinds
}
