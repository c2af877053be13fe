# SPDX-License-Identifier: Apache-2.0
"""Net devices: network interfaces of the host, moved into the container's network namespace.

They are renamed, keep their permanent addresses of global scope, and are set up, as
the OCI runtime specification says ("Network Devices"). No interface is created and
no route is set: a move keeps only the routes that come with an address.

This module talks rtnetlink. A message is a struct nlmsghdr, a struct of its
kind, and attributes; each of these is a struct rtattr and its payload, padded to 4
bytes.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from cdi_hook.base.quoting import quote
from cdi_hook.container import syscalls
from cdi_hook.errors import InjectionError

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
_IFINFOMSG = struct.Struct("=BxHiII")  # family, type of device, number, flags, the flags to change
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix's length, flags, scope, interface
_RTATTR = struct.Struct("=HH")  # length, type

_IPV6_IS_OFF = "; turn on IPv6 in the container, or remove the address from the host's interface"
_ADVICE = {
    errno.EEXIST: "; another name that it has is taken there: remove that one, see `ip link`",
    errno.EINVAL: "; this kind of interface can't leave its network namespace: name another in the CDI spec",
    errno.EPERM: "; only the host's root can do that: a rootless container can't have net devices",
}


class NetDevices:
    """Interfaces to move: pairs of the name on the host and the name in the container.

    ``netns`` is a descriptor of the container's network namespace; the caller owns it.
    """

    def __init__(self, names: Sequence[tuple[str, str]], netns: int) -> None:
        self._names = names
        self._netns = netns
        self._moved: list[_Was] = []

    def move(self) -> None:
        """Move all of them, or none; raises InjectionError.

        An interface that an earlier run moved is left as it is. Its alias
        (IFLA_IFALIAS) identifies it, which a move sets if there is none; its name
        could be another interface's. The name in the container may have one ``%d``,
        for the first free number.

        This thread enters the container's namespace, and returns before anything is
        moved. It can't return in a rootless runtime, and is still there when the
        error is raised.
        """
        for name in itertools.chain.from_iterable(self._names):
            _check(name)
        self._host_netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if os.path.sameopenfile(self._netns, self._host_netns):
            raise InjectionError(
                "can't give the container net devices: its network namespace is the runtime's own; "
                "start it with a network namespace of its own"
            )
        self._host = _Netlink()
        try:
            syscalls.setns(self._netns, syscalls.CLONE_NEWNET)
            self._container = _Netlink()
            syscalls.setns(self._host_netns, syscalls.CLONE_NEWNET)
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
        """Move all interfaces back, with their names, addresses and states; raises InjectionError."""
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
            raise OSError(errno.EEXIST, "that name is taken there; choose another in the CDI spec")
        addresses = self._host.addresses(link.number)  # before the move takes it down and drops IPv6 ones
        try:
            self._host.move(link.number, wanted, link.alias or alias, self._netns)
        except OSError as error:
            if self._host.link(link.name) is None:  # it moved despite the error, and kept its name
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
    """An address, in the form that the kernel sends and takes."""

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
    """A moved interface: its name in the container, and its state on the host."""

    name: str
    link: _Link
    addresses: list[_Address]


class _Netlink:
    """An rtnetlink socket of the network namespace that it was opened in."""

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
        """Move an interface, which takes it down, and give it a new name and alias."""
        attributes = _attribute(_IFLA_IFNAME, os.fsencode(name) + b"\0")
        attributes += _attribute(_IFLA_NET_NS_FD, struct.pack("=I", netns))
        self._change(number, 0, attributes + _attribute(_IFLA_IFALIAS, os.fsencode(alias)))

    def set_up(self, name: str, addresses: Iterable[_Address], *, is_up: bool) -> None:
        """Give a moved interface its addresses, and set it up if ``is_up``.

        Raises OSError for addresses that failed, after all else is done.
        """
        link = self.existing_link(name)
        failed = []
        for address in addresses:
            body = _IFADDRMSG.pack(*address[:4], link.number)
            for kind, payload in address.attributes.items():
                # A label has to begin with the interface's name, so a new name loses it.
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
        """Send a message, and return the answers without their headers; raises OSError."""
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
                    if flags_there & _NLM_F_ACK_TLVS:  # after the error number and the request's header
                        told = _attributes(answer[4 + _NLMSGHDR.size :]).get(_NLMSGERR_ATTR_MSG, b"")
                    raise OSError(
                        -number, told.decode("utf-8", "replace").rstrip("\0.") or os.strerror(-number)
                    )
                # A dump that changes interrupted may be incomplete.
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
    """Raise InjectionError for a name that no interface can have (the kernel's dev_valid_name())."""
    is_valid = 0 < len(os.fsencode(name)) < _IFNAMSIZ and name not in (".", "..")
    if not is_valid or any(one in "/:" or one.isspace() for one in name) or "%" in name.replace("%d", "", 1):
        raise InjectionError(
            f"no net device can be called {quote(name)}: a name has 1 to {_IFNAMSIZ - 1} bytes, no space, "
            "no '/', no ':', and '%' only in one \"%d\"; correct the CDI spec"
        )
