# SPDX-License-Identifier: Apache-2.0
"""cdi-runtime, once its shell script has found that a container may ask for a device.

packaging/bin/cdi-runtime calls it with what only a process that isn't
Python could still know. It injects, undoes what starting Python does to a
process (signals, LC_CTYPE), and becomes the real runtime. Every import here is
on the budget of a container's start: a test compares sys.modules with a list.
"""

from __future__ import annotations

import posix

from cdi_hook import errors
from cdi_hook.base.quoting import quote
from cdi_hook.inject import bundle, pipeline
from cdi_hook.inject.request import Facts
from cdi_hook.runtime import argv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_SIGIGNORE = 30  # its place in /proc/PID/stat after the process's name
_PYTHON_IGNORES = (13, 25)  # SIGPIPE and SIGXFSZ, on every Linux but MIPS's and SPARC's


def main(arguments: Sequence[str]) -> int:
    """Inject what the container asks for and become the real runtime; return 1 when that fails.

    ``arguments``: the runtime's path ("?" and the names when the script found none), what is in
    /proc/PID/stat, LC_CTYPE as it came, then the arguments of the runtime.
    """
    runtime, stat, lc_ctype, *rest = arguments
    _restore_environment(lc_ctype)
    invocation = argv.parse(rest)
    told = invocation.container_id, invocation.bundle or posix.getcwd(), invocation.root
    call = Call(invocation, pipeline.Host(posix.environ, call=Facts(*told)))
    try:
        if runtime.startswith("?"):
            raise _no_runtime(runtime[1:], call.host)
        call.inject(runtime)
        _exec(runtime, call.arguments(rest), stat)
    except errors.CDIError as error:
        return call.fail(error.sentence)
    except Exception as error:  # an engine shows one line, not a traceback
        from cdi_hook.base import restart

        restart.restart_if_replaced(error)
        if "--debug" in rest:
            raise
        return call.fail(errors.defect(error, "cdi-runtime"))


class Call:
    """One call of the runtime: what it was told, and where its messages go."""

    def __init__(self, invocation: argv.Invocation, host: pipeline.Host) -> None:
        self._invocation = invocation
        self.host = host

    def inject(self, runtime: str) -> None:
        """Edit the config.json that this command reads, if it asks for devices; raises CDIError."""
        told = self._invocation
        if told.command not in argv.BUNDLE_COMMANDS:
            return
        path, *others = told.configs
        if others:
            from cdi_hook.runtime import readings

            with self.host.call:
                path = readings.only_one(told.configs, self.host.settings, told.container_id)
            self.host.call.bundle = path.rpartition("/")[0] or posix.getcwd()
        loaded = bundle.load(path)
        if loaded is None:
            return  # the runtime has its own words for that
        oci, place = loaded
        if self.host.settings["EXCLUSIVE"]:
            from cdi_hook.runtime import later

            self.host.call = later.call(told, self.host.call.bundle, runtime)
        pipeline.inject(oci, self.host, self._warn, runtime=runtime)
        pipeline.write(place, self.host.call)
        if self.host.call.doubt and self._invocation.log:  # stderr is the container's
            self._log("warning", self.host.call.doubt, "")
        self.host.log_outcome()
        self._say_what_log_lacks()

    def arguments(self, arguments: Sequence[str]) -> Sequence[str]:
        """Return the arguments for the runtime; raises CDIError."""
        told = self._invocation
        if told.command != "update":
            return arguments
        from cdi_hook.runtime import update

        return update.without_rules(arguments, len(told.global_options) + 1, told.root, self.host.settings)

    def fail(self, message: str) -> int:
        """Say what went wrong, in --log and on stderr, and return the exit status."""
        from cdi_hook.base import log

        self._log("error", message, "")
        log.stderr(f"{log.plain(message)}\n")
        self.host.log("error", message)
        self._say_what_log_lacks()
        return 1

    def _say_what_log_lacks(self) -> None:
        if self.host.call.unlogged and self._invocation.log:  # stderr is the container's
            path = self.host.settings["LOG"]
            self._log("warning", f"LOG lacks a line of this container: {path}: {self.host.call.unlogged}", "")

    def _warn(self, message: str, errors: list[str]) -> None:
        self._log("warning", message, "\n".join(errors))
        self.host.log("warning", message, "\n".join(errors))

    def _log(self, level: str, message: str, error: str) -> None:
        """Write a line to --log, or to stderr without --log, as runc does; an error is there already."""
        from cdi_hook.base import log

        text = log.line(
            level, log.plain(message), self._invocation.log_format, log.plain(error, log.MOST_ERRORS)
        )
        if self._invocation.log:
            log.append(self._invocation.log, text)
        elif level != "error":
            log.stderr(text)


def _restore_environment(lc_ctype: str) -> None:
    """Have the environment as it came: without the LC_CTYPE that Python sets in the C locale.

    ``lc_ctype`` is "" when there was none, else "=" and its value. The runtime gets this process's
    environment: to make one of 650 variables from a dict would cost 0.2 ms.
    """
    if lc_ctype:
        value = posix.environ[b"LC_CTYPE"] = lc_ctype[1:].encode("utf-8", "surrogateescape")
        posix.putenv(b"LC_CTYPE", value)
    else:
        posix.environ.pop(b"LC_CTYPE", None)
        posix.unsetenv(b"LC_CTYPE")


def _no_runtime(wanted: str, host: pipeline.Host) -> errors.RuntimeNotFound:
    named = wanted == host.settings["RUNTIMES"]
    origin = (
        f"RUNTIMES, {host.settings.origins['RUNTIMES']}"
        if named
        else "from the name of the link that was called"
    )
    return errors.RuntimeNotFound(
        f'there is no OCI runtime to call: none of "{wanted}" ({origin}) is on PATH or in the '
        "standard dirs; install one, or give its path in RUNTIMES"
    )


def _exec(runtime: str, arguments: Sequence[str], stat: str) -> NoReturn:
    """Replace this process by the runtime, with the signals ignored that were; see proc_pid_stat(5).

    Raises RuntimeNotFound when that can't be done.
    """
    import _signal  # type: ignore[import-not-found]  # signal itself imports enum, 3 ms

    fields = stat.rpartition(") ")[2].split(" ")  # after the process's name, which may have spaces
    ignored = int(fields[_SIGIGNORE]) if len(fields) > _SIGIGNORE else 0
    for number in _PYTHON_IGNORES:
        if not ignored >> (number - 1) & 1:
            _signal.signal(number, _signal.SIG_DFL)
    try:
        posix.execv(runtime, [runtime, *arguments])
    except OSError as error:
        raise errors.RuntimeNotFound(
            f"can't run the OCI runtime {quote(runtime)}: {error.strerror}"
        ) from error


def run(arguments: Sequence[str]) -> NoReturn:
    """Run as the program that the script starts, and exit without what Python does at its end."""
    posix._exit(main(arguments))
