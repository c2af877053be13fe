# SPDX-License-Identifier: Apache-2.0
"""Net devices: network interfaces of the host, moved into the container's network namespace.

As the OCI runtime specification's section "Network Devices" wants it: renamed,
with their permanent addresses of global scope, and up. Nothing is made here, and
nothing routed: in a move all routes are lost but those that come with an address.

By rtnetlink: a message is a struct nlmsghdr, a struct of its kind, and
attributes, each a struct rtattr and its payload, padded to 4 bytes.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from cdi_hook import linux
from cdi_hook.errors import InjectionError, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_IFNAMSIZ = 16
_IFF_UP = 1
_IFA_F_PERMANENT = 0x80
_RT_SCOPE_UNIVERSE = 0

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP_INTR, _NLM_F_ACK_TLVS = 0x01, 0x04, 0x10, 0x200
_NLM_F_DUMP, _NLM_F_REPLACE, _NLM_F_CREATE = 0x300, 0x100, 0x400
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NLMSGERR_ATTR_MSG = 1
_IFLA_IFNAME, _IFLA_IFALIAS, _IFLA_NET_NS_FD = 3, 20, 28
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL = 1, 2, 3

_NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_IFINFOMSG = struct.Struct("=BxHiII")  # family, type of device, number, flags, which of them to change
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix's length, flags, scope, interface
_RTATTR = struct.Struct("=HH")  # length, type

_IPV6_IS_OFF = "; let the container have IPv6, or take the address from the host's interface"
_ADVICE = {
    errno.EEXIST: "; another name that it has is taken there: remove that one, see `ip link`",
    errno.EINVAL: "; one of its kind can't leave its network namespace: name another in the CDI spec",
    errno.EPERM: "; it takes root of the host: a rootless container can't have net devices",
}


class NetDevices:
    """Interfaces to move, each by its name on the host and the one it is to have in the container.

    ``netns`` is a descriptor of the container's network namespace, and stays the caller's.
    """

    def __init__(self, names: Sequence[tuple[str, str]], netns: int) -> None:
        self._names = names
        self._netns = netns
        self._moved: list[_Was] = []

    def move(self) -> None:
        """Move all of them, or none; raises InjectionError.

        One that an earlier run has moved is left as it is. It is known by its
        alias there (IFLA_IFALIAS), which a move sets where there is none: a
        name alone could be another interface's. The name that it is to have may
        hold one ``%d``, for the first number that is free.

        Only this thread goes into the container's namespace, and back before
        anything is moved; where it may not come back, as in a rootless runtime,
        it is there still when the error is raised.
        """
        for name in itertools.chain.from_iterable(self._names):
            _check(name)
        self._host_netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if os.path.sameopenfile(self._netns, self._host_netns):
            raise InjectionError(
                "can't give the container net devices: its network namespace is the runtime's own; "
                "start it with one of its own"
            )
        self._host = _Netlink()
        try:
            linux.setns(self._netns, linux.CLONE_NEWNET)
            self._container = _Netlink()
            linux.setns(self._host_netns, linux.CLONE_NEWNET)
        except OSError as error:
            message = f"can't go between the container's network namespace and the host's: {error.strerror}"
            raise InjectionError(message + _ADVICE.get(error.errno or 0, "")) from error
        for host_name, name in self._names:
            try:
                self._move(host_name, name)
            except OSError as error:
                what = f"can't move net device {quote(host_name)} into the container as {quote(name)}"
                message = "; ".join([f"{what}: {error.strerror}", *self._give_back_all()])
                raise InjectionError(message) from error

    def undo(self) -> None:
        """Give back to the host what was moved: its name there, its addresses, up if it was.

        Raises InjectionError with all that couldn't be.
        """
        failed = self._give_back_all()
        if failed:
            raise InjectionError("; ".join(failed))

    def _move(self, host_name: str, name: str) -> None:
        alias = f"moved from {host_name} by cdi-hook"
        link = self._host.link(host_name)
        for number in itertools.count():
            wanted = name.replace("%d", str(number))
            there = self._container.link(wanted)
            if link is None and there is not None and there.alias == alias:
                return
            if there is None or wanted == name:
                break
        if link is None:
            raise OSError(errno.ENODEV, "the host has no such interface; `ip link` shows those that it has")
        if there is not None:
            raise OSError(errno.EEXIST, "that name is taken there; let the CDI spec say another")
        addresses = self._host.addresses(link.number)  # before it is down: that drops those of IPv6
        try:
            self._host.move(link.number, wanted, link.alias or alias, self._netns)
        except OSError as error:
            if self._host.link(link.name) is None:  # it has moved all the same, and kept its name
                self._moved.append(_Was(link.name, link, addresses))
            raise OSError(error.errno, f"{error.strerror}{_ADVICE.get(error.errno or 0, '')}") from error
        self._moved.append(_Was(wanted, link, addresses))
        self._container.set_up(wanted, [one for one in addresses if one.is_kept], is_up=True)

    def _give_back_all(self) -> list[str]:
        failed = []
        while self._moved:
            was = self._moved.pop()
            try:
                there = self._container.existing_link(was.name)
                self._container.move(there.number, was.link.name, was.link.alias, self._host_netns)
                self._host.set_up(was.link.name, was.addresses, is_up=bool(was.link.flags & _IFF_UP))
            except OSError as error:
                failed.append(f"can't give net device {quote(was.link.name)} back: {error.strerror}")
        return failed


class _Link(NamedTuple):
    name: str
    number: int
    flags: int
    alias: str


class _Address(NamedTuple):
    """An address as the kernel tells it, which is also how it is told to the kernel."""

    family: int
    prefixlen: int
    flags: int
    scope: int
    interface: int
    attributes: dict[int, bytes]

    @property
    def is_kept(self) -> bool:
        """Whether it goes into the container with its interface."""
        return bool(self.flags & _IFA_F_PERMANENT) and self.scope == _RT_SCOPE_UNIVERSE

    def __str__(self) -> str:
        address = self.attributes.get(_IFA_LOCAL) or self.attributes[_IFA_ADDRESS]
        return f"{socket.inet_ntop(self.family, address)}/{self.prefixlen}"


class _Was(NamedTuple):
    """An interface that was moved: its name in the container, and what it was on the host."""

    name: str
    link: _Link
    addresses: list[_Address]


class _Netlink:
    """A socket to rtnetlink, for the network namespace that it was opened in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)

    def link(self, name: str) -> _Link | None:
        """Return the interface of this name, if there is one."""
        try:
            body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, os.fsencode(name) + b"\0")
            (answer,) = self._ask(_RTM_GETLINK, _NLM_F_ACK, body)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        _, _, number, flags, _ = _IFINFOMSG.unpack_from(answer)
        found = _attributes(answer[_IFINFOMSG.size :])
        texts = [os.fsdecode(found.get(kind, b"").rstrip(b"\0")) for kind in (_IFLA_IFNAME, _IFLA_IFALIAS)]
        return _Link(texts[0], number, flags, texts[1])

    def existing_link(self, name: str) -> _Link:
        """Return the interface of this name, or raise OSError."""
        link = self.link(name)
        if link is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return link

    def addresses(self, number: int) -> list[_Address]:
        """Return all addresses of an interface."""
        found = []
        for answer in self._ask(_RTM_GETADDR, _NLM_F_DUMP, _IFADDRMSG.pack(0, 0, 0, 0, 0)):
            attributes = _attributes(answer[_IFADDRMSG.size :])
            address = _Address._make((*_IFADDRMSG.unpack_from(answer), attributes))
            if address.interface == number:
                found.append(address)
        return found

    def move(self, number: int, name: str, alias: str, netns: int) -> None:
        """Move an interface, which takes it down, and give it a name and an alias there."""
        attributes = _attribute(_IFLA_IFNAME, os.fsencode(name) + b"\0")
        attributes += _attribute(_IFLA_NET_NS_FD, struct.pack("=I", netns))
        self._change(number, 0, attributes + _attribute(_IFLA_IFALIAS, os.fsencode(alias)))

    def set_up(self, name: str, addresses: Iterable[_Address], *, is_up: bool) -> None:
        """Give an interface that has just been moved here its addresses, and set it up if it is to be.

        Raises OSError for what failed, after all the rest is done.
        """
        link = self.existing_link(name)
        failed = []
        for address in addresses:
            body = _IFADDRMSG.pack(*address[:4], link.number)
            for kind, payload in address.attributes.items():
                # A label has to begin with the name, so it can't go with another.
                if kind != _IFA_LABEL or payload.startswith(os.fsencode(name)):
                    body += _attribute(kind, payload)
            try:
                self._ask(_RTM_NEWADDR, _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_REPLACE, body)
            except OSError as error:
                advice = _IPV6_IS_OFF if error.errno == errno.EACCES else ""
                failed.append(f"its address {address}: {error.strerror}{advice}")
        if is_up:
            self._change(link.number, _IFF_UP)
        if failed:
            raise OSError(errno.EADDRNOTAVAIL, ", ".join(failed))

    def _change(self, number: int, flags: int, attributes: bytes = b"") -> None:
        self._ask(_RTM_NEWLINK, _NLM_F_ACK, _IFINFOMSG.pack(0, 0, number, flags, flags) + attributes)

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """Send a message, and return what is answered, without headers; raises OSError."""
        length = _NLMSGHDR.size + len(body)
        self._socket.send(_NLMSGHDR.pack(length, kind, flags | _NLM_F_REQUEST, 0, 0) + body)
        answers = []
        interrupted = 0
        while True:
            rest = self._socket.recv(1 << 18)
            while rest:
                length, kind_there, flags_there, _, _ = _NLMSGHDR.unpack_from(rest)
                answer, rest = rest[_NLMSGHDR.size : length], rest[_aligned(length) :]
                interrupted |= flags_there & _NLM_F_DUMP_INTR
                if kind_there not in (_NLMSG_ERROR, _NLMSG_DONE):
                    answers.append(answer)
                    continue
                (number,) = struct.unpack_from("=i", answer)
                if number < 0:
                    told = b""
                    if flags_there & _NLM_F_ACK_TLVS:  # after the number and the header of what was asked
                        told = _attributes(answer[4 + _NLMSGHDR.size :]).get(_NLMSGERR_ATTR_MSG, b"")
                    raise OSError(
                        -number, told.decode("utf-8", "replace").rstrip("\0.") or os.strerror(-number)
                    )
                # What changed while it was told may have been left out.
                return self._ask(kind, flags, body) if interrupted else answers


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _attribute(kind: int, payload: bytes) -> bytes:
    header = _RTATTR.pack(_RTATTR.size + len(payload), kind)
    return header + payload + bytes(-len(payload) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        length, kind = _RTATTR.unpack_from(data)
        found[kind] = data[_RTATTR.size : length]
        data = data[_aligned(length) :]
    return found


def _check(name: str) -> None:
    """Raise InjectionError for what no interface can be called, as the kernel's dev_valid_name() has it."""
    is_valid = 0 < len(os.fsencode(name)) < _IFNAMSIZ and name not in (".", "..")
    if not is_valid or any(one in "/:" or one.isspace() for one in name) or "%" in name.replace("%d", "", 1):
        raise InjectionError(
            f"no net device can be called {quote(name)}: a name has up to {_IFNAMSIZ - 1} bytes, "
            "without spaces, '/' and ':', and '%' only in one \"%d\"; correct the CDI spec"
        )
