package operate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/allocator/resources"
	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/quota"
	"clusterd/internal/cli/console"
)

func roleCommand(e console.Env) *cliv2.Command {
	return noun("role", "look at roles: weights, quota, and what is used",
		&cliv2.Command{
			Name: "list", Aliases: []string{"ls"}, Usage: "list roles", Flags: console.OutputFlags(),
			Action: connected(e, 0, 0, func(x *call) error {
				roles, err := getRoles(x)
				if err != nil {
					return err
				}
				return x.print(roleTable(roles))
			}),
		},
		&cliv2.Command{
			Name: "show", Usage: "show what is known of a role", ArgsUsage: "ROLE",
			Flags: console.Flags(console.OutputFlag()), Action: connected(e, 1, 1, showRole),
		},
	)
}

// role is a role as /roles shows it.
type role struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight"`
	Quota  struct {
		Guarantee map[string]any `json:"guarantee"`
		Limit     map[string]any `json:"limit"`
		Consumed  map[string]any `json:"consumed"`
	} `json:"quota"`
	Allocated  map[string]any `json:"allocated"`
	Offered    map[string]any `json:"offered"`
	Reserved   map[string]any `json:"reserved"`
	Frameworks []string       `json:"frameworks"`
}

func getRoles(x *call) ([]role, error) {
	var answer struct {
		Roles []role `json:"roles"`
	}
	if err := x.cluster.Get(x.ctx(), "/roles", &answer); err != nil {
		return nil, err
	}
	slices.SortFunc(answer.Roles, func(a, b role) int { return cmp.Compare(a.Name, b.Name) })
	return answer.Roles, nil
}

// numbers writes the amounts of an object of v0's resources; its sets and ranges are left
// out, and zeros.
func numbers(m map[string]any) string {
	out := map[string]float64{}
	for name, v := range m {
		if f, ok := v.(float64); ok && f != 0 {
			out[name] = f
		}
	}
	return amounts(out)
}

func roleTable(roles []role) *console.Table {
	t := &console.Table{
		Header: []string{"ROLE", "WEIGHT", "GUARANTEE", "LIMIT", "ALLOCATED", "OFFERED", "RESERVED", "FRAMEWORKS"},
		Wide:   []string{"CONSUMED"}, Items: roles,
	}
	for _, r := range roles {
		t.Add(r.Name, console.Number(r.Weight), numbers(r.Quota.Guarantee), numbers(r.Quota.Limit),
			numbers(r.Allocated), numbers(r.Offered), numbers(r.Reserved), fmt.Sprint(len(r.Frameworks)), numbers(r.Quota.Consumed))
	}
	return t
}

func showRole(x *call) error {
	roles, err := getRoles(x)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(roles, func(r role) bool { return r.Name == x.args[0] })
	if i < 0 {
		return console.Hint(console.Mark(console.ErrNotFound, fmt.Errorf("role %q is not in use", x.args[0])), "clusterd role list shows those that are")
	}
	r := roles[i]
	d := &console.Detail{Item: r, Name: r.Name}
	d.Line("role", r.Name)
	d.Line("weight", console.Number(r.Weight))
	d.Line("guarantee", numbers(r.Quota.Guarantee))
	d.Line("limit", numbers(r.Quota.Limit))
	d.Line("consumed", numbers(r.Quota.Consumed))
	d.Line("allocated", numbers(r.Allocated))
	d.Line("offered", numbers(r.Offered))
	d.Line("reserved", numbers(r.Reserved))
	names, err := x.cluster.FrameworkNames(x.ctx())
	if err != nil {
		return err
	}
	t := &console.Table{Header: []string{"FRAMEWORK", "NAME"}}
	for _, id := range r.Frameworks {
		t.Add(id, names[id])
	}
	d.Part("FRAMEWORKS", t)
	return d.Print(x.Env, x.Context)
}

