package netcluster

import "testing"

// TestPartition cuts the network between masters in every way.
func TestPartition(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{Masters: 3, Agents: 3})
	scenarios(t, c, WorkloadOptions{Long: 9, Short: 3},
		scenario{"leader alone", cutLeader},
		scenario{"leader cut from masters", cutLeaderFromMasters},
		scenario{"deaf leader", deafLeader},
		scenario{"silent leader", silentLeader},
		scenario{"every master alone", scatter},
		scenario{"slow network", slowNetwork},
	)
}

// TestKill ends and freezes processes in every way.
func TestKill(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{Masters: 3, Agents: 3})
	scenarios(t, c, WorkloadOptions{Long: 9, Short: 3},
		scenario{"kill the leader", killLeader},
		scenario{"stop the leader", stopLeader},
		scenario{"lose the majority", loseMajority},
		scenario{"kill all masters", killAllMasters},
		scenario{"restart masters", restartMasters},
		scenario{"restart agents", restartAgents},
	)
}
