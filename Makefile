# Everything a newcomer needs: make demo, make test. make help lists the rest.
SHELL := /bin/bash
export CGO_ENABLED := 0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
KEEPER := internal/keeper/embedded/bin/muster-keeper
GOFLAGS_SMALL := -trimpath -ldflags "-s -w"

.PHONY: help build demo test test-ahead examples bench bench-docs profile steps mutants chaos adopt soak launches fuzz network fresh test-vm lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/muster (one static binary that carries everything)
	@go build $(GOFLAGS_SMALL) -o $(KEEPER) ./cmd/muster-keeper
	@go build -trimpath -ldflags "-s -w -X muster/internal/cli.Version=$(VERSION)" -o bin/muster ./cmd/muster

demo: build ## the main job: a Python and an R session, two workers each, talking over TCP
	@scripts/need python3 r
	@scripts/demo

test: build ## all tests; root adds the isolated rung
	@scripts/need python3 venv r scala python2 gcc ip ssh mpi less strace
	@scripts/test

test-ahead: build ## the tests of the whole program with engines that are never started ahead, and with such that are now and then
	@scripts/need python3 venv r scala python2 gcc ip ssh mpi less strace
	@scripts/test-ahead

examples: build ## all examples, with real frameworks (Dask, Ray, MPI, …), as their READMEs say; NAMES="dask ray" for some
	@scripts/need python3 r
	@scripts/examples $(NAMES)

mutants: build ## take away each fix of the launch races, and five promises, in turn: the tests must notice
	@scripts/need python3 r
	@scripts/mutants

bench: build ## every goal and every peer, side by side, into build/bench.json: ONLY="launch peer/ray" for some, RUNS=n for all
	@bench/setup
	@build/bench/venv/bin/python3 -m bench $(if $(ONLY),--update --only $(ONLY)) $(if $(RUNS),--runs $(RUNS))

bench-docs: ## build/bench.json into docs: the kept numbers, the tables of docs/benchmarks.md and the plot
	@python3 -m bench.page

profile: build ## CPU and allocation profiles of launch, output and listing in build/profile, and what is on top; NAMES="launch output" for some
	@scripts/profile $(NAMES)

steps: build ## where the time of one launch goes, step by step: the medians of RUNS=30 launches, recorded by perf (or strace; root)
	@scripts/need python3 strace
	@MUSTER_BIN=$(CURDIR)/bin/muster $(or $(PYTHON),python3) -m bench.steps --runs $(or $(RUNS),30)

lint: ## formatting, vet, staticcheck, known vulnerabilities
	@scripts/lint

chaos: build ## faults for MINUTES=10 against 200 workers, chosen by SEED=n: no process, byte or exit code may be lost
	@scripts/need python3
	go run ./test/chaos -minutes $(or $(MINUTES),10) -seed $(or $(SEED),0) -workers $(or $(WORKERS),200)

adopt: build ## kill -9 of the server under WORKERS=1000 workers: how long until a new one has adopted them all
	@scripts/need python3
	go run ./test/chaos -adopt -workers $(or $(WORKERS),1000)

soak: build ## sessions begin and end for MINUTES=60: memory, descriptors, threads and files must not grow
	@scripts/need python3
	go run ./test/chaos -soak -minutes $(or $(MINUTES),60)

launches: build ## N=5000 workers one after the other, AT_ONCE=500 at once: nothing may be left of them, and memory stays
	@scripts/need python3 ip nft
	go run ./test/chaos -launches $(or $(N),5000) -workers $(or $(AT_ONCE),500)

fuzz: ## fuzzing of every parser for MINUTES=10 together; NAMES="Frame|Damage" for some
	@scripts/fuzz $(or $(MINUTES),10) $(NAMES)

network: build ## both network examples, RUNS times each in a row (default 100)
	@scripts/need python3 r
	MUSTER_NETWORK_RUNS=$(or $(RUNS),100) go test -count=1 -v -timeout 30m -run "^TestNetworkExample(Python|R)$$" ./test

fresh: ## the two commands of the README on a fresh Debian 12 (debootstrap, root)
	@scripts/fresh

test-vm: build ## Debian's own kernel in a virtual machine: pure cgroup v2, all rungs, a reboot, no memory left; SCENARIOS="suite reboot" for some
	@scripts/test-vm $(SCENARIOS)

clean: ## remove what was built
	rm -rf bin build $(KEEPER)
