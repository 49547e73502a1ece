// Package plan is what the two sides of internal/vmtest say to each other: the host
// writes a Plan into the machine's disk, the machine answers with Records, one JSON
// object a line, on a serial port.
//
// It holds values only. internal/vmtest and its vminit import it.
package plan

// Path is where the plan lies in the machine.
const Path = "/vm/plan.json"

// Port is the name of the serial port that records are written to.
const Port = "clusterd.vmtest"

// Plan is what the machine does after it has booted.
type Plan struct {
	Runs []Run
}

// Run is one test binary.
type Run struct {
	// Package is the import path.
	Package string
	// Dir is the working directory.
	Dir string
	// Args are the program and its arguments.
	Args []string
	// Env is added to the environment.
	Env []string
	// Seconds is how long it may take before it is killed.
	Seconds int
}

// Record is what the machine tells.
type Record struct {
	// Package is that of the run that it is about; empty: the machine.
	Package string `json:",omitempty"`
	// Output is what the run wrote.
	Output []byte `json:",omitempty"`
	// End says that the run has ended.
	End *End `json:",omitempty"`
	// Message is something about the machine that is worth a line.
	Message string `json:",omitempty"`
	// Done says that the plan was carried out; nothing follows.
	Done bool `json:",omitempty"`
}

// End is how a run ended.
type End struct {
	// Code is the exit status, 128 and the signal, or -1 when it was not started.
	Code int
	// Seconds it took.
	Seconds float64
	// TimedOut says that it was killed because it took too long.
	TimedOut bool
	// Residue names what it has left: processes, mounts, cgroups, links, files in /tmp.
	Residue []string
}
