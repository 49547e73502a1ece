package server

import (
	"net/http"
	"strings"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/quota"
	"clusterd/api/mesosjson"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/render"
)

// shareRoutes are the endpoints about weights and quotas that came before the operator
// API (src/master/weights_handler.cpp, src/master/quota_handler.cpp).
func (s *Server) shareRoutes(rt *httpapi.Router) {
	weights := s.read("weights", func(v *core.View, _ *render.Master, who *authz.Viewer, _ *http.Request) render.Body {
		return render.Weights(v, who)
	})
	rt.Handle("/weights", httpapi.In(authn.MasterReadwrite), func(w http.ResponseWriter, r *http.Request) error {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return weights(w, r)
		}
		return s.operateBody(w, r, []string{http.MethodGet, http.MethodPut}, func(body []byte) (*master.Call, error) {
			infos, err := mesosjson.UnmarshalList[mesos.WeightInfo](body)
			if err != nil {
				return nil, httpapi.BadRequest("Failed to parse update weights request JSON '%s': %v", body, err)
			}
			return &master.Call{
				Type:          master.Call_UPDATE_WEIGHTS.Enum(),
				UpdateWeights: &master.Call_UpdateWeights{WeightInfos: infos},
			}, nil
		})
	})
	quotas := s.read("quota", func(v *core.View, _ *render.Master, who *authz.Viewer, _ *http.Request) render.Body {
		return render.Quota(v, who)
	})
	rt.Handle("/quota", httpapi.In(authn.MasterReadwrite), func(w http.ResponseWriter, r *http.Request) error {
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			return quotas(w, r)
		case http.MethodDelete:
			return s.removeQuota(w, r)
		}
		return s.operateBody(w, r, []string{http.MethodGet, http.MethodPost, http.MethodDelete}, func(body []byte) (*master.Call, error) {
			m := new(quota.QuotaRequest)
			if err := mesosjson.Unmarshal(body, m); err != nil {
				return nil, httpapi.BadRequest("Failed to parse set quota request JSON '%s': %v", body, err)
			}
			return &master.Call{Type: master.Call_SET_QUOTA.Enum(), SetQuota: &master.Call_SetQuota{QuotaRequest: m}}, nil
		})
	})
}

// removeQuota is DELETE /quota/<role>; the role may have slashes.
func (s *Server) removeQuota(w http.ResponseWriter, r *http.Request) error {
	t, err := s.leading(r)
	if err != nil {
		return err
	}
	role := httpapi.Rest(r)
	if role == "" {
		return httpapi.BadRequest("Failed to parse remove quota request for path '/master/quota': expected 3 tokens, found 2 tokens")
	}
	a, err := s.carryOut(t, r, &master.Call{
		Type:        master.Call_REMOVE_QUOTA.Enum(),
		RemoveQuota: &master.Call_RemoveQuota{Role: &role},
	})
	if err != nil {
		return err
	}
	if what, ok := strings.CutPrefix(a.body, core.RemoveQuotaFailed); ok {
		a.body = "Failed to remove quota for path '/master/quota/" + role + "': " + what
	}
	return a.write(w)
}
