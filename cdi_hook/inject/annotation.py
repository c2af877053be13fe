# SPDX-License-Identifier: Apache-2.0
"""Annotations that ask for devices, cdi.k8s.io/PLUGIN_ID, for programs that read and write them.

What a container's annotations ask for by this host's configuration is request.py's to say.
"""

from __future__ import annotations

from cdi_hook import errors, names
from cdi_hook.base.quoting import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANNOTATION_PREFIX = "cdi.k8s.io/"
_MAX_NAME = 63  # bytes, Kubernetes' limit for the part after the slash


def parse_annotations(annotations: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the keys that request devices, sorted, and the qualified names they request.

    Raises InvalidAnnotation for the first item that isn't a qualified name. An
    empty value, or a trailing comma, has an empty item, which isn't one.

    >>> parse_annotations({"cdi.k8s.io/my-plugin": "vendor.com/gpu=0,vendor.com/gpu=1"})
    (['cdi.k8s.io/my-plugin'], ['vendor.com/gpu=0', 'vendor.com/gpu=1'])
    """
    keys = sorted(key for key in annotations if key.startswith(ANNOTATION_PREFIX))
    devices: list[str] = []
    for key in keys:
        for device in annotations[key].split(","):
            if not names.is_qualified_name(device):
                raise errors.InvalidAnnotation(f"invalid CDI device name {quote(device)}")
            devices.append(device)
    return keys, devices


def annotation_key(plugin: str, device_id: str) -> str:
    """Return a plugin's key for the devices of one allocation; raises InvalidAnnotation if it isn't valid.

    What follows the slash has at most 63 bytes, which is Kubernetes' limit.

    >>> annotation_key("my-plugin", "gpu/0")
    'cdi.k8s.io/my-plugin_gpu_0'
    """
    if not plugin:
        raise errors.InvalidAnnotation("invalid plugin name, empty")
    if not device_id:
        raise errors.InvalidAnnotation("invalid deviceID, empty")
    name = f"{plugin}_{device_id.replace('/', '_')}"
    data = names.as_bytes(name)
    if len(data) > _MAX_NAME:
        raise errors.InvalidAnnotation(f"invalid plugin+deviceID {quote(name)}, too long")
    first, last = chr(data[0]), chr(data[-1])
    if not _is_alphanumeric(first):
        raise errors.InvalidAnnotation(f"invalid name {quote(name)}, first '{first}' should be alphanumeric")
    for character in data[1:-1].decode("utf-8", "replace"):
        if not _is_alphanumeric(character) and character not in "_-.":
            raise errors.InvalidAnnotation(f"invalid name {quote(name)}, invalid character '{character}'")
    if not _is_alphanumeric(last):
        raise errors.InvalidAnnotation(f"invalid name {quote(name)}, last '{last}' should be alphanumeric")
    return ANNOTATION_PREFIX + name


def annotation_value(devices: Sequence[str]) -> str:
    """Return the value that requests these devices; raises InvalidName.

    >>> annotation_value(["vendor.com/gpu=0", "vendor.com/gpu=1"])
    'vendor.com/gpu=0,vendor.com/gpu=1'
    """
    asked = names.as_list(devices, "devices")
    for name in asked:
        names.parse_qualified_name(name)
    return ",".join(asked)


def update_annotations(
    annotations: Mapping[str, str], plugin: str, device_id: str, devices: Sequence[str]
) -> dict[str, str]:
    """Return the annotations with a request for devices added.

    Raises InvalidAnnotation if the key is invalid or used, or if a name is invalid.

    >>> update_annotations({}, "my-plugin", "gpu0", ["vendor.com/gpu=0"])
    {'cdi.k8s.io/my-plugin_gpu0': 'vendor.com/gpu=0'}
    """
    failed = "CDI annotation failed"
    try:
        key = annotation_key(plugin, device_id)
        if key not in annotations:
            return {**annotations, key: annotation_value(devices)}
    except (errors.InvalidAnnotation, errors.InvalidName) as error:
        raise errors.InvalidAnnotation(f"{failed}: {error}") from error
    raise errors.InvalidAnnotation(f"{failed}, key {quote(key)} used")


def _is_alphanumeric(character: str) -> bool:
    return character.isascii() and character.isalnum()
