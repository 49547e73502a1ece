package rawfork

const (
	sysExecveat = 322
	sysClone3   = 435
)
