package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/agent"
	agentcalls "github.com/mesos/mesos-go/api/v1/lib/agent/calls"
	"github.com/mesos/mesos-go/api/v1/lib/encoding"
	"github.com/mesos/mesos-go/api/v1/lib/encoding/codecs"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli/httpagent"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli/httpmaster"
	"github.com/mesos/mesos-go/api/v1/lib/maintenance"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/master/calls"
	"github.com/mesos/mesos-go/api/v1/lib/quota"
	"github.com/mesos/mesos-go/api/v1/lib/resources"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// operator is mesos-go's client of the operator API.
type operator struct {
	t     *testing.T
	codec string
	m     calls.Sender
	a     agentcalls.Sender
}

func newOperator(t *testing.T, c *cluster, codec string) *operator {
	client := func(address string) *httpcli.Client {
		return httpcli.New(
			httpcli.Endpoint("http://"+address+"/api/v1"),
			httpcli.Codec(codecs.ByMediaType[map[string]encoding.MediaType{
				"json": codecs.MediaTypeJSON, "protobuf": codecs.MediaTypeProtobuf,
			}[codec]]),
			httpcli.Do(httpcli.With(httpcli.Timeout(patience), c.option())),
		)
	}
	return &operator{
		t: t, codec: codec, m: httpmaster.NewSender(client(c.master).Send), a: httpagent.NewSender(client(c.agent).Send),
	}
}

// ask makes a call that the master answers.
func (o *operator) ask(c *master.Call) *master.Response {
	o.t.Helper()
	res, err := o.m.Send(o.t.Context(), calls.NonStreaming(c))
	if err != nil {
		o.t.Fatalf("%s: %v", c.GetType(), err)
	}
	defer res.Close()
	var r master.Response
	if err := res.Decode(&r); err != nil {
		o.t.Fatalf("%s: %v", c.GetType(), err)
	}
	if r.GetType().String() != c.GetType().String() {
		o.t.Errorf("%s is answered with %s", c.GetType(), r.GetType())
	}
	return &r
}

// undecodable makes a call whose answer mesos-go cannot read, for that value.
func (o *operator) undecodable(c *master.Call, value string) {
	o.t.Helper()
	res, err := o.m.Send(o.t.Context(), calls.NonStreaming(c))
	if err != nil {
		o.t.Fatalf("%s: %v", c.GetType(), err)
	}
	defer res.Close()
	var r master.Response
	if err := res.Decode(&r); err == nil || !strings.Contains(err.Error(), value) {
		o.t.Errorf("%s: got %v, want an error about %s", c.GetType(), err, value)
	}
}

// tell makes a call that the master only accepts.
func (o *operator) tell(c *master.Call) {
	o.t.Helper()
	if err := calls.SendNoData(o.t.Context(), o.m, calls.NonStreaming(c)); err != nil {
		o.t.Fatalf("%s: %v", c.GetType(), err)
	}
}

// askAgent makes a call that the agent answers.
func (o *operator) askAgent(c *agent.Call) *agent.Response {
	o.t.Helper()
	res, err := o.a.Send(o.t.Context(), agentcalls.NonStreaming(c))
	if err != nil {
		o.t.Fatalf("agent: %s: %v", c.GetType(), err)
	}
	defer res.Close()
	var r agent.Response
	if err := res.Decode(&r); err != nil {
		o.t.Fatalf("agent: %s: %v", c.GetType(), err)
	}
	if r.GetType().String() != c.GetType().String() {
		o.t.Errorf("agent: %s is answered with %s", c.GetType(), r.GetType())
	}
	return &r
}

// check reports an expectation that a call's answer does not meet.
func (o *operator) check(ok bool, what string, got any) {
	o.t.Helper()
	if !ok {
		o.t.Errorf("%s: %s: got %+v", o.codec, what, got)
	}
}

// TestOperatorReads makes every call of mesos-go's operator client that reads.
func TestOperatorReads(t *testing.T) {
	eachLogin(t, func(t *testing.T, c *cluster) {
		f := c.workload(t)
		for _, codec := range []string{"protobuf", "json"} {
			t.Run(codec, func(t *testing.T) {
				o := newOperator(t, c, codec)
				o.readMaster(c, f)
				o.readAgent(c, f)
			})
		}
	})
}

