# `make demo` and `make test` need Rust (cargo) and Python 3.10 or later, and set up all the rest.

PYTHON ?= python3
VENV ?= .venv
# What the tests need: `dev` has the linters and type checkers besides.
GROUP ?= dev
PYTEST ?=
# Of the build that is tested: switches for rules, without which a test must fail. They are off unless a test asks.
FEATURES ?= negative-controls
# Set where PyO3 does not list a Python it works with, such as free-threaded 3.13.
export UNSAFE_PYO3_SKIP_VERSION_CHECK ?=

run := $(VENV)/bin/python
sources := Cargo.toml Cargo.lock pyproject.toml build.rs README.md LICENSE $(shell find src python -type f)
# The package as users get it, and the same built without the optimisation that takes most of the time.
released := $(VENV)/.installed-release
installed := $(VENV)/.installed-ci
tools := $(VENV)/.$(GROUP)

# A rule that fails leaves no half-made file behind.
.DELETE_ON_ERROR:
SECONDS ?= 60
sanitized := RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" cargo test --locked --target x86_64-unknown-linux-gnu --target-dir target/sanitize
coverage := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cforce-frame-pointers

.PHONY: fuzz sanitize sanitize-threads sanitize-python valgrind bench-baseline check-other-systems test-wine
.PHONY: docs look crates
.PHONY: help demo test soak lint types test-rust test-python test-controls bench bench-disk bench-shared bench-lmdb bench-remote bench-sessions bench-dropins bench-interpreters bench-peers bench-core wheel clean

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(released) ## The main job in a few seconds: memoizing, one computation, disk, processes, policies
	$(run) -m flexcache_rs demo

test: lint types test-rust test-python ## Everything that must pass, with a tenth of the full counts

# A test that takes seconds with a tenth of the counts may take minutes with all of them. The classes of a file, such as the
# models of the stores, need not run in one worker.
soak: ## The same with the full counts: kills, examples, rounds
	FLEXCACHE_TEST_SCALE=1 $(MAKE) test GROUP=soak PYTEST="-o timeout=1200 -o faulthandler_timeout=1100 --dist loadscope $(PYTEST)"
	$(MAKE) crates look check-other-systems sanitize-threads

lint: $(installed) $(tools) ## Formatting and lints of Rust and Python
	cargo fmt --all --check
	PYO3_PYTHON=$(abspath $(run)) cargo clippy --profile ci --workspace --all-targets --locked -- -D warnings
	$(run) -m ruff check
	$(run) -m ruff format --check

# Pyright takes one core for as long as the two others together.
types: $(installed) $(tools) ## Type checks, and the stubs against the built module
	$(run) -m pyright --pythonpath $(run) & pyright=$$!; \
	$(run) -m mypy && \
	MYPYPATH=python $(run) -m mypy.stubtest flexcache_rs flexcache --mypy-config-file pyproject.toml --allowlist tests/typing/stubtest-allowlist.txt; \
	others=$$?; wait $$pyright && exit $$others

published := -p flexcache-core -p flexcache-containers -p flexcache-disk -p flexcache-remote -p flexcache-shared
other_lock := flexcache-shared/stall-points,flexcache-shared/strict,flexcache-shared/owner-lock
faults := cargo test --profile ci --locked -p flexcache-disk --features fault-injection --test faults

# The failing files take one core for as long as all others together. What the crates depend on is compiled once for the
# same packages, whatever their features.
test-rust: ## The tests of the crates: the core's and the shared one's also with a recount after every operation, the shared one's also with the other lock, the disk's also with failing files
	$(faults) --no-run
	$(faults) >target/faults.log 2>&1 & faults=$$!; \
	cargo test --profile ci --locked $(published) --features flexcache-shared/stall-points && \
	cargo test --profile ci --locked $(published) --features $(other_lock) --test cache && \
	cargo test --profile ci --locked -p flexcache-core --features strict --lib --tests; others=$$?; \
	wait $$faults; failed=$$?; cat target/faults.log; exit $$((others | failed))
	@touch target/.rust-tested

test-python: $(installed) $(tools) ## The package's tests, with PYTHON; PYTEST has options
	$(run) -m pytest -n 2 --dist loadfile $(PYTEST)

test-controls: $(installed) $(tools) ## Each rule of the seam switched off: a test of it must fail. Part of test-python
	$(run) -m pytest tests/stores/test_negative_controls.py

