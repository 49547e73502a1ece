// Package version says which build this is: to /version, to MasterInfo, to the
// command line and to peers. It holds constants and functions only and may be
// imported by everything.
package version

import (
	"runtime"
	"strconv"
	"time"

	mesos "clusterd/api/mesos/v1"
)

// Mesos is the version of the Mesos HTTP API that clusterd speaks; it stands
// wherever a client reads a version to learn what it may ask for.
const Mesos = "1.12.0"

// Clusterd is the version of clusterd itself.
const Clusterd = "0.1.0"

// Set by the linker (see Makefile); empty in a plain `go build`.
var (
	gitSHA    string
	gitBranch string
	buildTime string // of the commit, Unix seconds
)

// Info returns the build as the Mesos API shows it. VersionInfo.version is
// [Mesos]; the build's own number is part of `clusterd version`.
func Info() *mesos.VersionInfo {
	v := Mesos
	info := &mesos.VersionInfo{Version: &v}
	if gitSHA != "" {
		info.GitSha = &gitSHA
	}
	if gitBranch != "" {
		info.GitBranch = &gitBranch
	}
	date, seconds, user := "", 0.0, ""
	if s, err := strconv.ParseInt(buildTime, 10, 64); err == nil {
		date = time.Unix(s, 0).UTC().Format("2006-01-02 15:04:05 UTC")
		seconds = float64(s)
	}
	info.BuildDate, info.BuildTime, info.BuildUser = &date, &seconds, &user
	return info
}

// String is one line for people: clusterd's version, the API's, commit and Go.
func String() string {
	s := "clusterd " + Clusterd + " (Mesos API " + Mesos
	if len(gitSHA) >= 12 {
		s += ", commit " + gitSHA[:12]
	}
	return s + ", " + runtime.Version() + ")"
}
