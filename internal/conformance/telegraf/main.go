// Program telegraf-mesos gathers once with Telegraf's input for Mesos, as it is,
// and prints what it has gathered as JSON: a list of measurements with their
// tags and fields, as Telegraf would send them on. It is a module of its own so
// that what Telegraf requires stays apart.
//
//	telegraf-mesos -master http://127.0.0.1:5050 -agent http://127.0.0.1:5051
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/logger"
	"github.com/influxdata/telegraf/plugins/inputs"
	"github.com/influxdata/telegraf/plugins/inputs/mesos"
)

func main() {
	master := flag.String("master", "", "URL of a master")
	agent := flag.String("agent", "", "URL of an agent")
	timeout := flag.Int("timeout", 0, "milliseconds for the daemons' metrics; 0: Telegraf's default")
	flag.Parse()
	if err := run(*master, *agent, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "telegraf-mesos:", err)
		os.Exit(1)
	}
}

func run(master, agent string, timeout int) error {
	plugin, ok := inputs.Inputs["mesos"]().(*mesos.Mesos)
	if !ok {
		return errors.New("telegraf has another input of that name")
	}
	plugin.Log = logger.New("inputs", "mesos", "")
	plugin.Timeout = timeout
	if master != "" {
		plugin.Masters = []string{master}
	}
	if agent != "" {
		plugin.Slaves = []string{agent}
	}
	var got accumulator
	if err := plugin.Gather(&got); err != nil {
		return err
	}
	if err := errors.Join(got.errs...); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(got.measurements)
}

// measurement is what one call of the plugin has added.
type measurement struct {
	Name   string            `json:"name"`
	Tags   map[string]string `json:"tags"`
	Fields map[string]any    `json:"fields"`
}

// accumulator keeps what the plugin gathers. The plugin calls AddFields and
// AddError only; anything else would be a nil dereference, and be seen.
type accumulator struct {
	telegraf.Accumulator
	mu           sync.Mutex
	measurements []measurement
	errs         []error
}

// AddFields implements telegraf.Accumulator.
func (a *accumulator) AddFields(name string, fields map[string]any, tags map[string]string, _ ...time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.measurements = append(a.measurements, measurement{Name: name, Tags: tags, Fields: fields})
}

// AddError implements telegraf.Accumulator.
func (a *accumulator) AddError(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.errs = append(a.errs, err)
	}
}
