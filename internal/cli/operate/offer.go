package operate

import (
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
)

// offer is an outstanding offer as the leader shows it.
type offer struct {
	OfferID     string             `json:"offer_id"`
	FrameworkID string             `json:"framework_id"`
	AgentID     string             `json:"agent_id"`
	Hostname    string             `json:"hostname"`
	Role        string             `json:"role"`
	Resources   map[string]float64 `json:"resources"`
	Text        string             `json:"resources_text"`
	Since       float64            `json:"since"`
	Inverse     bool               `json:"inverse,omitempty"`
}

func offerCommand(e console.Env) *cliv2.Command {
	return noun("offer", "look at offers that nobody has answered yet, and at why there are none",
		&cliv2.Command{
			Name: "list", Aliases: []string{"ls"}, Usage: "list outstanding offers: what is offered is neither used nor free", Flags: console.OutputFlags(),
			Action: connected(e, 0, 0, listOffers),
		},
		&cliv2.Command{
			Name: "explain", Usage: "say why a framework is offered what it is, or nothing", ArgsUsage: "FRAMEWORK",
			Flags: console.Flags(console.OutputFlag()), Action: connected(e, 1, 1, explainFramework),
		},
	)
}

func listOffers(x *call) error {
	offers := []offer{}
	if err := x.cluster.Get(x.ctx(), console.OwnPath+"offers", &offers); err != nil {
		return err
	}
	names, err := x.cluster.FrameworkNames(x.ctx())
	if err != nil {
		return err
	}
	t := &console.Table{
		Header: []string{"OFFER", "FRAMEWORK", "HOST", "ROLE", "CPUS", "MEM", "HELD"},
		Wide:   []string{"DISK", "GPUS", "KIND", "FRAMEWORK ID", "AGENT ID", "RESOURCES"},
		Items:  offers,
	}
	for _, o := range offers {
		held, kind := "", "offer"
		if o.Since > 0 {
			held = console.Age(time.UnixMicro(int64(o.Since * 1e6)))
		}
		if o.Inverse {
			kind = "inverse offer"
		}
		amount := func(name string) string { return console.Number(o.Resources[name]) }
		t.Add(o.OfferID, names[o.FrameworkID], o.Hostname, o.Role, amount("cpus"), amount("mem"), held,
			amount("disk"), amount("gpus"), kind, o.FrameworkID, o.AgentID, strings.TrimSpace(o.Text))
	}
	return x.print(t)
}
