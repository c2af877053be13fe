# SPDX-License-Identifier: Apache-2.0
"""Fake roots of NVIDIA's driver: files with the names, SONAMEs and numbers that the driver's have."""

from __future__ import annotations

import os
import stat
import subprocess
from typing import TYPE_CHECKING, Any

from tests.elffile import library

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def make(root: Path, files: Mapping[str, Any], ldconfig: bool = False) -> Path:
    """Make the files of a case below a dir: "elf" with its SONAME, "link", "text", "node" or "dir".

    With ``ldconfig``, the library cache is made, and the links of the SONAMEs, in all dirs with libraries
    but vdpau's, which is no dir that the linker searches.
    """
    for name, file in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "link" in file:
            path.symlink_to(file["link"])
        elif "dir" in file:
            path.mkdir(exist_ok=True)
        elif "node" in file:
            kind, major, minor = file["node"]
            os.mknod(path, (stat.S_IFCHR if kind == "c" else stat.S_IFBLK), os.makedev(major, minor))
            path.chmod(0o666)
        elif "elf" in file:
            path.write_bytes(library(file["elf"]))
        else:
            path.write_text(file["text"], "utf-8", "surrogateescape")
            path.chmod(file.get("mode", 0o644))
    if ldconfig:
        dirs = sorted({f"/{os.path.dirname(name)}" for name, file in files.items() if "elf" in file})
        dirs = [directory for directory in dirs if not directory.endswith("/vdpau")]
        (root / "etc").mkdir(exist_ok=True)
        subprocess.run(["/sbin/ldconfig", "-r", str(root), *dirs], check=True, capture_output=True)
    return root


def of_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return files from which a spec of nvidia-ctk can have been made: those that it mounts and links."""
    files: dict[str, Any] = {}
    edits = spec["containerEdits"]
    links = [word.split("::") for hook in edits["hooks"] for word in hook["args"] if "::" in word]
    sonames: dict[str, str] = {}
    for target, path in links:
        directory, _, name = path.rpartition("/")
        files[path[1:]] = {"link": target}
        if not name.endswith(".so") and "indirect" not in name:
            sonames[f"{directory}/{target}"] = name
    for mount in edits["mounts"]:
        path = mount["hostPath"]
        if ".so." in path:
            files[path[1:]] = {"elf": sonames.get(path, os.path.basename(path))}
        else:
            files[path[1:]] = {"text": "", "mode": 0o755 if "/bin/" in path else 0o644}
    for device in [{"containerEdits": edits}, *spec["devices"]]:
        for node in device["containerEdits"]["deviceNodes"]:
            files[node["path"][1:]] = {"node": ["c", node["major"], node.get("minor", 0)]}
    uuids = [device["name"] for device in spec["devices"] if device["name"].startswith("GPU-")]
    for minor, uuid in enumerate(uuids):
        files[f"proc/driver/nvidia/gpus/0000:0{minor + 1}:00.0/information"] = {
            "text": f"Model: \t\t NVIDIA H100\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
        }
    return files
