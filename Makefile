# Everything a newcomer needs: make demo, make test. make help lists the rest.
SHELL := /bin/bash
export CGO_ENABLED := 0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
KEEPER := internal/keeper/embedded/bin/muster-keeper
GOFLAGS_SMALL := -trimpath -ldflags "-s -w"

.PHONY: help build demo test test-go test-python test-r test-e2e lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/muster (one static binary that carries everything)
	@go build $(GOFLAGS_SMALL) -o $(KEEPER) ./cmd/muster-keeper
	@go build -trimpath -ldflags "-s -w -X muster/internal/cli.Version=$(VERSION)" -o bin/muster ./cmd/muster

demo: build ## the main job: a Python and an R session, two workers each, talking over TCP
	@scripts/need python3 r
	@scripts/demo

test: build ## all tests; root adds the isolated rung
	@scripts/need python3 r gcc
	@scripts/test

lint: ## formatting, vet, staticcheck, known vulnerabilities
	@scripts/lint

clean: ## remove what was built
	rm -rf bin build $(KEEPER)
