# make book        the quick study (embedded digits, no download) executed and built into the book
# make test        the tests, in one process more than cores, those of a file in one
# make published   the published chapters executed again from their committed records, and the book built from them
# make lint        ruff, the layout, types, and the other checks made before a commit
# make check       those of them that need neither git nor network
# make links       whether what the pages link to elsewhere is still there
# make release     what a release holds, in _build/release: offline book, PDF, wheel, records, checksums
# make clean       removes built pages and caches; the environment, data and results of trainings stay
# make lock        writes requirements.lock anew from the environment
#
# PYTHON is the interpreter that the environment is made with, VENV where it lies:  make test PYTHON=python3.12

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: book test published lint check links release clean environment lock
.DELETE_ON_ERROR:

book: environment
	$(BIN)/python -m lottery run --all --profile quick
	$(BIN)/python -m lottery book --profile quick

published: environment
	$(BIN)/python -m lottery run --published
	$(BIN)/python -m lottery book

test: environment
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pyright --pythonpath $(BIN)/python

lint: check
	SKIP=ruff,ruff-format,pyright $(BIN)/pre-commit run --all-files

links: environment
	$(BIN)/jupyter-book build . --all --builder linkcheck

release: environment
	rm -rf _build/release
	mkdir -p _build/release
	$(BIN)/python -m lottery book --pdf
	cp _build/offline/html/*.pdf book/results/*.lotx CITATION.cff _build/release
	cd _build/offline && $(abspath $(BIN))/python -m zipfile -c ../release/lottery-tickets-reproduced.zip html
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir _build/release .
	cd _build/release && sha256sum -- * > SHA256SUMS

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

environment: $(STAMP)

# Installed from the lock, then the library itself as a link to this folder. The stamp comes last: an installation
# that was interrupted is done again, a finished one is not. A quarter of the modules is
# ever imported: they are compiled when that is first done; here, where Python is told to keep nothing that it compiles.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@test -z "$$PYTHONDONTWRITEBYTECODE" || \
	  PYTHONDONTWRITEBYTECODE= $(BIN)/python -c 'from lottery.book import forked; forked.import_all()'
	@touch $@

# The CUDA packages of a GPU build and local version labels stay out: torch asks for its own exact ones.
lock:
	@{ sed -n '/^#/p' requirements.lock; \
	   $(BIN)/python -m pip freeze --all --exclude-editable --exclude pip --exclude wheel \
	   | sed -e 's/+[a-z0-9.]*$$//' -e '/^nvidia-/d' -e '/^cuda-/d' -e '/^triton/d'; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock
