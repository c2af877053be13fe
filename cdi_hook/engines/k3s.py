# SPDX-License-Identifier: Apache-2.0
"""k3s: its own containerd, whose config.toml it makes at each start, from a template where there is one.

k3s takes config-v3.toml.tmpl beside config.toml, else config.toml.tmpl for a version 2,
else its own template, which the others include by ``{{ template "base" . }}``. From
2026 on its own template imports config-v3.toml.d/*.toml. So the entry goes into a
drop-in where config.toml imports that dir, and else into the template (pkg/agent/
containerd/config.go and pkg/agent/templates/templates.go of k3s, of 2023 to 2026).

containerd is a child of k3s, so the unit to restart is that of k3s. Its containers
go on (KillMode=process).
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from cdi_hook.engines import containerd
from cdi_hook.engines.containerd import ContainerdEditor, ContainerdProber, version
from cdi_hook.engines.edit import file_change, template
from cdi_hook.engines.edit.config_editor import Editor, Files
from cdi_hook.engines.edit.document import UnusableConfiguration, named

if TYPE_CHECKING:
    from cdi_hook.engines.edit.config_editor import Edited, Request

_TEMPLATES = {3: "config-v3.toml.tmpl", 2: "config.toml.tmpl"}


class K3sEditor(ContainerdEditor):
    form = template.TemplateText
    made = "config.toml"

    @classmethod
    def files(cls, path: str) -> Files:
        made = file_change.read(path)
        files = super().files(path)
        with named(path):
            number = 3 if made is None else min(version(made), 3)
        beside = {key: os.path.join(os.path.dirname(path), one) for key, one in _TEMPLATES.items()}
        place = beside[number]
        with named(place):
            has_ours = cls("", file_change.read(place) or "").ours
        if files.place != path and made is not None and not has_ours:
            place = files.place
        ours = [*beside.values(), *(one for one in files.ours if one != path)]
        return Files(place, list(dict.fromkeys([*files.read, place])), ours, made=path)

    def start(self) -> str:
        if os.path.basename(self.path) not in _TEMPLATES.values():
            return super().start()
        return Editor.start(self) + template.BASE

    def add(self, request: Request) -> Edited:
        text = self.document.text
        if template.is_template(text):
            made = [one for path, one in self.others if os.path.basename(path) == self.made]
            if not made:
                raise UnusableConfiguration(
                    f"{self.engine} hasn't made {self.made} yet: start it once before this"
                )
            self.document = self.form(template.with_block(text, version(made[0])))
        return super().add(request)

    def check(self, request: Request) -> None:
        text = self.document.text
        if not template.is_template(text):
            super().check(request)
            return
        if request.set_default:
            raise UnusableConfiguration(
                "a template may set a default runtime itself: instead, write "
                f"`default-runtime: {request.name}` into /etc/rancher/{self.engine}/config.yaml"
            )
        if request.enable_cdi:
            raise UnusableConfiguration("containerd's own CDI can't be turned on in a template")
        if re.search(rf"runtimes\.['\"]?{re.escape(request.name)}['\"]?\]", template.without_block(text)):
            raise UnusableConfiguration(
                f"it already has a runtime {request.name} that `cdi-hook configure` didn't write"
            )


class K3sProber(ContainerdProber):
    own_dir = "/var/lib/rancher/k3s/data/current/bin"
    programs = (f"{own_dir}/containerd",)
    socket = "/run/k3s/containerd/containerd.sock"
    states = ("/run/k3s/containerd",)


ENGINE = replace(
    containerd.ENGINE,
    name="k3s",
    file="/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    editor=K3sEditor,
    prober=K3sProber,
    help=replace(
        containerd.ENGINE.help,
        about=", which k3s makes: the edit goes to a drop-in if it imports one, else to its template",
    ),
    units=("k3s", "k3s-agent"),
)
