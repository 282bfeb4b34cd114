# Everything by name: `make` prints this help.
SHELL := /bin/bash
PYTHON ?= python3.11
PY := .venv/bin/python
CLUSTER ?= embedded
export CLUSTER
# Byte code written once is what keeps the second start quick, whatever the shell says.
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help demo demo-down test check bench crds golden corpus docs flags cluster clean-cache

help:  ## this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: .venv/installed  ## a real cluster, the operator, two models, and questions to them (CLUSTER=embedded|kind|existing)
	@$(PY) -m tests.demo up

demo-down: .venv/installed  ## remove everything that demo (or test) started; caches stay
	@$(PY) -m tests.demo down

test: .venv/installed  ## everything: lint, types, pure tests, the real vLLM, the real node; installs what it needs
	@$(PY) -m tests.everything

check: .venv/installed  ## the quick door: lint, types, import contracts, pure tests
	@$(PY) -m tests.everything check

bench: .venv/installed  ## what the operator costs per model, what an inspection takes, and a pull beside its ceilings
	@$(PY) -m tests.bench
	@$(PY) -m tests.hub.bench --gigabytes 1 --rounds 3

cluster: .venv/installed  ## only the real node, with the operator and the hub on it
	@$(PY) -m tests.demo install

crds: .venv/installed  ## write crds/ and the chart's copy from the types
	@$(PY) -m vllm_operator.crd > crds/vllmmodels.yaml && cp crds/vllmmodels.yaml charts/vllm-operator/files/

golden: .venv/installed  ## write tests/golden/ anew (read the diff)
	@UPDATE_GOLDEN=1 $(PY) -m pytest -q tests/test_render.py

corpus: .venv/installed  ## keep what this release accepts, for the next ones (RELEASE=v0.2)
	@$(PY) -m tests.corpus $(RELEASE)

docs: .venv/installed  ## write the generated pages anew
	@$(PY) -m vllm_operator.diagnose.page > docs/troubleshooting.md

flags: .venv/installed  ## write the file of known flags of the installed vLLM anew (read the diff)
	@"$$($(PY) -m tests.cluster vllm-python)" operator/vllm_operator/plan/flags/generate.py > .flags.json
	@mv .flags.json operator/vllm_operator/plan/flags/0.32.json

clean-cache:  ## remove the caches too (binaries, images, vLLM): the next run is as on a fresh machine
	@if [ -x $(PY) ]; then $(PY) -m tests.cluster down; fi
	@rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/vllm-operator" .venv

.venv/installed: pyproject.toml
	@echo "installing the Python packages into .venv (about a minute the first time)"
	@$(PYTHON) -m venv .venv && $(PY) -m pip install -q --disable-pip-version-check uv
	@.venv/bin/uv pip install -q --python $(PY) -e '.[dev]' || $(PY) -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@
