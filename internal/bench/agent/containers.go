package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"clusterd/api/client/operator"
	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/internal/bench/measure"
	"clusterd/internal/testcluster"
)

// imageConfig is the configuration of an image of one layer, and its digest.
func imageConfig(layer string) (config []byte, digest string, err error) {
	f, err := os.Open(layer)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return nil, "", err
	}
	config, err = json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum.Sum(nil))}},
	})
	own := sha256.Sum256(config)
	return config, hex.EncodeToString(own[:]), err
}

// benchContainers launches standalone containers over the agent's API and destroys them.
func benchContainers(ctx context.Context, s *settings) (rows []measure.Row, err error) {
	return onAnAgent(ctx, s, "containers", "")
}

// benchImages does the same with containers of an image.
func benchImages(ctx context.Context, s *settings) (rows []measure.Row, err error) {
	return onAnAgent(ctx, s, "images", "sleep")
}

func onAnAgent(ctx context.Context, s *settings, name, image string) (rows []measure.Row, err error) {
	c, root, err := start(s, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop(c, root)) }()
	return launchAndDestroy(ctx, s, c, root, image)
}

// used is the processor time of an agent and its containers so far. What becomes of it while
// other programs want the processors too says more than the time that passes.
func used(c *testcluster.Cluster, root string) time.Duration {
	own, err := measure.CPUTime(c.Agents[0].PID())
	if err != nil {
		return 0
	}
	for _, dir := range []string{"cpuacct", "cpu,cpuacct"} {
		b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", dir, root, "cpuacct.usage"))
		if err != nil {
			continue
		}
		n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		return own + time.Duration(n)
	}
	b, _ := os.ReadFile(filepath.Join("/sys/fs/cgroup", root, "cpu.stat"))
	var n int64
	_, _ = fmt.Sscanf(string(b), "usage_usec %d", &n)
	return own + time.Duration(n)*time.Microsecond
}

func launchAndDestroy(ctx context.Context, s *settings, c *testcluster.Cluster, root, image string) ([]measure.Row, error) {
	agent, err := operator.NewAgent(c.Agents[0].Addr, operator.Options{})
	if err != nil {
		return nil, err
	}
	kind := "without an image"
	if image != "" {
		kind = "of an image"
		// The pull is not what is measured.
		if err := launch(ctx, agent, "warm", image); err != nil {
			return nil, err
		}
		if err := destroy(ctx, agent, "warm"); err != nil {
			return nil, err
		}
	}
	id := func(i int) string { return fmt.Sprintf("c%s%d", image, i) }
	before := used(c, root)
	began := time.Now()
	if err := each(ctx, s, func(ctx context.Context, i int) error { return launch(ctx, agent, id(i), image) }); err != nil {
		return nil, err
	}
	launched, launching := time.Since(began), used(c, root)-before
	bytes, n, err := privateMemory("supervisor")
	if err != nil {
		return nil, err
	}
	before, began = used(c, root), time.Now()
	if err := each(ctx, s, func(ctx context.Context, i int) error { return destroy(ctx, agent, id(i)) }); err != nil {
		return nil, err
	}
	destroyed, destroying := time.Since(began), used(c, root)-before
	apiece := func(d time.Duration) string { return millis(d/time.Duration(s.number)) + " of processor time each; " }
	if err := each(ctx, s, func(ctx context.Context, i int) error {
		_, err := agent.Call(ctx, &agentv1.Call{Type: agentv1.Call_REMOVE_CONTAINER.Enum(), RemoveContainer: &agentv1.Call_RemoveContainer{ContainerId: containerID(id(i))}})
		return err
	}); err != nil {
		return nil, err
	}
	rows := []measure.Row{
		{What: fmt.Sprintf("%d containers %s: launch", s.number, kind), Value: seconds(launched), Target: "<= 5 s", Note: apiece(launching) + "LAUNCH_CONTAINER until exec; " + isolators + "; Mesos 30.7 s"},
		{What: fmt.Sprintf("%d containers %s: destroy", s.number, kind), Value: seconds(destroyed), Target: "<= 3 s", Note: apiece(destroying) + "KILL and WAIT; Mesos 22 s"},
	}
	if n > 0 && image == "" {
		rows = append(rows, measure.Row{
			What: "memory of our process above a container", Value: fmt.Sprintf("%.2f MiB private", float64(bytes)/float64(n)/(1<<20)), Target: "<= 4 MiB",
			Note: fmt.Sprintf("%d supervisors", n),
		})
	}
	return rows, nil
}

// each calls f for every container, some at a time.
func each(ctx context.Context, s *settings, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.parallel)
	for i := range s.number {
		g.Go(func() error { return f(ctx, i) })
	}
	return g.Wait()
}

func containerID(value string) *mesos.ContainerID { return &mesos.ContainerID{Value: &value} }

func scalar(name string, value float64) *mesos.Resource {
	return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value}}
}

func launch(ctx context.Context, agent *operator.Agent, id, image string) error {
	call := &agentv1.Call_LaunchContainer{
		ContainerId: containerID(id),
		Command:     &mesos.CommandInfo{Shell: new(false), Value: new("sleep"), Arguments: []string{"sleep", "100000"}},
		Resources:   []*mesos.Resource{scalar("cpus", 0.01), scalar("mem", 32)},
	}
	if image != "" {
		call.Container = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), Mesos: &mesos.ContainerInfo_MesosInfo{
			Image: &mesos.Image{Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: &image}},
		}}
	}
	_, err := agent.Call(ctx, &agentv1.Call{Type: agentv1.Call_LAUNCH_CONTAINER.Enum(), LaunchContainer: call})
	return err
}

func destroy(ctx context.Context, agent *operator.Agent, id string) error {
	if _, err := agent.Call(ctx, &agentv1.Call{Type: agentv1.Call_KILL_CONTAINER.Enum(), KillContainer: &agentv1.Call_KillContainer{ContainerId: containerID(id)}}); err != nil {
		return err
	}
	_, err := agent.Call(ctx, &agentv1.Call{Type: agentv1.Call_WAIT_CONTAINER.Enum(), WaitContainer: &agentv1.Call_WaitContainer{ContainerId: containerID(id)}})
	return err
}
