//go:build !amd64

package supervisor

// The numbers that all newer architectures share.
const (
	sysSetns   = 268
	sysSeccomp = 277
	sysPrlimit = 261
)
