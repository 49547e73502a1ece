package server

import (
	"net/http"
	"net/url"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesosjson"
	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
)

// formRoutes are the endpoints that take a form, which came before the operator API
// (src/master/http.cpp: Http::reserve, unreserve, createVolumes, destroyVolumes, teardown).
func (s *Server) formRoutes(rt *httpapi.Router) {
	form := func(path string, read func(url.Values) (*master.Call, error)) {
		rt.Handle(path, httpapi.In(authn.MasterReadwrite), func(w http.ResponseWriter, r *http.Request) error {
			return s.operateBody(w, r, []string{http.MethodPost}, func(body []byte) (*master.Call, error) {
				values, err := url.ParseQuery(string(body))
				if err != nil {
					return nil, httpapi.BadRequest("Unable to decode query string: %v", err)
				}
				return read(values)
			})
		})
	}
	form("/teardown", func(v url.Values) (*master.Call, error) {
		id, err := formValue(v, "frameworkId")
		return &master.Call{
			Type:     master.Call_TEARDOWN.Enum(),
			Teardown: &master.Call_Teardown{FrameworkId: &mesos.FrameworkID{Value: &id}},
		}, err
	})
	form("/reserve", func(v url.Values) (*master.Call, error) {
		agent, list, err := formResources(v, "resources", "Error parsing ")
		if err != nil {
			return nil, err
		}
		call := &master.Call_ReserveResources{AgentId: agent, Resources: list}
		if v.Has("source") {
			call.Source, err = formList(v, "source", "Error parsing ")
		}
		return &master.Call{Type: master.Call_RESERVE_RESOURCES.Enum(), ReserveResources: call}, err
	})
	form("/unreserve", func(v url.Values) (*master.Call, error) {
		agent, list, err := formResources(v, "resources", "Error in parsing ")
		return &master.Call{
			Type:               master.Call_UNRESERVE_RESOURCES.Enum(),
			UnreserveResources: &master.Call_UnreserveResources{AgentId: agent, Resources: list},
		}, err
	})
	form("/create-volumes", func(v url.Values) (*master.Call, error) {
		agent, list, err := formResources(v, "volumes", "Error in parsing ")
		return &master.Call{
			Type:          master.Call_CREATE_VOLUMES.Enum(),
			CreateVolumes: &master.Call_CreateVolumes{AgentId: agent, Volumes: list},
		}, err
	})
	form("/destroy-volumes", func(v url.Values) (*master.Call, error) {
		agent, list, err := formResources(v, "volumes", "Error in parsing ")
		return &master.Call{
			Type:           master.Call_DESTROY_VOLUMES.Enum(),
			DestroyVolumes: &master.Call_DestroyVolumes{AgentId: agent, Volumes: list},
		}, err
	})
}

// formValue is a value that a form must have.
func formValue(v url.Values, name string) (string, error) {
	if !v.Has(name) {
		return "", httpapi.BadRequest("Missing '%s' query parameter in the request body", name)
	}
	return v.Get(name), nil
}

// formResources reads the agent and a list of resources of a form; complaint begins what is
// said of a list that does not parse.
func formResources(v url.Values, name, complaint string) (*mesos.AgentID, []*mesos.Resource, error) {
	id, err := formValue(v, "slaveId")
	if err != nil {
		return nil, nil, err
	}
	list, err := formList(v, name, complaint)
	return &mesos.AgentID{Value: &id}, list, err
}

func formList(v url.Values, name, complaint string) ([]*mesos.Resource, error) {
	text, err := formValue(v, name)
	if err != nil {
		return nil, err
	}
	list, err := mesosjson.UnmarshalList[mesos.Resource]([]byte(text))
	if err != nil {
		return nil, httpapi.BadRequest("%s'%s' query parameter in the request body: %v", complaint, name, err)
	}
	return list, nil
}
