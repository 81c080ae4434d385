# `make help` prints this list; it is made from the line above each target.
.DEFAULT_GOAL := help
.PHONY: help build install uninstall static dist demo test check bench crowd fuzz peers doc clean

# Numbers to pass on: make fuzz FUZZ="--seconds 60"
FUZZ ?=
BENCH ?=
CROWD ?=

# Where it is installed; DESTDIR is put before it, for packages.
PREFIX ?= /usr/local
DESTDIR ?=
bindir = $(DESTDIR)$(PREFIX)/bin
mandir = $(DESTDIR)$(PREFIX)/share/man/man1
bashdir = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

# The program that is installed: another one than that of `make build`, if it is named.
BINARY ?= target/release/piecemeal

version = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
host = $(shell rustc -vV | sed -n 's/^host: //p')
musl = $(subst -gnu,-musl,$(host))

## this list
help:
	@awk '/^## / { text = substr($$0, 4) } /^[a-z]+:/ && text { sub(":.*", ""); printf "make %-9s %s\n", $$0, text; text = "" }' Makefile

## the release binary: target/release/piecemeal
build:
	cargo build --release

## the program, its man page and its completions, below PREFIX (/usr/local)
install: $(if $(filter target/release/piecemeal,$(BINARY)),build)
	install -d "$(bindir)" "$(mandir)" "$(bashdir)" "$(zshdir)" "$(fishdir)"
	install -m 755 $(BINARY) "$(bindir)/piecemeal"
	$(BINARY) man > "$(mandir)/piecemeal.1"
	$(BINARY) completions bash > "$(bashdir)/piecemeal"
	$(BINARY) completions zsh > "$(zshdir)/_piecemeal"
	$(BINARY) completions fish > "$(fishdir)/piecemeal.fish"
	chmod 644 "$(mandir)/piecemeal.1" "$(bashdir)/piecemeal" "$(zshdir)/_piecemeal" \
		"$(fishdir)/piecemeal.fish"

## remove what was installed
uninstall:
	rm -f "$(bindir)/piecemeal" "$(mandir)/piecemeal.1" "$(bashdir)/piecemeal" \
		"$(zshdir)/_piecemeal" "$(fishdir)/piecemeal.fish"

## a binary that needs no library: target/static/piecemeal (musl if rustup has it, else glibc)
static:
	@mkdir -p target/static
	@if rustup target list --installed 2>/dev/null | grep -qx $(musl); then \
		cargo build --release --target $(musl) && \
		cp target/$(musl)/release/piecemeal target/static/piecemeal; \
	else \
		echo "static: the target $(musl) is not installed (rustup target add $(musl)): linking glibc"; \
		RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target $(host) && \
		cp target/$(host)/release/piecemeal target/static/piecemeal; \
	fi
	@ls -l target/static/piecemeal

## archives to hand out, in target/dist: the source, and the program with man page and completions
dist: build
	rm -rf target/dist
	mkdir -p target/dist
	git archive --prefix=piecemeal-$(version)/ -o target/dist/piecemeal-$(version).tar.gz HEAD
	$(MAKE) --no-print-directory install BINARY=./$(BINARY) PREFIX= \
		DESTDIR=target/dist/piecemeal-$(version)-$(host)
	cp README.md LICENSE target/dist/piecemeal-$(version)-$(host)/
	tar -C target/dist -czf target/dist/piecemeal-$(version)-$(host).tar.gz piecemeal-$(version)-$(host)
	rm -r target/dist/piecemeal-$(version)-$(host)
	@ls -l target/dist

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
