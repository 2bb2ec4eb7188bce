# Two commands after a clone: `make demo` shows the main job on real packets, `make test` runs all tests.
# Both install what they need: Debian's packages by apt-get, crates by cargo.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Programs that run-time and tests need, and the package of each.
PACKAGES := iptables ipset iproute2 nftables conntrack tcpdump iputils-ping gcc libc6-dev clang libclang-dev libipset-dev pkg-config
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
TARGET := $(or $(CARGO_TARGET_DIR),target)
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo || true)

.PHONY: help deps demo bench bench-walk test lint fmt crd deps-helm deps-fuzz fuzz defects parity ci clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## Install what building, running and testing need (Debian's packages)
	@missing=(); for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing+=($$p); done; \
	if [ $${#missing[@]} -gt 0 ]; then \
	  command -v apt-get >/dev/null || { echo "install by hand: $${missing[*]}" >&2; exit 1; }; \
	  echo "installing $${missing[*]}"; \
	  $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; \
	fi
	@command -v cargo >/dev/null || { echo "cargo is missing: install the Rust toolchain named in Cargo.toml (rust-version)" >&2; exit 1; }

deps-helm: ## Install what the tests of the Helm chart need where there is no helm (a Python package with its engine)
	@command -v helm >/dev/null || target/helm/bin/python -c 'import helm_python' 2>/dev/null || \
	{ python3 -m venv target/helm && target/helm/bin/pip install --quiet --disable-pip-version-check helm-python-sdk==0.2.2; }

demo: ## Real packets through a throw-away gateway, no cluster needed; simulated where there is no root
	@if [ "$$(id -u)" = 0 ] || command -v sudo >/dev/null; then $(MAKE) --no-print-directory deps; \
	else echo "neither root nor sudo: the demo runs on the simulated kernel"; fi
	cargo build
	$(SUDO) $(TARGET)/debug/smartnat demo

SIZES ?= 1,100,1000,10000,100000
RUNS ?= 7
OUT ?= docs/performance

# Criterion first: it needs no privileges, and the report takes in what it found. What it left of another version goes.
bench: deps ## Measure on real packets and write docs/performance: make bench SIZES=1,1000 RUNS=7 OUT=DIR
	rm -rf $(TARGET)/criterion
	cargo bench -p smartnat-sim --bench gateway
	cargo build --release -p smartnat-bench
	$(SUDO) $(TARGET)/release/smartnat-bench --sizes $(SIZES) --runs $(RUNS) --criterion $(TARGET)/criterion --out $(OUT)

bench-walk: ## Packets a second through the simulated kernel
	cargo bench -p smartnat-sim --bench walk

test: deps ## All tests; those on real packets need root and say "skipped" without
	cargo build -p smartnat
	cargo test --workspace --no-fail-fast

lint: ## Format, clippy, documentation, dependency direction
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	@! cargo tree -p smartnat-core -e normal --prefix none | grep -E '^(tokio|kube|k8s-openapi|rtnetlink|netlink-sys|rustix|libc|mio|socket2) ' \
	  || { echo "smartnat-core must not depend on I/O" >&2; exit 1; }

fmt: ## Format the code
	cargo fmt --all

crd: ## Write crds/ anew from the Rust types
	cargo run --quiet -- crd > crds/smartnat.aureacentral.com_mappings.yaml

PACKETS ?= 20000
SEQUENCES ?= 500

parity: deps ## The same packets and operations on the simulated and the Linux kernel: make parity PACKETS=20000
	PACKETS=$(PACKETS) PARITY_SEQUENCES=$(SEQUENCES) SMARTNAT_REQUIRE_PRIVILEGES=1 \
	  cargo test --release -p smartnat-tests --test parity --test parity_operations -- --nocapture

TIME ?= 60

deps-fuzz: deps ## Install what fuzzing needs beside: a nightly toolchain and cargo-fuzz
	@command -v rustup >/dev/null || { echo "fuzzing needs a nightly toolchain; install rustup" >&2; exit 1; }
	@rustup run nightly cargo --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal
	@command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --version 0.13.2 --locked

# Finds go to fuzz/corpus-found, so that the committed corpus stays small. Nothing is unsafe, so no sanitizer.
fuzz: ## Fuzz for TIME seconds: make fuzz T=history TIME=60; without T every target in turn
	@{ rustup run nightly cargo --version && command -v cargo-fuzz; } >/dev/null 2>&1 \
	  || { echo "fuzzing needs a nightly toolchain and cargo-fuzz: make deps-fuzz" >&2; exit 1; }
	@for t in $(or $(T),$(FUZZ_TARGETS)); do \
	  [ -e fuzz/fuzz_targets/$$t.rs ] || { echo "no target $$t; there are: $(FUZZ_TARGETS)" >&2; exit 1; }; \
	  words=fuzz/dictionaries/$$t; [ -e $$words ] && words=-dict=$$words || words=; \
	  echo "fuzzing $$t for $(TIME) s"; mkdir -p fuzz/corpus-found/$$t; \
	  cargo +nightly fuzz run --sanitizer none $$t fuzz/corpus-found/$$t fuzz/corpus/$$t -- \
	    -max_total_time=$(TIME) -timeout=25 -len_control=0 -max_len=2048 -verbosity=0 -print_final_stats=1 $$words; \
	done

defects: deps ## Put each known defect in and see the test of its name fail; D=part of a name for one
	SMARTNAT_REQUIRE_PRIVILEGES=1 tests/defects/run $(D)

ci: lint test demo ## What CI runs

clean: ## Remove build output
	cargo clean
