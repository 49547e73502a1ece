package top

import (
	"encoding/json"
	"testing"
)

// TestTaskTableIsChecked: what does not fit together is an error, and no panic.
func TestTaskTableIsChecked(t *testing.T) {
	const head = `{"states":["TASK_RUNNING"],"agents":[{"id":"A"}],"frameworks":[{"id":"F"}],"tasks":`
	for text, good := range map[string]bool{
		`{"rows":0,"columns":{}}`:                                                 true,
		`{"rows":0,"columns":{"task_id":[],"name":[]}}`:                           true,
		`{"rows":1,"columns":{"task_id":"a","name":null,"executor_id":""}}`:       true,
		`{"rows":2,"columns":{"task_id":["a","b"],"name":[null,"x"],"role":"r"}}`: true,
		`{"rows":2,"columns":{"task_id":["a"]}}`:                                  false,
		`{"rows":2,"columns":{"task_id":["a","b"],"cpus":[1]}}`:                   false,
		`{"rows":1,"columns":{"task_id":"a","framework":1}}`:                      false,
		`{"rows":1,"columns":{"task_id":"a","agent":-1}}`:                         false,
		`{"rows":1,"columns":{"task_id":"a","state":[7]}}`:                        false,
		`{"rows":2,"columns":{"task_id":["a","b"],"role":[0,"r"]}}`:               false,
		`{"rows":2,"columns":{"task_id":["a","b"],"role":["r",1]}}`:               false,
		`{"rows":1,"columns":{"task_id":"a","executor_id":0}}`:                    false,
	} {
		var s summary
		err := json.Unmarshal([]byte(head+text+"}"), &s)
		var w *world
		if err == nil {
			w, err = newWorld(&s)
		}
		if (err == nil) != good {
			t.Errorf("%s: got %v", text, err)
		}
		if err == nil && len(w.tasks) != s.Tasks.Rows {
			t.Errorf("%s: got %d tasks", text, len(w.tasks))
		}
	}
}
