package resources

import (
	"strings"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
)

func operation(t *testing.T, text string) *mesos.Offer_Operation {
	t.Helper()
	op := &mesos.Offer_Operation{}
	if err := mesosjson.Unmarshal([]byte(text), op); err != nil {
		t.Fatal(err)
	}
	return op
}

func TestApply(t *testing.T) {
	const (
		disk     = `{"name":"disk","type":"SCALAR","scalar":{"value":100}}`
		engDisk  = "disk(reservations: [(DYNAMIC,eng,p)])"
		tenMore  = `{"name":"disk","type":"SCALAR","scalar":{"value":10},"reservations":[{"type":"DYNAMIC","role":"eng","principal":"p"}]}`
		opsDisk  = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"reservations":[{"type":"DYNAMIC","role":"ops"}]}`
		pathVol  = `{"name":"disk","type":"SCALAR","scalar":{"value":40},"reservations":[{"type":"STATIC","role":"eng"}],"disk":{"source":{"type":"PATH","path":{"root":"/p"}},"persistence":{"id":"v"},"volume":{"container_path":"d","mode":"RW"}}}`
		pathDisk = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"reservations":[{"type":"STATIC","role":"eng"}],"disk":{"source":{"type":"PATH","path":{"root":"/p"}}}}`
	)
	tests := []struct{ name, have, op, want, err string }{
		{"RESERVE", disk, `{"type":"RESERVE","reserve":{"resources":[` + reserved + `]}}`, engDisk + ":100", ""},
		{"RESERVE older format", disk, `{"type":"RESERVE","reserve":{"resources":[{"name":"disk","type":"SCALAR","scalar":{"value":60},"role":"eng","reservation":{"principal":"p"}}]}}`, "disk:40; " + engDisk + ":60", ""},
		{"RESERVE too much", tenMore, `{"type":"RESERVE","reserve":{"resources":[` + reserved + `]}}`, "", engDisk + ":10 does not contain disk:100"},
		{"RESERVE unreserved", disk, `{"type":"RESERVE","reserve":{"resources":[` + disk + `]}}`, "", "Cannot get conversions: Resource 'disk:100' is not reserved"},
		{"RESERVE from source", reserved, `{"type":"RESERVE","reserve":{"source":[` + reserved + `],"resources":[` + opsDisk + `]}}`, "disk(reservations: [(DYNAMIC,ops)]):100", ""},
		{"RESERVE from less", reserved, `{"type":"RESERVE","reserve":{"source":[` + tenMore + `],"resources":[` + opsDisk + `]}}`, "", engDisk + ":10 cannot be converted to disk(reservations: [(DYNAMIC,ops)]):100: the amounts differ"},
		{"UNRESERVE", reserved, `{"type":"UNRESERVE","unreserve":{"resources":[` + tenMore + `]}}`, engDisk + ":90; disk:10", ""},
		{"UNRESERVE unreserved", disk, `{"type":"UNRESERVE","unreserve":{"resources":[` + disk + `]}}`, "", "Cannot get conversions: Resource 'disk:100' is not reserved"},
		{"CREATE", reserved, `{"type":"CREATE","create":{"volumes":[` + volume + `]}}`, engDisk + "[v1:data]:100", ""},
		{"CREATE shared", reserved, `{"type":"CREATE","create":{"volumes":[` + sharedVolume + `]}}`, engDisk + "[v1:data]<SHARED>:100<1>", ""},
		{"CREATE on a path", pathDisk, `{"type":"CREATE","create":{"volumes":[` + pathVol + `]}}`, "disk(reservations: [(STATIC,eng)])[PATH:/p]:60; disk(reservations: [(STATIC,eng)])[PATH:/p,v:d]:40", ""},
		{"CREATE on nothing", disk, `{"type":"CREATE","create":{"volumes":[` + volume + `]}}`, "", "disk:100 does not contain " + engDisk + ":100"},
		{"DESTROY", volume, `{"type":"DESTROY","destroy":{"volumes":[` + volume + `]}}`, engDisk + ":100", ""},
		{"DESTROY shared", sharedVolume, `{"type":"DESTROY","destroy":{"volumes":[` + sharedVolume + `]}}`, engDisk + ":100", ""},
		{"DESTROY one of two copies", sharedVolume + "," + sharedVolume, `{"type":"DESTROY","destroy":{"volumes":[` + sharedVolume + `]}}`, "", "Persistent volume " + engDisk + "[v1:data]<SHARED>:100<1> cannot be removed due to additional shared copies"},
		{"DESTROY on a path", pathVol, `{"type":"DESTROY","destroy":{"volumes":[` + pathVol + `]}}`, "disk(reservations: [(STATIC,eng)])[PATH:/p]:40", ""},
		{"GROW_VOLUME", volume + "," + tenMore, `{"type":"GROW_VOLUME","grow_volume":{"volume":` + volume + `,"addition":` + tenMore + `}}`, engDisk + "[v1:data]:110", ""},
		{"SHRINK_VOLUME", volume, `{"type":"SHRINK_VOLUME","shrink_volume":{"volume":` + volume + `,"subtract":{"value":30}}}`, engDisk + "[v1:data]:70; " + engDisk + ":30", ""},
		{"SHRINK_VOLUME too far", volume, `{"type":"SHRINK_VOLUME","shrink_volume":{"volume":` + volume + `,"subtract":{"value":130}}}`, "", "Cannot get conversions: Cannot shrink '" + engDisk + "[v1:data]:100' by more than it has"},
		{"SHRINK_VOLUME of a provider", volume, `{"type":"SHRINK_VOLUME","shrink_volume":{"volume":` + strings.Replace(volume, "{", `{"provider_id":{"value":"x"},`, 1) + `,"subtract":{"value":30}}}`, "", "Cannot get conversions: Operation not supported for resource provider"},
		{"LAUNCH", disk, `{"type":"LAUNCH"}`, "", "Cannot get conversions: Operation not supported"},
		{"UNKNOWN", disk, `{}`, "", "Cannot get conversions: Unknown operation"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			have := from(t, "["+tt.have+"]")
			got, conversions, err := have.Apply(operation(t, tt.op))
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("got error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			again, err := have.Convert(conversions...)
			if err != nil || !again.Equal(got) {
				t.Errorf("the conversions alone: got %s, %v, want %s", again, err, got)
			}
		})
	}
}

