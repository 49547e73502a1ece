// Package docker is the containerizer that has a Docker engine run containers, by the
// engine's socket.
//
//	agent ─ supervisor ─ executor ─ runner ··(socket)·· engine ─ container
//	  └──── pull, usage, stop, remove ····················┘
//
// The life of a container is that of any other (isolation.Mesos with the posix
// launcher): what is executed in it is the runner, a mode of this binary, which stands
// for the engine's container as `docker run` does: it creates and starts it, copies its
// output, hands signals on, and ends with its exit status. So executors, their checks,
// exit statuses over a restart of the agent and logs are those of all other containers,
// and an engine that restarts with live restore is waited for. What the runner cannot do
// because it was killed, Cleanup does: no engine container outlives its container here.
//
// Where the agent itself runs in a container of the engine (Options.MesosImage), the engine
// kills with that container all that runs in it. So each supervisor is born in a container of
// its own:
//
//	agent's container         agent
//	                            │ socket in the runtime directory: program, files
//	executor's container      holder ─ supervisor ─ executor ─ runner
//	task's container                                             ··(engine)·· command
//
// The holder starts the supervisor as it is told and ends with it. That is all: the agent, and
// the next one, deals with the supervisor as with any other, by its process id and its files,
// for which it must see the machine's processes, and its directories where the machine has
// them. Nothing has to be able to move a process into a cgroup or a namespace.
//
// [Containerizer] is the main type; it is safe for concurrent use. [RunMain] and [ExecMain]
// are the runner and its counterpart for checks, [HoldMain] is the holder, modes of the
// binary. isolation/setup and internal/cli import the package.
package docker
