package cgroup_test

import (
	"path/filepath"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/isolators/cgroup"
	"clusterd/isolation/isolators/security"
	"clusterd/isolation/setup"
)

// Root in a container that sees the machine's files cannot raise its limits, unless it may
// mount: neither by the files of its own cgroups, nor by leaving them.
func TestRootKeepsItsLimits(t *testing.T) {
	usual := []mesos.CapabilityInfo_Capability{
		mesos.CapabilityInfo_CHOWN, mesos.CapabilityInfo_DAC_OVERRIDE, mesos.CapabilityInfo_FOWNER, mesos.CapabilityInfo_KILL,
		mesos.CapabilityInfo_SETGID, mesos.CapabilityInfo_SETUID,
	}
	for name, tt := range map[string]struct {
		has  []mesos.CapabilityInfo_Capability
		want string
	}{
		"without SYS_ADMIN": {usual, "denied denied denied denied"},
		// What is refused above is not refused for another reason.
		"with SYS_ADMIN": {append(usual, mesos.CapabilityInfo_SYS_ADMIN), "written remounted made left"},
	} {
		t.Run(name, func(t *testing.T) { testRootKeepsItsLimits(t, &mesos.CapabilityInfo{Capabilities: tt.has}, tt.want) })
	}
}

func testRootKeepsItsLimits(t *testing.T, has *mesos.CapabilityInfo, want string) {
	f := newSet(t, cgroup.Options{})
	m := newMesos(t, f, func(o *setup.Options) {
		o.Isolation += ",linux/capabilities"
		o.Security = security.Options{Effective: has}
	})
	root, err := f.tree.Root("memory")
	if err != nil {
		t.Fatal(err)
	}
	dir, file := filepath.Join(root, "c1"), "memory.limit_in_bytes"
	if f.tree.Version("memory") == 2 {
		file = "memory.max"
	}
	// All processes that are in no container are in the root.
	everybody := filepath.Dir(root)
	c := shell(t, newID("c1"), "cd /\n"+attempt("echo 104857600 >"+dir+"/"+file, "written")+
		attempt("mount -o remount,bind,rw "+everybody, "remounted")+
		attempt("mkdir "+dir+"/own && rmdir "+dir+"/own", "made")+
		attempt("echo $$ >"+everybody+"/cgroup.procs", "left"), 1, 48)
	prints(t, m, c, want)
}

// attempt is a line of shell that prints what was done, or that it was denied.
func attempt(command, done string) string {
	return "if (" + command + "); then echo " + done + "; else echo denied; fi\n"
}
