# SPDX-License-Identifier: Apache-2.0
"""The configuration as cdi-runtime takes it: a few lines of sh, made from the file that only Python parses.

The shell script packaging/bin/cdi-runtime runs at every call of the runtime. It uses
the lines that were kept while they hold, and else asks for them here. They are
kept below the state dir under the path of the configuration, in dirs that only
we can enter:

    STATE/conf/etc/cdi-hook/cdi-hook.conf      the lines; its mtime is the file's
    STATE/conf/etc/cdi-hook/cdi-hook.conf.dir  empty; its mtime is that of the file's dir
    STATE/conf/etc/cdi-hook/cdi-hook.conf.text  what the file says

If there is no file, the names are cdi-hook.conf.none and cdi-hook.conf.none.dir, and
both have the mtime of the dir. There is no text then.

A file that is edited gets another mtime, and so does its dir when a file is put
in its place. A shell may compare whole seconds only: what changed just now
isn't kept. Nor is what a link leads to: it may change and no dir with it.

A package, tar, rsync and cp -p set a file's mtime, so the next file may have the
same. A shell can't see the ctime, which tells such a file: it is later than the mtime.
In an image it isn't. For both the last of the lines compares the text when a container
is created. The calls that follow go by the lines that are made then.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time

from cdi_hook.base import files, volumes
from cdi_hook.config import settings

_SETTLED_NS = 2_000_000_000
_WHOLE = b"cdi_whole='1'\n"  # the last line: the shell has read all of them
# A substitution: dash forgets which signals are blocked when it waits for a command of its own.
# Where there is no cmp, Python looks each time.
_WHOLE_IF_SAME = b"""case " $* " in *" create "* | *" run "* | *" restore "*)
cdi_whole=$(PATH=$cdi_path cmp -s -- "$cdi_made.text" "$cdi_conf" 2>/dev/null && echo 1) || cdi_odd=1 ;;
*) cdi_whole=1 ;; esac
"""


def run() -> None:
    """Print the lines, and keep them; raises OSError if nobody can tell what they are."""
    environ = dict(os.environb)
    path = settings.path(environ)
    before = _times(path)
    config = settings.load(environ)
    if config.failure:
        raise config.failure
    text = _lines(config)
    sys.stdout.buffer.write(text)
    sys.stdout.flush()
    try:
        directory = settings.state_dir(environ, files.is_system_root())
        said = files.read(path) if before and before[0] else b""
        if directory and before and before == _times(path):
            if _is_set(path):
                text = text.removesuffix(_WHOLE) + _WHOLE_IF_SAME
            _keep(f"{directory}/conf{path}", text, said, before)
        elif directory and path.startswith("/") and ".." not in path:
            os.unlink(f"{directory}/conf{path}")  # cdi-runtime would take it for the calls that follow
    except OSError:
        pass  # then Python is asked again


def prune(directory: str) -> None:
    """Remove from a state dir the lines of configurations that are gone, or say something else now."""
    kept = f"{directory}/conf"
    for where, _, names in os.walk(kept, topdown=False):
        for name in names:
            path = f"{where}/{name}"[len(kept) :].removesuffix(".dir").removesuffix(".text")
            is_none = path.endswith(".none")
            is_gone = files.is_gone(os.path.dirname(path) if is_none else path)
            if is_gone or not (is_none or files.content(path) == files.content(f"{kept}{path}.text")):
                with contextlib.suppress(FileNotFoundError):  # somebody else prunes too
                    os.unlink(f"{where}/{name}")
        with contextlib.suppress(OSError):  # there is more in it, or it is gone
            os.rmdir(where)


def _is_set(path: str) -> bool:
    """Say whether another file in a file's place may have the same time: it was set, or is an image's."""
    file = files.identify(path)
    if file is None:
        return False
    return abs(file[4] - file[3]) > _SETTLED_NS or volumes.number(path) in volumes.images()


def _lines(settings: settings.Config) -> bytes:
    keys = ("ANNOTATION_PREFIXES", "DEVICE_ENV", "DEVICE_MOUNTS")
    words = [word for key in keys for word in settings.words(key)]
    # JSON may have a slash as "\/", so the longest part between two is what is searched for.
    patterns = dict.fromkeys(max(word.split("/"), key=len) for word in words)
    # The usual prefix is searched for by what a misspelt one has too.
    patterns = {"cdi.k8s": None, **{one: None for one in patterns if "cdi.k8s" not in one}}
    values = {
        "cdi_runtimes": settings["RUNTIMES"],
        "cdi_sources": " ".join(f"-e {pattern}" for pattern in patterns),
        # Where a line can't be used, anything may be a request. What an engine gave, no search finds.
        "cdi_odd": "1" if settings.problems or settings.judges_engines else "",
    }
    text = "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())
    return text.encode("utf-8", "surrogateescape") + _WHOLE


def _quoted(value: str) -> str:
    return "'" + value.replace("\0", "").replace("'", "'\\''") + "'"


def _times(path: str) -> tuple[files.Identity | None, files.Identity] | None:
    """Return what tells the states of a file, if there is one, and its dir apart.

    None where its lines can't be kept.
    """
    if not path.startswith("/") or ".." in path or os.path.realpath(path) != path:
        return None
    file, directory = files.identify(path), files.identify(os.path.dirname(path))
    if directory is None or (file is None and not files.is_gone(path)):
        return None
    settled = time.time_ns() - _SETTLED_NS
    if any(max(one[3], one[4]) > settled for one in (file, directory) if one):
        return None
    return None if file and not stat.S_ISREG(file[5]) else (file, directory)


def _keep(path: str, text: bytes, said: bytes, times: tuple[files.Identity | None, files.Identity]) -> None:
    umask = os.umask(0o077)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    finally:
        os.umask(umask)
    file, directory = times
    path += "" if file else ".none"
    if file:
        files.replace(f"{path}.text", said, 0o600)
    for name, data, identity in ((f"{path}.dir", b"", directory), (path, text, file or directory)):
        files.replace(name, data, 0o600)
        os.utime(name, ns=(identity[3], identity[3]))
