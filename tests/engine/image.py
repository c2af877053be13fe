# SPDX-License-Identifier: Apache-2.0
"""An image that every engine loads: busybox, in a tar that is both an OCI layout and docker's archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "localhost/box:latest"
HOSTILE = "localhost/hostile:latest"
BUSYBOX = Path("/bin/busybox")
APPLETS = ("sh", "cat", "echo", "env", "id", "ls", "sleep", "stat", "true", "ps", "test", "tty")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))


def _layer(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, mode
            archive.addfile(member)
        _add(archive, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in APPLETS:
            member = tarfile.TarInfo(f"bin/{applet}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(member)
        _add(archive, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
        _add(archive, "etc/group", b"root:x:0:\n")
        for name, (content, mode) in files.items():
            _add(archive, name, content, mode)
    return file.getvalue()


def make(
    path: Path,
    machine: str,
    name: str = NAME,
    files: Mapping[str, tuple[bytes, int]] = MappingProxyType({}),
    variables: Mapping[str, str] = MappingProxyType({"PATH": "/bin"}),
) -> None:
    """Write the image; without a command of its own it sleeps, as a pod's sandbox must.

    ``files`` are more files: content and mode.
    """
    blobs: dict[str, bytes] = {}

    def blob(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    layer = _layer(files)
    packed = gzip.compress(layer, 1)
    config = {
        "architecture": _ARCHITECTURES[machine],
        "os": "linux",
        # As a container's first process, sleep isn't ended by SIGTERM.
        "config": {
            "Cmd": ["sleep", "1000"],
            "Env": [f"{key}={value}" for key, value in variables.items()],
            "StopSignal": "SIGKILL",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    kind = "application/vnd.oci.image"
    in_layer = {"mediaType": f"{kind}.layer.v1.tar+gzip", **blob(packed)}
    in_config = {"mediaType": f"{kind}.config.v1+json", **blob(json.dumps(config).encode())}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": in_config,
        "layers": [in_layer],
    }
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    entry = {"mediaType": manifest["mediaType"], **blob(json.dumps(manifest).encode()), "annotations": names}
    docker = {"Config": _file(in_config), "RepoTags": [name], "Layers": [_file(in_layer)]}
    documents: dict[str, Any] = {
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
        "index.json": {"schemaVersion": 2, "manifests": [entry]},
        "manifest.json": [docker],
    }
    with tarfile.open(path, "w") as archive:
        for file, document in documents.items():
            _add(archive, file, json.dumps(document).encode())
        for file, data in blobs.items():
            _add(archive, file, data)


def _file(descriptor: dict[str, Any]) -> str:
    return "blobs/sha256/" + str(descriptor["digest"]).removeprefix("sha256:")
