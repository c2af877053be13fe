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

Pure, and on the path of every container: no imports. The door, a shell script,
has no tables: a word that could be such a command makes it ask here.
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


class Invocation:
    """What a runtime was told, values as given: nothing is resolved or checked.

    After a command that reads no bundle nothing is read: such commands have
    options of their own, and only `command`, `log`, `log_format` and `root` are of use.
    """

    __slots__ = ("bundle", "command", "config", "configs", "container_id", "log", "log_format", "root")

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
        self.log = ""  # crun's may be file:PATH, journald:ID or syslog:ID
        self.log_format = ""
        self.root = ""


def parse(arguments: Sequence[str]) -> Invocation:
    """Return what `arguments`, without the program's own name, mean. Never fails."""
    invocation = Invocation()
    has_command = False
    has_id = False
    options_end = False
    may_be_value = False  # of an option that no table has
    last_flag = ""
    is_cluster = False  # a word is one option to Go, and letters to getopt
    in_doubt = False  # for any other reason a runtime may read another bundle
    only_crun = False  # it may be an id to runc: --bund=DIR, -bDIR or --config
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        index += 1
        word = argument.strip()
        if word != argument and word.startswith("-"):  # runc 1.6 takes the spaces away
            in_doubt = in_doubt or argument[0] != "-" or word in ("-", "--") or word.startswith(("-b", "--b"))
        if options_end or len(argument) < 2 or argument[0] != "-":
            if not has_command:
                if (
                    may_be_value
                    and argument not in COMMANDS
                    and any(one in BUNDLE_COMMANDS for one in arguments[index:])
                ):
                    may_be_value = False
                    continue
                has_command = True
                invocation.command = argument
                if argument not in BUNDLE_COMMANDS:
                    break
                options_end = False  # a "--" ended the global options only
            else:
                has_id = True
                # Options may follow: runc and youki permute. crun and runsc
                # don't, and refuse the arguments (crun's restore ignores one).
                invocation.container_id = invocation.container_id or argument
        elif argument == "--":
            options_end = True
            may_be_value = False
        else:
            name, value = _split(argument)
            is_cluster = is_cluster or (argument[1] != "-" and len(argument) > 2)
            if value is None and index < len(arguments):
                following = arguments[index]
                if name in VALUE_OPTIONS or following in OPTIONAL_VALUES.get(name, ()):
                    index += 1
                    value = following
                    # A value that looks like an option is one if the first is no option to some runtime.
                    if following[:1] == "-" and name != "bundle":
                        near = arguments[index - 1 : index + 1]
                        in_doubt = in_doubt or any(one.startswith(("-b", "--b")) for one in near)
            may_be_value = value is None
            if value is None:
                last_flag = argument
                continue
            if name in ("bundle", "config"):
                if argument.partition("=")[0] not in ("--bundle", "-bundle", "-b"):
                    only_crun = True
                # runc 1.6 reads nothing after "-", and crun's restore no option after the id.
                if has_id and (invocation.command == "restore" or invocation.container_id == "-"):
                    in_doubt = True
            if name == "bundle":  # the last one given wins (youki refuses two)
                invocation.bundle = value
            elif name == "config":
                invocation.config = value
            elif name == "log":
                invocation.log = value
            elif name == "log-format":
                invocation.log_format = value
            elif name == "root":
                invocation.root = value
    if (is_cluster or in_doubt) and invocation.command not in COMMANDS:
        for word in arguments:
            if word in BUNDLE_COMMANDS:
                invocation.command = word
                in_doubt = True
    if not invocation.container_id and invocation.command in BUNDLE_COMMANDS:
        invocation.container_id = last_flag
    path = invocation.config
    if path == DEFAULT_CONFIG and invocation.bundle:
        path = f"{invocation.bundle}/{path}"
    invocation.configs = (path,)
    if in_doubt or is_cluster or (only_crun and not has_id):
        only_clusters = not in_doubt and has_id and invocation.config == DEFAULT_CONFIG
        invocation.configs = _configs(path, arguments, only_clusters=only_clusters)
    return invocation


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


def _split(argument: str) -> tuple[str, str | None]:
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
