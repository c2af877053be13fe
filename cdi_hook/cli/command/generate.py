# SPDX-License-Identifier: Apache-2.0
"""cdi-hook generate: CDI specs of the devices that this host has."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from cdi_hook.base import files, selinux, words
from cdi_hook.base.quoting import quote
from cdi_hook.cli import host, output
from cdi_hook.cli.options import add_json
from cdi_hook.edits import host_check
from cdi_hook.errors import CDIError
from cdi_hook.generate import classes, naming, spec_data
from cdi_hook.generate.device_class import ALL
from cdi_hook.generate.outputs import SpecFiles
from cdi_hook.generate.root import Root
from cdi_hook.names import parse_qualifier
from cdi_hook.specs.dump import dump

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from cdi_hook.generate.device_class import Found

HELP = """\
Make CDI specs of the devices that this host has, a spec for each CLASS. Without
arguments, show what this host has of each class, by names that a container can ask
for, and which classes it has nothing of.

  sudo cdi-hook generate fuse --output /etc/cdi
  sudo cdi-hook configure docker --reload
  docker run --rm --runtime cdi --annotation cdi.k8s.io/device=host.local/fuse=fuse busybox ls /dev/fuse

A device has several names: the kernel's, udev's by-id name, and the address where
it is plugged in, as far as it has them. The device "all" is all of them. Classes
that no vendor makes specs for have the vendor host.local.

--device makes a spec for anything else. It needs --kind.

exit status: 0 if the specs are made, or without arguments; 1 if this host has no
device of a class, or a spec can't be written; 2 for wrong arguments"""

_FEW = 4  # names in a line of the table
_RUNNING = "generate"  # in the state dir: --configured keeps specs up to date, so udev has to call it


class _Choices(tuple[str, ...]):
    """The classes; argparse asks for the empty list too if none is given."""

    __slots__ = ()

    def __contains__(self, value: object) -> bool:
        return value == [] or super().__contains__(value)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "classes",
        metavar="CLASS",
        nargs="*",
        choices=_Choices(classes.CLASSES),
        help="make a spec for this class",
    )
    parser.add_argument(
        "--output",
        metavar="FILE|DIR",
        help="write to FILE, which ends in .yaml, or to a file in DIR for each spec (default: to stdout)",
    )
    parser.add_argument(
        "--configured",
        action="store_true",
        help="write the specs of the classes in GENERATE to the last of the spec dirs, and remove old ones",
    )
    parser.add_argument("--vendor", metavar="VENDOR", help="the vendor in the kind of the devices")
    parser.add_argument("--name", metavar="NAME", help="the class in the kind of the devices")
    parser.add_argument(
        "--root", metavar="DIR", default="/", help="look for devices and their files below DIR"
    )
    parser.add_argument(
        "--device",
        metavar="NAME=PATH[:CONTAINERPATH][:PERMISSIONS]",
        action="append",
        default=[],
        help="make a spec with this device: the node at PATH, in the container at CONTAINERPATH if that is "
        "given; can be repeated",
    )
    parser.add_argument("--kind", metavar="VENDOR/CLASS", help="the kind of --device")
    parser.add_argument(
        "--mount",
        metavar="HOST:CONTAINER[:OPTIONS]",
        action="append",
        default=[],
        help="with --device: mount HOST at CONTAINER; can be repeated",
    )
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="with --device: set a variable; can be repeated",
    )
    parser.add_argument(
        "--hook",
        metavar="HOOK",
        action="append",
        default=[],
        help="with --device: run a hook, NAME:PROGRAM, with arguments quoted as in a shell; can be repeated; "
        "with nvidia and nvidia-management: the program of its hooks, such as nvidia-cdi-hook",
    )
    add_json(
        parser,
        "specs; with --output, files (path, kind, cdiVersion, devices); without a class, classes (class, "
        "about, kinds, devices, missing)",
    )


def run(options: argparse.Namespace) -> int:
    wrong = _wrong(options)
    if wrong:
        output.complain(f"{wrong}; see cdi-hook generate --help")
        return 2
    if options.configured:
        return _configured(options)
    root = Root(options.root)
    if options.device:
        from cdi_hook.generate import custom

        specs = [custom.spec(root, options.kind, options.device, options.mount, options.env, options.hook)]
        _write(specs, options)
        return 0
    if not options.classes:
        _show(root, options)
        return 0
    return _classes(root, options)