func quotaCommand(e console.Env) *cliv2.Command {
	force := &cliv2.BoolFlag{Name: "force", Usage: "also if the role uses more than its limit, or the cluster has less than is guaranteed"}
	amountsFlags := []cliv2.Flag{
		&cliv2.StringFlag{Name: "guarantee", Usage: "`RESOURCES` that the role always gets: cpus:10;mem:4096"},
		&cliv2.StringFlag{Name: "limit", Usage: "`RESOURCES` that it never exceeds: cpus:20;mem:8192"},
	}
	flags := func() []cliv2.Flag { return append(slices.Clone(amountsFlags), force, console.YesFlag()) }
	return noun("quota", "look at quotas of roles, and change them",
		&cliv2.Command{
			Name: "list", Aliases: []string{"ls"}, Usage: "list quotas", Flags: console.OutputFlags(),
			Action: connected(e, 0, 0, func(x *call) error {
				configs, err := quotas(x)
				if err != nil {
					return err
				}
				return x.print(quotaTable(x, configs))
			}),
		},
		&cliv2.Command{
			Name: "show", Usage: "show the quota of a role", ArgsUsage: "ROLE", Flags: console.Flags(console.OutputFlag()),
			Action: connected(e, 1, 1, showQuota),
		},
		&cliv2.Command{
			Name: "set", Usage: "set the quota of a role, whatever it was", ArgsUsage: "ROLE",
			Description: "What --guarantee and --limit do not name has none afterwards.",
			Flags:       console.Flags(flags()...), Action: connected(e, 1, 1, func(x *call) error { return setQuota(x, false) }),
		},
		&cliv2.Command{
			Name: "update", Usage: "change parts of the quota of a role", ArgsUsage: "ROLE",
			Description: "What --guarantee and --limit do not name stays; an amount of - takes it away: --limit=mem:-.",
			Flags:       console.Flags(flags()...), Action: connected(e, 1, 1, func(x *call) error { return setQuota(x, true) }),
		},
		&cliv2.Command{
			Name: "remove", Aliases: []string{"rm"}, Usage: "take the quotas of roles away", ArgsUsage: "ROLE...",
			Flags: console.Flags(console.YesFlag()), Action: connected(e, 1, -1, removeQuota),
		},
		&cliv2.Command{
			Name: "watch", Usage: "show quotas as they are changed", Flags: console.Flags(watchFlags()...),
			Action: connected(e, 0, 0, watchQuotas),
		},
	)
}

func quotas(x *call) ([]*quota.QuotaConfig, error) {
	res, err := x.cluster.Ask(x.ctx(), master.Call_GET_QUOTA)
	if err != nil {
		return nil, err
	}
	configs := res.GetGetQuota().GetStatus().GetConfigs()
	slices.SortFunc(configs, func(a, b *quota.QuotaConfig) int { return cmp.Compare(a.GetRole(), b.GetRole()) })
	return configs, nil
}

func quotaOf(x *call, name string) (*quota.QuotaConfig, error) {
	configs, err := quotas(x)
	if err != nil {
		return nil, err
	}
	for _, q := range configs {
		if q.GetRole() == name {
			return q, nil
		}
	}
	return nil, nil
}

func quotaTable(x *call, configs []*quota.QuotaConfig) *console.Table {
	consumed := map[string]string{}
	if roles, err := getRoles(x); err == nil { // beside the point where they may not be seen
		for _, r := range roles {
			consumed[r.Name] = numbers(r.Quota.Consumed)
		}
	}
	t := &console.Table{Header: []string{"ROLE", "GUARANTEE", "LIMIT", "CONSUMED"}, Items: slices.Clone(configs)}
	for _, q := range configs {
		t.Add(q.GetRole(), protoAmounts(q.GetGuarantees()), protoAmounts(q.GetLimits()), consumed[q.GetRole()])
	}
	return t
}

