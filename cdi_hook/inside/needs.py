# SPDX-License-Identifier: Apache-2.0
"""The arguments of `cdi-hook createContainer`: what it has to do in the container."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LINK_SEPARATOR = "::"
# An option, the word for its value, and what it is for. It may be given more than once.
OPTIONS = {
    "--link": ("TARGET::PATH", "make PATH a symbolic link that says TARGET"),
    "--ldcache": ("DIR", "have the dynamic linker find the libraries in DIR"),
    "--driver-version": ("VERSION", "do what NVIDIA's driver of this version needs"),
}


class Needs:
    """What a container needs: (target, path) of links, dirs of libraries, NVIDIA's driver's version or ""."""

    def __init__(self, links: Iterable[str], dirs: Iterable[str], versions: Sequence[str]) -> None:
        """Take the values of the options; raises ValueError if one is wrong."""
        self.links: list[tuple[str, str]] = []
        for link in dict.fromkeys(links):
            target, separator, path = link.partition(LINK_SEPARATOR)
            if not (target and separator and path.startswith("/")) or path.endswith("/"):
                raise ValueError(f"--link takes TARGET::PATH with an absolute PATH, not {link}")
            self.links.append((target, path))
        self.dirs = list(dict.fromkeys(dirs))
        for directory in self.dirs:
            if not directory.startswith("/") or "\n" in directory:
                raise ValueError(f"--ldcache takes an absolute path, not {directory}")
        self.driver_version = versions[-1] if versions else ""


def parse(words: Sequence[str]) -> Needs:
    """Read a command line without argparse, which costs 7 ms; raises ValueError."""
    values: dict[str, list[str]] = {option: [] for option in OPTIONS}
    pending = iter(words)
    for word in pending:
        option, equals, value = word.partition("=")
        if option not in values:
            raise ValueError(f"unrecognized arguments: {word}")
        if not equals:
            value = next(pending, "")  # which no option takes
            if not value:
                raise ValueError(f"{option} takes a value")
        values[option].append(value)
    return Needs(values["--link"], values["--ldcache"], values["--driver-version"])