func TestApplyCheckpointed(t *testing.T) {
	flags := MustParse("cpus(eng):4;disk:200")
	checkpointed := from(t, `[`+volume+`,{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"STATIC","role":"eng"},{"type":"DYNAMIC","role":"eng/web"}]}]`)
	got, err := flags.ApplyCheckpointed(checkpointed)
	if err != nil {
		t.Fatal(err)
	}
	want := flags.Sub(MustParse("cpus(eng):1;disk:100")).Add(checkpointed)
	if !got.Equal(want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := MustParse("disk:50").ApplyCheckpointed(checkpointed); err == nil {
		t.Error("put a volume of 100 on a disk of 50")
	}
	if _, err := flags.ApplyCheckpointed(MustParse("cpus(eng):1")); err == nil {
		t.Error("took a static reservation from a checkpoint")
	}
}

// TestValidateAndUpgradeRefuses puts a resource that is not valid into every
// place of every operation.
func TestValidateAndUpgradeRefuses(t *testing.T) {
	const bad = `{"name":"disk","type":"SCALAR","scalar":{"value":-1}}`
	const good = `{"name":"disk","type":"SCALAR","scalar":{"value":1},"role":"eng"}`
	const task = `{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"a"},`
	for _, text := range []string{
		`{"type":"RESERVE","reserve":{"resources":[RESOURCE]}}`,
		`{"type":"RESERVE","reserve":{"source":[RESOURCE],"resources":[` + good + `]}}`,
		`{"type":"UNRESERVE","unreserve":{"resources":[RESOURCE]}}`,
		`{"type":"CREATE","create":{"volumes":[RESOURCE]}}`,
		`{"type":"DESTROY","destroy":{"volumes":[RESOURCE]}}`,
		`{"type":"GROW_VOLUME","grow_volume":{"volume":RESOURCE,"addition":` + good + `}}`,
		`{"type":"GROW_VOLUME","grow_volume":{"volume":` + good + `,"addition":RESOURCE}}`,
		`{"type":"SHRINK_VOLUME","shrink_volume":{"volume":RESOURCE,"subtract":{"value":1}}}`,
		`{"type":"LAUNCH","launch":{"task_infos":[` + task + `"resources":[RESOURCE]}]}}`,
		`{"type":"LAUNCH","launch":{"task_infos":[` + task + `"executor":{"executor_id":{"value":"e"},"resources":[RESOURCE]}}]}}`,
		`{"type":"LAUNCH_GROUP","launch_group":{"executor":{"executor_id":{"value":"e"},"resources":[RESOURCE]},"task_group":{"tasks":[]}}}`,
		`{"type":"LAUNCH_GROUP","launch_group":{"executor":{"executor_id":{"value":"e"}},"task_group":{"tasks":[` + task + `"resources":[RESOURCE]}]}}}`,
		`{"type":"CREATE_DISK","create_disk":{"source":RESOURCE,"target_type":"MOUNT"}}`,
		`{"type":"DESTROY_DISK","destroy_disk":{"source":RESOURCE}}`,
	} {
		op := operation(t, strings.ReplaceAll(text, "RESOURCE", bad))
		before := op.String()
		if err := ValidateAndUpgrade(op); err == nil || !strings.Contains(err.Error(), "Invalid scalar resource: value <= 0") {
			t.Errorf("%s with a negative resource: got %v", text, err)
		}
		if op.String() != before {
			t.Errorf("%s: an operation that is refused was changed", text)
		}
		op = operation(t, strings.ReplaceAll(text, "RESOURCE", good))
		if err := ValidateAndUpgrade(op); err != nil {
			t.Errorf("%s with a valid resource: %v", text, err)
		}
		if upgraded := op.String(); !strings.Contains(upgraded, "reservations:") {
			t.Errorf("%s: not upgraded: %s", text, upgraded)
		}
	}
}
