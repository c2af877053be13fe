# SPDX-License-Identifier: Apache-2.0
"""cdi-hook configure: make a container engine use cdi-runtime, or stop using it.

The modules of cdi_hook/engines know each engine's files and edit them. This module
has what is the same for all engines: options, messages, the reload.
"""

from __future__ import annotations

import os
import pwd
import re
import textwrap
from typing import TYPE_CHECKING

from cdi_hook.base import programs, trust, words
from cdi_hook.base.process import ask
from cdi_hook.base.quoting import quote
from cdi_hook.cli import host, output
from cdi_hook.cli.options import add_debug, add_json
from cdi_hook.engines import ENGINES
from cdi_hook.engines.edit import plan
from cdi_hook.engines.edit.config_editor import Request
from cdi_hook.engines.edit.configuration import Configuration
from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from cdi_hook.config.settings import Config
    from cdi_hook.engines.edit.file_change import FileChange
    from cdi_hook.engines.engine import Engine

_ALL = "all"
_ADDING = ("set_default", "force", "runtime", "path", "flags", "enable_cdi")  # not with --remove
_TIMEOUT_S = 10  # for an engine to read its files
_INTERVAL_S = 0.1
_OWN_FILE = (
    "{path} is the file of the user {user}, which only that user's own (rootless) {engine} reads; "
    "with sudo this command edits {file}, which the host's {engine} reads"
)


def _files() -> str:
    """Return --help's table of engines and their files."""
    rows = []
    for engine in ENGINES.values():
        own = f", or for a user ~/.config/{engine.user_file}" if engine.user_file else ""
        row = f"{engine.name:<12}FILE is {engine.file}{own}{engine.help.about}"
        rows.append(textwrap.fill(row, 80, initial_indent="  ", subsequent_indent=" " * 14))
    return "\n".join(rows)


_KEEPERS = " and ".join(engine.name for engine in ENGINES.values() if engine.help.keeps_runtime)
HELP = f"""\
Make a container engine use cdi-runtime. This adds the runtime "cdi" to the
engine's configuration, or with --runtime NAME the runtime "cdi-NAME", which runs
NAME. Every other byte of the file stays as it is. A file that can't be parsed
is not touched. Running the command again changes nothing.

{_files()}

Before the first change the file is copied to FILE.before-cdi-hook (for a file in
a dir whose name ends in .d, the copy is beside the dir). --remove takes out what
was added, restores the default runtime that the copy has, and deletes the copy.
It keeps what else has been edited since. --set-default is refused if a file that
the engine reads later makes another runtime the default. --remove is refused if
another file makes ours the default. {_KEEPERS} always restart a container
with the runtime it was created with, even if that was the default runtime: after
--remove, recreate such containers.

`cdi-hook configure {_ALL} --remove` does this for all engines and says what it
changed. It names each engine that it can't restore, and restores the others.

exit status: 0 on success, also if there is nothing to do; 1 on failure. A failure
changes nothing, with two exceptions: --reload can fail after the change, and
"{_ALL} --remove" changes what it can. 2 for wrong arguments"""


def arguments(parser: argparse.ArgumentParser) -> None:
    engines = parser.add_subparsers(title="engines", dest="engine", metavar="ENGINE", required=True)
    for name, engine in ENGINES.items():
        one = engines.add_parser(
            name, help=f"edit {engine.file}", description=f"Make {name} use cdi-runtime.", allow_abbrev=False
        )
        one.add_argument(
            "--file",
            metavar="FILE",
            help=f"the configuration of {name} (default: {engine.file})",
        )
        one.add_argument("--set-default", action="store_true", help="make it the default runtime too")
        one.add_argument(
            "--force",
            action="store_true",
            help="with --set-default: also if the program may vanish, or others than root can replace it",
        )
        one.add_argument(
            "--runtime", metavar="NAME", default="", help="the low-level runtime: crun, runsc, ..."
        )
        one.add_argument(
            "--path", metavar="PROGRAM", help="where cdi-runtime is (default: beside cdi-hook, or on PATH)"
        )
        if engine.own_cdi:
            one.add_argument(
                "--enable-cdi",
                action="store_true",
                help="turn on the engine's own CDI too, for its option --device or the kubelet's CDI devices",
            )
        for flag, what in engine.help.flags:
            one.add_argument(flag, action="append_const", dest="flags", const=flag, help=what)
        one.add_argument("--remove", action="store_true", help="take out what was added")
        _arguments(one)
    every = engines.add_parser(
        _ALL,
        help="with --remove, every engine",
        description="Take out what was added to every engine's configuration.",
        allow_abbrev=False,
    )
    every.add_argument("--remove", action="store_true", required=True, help="take out what was added")
    _arguments(every)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(**{**dict.fromkeys(_ADDING), "runtime": "", "parser": parser})
    parser.add_argument("--dry-run", action="store_true", help="only show what would change, as a diff")
    parser.add_argument(
        "--reload",
        action="store_true",
        help="make the engine read its configuration again, and wait until it has",
    )
    add_json(
        parser,
        "engines: engine, is_changed, files (path, diff, backup), notes, reload (a command), is_reloaded",
    )
    add_debug(parser)


