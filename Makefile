# weir's make targets. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export CGO_ENABLED := 0
WEIR := out/weir
# KERNELS=5.10,6.12 narrows vmtest; FIGURES='--only one-warm' is passed to figures.
KERNELS ?=
FIGURES ?=
# What is run: the suite, and the examples of the documentation.
SCENARIOS := scenarios docs/examples/scenarios

help: ## print this list
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

vmtest: tools weir ## run every scenario on every kernel in VMs; report in out/report
	$(WEIR) vm run $(if $(KERNELS),--kernel $(KERNELS)) --costs vmtests/costs.yaml --report out/report $(SCENARIOS)

test: tools weir ## run all tests on this machine: unit, lint, generated code, scenarios on its kernel
	ci/check
	$(MAKE) --no-print-directory lint
	$(WEIR) sim lint --strict $(SCENARIOS)
	@# One package at a time: some flood this machine's kernel, which all of them share.
	go test -p 1 -artifacts -outputdir out ./... # pictures of the report are kept in out/_artifacts
	CGO_ENABLED=1 go test -p 1 -race -short ./agent/... ./sim/... ./vmtests/...
	$(WEIR) sim run $(SCENARIOS)

apitest: ## follow a real Kubernetes API server, built from its source, through changes and a restart
	ci/apiserver/build
	WEIR_APISERVER=$(CURDIR)/out/apiserver go test -count=1 -v -run '^TestAPIServer$$' ./agent/labeler/kube

sim: weir ## run the scenarios on this machine's kernel (needs root)
	$(WEIR) sim run $(SCENARIOS)

bench: weir ## measure speed, as ratios within one run
	$(WEIR) bench
	go test -run '^$$' -bench . ./...

figures: weir ## measure every bar and say whether it holds
	go run ./ci/figures $(FIGURES)

generate: ## compile the BPF programs and their Go bindings (clang-16), and the protobuf code
	ci/install generate
	go generate ./...

lint: ## vet, gofmt, staticcheck, the C formatter
	ci/lint

fmt: ## format Go and C
	gofmt -w $$(git ls-files '*.go')
	clang-format-16 -i $$(git ls-files 'bpf/*.c' 'bpf/*.h')

clean: ## remove what was built
	rm -rf out

tools: ## install what the other targets need, or say what to install
	ci/install test

weir: ## build out/weir
	@mkdir -p out
	go build -o $(WEIR) .

.PHONY: help vmtest test apitest sim bench figures generate lint fmt clean tools weir
