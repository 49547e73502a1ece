package operate

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesosjson"
	"clusterd/internal/cli/console"
)

func maintenanceCommand(e console.Env) *cliv2.Command {
	schedule := noun("schedule", "look at when machines will be down, and change it",
		&cliv2.Command{
			Name: "show", Usage: "show the schedule", Flags: console.OutputFlags(),
			Action: connected(e, 0, 0, func(x *call) error {
				s, err := getSchedule(x)
				if err != nil {
					return err
				}
				return x.print(scheduleTable(s))
			}),
		},
		&cliv2.Command{
			Name: "set", Usage: "replace the whole schedule by that of a JSON file, - for the input", ArgsUsage: "FILE",
			Description: "The file is as clusterd maintenance schedule show -o json writes it.",
			Flags:       console.Flags(console.YesFlag()), Action: connected(e, 1, 1, replaceSchedule),
		},
		&cliv2.Command{
			Name: "add", Usage: "schedule machines", ArgsUsage: "MACHINE...",
			Description: "MACHINE is an agent (id or hostname), or HOSTNAME,IP. Frameworks are asked to leave it: they get\n" +
				"inverse offers. Nothing is stopped before clusterd maintenance start.",
			Flags: console.Flags(
				&cliv2.StringFlag{Name: "start", Usage: "`TIME` at which it begins: RFC 3339, \"2006-01-02 15:04\", or a duration from now", Value: "0s"},
				&cliv2.StringFlag{Name: "duration", Usage: "`DURATION` that it lasts", DefaultText: "no end"},
				console.YesFlag(),
			),
			Action: connected(e, 1, -1, addToSchedule),
		},
		&cliv2.Command{
			Name: "remove", Aliases: []string{"rm"}, Usage: "take machines out of the schedule that are not down", ArgsUsage: "MACHINE...",
			Flags: console.Flags(console.YesFlag()), Action: connected(e, 1, -1, removeFromSchedule),
		},
	)
	return noun("maintenance", "plan when machines are taken out of service, and do it",
		schedule,
		&cliv2.Command{
			Name: "status", Usage: "show which machines are draining or down, and what frameworks answered", Flags: console.OutputFlags(),
			Action: connected(e, 0, 0, maintenanceStatus),
		},
		&cliv2.Command{
			Name: "start", Usage: "take scheduled machines down: their agents are shut down", ArgsUsage: "MACHINE...",
			Flags: console.Flags(console.YesFlag()), Action: connected(e, 1, -1, func(x *call) error { return startStop(x, true) }),
		},
		&cliv2.Command{
			Name: "stop", Usage: "take machines that are down into service again", ArgsUsage: "MACHINE...",
			Flags: console.Flags(console.YesFlag()), Action: connected(e, 1, -1, func(x *call) error { return startStop(x, false) }),
		},
		&cliv2.Command{
			Name: "watch", Usage: "show the schedule and the machines in it as they change", Flags: console.Flags(watchFlags()...),
			Action: connected(e, 0, 0, watchMaintenance),
		},
	)
}

func getSchedule(x *call) (*maintenance.Schedule, error) {
	res, err := x.cluster.Ask(x.ctx(), master.Call_GET_MAINTENANCE_SCHEDULE)
	if err != nil {
		return nil, err
	}
	return cmp.Or(res.GetGetMaintenanceSchedule().GetSchedule(), &maintenance.Schedule{}), nil
}

func machineName(m *mesos.MachineID) string {
	switch {
	case m.GetIp() == "":
		return m.GetHostname()
	case m.GetHostname() == "":
		return m.GetIp()
	}
	return m.GetHostname() + "," + m.GetIp()
}

func scheduleTable(s *maintenance.Schedule) *console.Table {
	t := &console.Table{Header: []string{"MACHINE", "START", "END", "IN", "LASTS"}, Items: s}
	for _, w := range s.GetWindows() {
		start := time.Unix(0, w.GetUnavailability().GetStart().GetNanoseconds())
		end, lasts, in := "", "no end", "now"
		if d := w.GetUnavailability().GetDuration(); d != nil {
			lasts = console.Duration(time.Duration(d.GetNanoseconds()))
			end = console.Stamp(start.Add(time.Duration(d.GetNanoseconds())))
		}
		if left := time.Until(start); left > 0 {
			in = console.Duration(left)
		}
		for _, m := range w.GetMachineIds() {
			t.Add(machineName(m), console.Stamp(start), end, in, lasts)
		}
	}
	return t
}