func (o *operator) readMaster(c *cluster, f *framework) {
	timeout := 5 * time.Second
	o.check(o.ask(calls.GetHealth()).GetHealth.Healthy, "healthy", false)
	flags := map[string]string{}
	for _, flag := range o.ask(calls.GetFlags()).GetFlags.Flags {
		flags[flag.Name] = flag.GetValue()
	}
	o.check(flags["port"] == port(c.master), "--port", flags)
	o.check(o.ask(calls.GetVersion()).GetVersion.VersionInfo.Version != "", "version", "")
	numbers := map[string]float64{}
	for _, m := range o.ask(calls.GetMetrics(&timeout)).GetMetrics.Metrics {
		numbers[m.Name] = m.GetValue()
	}
	o.check(numbers["master/tasks_running"] == 1 && numbers["master/tasks_finished"] == 1, "metrics", numbers)
	o.check(o.ask(calls.GetLoggingLevel()).GetLoggingLevel.Level == 0, "logging level", "")

	if o.codec == "json" {
		// Its decoder gives up at values that it does not know, on a real Mesos too.
		o.undecodable(calls.GetMaster(), "QUOTA_V2")
	} else {
		info := o.ask(calls.GetMaster()).GetMaster.MasterInfo
		o.check(fmt.Sprint(info.GetPort()) == port(c.master) && info.GetID() != "", "master_info", info)
	}
	agents := o.ask(calls.GetAgents()).GetAgents.Agents
	o.check(len(agents) == 1 && agents[0].Active && agents[0].AgentInfo.GetHostname() == "localhost", "agents", agents)
	state := o.ask(calls.GetState()).GetState
	o.check(len(state.GetTasks.Tasks) == 1 && len(state.GetTasks.CompletedTasks) == 2 && len(state.GetAgents.Agents) == 1 &&
		len(state.GetFrameworks.Frameworks) == 1, "state", state)
	frameworks := o.ask(calls.GetFrameworks()).GetFrameworks.Frameworks
	o.check(len(frameworks) == 1 && frameworks[0].FrameworkInfo.ID.Value == f.info.ID.Value && frameworks[0].Active && frameworks[0].Connected, "frameworks", frameworks)
	o.check(len(o.ask(calls.GetExecutors()).GetGetExecutors().GetExecutors()) == 0, "executors of command tasks", "some")
	o.check(len(o.ask(calls.GetOperations()).GetGetOperations().GetOperations()) == 0, "operations", "some")
	tasks := o.ask(calls.GetTasks()).GetTasks
	o.check(len(tasks.Tasks) == 1 && tasks.Tasks[0].TaskID.Value == "long" && tasks.Tasks[0].GetState() == mesos.TASK_RUNNING, "tasks", tasks.Tasks)
	ended := map[string]mesos.TaskState{}
	for _, task := range tasks.CompletedTasks {
		ended[task.TaskID.Value] = task.GetState()
	}
	o.check(len(ended) == 2 && ended["ok"] == mesos.TASK_FINISHED && ended["bad"] == mesos.TASK_FAILED, "completed tasks", ended)
	var roles []string
	for _, role := range o.ask(calls.GetRoles()).GetRoles.Roles {
		roles = append(roles, role.Name)
	}
	o.check(strings.Contains(strings.Join(roles, " "), "conf"), "roles", roles)
	o.check(len(o.ask(calls.GetWeights()).GetGetWeights().GetWeightInfos()) == 0, "weights", "some")
	o.check(len(o.ask(calls.GetQuota()).GetQuota.Status.Infos) == 0, "quota", "some")
	o.check(len(o.ask(calls.GetMaintenanceSchedule()).GetMaintenanceSchedule.Schedule.Windows) == 0, "schedule", "some")
	o.check(len(o.ask(calls.GetMaintenanceStatus()).GetMaintenanceStatus.Status.DownMachines) == 0, "down machines", "some")
}

