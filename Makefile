# `make help` prints this list; it is made from the line above each target.
.DEFAULT_GOAL := help
.PHONY: help build demo test check bench crowd fuzz peers doc clean

# Numbers to pass on: make fuzz FUZZ="--seconds 60"
FUZZ ?=
BENCH ?=
CROWD ?=

## this list
help:
	@awk '/^## / { text = substr($$0, 4) } /^[a-z]+:/ && text { sub(":.*", ""); printf "make %-8s %s\n", $$0, text; text = "" }' Makefile

## the release binary: target/release/piecemeal
build:
	cargo build --release

## a swarm on this machine: create, tracker, seed, and four that get and give
demo:
	cargo run --release --example demo

## all tests; those with real clients skip the clients that are not installed
test:
	cargo test

## formatting, lints, tests and documentation, warnings denied
check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --all-targets --no-default-features -- -D warnings
	cargo test
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

## speed, processor time and memory; BENCH="..." is passed on
bench:
	cargo bench -- $(BENCH)

## real swarms on links with a rate (root, iproute2); CROWD="..." is passed on
crowd: build
	tests/bench/crowd.py $(CROWD)

## random input to every decoder; FUZZ="..." is passed on
fuzz:
	cargo run --release --example fuzz -- $(FUZZ)

## install the real clients that tests/interop talks to (Debian packages as root; else .peers/)
peers:
	tests/interop/install.sh

## the documentation: target/doc/piecemeal/index.html
doc:
	cargo doc --no-deps --document-private-items

## remove what was built; .peers/ stays, it takes minutes to make again
clean:
	cargo clean
