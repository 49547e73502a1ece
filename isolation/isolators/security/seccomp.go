package security

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"clusterd/isolation"
	"clusterd/isolation/isolators/security/seccomp"
)

// Seccomp is linux/seccomp: it filters the system calls of containers by profiles in
// Docker's format (src/slave/containerizer/mesos/isolators/linux/seccomp.cpp).
type Seccomp struct {
	isolation.BaseIsolator
	dir string
	// profile is the default one; nil if there is none.
	profile *seccomp.Profile
	// capabilities says what a container has, which rules of a profile may ask for.
	capabilities *Capabilities
}

// NewSeccomp reads the default profile. Capabilities is the linux/capabilities isolator
// when that is on, else nil: containers have all capabilities of their user then.
func NewSeccomp(o Options, capabilities *Capabilities) (*Seccomp, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("it needs root")
	}
	if o.SeccompDir == "" {
		return nil, errors.New("--seccomp_config_dir is not given")
	}
	// A kernel that knows filters looks at the address that is not there.
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0); !errors.Is(err, unix.EFAULT) {
		return nil, fmt.Errorf("the kernel has no seccomp filters: %w", err)
	}
	s := &Seccomp{dir: o.SeccompDir, capabilities: capabilities}
	if o.SeccompProfile == "" {
		return s, nil
	}
	var err error
	s.profile, err = s.read(o.SeccompProfile)
	return s, err
}

// Name is "linux/seccomp".
func (*Seccomp) Name() string { return "linux/seccomp" }

// Prepare compiles the container's profile: the one it names, none if it asks to be
// unconfined, or the default one.
func (s *Seccomp) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	profile := s.profile
	if wish := config.ContainerInfo.GetLinuxInfo().GetSeccomp(); wish != nil {
		switch {
		case wish.GetUnconfined() && wish.ProfileName != nil:
			return nil, errors.New("seccomp: a profile_name is given although unconfined is set")
		case wish.GetUnconfined():
			return nil, nil
		case wish.ProfileName == nil:
			return nil, errors.New("seccomp: no profile_name is given")
		}
		var err error
		if profile, err = s.read(wish.GetProfileName()); err != nil {
			return nil, err
		}
	}
	if profile == nil {
		return nil, nil
	}
	caps := ^uint64(0)
	if s.capabilities != nil {
		sets, err := s.capabilities.sets(config.ContainerInfo.GetLinuxInfo())
		if err != nil {
			return nil, err
		}
		if sets != nil {
			caps = sets.Bounding
		}
	}
	program, err := profile.Compile(caps)
	if err != nil {
		return nil, err
	}
	return &isolation.Preparation{Seccomp: program}, nil
}

// read reads a profile by its name. It is read every time: who changes a profile
// expects the next container to have it.
func (s *Seccomp) read(name string) (*seccomp.Profile, error) {
	if !filepath.IsLocal(name) {
		return nil, fmt.Errorf("seccomp profile %q does not lie in %s", name, s.dir)
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, fmt.Errorf("seccomp profiles: %w", err)
	}
	defer func() { _ = root.Close() }()
	text, err := root.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile in %s: %w", s.dir, err)
	}
	profile, err := seccomp.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", name, err)
	}
	return profile, nil
}
