# SPDX-License-Identifier: Apache-2.0
"""cdi-hook configure: make a container engine use cdi-runtime, or no longer.

What an edit is, cdi_hook/engines knows, and change.py how a file is replaced;
here is which files there are, and what is remembered. That is the copy that
change.py makes: the file as it was when it had nothing of ours, or when the
default runtime was another; --remove takes the former default from it.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import glob
import os
import re
from typing import TYPE_CHECKING

from cdi_hook.cli import host, output
from cdi_hook.cli.change import Change, backup_of, read
from cdi_hook.cli.options import add_json
from cdi_hook.engines import containerd, crio, docker, podman
from cdi_hook.engines.model import Request, UnusableConfiguration
from cdi_hook.errors import CDIError, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdi_hook.engines.model import Engine

HELP = """\
Make a container engine use cdi-runtime: add the runtime "cdi" to the engine's
configuration, or with --runtime NAME the runtime "cdi-NAME", which hands on to
NAME. The rest of the file stays as it is, byte by byte; a file that can't be
read whole is not touched. Done twice it is done once.

  docker      FILE is /etc/docker/daemon.json, for a user ~/.config/docker/daemon.json
  containerd  FILE is /etc/containerd/config.toml, versions 2 to 4; from version 3
              on a drop-in beside it, where it imports one
  crio        FILE is /etc/crio/crio.conf.d/99-cdi-hook.conf
  podman      FILE is /etc/containers/containers.conf.d/99-cdi-hook.conf, for a user
              the same in ~/.config/containers

Before the first change a copy goes to FILE.before-cdi-hook (beside the dir, for
one whose name ends in .d). --remove takes out what was added, gives back the
default runtime that the copy has, and takes away the copy; what else has been
edited since stays. --set-default is refused where a file that the engine reads
later makes another the default, and --remove where another file makes it ours.
docker and podman keep to the runtime that a container was made with, also as the
default: after --remove such containers have to be made anew.

exit status: 0 when it is done, also when there was nothing to do; 1 when it
can't be, and then nothing has changed (unless it is the --reload that failed);
2 for wrong arguments"""

_ENGINES: dict[str, Engine] = {
    "docker": docker.Docker(),
    "containerd": containerd.Containerd(),
    "crio": crio.Crio(),
    "podman": podman.Podman(),
}
# The file, and a user's own below their configuration dir.
_FILES = {
    "docker": ("/etc/docker/daemon.json", "docker/daemon.json"),
    "containerd": ("/etc/containerd/config.toml", ""),
    "crio": ("/etc/crio/crio.conf.d/99-cdi-hook.conf", ""),
    "podman": (
        "/etc/containers/containers.conf.d/99-cdi-hook.conf",
        "containers/containers.conf.d/99-cdi-hook.conf",
    ),
}
# What systemctl does to have it read.
_RELOADS = {"docker": "reload", "containerd": "restart", "crio": "reload"}
_NEEDS_RESTART = (
    "{} keeps the default runtime until it is restarted: a reload changes none that its file doesn't name. "
    "A restart ends containers, unless live-restore is on, so --reload leaves it to you"
)
_DROP_IN = "99-cdi-hook.toml"
_FIRST_LINE = "# Written by `cdi-hook configure"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the engines, and the options of each."""
    engines = parser.add_subparsers(title="engines", dest="engine", metavar="ENGINE", required=True)
    for name, (path, _) in _FILES.items():
        engine = engines.add_parser(
            name, help=f"edit {path}", description=f"Make {name} use cdi-runtime.", allow_abbrev=False
        )
        engine.set_defaults(pod_annotations=False)
        engine.add_argument(
            "--config", metavar="FILE", dest="file", help=f"the configuration of {name} (default: {path})"
        )
        engine.add_argument("--set-default", action="store_true", help="make it the default runtime too")
        engine.add_argument(
            "--runtime", metavar="NAME", default="", help="the low-level runtime: crun, runsc, ..."
        )
        engine.add_argument(
            "--path", metavar="PROGRAM", help="where cdi-runtime is (default: beside cdi-hook, or on PATH)"
        )
        if name == "containerd":
            engine.add_argument(
                "--pod-annotations",
                action="store_true",
                help="let pods' annotations name devices too: those who may create a pod write them",
            )
        engine.add_argument("--remove", action="store_true", help="take out what was added")
        engine.add_argument("--dry-run", action="store_true", help="only show what would change, as a diff")
        engine.add_argument("--reload", action="store_true", help="then have the engine read it again")
        add_json(
            engine,
            "an object: engine, changed, files (path, diff, backup), notes, reload (a command), reloaded",
        )
        engine.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from"
        )


