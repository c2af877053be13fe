# SPDX-License-Identifier: Apache-2.0
"""engines.k3s: a drop-in where config.toml imports one, else the template that config.toml is made from."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from cdi_hook.engines.edit import plan
from cdi_hook.engines.edit.config_editor import Request
from cdi_hook.engines.k3s import ENGINE
from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    from pathlib import Path

ADD = Request("/usr/bin/cdi-runtime", annotations=("cdi.k8s.io/*",))
PLUGINS = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
TEMPLATES = {2: "config.toml.tmpl", 3: "config-v3.toml.tmpl"}
VERSIONS = pytest.mark.parametrize("version", PLUGINS)
BASE = '{{ template "base" . }}\n'
FIRST = "# Written by `cdi-hook configure k3s`; --remove removes it.\n"
FOREIGN = BASE + '{{ if .NodeConfig.SELinux }}\n[debug]\n  level = "debug"\n{{ end }}'


def made(version: int, more: str = "") -> str:
    """Return a config.toml that k3s made."""
    return f"""version = {version}
{more}
[plugins.'{PLUGINS[version]}'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'{PLUGINS[version]}'.containerd.runtimes.runc.options]
  SystemdCgroup = true
"""


def tables(version: int) -> str:
    """Return what is added."""
    table = f'plugins."{PLUGINS[version]}".containerd.runtimes.cdi'
    return f"""
[{table}]  # by cdi-hook configure
runtime_type = "io.containerd.runc.v2"
container_annotations = ["cdi.k8s.io/*"]
[{table}.options]  # by cdi-hook configure
SystemdCgroup = true
BinaryName = "/usr/bin/cdi-runtime"
"""


def block(version: int) -> str:
    """Return what is added to a template."""
    begin, end = "# begin: cdi-hook configure, version =", "# end: cdi-hook configure"
    return f"\n{begin} {version}\n{tables(version)}{end}\n"


def contents(place: Path) -> dict[str, str]:
    """Return the files in a dir and below it, by their paths there."""
    return {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}


def add(place: Path, request: Request = ADD) -> None:
    """Add an entry to the configuration in a dir; a second time changes nothing."""
    for change in plan.add(ENGINE, f"{place}/config.toml", request).changes:
        change.make()
    assert plan.add(ENGINE, f"{place}/config.toml", request).changes == []


def remove(place: Path) -> None:
    """Remove our entries from the configuration in a dir."""
    for change in plan.remove(ENGINE, f"{place}/config.toml").changes:
        change.make()


@VERSIONS
def test_without_a_template(tmp_path: Path, version: int) -> None:
    """A template of the version that config.toml has extends k3s' own, and a removal removes it."""
    (tmp_path / "config.toml").write_text(made(version))
    before = contents(tmp_path)
    add(tmp_path)
    assert contents(tmp_path) == {**before, TEMPLATES[version]: FIRST + BASE + block(version)}
    remove(tmp_path)
    assert contents(tmp_path) == before


@VERSIONS
def test_with_a_template(tmp_path: Path, version: int) -> None:
    """A template gets our block at its end, keeps what is added after that, and else is as it was before."""
    template = tmp_path / TEMPLATES[version]
    template.write_text(FOREIGN)
    (tmp_path / "config.toml").write_text(made(version))
    before = contents(tmp_path)
    add(tmp_path)
    assert template.read_text() == FOREIGN + "\n" + block(version)
    remove(tmp_path)
    assert contents(tmp_path) == before
    add(tmp_path)
    template.write_text(template.read_text() + "[x]\ny = {{ .z }}\n")
    add(tmp_path)
    add(tmp_path, Request("/usr/bin/cdi-crun", "crun", annotations=ADD.annotations))
    assert ENGINE.edit(template.read_text()).ours == ["cdi", "cdi-crun"]
    remove(tmp_path)
    assert contents(tmp_path) == {**before, template.name: FOREIGN + "\n[x]\ny = {{ .z }}\n"}


def test_a_template_without_actions(tmp_path: Path) -> None:
    """A template that is TOML is edited as TOML, for instance its default runtime."""
    (tmp_path / "config.toml").write_text(made(2))
    (tmp_path / TEMPLATES[2]).write_text(made(2))
    add(tmp_path, Request("/usr/bin/cdi-runtime", set_default=True, annotations=ADD.annotations))
    default = (
        f'\n[plugins."{PLUGINS[2]}".containerd]  # by cdi-hook configure\ndefault_runtime_name = "cdi"\n'
    )
    assert (tmp_path / TEMPLATES[2]).read_text() == made(2) + tables(2) + default
    (tmp_path / "config.toml").write_text(made(2) + tables(2) + default)  # as k3s does
    remove(tmp_path)
    assert (tmp_path / TEMPLATES[2]).read_text() == made(2)


