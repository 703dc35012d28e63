# Gauntlet: all tasks of this repository. `make` lists them.
# `make serve` and `make test` need only Python 3.11 or 3.12 and a network: they install everything else.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
BENCH ?=
OPTIONS ?=
JOBS ?= 3
AUDITED ?= requirements/service.txt requirements/cpu.txt
MODELS ?= models
SUPPLY ?= dist/supply
REPORT ?= --models fashion-mnist-standard fashion-mnist-lipschitz --n 500
export BENTOML_DO_NOT_TRACK := True
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help install serve test test-busy test-all test-clients test-s3 contract check fmt lock train data report figures paper reference screenshots packages docs bento image image-cpu container-check bench-attacks bench-bounds bench-serving zoo sbom audit sign verify gpu-check client clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

install: .venv/.service ## install the packages for serving into .venv (downloads 3.2 GB, takes 6 GB of disk)

serve: .venv/.service ## serve the shipped models on http://127.0.0.1:3000
	@exec $(BIN)/python -m service

test: .venv/.dev ## the tests, in JOBS=3 processes: minutes, no network, no data sets
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 10 -m "not slow and not gpu and not browser and not clients and not s3"

test-busy: .venv/.dev ## ten times `make test` while other processes keep every core busy: an hour; BENCH="--runs 3" for fewer
	$(BIN)/python -m bench.busy $(BENCH)

test-all: .venv/.dev .venv-clients/.installed .venv-s3/.installed .venv-contract/.installed .venv-docs/.installed .venv-helm/.installed .venv-supply/.installed ## all tests, including slow ones, and those for a GPU if there is one
	$(BIN)/python -m pytest

test-clients: .venv/.dev .venv-clients/.installed ## test the Open Inference Protocol with the clients of Triton and KServe
	$(BIN)/python -m pytest -m clients

test-s3: .venv/.dev .venv-s3/.installed ## test the storage of uploads on an S3 server
	$(BIN)/python -m pytest -m s3

contract: .venv/.dev .venv-contract/.installed ## test the service against its /openapi.json with thousands of generated cases: minutes
	$(BIN)/python -m bench.contract $(BENCH)

check: .venv/.dev ## check formatting, lint, types, import directions
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: .venv/.dev ## format the code, and fix lint errors that can be fixed automatically
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

data: .venv/.training ## download the data sets into GAUNTLET_DATA (default data/)
	$(BIN)/python -m training data

train: .venv/.training ## train and export every model that has no artefact yet; resumes interrupted runs
	$(BIN)/python -m training all

report: .venv/.service ## a robustness report from the command line, into dist/report.html
	@mkdir -p dist
	$(BIN)/python -m gauntlet report $(REPORT) --out dist/report.json --out dist/report.html

figures: .venv/.dev ## recompute and print the Fashion-MNIST figures of docs/results.md (python -m bench.results prints its tables)
	$(BIN)/python -m bench.figures

paper: .venv/.dev ## write docs/paper.md: the student paper's figures and ours
	$(BIN)/python -m bench.paper

reference: .venv/.dev ## regenerate docs/reference and docs/settings.md from the code
	$(BIN)/python -m bench.reference
	$(BIN)/python -m service settings > docs/settings.md

screenshots: .venv/.dev ## take screenshots of the web page, while `make serve` runs in another terminal; needs Chromium
	$(BIN)/python -m bench.screenshots

bench-attacks: .venv-bench/.installed ## compare our attacks with foolbox, torchattacks, adv-lib, ART and AutoAttack: hours
	.venv-bench/bin/python -m pytest tests/bench --ignore tests/bench/test_serving.py
	.venv-bench/bin/python -m bench.attacks $(BENCH)

bench-bounds: .venv/.dev .venv-bounds/.installed ## compare our bounds with those of bound-propagation, on random networks: a minute
	$(BIN)/python -m bench.verification.independent

bench-serving: .venv/.dev .venv-serving/.peers ## compare serving with other servers: half an hour; BENCH=--publish writes docs/benchmarks.md
	$(BIN)/python -m bench.serving $(BENCH)

zoo: .venv-zoo/.installed ## export, quantise and open architectures of torchvision and timm into docs/zoo.md; BENCH=--all: hours
	.venv-zoo/bin/python -m bench.zoo $(BENCH)

packages: .venv/.dev ## build wheels and sdists of library and client, into dist/packages
	$(BIN)/python -m hatchling build -d dist/packages
	cd client && ../$(BIN)/python -m hatchling build -d ../dist/packages

docs: .venv-docs/.installed ## build the documentation site, into dist/site; a warning or a dead link is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict

sbom: .venv-supply/.installed ## write bills of materials (CycloneDX) of the wheel and of both images, into dist/supply
	@mkdir -p $(SUPPLY)
	@{ cat requirements/cpu.txt; sed -n 's/^ARG TORCH=//p' deploy/container/Dockerfile.cpu; } > $(SUPPLY)/cpu.txt
	@cp requirements/library.txt $(SUPPLY)/wheel.txt && cp requirements/service.txt $(SUPPLY)/cuda.txt
	@for list in wheel cpu cuda; do .venv-supply/bin/python -W ignore -m cyclonedx_py requirements $(SUPPLY)/$$list.txt \
	  --pyproject pyproject.toml --of JSON --output-reproducible -o $(SUPPLY)/$$list.cdx.json || exit 1; rm $(SUPPLY)/$$list.txt; done

