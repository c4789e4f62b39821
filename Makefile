# Every target installs what it needs. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
FUZZ_SECONDS ?= 600
SEEDS ?= 1000

.PHONY: sim help demo run test lint bench bench-finish bench-scale fuzz soak soak-memory soak-outages fmt

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## record 20 s of generated picture and sound end to end and show the files
	@.ci/install build
	@cargo build --quiet --bins -p recorder-control -p recorder-media -p recorder-tests
	@cargo run --quiet -p recorder-tests --bin demo

run: ## the same pair, left running
	@.ci/install build
	@cargo build --quiet --bins -p recorder-control -p recorder-media -p recorder-tests
	@cargo run --quiet -p recorder-tests --bin demo -- --serve

test: ## every test, on SQLite and on a private Postgres
	@.ci/install test
	@cargo build --workspace --bins --tests
	@tests/tools/with-postgres.sh cargo nextest run --workspace

lint: ## formatting, clippy without warnings (the rules over the tree are tests)
	@.ci/install build
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --quiet -- -D warnings

bench: ## CPU, memory and allocations of the media node at 1, 20 and 100 streams, over WHIP 1 and 20; binding to applied
	@.ci/install build
	@cargo build --release --quiet --bins -p recorder-control -p recorder-media -p recorder-tests --features recorder-media/count-allocations
	@target/release/bench --allocations
	@cargo build --release --quiet --bins -p recorder-control -p recorder-media -p recorder-tests
	@target/release/bench
	@target/release/bench --whip

bench-finish: ## how long after its publisher's end a file uploaded while recording is complete, by format and storage
	@.ci/install build
	@cargo build --release --quiet --bins -p recorder-control -p recorder-media -p recorder-tests
	@target/release/finish

bench-scale: ## 200 simulated nodes, 10,000 domains, 100,000 rules, on SQLite and on a private Postgres
	@.ci/install test
	@cargo build --release --quiet --bins -p recorder-control -p recorder-scale
	@tests/tools/with-postgres.sh target/release/scale

fuzz: ## every fuzz target for FUZZ_SECONDS (default 600) each
	@.ci/install build
	@tests/fuzz/run.sh $(FUZZ_SECONDS)

soak: ## two nodes under chaos for SOAK_SECONDS (default 3600): every frame accounted for
	@.ci/install build
	@cargo build --release --quiet --bins -p recorder-control -p recorder-media -p recorder-tests
	@target/release/soak

soak-memory: ## the bucket away for SOAK_SECONDS (default 600) with 20 streams: memory flat, then all delivered
	@.ci/install build
	@cargo build --release --quiet --bins -p recorder-control -p recorder-media -p recorder-tests
	@target/release/soak --memory

soak-outages: ## the bucket away for half an hour, the control plane for ten minutes, with everything recorded meanwhile
	@.ci/install test
	@cargo build --workspace --bins --tests
	@RECORDER_OUTAGE_SECONDS=1800 RECORDER_TEST_PATIENCE=3600 cargo nextest run -P long -p recorder-tests -E 'test(bucket_down)'
	@RECORDER_OUTAGE_SECONDS=600 RECORDER_TEST_PATIENCE=3600 cargo nextest run -P long -p recorder-tests -E 'test(control_down_at_publish)'

fmt: ## format the workspace
	@cargo fmt --all

sim: ## SEEDS (default 1000) simulated worlds, and 200 of one-way partitions; a failing one prints its replay
	@.ci/install build
	@cargo run --quiet -p recorder-sim -- --seeds $(SEEDS)
	@cargo run --quiet -p recorder-sim -- --seeds 200 --asymmetric
