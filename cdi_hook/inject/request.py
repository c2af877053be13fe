# SPDX-License-Identifier: Apache-2.0
"""What a container asks for -> DeviceRequest: its annotations, environment, mounts. And the call itself.

Pure: an OCI tree and the configuration in, a request out. Whether this host
allows it is policy.py's to say, and whether the devices exist the registry's.
"""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.base.quoting import quote
from cdi_hook.edits.kinds import KINDS
from cdi_hook.names import as_list, parse_qualified_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from cdi_hook.config.settings import Config
    from cdi_hook.edits.target import Change
    from cdi_hook.leases.lessee import Lessee

    # A device, what asks for it in words, and the words of the configuration that make that a source.
    Asked = tuple[str, str, Sequence[str]]

# What a CRI engine says of a pod's sandbox: that it is one, and the sandbox's id, which is the
# container's own. (cri-dockerd marks it by a label, which never reaches an OCI spec.)
SANDBOX_ANNOTATIONS = (
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),  # containerd
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"),  # CRI-O
)
# Where a CRI engine says a pod's name and namespace, and what the path has of bundles that it makes.
PODS = (
    ("io.kubernetes.cri.sandbox-name", "io.kubernetes.cri.sandbox-namespace", "/k8s.io/"),  # containerd
    ("io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "/userdata/"),  # CRI-O; podman's are alike
)
# The keys that requests and edits read, by their spelling without case.
_KEYS = {
    name.casefold(): name for name in ("annotations", *(one for kind in KINDS.values() for one in kind.keys))
}
# How many times one container may ask for a device, and the bytes of a name. No host has so many
# devices to give; a vendor may have 253 bytes and a class 63, as names in Kubernetes have.
_MOST_ASKED = 16384
_MOST_NAME = 512
LONGEST_CLAIM = 253  # characters; a pod's name in Kubernetes has no more, and a namespace 63
# Values of NVIDIA_VISIBLE_DEVICES and its kin that ask for nothing.
NOTHING = ("", "none", "void")


class DeviceRequest:
    """A request for devices, as docker's engine has it.

    ``driver`` names the driver that serves it; ``count`` and ``options`` are for
    drivers that choose devices themselves; ``device_ids`` are the devices, here
    qualified names. ``origins`` says in words where each id was asked for, and
    ``asked`` each time that one was.

    >>> DeviceRequest(["vendor.com/gpu=0"]).device_ids
    ['vendor.com/gpu=0']
    """

    __slots__ = ("asked", "count", "device_ids", "driver", "options", "origins")

    def __init__(
        self,
        device_ids: Sequence[str] = (),
        *,
        driver: str = "cdi",
        count: int = 0,
        options: dict[str, str] | None = None,
        origins: dict[str, str] | None = None,
    ) -> None:
        self.driver = driver
        self.count = count
        self.device_ids = as_list(device_ids, "device_ids")
        self.options = options or {}
        self.origins = origins or {}
        self.asked: Sequence[Asked] = [(one, self.origins.get(one, ""), ()) for one in self.device_ids]

    def ask(self, asked: Sequence[Asked]) -> None:
        """Have it ask for these devices in place of those that it asks for."""
        self.asked = asked
        self.origins = {name: one for name, one in self.origins.items() if name not in self.device_ids}
        for name, origin, _ in asked:
            self.origins.setdefault(name, origin)
        self.device_ids = list(dict.fromkeys(name for name, _, _ in asked))


class Facts:
    """Which call it is, and what is found out on its way; the lines in LOG tell it.

    An error in a with statement of it is one that keeps the container from what it asks for.

    ``root`` is where the runtime keeps its state, "" when nobody said. ``lessee`` is who takes a lease for
    exclusive devices, None where nobody can; then ``no_lease`` says why ("": nothing is given).
    ``may_be_pod`` is whether a CRI engine may have called. ``doubt`` is why the container may have asked for
    a device and gets none, "" when it hasn't. ``note`` is what else LOG tells of it. ``unlogged`` is why a
    line isn't in LOG, "" if all are.
    """

    def __init__(
        self,
        container: str = "",
        bundle: str = "",
        root: str = "",
        *,
        lessee: Lessee | None = None,
        no_lease: str = "",
        may_be_pod: bool = True,
    ) -> None:
        self.container, self.bundle, self.root = container, bundle, root
        self.lessee, self.no_lease, self.may_be_pod = lessee, no_lease, may_be_pod
        self.doubt = self.note = self.unlogged = ""
        self.oci: dict[str, Any] | None = None
        self.request: DeviceRequest | None = None
        self.changes: list[Change] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: object, _where: object) -> None:
        # errors isn't executed where there is none
        if error is not None and isinstance(error, errors.CDIError):
            error.of_request = True


