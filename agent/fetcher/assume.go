package fetcher

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
