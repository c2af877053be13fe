# SPDX-License-Identifier: Apache-2.0
"""The configuration as the door takes it: a few lines of sh, made from the file that only Python parses.

The door (packaging/bin/cdi-runtime) runs at every call of the runtime. It uses
the lines that were kept while they hold, and else asks for them here. They are
kept below the state dir under the path of the configuration, in dirs that only
we can enter:

    STATE/conf/etc/cdi-hook/cdi-hook.conf      the lines; its mtime is the file's
    STATE/conf/etc/cdi-hook/cdi-hook.conf.dir  empty; its mtime is that of the file's dir

A file that is edited gets another mtime, and so does its dir when a file is put
in its place. A shell may compare whole seconds only: what changed just now
isn't kept. Nor is what a link leads to: it may change and no dir with it.
"""

from __future__ import annotations

import os
import stat
import sys
import time

from cdi_hook import config, files

_SETTLED_NS = 2_000_000_000


def run() -> None:
    """Print the lines, and keep them."""
    environ = dict(os.environb)
    path = config.path(environ)
    before = _times(path)
    text = _lines(config.load(environ))
    sys.stdout.buffer.write(text)
    sys.stdout.flush()
    os.umask(0o077)
    directory = config.state_dir(environ, config.is_system_root())
    if directory and before and before == _times(path):
        try:
            _keep(f"{directory}/conf{path}", text, before)
        except OSError:
            pass  # then Python is asked again


def prune(directory: str) -> None:
    """Remove from a state dir the lines of configurations that are gone."""
    kept = f"{directory}/conf"
    for where, _, names in os.walk(kept, topdown=False):
        for name in names:
            path = f"{where}/{name}"
            if not os.path.lexists(path[len(kept) :].removesuffix(".dir")):
                os.unlink(path)
        if not os.listdir(where):
            os.rmdir(where)


def _lines(settings: config.Config) -> bytes:
    keys = ("ANNOTATION_PREFIXES", "DEVICE_ENV", "DEVICE_MOUNTS")
    words = [word for key in keys for word in settings.words(key)]
    # JSON may have a slash as "\/", so the longest part between two is what is searched for.
    patterns = dict.fromkeys(max(word.split("/"), key=len) for word in words)
    # The usual prefix is searched for by what a misspelt one has too.
    patterns = {"cdi.k8s": None, **{one: None for one in patterns if "cdi.k8s" not in one}}
    values = {
        "cdi_runtimes": settings["RUNTIMES"],
        "cdi_sources": " ".join(f"-e {pattern}" for pattern in patterns),
        # Where a line can't be used, anything may be a request: Python looks, and says so.
        "cdi_odd": "1" if settings.problems else "",
    }
    text = "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())
    return text.encode("utf-8", "surrogateescape")


def _quoted(value: str) -> str:
    return "'" + value.replace("\0", "").replace("'", "'\\''") + "'"


def _times(path: str) -> tuple[files.Identity, files.Identity] | None:
    """Return what tells the states of a file and its dir apart; None where its lines can't be kept."""
    if not path.startswith("/") or ".." in path or os.path.realpath(path) != path:
        return None
    identities = files.identify(path), files.identify(os.path.dirname(path))
    settled = time.time_ns() - _SETTLED_NS
    for one in identities:
        if one is None or max(one[3], one[4]) > settled:
            return None
    file, directory = identities
    return (file, directory) if file and directory and stat.S_ISREG(file[5]) else None


def _keep(path: str, text: bytes, times: tuple[files.Identity, files.Identity]) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    for name, data, identity in ((f"{path}.dir", b"", times[1]), (path, text, times[0])):
        files.replace(name, data, 0o600)
        os.utime(name, ns=(identity[3], identity[3]))
