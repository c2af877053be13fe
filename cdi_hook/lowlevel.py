# SPDX-License-Identifier: Apache-2.0
"""The real OCI runtime: hand on to it, as if nothing had stood between.

Which one it is, the door has found (packaging/bin/cdi-runtime). Here is undone
what starting Python does to a process: signals, LC_CTYPE.
"""

from __future__ import annotations

import posix

from cdi_hook.errors import RuntimeNotFound, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_PYTHON_IGNORES = (13, 25)  # SIGPIPE and SIGXFSZ, on every Linux but MIPS's and SPARC's


def environment(lc_ctype: str) -> dict[bytes, bytes]:
    """Return the environment as it came: without the LC_CTYPE that Python sets in the C locale.

    ``lc_ctype`` is "" when there was none, else "=" and its value.
    """
    environ: dict[bytes, bytes] = dict(posix.environ)
    environ.pop(b"LC_CTYPE", None)
    if lc_ctype:
        environ[b"LC_CTYPE"] = lc_ctype[1:].encode("utf-8", "surrogateescape")
    return environ


def exec_runtime(
    runtime: str, arguments: Sequence[str], environ: dict[bytes, bytes], ignored: str
) -> NoReturn:
    """Replace this process by the runtime; ``ignored`` is SigIgn of /proc/PID/status as it came.

    Raises RuntimeNotFound when that can't be done.
    """
    import _signal  # type: ignore[import-not-found]  # signal itself imports enum, 3 ms

    mask = int(ignored or "0", 16)
    for number in _PYTHON_IGNORES:
        if not mask >> (number - 1) & 1:
            _signal.signal(number, _signal.SIG_DFL)
    try:
        posix.execve(runtime, [runtime, *arguments], environ)
    except OSError as error:
        raise RuntimeNotFound(f"can't run the OCI runtime {quote(runtime)}: {error.strerror}") from error
