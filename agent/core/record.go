package core

import (
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// Record is one change of the checkpoint.
type Record interface{ record() }

// PutAgent keeps the agent's description, with the id the master gave it.
type PutAgent struct{ Info *mesos.AgentInfo }

// ForgetAgent drops everything but where the masters are: the next run is a new
// agent.
type ForgetAgent struct{}

// PutCluster keeps the cluster that the agent is of and its masters; ForgetAgent
// leaves it.
type PutCluster struct{ Cluster *clusterdv1.ClusterRecord }

// PutResources keeps the resources that operations have changed.
type PutResources struct{ Resources *clusterdv1.ResourcesRecord }

// PutDrain keeps that the agent drains; nil: no longer.
type PutDrain struct{ Config *mesos.DrainConfig }

// PutFramework keeps a framework.
type PutFramework struct{ Info *mesos.FrameworkInfo }

// DeleteFramework drops a framework.
type DeleteFramework struct{ FrameworkID string }

// PutExecutor keeps a run of an executor.
type PutExecutor struct{ Executor *clusterdv1.ExecutorRecord }

// DeleteExecutor drops an executor.
type DeleteExecutor struct{ FrameworkID, ExecutorID string }

// PutTask keeps a task.
type PutTask struct{ Task *clusterdv1.TaskRecord }

// DeleteTask drops a task and its updates.
type DeleteTask struct{ FrameworkID, TaskID string }

// AppendUpdate keeps the next step of a task's stream of updates; Seq grows by
// one with each.
type AppendUpdate struct {
	FrameworkID, TaskID string
	Seq                 uint64
	Update              *clusterdv1.UpdateRecord
}

// PutOperation keeps an operation, DeleteOperation drops it.
type PutOperation struct{ Operation *clusterdv1.OperationRecord }

// DeleteOperation is described at PutOperation.
type DeleteOperation struct{ UUID string }

func (PutAgent) record()        {}
func (ForgetAgent) record()     {}
func (PutCluster) record()      {}
func (PutResources) record()    {}
func (PutDrain) record()        {}
func (PutFramework) record()    {}
func (DeleteFramework) record() {}
func (PutExecutor) record()     {}
func (DeleteExecutor) record()  {}
func (PutTask) record()         {}
func (DeleteTask) record()      {}
func (AppendUpdate) record()    {}
func (PutOperation) record()    {}
func (DeleteOperation) record() {}

// Checkpoint is all that was kept, each list in order of its keys.
type Checkpoint struct {
	Agent *mesos.AgentInfo
	// Cluster may be there without Agent.
	Cluster    *clusterdv1.ClusterRecord
	Resources  *clusterdv1.ResourcesRecord
	Drain      *mesos.DrainConfig
	Frameworks []*mesos.FrameworkInfo
	Executors  []*clusterdv1.ExecutorRecord
	Tasks      []TaskCheckpoint
	Operations []*clusterdv1.OperationRecord
}

// TaskCheckpoint is a task with the steps of its stream of updates, in order.
type TaskCheckpoint struct {
	Record  *clusterdv1.TaskRecord
	Updates []*clusterdv1.UpdateRecord
	// NextSeq is the Seq of the next step.
	NextSeq uint64
}
