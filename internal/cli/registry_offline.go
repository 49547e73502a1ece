package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/registry/state"
)

// errNotBuilt is what the offline commands say until package registry has them.
var errNotBuilt = errors.New("work on a directory is not built yet")

func restoreDir(*cliv2.Context, env, []byte, *state.State) error { return errNotBuilt }

func inspectDir(*cliv2.Context, env) error { return errNotBuilt }

func runRecover(*cliv2.Context, env) error { return errNotBuilt }

// printJSON shows a value and a registry beside it.
func printJSON(e env, value any, registry []byte) error {
	b, err := json.Marshal(map[string]any{"directory": value, "registry": json.RawMessage(registry)})
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return writeIndented(e.out, b)
}
