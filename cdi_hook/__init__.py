# SPDX-License-Identifier: Apache-2.0
"""CDI devices for OCI containers: the library behind cdi-runtime and cdi-hook.

A name's module is imported when the name is first used, because imports make a
container's start slower.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_hook.catalog.cache import Cache as Cache
    from cdi_hook.edits.target import Change as Change
    from cdi_hook.errors import BundleError as BundleError
    from cdi_hook.errors import CDIError as CDIError
    from cdi_hook.errors import ConfigError as ConfigError
    from cdi_hook.errors import Finding as Finding
    from cdi_hook.errors import InjectionError as InjectionError
    from cdi_hook.errors import InvalidAnnotation as InvalidAnnotation
    from cdi_hook.errors import InvalidName as InvalidName
    from cdi_hook.errors import InvalidRequest as InvalidRequest
    from cdi_hook.errors import InvalidSpec as InvalidSpec
    from cdi_hook.errors import UnresolvableDevices as UnresolvableDevices
    from cdi_hook.inject.annotation import annotation_key as annotation_key
    from cdi_hook.inject.annotation import annotation_value as annotation_value
    from cdi_hook.inject.annotation import parse_annotations as parse_annotations
    from cdi_hook.inject.annotation import update_annotations as update_annotations
    from cdi_hook.inject.driver import CDIDriver as CDIDriver
    from cdi_hook.inject.driver import register as register
    from cdi_hook.inject.request import DeviceRequest as DeviceRequest
    from cdi_hook.leases.distinct import distinct_devices as distinct_devices
    from cdi_hook.names import is_qualified_name as is_qualified_name
    from cdi_hook.names import parse_qualified_name as parse_qualified_name
    from cdi_hook.names import qualified_name as qualified_name
    from cdi_hook.specs.model import Device as Device
    from cdi_hook.specs.model import Spec as Spec
    from cdi_hook.specs.model import apply_edits as apply_edits
    from cdi_hook.specs.specfile import transient_spec_name as transient_spec_name
    from cdi_hook.specs.versions import minimum_version as minimum_version
    from cdi_hook.version import __version__ as __version__

_HOMES = {
    "catalog.cache": "Cache",
    "edits.target": "Change",
    "errors": "BundleError CDIError ConfigError Finding InjectionError InvalidAnnotation InvalidName "
    "InvalidRequest InvalidSpec UnresolvableDevices",
    "inject.annotation": "annotation_key annotation_value parse_annotations update_annotations",
    "inject.driver": "CDIDriver register",
    "inject.request": "DeviceRequest",
    "leases.distinct": "distinct_devices",
    "names": "is_qualified_name parse_qualified_name qualified_name",
    "specs.model": "Device Spec apply_edits",
    "specs.specfile": "transient_spec_name",
    "specs.versions": "minimum_version",
    "version": "__version__",
}
__all__ = [name for names in _HOMES.values() for name in names.split() if name[0] != "_"]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names.split():
            import importlib

            value = getattr(importlib.import_module(f"cdi_hook.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'cdi_hook' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
