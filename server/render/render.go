// Package render turns a view of the master's state into the JSON of the legacy
// endpoints (/state, /slaves, /tasks, ...) and into the responses of the v1
// operator API.
//
// Its functions are pure: a [core.View], which is immutable, and [Master], what
// the master knows of itself, go in, bytes or messages come out. They append to
// pieces of memory instead of building trees of maps, since /state of a large cluster
// is a hundred megabytes. Any number may run at once. It is imported by server only.
//
// All of them take who asks, an authz.Viewer, and leave out what that one does not
// see. What is rendered may be shared by viewers with the same key.
//
// Members, their order and the form of numbers follow Mesos
// (src/master/readonly_handler.cpp, src/common/http.cpp).
package render

import (
	"time"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
	"clusterd/internal/flags"
)

// Master is what a leading master shows of itself.
type Master struct {
	Version *mesos.VersionInfo
	// Info of this master, and Leader's, which is the same one while it leads.
	Info, Leader *mesos.MasterInfo
	Start        time.Time
	Elected      time.Time
	// Cluster is --cluster, LogDir --log_dir, ExternalLogFile --external_log_file;
	// empty: not shown.
	Cluster, LogDir, ExternalLogFile string
	Flags                            []flags.Pair
	// RoleWhitelist is --roles; nil: any.
	RoleWhitelist []string
}

// proto writes a member that is the message's own JSON.
func (o *object) proto(k string, m proto.Message) {
	o.key(k)
	o.buf = appendProto(o.buf, m)
}

// appendProto writes a message that the core has accepted. A message that lacks
// a required field cannot be among them; should one be, its place stays empty.
func appendProto(dst []byte, m proto.Message) []byte {
	out, err := mesosjson.Append(dst, m)
	if err != nil {
		return append(dst, '{', '}')
	}
	return out
}

// labels writes labels as a bare list, unlike their message.
func (o *object) labels(l *mesos.Labels) {
	o.key("labels")
	o.buf = appendLabels(o.buf, l)
}

// appendLabels writes a list of labels. Tasks have so many that it is done by hand.
func appendLabels(dst []byte, l *mesos.Labels) []byte {
	dst = append(dst, '[')
	for i, label := range l.GetLabels() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(append(dst, `{"key":`...), label.GetKey())
		if label.Value != nil {
			dst = appendString(append(dst, `,"value":`...), label.GetValue())
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func (o *object) strings(k string, list []string) {
	o.key(k)
	o.buf = append(o.buf, '[')
	for i, s := range list {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendString(o.buf, s)
	}
	o.buf = append(o.buf, ']')
}

func (o *object) domain(d *mesos.DomainInfo) {
	if d == nil {
		return
	}
	o.key("domain")
	in := open(o.buf)
	if fd := d.FaultDomain; fd != nil {
		in.key("fault_domain")
		f := open(in.buf)
		f.key("region")
		f.buf = appendNamed(f.buf, fd.GetRegion().GetName())
		f.key("zone")
		f.buf = appendNamed(f.buf, fd.GetZone().GetName())
		in.buf = f.close()
	}
	o.buf = in.close()
}

func appendNamed(dst []byte, name string) []byte {
	o := open(dst)
	o.str("name", name)
	return o.close()
}

// flags writes the flags that have a value.
func (o *object) flags(list []flags.Pair) {
	o.key("flags")
	in := open(o.buf)
	for _, f := range list {
		in.name(f.Name)
		in.buf = appendString(in.buf, f.Value)
	}
	o.buf = in.close()
}
