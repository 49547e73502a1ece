package supervisor

const (
	sysSetns   = 308
	sysSeccomp = 317
	sysPrlimit = 302
)
