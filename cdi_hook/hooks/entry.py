# SPDX-License-Identifier: Apache-2.0
"""cdi-hook precreate, createRuntime, prestart and createContainer: what is called as an OCI hook.

precreate is podman's stage: the hook reads an OCI spec from stdin and writes the
edited one to stdout. Nothing tells it which runtime podman will call, so it can't
ask whether that ignores an edit (see features.py).

createRuntime and prestart are stages of the OCI runtime specification
("POSIX-platform Hooks"): the hook reads a container's state from stdin and injects
into the container, which is being created. It writes nothing to stdout.

createContainer is such a stage too, but one of a CDI spec's own hooks: the runtime runs
it in the container's namespaces, with what to do there as arguments (libraries/needs.py).

A success writes nothing to stderr.
"""

from __future__ import annotations

import _thread
import posix

from cdi_hook.base import json_text, log
from cdi_hook.errors import (
    FAILED,
    BundleError,
    CDIError,
    ConfigError,
    InjectionError,
    InvalidAnnotation,
    InvalidRequest,
    TooLate,
    UnresolvableDevices,
    defect,
)
from cdi_hook.inject import bundle, pipeline, request
from cdi_hook.inject.request import Facts
from cdi_hook.leases.lessee import Lessee
from cdi_hook.runtime import argv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from cdi_hook.libraries.needs import Needs

# createContainer takes 0.1 s. It ends after so long, whatever it waits for (and before needs.TIMEOUT_S), and
# after so much CPU, which an image's chains of links, say, could take.
MOST_S, MOST_CPU_S = 25, 10

# The exit status of each kind of failure. Any other failure is 1, as in every command.
STATUS = (
    (BundleError, 3),
    (ConfigError, 4),
    (InvalidAnnotation, 5),
    (InvalidRequest, 5),
    (UnresolvableDevices, 6),
    (TooLate, 8),
    (InjectionError, 7),
)


def main(
    stage: str,
    configuration: str | None = None,
    debug: bool = False,
    by_path: bool = False,
    needs: Needs | None = None,
) -> int:
    """Run as a hook of this stage and return the exit status.

    ``configuration`` is a path, or None for the usual configuration. A hook that was
    started ``by_path`` restarts if its modules have just been replaced. ``needs`` are
    createContainer's, which takes nothing from its environment: that may be the image's.
    """
    environ = dict(posix.environ) if needs is None else {}
    if configuration is not None:
        environ[b"CDI_HOOK_CONFIG"] = configuration.encode("utf-8", "surrogateescape")
    hook = Hook(environ)
    with hook.working:
        if needs is not None:
            hook.end_in_time()
        return _run(hook, stage, debug, by_path, needs)


def _run(hook: Hook, stage: str, debug: bool, by_path: bool, needs: Needs | None) -> int:
    try:
        if needs is not None:
            hook.prepare(needs)
        elif stage == "precreate":
            hook.precreate()
        else:
            hook.inject_live()
    except CDIError as error:
        if debug:
            raise
        hook.say("error", error.sentence)
        return _status(error)
    except (Exception, KeyboardInterrupt) as error:  # an engine shows one line, not a traceback
        if debug:
            raise
        if by_path and isinstance(error, Exception):
            from cdi_hook.base import restart

            restart.restart_if_replaced(error, hook.stdin)
        hook.say("error", defect(error, f"cdi-hook {stage}"))
        return 1
    return 0


