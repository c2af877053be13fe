# SPDX-License-Identifier: Apache-2.0
"""cdi-runtime, once the door has found that a container may ask for a device.

Called by packaging/bin/cdi-runtime with what only a process that isn't Python
could still know, then the runtime's own arguments. Every import here is on the
budget of a container's start: tests hold sys.modules to a list.
"""

from __future__ import annotations

import posix

from cdi_hook import argv, config, driver, index, lowlevel, request
from cdi_hook.errors import CDIError, InjectionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from cdi_hook.request import DeviceRequest


def main(arguments: Sequence[str]) -> int:
    """Inject what the container asks for and become the real runtime; return 1 when that fails.

    ``arguments``: the runtime's path ("?" and the names when the door found none), SigIgn and
    LC_CTYPE as they came, then the arguments of the runtime. These stay as they are: during an
    upgrade, one version's door calls the other's Python.
    """
    runtime, ignored, lc_ctype, *rest = arguments
    environ = lowlevel.environment(lc_ctype)
    invocation = argv.parse(rest)
    settings = config.load(environ)
    try:
        if runtime.startswith("?"):
            raise _no_runtime(runtime[1:], settings)
        if invocation.command in argv.BUNDLE_COMMANDS and invocation.container_id:
            _inject(invocation, settings, environ)
        lowlevel.exec_runtime(runtime, rest, environ, ignored)
    except CDIError as error:
        return _fail(str(error), invocation, settings)
    except Exception as error:  # an engine shows one line, not a traceback
        from cdi_hook import again

        again.start()
        if "--debug" in rest:
            raise
        defect = f"{type(error).__name__}: {error}"
        return _fail(f"cdi-runtime can't go on: {defect} (--debug shows where)", invocation, settings)


def _inject(invocation: argv.Invocation, settings: config.Config, environ: dict[bytes, bytes]) -> None:
    from cdi_hook import bundle, jsontext

    path = invocation.config
    if path == argv.DEFAULT_CONFIG and invocation.bundle:
        path = f"{invocation.bundle}/{path}"
    oci = bundle.load(path)
    if oci is None:
        return  # the runtime has its own words for that
    wanted = request.admitted(oci, settings)
    if not wanted.device_ids:
        return
    before = jsontext.dumps(oci)
    _drive(oci, wanted, invocation, settings, environ)
    after = jsontext.dumps(oci)
    if after != before:
        try:
            bundle.replace(path, after)
        except CDIError as error:
            raise CDIError(f"{driver.FAILED}{error}") from error
    if settings["LOG"]:
        _own_log(settings, "info", "CDI devices injected", devices=wanted.device_ids, bundle=path)


def _drive(
    oci: dict[str, object],
    wanted: DeviceRequest,
    invocation: argv.Invocation,
    settings: config.Config,
    environ: dict[bytes, bytes],
) -> None:
    registry = index.configured(settings, environ)

    def warn(message: str, errors: str) -> None:
        _log("warning", message, invocation, settings, errors)

    try:
        driver.inject(driver.register(registry.spec_dirs, lambda: registry, warn), oci, wanted)
    except InjectionError as error:
        from cdi_hook import explain

        raise explain.failure(error, wanted, registry.cache, oci) from error


def _no_runtime(wanted: str, settings: config.Config) -> CDIError:
    named = wanted == settings["RUNTIMES"]
    origin = (
        f"RUNTIMES, {settings.origins['RUNTIMES']}" if named else "by the name of the link that was called"
    )
    return CDIError(
        f'no OCI runtime to hand on to: none of "{wanted}" ({origin}) is on PATH or in the '
        "standard dirs; install one, or name it in RUNTIMES by its path"
    )


def _log(
    level: str, message: str, invocation: argv.Invocation, settings: config.Config, error: str = ""
) -> None:
    from cdi_hook import log

    text = log.line(level, log.plain(message), invocation.log_format, log.plain(error))
    if invocation.log:
        log.append(invocation.log, text)
    elif level != "error":  # as runc: without --log, the log is stderr
        log.stderr(text)
    if settings["LOG"]:
        _own_log(settings, level, message, **({"errors": error} if error else {}))


def _own_log(settings: config.Config, level: str, message: str, **fields: object) -> None:
    from cdi_hook import sitepath

    sitepath.complete()
    try:
        from cdi_hook import ownlog
    except ImportError:  # python-json-logger isn't there: no reason to stop a container
        return
    ownlog.write(settings, level, message, **fields)


def _fail(message: str, invocation: argv.Invocation, settings: config.Config) -> int:
    from cdi_hook import log

    _log("error", message, invocation, settings)
    log.stderr(f"{log.plain(message)}\n")
    return 1


def run(arguments: Sequence[str]) -> NoReturn:
    """Run as the program that the door starts; an exit without what Python does at its end."""
    posix._exit(main(arguments))
