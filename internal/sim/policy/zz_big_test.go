package policy

import (
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

func TestBig(t *testing.T) {
	if os.Getenv("BIG") == "" {
		t.Skip()
	}
	n, _ := strconv.Atoi(os.Getenv("BIG"))
	fw, _ := strconv.Atoi(os.Getenv("FW"))
	load, _ := strconv.ParseFloat(os.Getenv("LOAD"), 64)
	mins, _ := strconv.Atoi(os.Getenv("MINS"))
	w, err := Preset(os.Getenv("WL"), n, fw, load)
	if err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions()
	o.Agents, o.Workload, o.For = n, w, time.Duration(mins)*time.Minute
	last := time.Now()
	o.Progress = func(p Progress) {
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			t.Logf("%v real %v running %d waiting %d heap %d MB sys %d", p.Virtual, p.Real, p.Running, p.Waiting, m.HeapAlloc>>20, m.Sys>>20)
		}
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v\n", r.Cluster)
	t.Logf("%+v %+v", r.Settings, r.Real)
}
