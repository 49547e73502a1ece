package gossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// resolve finds the addresses of a host, several if its name has several.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, nil
}

// bindAddr resolves what to listen on.
func bindAddr(ctx context.Context, bind string) (netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(bind)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip address %q: %w", bind, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip address %q: its port is not a number below 65536", bind)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	addrs, err := resolve(ctx, host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip address %q: %w", bind, err)
	}
	return netip.AddrPortFrom(addrs[0], uint16(port)), nil
}

// advertiseAddr finds what others are told to dial: what the operator says, else
// what is bound, else the host of the HTTP address.
func advertiseAddr(ctx context.Context, o *Options, bound netip.AddrPort) (netip.AddrPort, error) {
	host, port := bound.Addr().String(), bound.Port()
	switch {
	case o.Advertise != "":
		h, p, err := net.SplitHostPort(o.Advertise)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("gossip address to advertise %q: %w", o.Advertise, err)
		}
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("gossip address to advertise %q: its port is not a number below 65536", o.Advertise)
		}
		host = h
		if n != 0 {
			port = uint16(n)
		}
	case bound.Addr().IsUnspecified():
		h, _, err := net.SplitHostPort(o.Self.HTTP)
		if err != nil {
			h = o.Self.HTTP
		}
		host = h
	}
	addrs, err := resolve(ctx, host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip address to advertise %q: %w", host, err)
	}
	best := addrs[0]
	for _, a := range addrs { // a host's own name may mean its loopback first
		if !a.IsLoopback() {
			best = a
			break
		}
	}
	if best.IsUnspecified() {
		return netip.AddrPort{}, fmt.Errorf("gossip address %s is not one that other nodes can dial: set the address to advertise",
			netip.AddrPortFrom(best, port))
	}
	return netip.AddrPortFrom(best, port), nil
}

// splitTarget reads host[:port] of a --join; the host may be an IPv6 address with
// or without brackets.
func splitTarget(target string, port int) (string, uint16, error) {
	if ip, err := netip.ParseAddr(strings.Trim(target, "[]")); err == nil {
		return ip.String(), uint16(port), nil
	}
	if !strings.Contains(target, ":") {
		if target == "" {
			return "", 0, fmt.Errorf("join address is empty")
		}
		return target, uint16(port), nil
	}
	host, portText, err := net.SplitHostPort(target)
	if err != nil {
		return "", 0, fmt.Errorf("join address %q: %w", target, err)
	}
	n, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("join address %q is not host or host:port", target)
	}
	return host, uint16(n), nil
}
