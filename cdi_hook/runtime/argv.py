# SPDX-License-Identifier: Apache-2.0
"""A runtime's arguments -> Invocation, from option tables.

It finds out which command an engine gave, and for the commands that read a
bundle where that bundle is, in the words of runc, crun, youki and runsc alike:

    [GLOBAL OPTION]... COMMAND [OPTION]... CONTAINER

It is not an argument parser in the usual sense: it refuses nothing, completes
nothing and changes nothing. The real runtime gets the arguments as they came,
and what is wrong with them is for the runtime to say. Where runtimes disagree
(see the tables), a reading counts only if some runtime accepts the arguments.
Where several do, and look for config.json in different places, `configs` has all.

Pure, and on the path of every container: no imports. The shell script
cdi-runtime has no tables: a word that could be such a command makes it ask here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_CONFIG = "config.json"

# The tables are tuples: a start looks up a word or two, and to make a set costs more than that.

# The commands that read the bundle.
BUNDLE_COMMANDS = ("create", "run", "restore")

# Long options that take a value, before the command or after create, run and
# restore. Which of the two doesn't matter: no name means one thing before the
# command and another after it.
# fmt: off

# All commands of runc 1.0 to 1.6, crun 0.2 to 1.29, youki and runsc of 2026-08. After an option that
# the tables don't have, a word that is none of these may be the option's value.
COMMANDS = (
    *BUNDLE_COMMANDS,
    "boot", "bwrap", "checkpoint", "checkpointt", "completion", "cpu-features", "debug", "delete", "do",
    "events", "exec", "export-metrics", "features", "flags", "fscheckpoint", "gofer", "h", "help", "info",
    "init", "install", "kill", "list", "metric-metadata", "metric-server", "mitigate", "mounts", "nvproxy",
    "pause", "platforms", "port-forward", "ps", "read", "read-control", "resume", "rootfs-upper",
    "sandboxexec", "spec", "start", "state", "statefile", "symbolize", "syscalls", "tar", "trace", "umount",
    "uninstall", "update", "usage", "wait", "write-control",
)

# crun 0.2 to 1.29, src/{crun,create,run,restore}.c. --network-lock is declared
# without a value, but its code then takes the next argument; --program-name is
# argp's own, and hidden. (--rootless is below.)
CRUN_OPTIONS = (
    "cgroup-manager", "log", "log-format", "log-level", "root",
    "bundle", "config", "console-socket", "pid-file", "preserve-fds",
    "image-path", "lsm-mount-context", "lsm-profile", "manage-cgroups-mode",
    "network-lock", "program-name", "work-path",
)

# runc 1.0 to 1.5, {main,create,run,restore}.go: what crun doesn't have. youki
# has nothing of its own here. (--console is runc before 1.0.0-rc3.)
RUNC_OPTIONS = ("console", "criu", "empty-ns", "pidfd-socket")

# What the shim of runsc (gVisor) for containerd passes after the command; before it, it writes
# --name=value. Other options of runsc's are read as those that no table has.
RUNSC_OPTIONS = ("fs-restore-image-path", "user-log")

# The one long option on which the runtimes disagree: --rootless takes a value in
# runc and crun and none in runsc. The next argument is its value if it is one
# that runc accepts; a command never is.
OPTIONAL_VALUES = {
    "rootless": (
        "", "auto", "Auto", "AUTO", "true", "True", "TRUE", "t", "T", "1",
        "false", "False", "FALSE", "f", "F", "0",
    ),
}

VALUE_OPTIONS = (*CRUN_OPTIONS, *RUNC_OPTIONS, *RUNSC_OPTIONS)

# Short options that take a value, and the long ones they stand for: -b everywhere
# but in runsc, -f in crun, the others in youki. No letter takes a value here and
# none there.
VALUE_LETTERS = {
    "b": "bundle", "c": "console-socket", "f": "config",
    "l": "log", "p": "pid-file", "r": "root",
}

# Letters without a value that crun and youki let stand before others: -db DIR.
FLAG_LETTERS = "ds"

# Go reads -file-locks as --file-locks; crun and youki read -fFILE as -f FILE. A
# word in VALUE_OPTIONS or among these (what runc and runsc have without a value,
# beginning with a value letter) is read in Go's way; any other in getopt's.
FLAG_OPTIONS = (
    "background", "buffer-pooling", "cgroupfs", "cpu-num-from-quota",
    "file-locks", "fs-restore-direct", "fsgofer-host-uds", "fuse", "lazy-pages",
    "lisafs", "log-packets", "pause-external-networking", "profile", "rdmaproxy",
    "reproduce-nat", "reproduce-nftables", "rx-checksum-offload",
)
# fmt: on


# The options of which something is known, and where it is.
_FIELDS = {
    "bundle": "bundle", "config": "config", "log": "log", "log-format": "log_format", "root": "root",
}  # fmt: skip


class Invocation:
    """What a runtime was told, values as given: nothing is resolved or checked.

    After a command that reads no bundle nothing is read: such commands have
    options of their own, and only `command`, `log`, `log_format` and `root` are of use.
    """

    def __init__(self) -> None:
        self.command = ""  # "" when there is none
        self.bundle = ""  # "" when not given: the cwd
        # crun's --config. The default is in the bundle; any other that isn't
        # absolute is relative to the cwd, not the bundle (crun's run_create.c).
        self.config = DEFAULT_CONFIG
        # Where a runtime may look for it: the first by the reading that the other fields have.
        self.configs: Sequence[str] = (DEFAULT_CONFIG,)
        # "" when there is none. runc takes ids that begin with "-".
        self.container_id = ""
        self.has_one_id = False  # whether all runtimes take that word for the id, and no other
        self.global_options: Sequence[str] = ()  # the words before the command
        self.log = ""  # crun's may be file:PATH, journald:ID or syslog:ID
        self.log_format = ""
        self.root = ""


def parse(arguments: Sequence[str]) -> Invocation:
    """Return what `arguments`, without the program's own name, mean. Never fails."""
    reading = _Reading(arguments)
    while reading.at < len(arguments) and not reading.is_done:
        reading.take()
    reading.decide()
    return reading.found


