package setup

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolators/network/portmapping"
)

// DefaultLauncher names the launcher for an agent that names none, and says why not the
// other: linux for root where containers can have cgroups, as in Mesos
// (LinuxLauncher::available), or where --isolation cannot do without it.
func DefaultLauncher(o Options) (name, why string) {
	if os.Geteuid() != 0 {
		return "posix", "the linux launcher needs root"
	}
	err := cgroups.Probe(o.hierarchy())
	switch {
	case err == nil:
		return "linux", "this is root, and containers can have cgroups"
	case needsLinux(o.Isolation):
		return "linux", "--isolation needs it, although containers can have no cgroups: " + err.Error()
	}
	return "posix", "containers can have no cgroups: " + err.Error()
}

// needsLinux says whether --isolation names something that is refused with another launcher.
func needsLinux(isolators string) bool {
	for name := range strings.SplitSeq(isolators, ",") {
		name = strings.TrimSpace(name)
		if name == "filesystem/linux" || name == "filesystem/shared" || name == portmapping.Name || slices.Contains(needFilesystem, name) {
			return true
		}
	}
	return false
}

func (o *Options) hierarchy() string {
	if o.CgroupsHierarchy == "" {
		return DefaultCgroupsHierarchy
	}
	return o.CgroupsHierarchy
}

// openTree opens the cgroups, and keeps others from them, if somebody needs them and nobody
// opened them before.
func (o *Options) openTree(log zerolog.Logger) error {
	isolators := strings.Contains(o.Isolation, "cgroups") || len(o.Cgroups.AgentSubsystems) > 0
	if o.Tree != nil || o.Launcher != "linux" && !isolators {
		return nil
	}
	tree, err := o.claimRoot(log)
	if errors.Is(err, cgroups.ErrUnavailable) && !isolators {
		log.Warn().Err(err).Msg("the linux launcher goes without cgroups: containers are killed by what their supervisors see")
		return nil
	}
	if err != nil {
		return fmt.Errorf("open cgroups: %w", err)
	}
	if o.CgroupsDestroyTimeout > 0 {
		tree.SetDestroyTimeout(o.CgroupsDestroyTimeout)
	}
	o.Tree = tree
	return nil
}

// claimRoot opens the root of the containers' cgroups. Two agents with one root would kill
// each other's containers as orphans, so that one which was not given a root of its own
// takes another when the usual one is somebody else's. It stays with that as long as it is
// there: its containers are in it.
func (o *Options) claimRoot(log zerolog.Logger) (*cgroups.Tree, error) {
	if o.CgroupsRoot != "" {
		tree, err := o.claim(o.CgroupsRoot, log)
		if errors.Is(err, cgroups.ErrInUse) {
			err = fmt.Errorf("%w: give this one another --cgroups_root", err)
		}
		return tree, ignoreUnmarked(err)
	}
	usual := cmp.Or(o.usualRoot, DefaultCgroupsRoot)
	sum := sha256.Sum256([]byte(o.WorkDir))
	own := usual + "-" + hex.EncodeToString(sum[:4])
	tree, err := cgroups.Open(o.hierarchy(), own)
	if err != nil {
		return nil, err
	}
	if !tree.There() {
		tree, err = o.claim(usual, log)
		if !errors.Is(err, cgroups.ErrInUse) && !errors.Is(err, cgroups.ErrUnmarked) {
			return tree, err
		}
		log.Info().Err(err).Str("cgroups_root", own).Msg("take a root of cgroups of my own")
		if tree != nil {
			err = tree.Unlock()
		}
		if err != nil && !errors.Is(err, cgroups.ErrInUse) {
			return nil, err
		}
	}
	tree, err = o.claim(own, log)
	if tree != nil {
		tree.Fleeting()
	}
	return tree, ignoreUnmarked(err)
}

func ignoreUnmarked(err error) error {
	if errors.Is(err, cgroups.ErrUnmarked) {
		return nil
	}
	return err
}

// claim opens a root and locks it. With ErrUnmarked there is a tree, and it is locked.
func (o *Options) claim(root string, log zerolog.Logger) (*cgroups.Tree, error) {
	tree, err := cgroups.Open(o.hierarchy(), root)
	if err != nil {
		return nil, err
	}
	err = tree.Claim(o.WorkDir)
	switch {
	case err == nil:
		return tree, nil
	case errors.Is(err, cgroups.ErrUnmarked):
		return tree, err
	case errors.Is(err, cgroups.ErrUnavailable) && o.Launcher != "linux":
		// Isolators of cgroups can do without what the linux launcher kills by.
		log.Warn().Err(err).Msg("nothing keeps other agents from the root of cgroups")
		return tree, nil
	}
	return nil, err
}

// unlock ends the claim on cgroups that nothing has come to use.
func (o *Options) unlock() error {
	if o.Tree == nil {
		return nil
	}
	return o.Tree.Unlock()
}

// lockedLauncher keeps the root of cgroups locked for isolators that work by them.
type lockedLauncher struct {
	isolation.Launcher
	root io.Closer
}

// withLock gives a launcher that needs no cgroups itself the lock of their root to hold.
func (o *Options) withLock(l isolation.Launcher) (isolation.Launcher, error) {
	if o.Tree == nil || o.Tree.Version(cgroups.Core) == 0 {
		return l, nil
	}
	root, err := o.Tree.Lock()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return lockedLauncher{l, root}, nil
}

// Close implements isolation.Launcher.
func (l lockedLauncher) Close() error {
	err := l.Launcher.Close()
	if closeErr := l.root.Close(); !errors.Is(closeErr, os.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	return err
}
