package render

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/quota"
	"clusterd/api/mesosjson"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// Format is one of the two encodings of the v1 API.
type Format int

// The formats.
const (
	JSON Format = iota
	Protobuf
)

// Operator writes the response to a call that reads the view; false says that
// calls of this type are none of it.
func Operator(f Format, v *core.View, m *Master, t master.Call_Type, viewer *authz.Viewer) (body Body, ok bool, err error) {
	who := sight{viewer}
	switch t {
	case master.Call_GET_STATE:
		return f.envelope(master.Response_GET_STATE, 9, f.state(v, who)), true, nil
	case master.Call_GET_TASKS:
		return f.envelope(master.Response_GET_TASKS, 13, f.tasks(v, who)), true, nil
	case master.Call_GET_EXECUTORS:
		return f.envelope(master.Response_GET_EXECUTORS, 12, f.executors(v, who)), true, nil
	case master.Call_GET_FRAMEWORKS:
		return f.envelope(master.Response_GET_FRAMEWORKS, 11, f.frameworks(v, who)), true, nil
	case master.Call_GET_AGENTS:
		return f.envelope(master.Response_GET_AGENTS, 10, f.agents(v, who)), true, nil
	default:
	}
	r := small(v, m, t, who)
	if r == nil {
		return nil, false, nil
	}
	var b []byte
	if f == Protobuf {
		b, err = proto.Marshal(r)
	} else {
		b, err = mesosjson.Marshal(r)
	}
	if err != nil {
		return nil, true, fmt.Errorf("encode the response to %s: %w", t, err)
	}
	return Body{b}, true, nil
}

// small makes the responses that are never large.
func small(v *core.View, m *Master, t master.Call_Type, who sight) *master.Response {
	switch t {
	case master.Call_GET_OPERATIONS:
		get := &master.Response_GetOperations{}
		for o := range v.Operations.Values() {
			if !who.operation(v, o) {
				continue
			}
			get.Operations = append(get.Operations, o.Proto())
		}
		return &master.Response{Type: master.Response_GET_OPERATIONS.Enum(), GetOperations: get}
	case master.Call_GET_ROLES:
		get := &master.Response_GetRoles{}
		for _, r := range roles(v, m.RoleWhitelist, who) {
			get.Roles = append(get.Roles, r.proto())
		}
		return &master.Response{Type: master.Response_GET_ROLES.Enum(), GetRoles: get}
	case master.Call_GET_WEIGHTS:
		r := &master.Response{Type: master.Response_GET_WEIGHTS.Enum()}
		for name, w := range v.Weights.All() {
			if !who.role(name) {
				continue
			}
			if r.GetWeights == nil {
				r.GetWeights = &master.Response_GetWeights{}
			}
			r.GetWeights.WeightInfos = append(r.GetWeights.WeightInfos,
				&mesos.WeightInfo{Role: new(name), Weight: new(w)})
		}
		return r
	case master.Call_GET_QUOTA:
		return &master.Response{
			Type:     master.Response_GET_QUOTA.Enum(),
			GetQuota: &master.Response_GetQuota{Status: quotaStatus(v, who)},
		}
	case master.Call_GET_MAINTENANCE_SCHEDULE:
		return &master.Response{
			Type:                   master.Response_GET_MAINTENANCE_SCHEDULE.Enum(),
			GetMaintenanceSchedule: &master.Response_GetMaintenanceSchedule{Schedule: v.Schedule},
		}
	case master.Call_GET_MAINTENANCE_STATUS:
		return &master.Response{
			Type:                 master.Response_GET_MAINTENANCE_STATUS.Enum(),
			GetMaintenanceStatus: &master.Response_GetMaintenanceStatus{Status: maintenanceStatus(v, who)},
		}
	case master.Call_GET_MASTER:
		return &master.Response{Type: master.Response_GET_MASTER.Enum(), GetMaster: &master.Response_GetMaster{
			MasterInfo:  m.Info,
			StartTime:   new(Seconds(m.Start)),
			ElectedTime: new(Seconds(m.Elected)),
		}}
	default:
		return nil
	}
}

// proto is the role as GET_ROLES shows it: only these resources are sure to be
// scalars.
func (r *role) proto() *mesos.Role {
	p := &mesos.Role{Name: &r.name, Weight: &r.weight}
	for _, id := range r.frameworks {
		p.Frameworks = append(p.Frameworks, &mesos.FrameworkID{Value: new(id)})
	}
	for _, e := range r.allocated.plus(r.offered) {
		switch e.name {
		case "cpus", "disk", "gpus", "mem":
			p.Resources = append(p.Resources, scalar(e.name, float64(e.milli)/1000))
		}
	}
	return p
}

func scalar(name string, value float64) *mesos.Resource {
	return &mesos.Resource{
		Name:   new(name),
		Type:   mesos.Value_SCALAR.Enum(),
		Scalar: &mesos.Value_Scalar{Value: new(value)},
	}
}

func quotaOf(v *core.View, role string) *quota.QuotaConfig {
	q, _ := v.Quotas.Get(role)
	return q
}

func quotaStatus(v *core.View, who sight) *quota.QuotaStatus {
	s := &quota.QuotaStatus{}
	for name, q := range v.Quotas.All() {
		if !who.quota(name) {
			continue
		}
		info := &quota.QuotaInfo{Role: new(name)}
		for _, res := range sortedKeys(q.GetGuarantees()) {
			info.Guarantee = append(info.Guarantee, scalar(res, q.Guarantees[res].GetValue()))
		}
		s.Infos = append(s.Infos, info)
		s.Configs = append(s.Configs, q)
	}
	return s
}
