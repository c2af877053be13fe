# SPDX-License-Identifier: Apache-2.0
"""A lab whose runtimes call cdi-hook as a createRuntime or prestart hook, and what its tests share."""

from __future__ import annotations

import itertools
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.runtime.lab import BUSYBOX, ROOT, STANDARD_PATH, Bundle, Completed, Lab, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

each_stage = pytest.mark.parametrize("stage", ["createRuntime", "prestart"])
user_namespace = pytest.mark.parametrize("userns", [False, True], ids=["", "userns"])

CDI_HOOK = ROOT / "packaging/bin/cdi-hook"
NO_OPENAT2 = Path(__file__).with_name("no_openat2.py")
FIRST_ID = 100000  # what root of a user namespace is outside
NODE = "/dev/cdi/node"
OPEN = f"(: <{NODE}) && echo read; (: <>{NODE}) && echo write; true"


class Live:
    """A lab whose runtime knows nothing of CDI: the bundles name the hook."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.log = lab.directory / "hook.log"
        self.data = lab.directory / "data"
        self.data.mkdir()
        (self.data / "file").write_text("of the host\n", "utf-8")
        self.configure()

    def configure(self, **values: str) -> None:
        """Configure the hook, which logs to a file: crun shows nothing of what a hook says."""
        self.lab.configure(LOG=str(self.log), **values)

    def hook(self, stage: str, *before: str) -> dict[str, Any]:
        """Return the hook as a bundle names it; ``before`` is a program that runs it."""
        args = [*before, str(CDI_HOOK), stage]
        environ = [f"PATH={STANDARD_PATH}", f"CDI_HOOK_CONFIG={self.lab.configuration}"]
        return {"path": args[0], "args": args, "env": environ, "timeout": 20}

    def bundle(
        self,
        script: str,
        edits: dict[str, Any],
        *,
        stage: str = "createRuntime",
        userns: bool = False,
        before: Sequence[str] = (),
    ) -> Bundle:
        """Make a bundle that asks for one device with these edits, and has the hook."""
        bundle = self.lab.bundle(script, [self.lab.spec(edits)])
        bundle.config["hooks"] = {stage: [self.hook(stage, *before)]}
        if userns:
            unshare_users(bundle)
        bundle.write()
        return bundle

    def call(
        self, command: str, bundle: Bundle, container: str = "", within: Sequence[str] = ()
    ) -> Completed:
        """Run or create a container by the runtime itself, called by what makes its surroundings."""
        options = ("--bundle", str(bundle.path), container or self.lab.container())
        words = self.lab.command(command, *options, program=self.lab.runtime.name)
        at = len(self.lab.runtime.prefix)
        words[at:at] = within
        # What is its stdin crun gives to root of a user namespace: it has to be a file of ours.
        stdin, out, err = (self.lab.directory / name for name in ("stdin", "stdout", "stderr"))
        stdin.touch()
        with stdin.open("rb") as source, out.open("wb") as stdout, err.open("wb") as stderr:
            status = subprocess.run(
                words, env=self.lab.environ, cwd=self.lab.directory, timeout=30, check=False,
                stdin=source, stdout=stdout, stderr=stderr,
            ).returncode  # fmt: skip
        output = plain(out.read_text("utf-8"))
        return subprocess.CompletedProcess(words, status, output, err.read_text("utf-8"))

    def run(self, bundle: Bundle, within: Sequence[str] = ()) -> str:
        """Run a container to its end, which has to be silent; return its output."""
        completed = self.call("run", bundle, within=within)
        found = completed.returncode, completed.stderr, self.logged()
        assert found == (0, "", []), found
        return completed.stdout

    def refused(self, bundle: Bundle) -> str:
        """Have the hook stop a container; return its error, which runc shows and which is logged."""
        completed = self.call("run", bundle)
        assert completed.returncode != 0
        [line] = self.logged()
        assert line["level"] == "ERROR"
        message: str = line["msg"]
        if self.lab.runtime.name == "runc":
            assert json.dumps(f"stderr: {message}\n")[1:-1] in completed.stderr
        return message

    def logged(self) -> list[dict[str, Any]]:
        """Return the warnings and errors in the hook's log."""
        lines = self.log.read_text("utf-8").splitlines() if self.log.exists() else []
        return [line for line in map(json.loads, lines) if line["level"] != "INFO"]

    def audited(self) -> list[dict[str, Any]]:
        """Return the lines in the hook's log that tell of an injection."""
        return [
            line
            for line in map(json.loads, self.log.read_text("utf-8").splitlines())
            if line["level"] == "INFO"
        ]


def unshare_users(bundle: Bundle) -> None:
    """Give a bundle a user namespace, whose root owns the rootfs."""
    linux = bundle.config["linux"]
    linux["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        linux[name] = [{"containerID": 0, "hostID": FIRST_ID, "size": 65536}]
    for directory, _, _ in os.walk(bundle.rootfs):
        os.chown(directory, FIRST_ID, FIRST_ID)
    bundle.path.chmod(0o755)
    for parent in itertools.takewhile(lambda one: not one.stat().st_mode & stat.S_ISVTX, bundle.path.parents):
        parent.chmod(parent.stat().st_mode | 0o011)


def identity(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mode & 0o7777, status.st_uid, status.st_gid


def vendor_hook(stage: str, log: Path) -> dict[str, Any]:
    """Return a vendor's hook that writes down where it runs, with which environment and which state."""
    script = f'{{ echo "{stage}"; $B pwd; $B readlink /proc/self/ns/mnt; echo "$STAGE,$HOME"; $B cat; echo; }} >>{log}'
    return {
        "hookName": stage, "path": str(BUSYBOX), "args": ["busybox", "sh", "-c", script],
        "env": [f"STAGE={stage}", f"B={BUSYBOX}"], "timeout": 10,
    }  # fmt: skip
