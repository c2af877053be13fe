# SPDX-License-Identifier: Apache-2.0
"""An image against the hook that class nvidia's specs name: nothing of the image runs, or is used, on the host."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cdi_hook import Cache
from tests import hostile

from .glibc import LIB, driver_root
from .lab import NATIVE, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from .lab import Bundle, Lab

pytestmark = pytest.mark.parametrize("runtime", NATIVE, indirect=True)

UUID = "GPU-00000001-0000-0000-0000-000000000000"
READERS = tuple(hostile.variables("/x"))
LEAVES = (1, 3)  # from this release on, runc gives such a hook nothing of the container's


@pytest.fixture
def spec(lab: Lab) -> Path:
    """The spec that `cdi-hook generate` makes of a driver."""
    root = driver_root(lab.directory / "driver", UUID)
    command = [str(ROOT / "packaging/bin/cdi-hook"), "generate", "nvidia", "--root", str(root)]
    subprocess.run([*command, "--output", str(lab.specs)], check=True, env=lab.environ)
    (path,) = lab.specs.iterdir()
    return path


def bundle(lab: Lab, variables: dict[str, str]) -> Bundle:
    """Make a bundle of a hostile image, which asks for a GPU."""
    made = lab.bundle("/bin/busybox test -s /etc/ld.so.cache && echo hooked", ["nvidia.com/gpu=all"])
    (made.rootfs / "etc").mkdir()
    for name, (content, mode) in hostile.files(lab.directory, str(owned(lab) / "owned")).items():
        path = made.rootfs / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    made.config["process"]["args"][0] = "/bin/sh"
    made.config["process"]["env"] = [f"{name}={value}" for name, value in variables.items()]
    made.write()
    return made


def owned(lab: Lab) -> Path:
    """Return the dir of the host in which the image leaves something."""
    place = lab.directory / "owned"
    place.mkdir(exist_ok=True)
    return place


def without_env(spec: Path) -> None:
    """Make a spec what was made before hooks had variables, and what other vendors make."""
    tree: dict[str, Any] = yaml.safe_load(spec.read_text("utf-8"))
    for hook in tree["containerEdits"]["hooks"]:
        del hook["env"]
    spec.write_text(yaml.safe_dump(tree), "utf-8")


def injected_by_an_engine(lab: Lab, made: Bundle) -> None:
    """Inject as an engine's own CDI does."""
    Cache([str(lab.specs)]).inject(made.config, ["nvidia.com/gpu=all"])
    made.write()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("by", ["cdi-runtime", "an engine", "both", "cdi-runtime, no env", "both, no env"])
def test_variables(lab: Lab, spec: Path, by: str, reader: str) -> None:
    """No variable of the image has an effect on the host, whoever injects, and by whatever spec of ours or others."""
    made = bundle(lab, hostile.variables(str(owned(lab) / "owned"))[reader])
    if "no env" in by:
        without_env(spec)
    if by.startswith(("an engine", "both")):
        injected_by_an_engine(lab, made)
    program = lab.runtime.name if by == "an engine" else "cdi-runtime"
    options = {"program": program} if by == "an engine" else {}
    assert lab.run(made, **options) == "hooked\n"  # type: ignore[arg-type]  # a program
    assert list(owned(lab).iterdir()) == []


def test_a_log_that_the_image_names(lab: Lab, spec: Path) -> None:
    """An image can't have the hook's errors written to a file of the host."""
    made = bundle(lab, hostile.variables(str(owned(lab) / "owned"))["ours"])
    without_env(spec)
    injected_by_an_engine(lab, made)
    (made.rootfs / LIB / "libcuda.so").mkdir(parents=True)  # so that there is an error
    done = lab.call("run", "--bundle", str(made.path), lab.container(), program=lab.runtime.name)
    assert done.returncode != 0
    assert list(owned(lab).iterdir()) == []


@pytest.mark.usefixtures("spec")
def test_an_image_that_is_dear(lab: Lab) -> None:
    """A container whose image has too much to look at doesn't start; runc's message says what that is."""
    made = bundle(lab, {})
    conf = made.rootfs / "etc/ld.so.conf"
    conf.write_text("include /etc/c/*.conf\n")
    (made.rootfs / "etc/c").mkdir()
    for number in range(200):
        (made.rootfs / f"etc/c/{number}.conf").touch()
    done = lab.call("run", "--bundle", str(made.path), lab.container())
    assert (done.returncode != 0, done.stdout) == (True, "")
    if lab.runtime.name == "runc":
        assert (
            "CDI device injection failed: the search for libraries takes more of the image than 200 includes"
            in (done.stderr)
        )
    conf.unlink()
    made.write()
    assert lab.run(made) == "hooked\n"


def test_the_attack_is_one(lab: Lab, spec: Path) -> None:
    """Where an engine injects a hook without variables, an image owns the host on runc before 1.3, and nowhere else."""
    made = bundle(lab, hostile.variables(str(owned(lab) / "owned"))["loader"])
    without_env(spec)
    injected_by_an_engine(lab, made)
    assert json.loads(made.config_file.read_text())["hooks"]["createContainer"][0].get("env") is None
    lab.call("run", "--bundle", str(made.path), lab.container(), program=lab.runtime.name)
    shown = subprocess.run(
        [lab.runtime.name, "--version"], check=True, capture_output=True, text=True, env=lab.environ
    )
    version = re.search(r"^runc version (\d+)\.(\d+)", shown.stdout)
    is_exposed = version is not None and (int(version[1]), int(version[2])) < LEAVES
    assert ((owned(lab) / "owned").exists(), lab.runtime.name) == (is_exposed, lab.runtime.name)
