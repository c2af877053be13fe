# SPDX-License-Identifier: Apache-2.0
"""live.net: real interfaces, between two network namespaces that stand for the host's and the container's."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).parents[2]
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
# Moves net devices into a process's network namespace, and then does as it is told.
PROGRAM = """
import json, os, subprocess, sys
from cdi_hook.errors import InjectionError
from cdi_hook.live import net
names, pid, at_end, before = json.loads(sys.argv[1])
exec(before)
try:
    devices = net.NetDevices([tuple(pair) for pair in names], os.open(f"/proc/{pid}/ns/net", os.O_RDONLY))
    devices.move()
    exec(at_end)
except InjectionError as error:
    print(error)
"""


class Namespace:
    """A network namespace that exists as long as the process in it."""

    def __init__(self, *options: str) -> None:
        """Create it by unshare with these options."""
        command = ["unshare", "-n", *options, "sh", "-c", "echo; read _"]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout
        if not self._holder.stdout.readline():
            self.close()
            pytest.skip(f"{' '.join(command[:-3])} is not allowed here")
        self.pid = self._holder.pid

    def close(self) -> None:
        """End the process, and so the namespace with all its interfaces."""
        self._holder.communicate()

    def run(self, *command: str) -> str:
        """Run a command in the namespace, and return its output."""
        inside = ["nsenter", "-t", str(self.pid), "-n", "env", f"PATH={PATH}", *command]
        return subprocess.run(inside, capture_output=True, text=True, check=True, cwd=ROOT, timeout=20).stdout

    def ip(self, *arguments: str) -> Any:
        """Run ip, and return its output."""
        return json.loads(self.run("ip", "-j", *arguments) or "null")

    def show(self, name: str) -> dict[str, Any]:
        """Return what ip says of an interface."""
        (found,) = self.ip("-d", "address", "show", "dev", name)
        return dict(found)

    def names(self) -> set[str]:
        """Return the names of the namespace's interfaces."""
        return {link["ifname"] for link in self.ip("link")}

    def addresses(self, name: str) -> list[str]:
        """Return an interface's addresses, except the link's own, and the attributes of each."""
        return sorted(
            " ".join(
                f"{key}={value}"
                for key, value in address.items()
                if key
                in ("local", "address", "prefixlen", "broadcast", "scope", "label", "noprefixroute", "metric")
                or (key == "preferred_life_time" and value == 0)
            )
            for address in self.show(name)["addr_info"]
            if address.get("protocol") != "kernel_ll"
            and not (is_terse() and address["local"].startswith("fe80:"))
        )


@functools.cache
def is_terse() -> bool:
    """Whether ip doesn't show which addresses the kernel made; iproute2 6.1 doesn't."""
    namespace = Namespace()
    try:
        namespace.ip("link", "set", "lo", "up")
        return not any("protocol" in address for address in namespace.show("lo")["addr_info"])
    finally:
        namespace.close()


@pytest.fixture
def host() -> Generator[Namespace]:
    """Return a namespace with the interfaces eth5 and eth6, which are up and are each other's peer."""
    namespace = Namespace()
    try:
        namespace.ip("link", "add", "eth5", "type", "veth", "peer", "name", "eth6")
    except subprocess.CalledProcessError as error:
        namespace.close()
        pytest.skip(f"no veth here: {error.stderr.strip()}")
    for name in ("eth5", "eth6"):
        namespace.ip("link", "set", name, "up")
    yield namespace
    namespace.close()


@pytest.fixture
def container() -> Generator[Namespace]:
    """Return a container's namespace."""
    namespace = Namespace()
    yield namespace
    namespace.close()


def move(
    host: Namespace,
    pid: int,
    *names: tuple[str, str],
    at_end: str = "",
    before: str = "",
    prefix: tuple[str, ...] = (),
) -> str:
    """Move net devices, and return the error's message."""
    argument = json.dumps([names, pid, at_end, before])
    return host.run(*prefix, sys.executable, "-c", PROGRAM, argument).rstrip("\n")


def state(host: Namespace) -> object:
    """Return all properties that the host must have again after a move is undone."""
    return {
        name: ("UP" in link["flags"], link["address"], link.get("ifalias"), host.addresses(name))
        for name in host.names() - {"lo"}
        for link in [host.show(name)]
    }


def dress(host: Namespace) -> None:
    """Give the host's interfaces everything that a move could lose; eth6 is down."""
    host.ip("address", "add", "192.0.2.5/24", "brd", "+", "label", "eth5:one", "dev", "eth5")
    host.ip("address", "add", "198.18.0.1/24", "scope", "link", "dev", "eth5")
    host.ip("address", "add", "2001:db8::5/64", "dev", "eth5")
    host.ip("address", "add", "203.0.113.2/24", "valid_lft", "500", "preferred_lft", "400", "dev", "eth5")
    host.ip("address", "add", "192.0.2.6/24", "dev", "eth6")
    host.ip("link", "set", "eth6", "down")


