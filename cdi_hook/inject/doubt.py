# SPDX-License-Identifier: Apache-2.0
"""Why a container that asks for nothing may have asked. A create with a request doesn't import it."""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.base.quoting import quote
from cdi_hook.inject import request
from cdi_hook.names import parse_qualified_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cdi_hook.config.settings import Config

UNREADABLE = "the container may have asked for a CDI device by what the configuration can't say: "
CLAIMED = (
    "by its annotations this is a Kubernetes pod's sandbox, so it gets no CDI device (SANDBOXES=skip); "
    "whether that is true can't be told without the container's id"
)
_LONG_KEY = 320  # characters; Kubernetes has keys of 317 at most, so nobody means to write a longer one
_MOST_READ = 1000  # words of annotations with such keys: where none of these is a name, they ask for none


def of(oci: dict[str, Any], config: Config, container: str) -> str:
    """Return why a container that asks for nothing may have asked, "" if it hasn't."""
    if config.hiding:
        return f"{UNREADABLE}{'; '.join(config.hiding)}"
    if not request.is_sandbox(oci, container):
        return _misspelt(oci, config)
    return CLAIMED if not container and config["SANDBOXES"] == "skip" else ""


def _misspelt(oci: dict[str, Any], config: Config) -> str:
    """Say which annotation looks like a request and isn't one, because of its key; "" if none does."""
    annotations = oci.get("annotations")
    if not isinstance(annotations, dict):
        return ""
    prefixes = config.words("ANNOTATION_PREFIXES")
    left = _MOST_READ
    for key in sorted(annotations):
        is_like = "cdi.k8s" in key.lower() or f"{key}/" in prefixes
        if not is_like or key.startswith(tuple(prefixes)) or not prefixes or len(key) > _LONG_KEY:
            continue
        value = annotations[key]
        for item in value.split(",", left)[:left] if isinstance(value, str) else ():
            left -= 1
            try:
                parse_qualified_name(item.strip())
            except errors.InvalidName:
                continue
            name = key.rpartition("/")[2] if "/" in key else "device"
            return (
                f"annotation {quote(key)} asks for no device, because its key doesn't begin with "
                f"{quote(prefixes[0])}; write the key as {prefixes[0]}{name}"
            )
    return ""
