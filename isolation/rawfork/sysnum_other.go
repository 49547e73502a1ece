//go:build !amd64

package rawfork

// The numbers that all newer architectures share.
const (
	sysExecveat = 281
	sysClone3   = 435
)
