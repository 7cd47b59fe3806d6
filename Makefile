# weir's make targets. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export CGO_ENABLED := 0
WEIR := out/weir
# KERNELS=5.10,6.12 narrows vmtest, KERNELS=all runs every line of the archive; GUESTS are those of guesttest; FIGURES='--only one-warm' is passed to figures.
KERNELS ?=
FIGURES ?=
FUZZTIME ?= 10s
FUZZ ?= .
FUZZPART ?= 1/1
SOAK ?= 5m
GUESTS ?= 5.10 6.1 6.12 newest
# In CI every test runs, and pictures of the report are kept in out/_artifacts. Elsewhere Go answers for those that have
# passed, as long as nothing has changed that they are made of or that they read, this kernel included.
# Vetting is for `make lint`.
TESTFLAGS := -vet=off $(if $(CI),-count=1 -artifacts -outputdir out)
# (not WEIR_...: agents take that for a key of theirs)
export TEST_MACHINE := $(shell uname -rv) $(shell id -u)
# Tests that use this machine's kernel depend on kerneltest. They share it and some flood it: one package at a time.
KERNELTESTS = $(shell go list -test -f '{{.ImportPath}} {{.Deps}}' ./... | sed -n 's|\.test .*/bpf/kerneltest\b.*||p')
OTHERTESTS = $(filter-out $(KERNELTESTS),$(shell go list ./...))
# Packages for the race detector, each of whose processes would wait a second before it exits.
RACED = $(shell go list ./agent/... ./sim/... ./vmtests/...)
RACE := CGO_ENABLED=1 GORACE=atexit_sleep_ms=50
# What a release is called: of the tag, or of the commits since then.
VERSION ?= $(shell ci/version)
# What is run: the suite, and the examples of the documentation.
SCENARIOS := scenarios docs/examples/scenarios

help: ## print this list
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

vmtest: tools weir ## run every scenario on every kernel in VMs; report in out/report
	$(WEIR) vm run $(if $(KERNELS),--kernel $(KERNELS)) --costs vmtests/costs.yaml --report out/report $(SCENARIOS)

test: tools weir ## run all tests on this machine: unit, lint, generated code, scenarios on its kernel
	ci/check
	ci/chart/check
	$(WEIR) sim lint --strict $(SCENARIOS)
	@# Tests of the kernel mostly wait for it, and leave the CPUs to all else.
	$(MAKE) --no-print-directory --jobs=2 kerneltest othertest

kerneltest: weir
	go test -p 1 $(TESTFLAGS) $(KERNELTESTS)
	$(RACE) go test -p 1 -race -short $(TESTFLAGS) $(filter $(RACED),$(KERNELTESTS))
	$(WEIR) sim run $(SCENARIOS)

othertest: lint
	go test $(TESTFLAGS) $(OTHERTESTS)
	$(RACE) go test -race -short $(TESTFLAGS) $(filter $(RACED),$(OTHERTESTS))

apitest: ## follow a real Kubernetes API server, built from its source, through changes and a restart
	ci/apiserver/build
	WEIR_APISERVER=$(CURDIR)/out/apiserver go test -count=1 -v -run '^TestAPIServer$$' ./agent/labeler/kube

sim: weir ## run the scenarios on this machine's kernel (needs root)
	$(WEIR) sim run $(SCENARIOS)

bench: weir ## measure speed, as ratios within one run
	$(WEIR) bench
	go test -run '^$$' -bench . ./...

rates: weir ## compare with other observers at the highest rate, and write docs/rates.md from that (needs root)
	ci/rates

hops: weir ## measure what a hop of a chain costs, and write it into docs/chains.md (needs root)
	$(WEIR) bench --run '^hop/' -o json | go run ./ci/hops vmtests/costs.yaml docs/chains.md

figures: weir ## measure every bar and say whether it holds
	go run ./ci/figures $(FIGURES)

soak: ## an agent under load and faults for SOAK (5m), with 2 million connections and another one that comes and goes
	go test ./agent -count=1 -v -timeout=3h -run='^TestSoak$$' -soak=$(SOAK) -soak.held=2000000 -soak.new=1000000 -patience=5m

docs: ## build the site of the documentation into out/docs, and check its links
	ci/install docs
	hugo --source docs/site --destination $(CURDIR)/out/docs --cleanDestinationDir --noBuildLock --panicOnWarning --quiet
	go run ./ci/docs out/docs .

fuzz: ## run every fuzz target for FUZZTIME (10s), or those that match FUZZ, or the FUZZPART 2/5 of them
	FUZZTIME=$(FUZZTIME) FUZZ='$(FUZZ)' FUZZPART=$(FUZZPART) ci/fuzz

exact: weir ## run exact machines 100 times and compare the results, byte for byte; RUNS=10 for fewer
	go run ./ci/figures --only exact --exact-runs $(or $(RUNS),100)

flakes: weir ## run the matrix 20 times beside four busy loops a CPU, and count what is red; RUNS=2 for fewer
	go run ./ci/figures --only matrix-flakes --matrix-runs $(or $(RUNS),20) --busy $$((4 * $$(nproc)))

guesttest: tools weir ## run the Go tests of chains, and of what the agent comes through, on the kernels GUESTS in VMs
	$(WEIR) vm pull $(GUESTS)
	CGO_ENABLED=0 WEIR_VM_TESTS='$(GUESTS)' go test -p 1 -count=1 -timeout=2h -run '^TestKernels$$' ./agent ./agent/chain ./agent/chain/program ./agent/chain/process

smptest: weir ## run scenarios on all kernels in machines of two CPUs; report in out/report-smp
	$(WEIR) vm run --smp 2 $(if $(KERNELS),--kernel $(KERNELS)) --report out/report-smp $(SCENARIOS)

generate: ## compile the BPF programs and their Go bindings (clang-16), and the protobuf code
	ci/install generate
	go generate ./...

lint: ## vet, gofmt, staticcheck, the C formatter
	ci/lint

vulns: ## look for known vulnerabilities in what is called; needs the network, for their database
	go tool -modfile=ci/tools/go.mod govulncheck ./...

fmt: ## format Go and C
	gofmt -w $$(git ls-files '*.go')
	clang-format-16 -i $$(git ls-files 'bpf/*.c' 'bpf/*.h')

package: ## build a small binary, man pages and shell completions in out/package
	@mkdir -p out/package
	go build -trimpath -buildvcs=false -ldflags='-s -w -X main.version=$(VERSION)' -o out/package/weir .
	out/package/weir pages out/package

sbom: ## write what the binary in out/package is made of, as CycloneDX JSON, beside it
	go -C ci/tools run ./sbom $(CURDIR)/out/package/weir '$(VERSION)' >out/package/weir.cdx.json

release: ## build an archive, a .deb, an .rpm, their SBOM and checksums in out/release
	@VERSION='$(VERSION)' ci/release

reproducible: ## build the release twice, from two folders, and compare the bytes
	ci/reproducible

packages: release ## install the .deb on this machine, try it, remove it; look into the .rpm (needs root)
	ci/install packages
	VERSION='$(VERSION)' ci/packages

chart: ## lint the Helm chart, and write packaging/kubernetes from it
	ci/chart/check --update

clean: ## remove what was built
	rm -rf out

tools: ## install what the other targets need, or say what to install
	ci/install test

weir: ## build out/weir
	@mkdir -p out
	go build -o $(WEIR) .

.PHONY: help vmtest test kerneltest othertest apitest sim bench rates hops figures exact flakes guesttest smptest soak docs fuzz generate lint vulns fmt package sbom release reproducible packages chart clean tools weir