def run(options: argparse.Namespace) -> int:
    """Edit, or say what would be edited."""
    if options.remove and (options.set_default or options.runtime or options.path or options.pod_annotations):
        raise CDIError("--remove takes out all that was added: it goes with no option that says what to add")
    settings = host.host(options).settings
    if settings.problems and (options.config is not None or not options.remove):
        raise CDIError(f"the configuration can't be used: {'; '.join(settings.problems)}")
    path = os.path.abspath(options.file) if options.file else _file(options.engine)
    if options.remove:
        changes, notes = _remove(options.engine, path)
    else:
        patterns = tuple(f"{prefix}*" for prefix in settings.words("ANNOTATION_PREFIXES"))
        request = Request(
            _program(options.path, options.runtime),
            options.runtime,
            options.set_default,
            patterns,
            options.pod_annotations,
        )
        path, files = _places(options.engine, path)
        changes, notes = _add(options.engine, path, files, request)
    if not options.dry_run:
        for change in changes:
            change.make()
    needs_restart = any(change.needs_restart for change in changes)
    reload = _reload_command(options.engine, path, needs_restart)
    is_reloaded = options.reload and reload is not None and not options.dry_run and not needs_restart
    if needs_restart:
        notes.append(_NEEDS_RESTART.format(options.engine))
    if is_reloaded:
        _reload(reload)
    if options.json:
        output.say_json(
            {
                "engine": options.engine,
                "changed": bool(changes) and not options.dry_run,
                "files": [
                    {"path": one.path, "diff": "\n".join(one.diff()), "backup": one.backup} for one in changes
                ],
                "notes": notes,
                "reload": reload,
                "reloaded": is_reloaded,
            }
        )
        return 0
    for change in changes:
        if options.dry_run:
            for line in change.diff():
                output.say(line)
        else:
            output.say(change.summary())
    if not options.dry_run:
        if not changes:
            output.say(f"{path}: nothing to change")
        elif reload is None:
            output.say(f"{options.engine} reads it the next time that it is called")
        elif not is_reloaded:
            output.say(f"{options.engine} reads it after: {' '.join(reload)}")
    for note in notes:
        output.complain(f"note: {note}")
    return 0


# What an engine reads.


def _file(engine: str) -> str:
    path, own = _FILES[engine]
    if own and os.geteuid() != 0:
        base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        return os.path.join(base, own)
    return path


def _places(engine: str, path: str) -> tuple[str, list[str]]:
    """Return the file to edit for a configuration, and all that the engine reads, later wins."""
    if engine == "containerd":
        place, files = _containerd_places(path)
    elif engine == "docker":
        place, files = path, [path]
    else:
        directory = os.path.dirname(path)
        main = directory[:-2] if directory.endswith(".d") else path
        within = glob.glob(f"{glob.escape(main)}.d/*{'.conf' if engine == 'podman' else ''}")
        place, files = path, [main, *sorted({*within, path} - {main})]
    return place, [one for one in dict.fromkeys(files) if one == place or os.path.isfile(one)]


def _containerd_places(path: str) -> tuple[str, list[str]]:
    """Return config.toml and what it imports; where it imports whole dirs, a drop-in and these."""
    text = read(path)
    own = os.path.join(os.path.dirname(path), "conf.d", _DROP_IN)
    if text is None:
        # containerd 2.2 imports it when there is no config.toml
        place = own if glob.glob(f"{glob.escape(os.path.dirname(own))}/*.toml") else path
        return place, [place]
    with _named(path):
        merges, patterns = containerd.merges_imports(text), containerd.imports(text)
        has_ours = bool(containerd.Containerd().names(text))
    files = [path]
    place = path
    for pattern in patterns:
        whole = os.path.normpath(os.path.join(os.path.dirname(path), pattern))
        found = glob.glob(whole) if "*" in whole else [whole]
        directory, names = os.path.split(whole)
        if merges and "*" not in directory and fnmatch.fnmatchcase(_DROP_IN, names) and place == path:
            found.append(place := os.path.join(directory, _DROP_IN))
        files += sorted(found)
    return path if has_ours else place, files


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Put a file's path in front of what is wrong with it."""
    try:
        yield
    except UnusableConfiguration as error:
        raise CDIError(f"{path}: {error}") from error


# Edits.


def _add(name: str, path: str, files: Sequence[str], request: Request) -> tuple[list[Change], list[str]]:
    engine = _ENGINES[name]
    before = read(path)
    texts = [(other, read(other) or "") for other in files if other != path]
    later = files[files.index(path) + 1 :]
    for other, text in texts:
        with _named(other):
            default = engine.default(text)
        if request.set_default and other in later and default not in (None, request.name):
            raise CDIError(
                f"{other}, which {name} reads after {path}, makes {default} the default runtime: "
                "take that out, or leave out --set-default"
            )
    with _named(path):
        edited = engine.add(_start(name, path, texts) if before is None else before, request, texts)
        if edited.text == before:
            return [], list(edited.notes)
        change = Change(path, before, edited.text)
        if before is not None and _is_backup_due(engine, path, before, edited.text):
            change.backup = backup_of(path)
    return [change], list(edited.notes)


