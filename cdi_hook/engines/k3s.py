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
from typing import TYPE_CHECKING

from cdi_hook.base.process import ask
from cdi_hook.engines.containerd import Containerd, version
from cdi_hook.engines.edit import file_change, template
from cdi_hook.engines.edit.document import UnusableConfiguration, named
from cdi_hook.engines.engine import Edited, Files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.engine import Other, Request

_MADE = "config.toml"
_TEMPLATES = {3: "config-v3.toml.tmpl", 2: "config.toml.tmpl"}


class K3s(Containerd):
    name = "k3s"
    file = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"
    about = ", which k3s makes: the edit goes to a drop-in if it imports one, else to its template"
    own_dir = "/var/lib/rancher/k3s/data/current/bin"
    programs = (f"{own_dir}/containerd",)
    units: tuple[str, ...] = ("k3s", "k3s-agent")
    document = template.TemplateText
    socket = "/run/k3s/containerd/containerd.sock"
    state = "/run/k3s/containerd"

    def unit(self) -> str:
        running = (one for one in self.units if ask(("systemctl", "is-active", "--quiet", one)).status == 0)
        return next(running, self.units[0])

    def files(self, path: str) -> Files:
        made = file_change.read(path)
        files = super().files(path)
        with named(path):
            number = 3 if made is None else min(version(made), 3)
        beside = {key: os.path.join(os.path.dirname(path), one) for key, one in _TEMPLATES.items()}
        place = beside[number]
        is_imported = files.place != path and made is not None
        if is_imported and not self._is_in(place):
            place = files.place
        ours = [*beside.values(), *(one for one in files.ours if one != path)]
        return Files(place, list(dict.fromkeys([*files.read, place])), ours, made=path)

    def _is_in(self, path: str) -> bool:
        """Say whether a template has an entry of ours."""
        text = file_change.read(path)
        with named(path):
            return text is not None and bool(self.names(text))

    def start(self, path: str, others: Sequence[Other]) -> str:
        if os.path.basename(path) not in _TEMPLATES.values():
            return super().start(path, others)
        return super(Containerd, self).start(path, others) + template.BASE

    def is_blank(self, text: str) -> bool:
        return super().is_blank(template.without_block(text).replace(template.BASE, "", 1))

    def add(self, text: str, request: Request, others: Sequence[Other] = ()) -> Edited:
        if template.is_template(text):
            made = [one for path, one in others if os.path.basename(path) == _MADE]
            if not made:
                raise UnusableConfiguration(f"{self.name} hasn't made {_MADE} yet: start it once before this")
            text = template.with_block(text, version(made[0]))
        return super().add(text, request, others)

    def check(self, text: str, request: Request, others: Sequence[Other]) -> None:
        if not template.is_template(text):
            super().check(text, request, [one for one in others if os.path.basename(one[0]) != _MADE])
            return
        if request.set_default:
            raise UnusableConfiguration(
                "a template may set a default runtime itself: instead, write "
                f"`default-runtime: {request.name}` into /etc/rancher/{self.name}/config.yaml"
            )
        if request.enable_cdi:
            raise UnusableConfiguration("containerd's own CDI can't be turned on in a template")
        if re.search(rf"runtimes\.['\"]?{re.escape(request.name)}['\"]?\]", template.without_block(text)):
            raise UnusableConfiguration(
                f"it already has a runtime {request.name} that `cdi-hook configure` didn't write"
            )