class _Reading:
    """Arguments that are being read, and whether all runtimes read them alike."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.found = Invocation()
        self.at = 0  # the argument that is read next
        self.is_done = False
        self._arguments = arguments
        self._has_command = self._has_id = self._options_end = False
        self._may_be_value = False  # of an option that no table has
        self._last_flag = ""
        self._is_cluster = False  # a word is one option to Go, and letters to getopt
        self._in_doubt = False  # for any other reason a runtime may read another bundle
        self._only_crun = False  # it may be an id to runc: --bund=DIR, -bDIR or --config

    def take(self) -> None:
        """Read the next argument, and the value that belongs to it."""
        argument = self._arguments[self.at]
        self.at += 1
        word = argument.strip()
        if word != argument and word.startswith("-"):  # runc 1.6 takes the spaces away
            is_other = argument[0] != "-" or word in ("-", "--") or word.startswith(("-b", "--b"))
            self._in_doubt = self._in_doubt or is_other
        if self._options_end or len(argument) < 2 or argument[0] != "-":
            self._take_word(argument)
        elif argument == "--":
            self._options_end = True
            self._may_be_value = False
        else:
            self._take_option(argument)

    def _take_word(self, argument: str) -> None:
        if self._has_command:
            self.found.has_one_id = not self._has_id
            self._has_id = True
            # Options may follow: runc and youki permute. crun and runsc
            # don't, and refuse the arguments (crun's restore ignores one).
            self.found.container_id = self.found.container_id or argument
            return
        if self._may_be_value and argument not in COMMANDS:
            self._may_be_value = False
            if any(one in BUNDLE_COMMANDS for one in self._arguments[self.at :]):
                return
        self._has_command = True
        self.found.command = argument
        self.found.global_options = self._arguments[: self.at - 1]
        self.is_done = argument not in BUNDLE_COMMANDS
        self._options_end = False  # a "--" ended the global options only

    def _take_option(self, argument: str) -> None:
        name, value = split(argument)
        self._is_cluster = self._is_cluster or (argument[1] != "-" and len(argument) > 2)
        if value is None:
            value = self._take_value(name)
        self._may_be_value = value is None
        if value is None:
            self._last_flag = argument
            return
        if name in ("bundle", "config"):
            if argument.partition("=")[0] not in ("--bundle", "-bundle", "-b"):
                self._only_crun = True
            # runc 1.6 reads nothing after "-", and crun's restore no option after the id.
            if self._has_id and (self.found.command == "restore" or self.found.container_id == "-"):
                self._in_doubt = True
        if name in _FIELDS:  # of several, the last wins (youki refuses two bundles)
            setattr(self.found, _FIELDS[name], value)

    def _take_value(self, name: str) -> str | None:
        """Return the next argument if it is this option's value."""
        if self.at == len(self._arguments):
            return None
        value = self._arguments[self.at]
        if name not in VALUE_OPTIONS and value not in OPTIONAL_VALUES.get(name, ()):
            return None
        self.at += 1
        # A value that looks like an option is one if the first is no option to some runtime.
        if value[:1] == "-" and name != "bundle":
            near = self._arguments[self.at - 1 : self.at + 1]
            self._in_doubt = self._in_doubt or any(one.startswith(("-b", "--b")) for one in near)
        return value

    def decide(self) -> None:
        """Say where a config.json may be, by every reading that a runtime may have."""
        found = self.found
        if (self._is_cluster or self._in_doubt) and found.command not in COMMANDS:
            for word in self._arguments:
                if word in BUNDLE_COMMANDS:
                    found.command = word
                    self._in_doubt = True
        if not found.container_id and found.command in BUNDLE_COMMANDS:
            found.container_id = self._last_flag
        path = found.config
        if path == DEFAULT_CONFIG and found.bundle:
            path = f"{found.bundle}/{path}"
        found.configs = (path,)
        found.has_one_id = found.has_one_id and not self._in_doubt
        if self._in_doubt or self._is_cluster or (self._only_crun and not self._has_id):
            only_clusters = not self._in_doubt and self._has_id and found.config == DEFAULT_CONFIG
            found.configs = _configs(path, self._arguments, only_clusters=only_clusters)


