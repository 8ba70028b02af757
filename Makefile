# `make demo` and `make test` need Rust (cargo) and Python 3.10 or later, and set up all the rest.

PYTHON ?= python3
VENV ?= .venv
# Set where PyO3 does not list a Python it works with, such as free-threaded 3.13.
export UNSAFE_PYO3_SKIP_VERSION_CHECK ?=

run := $(VENV)/bin/python
sources := Cargo.toml Cargo.lock pyproject.toml build.rs README.md LICENSE $(shell find src python stubs -type f)
stamp := $(VENV)/.installed

.PHONY: help demo test lint types test-rust test-python bench bench-core wheel clean

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(stamp) ## Replay a workload through every policy at several sizes
	$(run) -m flexcache_rs replay

test: lint types test-rust test-python ## Everything that must pass

lint: $(stamp) ## Formatting and lints of Rust and Python
	cargo fmt --all --check
	PYO3_PYTHON=$(abspath $(run)) cargo clippy --workspace --all-targets --locked -- -D warnings
	$(run) -m ruff check
	$(run) -m ruff format --check

types: $(stamp) ## Type checks, and the stubs against the built module
	$(run) -m mypy
	$(run) -m pyright --pythonpath $(run)
	$(run) -m mypy.stubtest flexcache_rs flexcache --allowlist tests/typing/stubtest-allowlist.txt

test-rust: ## The core's tests, also with a recount after every operation
	cargo test --locked -p flexcache-core
	cargo test --locked -p flexcache-core --features strict --lib --tests

test-python: $(stamp) ## The package's tests, with PYTHON
	$(run) -m pytest

bench: $(stamp) ## Measure beside the peers and write docs/benchmarks
	$(run) -m benches.peers.install
	$(run) -m benches.peers --output docs/benchmarks

bench-core: ## The core's own speed
	cargo bench -p flexcache-core

wheel: ## A wheel and a source distribution in dist/
	$(PYTHON) -m venv $(VENV)
	$(run) -m pip install --quiet --upgrade pip maturin
	$(VENV)/bin/maturin build --release --sdist --out dist --interpreter $(run)

$(stamp): $(sources)
	$(PYTHON) -m venv $(VENV)
	$(run) -m pip install --quiet --upgrade pip
	$(run) -m pip install --quiet --group dev
	$(run) -m pip install --quiet '.[plot]'
	touch $@

clean: ## Remove what was built
	rm -rf target dist .venv*