func showQuota(x *call) error {
	q, err := quotaOf(x, x.args[0])
	if err != nil {
		return err
	}
	if q == nil {
		return console.Hint(console.Mark(console.ErrNotFound, fmt.Errorf("role %q has no quota", x.args[0])), "clusterd quota set %s --guarantee=cpus:1", x.args[0])
	}
	d := &console.Detail{Item: q, Name: q.GetRole()}
	row := quotaTable(x, []*quota.QuotaConfig{q}).Rows[0]
	for i, what := range []string{"role", "guarantee", "limit", "consumed"} {
		d.Line(what, row[i])
	}
	return d.Print(x.Env, x.Context)
}

// setQuota replaces a quota, or changes what is named of it.
func setQuota(x *call, keep bool) error {
	if !x.IsSet("guarantee") && !x.IsSet("limit") {
		return console.Hint(console.Usagef("neither --guarantee nor --limit is given"), "clusterd quota remove takes a quota away")
	}
	was, err := quotaOf(x, x.args[0])
	if err != nil {
		return err
	}
	q := &quota.QuotaConfig{Role: &x.args[0]}
	base := was
	if !keep {
		base = nil
	}
	if q.Guarantees, err = changed(base.GetGuarantees(), "--guarantee", x.String("guarantee")); err != nil {
		return err
	}
	if q.Limits, err = changed(base.GetLimits(), "--limit", x.String("limit")); err != nil {
		return err
	}
	describe := func(q *quota.QuotaConfig) string {
		return fmt.Sprintf("guarantee %s, limit %s", cmp.Or(protoAmounts(q.GetGuarantees()), "none"), cmp.Or(protoAmounts(q.GetLimits()), "none"))
	}
	if err := x.confirm("change the quota of role %s from %s to %s", x.args[0], describe(was), describe(q)); err != nil {
		return err
	}
	return x.done(updateQuota(x, x.Bool("force"), q), "role %s: %s", x.args[0], describe(q))
}

// changed are amounts after a change; an amount of "-" is taken away.
func changed(was map[string]*mesos.Value_Scalar, flag, text string) (map[string]*mesos.Value_Scalar, error) {
	out := maps.Clone(was)
	if out == nil {
		out = map[string]*mesos.Value_Scalar{}
	}
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, ":")
		name = strings.TrimSpace(name)
		v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		switch {
		case ok && strings.TrimSpace(value) == "-":
			delete(out, name)
		case !ok || name == "" || err != nil || v < 0 || math.IsInf(v, 0) || math.IsNaN(v):
			return nil, console.Hint(console.Usagef("%s: %q is no amount", flag, part), "cpus:10;mem:4096")
		default:
			out[name] = &mesos.Value_Scalar{Value: &v}
		}
	}
	return out, nil
}

func updateQuota(x *call, force bool, configs ...*quota.QuotaConfig) error {
	_, err := x.cluster.Call(x.ctx(), &master.Call{
		Type: master.Call_UPDATE_QUOTA.Enum(), UpdateQuota: &master.Call_UpdateQuota{Force: &force, QuotaConfigs: configs},
	})
	if err != nil && !force && strings.Contains(err.Error(), "force") {
		return console.Hint(err, "--force does it all the same")
	}
	return err
}

func removeQuota(x *call) error {
	if err := x.confirm("take the quota of role %s away", strings.Join(x.args, ", ")); err != nil {
		return err
	}
	return console.Each(x.Env, x.args, func(r string) string { return r }, func(r string) error {
		q, err := quotaOf(x, r)
		if err != nil {
			return err
		}
		if q == nil {
			return console.Mark(console.ErrNotFound, fmt.Errorf("role %q has no quota", r))
		}
		return x.done(updateQuota(x, false, &quota.QuotaConfig{Role: &r}), "role %s has no quota any more", r)
	})
}

