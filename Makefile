# SPDX-License-Identifier: Apache-2.0
#
# This needs GNU make and a POSIX sh. `make help` lists the targets with a "##" comment;
# every other target is internal.

PREFIX = /usr
SYSCONFDIR = /etc
DESTDIR =
PYTHON = /usr/bin/python3
# The dir where PYTHON finds packages under PREFIX. Debian's own dir has no version in its name.
PYTHONDIR = $(shell $(PYTHON) -c 'import sys, sysconfig; \
	prefix, debian = sys.argv[1].rstrip("/"), "deb_system" in sysconfig.get_scheme_names(); \
	version = "python%d.%d" % sys.version_info[:2]; \
	place = sysconfig.get_path("purelib", "posix_prefix", {"base": prefix, "platbase": prefix}); \
	print(prefix + "/lib/python3/dist-packages" if debian and prefix == "/usr" else \
	prefix + "/lib/" + version + "/dist-packages" if debian else place)' '$(PREFIX)')

# Packages set these two: a package compiles the byte-code when it is installed, and Debian has another dir for zsh.
BYTECODE = yes
ZSHDIR = $(PREFIX)/share/zsh/site-functions
# The dir for what deb, rpm, wheel and release build.
DIST = dist
# The key of gpg's that signs a release, if it isn't gpg's default one.
KEY =

programs = cdi-runtime cdi-hook
links = cdi-runc cdi-crun
bindir = $(DESTDIR)$(PREFIX)/bin
mandir = $(DESTDIR)$(PREFIX)/share/man
unitdir = $(DESTDIR)$(PREFIX)/lib/systemd/system
confdir = $(DESTDIR)$(SYSCONFDIR)/cdi-hook
conf = $(confdir)/cdi-hook.conf
udev = $(DESTDIR)$(PREFIX)/lib/udev/rules.d/90-cdi-hook.rules
tmpfiles = $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/cdi-hook.conf
logrotate = $(DESTDIR)$(SYSCONFDIR)/logrotate.d/cdi-hook
bash = $(DESTDIR)$(PREFIX)/share/bash-completion/completions/cdi-hook
zsh = $(DESTDIR)$(ZSHDIR)/_cdi-hook
fish = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/cdi-hook.fish
# Print a file with what it has of engines.
fill = $(PYTHON) -B packaging/fill.py
completion = $(PYTHON) -Bc 'from cdi_hook import cli; cli.run()' completion
units = $(notdir $(wildcard packaging/systemd/*.path packaging/systemd/*.service))
docdir = $(DESTDIR)$(PREFIX)/share/doc/cdi-hook
# What the documents link to. They are installed with links that lead there, and without links to what stays in the source.
examples = $(patsubst packaging/%,%,$(wildcard packaging/place.svg packaging/demo/example.yaml \
	packaging/kubernetes/* packaging/kubernetes/*/*))
results = README.md bench.md growth.svg life.svg
relink = sed -E -e 's,\]\(packaging/hooks\.d/,](../../cdi-hook/hooks.d/,g' -e 's,\]\((\.\./)?packaging/,](examples/,g' \
	-e 's,\]\(tests/bench/results/,](bench/,g' -e 's,\]\(cdi_hook/README\.md,](python.md,g' \
	-e 's,\[([^]]*)\]\((CHANGELOG|CONTRIBUTING|tests/README)\.md[^)]*\),\1,g'
