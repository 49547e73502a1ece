package isolation

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/supervisor"
)

// taskVariables are what tells a builtin executor what isolators have for its task
// (Mesos hands its executor the flags --task_command and --task_environment).
func taskVariables(command *mesos.CommandInfo, env map[string]string) (map[string]string, error) {
	variables := make(map[string]string, 2)
	add := func(name string, c *mesos.CommandInfo) error {
		b, err := proto.Marshal(c)
		if err != nil {
			return fmt.Errorf("command of the task: %w", err)
		}
		variables[name] = base64.StdEncoding.EncodeToString(b)
		return nil
	}
	if command != nil {
		if err := add(supervisor.TaskCommandVariable, command); err != nil {
			return nil, err
		}
	}
	if len(env) == 0 {
		return variables, nil
	}
	e := &mesos.Environment{}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		e.Variables = append(e.Variables, &mesos.Environment_Variable{Name: &name, Value: new(env[name])})
	}
	return variables, add(supervisor.TaskEnvironmentVariable, &mesos.CommandInfo{Environment: e})
}
