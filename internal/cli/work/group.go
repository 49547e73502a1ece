package work

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
	"clusterd/internal/cli/console"
)

// maxFile is the largest description that is read.
const maxFile = 8 << 20

// readDescription reads a JSON or YAML object from a file, - being standard input, or from
// text that begins with a brace.
func readDescription(name string, in io.Reader) (map[string]any, error) {
	var b []byte
	var err error
	switch path := strings.TrimPrefix(name, "file://"); {
	case strings.HasPrefix(strings.TrimSpace(name), "{"):
		b, name = []byte(name), "the text given"
	case path == "-":
		name = "standard input"
		b, err = io.ReadAll(io.LimitReader(in, maxFile))
	default:
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	if len(b) >= maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	var out map[string]any
	// JSON is YAML, but for the numbers that YAML would make a float.
	if err = json.Unmarshal(b, &out); err != nil {
		if err = yaml.Unmarshal(b, &out); err != nil {
			return nil, fmt.Errorf("%w: %s is neither JSON nor YAML: %w", console.ErrUsage, name, err)
		}
	}
	if out == nil {
		return nil, console.Usagef("%s: no object", name)
	}
	return out, nil
}

// decode makes a message of an object, after the shorthands are written out.
func decode(name string, object map[string]any, m proto.Message) error {
	b, err := json.Marshal(object)
	if err == nil {
		err = mesosjson.Unmarshal(b, m)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", console.ErrUsage, name, err)
	}
	return nil
}

// groupHint says how a description of a group looks.
const groupHint = `{"tasks": [TaskInfo, ...], "executor": ExecutorInfo}, in JSON or YAML; see examples/groups`

// groupUnit reads a TaskGroupInfo, with an ExecutorInfo beside it if it is to be another
// one than the default.
func groupUnit(name string, in io.Reader) (*unit, error) {
	object, err := readDescription(name, in)
	if err != nil {
		return nil, err
	}
	if inner, ok := object["task_group"].(map[string]any); ok { // as in LAUNCH_GROUP
		if object["tasks"] != nil {
			return nil, console.Usagef("%s: tasks and task_group", name)
		}
		object["tasks"] = inner["tasks"]
	}
	tasks, ok := object["tasks"].([]any)
	if !ok || len(tasks) == 0 {
		return nil, console.Hint(console.Usagef("%s: no tasks", name), "%s", groupHint)
	}
	u := &unit{}
	seen := map[string]bool{}
	for i, t := range tasks {
		task, err := taskIn(fmt.Sprintf("%s: task %d", name, i), t)
		if err != nil {
			return nil, err
		}
		if seen[task.GetTaskId().GetValue()] {
			return nil, console.Usagef("%s: two tasks have the id %s", name, task.GetTaskId().GetValue())
		}
		seen[task.GetTaskId().GetValue()] = true
		u.tasks = append(u.tasks, task)
	}
	executor, _ := object["executor"].(map[string]any)
	u.executor, err = executorIn(name, executor)
	return u, err
}

// executorIn completes the executor of a group: without a word it is the default one.
func executorIn(name string, object map[string]any) (*mesos.ExecutorInfo, error) {
	if object == nil {
		object = map[string]any{}
	}
	if object["type"] == nil {
		object["type"] = "DEFAULT"
	}
	if object["executor_id"] == nil {
		object["executor_id"] = map[string]any{"value": taskID("group")}
	}
	if object["resources"] == nil {
		object["resources"] = "cpus:0.1;mem:32;disk:32"
	}
	if err := shorthands(name+": executor", object); err != nil {
		return nil, err
	}
	e := &mesos.ExecutorInfo{}
	return e, decode(name+": executor", object, e)
}

// taskUnit reads a TaskInfo.
func taskUnit(name string, in io.Reader) (*unit, error) {
	object, err := readDescription(name, in)
	if err != nil {
		return nil, err
	}
	task, err := taskIn(name, object)
	if err != nil {
		return nil, err
	}
	return &unit{tasks: []*mesos.TaskInfo{task}}, nil
}

// taskIn makes a TaskInfo of an object; what it need not say is filled in.
func taskIn(name string, v any) (*mesos.TaskInfo, error) {
	object, ok := v.(map[string]any)
	if !ok {
		return nil, console.Usagef("%s: no TaskInfo", name)
	}
	title, _ := object["name"].(string)
	if title == "" {
		title = "task"
		object["name"] = title
	}
	switch id := object["task_id"].(type) {
	case nil:
		object["task_id"] = map[string]any{"value": taskID(title)}
	case string:
		object["task_id"] = map[string]any{"value": id}
	}
	object["agent_id"] = map[string]any{"value": ""} // of the offer
	if err := shorthands(name, object); err != nil {
		return nil, err
	}
	task := &mesos.TaskInfo{}
	return task, decode(name, object, task)
}

// shorthands writes out what people do not like to write: resources as "cpus:1;mem:32", and
// a command that is only a line for the shell.
func shorthands(name string, object map[string]any) error {
	if line, ok := object["command"].(string); ok {
		object["command"] = map[string]any{"shell": true, "value": line}
	}
	text, ok := object["resources"].(string)
	if !ok {
		return nil
	}
	rs, err := parseResources(text)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", console.ErrUsage, name, err)
	}
	list := []any{}
	for _, r := range rs {
		b, err := mesosjson.Marshal(r)
		if err != nil {
			return err
		}
		list = append(list, json.RawMessage(b))
	}
	object["resources"] = list
	return nil
}

// readFile reads a description whole.
func readFile(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err == nil && len(b) >= maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	return b, err
}
