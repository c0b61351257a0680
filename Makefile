# make demo | test | e2e | nightly | bench | images | lint | chart | manifests | checkov.
# Everything is installed into .venv, and helm and Checkov into .cache; nothing else is touched.
# PyPI's torch for Linux brings gigabytes of CUDA. For CPUs: PIP_EXTRA_INDEX_URL=<PyTorch's CPU index> make demo
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
WORKER_IMAGE ?= ghcr.io/northpole-dev/elf-worker:dev
OPERATOR_IMAGE ?= ghcr.io/northpole-dev/elf-operator:dev
BUILD ?= docker build
CONTEXT ?=
CLUSTER ?=
E2E_FLAGS ?=
E2E_JOBS ?= 3
ONLY ?=
QUICK ?=
BENCH_FLAGS ?= -n 5 --dist worksteal
MINUTES ?= 60
MARK := $(VENV)/.installed
ON_CLUSTER = --context $(CONTEXT) --worker-image $(WORKER_IMAGE) --operator-image $(OPERATOR_IMAGE) $(E2E_FLAGS)

.PHONY: demo test slow browser e2e nightly bench images lint chart manifests checkov helm help clean
help:
	@echo "make demo    train handwritten digits here, without a cluster; one data center dies on the way"
	@echo "make test    the fast tests: unit, protocol simulation, contract, local runs"
	@echo "make slow    what takes longer: stragglers, drills and scaling among real processes, more seeds"
	@echo "make browser the dashboard in Chromium (apt-get install chromium)"
	@echo "make e2e     CONTEXT=NAME: on a cluster you trust; CLUSTER=kind: on a kind cluster made for it"
	@echo "make nightly CONTEXT=NAME MINUTES=60: the operator crashes at every call, and under new faults;"
	@echo "             the NPDC's node is lost ten times in turn (E2E_FLAGS='--breaker PROGRAM')"
	@echo "make bench   timings beside those of peers, into docs/performance.md; ONLY=memory: one; QUICK=1: do they work?"
	@echo "             CONTEXT=NAME: what the operator costs, too, on a cluster you trust"
	@echo "make images  both container images (BUILD='docker build')"
	@echo "make lint    ruff, mypy, import-linter"
	@echo "make chart   the Helm chart, checked and packed into dist/"
	@echo "make manifests  what is made from the chart and the CRD: manifests/, tables in docs/"
	@echo "make checkov    Checkov over the rendered chart, installed into .cache"

$(MARK): pyproject.toml constraints.txt
	@$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make virtual environments: apt-get install python3-venv"; exit 1; }
	@echo "installing into $(VENV) (PyTorch is large: minutes the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lint]'
	@touch $@

demo: $(MARK)
	$(BIN)/elf run manifests/samples/digits.yaml --kill mdc/1@round:20

# helm is found, or downloaded into .cache; for another one: make test HELM=PATH
helm: $(MARK)
	@$(BIN)/python tests/helm.py >/dev/null

test: $(MARK) helm
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

slow: $(MARK)
	$(BIN)/python -m pytest -m slow
	ELF_SIM_SEEDS=10000 $(BIN)/python -m pytest -n $(JOBS) tests/unit/protocol/test_simulation.py

browser: $(MARK)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lint,browser]'
	$(BIN)/python -m pytest -m slow tests/browser

lint: $(MARK)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

e2e: $(MARK) helm
ifeq ($(CLUSTER),kind)
	tests/e2e/kind.sh $(WORKER_IMAGE) $(OPERATOR_IMAGE)
else
	@test -n "$(CONTEXT)" || { echo "which cluster? make e2e CONTEXT=<kubeconfig context you trust>, or make e2e CLUSTER=kind"; exit 2; }
	$(BIN)/python -m pytest tests/control_plane --context $(CONTEXT) $(BENCH_FLAGS)
	$(BIN)/python -m pytest tests/e2e -m 'e2e and not exclusive' -n $(E2E_JOBS) --dist worksteal $(ON_CLUSTER)
	$(BIN)/python -m pytest tests/e2e -m exclusive $(ON_CLUSTER)
endif

nightly: $(MARK)
	@test -n "$(CONTEXT)" || { echo "which cluster? make nightly CONTEXT=<kubeconfig context you trust>"; exit 2; }
	$(BIN)/python -m pytest tests/control_plane -s --context $(CONTEXT) --crash-every 1 \
	  --fault-minutes $(MINUTES) --first-seed "$$(date +%Y%m%d)00000"
	$(BIN)/python -m pytest tests/e2e/test_spread.py -rP -m exclusive --npdc-nodes 10 $(ON_CLUSTER)

chart: $(MARK) helm
	helm=$$($(BIN)/python tests/helm.py) && $$helm lint --strict charts/elf-training-operator && \
	  $$helm package charts/elf-training-operator --destination dist

manifests: $(MARK) helm
	$(BIN)/python docs/reference.py
	HELM=$$($(BIN)/python tests/helm.py) $(BIN)/python charts/render.py

# In an environment of its own, because it pins much. It reads the chart as it is, and with everything in it.
CHECKOV := .cache/checkov/bin/checkov
checkov: $(MARK) helm
	@test -x $(CHECKOV) || { $(PYTHON) -m venv .cache/checkov && .cache/checkov/bin/pip install --quiet checkov; }
	@mkdir -p .cache/rendered
	helm=$$($(BIN)/python tests/helm.py) && cd charts/elf-training-operator && \
	  $$helm template elf . -n elf-system >$(CURDIR)/.cache/rendered/defaults.yaml && \
	  $$helm template elf . -n elf-system -f ci/everything-values.yaml >$(CURDIR)/.cache/rendered/everything.yaml
	$(CHECKOV) --directory .cache/rendered --framework kubernetes --skip-download --quiet --compact

# All, or some: make bench ONLY="transport memory". Peers get an environment of their own, .cache/peers.
# What the operator costs is measured on the cluster of CONTEXT; without one it is left out.
bench: $(MARK)
	$(BIN)/python tests/bench/run.py $(if $(QUICK),--quick) $(if $(CONTEXT),--context $(CONTEXT)) $(ONLY)

images:
	$(BUILD) -t $(OPERATOR_IMAGE) -f operator/Dockerfile .
	$(BUILD) -t $(WORKER_IMAGE) -f worker_image/Dockerfile .

clean:
	rm -rf $(VENV) .cache runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
