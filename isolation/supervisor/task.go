package supervisor

// What isolators have to say about the task of a builtin executor, it finds in these
// variables of its environment, which the task does not inherit. Each is a CommandInfo
// (protobuf, base64): the command to run instead of the task's own, and one that only
// has an environment, which lies below what the task itself asks for.
const (
	TaskCommandVariable     = "CLUSTERD_TASK_COMMAND"
	TaskEnvironmentVariable = "CLUSTERD_TASK_ENVIRONMENT"
)
