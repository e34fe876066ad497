# make             builds target/release/libdime.so and the tools dime and dime-qa beside it, installing what the build lacks
# make demo        runs a C program against a libdime.so built for that alone: on the GPUs here, else on four simulated ones
# make check       while you work: format, lint, unit tests and one sweep on the simulated node, in minutes
# make sim         builds the simulated node: a CUDA driver and a NCCL that run on the CPU, in target/sim
# make test        everything that can be checked without a GPU: format, lint, tests, headers, dependencies
# make dist        builds the packages into target/dist: a Python wheel, a Debian package, an archive
# make release-check  whether this commit can be released: versions, all tests, packages that another build repeats
# make fuzz        fuzzes what reads bytes from outside, each target for FUZZ_SECONDS (3600)
# make gpu-test    tests that need at least two GPUs
# make bench       latency of libdime.so and of the real NCCL on the GPUs here
# make plot        draws docs/latency-h200.svg again, from perf/results
# make search      the search behind the routing tables, on GPUS GPUs
# make headers     writes include/ and docs/configuration.md again; make check-headers fails when that would change them
# make docs        the documentation of the Rust code, in target/doc
#
# Nothing is installed into the system but Debian packages, and those only when they are missing. CUDA's compilers go to
# target/cuda and target/nvcc, NCCL releases, cargo-deny, cargo-fuzz and what `make dist` needs to ~/.cache/dime
# (DIME_CACHE_DIR moves that).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
export PIP_ROOT_USER_ACTION := ignore
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: build packages cuda nvcc sim demo check test dist release-check fuzz gpu-test bench plot search headers check-headers docs \
	clean

# Two invocations: in one, cargo would give the tools the exports of libdime.so, and they would interpose themselves.
build: packages cuda
	cargo build --release --locked --package dime
	cargo build --release --locked --package dime-cli --package dime-qa
	@echo "target/release/libdime.so is ready"

packages:
	@tools/install_packages.sh build

cuda: packages
	@tools/install_cuda.sh kernels

nvcc: packages
	@tools/install_cuda.sh nvcc

sim: cuda
	@$(MAKE) --no-print-directory -C sim -j"$$(nproc)"

demo: packages cuda
	@tools/demo.sh

check: packages cuda
	@tools/check.sh

test:
	@tools/test.sh

dist: cuda
	@tools/install_packages.sh dist
	@tools/dist.sh

release-check:
	@tools/release_check.sh

fuzz: packages
	@tools/fuzz.sh

gpu-test: build
	tests/gpu/run_gpu_test.sh

bench: build
	tests/gpu/run_bench.sh

# tests/suite/plot.rs fails when this would change the file.
plot: build
	target/release/dime plot perf/results/h200-x2.jsonl perf/results/h200-x4.jsonl --mode graph --out docs/latency-h200.svg

# GPUS=8 SEARCH_ARGUMENTS="0 256 8388608" narrow it down.
GPUS ?= 2
search: nvcc
	PATH="$$PATH:$(CURDIR)/target/nvcc/nvidia/cu13/bin" nvcc -arch=native -Ikernels -std=c++20 -O3 -Ltarget/nvcc/nvidia/cu13/lib -o target/search perf/search.cu
	target/search $(GPUS) $(SEARCH_ARGUMENTS)

headers:
	cargo run --quiet --locked --package dime-headers -- write

check-headers:
	cargo run --quiet --locked --package dime-headers -- check

docs:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --quiet --locked --no-deps --document-private-items --package dime

clean:
	cargo clean