crates: ## The crates as they would be published: documentation without warnings, and packages that build by themselves; and the benchmarks of the core
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked $(published)
	cargo package --locked --allow-dirty $(published)
	cargo check --locked --all-targets --manifest-path benches/core/Cargo.toml

# What the pages are made of is text; the package need not be built. The variable silences an advertisement.
docs: $(VENV)/.docs ## The site, in target/site: README, docs, and the reference from docstrings and stubs
	NO_MKDOCS_2_WARNING=1 $(run) -m mkdocs build --quiet

look: docs $(VENV)/.soak ## Search the site in a headless Chromium and take screenshots of it, into target/site-look
	$(run) scripts/look_at_site.py

bench: $(released) bench-interpreters bench-lmdb ## Measure beside the peers and write docs/benchmarks; OPTIMIZED=PYTHON and FREE_THREADED=PYTHON for tables of these
	$(run) -m benches.peers.install
	$(run) -m benches.peers --output docs/benchmarks --readme README.md \
		$(if $(OPTIMIZED),--optimized $(VENV)-optimized/bin/python) \
		$(if $(FREE_THREADED),--free-threaded $(VENV)-free-threaded/bin/python)
	$(run) -m benches.peers.disk --output docs/benchmarks
	$(run) -m benches.peers.shared --output docs/benchmarks $(if $(TRACES),--traces $(TRACES))
	$(run) -m benches.peers.remote --output docs/benchmarks
	$(run) -m benches.peers.dropins --output docs/benchmarks

bench-interpreters: ## Set up OPTIMIZED=PYTHON and FREE_THREADED=PYTHON for bench
	$(if $(OPTIMIZED),$(MAKE) VENV=$(VENV)-optimized PYTHON=$(OPTIMIZED) bench-peers)
	$(if $(FREE_THREADED),UNSAFE_PYO3_SKIP_VERSION_CHECK=1 $(MAKE) VENV=$(VENV)-free-threaded PYTHON=$(FREE_THREADED) $(VENV)-free-threaded/.installed-release)

bench-peers: $(released) ## The package and the peers, ready for benchmarks
	$(run) -m benches.peers.install

bench-disk: $(released) ## The caches on disk alone
	$(run) -m benches.peers.install
	$(run) -m benches.peers.disk --output docs/benchmarks

bench-shared: $(released) bench-lmdb ## The cache in shared memory alone; TRACES=DIR for hit ratios
	$(run) -m benches.peers.install
	$(run) -m benches.peers.shared --output docs/benchmarks $(if $(TRACES),--traces $(TRACES))

bench-lmdb: $(VENV)/bin/python ## Build LMDB through heed, which the two above measure; a C compiler is needed
	PYO3_PYTHON=$(abspath $(run)) PYO3_BUILD_EXTENSION_MODULE=1 cargo build --release --locked --manifest-path benches/lmdb/Cargo.toml

bench-sessions: $(released) ## Sessions alone; PyCache too with BENCH="--pycache DIRECTORY/src"
	$(run) -m benches.peers.install
	$(run) -m benches.peers.sessions --output docs/benchmarks $(BENCH)

bench-remote: $(released) ## The near cache on a server alone
	$(run) -m benches.peers.install
	$(run) -m benches.peers.remote --output docs/benchmarks

bench-dropins: $(released) ## The drop-ins beside the originals alone
	$(run) -m benches.peers.install
	$(run) -m benches.peers.dropins --output docs/benchmarks $(BENCH)

bench-core: ## The core's own speed
	cargo bench --locked --manifest-path benches/core/Cargo.toml

fuzz: ## Compare random operations on the core with a model for SECONDS, under AddressSanitizer
	mkdir -p fuzz/corpus fuzz/artifacts
	cd fuzz && RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address $(coverage)" cargo run --release \
		--target x86_64-unknown-linux-gnu --bin operations -- -max_total_time=$(SECONDS) -artifact_prefix=artifacts/ corpus

# Models with a deliberate mistake are left out, because loom keeps the stacks of their threads when one panics.
without_mistakes := -- -Z unstable-options --exclude-should-panic

sanitize: ## The tests of all crates under AddressSanitizer and LeakSanitizer
	$(sanitized) -p flexcache-core -p flexcache-containers -p flexcache-disk -p flexcache-remote --lib --tests $(without_mistakes)
	$(sanitized) -p flexcache-shared --features stall-points --lib --tests $(without_mistakes)

