package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// TestTelegraf gathers with Telegraf's input for Mesos: every number is the one that
// /metrics/snapshot says, and every name that the plugin knows is there.
func TestTelegraf(t *testing.T) {
	known := telegrafNames(t)
	eachLogin(t, func(t *testing.T, c *cluster) {
		c.workload(t)
		for role, address := range map[string]string{"master": c.master, "slave": c.agent} {
			flag := map[string]string{"master": "-master", "slave": "-agent"}[role]
			want := c.quiet(t, address)
			out, err := runProgram(t, "telegraf-mesos", flag, c.url(address), "-timeout", "10000")
			if err != nil {
				t.Fatalf("%s: %v\n%s", role, err, out)
			}
			var got []struct {
				Name   string
				Tags   map[string]string
				Fields map[string]any
			}
			out = out[strings.IndexByte(out, '['):] // after what the plugin logs
			if err := json.Unmarshal([]byte(out), &got); err != nil || len(got) != 1 {
				t.Fatalf("%s: %v in %s", role, err, out)
			}
			if got[0].Name != "mesos" || got[0].Tags["role"] != role || role == "master" && got[0].Tags["state"] != "leader" {
				t.Errorf("got %s %v", got[0].Name, got[0].Tags)
			}
			for name, value := range want {
				if got[0].Fields[name] != value {
					t.Errorf("%s: Telegraf has %v, /metrics/snapshot has %v", name, got[0].Fields[name], value)
				}
			}
			for _, name := range known {
				daemon, _, _ := strings.Cut(name, "/")
				if daemon == "registrar" {
					daemon = "master"
				}
				if _, ok := got[0].Fields[name]; !ok && (daemon == role || daemon == "system") && !comesLater(name) {
					t.Errorf("Telegraf knows %s; the %s does not say it", name, role)
				}
			}
			if role == "master" && (got[0].Fields["master/tasks_finished"] != 1.0 || got[0].Fields["master/tasks_failed"] != 1.0 || got[0].Fields["master/tasks_running"] != 1.0) {
				t.Errorf("tasks: %v finished, %v failed, %v running",
					got[0].Fields["master/tasks_finished"], got[0].Fields["master/tasks_failed"], got[0].Fields["master/tasks_running"])
			}
		}
	})
}

// TestTelegrafUnauthenticated shows that the plugin sees what a daemon that asks
// answers to nobody, and so that the login above is what lets it in.
func TestTelegrafUnauthenticated(t *testing.T) {
	c := startDaemons(t, login{user: "tools", password: "se:cret"})
	if out, err := runProgram(t, "telegraf-mesos", "-master", "http://"+c.master); err == nil {
		t.Errorf("got %s", out)
	}
}

// comesLater says whether a metric exists only once it has happened, in a real Mesos
// too: tasks lost, by source and reason.
func comesLater(name string) bool { return strings.HasPrefix(name, "master/task_lost/") }

// telegrafNames are the metrics that the plugin knows by name, read from its source.
func telegrafNames(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/influxdata/telegraf/plugins/inputs/mesos")
	cmd.Dir = "telegraf"
	dir, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "mesos.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`"((?:master|slave|system|registrar|containerizer)/[a-z0-9_/]*[a-z0-9])",`).FindAllSubmatch(source, -1) {
		names = append(names, string(m[1]))
	}
	if len(names) < 170 {
		t.Fatalf("found only %d names in Telegraf's source", len(names))
	}
	return names
}

// TestMwatch runs mesos-go's watcher of the operator API's events beside a framework's life.
func TestMwatch(t *testing.T) {
	c := startDaemons(t, login{})
	var out lockedBuffer
	cmd := exec.Command(filepath.Join(bin, "mwatch"), "-port", port(c.master))
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	// Nothing that it prints says that it is subscribed.
	eventually(t, "mwatch is subscribed", func() error {
		snapshot, err := c.snapshot(c.master)
		if err == nil && snapshot["master/operator_event_stream_subscribers"] != 1 {
			err = fmt.Errorf("%v subscribers", snapshot["master/operator_event_stream_subscribers"])
		}
		return err
	})
	f := c.workload(t)
	f.call(&scheduler.Call{Type: scheduler.Call_TEARDOWN})
	eventually(t, "mwatch has seen all of it", func() error {
		for _, line := range []string{
			`FRAMEWORK_ADDED .*Name:conformance`, `FRAMEWORK_REMOVED .*Name:conformance`,
			`TASK_ADDED .*long.* TASK_STAGING .*cpus`, `TASK_UPDATED .*long.* TASK_STARTING`, `TASK_UPDATED .*long.* TASK_RUNNING`,
			`TASK_ADDED .*ok.* TASK_STAGING`, `TASK_UPDATED .*ok.* TASK_FINISHED`, `TASK_UPDATED .*bad.* TASK_FAILED`,
		} {
			if !regexp.MustCompile(line).MatchString(out.String()) {
				return fmt.Errorf("no %q in\n%s", line, out.String())
			}
		}
		return nil
	})
}