@pytest.mark.parametrize("options", [(), ("-U", "-r")], ids=["root", "user namespace"])
def test_a_device_goes_in(host: Namespace, options: tuple[str, ...]) -> None:
    """In the container an interface has its new name, is up, and has only its permanent global addresses."""
    for address in (
        "192.0.2.5/24 brd 192.0.2.255 label eth5:one",
        "192.0.2.6/24",
        "192.0.2.7/32 noprefixroute metric 7",
        "198.51.100.1 peer 198.51.100.2/32",
        "2001:db8::5/64 preferred_lft 0",
        "2001:db8::6 peer 2001:db8::7",
        "198.18.0.1/24 scope link",
        "203.0.113.2/24 valid_lft 500 preferred_lft 400",
        "2001:db8:1::1/64 valid_lft 500 preferred_lft 400",
    ):
        host.ip("address", "add", *address.split(), "dev", "eth5")
    host.ip("link", "set", "eth5", "mtu", "1400", "alias", "the admin's own")
    before = host.show("eth5")
    container = Namespace(*options)
    try:
        assert move(host, container.pid, ("eth5", "net0")) == ""
        after = container.show("net0")
        assert container.names() == {"lo", "net0"}
        assert "eth5" not in host.names()
        assert container.addresses("net0") == [
            "local=192.0.2.5 prefixlen=24 broadcast=192.0.2.255 scope=global label=net0",
            "local=192.0.2.6 prefixlen=24 scope=global label=net0",
            "local=192.0.2.7 prefixlen=32 metric=7 scope=global noprefixroute=True label=net0",
            "local=198.51.100.1 address=198.51.100.2 prefixlen=32 scope=global label=net0",
            "local=2001:db8::5 prefixlen=64 scope=global preferred_life_time=0",
            "local=2001:db8::6 address=2001:db8::7 prefixlen=128 scope=global",
        ]
        assert "UP" in after["flags"]
        for key in ("address", "mtu", "ifalias"):
            assert after[key] == before[key]
        routes = {route["dst"] for route in container.ip("-4", "route") + container.ip("-6", "route")}
        assert routes >= {"192.0.2.0/24", "198.51.100.2", "2001:db8::/64"}
    finally:
        container.close()


def test_a_device_that_is_down_comes_up(host: Namespace, container: Namespace) -> None:
    """An interface without addresses, and down on the host, is up in the container under its own name."""
    host.ip("link", "set", "eth5", "down")
    assert move(host, container.pid, ("eth5", "eth5")) == ""
    assert "UP" in container.show("eth5")["flags"]


def test_what_is_undone_is_as_it_was(host: Namespace, container: Namespace) -> None:
    """Interfaces that were moved return to the host as they were, and the process never left it."""
    dress(host)
    before = state(host)
    at_end = (
        f"print(open('/proc/{container.pid}/net/dev').read(), os.readlink('/proc/self/ns/net'))\n"
        "devices.undo()"
    )
    names, _, namespace = move(
        host, container.pid, ("eth5", "net0"), ("eth6", "eth5"), at_end=at_end
    ).rpartition(" ")
    assert set(re.findall(r"(\w+):", names)) == {"lo", "net0", "eth5"}
    assert namespace == host.run("readlink", "/proc/self/ns/net").strip()
    assert state(host) == before
    assert container.names() == {"lo"}


def test_when_the_second_fails_the_first_comes_back(host: Namespace, container: Namespace) -> None:
    """The first interface is on the host as it was if the second can't be moved."""
    dress(host)
    before = state(host)
    assert move(host, container.pid, ("eth5", "net0"), ("eth7", "net1")) == (
        'can\'t move net device "eth7" into the container as "net1": '
        "the host has no such interface; `ip link` shows those that it has"
    )
    assert state(host) == before
    assert container.names() == {"lo"}


def test_a_name_lost_to_another_at_the_last_moment(host: Namespace, container: Namespace) -> None:
    """An interface that moved although its new name was taken comes back.

    The check for the name is replaced by one that finds nothing, as if the other had come after it.
    """
    dress(host)
    before = state(host)
    container.ip("link", "add", "net0", "type", "veth", "peer", "name", "peer0")
    blind = (
        "see = net._Netlink.link\n"
        "net._Netlink.link = lambda self, name: None if name == 'net0' else see(self, name)"
    )
    words = move(host, container.pid, ("eth5", "net0"), before=blind)
    assert words.startswith('can\'t move net device "eth5" into the container as "net0": File exists; ')
    assert state(host) == before
    assert container.names() == {"lo", "net0", "peer0"}