# The standard library is instrumented as well, so the compiler must have its source (see scripts/check_other_systems.py). The
# runtime is clang's, of the compiler's LLVM: Debian has it in libclang-rt-22-dev. It must be loaded before the C library.
thread_runtime = $(lastword $(sort $(wildcard /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.tsan-x86_64.so)))
sanitize-threads: ## The tests of the shared cache and the connection to servers under ThreadSanitizer
	RUSTC=$(or $(wildcard /usr/bin/rustc),rustc) RUSTC_BOOTSTRAP=1 CARGO_PROFILE_TEST_OPT_LEVEL=1 \
		RUSTFLAGS="-Zsanitizer=thread -Zexternal-clangrt -Clink-arg=$(thread_runtime)" \
		CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="env LD_PRELOAD=$(thread_runtime)" \
		cargo test --locked -Zbuild-std=std,panic_unwind,test --target x86_64-unknown-linux-gnu \
		--target-dir target/sanitize-threads -p flexcache-shared -p flexcache-remote --features flexcache-shared/stall-points \
		--lib --test cache --test lane -- --skip calls:: --skip model:: --skip policy::

# The interpreter is not built with the sanitizer, so gcc's runtime is loaded before it, and objects come from malloc. Tests
# that limit the address space are left out, since the sanitizer reserves terabytes of it.
sanitize-python: $(installed) $(tools) ## The package's tests, but for kills, with the bindings under AddressSanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" PYO3_PYTHON=$(abspath $(run)) cargo build --locked --lib -p flexcache-rs \
		--profile ci --target x86_64-unknown-linux-gnu --target-dir target/sanitize
	rm -rf target/sanitize/python && cp -RL python target/sanitize/python
	cp target/sanitize/x86_64-unknown-linux-gnu/ci/lib_core.so \
		target/sanitize/python/flexcache_rs/_core$$($(run) -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
	ulimit -s 1000000; PYTHONPATH=$(abspath target/sanitize/python) PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 LD_PRELOAD=$$(gcc -print-file-name=libasan.so) \
		$(run) -m pytest -o timeout=900 -o faulthandler_timeout=0 --ignore tests/disk/test_disk_crashes.py \
		-k 'not larger_than_memory and not take_no_memory and not little_memory' $(PYTEST)

check-other-systems: ## Compile the Rust of all crates for macOS and Windows; nothing runs
	$(PYTHON) scripts/check_other_systems.py

# It needs `rustup target add x86_64-pc-windows-gnu` and Debian's gcc-mingw-w64-x86-64 and wine64. Wine 8 has no bcryptprimitives.dll,
# of which the standard library needs ProcessPrng.
test-wine: ## The tests of the shared cache for Windows, under Wine
	CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc \
		CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER="env WINEDEBUG=-all $(or $(shell command -v wine64),/usr/lib/wine/wine64)" \
		cargo test --locked --target x86_64-pc-windows-gnu -p flexcache-shared --features flexcache-shared/stall-points \
		--lib --test cache

valgrind: $(installed) $(tools) ## Every fast call under valgrind: no leak and no invalid access of ours
	$(run) -m pytest -m valgrind $(PYTEST)

bench-baseline: $(installed) ## Compare with another build: WHEEL=dist/....whl
	$(run) -m benches --baseline $(WHEEL) $(BENCH)

wheel: | $(VENV)/bin/python ## A wheel and a source distribution in dist/
	$(run) -m pip install --quiet 'maturin>=1.9,<2'
	$(VENV)/bin/maturin build --release --compression-level 9 --sdist --out dist --interpreter $(run)
	$(run) scripts/check_wheel.py dist/*.whl

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$@ -m pip install --quiet --upgrade pip

$(VENV)/.installed-%: $(sources) | $(VENV)/bin/python
	$(run) scripts/install_shown.py --config-settings \
		'build-args=--profile $*$(if $(filter ci,$*),$(if $(FEATURES), --features $(FEATURES)))' .
	rm -f $(VENV)/.installed-*
	touch $@

# What a group of dependencies installs.
$(VENV)/.dev $(VENV)/.test $(VENV)/.docs $(VENV)/.soak: $(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(run) -m pip install --quiet --group $*
	touch $@

clean: ## Remove what was built
	rm -rf target dist .venv*
