# The commands of the house; `make` alone lists them. Each gets what it needs by apt, or says what to install.
release := target/x86_64-unknown-linux-gnu/release
packages := -p pintle -p pintle-demo
PREFIX ?= /usr/local

.PHONY: help all build demo test test-all undefended vm oracles image-oracles bench bench-images bench-shim install clean tools

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 10

all: build
build: export PINTLE_COMMIT ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
# Each by itself: what one asks of dependencies that several have would go into the others, too.
build: tools ## target/release/{pintle,pintle-image,containerd-shim-pintle-v1,pintle-keep}
	cargo build --release $(packages)
	cargo build --release -p pintle-image
	cargo build --release -p pintle-shim
	@mkdir -p target/release
	@ln -sf $(addprefix $(abspath $(release))/,pintle pintle-demo pintle-image containerd-shim-pintle-v1 pintle-keep) target/release/

demo: build ## a layered image and a real container of it: what is isolated, how long its start takes, its life
	@demo/run

test: build ## format, lints, unit tests, conformance, runc's suite in part; closes with the counts
	@tests/all.sh

test-all: build ## the same with all of runc's suite and all of pintle's own in the test machine
	@tests/all.sh everything

undefended: ## the tests of known holes, shown to fail where the defences are taken away: docs/cve.md
	@tests/undefended/run

vm: build ## the test machine, made once: see cargo vm --help
	@cargo vm build

oracles: ## the newest runc and crun of Debian, to compare with, in target/oracles
	@tests/oracles.sh

image-oracles: ## umoci, skopeo, podman, containerd, a registry and test images, in target/oracles
	@tests/image-oracles.sh
	@tests/image-layouts.sh

bench: build ## time and memory beside runc, crun and the floor
	@bench/run

bench-images: ## what an image costs, beside umoci and skopeo
	@bench/images

bench-shim: ## memory, time and executions of the shim, beside the Go shim and runc
	@bench/shim

install: build ## PREFIX/sbin/pintle; pintle-image, pintle-keep and the shim in PREFIX/bin (PREFIX=/usr/local)
	install -D -m 755 $(release)/pintle $(DESTDIR)$(PREFIX)/sbin/pintle
	for name in pintle-image pintle-keep containerd-shim-pintle-v1; do \
		install -D -m 755 $(release)/$$name $(DESTDIR)$(PREFIX)/bin/$$name; done

clean: ## removes target/
	cargo clean

tools:
	@.ci/need cargo
	@.ci/need cc gcc libc6-dev