func watchQuotas(x *call) error {
	w := newWatch(x, "TIME", "NAME", "QUOTA")
	row := func(event any, configs []*quota.QuotaConfig) error {
		for _, q := range configs {
			text := fmt.Sprintf("guarantee %s, limit %s", cmp.Or(protoAmounts(q.GetGuarantees()), "none"), cmp.Or(protoAmounts(q.GetLimits()), "none"))
			if err := w.row(event, clock(zero), q.GetRole(), text); err != nil {
				return err
			}
		}
		return nil
	}
	types := []clusterdv1.OperatorEvent_Type{clusterdv1.OperatorEvent_QUOTAS_UPDATED}
	return w.run(operator.EventsOptions{Types: types}, func(ev *clusterdv1.OperatorEvent, _ bool) error {
		if s := ev.GetSubscribed(); s != nil {
			return row(&quota.QuotaStatus{Configs: s.GetQuotas()}, s.GetQuotas())
		}
		return row(ev, ev.GetQuotasUpdated().GetQuotas())
	})
}

func weightCommand(e console.Env) *cliv2.Command {
	return noun("weight", "look at weights of roles, and change them",
		&cliv2.Command{
			Name: "list", Aliases: []string{"ls"}, Usage: "list weights that are not 1", Flags: console.OutputFlags(),
			Action: connected(e, 0, 0, func(x *call) error {
				res, err := x.cluster.Ask(x.ctx(), master.Call_GET_WEIGHTS)
				if err != nil {
					return err
				}
				infos := res.GetGetWeights().GetWeightInfos()
				slices.SortFunc(infos, func(a, b *mesos.WeightInfo) int { return cmp.Compare(a.GetRole(), b.GetRole()) })
				t := &console.Table{Header: []string{"ROLE", "WEIGHT"}, Items: infos}
				for _, w := range infos {
					t.Add(w.GetRole(), strconv.FormatFloat(w.GetWeight(), 'g', -1, 64))
				}
				return x.print(t)
			}),
		},
		&cliv2.Command{
			Name: "set", Usage: "set weights of roles; others keep theirs", ArgsUsage: "ROLE=WEIGHT...",
			Description: "A role of weight 2 gets twice the share of one of weight 1 when both want more than there is.",
			Flags:       console.Flags(console.YesFlag()), Action: connected(e, 1, -1, setWeights),
		},
		&cliv2.Command{
			Name: "remove", Aliases: []string{"rm"}, Usage: "give roles the weight of 1 again", ArgsUsage: "ROLE...",
			Flags: console.Flags(console.YesFlag()), Action: connected(e, 1, -1, func(x *call) error {
				var infos []*mesos.WeightInfo
				for _, r := range x.args {
					infos = append(infos, &mesos.WeightInfo{Role: &r, Weight: new(1.0)})
				}
				return updateWeights(x, infos)
			}),
		},
	)
}

func setWeights(x *call) error {
	var infos []*mesos.WeightInfo
	for _, text := range console.Commas(x.args) {
		name, value, ok := strings.Cut(text, "=")
		v, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			return console.Hint(console.Usagef("%q is no ROLE=WEIGHT", text), "clusterd weight set analytics=2.5")
		}
		if err := resources.ValidateRole(name); err != nil {
			return console.Usagef("%s: %w", text, err)
		}
		if v <= 0 || math.IsInf(v, 0) || math.IsNaN(v) {
			return console.Usagef("%s: a weight is more than 0", text)
		}
		infos = append(infos, &mesos.WeightInfo{Role: &name, Weight: &v})
	}
	return updateWeights(x, infos)
}

func updateWeights(x *call, infos []*mesos.WeightInfo) error {
	if len(infos) == 0 {
		return errors.New("no role is named")
	}
	var parts []string
	for _, w := range infos {
		parts = append(parts, w.GetRole()+"="+strconv.FormatFloat(w.GetWeight(), 'g', -1, 64))
	}
	if err := x.confirm("set weights %s", strings.Join(parts, ", ")); err != nil {
		return err
	}
	_, err := x.cluster.Call(x.ctx(), &master.Call{Type: master.Call_UPDATE_WEIGHTS.Enum(), UpdateWeights: &master.Call_UpdateWeights{WeightInfos: infos}})
	return x.done(err, "set %s", strings.Join(parts, ", "))
}