def _start(name: str, path: str, texts: Sequence[tuple[str, str]]) -> str:
    """Return the text that a new file starts with."""
    if name == "docker":
        return ""
    first = f"{_FIRST_LINE} {name}`; --remove takes it away.\n"
    if name != "containerd":
        return first
    # A drop-in is of its config.toml's version; where that isn't there, containerd 2 has a conf.d, and
    # version 2 is what every containerd reads.
    own = 3 if os.path.basename(path) == _DROP_IN else 2
    return f"{first}version = {containerd.version(texts[0][1]) if texts else own}\n"


def _is_backup_due(engine: Engine, path: str, before: str, after: str) -> bool:
    """Say whether the backup, if there is one, isn't what --remove needs."""
    names = engine.names(before)
    if not names:
        return True
    default = engine.default(before)
    if default in names or default == engine.default(after):
        return False
    return default != _former_default(engine, path)


def _former_default(engine: Engine, path: str) -> str | None:
    backup = backup_of(path)
    text = read(backup)
    with _named(backup):
        return None if text is None else engine.default(text)


def _remove(name: str, path: str) -> tuple[list[Change], list[str]]:
    engine = _ENGINES[name]
    changes: list[Change] = []
    notes: list[str] = []
    removed: set[str] = set()
    place, files = _places(name, path)
    candidates = [place, path, *files] if name == "containerd" else [path]
    for one in dict.fromkeys(candidates):
        text = read(one)
        with _named(one):
            if text is None or not (names := engine.names(text)):
                continue
        removed.update(names)
        backup = backup_of(one)
        before = read(backup)
        with _named(backup):
            if before is not None:
                engine.names(before)
        with _named(one):
            edited = engine.remove(text, before)
        notes += edited.notes
        after: str | None = edited.text
        if before is not None and edited.text.rstrip() == before.rstrip():
            after = before
        elif before is None and _is_nothing(edited.text):
            after = None
        obsolete = [] if before is None else [backup]
        changes.append(Change(one, text, after, obsolete=obsolete, needs_restart=edited.needs_restart))
    for other in set(files).difference(change.path for change in changes) if removed else ():
        text = read(other) or ""
        with _named(other):
            if (default := engine.default(text)) in removed.difference(engine.names(text)):
                raise CDIError(f"{other} makes {default} the default runtime: name another there first")
    return changes, notes


def _is_nothing(text: str) -> bool:
    """Say whether nothing is left of a file that was written here."""
    first, _, rest = text.partition("\n")
    if first.startswith(_FIRST_LINE):
        return re.fullmatch(r"\s*(version = \d+\s*)?", rest) is not None
    return text.strip() == "{}"


def _program(path: str | None, runtime: str) -> str:
    """Return the path of the program for a low-level runtime; raises CDIError when it isn't there."""
    if runtime and (
        not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", runtime) or runtime in ("runtime", "hook")
    ):
        raise CDIError(f"--runtime: {quote(runtime)} can't be the name of a low-level runtime")
    name = f"cdi-{runtime or 'runtime'}"
    if path is not None:
        if not os.path.isabs(path) or os.path.basename(path) != "cdi-runtime":
            raise CDIError(f"--path: {quote(path)} is not an absolute path that ends in /cdi-runtime")
        program = os.path.join(os.path.dirname(path), name)
        if not os.path.exists(program):
            output.warn(f"there is no {program} here")
        return program
    for directory in _directories():
        if os.access(os.path.join(directory, "cdi-runtime"), os.X_OK):
            program = os.path.join(directory, name)
            if not os.path.exists(program):
                raise CDIError(f"there is no {program}; `ln -s cdi-runtime {program}` makes it")
            return program
    raise CDIError("cdi-runtime is neither beside cdi-hook nor on PATH; --path says where it is")


def _directories() -> Iterator[str]:
    """Yield where cdi-runtime can be, the dir that this package was installed with first."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    lib = os.path.dirname(package)
    yield os.path.join(lib, "packaging", "bin")
    yield os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(lib))), "bin")
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/bin"):
        if directory.startswith("/"):
            yield directory


# Reloading.


def _reload_command(engine: str, path: str, needs_restart: bool) -> list[str] | None:
    if engine not in _RELOADS:
        return None
    own = ["--user"] if os.geteuid() != 0 and path == _file(engine) and _FILES[engine][1] else []
    return ["systemctl", *own, "restart" if needs_restart else _RELOADS[engine], engine]


def _reload(command: Sequence[str] | None) -> None:
    import subprocess

    assert command is not None
    text = " ".join(command)
    try:
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603  # it is in _RELOADS
    except OSError as error:
        raise CDIError(f"the configuration is written, but {text} can't be run: {error.strerror}") from error
    if done.returncode:
        why = " ".join(done.stderr.decode(errors="replace").split())
        raise CDIError(f"the configuration is written, but {text} failed: {why or done.returncode}")
