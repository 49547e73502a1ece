package render

import (
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// Quota is /quota: all quotas that the viewer sees.
func Quota(v *core.View, viewer *authz.Viewer) Body {
	return messageBody(quotaStatus(v, sight{viewer}))
}

// Weights is /weights: a bare list of those that the viewer sees.
func Weights(v *core.View, viewer *authz.Viewer) Body {
	who := sight{viewer}
	b := []byte{'['}
	for role, w := range v.Weights.All() {
		if !who.role(role) {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = appendProto(b, &mesos.WeightInfo{Role: &role, Weight: &w})
	}
	return Body{append(b, ']')}
}
