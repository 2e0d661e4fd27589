# The workshop's few verbs. Each sets up what it needs under .venv and .cache, without root, and can be repeated.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
# Another Python has an environment of its own beside the usual one: `make test-fast PYTHON=python3.13`.
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUNTIME := $(VENV)/.ready-demo
TEXTS := $(VENV)/.ready-texts
WORKSHOP := $(VENV)/.ready-workshop
PEERS := .venv-peers/.ready
INDEX_PEERS := .venv-index-peers/.ready
ROUNDS ?= 20
OUT ?= demo-out
# In an environment of its own: its twenty dependencies are no part of what it audits.
PIP_AUDIT := pip-audit==2.10.1

.PHONY: help demo demo-text test test-fast bench-quick lint audit manifests format bench bench-peers bench-index bench-gpu bench-page bench-daemon faults dashboards broker prometheus picture page-picture text-picture error-picture index-picture clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## ?/  make \1\t/' | expand -t 22

demo: $(RUNTIME) ## real digits through AlexNet on the embedded log; leaves pictures in demo-out/
	$(BIN)/dugs demo --out $(OUT)

demo-text: $(TEXTS) ## real English through a language model trained on the spot; leaves a page in demo-out/text/
	$(BIN)/dugs demo --text --out $(OUT)/text

# Four workers keep two cores busy, since half of what is tested is waiting; where all is computing, two are enough.
# Bytecode is kept, or each of them and of the processes they start would compile package and tests again.
test test-fast: export PYTHONDONTWRITEBYTECODE :=
test: $(WORKSHOP) prometheus ## every test, with the real Kafka broker (JDK 17+ and Maven) and every benchmark at toy size
	$(BIN)/python -m pytest -n 4

# Where it cannot be had the other tests run all the same; those that need it fail and say so.
prometheus: $(WORKSHOP) ## Prometheus and promtool for the tests; built under .cache if they are not installed
	-@$(BIN)/python -m tools.prometheus

test-fast: $(WORKSHOP) ## the loop to work in: units, properties, conventions, the embedded log; nothing beside Python
	$(BIN)/python -m pytest -n 2 -m "not broker" tests/unit tests/property tests/zoo tests/house tests/port

bench-quick: $(WORKSHOP) ## every benchmark once at toy size, and the tests of what they share
	$(BIN)/python -m pytest -n 2 tests/benchmarks

lint: $(WORKSHOP) ## style, format, types, security, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml dugs_stream
	$(BIN)/codespell dugs_stream tests benchmarks tools config deploy docs README.md CHANGELOG.md CONTRIBUTING.md

manifests: $(WORKSHOP) ## the alerts again as the Prometheus operator wants them, in deploy/kubernetes
	$(BIN)/python -m tools.prometheus_rule

audit: $(BIN)/python ## known vulnerabilities of what constraints.txt names; needs a registry that tells them
	$(BIN)/python -m venv .cache/audit
	.cache/audit/bin/python -m pip --disable-pip-version-check --quiet install $(PIP_AUDIT)
	.cache/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

format: $(WORKSHOP) ## let ruff format and sort
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(WORKSHOP) $(INDEX_PEERS) ## the benchmark table, as ratios measured in this run
	$(BIN)/python -m benchmarks

bench-peers: $(WORKSHOP) $(PEERS) ## other ways to projected gradients on the same layers, in an environment of their own
	$(BIN)/python -m benchmarks.peers

bench-index: $(WORKSHOP) $(INDEX_PEERS) ## the exact nearest unique on long lists, and other indexes, beside a full product
	$(BIN)/python -m benchmarks.index

bench-gpu: $(WORKSHOP) ## tokens a second through models of the sizes of Pythia, and the nearest unique; needs a GPU
	$(BIN)/python -m benchmarks.gpu_throughput
	$(BIN)/python -m benchmarks.gpu_index

bench-page: $(WORKSHOP) ## the page at 100,000 uniques, fetched and opened in Chromium
	$(BIN)/python -m benchmarks.page

bench-daemon: $(WORKSHOP) ## the daemon beside bare loops: on a real Kafka broker, photographs, a lone record, a long list
	$(BIN)/python -m benchmarks.daemon

faults: $(WORKSHOP) ## ROUNDS=n rounds of kill -9 on each engine, every other fault once, and a table of them
	$(BIN)/python -m tests.faults --rounds $(ROUNDS)

dashboards: $(WORKSHOP) ## write the JSON of the Grafana dashboards from their source in tools/grafana
	$(BIN)/python -m tools.grafana.build

broker: $(WORKSHOP) ## a throwaway Kafka broker on localhost:9092, in the foreground (JDK 17+ and Maven); Ctrl-C ends it
	$(BIN)/python -m tools.broker 9092

picture: $(RUNTIME) ## rebuild the picture of the README from a fresh demo
	$(BIN)/dugs demo --out $(OUT)
	cp $(OUT)/uniques.png docs/uniques.png

page-picture: $(WORKSHOP) ## rebuild the README's picture of the page, with the weights of a demo (Chromium)
	test -e $(OUT)/alexnet.safetensors || $(BIN)/dugs demo --out $(OUT)
	$(BIN)/python -m tools.page_picture $(OUT)/alexnet.safetensors docs

text-picture: $(WORKSHOP) ## rebuild the README's picture of the text demo's page (Chromium)
	test -e $(OUT)/text/gallery.html || $(BIN)/dugs demo --text --out $(OUT)/text
	$(BIN)/python -m tools.text_picture $(OUT)/text/gallery.html docs

error-picture: $(WORKSHOP) ## measure the error against k again and redraw the picture of docs/gradients.md
	$(BIN)/python -m benchmarks.error_against_k --out benchmarks/results
	$(BIN)/python -m tools.error_picture benchmarks/results/error_against_k.json docs

index-picture: $(WORKSHOP) $(INDEX_PEERS) ## measure decisions/s against the length of the list again and redraw the README's picture
	$(BIN)/python -m benchmarks.index_lengths --out benchmarks/results
	$(BIN)/python -m tools.index_picture benchmarks/results/index_lengths.json docs

clean: ## forget environment, caches and demo output
	rm -rf .venv .venv-* .cache demo-out dugs-data .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "dugs-stream needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing dugs-stream and PyTorch into $(VENV) (a few minutes, once) …" >&2
	$(PIP) install --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(TEXTS): $(RUNTIME)
	@echo "Installing transformers into $(VENV) …" >&2
	$(PIP) install --constraint constraints.txt --editable '.[demo,hf]'
	@touch $@

$(WORKSHOP): $(RUNTIME)
	@echo "Installing the test and lint tools into $(VENV) …" >&2
	$(PIP) install --constraint constraints.txt --editable '.[demo,test,lint]'
	@touch $@

$(PEERS): benchmarks/peers.txt constraints.txt
	@echo "Installing the peers into .venv-peers (a few minutes, once) …" >&2
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt --requirement benchmarks/peers.txt
	@touch $@

$(INDEX_PEERS): benchmarks/index_peers.txt constraints.txt
	@echo "Installing other indexes into .venv-index-peers (once) …" >&2
	$(PYTHON) -m venv .venv-index-peers
	.venv-index-peers/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt --requirement benchmarks/index_peers.txt
	@touch $@
