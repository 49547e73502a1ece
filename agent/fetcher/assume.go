package fetcher

import (
	"errors"
	"os"
)

// errNotRoot says that the agent can act as itself alone.
var errNotRoot = errors.New("the agent does not run as root")

// Assume gives the calling thread a user's rights to the file system, and takes those of the
// agent from it; with an empty name it stays as it is. The thread must be locked to its
// goroutine, and must end with it.
func Assume(user string) error {
	who, err := lookupIdentity(user)
	if err != nil || !who.change {
		return err
	}
	return who.assume()
}

// AssumeIDs is Assume for somebody who has no name on this machine, and no groups.
func AssumeIDs(uid, gid int) error {
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	return identity{change: true, uid: uid, gid: gid}.assume()
}
