package docker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/supervisor"
)

// Modes of the binary.
const (
	RunMode  = "docker-run"
	ExecMode = "docker-exec"
)

// isolator ties the engine's container to the one on this machine: it pulls the image,
// puts the runner into the place of the command, and removes what is left.
type isolator struct {
	isolation.BaseIsolator
	c   *Containerizer
	dir string

	mu sync.Mutex
	// wanted are launches under way; tasks says of every container whether it is a
	// command task's. Guarded by mu.
	wanted map[string]*launch
	tasks  map[string]bool
}

type launch struct {
	create *create
	force  bool
}

func newIsolator(c *Containerizer) (*isolator, error) {
	i := &isolator{c: c, dir: filepath.Join(c.options.dir(), "runs"), wanted: map[string]*launch{}, tasks: map[string]bool{}}
	return i, errors.Join(os.MkdirAll(i.dir, 0o700), os.MkdirAll(c.options.holdDir(), 0o700))
}

func (*isolator) Name() string { return "docker" }

func (*isolator) SupportsNesting() bool { return false }

// expect says what the next Prepare of a container is for: it gets a configuration that
// does not speak of Docker any more.
func (i *isolator) expect(config *isolation.ContainerConfig, c *create) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.wanted[isolation.Key(config.ID)] = &launch{create: c, force: config.ContainerInfo.GetDocker().GetForcePullImage()}
}

func (i *isolator) forget(id *mesos.ContainerID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.wanted, isolation.Key(id))
}

func (i *isolator) ofTask(id *mesos.ContainerID) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.tasks[isolation.Key(id)]
}

// Recover forgets runners of which nothing else is left: what they ran is cleared away.
func (i *isolator) Recover(_ context.Context, states []isolation.ContainerState, orphans []*mesos.ContainerID) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	there := map[string]bool{}
	for _, s := range states {
		i.tasks[isolation.Key(s.Config.ID)] = s.Config.Builtin != isolation.BuiltinNone
		there[i.file(s.Config.ID)] = true
	}
	for _, id := range orphans {
		there[i.file(id)] = true
	}
	files, err := filepath.Glob(filepath.Join(i.dir, "*.json"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if !there[f] {
			err = errors.Join(err, os.Remove(f))
		}
	}
	return err
}

// owned says whether a container of the engine has its runner's file.
func (i *isolator) owned(key string) bool {
	_, err := os.Stat(filepath.Join(i.dir, key+".json"))
	return err == nil
}

// Reached says whether an executor's container ran out of memory. Of a task it is the
// command executor that says so.
func (i *isolator) Reached(ctx context.Context, id *mesos.ContainerID) (isolation.Limitation, bool) {
	var none isolation.Limitation
	if i.ofTask(id) || !i.owned(isolation.Key(id)) {
		return none, false
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupPatience)
	defer cancel()
	found, err := i.c.engine.ContainerInspect(ctx, containerName(id), client.ContainerInspectOptions{})
	if err != nil || found.Container.State == nil || !found.Container.State.OOMKilled || found.Container.HostConfig == nil {
		return none, false
	}
	limit := found.Container.HostConfig.Memory
	return isolation.Limitation{
		Resources: []*mesos.Resource{{
			Name: new("mem"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(float64(limit) / (1 << 20))},
		}},
		Reason:  mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY,
		Message: outOfMemory(limit),
	}, true
}

func outOfMemory(limit int64) string {
	return fmt.Sprintf("Memory limit exceeded: Requested: %d MB", limit>>20)
}

func (i *isolator) file(id *mesos.ContainerID) string {
	return filepath.Join(i.dir, isolation.Key(id)+".json")
}

