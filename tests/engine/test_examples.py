# SPDX-License-Identifier: Apache-2.0
"""The examples of the README, of the manual pages and of --help, run as they stand where cdi-hook is installed.

A line that begins with "$ " is a command, what begins with "> " goes on with it, and other lines are what it prints.
CDI_HOOK_SESSION=write writes what the README's session really prints into the README.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from cdi_hook.cli import commands

from . import image
from .box import ENGINES_PATH, LAYOUT, ROOT, STANDARD_PATH, need
from .docker import ANNOTATIONS, Docker
from .podman import Podman
from .test_docker_reload import SYSTEMCTL

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .box import Box

README = ROOT / "README.md"
PAGES = sorted((ROOT / "packaging/man").iterdir())
SESSION = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
PROGRAMS = "(?:sudo )?(?:cdi-hook|docker|podman|echo|mkdir)"
# What needs something that the box doesn't have, and what tries it instead.
ELSEWHERE = {
    r"v4l|video0": "needs a camera: tests/unit/devices",
    r"nvidia": "needs a GPU: tests/gpu/run",
}


def plain(text: str) -> str:
    """Return the text of a manual page, without roff's escapes."""
    return re.sub(r"\\f[A-Z]", "", text.replace("\\-", "-").replace("\\e", "\\").replace("\\&", ""))


def commands_in(lines: str) -> str:
    """Return the commands among lines of a page, as a session that says nothing of what they print."""
    return "".join(f"$ {line}\n" for line in re.findall(rf"^ +({PROGRAMS} \S.*)$", lines, re.MULTILINE))


def examples() -> dict[str, str]:
    """Return the examples of each page, as a session."""
    readme = README.read_text("utf-8")
    (session,) = SESSION.findall(readme)
    found = {"README.md": session + commands_in("".join(re.findall(r"^    \S.*\n", readme, re.MULTILINE)))}
    for path in PAGES:
        section = path.read_text("utf-8").partition("\n.SH EXAMPLES\n")[2].partition("\n.SH ")[0]
        blocks = re.findall(r"^\.EX\n(.*?)^\.EE$", plain(section), re.MULTILINE | re.DOTALL)
        found[path.name] = "".join(block for block in blocks if block.startswith("$ "))
    for name in commands.COMMANDS:
        text = importlib.import_module(commands.COMMANDS[name][0]).HELP
        found[f"{name} --help"] = commands_in(text)
    return {page: session for page, session in found.items() if session or page[-1].isdigit()}


EXAMPLES = examples()


@pytest.fixture
def box(boxes: Callable[[str, str], Box]) -> Generator[Box]:
    """A machine with docker, which doesn't know cdi-runtime, and, if it is installed, podman."""
    need(*ANNOTATIONS)
    made = boxes("dockerd", LAYOUT)
    Docker(made, runtimes={}, features={})
    made.do("docker", "tag", image.NAME, "busybox")
    made.do("rm", "-r", "/etc/cdi")  # which a new machine doesn't have
    made.write("/etc/cdi-hook/cdi-hook.conf", "")
    made.write("/run/board/bin/sudo", '#!/bin/sh\nexec "$@"\n', "755")
    made.write("/run/board/bin/systemctl", SYSTEMCTL, "755")
    if shutil.which("podman", path=ENGINES_PATH):
        podman = Podman(made, LAYOUT, rootless=False)
        podman.do("podman", "tag", image.NAME, "docker.io/library/busybox")
    yield made
    made.close()


def run(box: Box, session: str) -> dict[str, str]:
    """Run a session's commands, which must succeed; return what each prints."""
    printed: dict[str, str] = {}
    for command in re.findall(r"^\$ .*\n(?:^> .*\n)*", session, re.MULTILINE):
        if any(re.search(pattern, command) for pattern in ELSEWHERE):
            continue
        line = re.sub(r"^[$>] ", "", command, flags=re.MULTILINE)
        environ = {"PATH": f"/run/board/bin:{STANDARD_PATH}", "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
        done = box.call("sh", "-c", line, environ=environ)
        assert done.returncode == 0, f"{command}{done.stdout}{done.stderr}"
        printed.setdefault(command, done.stdout)  # of the first time, which the page shows
    return printed


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("page", EXAMPLES)
def test_examples(box: Box, page: str) -> None:
    """A page's commands succeed one after the other, and print what the page says, if it says something."""
    printed = run(box, EXAMPLES[page])
    said = {
        command: output
        for command, output in re.findall(
            r"^(\$ .*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", EXAMPLES[page], re.MULTILINE
        )
        if output
    }
    if page == "README.md" and os.environ.get("CDI_HOOK_SESSION") == "write":
        text = README.read_text("utf-8")
        (session,) = SESSION.findall(text)
        new = "".join(
            command + printed[command] for command in re.findall(r"^\$ .*\n", session, re.MULTILINE)
        )
        README.write_text(text.replace(session, new), "utf-8")
    else:
        assert said == {command: printed[command] for command in said}


@pytest.mark.xdist_group("docker")
def test_compose(box: Box) -> None:
    """The README's file for docker compose is what `cdi-hook show` says, with a name, an image and a command."""
    box.do("cdi-hook", "generate", "fuse", "--output", "/etc/cdi")
    said = box.do("cdi-hook", "show", "host.local/fuse=fuse")
    (text,) = re.findall(r"^compose:\n((?:  .*\n)+)", said, re.MULTILINE)
    expected = yaml.safe_load(text.replace("NAME", "app").replace("IMAGE", "busybox"))
    (block,) = re.findall(r"^```yaml\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    file = yaml.safe_load(block)
    assert file["services"]["app"].pop("command") == "ls /dev/fuse"
    assert file == expected


def test_pages_have_examples() -> None:
    """The README shows what its commands print, and every manual page has commands among its examples."""
    assert [path.name for path in PAGES if not EXAMPLES[path.name].startswith("$ ")] == []
    (session,) = SESSION.findall(README.read_text("utf-8"))
    assert re.match(r"\$ .*\n[^$]", session)
