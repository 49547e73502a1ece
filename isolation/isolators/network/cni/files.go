package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"clusterd/isolation"
	"clusterd/isolation/supervisor"
)

// The files that containers with a network of their own have of their own.
const (
	hostsFile    = "hosts"
	hostnameFile = "hostname"
	resolvFile   = "resolv.conf"
)

// bindFlags are as in Mesos: such a file is for reading.
const bindFlags = unix.MS_BIND | unix.MS_NOEXEC | unix.MS_NODEV | unix.MS_NOSUID

// mounts puts the files of a home in a container's /etc, that of the machine if the
// container has no root of its own: its mount namespace alone sees it.
func (own *container) mounts() []isolation.Mount {
	var mounts []isolation.Mount
	for _, name := range [...]string{hostsFile, hostnameFile, resolvFile} {
		mounts = append(mounts, isolation.Mount{
			Source: filepath.Join(own.dir, name), Target: "/etc/" + name, Flags: bindFlags, Make: supervisor.MakeFile,
		})
	}
	return mounts
}

// machineFiles are for a container that has an image and the machine's network.
func machineFiles() []isolation.Mount {
	var mounts []isolation.Mount
	for _, name := range [...]string{hostsFile, hostnameFile, resolvFile} {
		source, err := filepath.EvalSymlinks("/etc/" + name)
		if err != nil {
			continue // not every machine has all of them
		}
		mounts = append(mounts, isolation.Mount{
			Source: source, Target: "/etc/" + name, Flags: bindFlags | unix.MS_RDONLY, Make: supervisor.MakeFile,
		})
	}
	return mounts
}

// MachineFiles are the paths of what the isolator puts into every container with an image:
// of a network of its own or, if there is such a file, the machine's.
func MachineFiles() []string {
	var paths []string
	for _, m := range machineFiles() {
		paths = append(paths, m.Target)
	}
	return paths
}

// writeFiles fills the files of a home. They are mounted by now or soon will be, so
// they are written in place.
func (c *CNI) writeFiles(own *container) error {
	hosts := "127.0.0.1 localhost\n"
	if ip := own.firstAddress(false); ip != "" {
		hosts += ip + " " + own.hostname + "\n"
	}
	if ip := own.firstAddress(true); ip != "" {
		hosts += ip + " " + own.hostname + "\n"
	}
	resolv, err := c.resolvConf(own)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		hostsFile: []byte(hosts), hostnameFile: []byte(own.hostname + "\n"), resolvFile: resolv,
	} {
		if err := os.WriteFile(filepath.Join(own.dir, name), content, 0o644); err != nil { //nolint:gosec // the task's user reads it
			return fmt.Errorf("write the container's /etc/%s: %w", name, err)
		}
	}
	return nil
}

// resolvConf puts together what the networks' plugins said, or the operator for
// them; when nobody names a server, the machine's file it is.
func (c *CNI) resolvConf(own *container) ([]byte, error) {
	var dns DNS
	for _, n := range own.networks {
		switch d := n.result.dns(); {
		// Some IPAM plugins say something empty.
		case len(d.Nameservers) > 0:
			dns.merge(d)
		case c.o.DNS == nil:
		default:
			if d, ok := c.o.DNS.Networks[n.Name]; ok {
				dns.merge(d)
			} else if c.o.DNS.Default != nil {
				dns.merge(*c.o.DNS.Default)
			}
		}
	}
	if len(dns.Nameservers) > 0 {
		return dns.resolvConf(), nil
	}
	b, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("copy the machine's resolv.conf: %w", err)
	}
	return b, nil
}
