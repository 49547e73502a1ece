package render

import (
	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// Quota is /quota: all quotas.
func Quota(v *core.View) Body { return messageBody(quotaStatus(v)) }

// Weights is /weights: a bare list.
func Weights(v *core.View) Body {
	b := []byte{'['}
	for role, w := range v.Weights.All() {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = appendProto(b, &mesos.WeightInfo{Role: &role, Weight: &w})
	}
	return Body{append(b, ']')}
}