def _status(error: CDIError) -> int:
    """Return the exit status of an error: that of the first kind in STATUS which it is of."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 1)


class Hook:
    """One call as a hook."""

    def __init__(self, environ: dict[bytes, bytes]) -> None:
        self._host = pipeline.Host(environ)
        self.stdin = b""  # what was read from it
        self.working = _thread.allocate_lock()

    def precreate(self) -> None:
        """Write the OCI spec from stdin to stdout, edited."""
        text = self._read_stdin()
        oci = bundle.parse(text, "an OCI spec")
        self._host.call = Facts(
            bundle=posix.getcwd(),
            no_lease="podman's precreate hooks aren't told the container's id: use cdi-runtime",
            may_be_pod=False,  # only podman calls this
        )
        changes = pipeline.inject(oci, self._host, self._warn_of_errors)
        _write_stdout(json_text.dumps(oci).encode() if changes else text)
        self._host.log_outcome()

    def inject_live(self) -> None:
        """Inject into the container whose state is on stdin."""
        state = bundle.parse(self._read_stdin(), "a container's state")
        directory = _bundle(state)
        told = [str(state.get(name, "")) for name in ("id", "bundle", "root")]
        call = self._host.call = Facts(*told, lessee=Lessee(state["pid"]))
        oci, place = bundle.load_from(directory)
        changes = pipeline.inject(oci, self._host, self._warn_of_errors, late=True)
        if changes:
            from cdi_hook.live import carryout  # ctypes: 5 ms

            posix.chdir(state["bundle"])
            try:
                with call:
                    carryout.carry_out(
                        changes, oci, state, lambda: bundle.replace(place, json_text.dumps(oci)), self._warn
                    )
            except CDIError as error:
                assert call.request
                error.about = request.asked(call.request.device_ids, call.request)
                raise
        self._host.log_outcome()

    def prepare(self, needs: Needs) -> None:
        """Do what the container whose state is on stdin needs."""
        state = bundle.parse(self._read_stdin(), "a container's state")
        self._host.call = Facts(*(str(state.get(name, "")) for name in ("id", "bundle")))
        from cdi_hook.libraries import preparing  # ctypes: 5 ms

        try:
            preparing.prepare(needs, _rootfs(state))
        except InjectionError as error:  # a BundleError is about the state on stdin, and no request
            error.of_request = True
            raise

    def end_in_time(self) -> None:
        """End this process if it works too long.

        A thread does that: a signal's handler would wait for the system call that doesn't return.
        """
        try:
            _thread.start_new_thread(self._watch, ())
        except RuntimeError:
            pass  # no room in the container's pids.max; the spec's timeout and RLIMIT_CPU are still there

    def _watch(self) -> None:
        import time

        end = time.monotonic() + MOST_S
        while (left := end - time.monotonic()) > 0 and time.process_time() < MOST_CPU_S:
            if self.working.acquire(timeout=min(left, 1)):
                return
        message = (
            f"isn't done after {MOST_S} s: a file system doesn't answer, or this host is overloaded"
            if left <= 0
            else f"takes more than {MOST_CPU_S} s of CPU: name fewer dirs in the image's /etc/ld.so.conf"
        )
        message = f"{FAILED}cdi-hook createContainer {message}"
        try:
            _thread.start_new_thread(self.say, ("error", message))  # LOG may be what doesn't answer
            time.sleep(1)
        finally:
            posix._exit(_status(InjectionError(message)))

    def _read_stdin(self) -> bytes:
        chunks = []
        left = bundle.MOST + 1
        try:
            while left and (chunk := posix.read(0, min(left, 1 << 16))):
                chunks.append(chunk)
                left -= len(chunk)
        except OSError as error:
            raise BundleError(f"can't read stdin: {error.strerror}") from error
        self.stdin = b"".join(chunks)
        return self.stdin

    def _warn_of_errors(self, message: str, errors: list[str]) -> None:
        self.say("warning", message, errors)

    def _warn(self, message: str) -> None:
        self.say("warning", message)

    def say(self, level: str, message: str, errors: Sequence[str] = ()) -> None:
        """Write a message and the errors behind it to stderr and LOG, or to syslog if LOG fails."""
        whole = log.plain("\n".join([f"{message}:", *errors]) if errors else message)
        log.stderr(f"{whole}\n")  # first, as LOG may be on a file system that doesn't answer
        if self._host.log(level, log.plain(message), "\n".join(errors)):
            return
        import syslog

        # syslog takes only UTF-8, which a file's name need not be, and no NUL, which a hook may print.
        whole = whole.encode("utf-8", "backslashreplace").replace(b"\0", b"\\0").decode()
        syslog.openlog("cdi-hook", 0, syslog.LOG_DAEMON)
        syslog.syslog(syslog.LOG_ERR if level == "error" else syslog.LOG_WARNING, whole)


def _bundle(state: dict[str, Any]) -> str:
    """Return the bundle of a state; raises BundleError if the state has no bundle or no process."""
    directory, pid = state.get("bundle"), state.get("pid")
    if type(pid) is not int or pid <= 0:
        raise BundleError("the container's state on stdin has no process id in .pid")
    if not (isinstance(directory, str) and directory.startswith("/")):
        raise BundleError("the container's state on stdin has no absolute path in .bundle")
    if directory == "/":  # crun, in a user namespace (its issue 2025); its command line has the path
        with open(f"/proc/{posix.getppid()}/cmdline", encoding="utf-8", errors="surrogateescape") as stream:
            called = argv.parse(stream.read().split("\0")[1:])
        if called.container_id != state.get("id") or not called.bundle.startswith("/"):
            raise BundleError(
                'the container\'s state on stdin has "/" in .bundle, which crun writes in a user namespace; '
                "call crun with an absolute --bundle"
            )
        directory = state["bundle"] = called.bundle
    return directory


def _rootfs(state: dict[str, Any]) -> str:
    """Return the path of the rootfs that the state, its bundle or the current dir tells; raises BundleError.

    Root of a user namespace may not be allowed to read the bundle. Then crun's state has the path, and
    runc runs the hook in the rootfs.
    """
    directory, path = state.get("bundle"), state.get("root")
    if not isinstance(path, str):
        try:
            found = bundle.load(f"{directory}/config.json")
        except BundleError as error:
            path = posix.getcwd()
            if path in ("/", directory):
                raise BundleError(f"can't tell where the container's rootfs is: {error}") from error
        else:
            root = found[0].get("root") if found else None
            path = root.get("path") if isinstance(root, dict) else None
    if not (isinstance(path, str) and path and isinstance(directory, str) and directory.startswith("/")):
        raise BundleError("the container's state on stdin doesn't lead to its rootfs")
    return path if path.startswith("/") else f"{directory}/{path}"


def _write_stdout(text: bytes) -> None:
    try:
        while text:
            text = text[posix.write(1, text) :]
    except OSError as error:
        raise BundleError(f"can't write the OCI spec to stdout: {error.strerror}") from error


def enter(stage: str, arguments: Sequence[str] = ()) -> NoReturn:
    """Run as the hook program, and exit without Python's own cleanup."""
    needs, configuration, debug = None, None, False
    if stage == "createContainer":
        from cdi_hook.libraries.needs import parse

        try:
            needs, configuration, debug = parse(arguments)
        except ValueError as error:
            log.stderr(f"cdi-hook: {log.plain(str(error))}; see cdi-hook createContainer --help\n")
            posix._exit(2)
    posix._exit(main(stage, configuration, debug, by_path=True, needs=needs))
