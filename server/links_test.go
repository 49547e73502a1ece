package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/link"
	"clusterd/internal/metrics"
	"clusterd/server/events"
)

// An agent that had begun to register when the leadership ended hears of that: it must
// not wait for an answer on a link that nobody minds, while another leads.
func TestEndOfTermReachesAgentsThatRegister(t *testing.T) {
	for name, late := range map[string]bool{"its message waits": false, "its message comes later": true} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			tm := &term{inputs: make(chan envelope, 10), done: make(chan struct{}), ctx: ctx, cancel: cancel, ended: errors.New("over"), events: events.New(events.Options{})}
			tm.tunnels = newTunnels(tm.done, metrics.NewRegistry())
			s := &Server{}
			links := link.NewServer(link.Options{}, func(c *link.MasterConn, r *http.Request) {
				s.serveLink(c, r.WithContext(context.WithValue(context.Background(), termKey{}, tm)))
			})
			srv := httptest.NewServer(links)
			t.Cleanup(srv.Close)
			t.Cleanup(func() { _ = links.Stop(context.Background(), "the test is over") })
			conn, err := link.Dial(t.Context(), []string{srv.URL}, link.DialOptions{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.CloseNow)
			if late {
				tm.finish()
			}
			err = conn.Send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: &clusterdv1.RegisterAgent{
				LinkVersion: proto.Uint32(link.Version), AgentInfo: agentInfo(), BuildVersion: new("1.11.0"), Ip: new("127.0.0.1"),
			}}})
			if err != nil {
				t.Fatal(err)
			}
			if !late {
				eventually(t, "message of the agent", func() bool { return len(tm.inputs) == 1 })
				tm.finish()
			}
			got := make(chan error, 1)
			go func() {
				_, err := conn.Receive()
				got <- err
			}()
			eventually(t, "end of the link", func() bool { return len(got) == 1 })
			if err := <-got; err == nil {
				t.Fatal("the agent got a message, want the end of its link")
			}
		})
	}
}