def test_what_cannot_be_given_back_is_said(host: Namespace, container: Namespace) -> None:
    """If an interface is lost on its way back, the message names it beside the error that caused the undo."""
    host.ip("address", "add", "2001:db8::5/64", "nodad", "dev", "eth5")
    lost = (
        "see = net._Netlink.set_up\n"
        "def set_up(*arguments, **more):\n"
        "    see(*arguments, **more)\n"
        "    subprocess.run(['nsenter', '-t', str(pid), '-n', 'ip', 'link', 'del', 'net0'], check=True)\n"
        "    raise OSError(5, 'broken')\n"
        "net._Netlink.set_up = set_up"
    )
    assert move(host, container.pid, ("eth5", "net0"), before=lost) == (
        'can\'t move net device "eth5" into the container as "net0": broken; '
        'can\'t give net device "eth5" back: No such device'
    )


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("eth5", "taken0"), "that name is taken there; choose another in the CDI spec"),
        (("eth5", "other0"), "that name is taken there; choose another in the CDI spec"),
        (("gone0", "taken0"), "the host has no such interface; `ip link` shows those that it has"),
        (
            ("lo", "net0"),
            "*; this kind of interface can't leave its network namespace: name another in the CDI spec",
        ),
    ],
    ids=["a name that is taken", "another's second name", "no such interface", "immovable"],
)
def test_what_cannot_be_moved(
    host: Namespace, container: Namespace, pair: tuple[str, str], words: str
) -> None:
    """An interface that can't be moved is refused with the cause and the next step, and nothing changes."""
    dress(host)
    container.ip("link", "add", "taken0", "type", "veth", "peer", "name", "peer0")
    container.ip("link", "property", "add", "dev", "taken0", "altname", "other0")
    before = state(host)
    expected = f'can\'t move net device "{pair[0]}" into the container as "{pair[1]}": {words}'
    # The kernel's message for an immovable interface depends on its version.
    assert re.fullmatch(re.escape(expected).replace(r"\*", ".*[^.]"), move(host, container.pid, pair))
    assert state(host) == before
    assert container.names() == {"lo", "taken0", "peer0"}


@pytest.mark.parametrize("name", ["", "sixteen-bytes-ab", "a/b", "a:b", "a b", ".", "..", "a%s", "%d%d"])
def test_names_that_no_interface_can_have(host: Namespace, container: Namespace, name: str) -> None:
    """A name that the kernel would refuse is refused before any interface is moved."""
    assert move(host, container.pid, ("eth5", "net0"), ("eth6", name)) == (
        f'no net device can be called "{name}": a name has 1 to 15 bytes, no space, '
        "no '/', no ':', and '%' only in one \"%d\"; correct the CDI spec"
    )
    assert container.names() == {"lo"}


def test_the_longest_name(host: Namespace, container: Namespace) -> None:
    """A name of 15 bytes is valid."""
    assert move(host, container.pid, ("eth5", "fifteen-bytes-a")) == ""
    assert container.names() == {"lo", "fifteen-bytes-a"}


def test_a_template(host: Namespace, container: Namespace) -> None:
    """A %d stands for the first free number in the container."""
    assert move(host, container.pid, ("eth5", "net%d"), ("eth6", "net%d")) == ""
    assert container.names() == {"lo", "net0", "net1"}
    assert move(host, container.pid, ("eth5", "net%d"), ("eth6", "net%d")) == ""
    assert container.names() == {"lo", "net0", "net1"}


def test_a_second_run_changes_nothing(host: Namespace, container: Namespace) -> None:
    """An interface that an earlier run moved is left as the container has it, and an undo doesn't move it."""
    host.ip("address", "add", "192.0.2.5/24", "dev", "eth5")
    assert move(host, container.pid, ("eth5", "net0")) == ""
    container.ip("address", "del", "192.0.2.5/24", "dev", "net0")
    container.ip("link", "set", "net0", "down")
    before = container.show("net0")
    assert move(host, container.pid, ("eth5", "net0"), at_end="devices.undo()") == ""
    assert container.show("net0") == before


def test_own_namespace(host: Namespace) -> None:
    """A container that shares the runtime's network namespace gets no net devices."""
    assert move(host, host.pid, ("eth5", "net0")) == (
        "can't give the container net devices: its network namespace is the runtime's own; "
        "start it with a network namespace of its own"
    )
    assert host.names() == {"lo", "eth5", "eth6"}


def test_without_rights_on_the_host(host: Namespace) -> None:
    """A process that is root only in a user namespace below the host's, as rootless runtimes are, gets a clear error."""
    before = (
        "child = subprocess.Popen(['unshare', '-n', 'sh', '-c', 'echo; read _'], stdin=-1, stdout=-1)\n"
        "child.stdout.readline()\n"
        "pid = child.pid"
    )
    words = move(host, 0, ("eth5", "net0"), before=before, prefix=("unshare", "-U", "-r"))
    assert words == (
        "can't go between the container's network namespace and the host's: Operation not permitted; "
        "only the host's root can do that: a rootless container can't have net devices"
    )


def test_a_container_without_ipv6(host: Namespace, container: Namespace) -> None:
    """An address that the container can't have is an error, and the interface comes back."""
    dress(host)
    before = state(host)
    container.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
    words = move(host, container.pid, ("eth5", "net0"))
    assert re.fullmatch(
        'can\'t move net device "eth5" into the container as "net0": its address 2001:db8::5/64: .+; '
        "turn on IPv6 in the container, or remove the address from the host's interface",
        words,
    )
    assert state(host) == before
