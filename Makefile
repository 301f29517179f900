# make demo: install into .venv and transcribe a recording (make demo AUDIO=talk.mp3).
# make recipe: install into .venv and train, decode and score a small digits recogniser on real speech.
# make test: install into .venv and run all tests, as many at once as there are cores.
# All need Python 3.10 or later and nothing else; the first run installs, later ones do not.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo recipe test lint clean

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "s2s needs Python 3.10 or later: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" egs/demo/run.sh $(AUDIO)

recipe: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" egs/fsdd/asr/demo.sh

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv build dist *.egg-info