// machine finds the machine that a person means: HOSTNAME,IP as it is; else that of an
// agent, or of the schedule.
func machine(x *call, ref string, s *maintenance.Schedule) (*mesos.MachineID, error) {
	if host, ip, ok := strings.Cut(ref, ","); ok {
		if ip != "" && net.ParseIP(ip) == nil {
			return nil, console.Usagef("%q is no HOSTNAME,IP: %q is no address", ref, ip)
		}
		m := &mesos.MachineID{}
		if host != "" {
			m.Hostname = &host
		}
		if ip != "" {
			m.Ip = &ip
		}
		return m, nil
	}
	for _, w := range s.GetWindows() {
		for _, m := range w.GetMachineIds() {
			if m.GetHostname() == ref || m.GetIp() == ref {
				return m, nil
			}
		}
	}
	a, err := x.cluster.FindAgent(x.ctx(), ref)
	if err != nil {
		return nil, console.Hint(err, "MACHINE is an agent or, for a machine without one, HOSTNAME,IP")
	}
	_, address, _ := strings.Cut(a.GetPid(), "@")
	ip, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, console.Hint(fmt.Errorf("agent %s is not connected, and so its address is not known", agentName(a)), "HOSTNAME,IP says it")
	}
	return &mesos.MachineID{Hostname: a.GetAgentInfo().Hostname, Ip: &ip}, nil
}

func machines(x *call, refs []string, s *maintenance.Schedule) ([]*mesos.MachineID, string, error) {
	var out []*mesos.MachineID
	var names []string
	for _, ref := range refs {
		m, err := machine(x, ref, s)
		if err != nil {
			return nil, "", err
		}
		out, names = append(out, m), append(names, machineName(m))
	}
	return out, strings.Join(names, " "), nil
}

func putSchedule(x *call, s *maintenance.Schedule) error {
	_, err := x.cluster.Call(x.ctx(), &master.Call{
		Type:                      master.Call_UPDATE_MAINTENANCE_SCHEDULE.Enum(),
		UpdateMaintenanceSchedule: &master.Call_UpdateMaintenanceSchedule{Schedule: s},
	})
	return err
}

