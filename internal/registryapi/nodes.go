package registryapi

// Autopilot is how the leader finds a member, itself among them.
type Autopilot struct {
	ID      string `json:"id"`
	Healthy bool   `json:"healthy"`
	// Since is when that changed last, in seconds since 1970.
	Since float64 `json:"since,omitempty"`
	// LastContactMS is how long ago it answered; negative: it never did.
	LastContactMS int64 `json:"last_contact_ms"`
	// LastIndex is how far its log goes, as it said last.
	LastIndex uint64 `json:"last_index"`
}

// Gossip is what gossip knows, as this master sees it.
type Gossip struct {
	// Address is where this master gossips.
	Address string `json:"address"`
	// Masters and Agents are alive, this master included; DeadMasters are remembered.
	Masters     int `json:"masters"`
	Agents      int `json:"agents"`
	DeadMasters int `json:"dead_masters"`
	// Refused are nodes of other clusters or protocols that were met lately, Duplicates names
	// that more than one live node bears.
	Refused    int `json:"refused"`
	Duplicates int `json:"duplicates"`
	// Score is zero as long as this master keeps up with the gossip.
	Score int `json:"score"`
	// Nodes are masters first, then dead agents, then others, at most MaxNodes; LeftOut says
	// how many are not in the list.
	Nodes   []Node `json:"nodes"`
	LeftOut int    `json:"left_out,omitempty"`
}

// MaxNodes is how many nodes are listed at most: agents may be ten thousand.
const MaxNodes = 200

// Node is a master or an agent in gossip.
type Node struct {
	Name string `json:"name"`
	// Role is "master" or "agent".
	Role    string `json:"role"`
	Address string `json:"address"`
	HTTP    string `json:"http,omitempty"`
	Alive   bool   `json:"alive"`
	// Since is when it was first seen alive, or found dead, in seconds since 1970.
	Since  float64 `json:"since,omitempty"`
	Build  string  `json:"build,omitempty"`
	Region string  `json:"region,omitempty"`
	Zone   string  `json:"zone,omitempty"`
}
