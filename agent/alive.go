package agent

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// summaryPatience is how long Summary waits for the agent's loop.
const summaryPatience = time.Second

// Alive returns once the agent's loop has answered. It is for systemd's watchdog.
func (a *Agent) Alive(ctx context.Context) error {
	if _, err := a.View(ctx); err != nil {
		return fmt.Errorf("the agent's loop does not answer: %w", err)
	}
	return nil
}

// Summary says in a few words what the agent is doing.
func (a *Agent) Summary() string {
	ctx, cancel := context.WithTimeout(context.Background(), summaryPatience)
	defer cancel()
	v, err := a.View(ctx)
	if err != nil {
		return "busy"
	}
	executors := 0
	for _, fw := range v.Frameworks {
		executors += len(fw.Executors)
	}
	running := fmt.Sprintf("%d executors", executors)
	if executors == 1 {
		running = "1 executor"
	}
	if v.Master == nil {
		return strings.ToLower(v.Phase) + ", " + running
	}
	master := net.JoinHostPort(v.Master.GetHostname(), strconv.FormatUint(uint64(v.Master.GetPort()), 10))
	return fmt.Sprintf("registered with %s as %s, %s", master, v.Info.GetId().GetValue(), running)
}
