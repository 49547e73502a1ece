package operate

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
	"clusterd/internal/flags"
)

func ofAgentFlag() cliv2.Flag {
	return &cliv2.StringFlag{Name: "agent", Usage: "of this `AGENT`", DefaultText: "of the leading master"}
}

func flagCommand(e console.Env) *cliv2.Command {
	return noun("flag", "look at flags that masters and agents run with, and have them log more",
		&cliv2.Command{
			Name: "list", Aliases: []string{"ls"}, Usage: "list flags as they are in effect", Flags: console.OutputFlags(ofAgentFlag()),
			Action: connected(e, 0, 0, func(x *call) error {
				list, err := getFlags(x)
				if err != nil {
					return err
				}
				t := &console.Table{Header: []string{"FLAG", "VALUE"}, Items: list}
				for _, f := range list {
					t.Add(f.GetName(), f.GetValue())
				}
				return x.print(t)
			}),
		},
		&cliv2.Command{
			Name: "get", Usage: "print the value of a flag", ArgsUsage: "FLAG", Flags: console.Flags(ofAgentFlag()),
			Action: connected(e, 1, 1, getFlag),
		},
		&cliv2.Command{
			Name: "set", Usage: "change what can be changed while it runs: v, how much is logged", ArgsUsage: "v=LEVEL",
			Description: "Level 0 is --logging_level; 1 and more add details. It ends by itself after --for.",
			Flags:       console.Flags(ofAgentFlag(), &cliv2.StringFlag{Name: "for", Usage: "`DURATION` after which the level is 0 again", Value: "10m"}),
			Action:      connected(e, 1, 1, setFlag),
		},
	)
}

func getFlags(x *call) (list []*mesos.Flag, err error) {
	if ref := x.String("agent"); ref != "" {
		a, err := x.cluster.FindAgent(x.ctx(), ref)
		if err != nil {
			return nil, err
		}
		res, err := x.cluster.Agent(agentID(a)).Get(console.Harmlessly(x.ctx()), agent.Call_GET_FLAGS)
		if err != nil {
			return nil, x.cluster.Explain(err)
		}
		list = res.GetGetFlags().GetFlags()
	} else {
		res, err := x.cluster.Ask(x.ctx(), master.Call_GET_FLAGS)
		if err != nil {
			return nil, err
		}
		list = res.GetGetFlags().GetFlags()
	}
	slices.SortFunc(list, func(a, b *mesos.Flag) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return list, nil
}

func getFlag(x *call) error {
	list, err := getFlags(x)
	if err != nil {
		return err
	}
	name := strings.ReplaceAll(strings.TrimLeft(x.args[0], "-"), "-", "_")
	var known []string
	for _, f := range list {
		if f.GetName() == name {
			_, err := fmt.Fprintln(x.Out, f.GetValue())
			return err
		}
		known = append(known, f.GetName())
	}
	err = console.Mark(console.ErrNotFound, fmt.Errorf("no flag %q is set", name))
	if best := flags.Nearest(name, known); best != "" {
		return console.Hint(err, "did you mean %q?", best)
	}
	return console.Hint(err, "clusterd flag list shows those that are")
}

func setFlag(x *call) error {
	name, value, ok := strings.Cut(x.args[0], "=")
	name = strings.TrimLeft(name, "-")
	level, err := strconv.ParseUint(value, 10, 32)
	if !ok || name != "v" && name != "verbosity" || err != nil {
		return console.Hint(console.Usagef("%q cannot be changed while it runs", x.args[0]), "v=LEVEL can: clusterd flag set v=1 --for=10m")
	}
	d, err := duration("--for", x.String("for"))
	if err != nil {
		return err
	}
	span := &mesos.DurationInfo{Nanoseconds: new(int64(d))}
	whose := "the leading master"
	if ref := x.String("agent"); ref != "" {
		a, err := x.cluster.FindAgent(x.ctx(), ref)
		if err != nil {
			return err
		}
		whose = "agent " + agentName(a)
		_, err = x.cluster.Agent(agentID(a)).Call(x.ctx(), &agent.Call{
			Type: agent.Call_SET_LOGGING_LEVEL.Enum(), SetLoggingLevel: &agent.Call_SetLoggingLevel{Level: new(uint32(level)), Duration: span},
		})
		if err != nil {
			return x.cluster.Explain(err)
		}
	} else if _, err := x.cluster.Call(x.ctx(), &master.Call{
		Type: master.Call_SET_LOGGING_LEVEL.Enum(), SetLoggingLevel: &master.Call_SetLoggingLevel{Level: new(uint32(level)), Duration: span},
	}); err != nil {
		return err
	}
	x.say("%s logs at level %d until %s", whose, level, clock(time.Now().Add(d)))
	return nil
}
