package agent

import (
	"os"
	"testing"
)

// A nested container of another user than its parent's lies in a sandbox that this user may
// not pass through; it works in its own all the same.
func TestNestedOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to be somebody else")
	}
	p := newPod(t, func(o *Options) { o.SwitchUser = true })
	p.call(200, `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"mine"},"command":{"value":"sleep 1000"},`+
		`"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}}]}}`)
	id := nestedJSON("mine", "other")
	p.call(200, `{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":%s,"command":{"value":"test $(id -u) != 0 && echo x >new","user":"nobody"}}}`, id)
	if got := p.call(200, `{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":%s}}`, id).GetWaitNestedContainer(); got.ExitStatus == nil || got.GetExitStatus() != 0 {
		t.Errorf("wait: got %v, want exit status 0", got)
	}
	p.call(200, `{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"mine"}}}`)
	p.call(200, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"mine"}}}`)
}