def run(options: argparse.Namespace) -> int:
    if options.remove and any(vars(options)[one] for one in _ADDING):
        raise CDIError(
            "--remove takes out all that was added; it can't be used with options that add something"
        )
    settings = host.host(options).settings
    if settings.problems and (options.config is not None or not options.remove):
        raise CDIError(f"the configuration can't be used: {'; '.join(settings.problems)}")
    if options.engine == _ALL:
        return _remove_all(options)
    engine = ENGINES[options.engine]
    path = os.path.abspath(options.file) if options.file else engine.default_path()
    planned = plan.remove(engine, path) if options.remove else _addition(engine, path, options, settings)
    output.report.items.append(_carry_out(engine, planned, options))
    return 0


def _addition(engine: Engine, path: str, options: argparse.Namespace, settings: Config) -> plan.Plan:
    """Plan to add what the options ask for, and warn if cdi-runtime will find no runtime."""
    program = _program(options.path, options.runtime)
    if options.set_default and not options.force and (why := _is_unsafe(program)):
        raise CDIError(
            f"--set-default: {why}, and without {program} no container would start; install the package, "
            "or add --force"
        )
    if options.file:
        _check_dir(os.path.dirname(path))
    request = Request(
        program,
        options.runtime,
        options.set_default,
        tuple(f"{prefix}*" for prefix in settings.words("ANNOTATION_PREFIXES")),
        tuple(options.flags or ()),
        bool(options.enable_cdi),
    )
    planned = plan.add(engine, path, request)
    runtimes = [options.runtime] if options.runtime else settings.words("RUNTIMES")
    if not any(programs.theirs([*runtimes, *engine.probe().own(runtimes)])):
        output.warn(_no_runtime(options.runtime, settings, Configuration(engine, path)))
    return planned


def _remove_all(options: argparse.Namespace) -> int:
    """Remove what was added to any engine. One that can't be restored doesn't stop the others."""
    status = 0
    for engine in ENGINES.values():
        try:
            planned = plan.remove(engine, engine.default_path())
            if planned.changes:
                output.report.items.append(_carry_out(engine, planned, options))
        except Exception as error:  # it concerns this engine only
            if options.debug:
                raise
            why = output.describe(error)
            output.complain(f"{engine.name} may still be configured to use cdi-runtime: {why}")
            status = 1
    return status


def _carry_out(engine: Engine, planned: plan.Plan, options: argparse.Namespace) -> dict[str, object]:
    """Make the changes, or show them, and return what --json prints."""
    restart = "" if options.reload and planned.first else planned.restart
    reload = engine.reload_command(planned.path, restart=bool(restart))
    later = _read_later(engine, reload, restart, options)
    if not options.dry_run:
        _make(engine, planned, [] if later else reload)
    notes = [*planned.notes, *filter(None, [restart, _whose(engine, planned.path)])]
    if not options.json:
        _say(planned, later, notes, options)
    return {
        "engine": engine.name,
        "is_changed": bool(planned.changes) and not options.dry_run,
        "files": [
            {"path": one.path, "diff": "\n".join(one.diff()), "backup": one.backup} for one in planned.changes
        ],
        "notes": notes,
        "reload": reload or None,
        "is_reloaded": not later,
    }


def _make(engine: Engine, planned: plan.Plan, reload: list[str]) -> None:
    """Make the changes, and have the engine read them by the command ``reload``, unless that is empty."""
    for changes in (planned.first, planned.changes) if reload and planned.first else (planned.changes,):
        for change in changes:
            change.make()
        if reload:
            _reload(engine, planned.path, reload, changes)


def _read_later(engine: Engine, reload: list[str], restart: str, options: argparse.Namespace) -> str:
    """Say when the engine reads its files; "" if it does so now, by the command ``reload``."""
    if not reload:
        return f"{engine.name} reads it the next time it is called"
    if options.dry_run or not options.reload or restart:
        return f"{engine.name} reads it after: {' '.join(reload)}"
    is_running = options.engine != _ALL or _runs(reload)
    return "" if is_running else f"{engine.name} doesn't run: it reads it when it starts"


