package server

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/registry"
	"clusterd/server/core"
)

// firstWeights gives a registry that has no weights yet those of --weights; later the
// registry's hold (src/master/master.cpp, Master::_recover). What the core then proposes
// comes behind them; should they not be committed, this term is over anyway.
func (s *Server) firstWeights(l *registry.Leadership, recovered *core.Recovered) {
	if len(s.opts.Weights) == 0 || len(recovered.Weights) > 0 {
		return
	}
	update := new(clusterdv1.UpdateWeights)
	for _, role := range slices.Sorted(maps.Keys(s.opts.Weights)) {
		update.Weights = append(update.Weights, &mesos.WeightInfo{Role: &role, Weight: new(s.opts.Weights[role])})
	}
	payload, err := proto.Marshal(update)
	if err != nil {
		panic(err) // nothing that is required is missing
	}
	l.Propose(&clusterdv1.Command{Kind: clusterdv1.Command_UPDATE_WEIGHTS.Enum(), Payload: payload})
	recovered.Weights = maps.Clone(s.opts.Weights)
}
