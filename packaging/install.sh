#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# install.sh install|uninstall: what these targets of the Makefile do. It has the variables' defaults, and says what they are.
set -eu
umask 022
cd "$(dirname "$0")/.."

lib=$PYTHONDIR
# The dir where PYTHON finds packages under PREFIX. Debian's own dir has no version in its name.
[ "$lib" ] || lib=$($PYTHON -c 'import sys, sysconfig
prefix, debian = sys.argv[1].rstrip("/"), "deb_system" in sysconfig.get_scheme_names()
own = prefix + "/lib/python%d.%d/dist-packages" % sys.version_info[:2]
print(prefix + "/lib/python3/dist-packages" if debian and prefix == "/usr" else own if debian else
	sysconfig.get_path("purelib", "posix_prefix", {"base": prefix, "platbase": prefix}))' "$PREFIX")
share=$PREFIX/share doc=$PREFIX/share/doc/cdi-hook
conf=$DESTDIR$SYSCONFDIR/cdi-hook/cdi-hook.conf

# Print what is installed besides the package and the configuration, a line each: how its text is made, of what, and its place.
files() {
	for name in cdi-runtime cdi-hook; do echo "program packaging/bin/$name $PREFIX/bin/$name"; done
	for name in cdi-runc cdi-crun; do
		echo "link cdi-runtime $PREFIX/bin/$name"
		echo "link cdi-runtime.8 $share/man/man8/$name.8"
	done
	for page in packaging/man/*; do echo "placed $page $share/man/man${page##*.}/${page##*/}"; done
	for unit in packaging/systemd/*.path packaging/systemd/*.service; do
		echo "filled $unit $PREFIX/lib/systemd/system/${unit##*/}"
	done
	for hook in packaging/hooks.d/README.md packaging/hooks.d/*/*.json; do
		echo "placed $hook $share/cdi-hook/${hook#packaging/}"
	done
	echo "plain packaging/udev/90-cdi-hook.rules $PREFIX/lib/udev/rules.d/90-cdi-hook.rules"
	echo "plain packaging/systemd/cdi-hook.tmpfiles $PREFIX/lib/tmpfiles.d/cdi-hook.conf"
	echo "plain packaging/cdi-hook.logrotate $SYSCONFDIR/logrotate.d/cdi-hook"
	echo "completion bash $share/bash-completion/completions/cdi-hook"
	echo "completion zsh ${ZSHDIR:-$share/zsh/site-functions}/_cdi-hook"
	echo "completion fish $share/fish/vendor_completions.d/cdi-hook.fish"
	echo "document README.md $doc/README.md"
	echo "document SECURITY.md $doc/SECURITY.md"
	echo "document cdi_hook/README.md $doc/python.md"
	# what these link to
	for file in packaging/place.svg packaging/demo/example.yaml packaging/kubernetes/* packaging/kubernetes/*/*; do
		[ -d "$file" ] || echo "plain $file $doc/examples/${file#packaging/}"
	done
	for name in README.md bench.md growth.svg life.svg; do
		echo "plain tests/bench/results/$name $doc/bench/$name"
	done
}

completion() { $PYTHON -Bc 'from cdi_hook import cli; cli.run()' completion "$1"; }

# Print stdin with the places below PREFIX of what a text says is below /usr.
moved() { sed -E -e "s,/usr/(bin|share|share/doc)/cdi\b,$PREFIX/\1/cdi,g"; }

# Print a file's text as it is installed.
made() {
	case $1 in
	program) sed "s|^cdi_lib='' cdi_python=.*|cdi_lib='$lib' cdi_python='$PYTHON'|" "$2" ;;
	filled)
		text=$($PYTHON -B packaging/fill.py "$2")
		printf '%s\n' "$text" | moved
		;;
	placed) moved <"$2" ;;
	completion) completion "$2" ;;
	# links lead to what is installed, and there are none to what stays in the source
	document)
		moved <"$2" | sed -E \
			-e 's,\[([^]]*)\]\(((\.\./)?packaging/manual/[^)]*|CHANGELOG|CONTRIBUTING|tests/README)\.md[^)]*\),\1,g' \
			-e 's,\]\(packaging/hooks\.d/,](../../cdi-hook/hooks.d/,g' -e 's,\]\((\.\./)?packaging/,](examples/,g' \
			-e 's,\]\(tests/bench/results/,](bench/,g' -e 's,\]\(cdi_hook/README\.md,](python.md,g'
		;;
	plain) cat "$2" ;;
	esac
}

# Make a file or link; a program may be running that is replaced.
put() {
	target=$DESTDIR$3
	new=${target%/*}/.${3##*/}.new
	install -d "${target%/*}"
	if [ "$1" = link ]; then
		ln -sf "$2" "$target"
		return
	fi
	made "$1" "$2" >"$new"
	if [ "$1" = program ]; then chmod 755 "$new"; else chmod 644 "$new"; fi
	mv "$new" "$target"
}

case $1 in
install)
	completion bash >/dev/null # if this fails, PyYAML is missing
	find cdi_hook \( -name '*.py' -o -name py.typed \) \
		-exec sh -c 'for file; do install -Dpm 644 "$file" "$0/$file" || exit; done' "$DESTDIR$lib" {} +
	if [ "$BYTECODE" ]; then
		# The mode "timestamp" is set even if SOURCE_DATE_EPOCH is: Python then compares the time and size of the
		# source, which is quick, and notices an update.
		$PYTHON -m compileall -q --invalidation-mode timestamp -d "$lib/cdi_hook" "$DESTDIR$lib/cdi_hook"
		$PYTHON -Bc 'import sys; from cdi_hook import bytecode; bytecode.write(*sys.argv[1:])' \
			"$DESTDIR$lib/cdi_hook" "$lib/cdi_hook"
	fi
	[ -e "$conf" ] || install -Dm 644 packaging/cdi-hook.conf "$conf"
	files | while read -r how source place; do put "$how" "$source" "$place" </dev/null; done
	;;
uninstall)
	files | while read -r _ _ place; do rm -f "$DESTDIR$place"; done
	rm -rf "$DESTDIR$lib/cdi_hook" "$DESTDIR$share/cdi-hook" "$DESTDIR$doc"
	! cmp -s packaging/cdi-hook.conf "$conf" || rm "$conf"
	rmdir "${conf%/*}" 2>/dev/null || :
	;;
esac