def collect(oci: dict[str, Any], config: Config, container: str = "") -> DeviceRequest:
    """Return the request that a container's OCI spec makes; each device once.

    ``container`` is the container's id, "" where that isn't known.
    Raises InvalidAnnotation for one that can't be understood, and BundleError for
    one whose keys the runtimes don't agree on.

    runc and runsc, whose JSON is Go's, read "Annotations" as annotations, and of two
    such keys the later; crun doesn't. Nobody means that. So whatever a container asks
    for, by either reading, is refused.
    """
    odd = _odd_key(oci)
    if odd:
        try:
            asks = any(_collect(one, config, container).device_ids for one in (oci, _regular(oci)))
        except (errors.CDIError, RecursionError):
            asks = True
        if asks:
            raise errors.BundleError(
                f"the OCI spec has a key {quote(odd)}: runc takes it for {quote(_KEYS[odd.casefold()])}, "
                f"crun for nothing; write {quote(_KEYS[odd.casefold()])}"
            )
    return _collect(oci, config, container)


def _odd_key(oci: dict[str, Any]) -> str:
    """Return a key that differs in nothing but case from one that we read, or ""."""
    nodes = [oci]
    for node in nodes:  # to which those below are added: recursion has an end
        for key, value in node.items():
            known = _KEYS.get(key.casefold())
            if known and known != key:
                return key
            if known and known not in ("annotations", "netDevices"):  # whose keys are names
                below = value if isinstance(value, list) else (value,)
                nodes += [one for one in below if isinstance(one, dict)]
    return ""


def _regular(node: Any) -> Any:
    """Return a tree with all keys that we read in their own spelling; two that become one are joined."""
    if isinstance(node, list):
        return [_regular(one) if isinstance(one, dict) else one for one in node]
    if not isinstance(node, dict) or not any(key.casefold() in _KEYS for key in node):
        return node
    made: dict[str, Any] = {}
    for key, value in node.items():
        known = _KEYS.get(key.casefold())
        name = known or key
        new, there = _regular(value) if known and known != "annotations" else value, made.get(name)
        if isinstance(there, dict) and isinstance(new, dict):
            new = {**there, **new}
        elif isinstance(there, list) and isinstance(new, list):
            new = [*there, *new]
        made[name] = new
    return made


def _collect(oci: dict[str, Any], config: Config, container: str) -> DeviceRequest:
    if config["SANDBOXES"] == "skip" and is_sandbox(oci, container):
        return DeviceRequest()
    asked = []
    for source in (_from_annotations, _from_environment, _from_mounts):
        for one in source(oci, config):
            asked.append(one)
            if len(asked) > _MOST_ASKED:
                raise errors.InvalidRequest(f"the container asks for a device more than {_MOST_ASKED} times")
    return _request(asked)


def _request(asked: list[Asked]) -> DeviceRequest:
    request = DeviceRequest()
    request.ask(asked)
    return request


def named(names: Sequence[str], config: Config) -> DeviceRequest:
    """Return a request for the devices that a person named on the command line."""
    return _request([(with_default_kind(one, config), "--device", ()) for one in names])


def is_sandbox(oci: dict[str, Any], container: str) -> bool:
    """Say whether this is a CRI pod's sandbox rather than a container of it.

    A container that only claims so, as by `docker run --annotation`, can't know its id
    before it has one. Where the id isn't known here ("") the claim counts.
    """
    annotations = oci.get("annotations")
    if not isinstance(annotations, dict):
        return False
    return any(
        annotations.get(key) == "sandbox" and key_of_id in annotations
        and container in ("", annotations[key_of_id])
        for key, key_of_id in SANDBOX_ANNOTATIONS
    )  # fmt: skip


