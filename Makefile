# The two commands of the README are `make run` and `make test`. Each installs what is missing first (.ci/setup).

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
CONFLUX := $(TARGET_DIR)/debug/conflux
SIM := $(or $(CARGO_TARGET_DIR),$(CURDIR)/chaos/sim/target)/debug/conflux-sim
# For `conflux dev`: make run ARGS="--shards 3 --data-dir /tmp/federation"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup build run test check api-fuzz fuzz fmt measure moves bench chaos chaos-smoke chaos-long chaos-gate sim sim-test

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what the build needs (Debian; nothing where it is there)
	@.ci/setup

# Always the whole workspace: cargo unifies features over what it is asked to build, and building parts of it one by
# one would compile shared dependencies more than once.
build: setup ## compile the conflux binary
	$(CARGO) build --workspace --locked --bin conflux

run: build ## run a federation on this machine until Ctrl-C (ARGS="..." goes to conflux dev)
	@exec $(CONFLUX) dev $(ARGS)

test: build ## run every test; those in tests/ drive the real binary
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  set -x; CONFLUX_BIN=$(CONFLUX) $(CARGO) nextest run --workspace --locked --no-fail-fast && \
	  $(CARGO) test --workspace --locked --doc --quiet; \
	else \
	  set -x; CONFLUX_BIN=$(CONFLUX) $(CARGO) test --workspace --locked --no-fail-fast; \
	fi

# The simulation is a workspace of its own: that it still compiles shows here, not when somebody needs it.
check: ## fmt, clippy and rustdoc with warnings denied, licences, that the simulation compiles; writes nothing
	@.ci/setup check
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet
	cd chaos/sim && $(CARGO) check --locked --quiet
	@.ci/licences

# Not part of `make test`: it takes minutes and needs schemathesis (`pip install schemathesis`; SCHEMATHESIS=path says where).
api-fuzz: build ## ask a federation of its own everything that /openapi.json allows, and more
	@tests/schemathesis.sh $(CONFLUX) $(ARGS)

# Not part of `make test`: it compiles the readers of contents once more, with a sanitizer, and runs for as long as it is told.
TARGETS ?=
fuzz: setup ## run each fuzz target for SECONDS=60 (TARGETS="yaml toml": only these)
	@CARGO="$(CARGO)" shard/fuzz/run $(or $(SECONDS),60) $(TARGETS)

# Not part of `make test`: it takes as long as it is told. docs/chaos.md says what it does and how to read its report.
chaos: setup ## faults, load and checkers on a federation of its own for SECONDS=600 (SEED=42, ARGS="..." for conflux-chaos run)
	$(CARGO) build --workspace --locked --bin conflux --bin conflux-chaos
	CONFLUX_BIN=$(CONFLUX) $(TARGET_DIR)/debug/conflux-chaos run --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED)) $(ARGS)

# Under four minutes once it is compiled, also on a machine that is busy: it looks for violations, whatever the load comes to.
chaos-smoke: ## the same for SECONDS=75 with seed 7, for .ci/run
	@$(MAKE) chaos SECONDS=$(or $(SECONDS),75) SEED=$(or $(SEED),7) ARGS="--least-rate 20 $(ARGS)"

# Optimised, with all that a debug build can be harmed by: the profile `chaos`. JOBS runs at a time share the seconds out.
chaos-long: setup ## many seeds for SECONDS=7200 of harm in all, from SEED=100 on, JOBS=4 at a time, and one page of all
	$(CARGO) build --workspace --locked --profile chaos --bin conflux --bin conflux-chaos
	CONFLUX_BIN=$(TARGET_DIR)/chaos/conflux $(TARGET_DIR)/chaos/conflux-chaos campaign \
	  --harm $(or $(SECONDS),7200) --seed $(or $(SEED),100) --jobs $(or $(JOBS),4) $(ARGS)

chaos-gate: setup ## plants each known bug in turn, JOBS=2 at a time; conflux-chaos must find them all
	$(CARGO) build --workspace --locked --profile chaos --bin conflux --bin conflux-chaos
	CONFLUX_BIN=$(TARGET_DIR)/chaos/conflux $(TARGET_DIR)/chaos/conflux-chaos gate --jobs $(or $(JOBS),2) $(ARGS)

# Not part of `make test`: a build of its own (docs/adr/0007-simulation.md). SEED=7 runs one seed and writes what happens to seed-7.txt.
sim: setup ## the members in a simulation, seeds SEEDS=1..2000 (SEED=7: only this one, with its trace; ARGS="..." for conflux-sim)
	cd chaos/sim && $(CARGO) build --locked
	$(SIM) $(if $(SEED),replay --seed $(SEED) --trace seed-$(SEED).txt,run --seeds $(or $(SEEDS),1..2000)) $(ARGS)

sim-test: setup ## that a seed of the simulation gives the same run twice, and that planted bugs are found
	cd chaos/sim && $(CARGO) test --locked

measure: build ## run the measurements that are no tests, and print what they find
	$(CARGO) test --workspace --locked --lib -- --ignored --nocapture

# The same test as in `make test`, for longer, as a release build. MOVES of each of so many TENANTS at a time, SETS of tenants one after
# the other; MIB: what each has at first. WRITERS is doubled by those with keys of their own, and one more writes bodies of LARGE_KIB.
moves: setup ## move tenants under load and say what clients feel (TENANTS=10 SETS=4 MOVES=5 MIB=1 WRITERS=2 WATCHERS=51 LARGE_KIB=1023)
	$(CARGO) build --release --workspace --locked --bin conflux
	CONFLUX_TEST_TENANTS=$(or $(TENANTS),10) CONFLUX_TEST_SETS=$(or $(SETS),4) CONFLUX_TEST_MOVES=$(or $(MOVES),5) \
	  CONFLUX_TEST_TENANT_MIB=$(or $(MIB),1) CONFLUX_TEST_WRITERS=$(or $(WRITERS),2) CONFLUX_TEST_WATCHERS=$(or $(WATCHERS),51) \
	  CONFLUX_TEST_LARGE_KIB=$(or $(LARGE_KIB),1023) CONFLUX_TEST_LARGE_EVERY_MS=2000 CONFLUX_BIN=$(TARGET_DIR)/release/conflux \
	  $(CARGO) test --release --workspace --locked --test moves -- --nocapture tenants_move_while_they_are_used

# A release build and about a quarter of an hour, better on a machine that nobody else uses; ARGS="--quick" for four minutes,
# ARGS="--full" for what is published.
bench: setup ## measure against etcd on this machine and renew docs/benchmarks.md (needs etcd-server, nginx-light, strace)
	@.ci/setup bench
	$(CARGO) build --release --workspace --locked --bin conflux --bin conflux-bench
	$(TARGET_DIR)/release/conflux-bench run --conflux $(TARGET_DIR)/release/conflux $(ARGS)
	$(TARGET_DIR)/release/conflux-bench report

fmt: ## format the code
	$(CARGO) fmt --all
