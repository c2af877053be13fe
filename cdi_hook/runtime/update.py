# SPDX-License-Identifier: Apache-2.0
"""crun's update: it puts its device rules in the place of those that an injected device has.

Engines give it the rules that they know, so the container could no longer open the device. Where the
update has no rules, crun leaves those that there are alone. runc does so always, and runsc has no update.
"""

from __future__ import annotations

import posix

from cdi_hook import errors
from cdi_hook.base import json_text
from cdi_hook.base.quoting import quote
from cdi_hook.inject import bundle, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.config.settings import Config

_STDIN = "-"
_MOST = 3 << 20  # bytes


def without_rules(arguments: Sequence[str], at: int, root: str, settings: Config) -> Sequence[str]:
    """Return the arguments of an update that leaves the device rules of a container with a device alone.

    ``at`` is where the command's own arguments begin, ``root`` the value of --root. Raises BundleError if
    the resources can't be read.
    """
    start, end, value = _resources(arguments, at)
    if not value or not any(_has_request(root, word, settings) for word in arguments[at:]):
        return arguments
    text = _read(value)
    try:
        tree = json_text.loads(text.decode("utf-8"))
    except ValueError:
        tree = None  # crun says what is wrong with it
    if isinstance(tree, dict) and "devices" in tree:
        del tree["devices"]
        text = json_text.dumps(tree).encode("utf-8")
    elif value != _STDIN:
        return arguments
    stdin = posix.memfd_create("resources")
    posix.write(stdin, text)
    posix.lseek(stdin, 0, 0)
    posix.dup2(stdin, 0)
    return [*arguments[:start], "--resources", _STDIN, *arguments[end:]]


def _resources(arguments: Sequence[str], at: int) -> tuple[int, int, str]:
    """Return where the last --resources is, where what follows it is, and its value; "" if there is none."""
    found = 0, 0, ""
    while at < len(arguments):
        name, equals, value = arguments[at].partition("=")
        start, at = at, at + 1
        if name.startswith("--r") and "--resources".startswith(name):  # no other begins so
            is_attached = bool(equals)
        elif name.startswith("-r"):
            value = arguments[start][2:]
            is_attached = bool(value)
        else:
            continue
        if not is_attached and at < len(arguments):
            value, at = arguments[at], at + 1
        found = start, at, value
    return found


def _has_request(root: str, container: str, settings: Config) -> bool:
    """Say whether a container asked for a device, by the copy of its config.json that crun keeps."""
    if "/" in container:
        return False
    xdg = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode("utf-8", "surrogateescape")
    for place in [root] if root else [f"{one}/crun" for one in (xdg, "/run") if one]:
        try:
            found = bundle.load(f"{place}/{container}/config.json")
            if found and request.collect(found[0], settings, container).device_ids:
                return True
        except errors.CDIError:
            return True  # its rules may be a device's
    return False


def _read(value: str) -> bytes:
    try:
        descriptor = 0 if value == _STDIN else posix.open(value, posix.O_RDONLY | posix.O_CLOEXEC)
        text = b""
        while chunk := posix.read(descriptor, 1 << 16):
            text += chunk
            if len(text) > _MOST:
                raise OSError(0, f"larger than {_MOST} bytes")
    except OSError as error:
        name = "stdin" if value == _STDIN else quote(value)
        raise errors.BundleError(f"can't read an update's resources: {name}: {error.strerror}") from error
    return text
