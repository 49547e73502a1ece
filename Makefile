# clusterd: `make run` and `make test` are all that a newcomer needs.
#
# The binary embeds two tiny programs that live beside every container
# (isolation/embedded); `go build` alone works too and re-executes itself for
# them instead, which costs a few milliseconds more per task.

SHELL       := /bin/bash
GO          ?= go
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GIT_SHA     := $(shell git rev-parse HEAD 2>/dev/null)
GIT_BRANCH  := $(shell git symbolic-ref -q HEAD 2>/dev/null)
BUILD_TIME  := $(shell git log -1 --format=%ct 2>/dev/null)
LDFLAGS      = -s -w -X clusterd/internal/version.gitSHA=$(GIT_SHA) -X clusterd/internal/version.gitBranch=$(GIT_BRANCH) -X clusterd/internal/version.buildTime=$(BUILD_TIME)
GOFLAGS_TINY = -trimpath -ldflags='-s -w'
TOOLS       := $(CURDIR)/bin/tools
EMBEDDED    := isolation/embedded

export CGO_ENABLED = 0

.PHONY: all build run test race fuzz sim lint fmt generate conformance bench bench-allocator bench-ha bench-api bench-agent soak-ha clean embedded ui ui-test bench-ui chromium man install screenshots vm vm-files docker-engine cni-plugins shells

all: build

build: embedded ui ## build bin/clusterd, one static binary
	$(GO) build -trimpath -ldflags='$(LDFLAGS)' -o bin/clusterd .

embedded: ## build the programs that the binary embeds
	$(GO) build $(GOFLAGS_TINY) -o $(EMBEDDED)/ ./internal/bin/...

ui: ## build the web UI that the binary embeds, if npm is there
	@scripts/ui.sh

run: build ## start a cluster on this machine, run an example task, serve until ^C
	@bin/clusterd dev --example $(ARGS)

# Tests of these start whole clusters, or a machine: each has the processors to itself.
CLUSTERED := ./internal/bench/... ./internal/browser ./internal/cli/... ./internal/e2e ./internal/netcluster ./internal/vmtest

test: embedded ui ui-test conformance vm-files docker-engine cni-plugins chromium shells ## pass all tests; installs what they need
	@failed=; \
	$(GO) test $$(comm -23 <($(GO) list ./... | sort) <($(GO) list $(CLUSTERED) | sort)) $(TESTFLAGS) || failed=1; \
	CLUSTERD_VM_REQUIRED=$(CI) $(GO) test -p 1 -timeout 20m $(CLUSTERED) $(TESTFLAGS) || failed=1; \
	test -z "$$failed"

vm-files: ## install what the tests in a virtual machine need
	@scripts/vm.sh

docker-engine: ## install the Docker engine that tests start
	@scripts/docker.sh

ui-test: ui ## test the logic of the web UI
	@! command -v npm >/dev/null || npm --prefix ui test --silent

chromium: ## install the browser that tests drive
	@scripts/chromium.sh

shells: ## install the shells whose completion is tested
	@scripts/shells.sh

cni-plugins: ## install the CNI plugins that tests run
	@scripts/cni.sh

vm: vm-files ## run the tests of PKG, or those that RUN matches, in a virtual machine with cgroup v2
	CLUSTERD_VM_REQUIRED=1 $(GO) test ./internal/vmtest -count=1 -v -run 'TestVM$$' $(if $(PKG),-vm.pkg=$(PKG)) $(if $(RUN),-vm.run='$(RUN)') $(TESTFLAGS)

conformance: ## run public clients, in modules of their own, against a real clusterd
	@$(MAKE) --no-print-directory build
	cd internal/conformance && CLUSTERD=$(CURDIR)/bin/clusterd $(GO) test ./... $(TESTFLAGS)

race: embedded ## run the tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race ./...

FUZZTIME ?= 30s
fuzz: embedded ## fuzz every parser for FUZZTIME each
	@scripts/fuzz.sh $(FUZZTIME)

bench: build ## print the table of measured figures beside their targets
	@$(GO) run ./internal/bench -clusterd bin/clusterd $(ARGS)

bench-allocator: ## print the allocator's figures beside Mesos's; ARGS=-full for the whole grid
	@$(GO) run ./internal/bench/allocator $(ARGS)

bench-ha: build ## print how fast masters fail over and agents come back; ARGS="-agents 2000 -rounds 5" for less
	@$(GO) run ./internal/bench/ha -clusterd bin/clusterd $(ARGS)

bench-api: build ## print how fast a large cluster is read, and what the readers cost it; ARGS="-agents 1000 -tasks 10000" for less
	@$(GO) run ./internal/bench/api -clusterd bin/clusterd $(ARGS)

bench-ui: build chromium ## print how the web UI bears a large cluster, in a browser; ARGS="-agents 1000 -tasks 10000" for less
	@$(GO) run ./internal/bench/api -clusterd bin/clusterd -only ui $(ARGS)

bench-agent: build ## print what containers cost on one agent (needs root); ARGS="-containers 100" for less
	@$(GO) run ./internal/bench/agent -clusterd bin/clusterd $(ARGS)
	$(GO) test ./isolation/setup ./isolation/images ./agent/fetcher -run '^$$' -bench 'Launch|Pull|Cache' -benchtime=3x

SOAK ?= 10m
soak-ha: build ## do harm to masters, agents and the network between them for SOAK, under a workload
	CLUSTERD=$(CURDIR)/bin/clusterd $(GO) test ./internal/netcluster -run TestSoak -soak=$(SOAK) -timeout 0 -v

SEEDS ?= 2000
sim: ## simulate SEEDS clusters, ten virtual minutes each, under faults; FIRST=N begins at another seed
	$(GO) test ./internal/sim -run 'TestSim$$' -v -seeds=$(SEEDS) -first=$(or $(FIRST),1) -timeout 0

lint: $(TOOLS)/golangci-lint ## vet, format and lint
	$(GO) vet ./...
	$(TOOLS)/golangci-lint run ./...

$(TOOLS)/golangci-lint:
	@echo "installing golangci-lint (once; some minutes)"
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

fmt: $(TOOLS)/golangci-lint ## format all Go files
	$(TOOLS)/golangci-lint fmt ./...

man: build ## write the manual pages into bin/man
	bin/clusterd man bin/man

PREFIX ?= /usr/local
install: man ## install the binary, manual pages and completion below PREFIX
	install -D -m 755 bin/clusterd $(DESTDIR)$(PREFIX)/bin/clusterd
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 644 bin/man/* $(DESTDIR)$(PREFIX)/share/man/man1/
	bin/clusterd completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/clusterd
	install -d $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	bin/clusterd completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_clusterd
	bin/clusterd completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/clusterd.fish

screenshots: build chromium ## make the pictures of the web UI in docs/images
	CLUSTERD=$(CURDIR)/bin/clusterd $(GO) test ./internal/browser -run TestScreenshots -count=1 -screenshots=$(CURDIR)/docs/images -v

generate: ## rebuild generated Go from api/**/*.proto
	$(GO) generate ./api

clean:
	rm -rf bin ui/node_modules
	find ui/dist -mindepth 1 ! -name .keep -delete
	find $(EMBEDDED) -type f ! -name README.md -delete
