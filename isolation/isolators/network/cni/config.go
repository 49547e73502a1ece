package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrUnknownNetwork says that no configuration is for a network of that name.
	ErrUnknownNetwork = errors.New("unknown CNI network")
	// ErrBadConfig says that a network's configuration cannot be used.
	ErrBadConfig = errors.New("bad CNI network configuration")
)

// portMapper is the type of Mesos's own plugin, and reserved is what it, and others,
// find a container's NetworkInfo under in "args".
const (
	portMapper = "mesos-cni-port-mapper"
	reserved   = "org.apache.mesos"
)

// findConfig reads the configuration of a network: of all files in the directory, in
// order of name, the first one with that network's name. The directory is read at
// each use: networks come and go while the agent runs.
func (c *CNI) findConfig(name string) (map[string]any, error) {
	if c.o.ConfigDir == "" {
		return nil, fmt.Errorf("%w %q: the agent has no --network_cni_config_dir", ErrUnknownNetwork, name)
	}
	entries, err := os.ReadDir(c.o.ConfigDir) // sorted
	if err != nil {
		return nil, fmt.Errorf("list CNI network configurations: %w", err)
	}
	var found map[string]any
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) {
			continue
		}
		path := filepath.Join(c.o.ConfigDir, e.Name())
		config, err := readConfig(path)
		switch {
		case err != nil:
			c.o.Log.Error().Err(err).Str("path", path).Msg("skip CNI network configuration")
		case config["name"] != name:
		case found != nil:
			c.o.Log.Error().Str("path", path).Str("network", name).Msg("skip second configuration of a CNI network")
		default:
			found = config
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w %q: no configuration in %s", ErrUnknownNetwork, name, c.o.ConfigDir)
	}
	return found, nil
}

func readConfig(path string) (map[string]any, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var config map[string]any
	if err := json.Unmarshal(b, &config); err != nil {
		return nil, err
	}
	return config, nil
}

// listFor makes the list of plugins that attaches a container to a network, whatever
// form the file has, and says in it what the framework asked for: it is kept with
// the container, so that DEL does what ADD did even when the file has changed.
func (c *CNI) listFor(info *mesos.NetworkInfo) ([]byte, error) {
	name := info.GetName()
	if err := utils.ValidateNetworkName(name); err != nil {
		return nil, fmt.Errorf("%w %q: %s", ErrUnknownNetwork, name, err.Msg)
	}
	config, err := c.findConfig(name)
	if err != nil {
		return nil, err
	}
	if err := asList(config); err != nil {
		return nil, fmt.Errorf("%w of network %q: %w", ErrBadConfig, name, err)
	}
	own, err := mesosjson.Marshal(info)
	if err != nil {
		return nil, err
	}
	plugins, _ := config["plugins"].([]any)
	for _, p := range plugins {
		plugin, _ := p.(map[string]any)
		kind, _ := plugin["type"].(string)
		if kind == "" {
			return nil, fmt.Errorf("%w of network %q: a plugin has no type", ErrBadConfig, name)
		}
		if err := c.havePlugins(plugin, kind); err != nil {
			return nil, fmt.Errorf("network %q: %w", name, err)
		}
		if err := addArgs(plugin, own); err != nil {
			return nil, fmt.Errorf("%w of network %q: %w", ErrBadConfig, name, err)
		}
	}
	b, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	if _, err := libcni.NetworkConfFromBytes(b); err != nil {
		return nil, fmt.Errorf("%w of network %q: %w", ErrBadConfig, name, err)
	}
	return b, nil
}

// havePlugins looks for a plugin, and its IPAM plugin, before anything is started.
func (c *CNI) havePlugins(plugin map[string]any, kind string) error {
	kinds := []string{kind}
	if ipam, ok := plugin["ipam"].(map[string]any); ok {
		if kind, ok := ipam["type"].(string); ok && kind != "" {
			kinds = append(kinds, kind)
		}
	}
	for _, kind := range kinds {
		if _, err := invoke.FindInPath(kind, c.o.PluginDirs); err != nil {
			return fmt.Errorf("plugin %q: %w", kind, err)
		}
	}
	return nil
}

// asList changes the configuration of a single plugin into a list of one.
func asList(config map[string]any) error {
	if plugins, ok := config["plugins"]; ok {
		if list, ok := plugins.([]any); !ok || len(list) == 0 {
			return errors.New("no plugins in the list")
		}
		return nil
	}
	plugin := make(map[string]any, len(config))
	for k, v := range config {
		if k == "name" || k == "cniVersion" {
			continue
		}
		plugin[k] = v
		delete(config, k)
	}
	if plugin["type"] == portMapper {
		return asPortMap(config, plugin)
	}
	config["plugins"] = []any{plugin}
	return nil
}

// asPortMap changes the configuration of Mesos's port mapper, which runs another
// plugin and then writes rules of its own for iptables, into that plugin followed
// by portmap, which does the same and is maintained (.../network/cni/plugins/
// port_mapper/port_mapper.cpp). Its "chain" has no use then: portmap has one.
func asPortMap(config, plugin map[string]any) error {
	delegate, ok := plugin["delegate"].(map[string]any)
	if !ok {
		return fmt.Errorf("%s has no delegate", portMapper)
	}
	delegate = cloneWithout(delegate, "name", "cniVersion")
	if args, ok := plugin["args"]; ok {
		delegate["args"] = args
	}
	portmap := map[string]any{
		"type":         "portmap",
		"capabilities": map[string]any{"portMappings": true},
		"snat":         true,
	}
	if excluded, ok := plugin["excludeDevices"].([]any); ok && len(excluded) > 0 {
		var conditions []any
		for _, device := range excluded {
			conditions = append(conditions, "!", "-i", device)
		}
		// iptables takes an interface once only; Mesos's plugin names the last.
		portmap["conditionsV4"] = conditions[len(conditions)-3:]
	}
	// A chain hands results on, which 0.3.0 brought.
	v, _ := config["cniVersion"].(string)
	if old, err := version.GreaterThan("0.3.0", v); v == "" || err != nil || old {
		config["cniVersion"] = "0.3.1"
	}
	config["plugins"] = []any{delegate, portmap}
	return nil
}

func cloneWithout(m map[string]any, keys ...string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if !slices.Contains(keys, k) {
			out[k] = v
		}
	}
	return out
}

// addArgs puts the container's NetworkInfo where Mesos's plugins look for it.
func addArgs(plugin map[string]any, networkInfo []byte) error {
	args, ok := plugin["args"].(map[string]any)
	if !ok {
		if plugin["args"] != nil {
			return errors.New("args is not an object")
		}
		args = make(map[string]any)
		plugin["args"] = args
	}
	if _, ok := args[reserved]; ok {
		return fmt.Errorf("args must not have %q", reserved)
	}
	args[reserved] = map[string]any{"network_info": json.RawMessage(networkInfo)}
	return nil
}

// capabilityArgs are what plugins get in runtimeConfig if they declare to be
// capable of it.
func capabilityArgs(info *mesos.NetworkInfo) map[string]any {
	if len(info.GetPortMappings()) == 0 {
		return nil
	}
	mappings := make([]any, 0, len(info.GetPortMappings()))
	for _, m := range info.GetPortMappings() {
		protocol := strings.ToLower(m.GetProtocol())
		if protocol == "" {
			protocol = "tcp"
		}
		mappings = append(mappings, map[string]any{
			"hostPort": m.GetHostPort(), "containerPort": m.GetContainerPort(), "protocol": protocol,
		})
	}
	return map[string]any{"portMappings": mappings}
}
