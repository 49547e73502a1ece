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
	auth   *mesos.Secret
}

func newIsolator(c *Containerizer) (*isolator, error) {
	i := &isolator{c: c, dir: filepath.Join(c.options.dir(), "runs"), wanted: map[string]*launch{}, tasks: map[string]bool{}}
	return i, os.MkdirAll(i.dir, 0o700)
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

func (i *isolator) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, s := range states {
		i.tasks[isolation.Key(s.Config.ID)] = s.Config.Builtin != isolation.BuiltinNone
	}
	return nil
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
	return p, nil
}

// Cleanup stops the engine's container, when the runner could not, and removes it
// after its time.
func (i *isolator) Cleanup(ctx context.Context, id *mesos.ContainerID) error {
	i.mu.Lock()
	delete(i.tasks, isolation.Key(id))
	i.mu.Unlock()
	if err := os.Remove(i.file(id)); errors.Is(err, fs.ErrNotExist) {
		return nil // there was none
	} else if err != nil {
		return err
	}
	name := containerName(id)
	err := i.c.stop(ctx, name)
	for tries := 0; err != nil && !cerrdefs.IsNotFound(err) && tries < 30 && ctx.Err() == nil; tries++ {
		// An engine that restarts comes back; a container that nobody stops goes on.
		i.c.log.Warn().Err(err).Str("container_id", isolation.Key(id)).Msg("docker: stop container; trying again")
		if !i.c.sleep(time.Second) {
			break
		}
		err = i.c.stop(ctx, name)
	}
	i.c.removeLater(name, i.c.options.RemoveDelay)
	return err
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
	pulling, err := i.c.engine.ImagePull(ctx, image, client.ImagePullOptions{RegistryAuth: auth})
	if err == nil {
		err = pulling.Wait(ctx)
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