def test_with_a_drop_in(tmp_path: Path) -> None:
    """A dir that config.toml imports gets a drop-in, unless a template has our entry already."""
    text = made(3, f'imports = ["{tmp_path}/config-v3.toml.d/*.toml"]')
    (tmp_path / "config.toml").write_text(text)
    add(tmp_path)
    drop_in = FIRST.replace("removes it.", "removes it and its dir.") + "version = 3\n" + tables(3)
    assert contents(tmp_path) == {"config.toml": text, "config-v3.toml.d/99-cdi-hook.toml": drop_in}
    remove(tmp_path)
    assert (contents(tmp_path), os.listdir(tmp_path)) == ({"config.toml": text}, ["config.toml"])
    for theirs, left in (("", []), ("mine.toml", ["mine.toml"])):
        (tmp_path / "config-v3.toml.d").mkdir()  # it was there before, or somebody has used it since
        add(tmp_path)
        (tmp_path / "config-v3.toml.d" / theirs).touch()
        remove(tmp_path)
        assert os.listdir(tmp_path / "config-v3.toml.d") == left
        shutil.rmtree(tmp_path / "config-v3.toml.d")
    (tmp_path / TEMPLATES[3]).write_text(FIRST + BASE + block(3))
    add(tmp_path)
    assert list(contents(tmp_path)) == ["config.toml", TEMPLATES[3]]


@pytest.mark.parametrize("imports", ["", "imports"])
def test_a_default_runtime_of_config_yaml(tmp_path: Path, imports: str) -> None:
    """An entry that k3s itself makes the default isn't removed: containerd doesn't start without it."""
    text = made(3, f'imports = ["{tmp_path}/config-v3.toml.d/*.toml"]' if imports else "")
    (tmp_path / "config.toml").write_text(text)
    add(tmp_path)
    default = f'\n[plugins."{PLUGINS[3]}".containerd]\ndefault_runtime_name = "cdi"\n'
    (tmp_path / "config.toml").write_text(text + ("" if imports else tables(3)) + default)  # as k3s does
    before = contents(tmp_path)
    with pytest.raises(CDIError) as caught:
        remove(tmp_path)
    reason = "makes cdi the default runtime: set another one for k3s first, and restart it"
    assert (str(caught.value), contents(tmp_path)) == (f"{tmp_path}/config.toml {reason}", before)


def test_version_2_has_no_drop_in(tmp_path: Path) -> None:
    """containerd 1.7 would replace a whole table by that of a drop-in, so the template is edited."""
    (tmp_path / "config.toml").write_text(made(2, f'imports = ["{tmp_path}/config.toml.d/*.toml"]'))
    add(tmp_path)
    assert (tmp_path / TEMPLATES[2]).read_text() == FIRST + BASE + block(2)


@pytest.mark.parametrize(
    ("request_", "template", "reason"),
    [
        (
            Request("/usr/bin/cdi-runtime", set_default=True),
            BASE,
            "a template may set a default runtime itself: instead, write `default-runtime: cdi` "
            "into /etc/rancher/k3s/config.yaml",
        ),
        (
            Request("/usr/bin/cdi-runtime", enable_cdi=True),
            BASE,
            "containerd's own CDI can't be turned on in a template",
        ),
        (
            ADD,
            BASE + "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'cdi']\n",
            "it already has a runtime cdi that `cdi-hook configure` didn't write",
        ),
    ],
    ids=["default", "CDI", "taken"],
)
def test_what_a_template_cannot_have(tmp_path: Path, request_: Request, template: str, reason: str) -> None:
    """What would make config.toml invalid is refused, and nothing changes."""
    (tmp_path / "config.toml").write_text(made(3))
    (tmp_path / TEMPLATES[3]).write_text(template)
    with pytest.raises(CDIError) as caught:
        add(tmp_path, request_)
    assert str(caught.value) == f"{tmp_path}/{TEMPLATES[3]}: {reason}"


def test_never_started(tmp_path: Path) -> None:
    """Before k3s has made config.toml its version and its cgroup driver aren't known."""
    with pytest.raises(CDIError) as caught:
        add(tmp_path)
    reason = "k3s hasn't made config.toml yet: start it once before this"
    assert str(caught.value) == f"{tmp_path}/{TEMPLATES[3]}: {reason}"
    assert plan.remove(ENGINE, f"{tmp_path}/config.toml").changes == []
