# SPDX-License-Identifier: Apache-2.0
"""What `make release` leaves in its dir. It is here because the image is made from Debian's packages."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.box import ROOT
from tests.package.conftest import TOOLS, VERSION, need, run
from tests.package.test_builds import NAMES

from . import base_images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.package.conftest import Key

IMAGE = f"cdi-hook-installer-{VERSION}.{platform.machine()}.oci.tar"


@pytest.fixture
def bases(tmp_path: Path, root: Path) -> list[str]:
    """Make the images that the Containerfile starts from; return the settings of buildah that know them."""
    need("buildah")
    return base_images.make(tmp_path, root)


def read(image: tarfile.TarFile, digest: str) -> Any:
    """Read an object of an image."""
    file = image.extractfile(f"blobs/{digest.replace(':', '/')}")
    assert file is not None
    return json.load(file)


def test_release_is_complete(
    packages: Callable[..., Path], key: Key, bases: list[str], tmp_path: Path
) -> None:
    """A release has packages, an SBOM with everything that pip would install, repositories, the installer's image, and correct checksums."""
    need("apt-ftparchive", "createrepo_c", "rpmsign")
    prepared = subprocess.run(["sh", "tests/setup.sh", "release"], cwd=ROOT, check=False, capture_output=True)
    if prepared.returncode:
        pytest.skip("what makes an SBOM can't be installed")
    dist = tmp_path / "dist"
    dist.mkdir()
    for kind in TOOLS:
        shutil.copy(packages(kind), dist)
    run("sh", "packaging/build.sh", "wheel", dist)
    said = key.run("env", *bases, "sh", "packaging/release.sh", "finish", VERSION, "", dist, timeout=300)
    names = [name.format(VERSION) for name in NAMES.values()]
    names += [f"cdi_hook-{VERSION}-py3-none-any.whl", f"cdi-hook-{VERSION}.cdx.json", IMAGE]
    assert sorted(path.name for path in dist.iterdir()) == sorted([*names, "SHA256SUMS", "repository"])
    assert run("sha256sum", "-c", "--strict", "SHA256SUMS", cwd=dist) == "".join(
        f"{name}: OK\n" for name in names
    )
    assert said.startswith((dist / "SHA256SUMS").read_text("ascii"))
    sbom = json.loads((dist / names[3]).read_text("utf-8"))
    product = sbom["metadata"]["component"]
    assert (sbom["bomFormat"], product["name"], product["version"]) == ("CycloneDX", "cdi-hook", VERSION)
    components = {component["name"] for component in sbom["components"]}
    assert components >= {"PyYAML", "python-json-logger"}
    published = {path.name for path in (dist / "repository").iterdir()}
    assert published == {"apt", "rpm", "cdi-hook.asc", "cdi-hook.repo", "cdi-hook.sources"}
    with tarfile.open(dist / IMAGE) as image:
        file = image.extractfile("index.json")
        assert file is not None
        (index,) = json.load(file)["manifests"]
        assert index["annotations"] == {"org.opencontainers.image.ref.name": f"cdi-hook-installer:{VERSION}"}
        manifest = read(image, index["digest"])
        config = read(image, manifest["config"]["digest"])["config"]
        assert config["Entrypoint"] == ["/bin/sh", "/install.sh"]
        layers = [f"blobs/{one['digest'].replace(':', '/')}" for one in manifest["layers"]]
        files: set[str] = set()
        for layer in layers:
            with tarfile.open(fileobj=image.extractfile(layer)) as one:
                files.update(one.getnames())
    home = "stage/opt/cdi-hook/current"
    assert {
        "install.sh",
        f"{home}/bin/cdi-runtime",
        f"{home}/lib/cdi_hook/start.py",
        f"{home}/lib/yaml/__init__.py",
    } <= files