// TestExporter runs the Prometheus exporter for Mesos (mesos/mesos_exporter) as it
// is: what it exposes of master and agent agrees with what they say. It is no Go
// module that could be required: MESOS_EXPORTER names a built one.
func TestExporter(t *testing.T) {
	exporter := os.Getenv("MESOS_EXPORTER")
	if exporter == "" {
		t.Skip("MESOS_EXPORTER does not name mesos_exporter")
	}
	eachLogin(t, func(t *testing.T, c *cluster) {
		f := c.workload(t)
		want := c.quiet(t, c.master)
		got := scrape(t, exporter, "-master", "http://"+c.master, c.login)
		for sample, metric := range map[string]string{
			`mesos_master_cpus{type="total"}`:                         "master/cpus_total",
			`mesos_master_cpus{type="used"}`:                          "master/cpus_used",
			`mesos_master_mem{type="total"}`:                          "master/mem_total",
			`mesos_master_mem{type="used"}`:                           "master/mem_used",
			`mesos_master_disk{type="total"}`:                         "master/disk_total",
			`mesos_master_elected`:                                    "master/elected",
			`mesos_master_slaves_state{state="connected_active"}`:     "master/slaves_active",
			`mesos_master_frameworks_state{state="connected_active"}`: "master/frameworks_active",
			`mesos_master_task_states_current{state="running"}`:       "master/tasks_running",
			`mesos_master_task_states_exit_total{state="failed"}`:     "master/tasks_failed",
			`mesos_master_messages{type="revive_offers"}`:             "master/messages_revive_offers",
		} {
			if value, ok := got[sample]; !ok || value != want[metric] {
				t.Errorf("%s: got %v (there: %t), %s is %v", sample, value, ok, metric, want[metric])
			}
		}
		if n := ofState(got, "mesos_slave_cpus{"); n != 4 { // from /state
			t.Errorf("the agent's cpus: got %v in %s", n, sorted(got))
		}

		want = c.quiet(t, c.agent)
		got = scrape(t, exporter, "-slave", "http://"+c.agent, c.login)
		for sample, metric := range map[string]string{
			`mesos_slave_cpus{type="total"}`:                     "slave/cpus_total",
			`mesos_slave_cpus{type="used"}`:                      "slave/cpus_used",
			`mesos_slave_mem{type="used"}`:                       "slave/mem_used",
			`mesos_slave_task_states_current{state="running"}`:   "slave/tasks_running",
			`mesos_slave_task_states_exit_total{state="failed"}`: "slave/tasks_failed",
		} {
			if value, ok := got[sample]; !ok || value != want[metric] {
				t.Errorf("%s: got %v (there: %t), %s is %v", sample, value, ok, metric, want[metric])
			}
		}
		labels := `{framework_id="` + f.info.ID.Value + `",id="long",source="long"}`
		for _, sample := range []string{"mesos_agent_mem_limit_bytes", "mesos_agent_mem_rss_bytes"} {
			if got[sample+labels] <= 0 {
				t.Errorf("%s: got %v in %v", sample+labels, got[sample+labels], sorted(got))
			}
		}
	})
}

// ofState adds up the samples whose names begin so.
func ofState(samples map[string]float64, prefix string) float64 {
	sum := 0.0
	for name, value := range samples {
		if strings.HasPrefix(name, prefix) {
			sum += value
		}
	}
	return sum
}

// notHere are metrics that the exporter asks for and that a real Mesos does not
// have either, unless it was set up with what makes them.
var notHere = map[string]string{
	"overlay/log/recovered":                                "of a module, the overlay network",
	"overlay/log_ensemble_size":                            "of a module, the overlay network",
	"containerizer/mesos/disk/project_ids_total":           "of the isolator disk/xfs",
	"containerizer/mesos/disk/project_ids_free":            "of the isolator disk/xfs",
	"containerizer/mesos/filesystem/containers_new_rootfs": "of the isolator filesystem/linux",
	"slave/tasks_error":                                    "no Mesos ever had it",
}

func sorted(samples map[string]float64) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(samples)) {
		fmt.Fprintf(&b, "\n%s %v", name, samples[name])
	}
	return b.String()
}

// scrape runs the exporter for one daemon and returns its samples. Metrics that it
// asked for in vain, and errors, are its log's.
func scrape(t *testing.T, exporter, flag, target string, who login) map[string]float64 {
	t.Helper()
	address := "127.0.0.1:" + freePort(t)
	cmd := exec.Command(exporter, "-addr", address, flag, target, "-logLevel", "warn")
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Env = append(os.Environ(), "MESOS_EXPORTER_USERNAME="+who.user, "MESOS_EXPORTER_PASSWORD="+who.password)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	samples := make(map[string]float64)
	eventually(t, "the exporter answers", func() error {
		res, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			name, value, ok := strings.Cut(lines.Text(), "} ")
			if ok {
				name += "}"
			} else if name, value, ok = strings.Cut(lines.Text(), " "); !ok {
				continue
			}
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				samples[name] = v
			}
		}
		return lines.Err()
	})
	if samples["mesos_collector_errors_total"] != 0 {
		t.Errorf("the exporter counted %v errors", samples["mesos_collector_errors_total"])
	}
	vain := regexp.MustCompile(`Couldn't find key in map" (?:metric|name)=(\S+)`)
	for line := range strings.Lines(log.String()) {
		if m := vain.FindStringSubmatch(line); m != nil && notHere[m[1]] != "" {
			continue
		}
		t.Errorf("%s: %s", flag, line)
	}
	return samples
}
