# SPDX-License-Identifier: Apache-2.0
"""proof: what a generated device says of the host is checked at each injection; another device is refused."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from cdi_hook.edits import proof
from cdi_hook.errors import FAILED
from cdi_hook.inject.explain import GENERATE
from tests.engine.box import ROOT
from tests.unit.generate.fakehost import FakeHost

if TYPE_CHECKING:
    from pathlib import Path


def test_links_and_lines(tmp_path: Path) -> None:
    """A link has to lead to what is said, a file to have the line, with single spaces; all of them."""
    (tmp_path / "node").touch()
    (tmp_path / "link").symlink_to("node")
    (tmp_path / "file").write_text("Device Minor: \t 0\nother\n")
    link, file, node = (str(tmp_path / name) for name in ("link", "file", "node"))
    right = [(link, node), (file, "Device Minor: 0")]
    assert proof.stale(proof.dump(right)) == ""
    for wrong, fact in (
        ((link, "/dev/x"), f'"{link}" leads to "{node}", not to "/dev/x"'),
        ((file, "Device Minor: 1"), f'"{file}" doesn\'t say "Device Minor: 1"'),
        (("/none", "1"), '"/none" is gone, and said "1"'),
    ):
        assert proof.stale(proof.dump([*right, wrong])) == f"{proof.OTHER}{fact}"


@pytest.mark.parametrize("annotation", ["", "x", "1", "[1]", '["a"]', '[["a"]]', "{}x", '[["a","b","c"]]'])
def test_malformed(annotation: str) -> None:
    """An annotation that can't be read is refused."""
    assert proof.stale(annotation).startswith("the annotation of the device can't be read: ")


SCRIPT = """
cd "$1"
mount --bind host/dev /dev
mount --bind host/sys /sys
mount -t tmpfs none /run
export CDI_HOOK_CONFIG=$1/conf PATH=$2/packaging/bin:$PATH
cdi-hook generate serial usb --output cdi >&2
ask() {
    for name in ttyUSB1 usb-Thermometer 1-2:1.0 all; do
        rm -rf bundle
        mkdir bundle
        echo '{"annotations":{"cdi.k8s.io/x":"host.local/serial='$name'"}}' >bundle/config.json
        echo "$name $(cdi-runtime run --bundle bundle x 2>&1) $(grep -c '"path":"/dev/ttyUSB1"' bundle/config.json)"
    done
}
ask
cdi-hook index >&2
ask
eval "$3"
ask
cdi-hook validate cdi/host.local-serial.yaml 2>&1
cdi-hook doctor | grep -A1 host.local-serial
cdi-hook show host.local/serial=usb-Thermometer | grep missing
"""
CHANGES = {
    "plugged in the other order": (
        "ln -sfn ../../ttyUSB0 /dev/serial/by-id/usb-Thermometer; ln -sfn ../../ttyUSB1 /dev/serial/by-id/usb-Scale",
        '"/dev/serial/by-id/usb-Thermometer" leads to "/dev/ttyUSB0", not to "/dev/ttyUSB1"',
    ),
    "another one in its place": (
        "rm /dev/serial/by-id/usb-Thermometer; ln -s ../../ttyUSB1 /dev/serial/by-id/usb-Oven",
        '"/dev/serial/by-id/usb-Thermometer" is gone, and said "/dev/ttyUSB1"',
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_device(tmp_path: Path, change: str) -> None:
    """After another device got the node, a container doesn't get it under the stable path, by whatever name it asks."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    host = FakeHost(tmp_path / "host")
    for name in ("null", "tty", "urandom"):
        host.node(f"/dev/{name}")
    for number, name in enumerate(("Scale", "Thermometer")):
        usb = f"pci0000:00/0000:00:14.0/usb1/1-{number + 1}"
        host.device(
            usb, "usb", f"bus/usb/001/00{number + 2}", files={"bDeviceClass": "00", "serial": f"S{number}"}
        )
        host.device(f"{usb}/1-{number + 1}:1.0", "usb")
        tty = f"{usb}/1-{number + 1}:1.0/ttyUSB{number}/tty/ttyUSB{number}"
        host.device(tty, "tty", f"ttyUSB{number}")
        host.link(f"/dev/serial/by-id/usb-{name}", f"../../ttyUSB{number}")
    (tmp_path / "cdi").mkdir()
    stub = tmp_path / "runc"
    stub.write_text("#!/bin/sh\n")
    stub.chmod(0o755)
    (tmp_path / "conf").write_text(f"SPEC_DIRS={tmp_path}/cdi\nRUNTIMES={stub}\n")
    script, fact = CHANGES[change]
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", SCRIPT, "sh", tmp_path, ROOT, script],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    spec = f"{tmp_path}/cdi/host.local-serial.yaml"
    names = ("ttyUSB1", "usb-Thermometer", "1-2:1.0", "all")
    given = [f"{name}  1" for name in names]
    refused = [
        f"{name} {FAILED}{proof.OTHER}{fact}; device host.local/serial={name} "
        f'(asked for by annotation "cdi.k8s.io/x") is defined by {spec}; {GENERATE} 0'
        for name in names[:3]
    ]
    assert (
        f'cdi-hook: note: this is the host of now; with GENERATE="serial usb" in {tmp_path}/conf, '
        in done.stderr
    )
    lines = done.stdout.splitlines()
    assert lines[:8] == given * 2, done.stderr
    assert lines[8:11] == refused
    assert lines[11].startswith(f"all {FAILED}{proof.OTHER}")
    told = lines[12:]  # by validate, doctor and show
    for words in (
        f"].containerEdits: {proof.OTHER}{fact}",
        f"error    {spec}: {proof.OTHER}",
        GENERATE,
        f"    missing: {proof.OTHER}",
    ):
        assert any(words in line for line in told), told
