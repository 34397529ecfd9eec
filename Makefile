# Everything happens in .venv inside this folder; the first call makes it (some minutes: PyTorch is large), later ones start at once.
PYTHON ?= python3
OUT ?= demo-out
BIN := .venv/bin
READY := .venv/.ready
THREADS ?= 1

.PHONY: demo test test-slow check docs notebooks format lock setup clean

demo: $(READY)  ## invert, maximize and caricature with the embedded network; pictures and a page in demo-out/
	@$(BIN)/preimage demo --out $(OUT)

test: $(READY) check  ## format, lint, types, and all tests but the slow ones
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(READY)  ## the longest checks, and the figures that the project promises, on 20 photographs (about 20 minutes on 2 cores)
	$(BIN)/python -m pytest -m slow -s

check: $(READY)
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy

docs: $(READY)  ## the documentation as pages, in build/site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: $(READY)  ## the scripts of the gallery as notebooks, in build/notebooks/
	$(BIN)/python docs/make_notebooks.py

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

setup: $(READY)

$(READY): pyproject.toml requirements/dev.txt requirements/photographs.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "preimage needs Python 3.10 or later; $$($(PYTHON) --version) is too old. Try: make PYTHON=python3.12 demo"; exit 1; }
	@echo "Making the environment in .venv (once; downloads about 3 GB of packages) ..."
	@$(PYTHON) -m venv --clear .venv || { echo "No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/photographs.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)
	@echo "The environment is ready."

lock:  ## resolve the ranges of pyproject.toml again
	uv pip compile --universal --python-version 3.10 --generate-hashes --no-header --quiet --upgrade \
	  --extra dev pyproject.toml requirements/build.in --output-file requirements/dev.txt

clean:
	rm -rf .venv $(OUT) build src/*.egg-info
