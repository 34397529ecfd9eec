# Everything happens in .venv inside this folder. `make demo` makes it with what preimage itself needs, `make test` adds the
# developer's tools and every extra; later calls start at once.
PYTHON ?= python3
OUT ?= demo-out
BIN := .venv/bin
MADE := .venv/.made
LEAN := .venv/.lean
READY := .venv/.ready
THREADS ?= 1
# TORCH=cpu: PyTorch without CUDA, from PyTorch's own index; otherwise the one of PyPI.
TORCH ?=
CPU_INDEX := https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-slow check types docs notebooks format lock setup dist clean

demo: $(LEAN)  ## invert, maximize and caricature with the embedded network; pictures and a page in demo-out/
	@$(BIN)/preimage demo --out $(OUT)

test: $(READY) check  ## format, lint, types, and all tests but the slow ones
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(READY)  ## the longest checks, and the figures that the project promises, on 20 photographs (about 20 minutes on 2 cores)
	$(BIN)/python -m pytest -m slow -s

check: $(READY)
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy

types: $(READY)  ## strict types of every documented line, with mypy (a minute or two)
	$(BIN)/python docs/check_types.py

docs: $(READY)  ## the documentation as pages, in build/site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: $(READY)  ## the wheel and the source distribution in build/dist/, checked
	@$(PIP) 'build>=1.2' 'twine>=6'
	rm -rf build/dist && $(BIN)/python -m build --outdir build/dist && $(BIN)/twine check --strict build/dist/*

notebooks: $(READY)  ## the scripts of the gallery as notebooks, in build/notebooks/
	$(BIN)/python docs/make_notebooks.py

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

setup: $(READY)

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "preimage needs Python 3.10 or later; $$($(PYTHON) --version) is too old. Try: make PYTHON=python3.12 demo"; exit 1; }
	@case "$(TORCH)" in ""|cpu) ;; *) echo "TORCH is cpu or left out; got $(TORCH)"; exit 1;; esac
	@$(PYTHON) -m venv .venv || { echo "No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(if $(filter cpu,$(TORCH)),@$(PIP) --index-url $(CPU_INDEX) torch torchvision)
	@touch $(MADE)

$(LEAN): pyproject.toml | $(MADE)
	@echo "Installing preimage into .venv (once). On disk: 5.6 GB on Linux, of which PyTorch with CUDA is 5.2; with TORCH=cpu 1.1 GB ..."
	@$(PIP) --use-pep517 --editable .
	@touch $(LEAN)
	@echo "The environment is ready."

$(READY): pyproject.toml requirements/dev.txt requirements/photographs.txt | $(MADE)
	@echo "Installing preimage, every extra and the developer's tools into .venv (once; 7.2 GB on disk) ..."
	@$(PIP) --use-pep517 -r requirements/dev.txt
	@$(PIP) --no-deps -r requirements/photographs.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(READY) $(LEAN)
	@echo "The environment is ready."

lock:  ## resolve the ranges of pyproject.toml again
	uv pip compile --universal --python-version 3.10 --generate-hashes --no-header --quiet --upgrade \
	  --extra dev pyproject.toml requirements/build.in --output-file requirements/dev.txt

clean:
	rm -rf .venv $(OUT) build src/*.egg-info