hooksdir = $(DESTDIR)$(PREFIX)/share/cdi-hook/hooks.d
hooks = $(patsubst packaging/hooks.d/%,%,$(wildcard packaging/hooks.d/README.md packaging/hooks.d/*/*.json))
pages = $(notdir $(wildcard packaging/man/*))
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
	@test -n '$(PYTHONDIR)' # if this fails, there is no PYTHON, and the shell has said so
	@$(completion) bash >/dev/null # if this fails, PyYAML is missing
	install -d '$(bindir)'
	find cdi_hook \( -name '*.py' -o -name py.typed \) \
		-exec sh -c 'for file; do install -Dpm 644 "$$file" "$$0/$$file" || exit; done' '$(DESTDIR)$(PYTHONDIR)' {} +
	@# The mode "timestamp" is set even if SOURCE_DATE_EPOCH is: Python then compares the time and size of the
	@# source, which is quick, and notices an update.
	$(if $(BYTECODE),umask 022 && $(PYTHON) -m compileall -q --invalidation-mode timestamp \
		-d '$(PYTHONDIR)/cdi_hook' '$(DESTDIR)$(PYTHONDIR)/cdi_hook' && \
		$(PYTHON) -Bc 'import sys; from cdi_hook import bytecode; bytecode.write(*sys.argv[1:])' \
			'$(DESTDIR)$(PYTHONDIR)/cdi_hook' '$(PYTHONDIR)/cdi_hook')
	for program in $(programs); do \
		sed "s|^cdi_lib='' cdi_python=.*|cdi_lib='$(PYTHONDIR)' cdi_python='$(PYTHON)'|" \
			"packaging/bin/$$program" >'$(bindir)/.'"$$program.new" && \
		chmod 755 '$(bindir)/.'"$$program.new" && \
		mv '$(bindir)/.'"$$program.new" '$(bindir)/'"$$program" || exit; \
	done
	for link in $(links); do ln -sf cdi-runtime '$(bindir)/'"$$link" || exit; done
	[ -e '$(conf)' ] || install -Dm 644 packaging/cdi-hook.conf '$(conf)'
	for page in $(pages); do \
		target='$(mandir)/man'"$${page##*.}/$$page" && install -d "$${target%/*}" && \
		$(fill) "packaging/man/$$page" >"$$target" && chmod 644 "$$target" || exit; \
	done
	for link in $(links); do ln -sf cdi-runtime.8 '$(mandir)/man8/'"$$link.8" || exit; done
	for file in '$(bash)' '$(zsh)' '$(fish)'; do install -d "$${file%/*}" || exit; done
	umask 022 && $(completion) bash >'$(bash)' && $(completion) zsh >'$(zsh)' && $(completion) fish >'$(fish)'
	install -d '$(unitdir)'
	for unit in $(units); do \
		$(fill) "packaging/systemd/$$unit" >'$(unitdir)/'"$$unit" && \
		sed -i 's|/usr/bin/cdi-|$(PREFIX)/bin/cdi-|' '$(unitdir)/'"$$unit" && \
		chmod 644 '$(unitdir)/'"$$unit" || exit; \
	done
	install -Dpm 644 packaging/udev/90-cdi-hook.rules '$(udev)'
	install -Dpm 644 packaging/systemd/cdi-hook.tmpfiles '$(tmpfiles)'
	install -Dpm 644 packaging/cdi-hook.logrotate '$(logrotate)'
	install -d '$(docdir)'
	$(relink) README.md >'$(docdir)/README.md'
	$(relink) SECURITY.md >'$(docdir)/SECURITY.md'
	$(relink) cdi_hook/README.md >'$(docdir)/python.md'
	chmod 644 '$(docdir)'/*.md
	for file in $(examples); do \
		[ -d "packaging/$$file" ] || install -Dm 644 "packaging/$$file" '$(docdir)/examples/'"$$file" || exit; \
	done
	for file in $(results); do install -Dm 644 "tests/bench/results/$$file" '$(docdir)/bench/'"$$file" || exit; done
	for file in $(hooks); do \
		target='$(hooksdir)/'"$$file" && install -d "$${target%/*}" && \
		sed -e 's|/usr/bin/cdi-|$(PREFIX)/bin/cdi-|' -e 's|/usr/share/cdi-|$(PREFIX)/share/cdi-|' \
			"packaging/hooks.d/$$file" >"$$target" && \
		chmod 644 "$$target" || exit; \
	done

uninstall: ## remove what install installed, but not a configuration that was edited
	@test -n '$(PYTHONDIR)'
	rm -rf '$(DESTDIR)$(PYTHONDIR)/cdi_hook'
	for name in $(programs) $(links); do rm -f '$(bindir)/'"$$name"; done
	for name in $(pages) $(links:=.8); do rm -f '$(mandir)/man'"$${name##*.}/$$name"; done
	for name in $(units); do rm -f '$(unitdir)/'"$$name"; done
	rm -f '$(udev)' '$(tmpfiles)' '$(logrotate)' '$(bash)' '$(zsh)' '$(fish)'
	rm -rf '$(DESTDIR)$(PREFIX)/share/cdi-hook' '$(docdir)'
	if cmp -s packaging/cdi-hook.conf '$(conf)'; then rm '$(conf)' && rmdir '$(confdir)' 2>/dev/null || :; fi

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
