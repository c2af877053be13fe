# SPDX-License-Identifier: Apache-2.0
"""The arguments of `cdi-hook createContainer`: what it has to do in the container."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LINK_SEPARATOR = "::"
# A spec's timeout for the hook, of which old runtimes know nothing. The hook ends itself before that.
TIMEOUT_S = 30
# An option, the word for its value, and what it is for. It may be given more than once.
OPTIONS = {
    "--link": ("TARGET::PATH", "make PATH a symbolic link that says TARGET"),
    "--ldcache": ("DIR", "have the dynamic linker find the libraries in DIR"),
    "--library": ("PATH", "of what is mounted in the container read PATH, a library that the spec mounts"),
    "--driver-root": ("DIR", "the host has these libraries below DIR, not at the same paths"),
    "--driver-version": ("VERSION", "do what NVIDIA's driver of this version needs"),
}


class Needs:
    """What a container needs: the values of the options.

    ``links`` are (target, path), ``dirs`` those of libraries. ``libraries`` are mounted; the host has
    them below ``driver_root`` ("": at the same paths). ``driver_version`` is NVIDIA's, or "".
    """

    def __init__(self, given: Mapping[str, Sequence[str]]) -> None:
        """Take the values of each option; raises ValueError if one is wrong."""
        self.links: list[tuple[str, str]] = []
        for link in dict.fromkeys(given["--link"]):
            target, separator, path = link.partition(LINK_SEPARATOR)
            if not (target and separator and path.startswith("/")) or path.endswith("/"):
                raise ValueError(f"--link takes TARGET::PATH with an absolute PATH, not {link}")
            self.links.append((target, path))
        self.dirs = _paths("--ldcache", given)
        self.libraries = _paths("--library", given)
        self.driver_root = "".join(_paths("--driver-root", given)[-1:])
        self.driver_version = "".join(given["--driver-version"][-1:])


def _paths(option: str, given: Mapping[str, Sequence[str]]) -> list[str]:
    paths = list(dict.fromkeys(given[option]))
    for path in paths:
        if not path.startswith("/") or "\n" in path:
            raise ValueError(f"{option} takes an absolute path, not {path}")
    return paths


def parse(words: Sequence[str]) -> tuple[Needs, str | None, bool]:
    """Read a command line without argparse, which costs 7 ms; raises ValueError.

    Returns the values of --config and --debug too, which all commands have.
    """
    values: dict[str, list[str]] = {option: [] for option in (*OPTIONS, "--config", "--debug")}
    pending = iter(words)
    for word in pending:
        option, equals, value = word.partition("=")
        if option not in values or word.startswith("--debug="):
            raise ValueError(f"unrecognized arguments: {word}")
        if not equals and option != "--debug":
            value = next(pending, "")  # which no option takes
            if not value:
                raise ValueError(f"{option} takes a value")
        values[option].append(value)
    configuration = values["--config"][-1] if values["--config"] else None
    return Needs(values), configuration, bool(values["--debug"])
