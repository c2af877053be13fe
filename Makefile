# SPDX-License-Identifier: Apache-2.0
#
# This needs GNU make and a POSIX sh. `make help` lists the targets with a "##" comment;
# every other target is internal.

PREFIX = /usr
SYSCONFDIR = /etc
DESTDIR =
PYTHON = /usr/bin/python3
# If it is empty, the dir where PYTHON finds packages under PREFIX.
PYTHONDIR =
# Packages set these two: a package compiles the byte-code when it is installed, and Debian has another dir for zsh.
BYTECODE = yes
ZSHDIR =
# The dir for what deb, rpm, wheel and release build.
DIST = dist
# The key of gpg's that signs a release, if it isn't gpg's default one.
KEY =

# All shell scripts: the files whose first line names a shell.
shell_scripts = $(shell find packaging tests .ci -type f ! -name '*.gz' \
	-exec awk 'FNR == 1 && /^\#!.*sh$$/ { print FILENAME } { nextfile }' {} +)

.PHONY: help demo unit test check python machine cluster elsewhere faults fuzz coverage mutation bench install uninstall deb rpm wheel release clean
.DEFAULT_GOAL = help

help: ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo 'install and uninstall take DESTDIR= PREFIX=/usr SYSCONFDIR=/etc PYTHON=/usr/bin/python3.'
	@echo 'test takes ARGS= for pytest; it then runs on one Python only. fuzz and bench take ARGS=--help,'
	@echo 'mutation the names of changes, such as ARGS="cdi_hook.names*".'
	@echo 'Each target first installs what it needs: programs with apt-get, Python packages into .venv.'

demo: ## give a container a device with cdi-runtime, and check that it has the device
	@sh tests/setup.sh demo
	@sh packaging/demo/run.sh

# tests/house/test_install.py and test_hot_path.py are about what is installed.
unit: check ## run check, and the tests that need no root, no engine and nothing installed
	@sh tests/setup.sh unit
	@.venv/bin/python -m pytest -n auto --dist loadgroup $(or $(ARGS),tests/unit tests/cases tests/fuzz tests/house \
		--ignore tests/house/test_install.py --ignore tests/house/test_hot_path.py)

test: check ## run check, then the tests, on Python 3.11 and 3.13 where they are installed
	@sh tests/setup.sh test
	@for python in $(if $(ARGS),,.venv/3*/bin/python); do \
		if [ -x "$$python" ]; then "$$python" -m pytest -n auto --dist loadgroup tests/unit tests/cases tests/fuzz || exit; fi; \
	done
	@.venv/bin/python -m pytest -n auto --dist loadgroup $(ARGS)

check: ## check style, types, shell scripts, workflows, and that the code runs on Python 3.9
	@sh tests/setup.sh check
	.venv/bin/ruff check --output-format concise
	.venv/bin/ruff format --check
	.venv/bin/mypy
	shellcheck $(shell_scripts)
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*
	.venv/bin/vermin --quiet --no-tips --violations -t=3.9- cdi_hook packaging/kubernetes/device-plugin

python: ## run tests/unit and tests/cases on PYTHON, 3.9 or newer, with the newest packages that it takes
	$(PYTHON) -m venv --clear .venv/python
	.venv/python/bin/python -m pip install -q pytest pytest-randomly pytest-xdist hypothesis PyYAML python-json-logger \
		'tomli; python_version < "3.11"'
	.venv/python/bin/python -m pytest -n auto --dist loadgroup tests/unit tests/cases

machine: ## test on virtual machines: docker, containerd, AppArmor, SELinux, arm64; slow without KVM
	@sh tests/setup.sh machine
	@.venv/bin/python -m pytest -sv tests/machine/virtual $(ARGS)

cluster: ## run packaging/kubernetes/README.md on a Kubernetes, whose binaries CDI_HOOK_CLUSTER=DIR has
	@sh tests/setup.sh test
	@sh tests/setup.sh machine
	@.venv/bin/python -m pytest -sv -p no:randomly tests/cluster $(ARGS)

KINDS = bare sudo person bookworm engines sid 3.9 3.10 3.11 3.12 3.13 3.14 3.15
elsewhere: ## run `make test` on other machines, and `make python` on other Pythons: KINDS="bare sudo person bookworm sid 3.9"
	@sh tests/setup.sh elsewhere
	@for kind in $(KINDS); do sh tests/elsewhere/run.sh "$$kind" || exit; done

faults: ## have every system call of every form fail, and kill it there; takes two hours (test does a part)
	@sh tests/setup.sh test
	@CDI_HOOK_FAULTS=all .venv/bin/python -m pytest -n auto --dist loadgroup tests/faults

MINUTES = 10
fuzz: ## give what reads untrusted text generated input for MINUTES=10, and show what fails
	@sh tests/setup.sh fuzz
	@.venv/deep/bin/python -m tests.fuzz --minutes '$(MINUTES)' $(ARGS)

coverage: ## show which lines and branches the tests in tests/unit, cases and fuzz don't reach
	@sh tests/setup.sh coverage
	-@.venv/deep/bin/python -m coverage run -m pytest -q tests/unit tests/cases tests/fuzz $(ARGS)
	@.venv/deep/bin/python -m coverage report

mutation: ## change the pure modules in small ways, and list the changes that no test notices
	@sh tests/setup.sh mutation
	@PATH="$(CURDIR)/.venv/deep/bin:$$PATH" mutmut run $(ARGS)
	@.venv/deep/bin/mutmut results

bench: ## measure what cdi-runtime adds to a container's start, against floors
	@sh tests/setup.sh bench
	@.venv/bench/bin/python -m tests.bench $(ARGS)

install: ## install below DESTDIR
uninstall: ## remove what install installed, but not a configuration that was edited
install uninstall:
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' PYTHON='$(PYTHON)' PYTHONDIR='$(PYTHONDIR)' \
		BYTECODE='$(BYTECODE)' ZSHDIR='$(ZSHDIR)' sh packaging/install.sh $@

deb: ## build a package for Debian and Ubuntu in DIST=dist
	@sh tests/setup.sh deb
	@sh packaging/build.sh deb '$(DIST)'

rpm: ## build a package for Fedora, RHEL and Amazon Linux in DIST=dist
	@sh tests/setup.sh rpm
	@sh packaging/build.sh rpm '$(DIST)'

wheel: ## build a package for pip in DIST=dist
	@sh tests/setup.sh wheel
	@sh packaging/build.sh wheel '$(DIST)'

release: ## check that VERSION=X.Y.Z is ready, test it, and build all that is released, signed with KEY=
	@sh packaging/release.sh ready '$(VERSION)' '$(KEY)'
	@$(MAKE) test
	@$(MAKE) deb rpm wheel
	@sh tests/setup.sh release
	@sh packaging/release.sh finish '$(VERSION)' '$(KEY)' '$(DIST)'

clean: ## remove what the other targets made in this dir
	rm -rf .venv build dist mutants cdi_hook.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* .benchmarks
	find cdi_hook tests -name __pycache__ -prune -exec rm -rf {} +