func replaceSchedule(x *call) error {
	in := console.Input(x.ctx(), x.In)
	if x.args[0] != "-" {
		f, err := os.Open(x.args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	s := &maintenance.Schedule{}
	if err := mesosjson.Unmarshal(b, s); err != nil {
		return console.Hint(console.Usagef("%s: %w", x.args[0], err), "clusterd maintenance schedule show -o json shows the form")
	}
	n := len(scheduleTable(s).Rows)
	if err := x.confirm("replace the whole maintenance schedule by one of %s", console.Plural(n, "machine")); err != nil {
		return err
	}
	return x.done(putSchedule(x, s), "the schedule has %s", console.Plural(n, "machine"))
}

// moment reads a time: exact, of this machine's zone, or from now.
func moment(text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if d, err := duration("", strings.TrimPrefix(text, "+")); err == nil {
		return time.Now().Add(d), nil
	}
	return time.Time{}, console.Hint(console.Usagef("--start: no time %q", text), `"2006-01-02 15:04", 2006-01-02T15:04:05Z, or 2h from now`)
}

func addToSchedule(x *call) error {
	start, err := moment(x.String("start"))
	if err != nil {
		return err
	}
	span := &mesos.Unavailability{Start: &mesos.TimeInfo{Nanoseconds: new(start.UnixNano())}}
	lasts := "without an end"
	if text := x.String("duration"); text != "" {
		d, err := duration("--duration", text)
		if err != nil {
			return err
		}
		span.Duration, lasts = &mesos.DurationInfo{Nanoseconds: new(int64(d))}, "for "+console.Duration(d)
	}
	s, err := getSchedule(x)
	if err != nil {
		return err
	}
	ids, names, err := machines(x, x.args, nil)
	if err != nil {
		return err
	}
	if err := x.confirm("schedule maintenance of %s from %s %s", names, console.Stamp(start), lasts); err != nil {
		return err
	}
	s = without(s, ids)
	s.Windows = append(s.Windows, &maintenance.Window{MachineIds: ids, Unavailability: span})
	return x.done(putSchedule(x, s), "scheduled %s from %s %s", names, console.Stamp(start), lasts)
}

// without is a schedule without some machines.
func without(s *maintenance.Schedule, ids []*mesos.MachineID) *maintenance.Schedule {
	out := &maintenance.Schedule{}
	for _, w := range s.GetWindows() {
		left := slices.DeleteFunc(slices.Clone(w.GetMachineIds()), func(m *mesos.MachineID) bool {
			return slices.ContainsFunc(ids, func(id *mesos.MachineID) bool { return proto.Equal(id, m) })
		})
		if len(left) > 0 {
			out.Windows = append(out.Windows, &maintenance.Window{MachineIds: left, Unavailability: w.GetUnavailability()})
		}
	}
	return out
}

func removeFromSchedule(x *call) error {
	s, err := getSchedule(x)
	if err != nil {
		return err
	}
	ids, names, err := machines(x, x.args, s)
	if err != nil {
		return err
	}
	after := without(s, ids)
	if len(scheduleTable(s).Rows)-len(scheduleTable(after).Rows) != len(ids) {
		return console.Hint(console.Mark(console.ErrNotFound, fmt.Errorf("not all of %s are in the schedule", names)), "clusterd maintenance schedule show lists those that are")
	}
	if err := x.confirm("take %s out of the maintenance schedule", names); err != nil {
		return err
	}
	return x.done(putSchedule(x, after), "took %s out of the schedule", names)
}

func startStop(x *call, start bool) error {
	s, err := getSchedule(x)
	if err != nil {
		return err
	}
	ids, names, err := machines(x, x.args, s)
	if err != nil {
		return err
	}
	message := &master.Call{Type: master.Call_START_MAINTENANCE.Enum(), StartMaintenance: &master.Call_StartMaintenance{Machines: ids}}
	question, done := "take %s down: agents there are shut down with their tasks", "%s is down"
	if !start {
		message = &master.Call{Type: master.Call_STOP_MAINTENANCE.Enum(), StopMaintenance: &master.Call_StopMaintenance{Machines: ids}}
		question, done = "take %s into service again", "%s is in service"
	}
	if err := x.confirm(question, names); err != nil {
		return err
	}
	_, err = x.cluster.Call(x.ctx(), message)
	return x.done(err, done, names)
}

func maintenanceStatus(x *call) error {
	res, err := x.cluster.Ask(x.ctx(), master.Call_GET_MAINTENANCE_STATUS)
	if err != nil {
		return err
	}
	status := res.GetGetMaintenanceStatus().GetStatus()
	t := &console.Table{Header: []string{"MACHINE", "MODE", "ACCEPTED", "DECLINED", "UNKNOWN"}, Items: status}
	for _, m := range status.GetDrainingMachines() {
		count := map[string]int{}
		for _, s := range m.GetStatuses() {
			count[s.GetStatus().String()]++
		}
		t.Add(machineName(m.GetId()), "draining", fmt.Sprint(count["ACCEPT"]), fmt.Sprint(count["DECLINE"]), fmt.Sprint(count["UNKNOWN"]))
	}
	for _, m := range status.GetDownMachines() {
		t.Add(machineName(m), "down", "", "", "")
	}
	return x.print(t)
}

func watchMaintenance(x *call) error {
	w := newWatch(x, "TIME", "HOST", "STATE", "FROM")
	show := func(event any, machines []*mesos.MachineInfo) error {
		for _, m := range machines {
			from := console.Stamp(console.Time(m.GetUnavailability().GetStart()))
			if err := w.row(event, clock(zero), machineName(m.GetId()), strings.ToLower(m.GetMode().String()), from); err != nil {
				return err
			}
			if w.json {
				return nil // all of it is in one
			}
		}
		return nil
	}
	types := []clusterdv1.OperatorEvent_Type{clusterdv1.OperatorEvent_MAINTENANCE_UPDATED}
	return w.run(operator.EventsOptions{Types: types}, func(ev *clusterdv1.OperatorEvent, _ bool) error {
		if s := ev.GetSubscribed(); s != nil {
			return show(&clusterdv1.OperatorEvent_MaintenanceUpdated{Schedule: s.GetSchedule(), Machines: s.GetMachines()}, s.GetMachines())
		}
		u := ev.GetMaintenanceUpdated()
		if len(u.GetMachines()) == 0 && !w.json {
			_, err := fmt.Fprintf(x.Out, "%s  no machine is scheduled\n", clock(zero))
			return err
		}
		return show(ev, u.GetMachines())
	})
}
