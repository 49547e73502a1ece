package supervisor

// What isolators have to say about the task of a builtin executor, it finds in these
// variables of its environment, which the task does not inherit. Each is a CommandInfo
// (protobuf, base64): the command to run instead of the task's own, and one that only
// has an environment, which lies below what the task itself asks for.
const (
	TaskCommandVariable     = "CLUSTERD_TASK_COMMAND"
	TaskEnvironmentVariable = "CLUSTERD_TASK_ENVIRONMENT"
)

// When the task of a builtin executor only stands for one that runs elsewhere, it
// reports to its executor how that goes.
const (
	// TaskReportsVariable, if set, says that the task reports lines of text over the
	// descriptor TaskReportFD, and runs only when it has said so:
	//
	//	data BASE64             what the status that says so shall have as its data
	//	running PID ADDRESS...  it runs, with these addresses; PID may be 0
	//	oom TEXT                it is at an end because it had too little memory
	//	failed TEXT             it could not be run
	TaskReportsVariable = "CLUSTERD_TASK_REPORTS"
	TaskReportFD        = 3
	// CheckCommandVariable holds, one in a line, the program and the arguments that the
	// commands of checks are handed to.
	CheckCommandVariable = "CLUSTERD_CHECK_COMMAND"
)