def _configs(path: str, arguments: Sequence[str], *, only_clusters: bool) -> Sequence[str]:
    """Return every path that a runtime may take for config.json, that one first, and some that none does."""
    bundles = [] if only_clusters else [""]
    files = []
    for word in arguments:
        if not only_clusters:
            bundles += [word, word.strip(), word.partition("=")[2].strip()]
        if word.startswith("-") and not word.startswith("--"):
            bundles.append(word.partition("b")[2])
            files.append(word.partition("f")[2])
    files += [f"{one}/{DEFAULT_CONFIG}" if one else "" for one in bundles if one]
    if not only_clusters:
        files.append(DEFAULT_CONFIG)
    return tuple(dict.fromkeys([path, *(one for one in files if one)]))


def split(argument: str) -> tuple[str, str | None]:
    """Return the long name of an option and the value attached to it, if one is."""
    is_long = argument.startswith("--")
    name, equals, value = argument[2 if is_long else 1 :].partition("=")
    if name not in VALUE_OPTIONS and name not in OPTIONAL_VALUES:
        if is_long:
            # getopt takes any unambiguous prefix: to crun, --bund is --bundle. What
            # fits none of these is a flag; of several the last is right or crun
            # refuses: restore has --console-socket but no --config.
            known = [option for option in (*CRUN_OPTIONS, *OPTIONAL_VALUES) if option.startswith(name)]
            name = max(known, default=name)
        elif name not in FLAG_OPTIONS:
            letters = argument[1:].lstrip(FLAG_LETTERS)
            if letters[:1] in VALUE_LETTERS:
                # -b=v is v to runc and youki; crun would take "=v", which nobody means.
                attached = letters[2:] if letters[1:2] == "=" else letters[1:]
                return VALUE_LETTERS[letters[0]], attached if letters[1:] else None
    return name, value if equals else None