def _say(planned: plan.Plan, later: str, notes: list[str], options: argparse.Namespace) -> None:
    """Say what was changed, or would be."""
    lines = [*(change.summary() for change in planned.changes), *filter(None, [later])]
    if options.dry_run:
        lines = [line for change in planned.changes for line in change.diff()]
    elif not planned.changes:
        lines = [f"{planned.path}: nothing to change"]
    for line in lines:
        output.say(line)
    for note in notes:
        output.note(f"note: {note}")


def _no_runtime(runtime: str, settings: Config, configuration: Configuration) -> str:
    """Return the warning that cdi-runtime will find no real runtime, and what to write."""
    missing, step = runtime, "install it"
    if not runtime:
        missing, step = f"RUNTIMES ({settings['RUNTIMES']})", "install one, or give a path in RUNTIMES"
        if there := next(
            (one for one, _ in configuration.programs.values() if programs.is_runtime(one)), None
        ):
            step = f"write the line RUNTIMES={there} into {settings.path}"
    return f"no runtime of {missing} is on PATH or in the standard dirs, so no container will start; {step}"


def _check_dir(directory: str) -> None:
    """Refuse to make the dir of a file that was named, which no engine reads; a dir of drop-ins is made."""
    if directory.endswith(".d"):
        directory = os.path.dirname(directory)
    if os.path.lexists(directory):
        return
    parent, name = os.path.split(directory)
    near = words.near(name, os.listdir(parent)) if os.path.isdir(parent) else []
    advice = (
        f"did you mean {os.path.join(parent, near[0])}?" if near else "make it first, if the path is right"
    )
    raise CDIError(f"--file: there is no dir {quote(directory)}; {advice}")


def _whose(engine: Engine, path: str) -> str:
    """Say whose file this is, if it is a user's own."""
    if not engine.is_users(path):
        return ""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = f"with uid {os.geteuid()}"
    return _OWN_FILE.format(path=path, engine=engine.name, user=user, file=engine.file)


def _program(path: str | None, runtime: str) -> str:
    """Return the path of the program to configure; raises CDIError if there is none."""
    if runtime and (
        not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", runtime) or runtime in ("runtime", "hook")
    ):
        raise CDIError(f"--runtime: {quote(runtime)} is not a name for a low-level runtime")
    name = f"cdi-{runtime or 'runtime'}"
    if path is not None:
        if not os.path.isabs(path) or os.path.basename(path) != "cdi-runtime":
            raise CDIError(f"--path: {quote(path)} is not an absolute path that ends in /cdi-runtime")
        program = os.path.join(os.path.dirname(path), name)
        if not os.path.exists(program):
            output.warn(f"there is no {program} here")
        return program
    for found in programs.ours("cdi-runtime"):
        program = os.path.join(os.path.dirname(found), name)
        if not os.path.exists(program):
            raise CDIError(f"there is no {program}; make it with `ln -s cdi-runtime {program}`")
        return program
    raise CDIError("cdi-runtime is neither beside cdi-hook nor on PATH; give its path with --path")


def _is_unsafe(program: str) -> str:
    """Return why a program mustn't be what every container needs, "" if it may."""
    why = trust.untrusted(program)[0] if os.geteuid() == 0 else ""
    return why or programs.fleeting(program)


def _runs(command: Sequence[str]) -> bool:
    """Say whether the unit that a command reloads runs, as far as systemd knows."""
    *systemctl, _, unit = command
    # inactive; no such unit. Where nobody can tell, the reload does.
    return ask([*systemctl, "is-active", "--quiet", unit]).status not in (3, 4)


def _reload(engine: Engine, path: str, command: Sequence[str], changes: Sequence[FileChange]) -> None:
    """Make an engine read its files, and wait until it has."""
    import subprocess
    import time

    text = " ".join(command)
    try:
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603  # an engine's reload_command
    except OSError as error:
        cause = f"the configuration is written, but {text} can't be run: {error.strerror}"
        raise CDIError(cause, f"{' '.join(command[-2:])} as this host does it without systemd") from error
    if done.returncode:
        why = " ".join(done.stderr.decode(errors="replace").split())
        raise CDIError(f"the configuration is written, but {text} failed: {why or done.returncode}")
    texts = [change.after for change in changes if change.after is not None]
    end = time.monotonic() + _TIMEOUT_S
    probe = engine.probe()
    while any(probe.has_read(path, one) is False for one in texts):
        if time.monotonic() > end:
            slow = f"{engine.name} hasn't read it {_TIMEOUT_S} s after {text}: see its log"
            raise CDIError(f"the configuration is written, but {slow}")
        time.sleep(_INTERVAL_S)
