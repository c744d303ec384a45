# Every target sets up what it needs first; see tools/setup for what that is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

export TRUNKLINE_WORK ?= $(CURDIR)/.work
VENV := .venv/bin
export PATH := $(CURDIR)/$(VENV):$(PATH)
PYTEST := $(VENV)/pytest --import-mode=importlib
# Namespaces and the lab need root. What root runs leaves no cache behind that its user could not remove.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo) env PYTHONDONTWRITEBYTECODE=1 TRUNKLINE_WORK=$(TRUNKLINE_WORK)
AS_ROOT += $(foreach v,KEEP CI TRUNKLINE_LAB PYTEST_ADDOPTS DOCKERD DOCKER_CLI CONTAINERD,$(if $($v),$v='$($v)'))

# $(call pytest,DIRECTORIES,OPTIONS,PREFIX): directories that have no tests yet are passed over.
with-tests = $(strip $(foreach d,$1,$(if $(shell find $d -name 'test_*.py' -print -quit 2>/dev/null),$d)))
define pytest
	$(if $(call with-tests,$1),$3 $(PYTEST) $2 $(call with-tests,$1),@echo "no tests in $1 yet")
endef

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 30

.PHONY: setup setup-venv setup-lab
setup: setup-lab ## put everything in place that the other targets need
setup-venv:
	@tools/setup venv
setup-lab:
	@tools/setup lab

.PHONY: demo
demo: setup-lab ## three hosts, networks, faults and their diagnosis; KEEP=1 leaves it running
	@$(AS_ROOT) tools/demo

.PHONY: demo-down
demo-down: ## take down what `make demo KEEP=1` left running
	@$(AS_ROOT) PYTHONPATH=tests /usr/bin/python3 -m lab --name demo down && echo "The demo is taken down."

.PHONY: test
test: lint test-unit test-contract test-netns test-engine test-lab ## all of the following

.PHONY: lint
lint: setup-venv ## style, types, import arrows, and whether generated code is current
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/mypy $(foreach room,unit laws contract netns engine lab fakes clusters oracle,-p $(room))
	$(VENV)/lint-imports
	$(VENV)/python tools/protos --check
	$(VENV)/python tools/docs --check

.PHONY: test-unit
test-unit: setup-venv ## pure code and its laws; no root, seconds
	$(call pytest,tests/unit tests/laws,-q -n auto)

.PHONY: test-contract
test-contract: setup-venv ## each port, the fake and the real one; real etcd
	$(call pytest,tests/contract,-q -n auto)

.PHONY: test-netns
test-netns: setup-venv ## real kernel, namespaces; root
	$(call pytest,tests/netns,-q -p no:cacheprovider,$(AS_ROOT))

.PHONY: test-engine
test-engine: setup-lab ## several real dockerds in namespaces, one L2; root
	$(call pytest,tests/engine,-q -p no:cacheprovider --durations=5,$(AS_ROOT))

.PHONY: test-docker-versions
test-docker-versions: setup-lab ## the same with Docker 28 (fetched), or with the dockerd that DOCKERD names; root
	@dockerd="$${DOCKERD:-$$(tools/dockers)}" && $(MAKE) --no-print-directory test-engine DOCKERD="$$dockerd"

.PHONY: test-lab
test-lab: setup-lab ## several kernels, 802.1Q, Docker, faults on the wire; root
	$(call pytest,tests/lab,-q -p no:cacheprovider --durations=5,$(AS_ROOT))

.PHONY: protos
protos: setup-venv ## generate code from the contract
	$(VENV)/python tools/protos

.PHONY: bench
bench: setup-lab ## measure against the targets, as ratios in one run
	$(if $(wildcard bench/run),$(AS_ROOT) bench/run,@echo "no bench/run yet")

.PHONY: clean
clean: ## take labs down; remove .venv, .work and caches
	@for lab in $(TRUNKLINE_WORK)/lab/*/; do \
		[ ! -d "$$lab" ] || $(AS_ROOT) PYTHONPATH=tests /usr/bin/python3 -m lab --name "$$(basename "$$lab")" down || exit 1; \
	done
	$(AS_ROOT) rm -rf --one-file-system $(TRUNKLINE_WORK)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