// Prepare pulls the image and says how the runner is started.
func (i *isolator) Prepare(ctx context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	i.mu.Lock()
	l := i.wanted[isolation.Key(config.ID)]
	i.tasks[isolation.Key(config.ID)] = config.Builtin != isolation.BuiltinNone
	i.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("docker: container %s: %w", isolation.Key(config.ID), isolation.ErrUnknownContainer)
	}
	if err := i.pull(ctx, l.create.Config.Image, l.force); err != nil {
		return nil, err
	}
	program, err := i.c.options.program()
	if err != nil {
		return nil, err
	}
	// Its environment may hold secrets.
	text, err := json.Marshal(run{Socket: i.c.options.Socket, Name: containerName(config.ID), Create: *l.create})
	if err == nil {
		err = os.WriteFile(i.file(config.ID), text, 0o600)
	}
	if err != nil {
		return nil, err
	}
	shell := false
	p := &isolation.Preparation{Command: &mesos.CommandInfo{
		Shell: &shell, Value: &program, Arguments: []string{"clusterd", RunMode, i.file(config.ID)},
	}}
	if config.Builtin != isolation.BuiltinNone {
		p.Env = map[string]string{
			supervisor.TaskReportsVariable:  "1",
			supervisor.CheckCommandVariable: strings.Join([]string{program, ExecMode, i.file(config.ID)}, "\n"),
		}
	}
	if i.c.options.MesosImage != "" {
		p.Birthplace = i.holder(config).start
	}
	return p, nil
}

// cleanupPatience is how long the end of a container waits for an engine that does not
// answer. Longer than that takes what goes on beside.
const cleanupPatience = 30 * time.Second

// Cleanup stops the engine's container, when the runner could not, and removes it
// after its time.
func (i *isolator) Cleanup(ctx context.Context, id *mesos.ContainerID) error {
	i.mu.Lock()
	delete(i.tasks, isolation.Key(id))
	i.mu.Unlock()
	if !i.owned(isolation.Key(id)) {
		return nil // there was none
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupPatience+i.c.options.StopTimeout)
	defer cancel()
	err := i.end(ctx, id)
	if err == nil || i.c.base.Err() != nil { // the next run of the agent does it
		return err
	}
	// It goes on where nobody looks after it, until the engine is back.
	i.c.wg.Go(func() { _ = i.end(i.c.base, id) })
	return err
}

// end stops the engine's container and forgets it, when the engine answers.
func (i *isolator) end(ctx context.Context, id *mesos.ContainerID) error {
	name := containerName(id)
	for {
		err := i.c.stop(ctx, name)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("docker: stop container %s: %w", name, err)
		}
		i.c.log.Warn().Err(err).Str("container_id", isolation.Key(id)).Msg("docker: stop container; trying again")
		select {
		case <-time.After(retryInterval):
		case <-ctx.Done():
		}
	}
	i.c.removeLater(name, i.c.options.RemoveDelay)
	// Also when this agent makes none: an earlier one may have.
	i.c.removeLater(holderName(id), 0)
	if err := os.Remove(i.file(id)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// pull brings the image in, unless it is there.
func (i *isolator) pull(ctx context.Context, image string, force bool) error {
	if !force {
		_, err := i.c.engine.ImageInspect(ctx, image)
		if err == nil {
			return nil
		}
		if !cerrdefs.IsNotFound(err) {
			return fmt.Errorf("docker: look for image %s: %w", image, err)
		}
	}
	auth, err := registryAuth(i.c.options.Config, image)
	if err != nil {
		return err
	}
	began := time.Now()
	pulling, err := i.c.engine.ImagePull(ctx, image, client.ImagePullOptions{RegistryAuth: auth})
	if err == nil {
		err = pulling.Wait(ctx)
	}
	if i.c.options.Pulled != nil {
		i.c.options.Pulled(time.Since(began), err)
	}
	if err != nil {
		return fmt.Errorf("docker: pull image %s: %w", image, err)
	}
	return nil
}

// registryAuth finds the credentials for an image's registry in a config.json.
func registryAuth(config, image string) (string, error) {
	if config == "" {
		return "", nil
	}
	var c struct {
		Auths map[string]struct {
			Auth, Username, Password, IdentityToken string
		} `json:"auths"`
	}
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return "", fmt.Errorf("--docker_config: %w", err)
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("%w: image %q: %w", ErrInvalid, image, err)
	}
	domain := reference.Domain(named)
	for server, a := range c.Auths {
		host := strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
		host, _, _ = strings.Cut(host, "/")
		if host != domain && (domain != "docker.io" || host != "index.docker.io") {
			continue
		}
		out := registry.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, ServerAddress: server}
		if a.Auth != "" {
			text, err := base64.StdEncoding.DecodeString(a.Auth)
			if err != nil {
				return "", fmt.Errorf("--docker_config: credentials of %s: %w", server, err)
			}
			out.Username, out.Password, _ = strings.Cut(string(text), ":")
		}
		b, err := json.Marshal(out)
		return base64.URLEncoding.EncodeToString(b), err
	}
	return "", nil
}
