package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"clusterd/agent/hostinfo"
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/setup"
)

// describe opens the listener and works out what the agent says of itself.
func (a *Agent) describe() error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	o := &a.opts
	if a.listener == nil {
		l, err := listen(ctx, net.JoinHostPort(o.IP, strconv.Itoa(o.Port)))
		if err != nil {
			return err
		}
		a.listener = l
	}
	addr, err := netip.ParseAddrPort(a.listener.Addr().String())
	if err != nil {
		return fmt.Errorf("address of the listener: %w", err)
	}
	ip, port := addr.Addr().Unmap(), int(addr.Port())
	name, err := hostinfo.Hostname(ctx, hostinfo.HostnameOptions{IP: ip, Hostname: o.Hostname, Lookup: o.HostnameLookup})
	if err != nil {
		return err
	}
	if ip.IsUnspecified() {
		if ip, err = hostinfo.HostIP(ctx); err != nil {
			return err
		}
	}
	a.ip = ip.String()
	if o.AdvertiseIP != "" {
		a.ip = o.AdvertiseIP
	}
	if o.AdvertisePort != 0 {
		port = o.AdvertisePort
	}
	attributes, err := hostinfo.ParseAttributes(o.Attributes)
	if err != nil {
		return err
	}
	rs, err := a.resources()
	if err != nil {
		return err
	}
	a.info = &mesos.AgentInfo{
		Hostname: strp(name), Port: new(int32(port)), Resources: rs, Attributes: attributes, Domain: o.Domain,
	}
	return nil
}

// resources are what the flag says, and of what it does not name what the host
// has (src/slave/containerizer/containerizer.cpp).
func (a *Agent) resources() ([]*mesos.Resource, error) {
	role := a.opts.DefaultRole
	if role == "" {
		role = "*"
	}
	total, err := resources.Parse(a.opts.Resources, role)
	if err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	// What is named is not detected, even if it is named to be none: cpus:0.
	named, err := resources.Mentioned(a.opts.Resources)
	if err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	detected, err := hostinfo.Detect(a.opts.WorkDir)
	if err != nil {
		a.log.Warn().Err(err).Msg("some resources could not be detected")
	}
	for _, name := range hostinfo.Names() {
		if slices.Contains(named, name) {
			continue
		}
		text, ok := detected.Text(name)
		if !ok {
			continue
		}
		r, err := resources.Parse(name+":"+text, role)
		if err != nil {
			return nil, fmt.Errorf("detected resources: %w", err)
		}
		total = total.Add(r)
	}
	if !slices.Contains(named, "gpus") {
		gpus, err := setup.GPUs(a.opts.Containers)
		if err != nil {
			return nil, fmt.Errorf("detected resources: %w", err)
		}
		if gpus > 0 {
			r, err := resources.Parse("gpus:"+strconv.Itoa(gpus), role)
			if err != nil {
				return nil, fmt.Errorf("detected resources: %w", err)
			}
			total = total.Add(r)
		}
	}
	return total.Proto(), nil
}

// listenPatience is how long the port may be taken: by an agent that just ends,
// or by an executor whose attempts to reach the agent that was killed happen to
// come from that very port.
const listenPatience = 2 * time.Second

func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	for end := time.Now().Add(listenPatience); ; {
		l, err := lc.Listen(ctx, "tcp", address)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return nil, fmt.Errorf("listen: %w", err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
}

// listenAsBefore opens the ports too at which executors of earlier runs look for
// the agent, which --reconfiguration_policy=any has let move.
func (a *Agent) listenAsBefore(ctx context.Context) {
	host, _, err := net.SplitHostPort(a.Addr())
	if err != nil {
		return // of no network that has ports
	}
	for _, port := range a.core.FormerPorts() {
		address := net.JoinHostPort(host, strconv.Itoa(int(port)))
		l, err := listen(ctx, address)
		if err != nil {
			a.log.Error().Err(err).Str("address", address).Msg("executors that look for the agent at its former port cannot come back")
			continue
		}
		a.log.Info().Str("address", address).Msg("serving executors at the agent's former port too")
		a.former = append(a.former, l)
	}
}
