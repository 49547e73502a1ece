package server

import (
	"net/http"

	"clusterd/api/mesos/v1/master"
	"clusterd/internal/authz"
	"clusterd/internal/files"
	"clusterd/internal/httpapi"
)

// logPath is where `/files` shows the log of a master (src/master/master.cpp).
const logPath = "/master/log"

// SetLogFile shows a file as this master's log; it may be called again when the log goes to
// another one.
func (s *Server) SetLogFile(path string) error {
	return s.files.AttachAuthorized(path, logPath, func(p *authz.Principal) bool {
		return s.policy.Load().Approver(p, authz.AccessMesosLogs).Allows("")
	})
}

// fileCall answers LIST_FILES and READ_FILE, which any master answers for itself.
func (s *Server) fileCall(r *http.Request, call *master.Call) (*master.Response, error) {
	p := httpapi.PrincipalOf(r)
	if call.GetType() == master.Call_LIST_FILES {
		infos, err := s.files.Browse(r.Context(), call.GetListFiles().GetPath(), p)
		return &master.Response{
			Type:      master.Response_LIST_FILES.Enum(),
			ListFiles: &master.Response_ListFiles{FileInfos: infos},
		}, files.CallError(err)
	}
	read := call.GetReadFile()
	size, data, err := s.files.Read(r.Context(), read.GetPath(), read.GetOffset(), read.Length, p)
	if data == nil {
		data = []byte{} // required
	}
	return &master.Response{
		Type:     master.Response_READ_FILE.Enum(),
		ReadFile: &master.Response_ReadFile{Size: new(size), Data: data},
	}, files.CallError(err)
}