def namespaces(oci: dict[str, Any], bundle: str) -> tuple[list[str], bool]:
    """Return the Kubernetes namespaces that a container's annotations claim, and whether one is true.

    One is if the bundle is where a CRI engine makes bundles: who chooses a container's annotations
    doesn't choose its bundle's path. Such an engine always annotates the namespace, and lets nobody
    change that. But whoever makes a pod may be able to add a claim by another engine's annotation.
    """
    annotations = oci.get("annotations")
    if not isinstance(annotations, dict):
        return [], False
    found = [(annotations[key], mark) for _, key, mark in PODS if key in annotations]
    is_known = any(mark in f"{bundle}/" for _, mark in found)
    claims = [claim for claim, _ in found]
    return [one if isinstance(one, str) and len(one) <= LONGEST_CLAIM else "" for one in claims], is_known


def _from_annotations(oci: dict[str, Any], config: Config) -> Iterator[Asked]:
    annotations = oci.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise errors.InvalidAnnotation("the OCI spec's .annotations is not an object")
    prefixes = tuple(config.words("ANNOTATION_PREFIXES"))
    for key in sorted(key for key in annotations if key.startswith(prefixes)):
        origin = f"annotation {quote(key)}"
        value = annotations[key]
        if not isinstance(value, str):
            raise errors.InvalidAnnotation(f"{origin} is not a string")
        words = [prefix for prefix in prefixes if key.startswith(prefix)]
        for item in value.split(","):
            yield _qualified(item, origin, config), origin, words


def _from_environment(oci: dict[str, Any], config: Config) -> Iterator[Asked]:
    wanted = config.words("DEVICE_ENV")
    process = oci.get("process")
    env = process.get("env") if wanted and isinstance(process, dict) else None
    strings = [one for one in env if isinstance(one, str)] if isinstance(env, list) else []
    variables = dict(one.partition("=")[::2] for one in strings)
    for name in wanted:
        for item in variables.get(name, "").split(","):
            if item not in NOTHING:
                origin = f"environment variable {name}"
                yield _qualified(item, origin, config), origin, (name,)


def _from_mounts(oci: dict[str, Any], config: Config) -> Iterator[Asked]:
    directory = config["DEVICE_MOUNTS"].rstrip("/")
    below = _parts(directory)
    mounts = oci.get("mounts") if directory else None
    for mount in mounts if isinstance(mounts, list) else ():
        destination = mount.get("destination") if isinstance(mount, dict) else None
        if not isinstance(destination, str):
            continue
        parts = _parts(destination)
        if len(parts) > len(below) and parts[: len(below)] == below:
            *kind, name = parts[len(below) :]
            origin = f"mount {quote(destination)}"
            item = f"{'/'.join(kind)}={name}" if kind else name
            yield _qualified(item, origin, config), origin, (directory,)


def _parts(path: str) -> list[str]:
    """Return the names along a path in a container: runtimes clean it, and have it begin at the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def with_default_kind(item: str, config: Config) -> str:
    """Return a name as it was written, or of the default kind where it has none."""
    default = config["DEFAULT_KIND"]
    return f"{default}={item}" if default and "=" not in item else item


def _qualified(item: str, origin: str, config: Config) -> str:
    name = with_default_kind(item, config)
    if len(name) > _MOST_NAME:
        raise errors.InvalidAnnotation(
            f"{origin}: the CDI device name {quote(name[:30])}... has {len(name)} characters, "
            f"more than {_MOST_NAME}"
        )
    try:
        parse_qualified_name(name)
    except errors.InvalidName as error:
        hint = "" if "=" in item or not item else ", or set DEFAULT_KIND in the configuration"
        reason = "there is a space in it" if " " in item else error
        raise errors.InvalidAnnotation(
            f"{origin}: invalid CDI device name {quote(item)} ({reason}); "
            f"a device is written vendor.com/class=name, several with commas and no spaces between{hint}"
        ) from error
    return name


def asked(names: Iterable[str], request: DeviceRequest) -> str:
    """Say where these devices were asked for."""
    origins = dict.fromkeys(request.origins[name] for name in names if name in request.origins)
    return f"asked for by {', '.join(origins)}" if origins else "asked for"