def _classes(root: Root, options: argparse.Namespace) -> int:
    """Make the specs of the classes that are named."""
    specs, failed = [], False
    for name in dict.fromkeys(options.classes):
        one = classes.get(name)
        found = one.find(root, *options.hook)
        specs += [spec_data.spec(each, _kind(each, options)) for each in found]
        for note in one.notes(root) if found else ():
            output.note(f"note: {name}: {note}")
        if not found:
            output.complain(_nothing(name, root))
            failed = True
    kinds = [data["kind"] for data in specs]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise CDIError(f"there would be several specs of the kind {quote(kind)}: make them one by one")
    _write(specs, options)
    return 1 if failed else 0


def _nothing(name: str, root: Root) -> str:
    return f"no device of the class {name}: {'; '.join(classes.get(name).missing(root))}"


def _wrong(options: argparse.Namespace) -> str:
    """Say what is wrong with the combination of options; "" if nothing is."""
    if options.configured:
        return _wrong_when_configured(options)
    if options.device:
        return _wrong_with_device(options)
    return _wrong_with_classes(options)


def _wrong_when_configured(options: argparse.Namespace) -> str:
    others = ("classes", "output", "vendor", "name", "device", "kind", "mount", "env", "hook", "json")
    if options.root == "/" and not any(getattr(options, one) for one in others):
        return ""
    return "--configured takes no other options: the configuration says what is made"


def _wrong_with_device(options: argparse.Namespace) -> str:
    if options.classes:
        return "--device makes a spec of its own: leave out CLASS"
    if not options.kind:
        return "--device needs --kind VENDOR/CLASS"
    return "--device takes --kind, not --vendor and --name" if options.vendor or options.name else ""


def _wrong_with_classes(options: argparse.Namespace) -> str:
    if options.kind or options.mount or options.env:
        return "--kind, --mount and --env need --device"
    chosen = [classes.get(name) for name in options.classes]
    if options.hook and not (len(options.hook) == 1 and chosen and all(one.takes_hook for one in chosen)):
        return "--hook needs --device, or a class that has a choice of hooks"
    if options.name and (len(chosen) != 1 or len(chosen[0].kinds) != 1):
        return "--name needs one CLASS, which has one kind of devices"
    if (options.vendor or options.output) and not chosen:
        return "what to make is missing: CLASS or --device"
    return ""


def _kind(found: Found, options: argparse.Namespace) -> str:
    vendor, class_ = parse_qualifier(found.kind)
    return f"{options.vendor or vendor}/{options.name or class_}"