audit: .venv-supply/.installed ## list known vulnerabilities of the packages in the images; needs PyPI's advisories, and fails if it cannot read them
	.venv-supply/bin/pip-audit --strict --disable-pip --require-hashes $(AUDITED:%=-r %)

sign: .venv-supply/.installed ## sign models/ with KEY=private.pem, into dist/supply/models.sig
	@mkdir -p $(SUPPLY)
	.venv-supply/bin/model_signing sign key $(MODELS) --private_key "$(KEY)" --signature $(SUPPLY)/models.sig

verify: .venv-supply/.installed ## verify the signature dist/supply/models.sig of models/ with KEY=public.pem
	.venv-supply/bin/model_signing verify key $(MODELS) --public_key "$(KEY)" --signature $(SUPPLY)/models.sig

bento: .venv/.service ## build the bento
	$(BIN)/bentoml build

image: .venv/.service ## build an image of the service, with CUDA; BUILDER=docker, podman or buildah, OPTIONS="name=value ..." for it
	deploy/container/build.sh cuda $(OPTIONS)

image-cpu: .venv/.service ## build an image without CUDA; OPTIONS=build-arg=TORCH_INDEX=... names a package index with CPU-only torch
	deploy/container/build.sh cpu $(OPTIONS)

container-check: .venv/.dev ## build the image and test it, without a container engine; IMAGE=gauntlet:cpu tests that image
	$(BIN)/python -m pytest tests/deploy/test_container.py

gpu-check: .venv/.dev ## print which device is used, whether it agrees with the CPU, and how fast it is
	$(BIN)/python -m bench.device $(BENCH)

client: .venv/.dev ## regenerate the client's response classes from /openapi.json
	PYTHONPATH=. $(BIN)/python client/generate.py

lock: $(BIN)/uv ## resolve pyproject.toml again into requirements/*.txt, with hashes
	$(BIN)/uv pip compile $(LOCK) --extra gpu --extra service --extra mlflow --group dev -o requirements/dev.txt
	$(BIN)/uv pip compile $(LOCK) --extra gpu --extra service -c requirements/dev.txt -o requirements/service.txt
	for group in training bench zoo; do \
	  $(BIN)/uv pip compile $(LOCK) --extra gpu --group $$group -c requirements/dev.txt -o requirements/$$group.txt || exit 1; done
	$(BIN)/uv pip compile $(LOCK) --extra gpu -c requirements/dev.txt -o requirements/library.txt
	$(BIN)/uv pip compile $(LOCK) deploy/container/cpu.in --extra service --override deploy/container/cpu-without.txt \
	  -c requirements/dev.txt -o requirements/cpu.txt
	$(BIN)/uv pip compile $(HOW) --group docs -c requirements/dev.txt -o requirements/docs.txt
	$(BIN)/uv pip compile $(HOW) --group helm -o requirements/helm.txt
	$(BIN)/uv pip compile $(HOW) --group supply -o requirements/supply.txt
	$(BIN)/uv pip compile $(HOW) --group clients -o requirements/clients.txt
	$(BIN)/uv pip compile $(HOW) --group s3 -o requirements/s3.txt
	$(BIN)/uv pip compile $(HOW) --group contract -o requirements/contract.txt
	$(BIN)/uv pip compile $(HOW) --group bounds -c requirements/dev.txt -o requirements/bounds.txt
	$(BIN)/uv pip compile $(HOW) --group peers -c requirements/dev.txt -o requirements/peers.txt
HOW := -q --generate-hashes --no-header --no-annotate --universal --python-version 3.11
LOCK := $(HOW) pyproject.toml

clean: ## remove build outputs and caches; keeps .venv, data, runs and state
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# Installation. An interrupted one continues where it stopped, because uv keeps every finished package in its cache.

$(BIN)/uv: requirements/uv.txt
	@test -n "$(PYTHON)" || { echo "Gauntlet needs Python 3.11 or 3.12; set PYTHON=/path/to/it"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv/.%: requirements/%.txt $(BIN)/uv
	@echo "Installing the $* packages into .venv: up to 3.2 GB of downloads, 6 GB on disk (torch and CUDA). Packages in uv's"
	@echo "cache are not downloaded again, so an interrupted installation goes on where it stopped."
	@UV_COMPILE_BYTECODE=1 UV_HTTP_TIMEOUT=300 $(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements/$*.txt
	@touch $@

# Separate virtual environments, so that these packages cannot conflict with those of the service: protocol clients, the
# fuzzer, Helm, the site generator, a GPL package, and the libraries that benchmarks compare with.
.venv-%/.installed: requirements/%.txt $(BIN)/uv
	@echo "Installing the $* packages into .venv-$*"
	@$(BIN)/uv venv -q --allow-existing --python $(BIN)/python .venv-$*
	@UV_HTTP_TIMEOUT=300 $(BIN)/uv pip install --python .venv-$*/bin/python --require-hashes -r $<
	@touch $@

.venv-serving/.peers: requirements/peers.txt $(BIN)/uv # also separate: the servers that bench-serving compares with
	@echo "Installing the peers of serving into .venv-serving"
	@$(BIN)/uv venv -q --allow-existing --python $(BIN)/python .venv-serving
	@UV_HTTP_TIMEOUT=300 $(BIN)/uv pip install --python .venv-serving/bin/python --require-hashes -r $<
	@touch $@