func (o *operator) readAgent(c *cluster, f *framework) {
	timeout := 5 * time.Second
	o.check(o.askAgent(agentcalls.GetHealth()).GetHealth.Healthy, "healthy", false)
	flags := map[string]string{}
	for _, flag := range o.askAgent(agentcalls.GetFlags()).GetFlags.Flags {
		flags[flag.Name] = flag.GetValue()
	}
	o.check(flags["attributes"] == "rack:r1", "--attributes", flags)
	o.check(o.askAgent(agentcalls.GetVersion()).GetVersion.VersionInfo.Version != "", "version", "")
	numbers := map[string]float64{}
	for _, m := range o.askAgent(agentcalls.GetMetrics(&timeout)).GetMetrics.Metrics {
		numbers[m.Name] = m.GetValue()
	}
	o.check(numbers["slave/tasks_running"] == 1 && numbers["slave/tasks_finished"] == 1, "metrics", numbers)
	o.check(o.askAgent(agentcalls.GetLoggingLevel()).GetLoggingLevel.Level == 0, "logging level", "")
	info := o.askAgent(agentcalls.GetAgent()).GetAgent.AgentInfo
	o.check(info.GetHostname() == "localhost" && len(info.GetAttributes()) == 1, "agent_info", info)

	// Executors go a moment after their tasks.
	eventually(o.t, "one executor is left", func() error {
		if n := len(o.askAgent(agentcalls.GetExecutors()).GetExecutors.Executors); n != 1 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	containers := o.askAgent(agentcalls.GetContainers()).GetContainers.Containers
	o.check(len(containers) == 1 && containers[0].ExecutorID.Value == "long" && containers[0].ResourceStatistics.GetMemRSSBytes() > 0, "containers", containers)
	frameworks := o.askAgent(agentcalls.GetFrameworks()).GetFrameworks.Frameworks
	o.check(len(frameworks) == 1 && frameworks[0].FrameworkInfo.ID.Value == f.info.ID.Value, "frameworks", frameworks)
	executors := o.askAgent(agentcalls.GetExecutors()).GetExecutors
	o.check(len(executors.Executors) == 1 && len(executors.CompletedExecutors) == 2, "executors", executors)
	tasks := o.askAgent(agentcalls.GetTasks()).GetTasks
	o.check(len(tasks.LaunchedTasks) == 1 && len(tasks.CompletedTasks) == 2, "tasks", tasks)
	state := o.askAgent(agentcalls.GetState()).GetState
	o.check(len(state.GetTasks.LaunchedTasks) == 1 && len(state.GetExecutors.Executors) == 1 && len(state.GetFrameworks.Frameworks) == 1, "state", state)
	o.check(len(o.askAgent(agentcalls.GetOperations()).GetGetOperations().GetOperations()) == 0, "operations", "some")
	o.check(len(o.askAgent(agentcalls.GetResourceProviders()).GetGetResourceProviders().GetResourceProviders()) == 0, "resource providers", "some")

	sandbox := path.Join(c.sandboxes, "slaves", info.ID.Value, "frameworks", f.info.ID.Value, "executors", "long", "runs", "latest")
	var files []string
	for _, file := range o.askAgent(agentcalls.ListFiles(sandbox)).ListFiles.FileInfos {
		files = append(files, path.Base(file.Path))
	}
	o.check(strings.Contains(strings.Join(files, " "), "stdout"), "files", files)
	data := o.askAgent(agentcalls.ReadFileWithLength(sandbox+"/stdout", 0, 1000)).ReadFile.Data
	o.check(strings.Contains(string(data), "hello\n"), "stdout", string(data))
}

// TestOperatorChanges makes the calls of mesos-go's operator client that change
// something, in both encodings, and reads each change back.
func TestOperatorChanges(t *testing.T) {
	eachLogin(t, func(t *testing.T, c *cluster) {
		for _, codec := range []string{"protobuf", "json"} {
			t.Run(codec, func(t *testing.T) {
				o := newOperator(t, c, codec)
				o.changeShares()
				o.changeMaintenance()
				o.changeResources(c)
			})
		}
		t.Run("end", func(t *testing.T) { newOperator(t, c, "protobuf").changeAgent(t, c) })
	})
}

func (o *operator) changeShares() {
	role := "shares-" + o.codec
	o.tell(calls.UpdateWeights(mesos.WeightInfo{Role: &role, Weight: 2.5}))
	weights := map[string]float64{}
	for _, w := range o.ask(calls.GetWeights()).GetGetWeights().GetWeightInfos() {
		weights[w.GetRole()] = w.Weight
	}
	o.check(weights[role] == 2.5, "weights", weights)
	o.tell(calls.SetLoggingLevel(1, time.Minute))
	o.check(o.ask(calls.GetLoggingLevel()).GetLoggingLevel.Level == 1, "logging level", "not 1")

	o.tell(calls.SetQuota(quota.QuotaRequest{Role: &role, Force: proto.Bool(true), Guarantee: []mesos.Resource{resources.NewCPUs(1).Resource}}))
	guaranteed := func() float64 {
		for _, info := range o.ask(calls.GetQuota()).GetQuota.Status.Infos {
			if info.GetRole() == role && len(info.Guarantee) == 1 {
				return info.Guarantee[0].GetScalar().GetValue()
			}
		}
		return 0
	}
	o.check(guaranteed() == 1, "guarantee", guaranteed())
	o.tell(calls.RemoveQuota(role))
	o.check(guaranteed() == 0, "guarantee after REMOVE_QUOTA", guaranteed())
	o.tell(&master.Call{Type: master.Call_UPDATE_QUOTA, UpdateQuota: &master.Call_UpdateQuota{
		Force: proto.Bool(true), QuotaConfigs: []quota.QuotaConfig{{Role: role, Limits: map[string]mesos.Value_Scalar{"cpus": {Value: 2}}}},
	}})
	limit := 0.0
	for _, config := range o.ask(calls.GetQuota()).GetQuota.Status.Configs {
		if config.Role == role {
			limit = config.Limits["cpus"].Value
		}
	}
	o.check(limit == 2, "limit", limit)
}

func (o *operator) changeMaintenance() {
	machine := mesos.MachineID{Hostname: proto.String("m1"), IP: proto.String("127.0.0.9")}
	schedule := maintenance.Schedule{Windows: []maintenance.Window{{
		MachineIDs: []mesos.MachineID{machine},
		Unavailability: mesos.Unavailability{
			Start: mesos.TimeInfo{Nanoseconds: time.Now().Add(time.Hour).UnixNano()}, Duration: &mesos.DurationInfo{Nanoseconds: int64(time.Hour)},
		},
	}}}
	o.tell(calls.UpdateMaintenanceSchedule(schedule))
	got := o.ask(calls.GetMaintenanceSchedule()).GetMaintenanceSchedule.Schedule
	o.check(got.Equal(&schedule), "schedule", got)
	status := o.ask(calls.GetMaintenanceStatus()).GetMaintenanceStatus.Status
	o.check(len(status.DrainingMachines) == 1 && len(status.DownMachines) == 0, "maintenance", status)
	o.tell(calls.StartMaintenance(machine))
	status = o.ask(calls.GetMaintenanceStatus()).GetMaintenanceStatus.Status
	o.check(len(status.DrainingMachines) == 0 && len(status.DownMachines) == 1, "maintenance begun", status)
	o.tell(calls.StopMaintenance(machine))
	status = o.ask(calls.GetMaintenanceStatus()).GetMaintenanceStatus.Status
	o.check(len(status.DrainingMachines) == 0 && len(status.DownMachines) == 0, "maintenance ended", status)
}

func (o *operator) changeResources(c *cluster) {
	role := "res-" + o.codec
	reader := newOperator(o.t, c, "protobuf")
	id := reader.ask(calls.GetAgents()).GetAgents.Agents[0].AgentInfo.ID
	reservation := mesos.Resource_ReservationInfo{Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: &role}
	if c.user != "" {
		reservation.Principal = &c.user
	}
	disk := func(size float64, volume string) mesos.Resource {
		r := resources.NewDisk(size).Resource
		r.Reservations = []mesos.Resource_ReservationInfo{reservation}
		if volume != "" {
			r.Disk = &mesos.Resource_DiskInfo{
				Persistence: &mesos.Resource_DiskInfo_Persistence{ID: volume, Principal: reservation.Principal},
				Volume:      &mesos.Volume{ContainerPath: "data", Mode: mesos.RW.Enum()},
			}
		}
		return r
	}
	// reserved adds up what the role has of the agent's disk, volumes apart.
	reserved := func() (plain, volumes float64) {
		for _, r := range reader.ask(calls.GetAgents()).GetAgents.Agents[0].TotalResources {
			if len(r.Reservations) != 1 || r.Reservations[0].GetRole() != role {
				continue
			}
			if r.GetDisk().GetPersistence() != nil {
				volumes += r.GetScalar().GetValue()
			} else {
				plain += r.GetScalar().GetValue()
			}
		}
		return plain, volumes
	}
	want := func(what string, plain, volumes float64) {
		o.t.Helper()
		eventually(o.t, what, func() error {
			if p, v := reserved(); p != plain || v != volumes {
				return fmt.Errorf("reserved: got %v and %v in volumes, want %v and %v", p, v, plain, volumes)
			}
			return nil
		})
	}
	o.tell(calls.ReserveResources(*id, disk(100, "")))
	want("RESERVE_RESOURCES", 100, 0)
	o.tell(calls.CreateVolumes(*id, disk(40, "v")))
	want("CREATE_VOLUMES", 60, 40)
	o.tell(calls.GrowVolume(id, disk(40, "v"), disk(10, "")))
	want("GROW_VOLUME", 50, 50)
	o.tell(calls.ShrinkVolume(id, disk(50, "v"), mesos.Value_Scalar{Value: 20}))
	want("SHRINK_VOLUME", 70, 30)
	o.tell(calls.DestroyVolumes(*id, disk(30, "v")))
	want("DESTROY_VOLUMES", 100, 0)
	o.tell(calls.UnreserveResources(*id, disk(100, "")))
	want("UNRESERVE_RESOURCES", 0, 0)
}

func (o *operator) changeAgent(t *testing.T, c *cluster) {
	f := c.workload(t)
	o.tell(calls.Teardown(*f.info.ID))
	frameworks := o.ask(calls.GetFrameworks()).GetFrameworks
	o.check(len(frameworks.Frameworks) == 0 && len(frameworks.CompletedFrameworks) == 1, "frameworks", frameworks)

	one := func() *master.Response_GetAgents_Agent { return &o.ask(calls.GetAgents()).GetAgents.Agents[0] }
	id := *one().AgentInfo.ID
	o.tell(calls.DeactivateAgent(id))
	o.check(one().GetDeactivated(), "deactivated", one())
	o.tell(calls.ReactivateAgent(id))
	o.check(!one().GetDeactivated(), "reactivated", one())
	o.tell(calls.DrainAgent(id))
	eventually(t, "the agent is drained", func() error {
		if got := one(); !got.GetDeactivated() || got.GetDrainInfo().GetState() != mesos.DrainState_DRAINED {
			return fmt.Errorf("got %v", got.GetDrainInfo())
		}
		return nil
	})
	o.tell(calls.ReactivateAgent(id))
	o.check(one().GetDrainInfo() == nil, "drain info", one())
	o.tell(calls.MarkAgentGone(id))
	o.check(len(o.ask(calls.GetAgents()).GetAgents.Agents) == 0, "agents", "one that is gone")
}

// TestOperatorEvents follows a framework's life on mesos-go's stream of events.
func TestOperatorEvents(t *testing.T) {
	eachLogin(t, func(t *testing.T, c *cluster) {
		o := newOperator(t, c, "protobuf")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		res, err := o.m.Send(ctx, calls.NonStreaming(calls.Subscribe()))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Close()
		var first master.Event
		if err := res.Decode(&first); err != nil {
			t.Fatal(err)
		}
		if first.GetType() != master.Event_SUBSCRIBED || len(first.Subscribed.GetState.GetAgents.Agents) != 1 || first.Subscribed.GetHeartbeatIntervalSeconds() != 15 {
			t.Fatalf("got %v", first)
		}
		got := make(chan string, 100)
		go func() {
			defer close(got)
			for {
				var e master.Event
				if err := res.Decode(&e); err != nil {
					if !errors.Is(err, io.EOF) && ctx.Err() == nil {
						got <- err.Error()
					}
					return
				}
				if text := eventText(&e); text != "" {
					got <- text
				}
			}
		}()
		f := c.workload(t)
		f.call(&scheduler.Call{Type: scheduler.Call_TEARDOWN})
		want := []string{"FRAMEWORK_ADDED"}
		for _, end := range []string{"long", "ok TASK_FINISHED", "bad TASK_FAILED"} {
			id, last, ended := strings.Cut(end, " ")
			want = append(want, "TASK_ADDED "+id, "TASK_UPDATED "+id+" TASK_STARTING", "TASK_UPDATED "+id+" TASK_RUNNING")
			if ended {
				want = append(want, "TASK_UPDATED "+id+" "+last)
			}
		}
		want = append(want, "TASK_UPDATED long TASK_KILLED", "FRAMEWORK_REMOVED")
		for i, w := range want {
			select {
			case g := <-got:
				if g != w {
					t.Fatalf("event %d: got %q, want %q", i, g, w)
				}
			case <-time.After(patience):
				t.Fatalf("event %d: want %q, got none", i, w)
			}
		}
	})
}

// eventText says what is compared of an event; nothing of a heartbeat, nor of a
// FRAMEWORK_UPDATED: clusterd tells too that a framework is gone or inactive.
func eventText(e *master.Event) string {
	switch e.GetType() {
	case master.Event_HEARTBEAT, master.Event_FRAMEWORK_UPDATED:
		return ""
	case master.Event_TASK_ADDED:
		return "TASK_ADDED " + e.TaskAdded.Task.TaskID.Value
	case master.Event_TASK_UPDATED:
		return fmt.Sprintf("TASK_UPDATED %s %s", e.TaskUpdated.Status.TaskID.Value, e.TaskUpdated.GetState())
	}
	return e.GetType().String()
}