def _write(specs: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """Write specs where --output says."""
    if options.output is None:
        for data in specs:
            if options.json:
                output.report.items.append(data)
            else:
                output.say_text(dump(data, "").decode())
        if len(specs) > 1:
            output.warn(
                f"these are {len(specs)} specs, and a file has one: --output DIR writes a file for each"
            )
        elif sys.stdout.isatty():
            output.warn("this is only shown: --output /etc/cdi writes it where engines read it")
        return
    directory, name = _place(options.output)
    if name and len(specs) > 1:
        raise CDIError(f"{quote(options.output)} can't have {len(specs)} specs: name a dir")
    written = SpecFiles(directory)
    for data in specs:
        _replace(written, data, name, options)
    found = host.host(options)
    dirs = found.spec_dirs
    missing = [one for one in options.classes if one not in found.settings.words("GENERATE")]
    if missing and any(map(_may_change, specs)):
        output.note(
            f'note: this is the host of now; with GENERATE="{" ".join(missing)}" in '
            f"{found.settings.path}, it is done again whenever hardware changes, and at boot"
        )
    if not name and not any(os.path.isdir(one) and os.path.samefile(one, directory) for one in dirs):
        near = f", as {dirs[0]} is" if dirs else ""
        output.warn(
            f"{quote(directory)} isn't one of SPEC_DIRS{near}: no container gets devices of its specs"
        )


def _may_change(data: dict[str, Any]) -> bool:
    """Say whether a spec has what another device, or another release of a driver, makes wrong."""
    return bool(data["containerEdits"].get("mounts")) or any("annotations" in one for one in data["devices"])


def _place(path: str) -> tuple[str, str]:
    """Return the dir and the file that --output names; the file is "" if it names a dir."""
    if os.path.isdir(path) or not path.endswith((".yaml", ".yml", ".json")):
        return path, ""
    if not path.endswith(".yaml"):
        raise CDIError(f"{quote(path)}: the name of a file has to end in .yaml")
    directory, name = os.path.split(path)
    return directory or ".", name


def _replace(written: SpecFiles, data: dict[str, Any], name: str, options: argparse.Namespace) -> str:
    """Write a spec, and say so and what it changes; return its path."""
    changes = written.changes(data, name)
    path = written.write(data, name, is_configured=options.configured)
    _say(path, data, options)
    for line in changes:
        output.note(f"note: {path}: {line}")
    return path


def _say(path: str, data: dict[str, Any], options: argparse.Namespace) -> None:
    count = len(data["devices"])
    if options.json:
        output.report.items.append(output.spec(path, data))
    else:
        output.say(f"{path}: {data['kind']}, {words.count(count, 'device')}, CDI {data['cdiVersion']}")


def _configured(options: argparse.Namespace) -> int:
    """Make the specs that the configuration asks for, and remove others; compile the index."""
    found = host.host(options)
    host.warn_of_problems(found)
    names = found.settings.words("GENERATE")
    if found.state_dir:
        selinux.share(found.state_dir)
        _note(found.state_dir, is_running=bool(names or found.settings.problems))
    if not found.spec_dirs:
        raise CDIError("there is no place for specs: SPEC_DIRS is empty")
    written, root = SpecFiles(found.spec_dirs[-1]), Root()
    kept, failed = set(), bool(found.settings.problems)
    for name in names:
        try:
            specs = [spec_data.spec(each) for each in classes.get(name).find(root)]
            kept.update([_replace(written, data, "", options) for data in specs])
            if not specs:
                output.note(f"note: {_nothing(name, root)}")
        except (CDIError, OSError) as error:  # the other classes are made all the same
            output.complain(f"{name}: {output.describe(error)}")
            failed = True
    # What can't be made again now, or was asked for by a line that can't be read, stays as it is.
    for path in () if failed else written.remove(kept):
        output.say(f"{path}: removed")
    registry = found.registry()
    if found.state_dir and any(map(os.path.isdir, registry.spec_dirs)):
        from cdi_hook.catalog import index_writer

        index_writer.build(registry.index, registry.cache)
    return 1 if failed else 0


def _note(directory: str, *, is_running: bool) -> None:
    """Let udev's rules know whether they have to call --configured."""
    path = f"{directory}/{_RUNNING}"
    try:
        if is_running:
            os.makedirs(directory, 0o755, exist_ok=True)
            files.replace(path, b"", 0o644)
        elif os.path.exists(path):
            os.unlink(path)
    except OSError as error:
        raise CDIError(f"can't write {path}: {error.strerror}") from error


def _show(root: Root, options: argparse.Namespace) -> None:
    """Show what this host has, by class, then which classes it has nothing of."""
    reports = [_report(root, name) for name in classes.CLASSES]
    if options.json:
        output.report.items += reports
        return
    here = [report for report in reports if report["devices"]]
    width = max((len(report["class"]) for report in here), default=0) + 2
    for report in here:
        for index, line in enumerate([*_lines(report["devices"]), *report["missing"]]):
            output.say(f"{'' if index else report['class']:{width}}{line}")
    absent = [report["class"] for report in reports if report not in here]
    output.say(f"nothing of the classes {', '.join(absent)}; `cdi-hook generate CLASS` says what is missing")


def _report(root: Root, name: str) -> dict[str, Any]:
    one = classes.get(name)
    found = one.find(root)
    return {
        "class": name,
        "about": one.about,
        "kinds": list(one.kinds),
        "devices": [f"{each.kind}={next(iter(its), ALL)}" for each in found for its in naming.names(each)],
        "missing": [*one.missing(root), *_groups(root, found)],
    }


def _lines(names: Sequence[str]) -> Iterator[str]:
    """Yield a line for each kind: its devices, a few by name."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(name.partition("=")[0], []).append(name)
    for own in kinds.values():
        yield words.some(own, _FEW)


def _groups(root: Root, found: Sequence[Found]) -> list[str]:
    """Return the groups that this user lacks: a user's own containers can't open what the user can't."""
    if os.geteuid() == 0 or root.on_host("/") != "/":
        return []
    own = {os.getegid(), *os.getgroups()}
    gids = {
        node["gid"]
        for each in found
        for edits in (each.edits, *(device.edits for device in each.devices))
        for node in edits.get("deviceNodes", ())
        if node.get("gid", os.getegid()) not in own
    }
    return [
        f"you aren't in the group {name}, which rootless containers need: {host_check.join(name)}"
        for name in map(host_check.group, sorted(gids))
    ]
