# SPDX-License-Identifier: Apache-2.0
"""The configuration: /etc/cdi-hook/cdi-hook.conf, each value with its origin.

It has lines KEY=value in the syntax of os-release(5). ALLOW_NAME and DENY_NAME,
with any NAME, are keys too: one more rule each. Only this module parses
it; shell.py tells cdi-runtime, a shell script, what that has to know. A bad line is
reported when a container asks for a device. It stops no other container. The
part of it that can be used counts, so that a container that asks by that part hears of the error.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cdi_hook.config.rule import Rule

DEFAULT_PATH = "/etc/cdi-hook/cdi-hook.conf"

# With this the keys begin by which the device plugin for Kubernetes asks. No engine's own CDI reads them.
OF_PLUGIN = "cdi-hook.local/"

# Key, default, what a value has to be (see _CHECKS).
KEYS = (
    ("RUNTIMES", "runc crun", "words"),
    ("SPEC_DIRS", "/etc/cdi:/var/run/cdi", "directories"),
    ("ANNOTATION_PREFIXES", f"cdi.k8s.io/ {OF_PLUGIN}", "prefixes"),
    ("DEFAULT_KIND", "", "kind"),
    ("DEVICE_ENV", "", "variables"),
    ("DEVICE_MOUNTS", "", "searchable directory"),
    ("ALLOW", "*", "rule"),
    ("DENY", "", "rule"),
    ("EXCLUSIVE", "", "patterns"),
    ("SANDBOXES", "skip", "skip inject"),
    ("SPEC_TRUST", "strict", "strict none"),
    ("HOOK_UNSUPPORTED", "fail", "fail warn"),
    ("GENERATE", "", "classes"),
    ("LOG", "", "path"),
    ("LOG_LEVEL", "info", "info warning error"),
)
# The keys that say what asks for a device.
SOURCES = ("ANNOTATION_PREFIXES", "DEFAULT_KIND", "DEVICE_ENV", "DEVICE_MOUNTS", "SANDBOXES")
_RULES = ("ALLOW_", "DENY_")
_LISTS = ("prefixes", "variables", "classes")  # of which each word counts for itself
_DEFAULTS = {key: default for key, default, _ in KEYS}
_KINDS = {key: kind for key, _, kind in KEYS}
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WORD = f"{_LETTERS}0123456789_"
_SEARCHABLE = f"{_WORD}./-"  # what cdi-runtime's grep finds as it stands
_MOST = 1 << 20  # bytes; room for a rule for each of 10,000 namespaces
_S_IFMT, _S_IFREG = 0o170000, 0o100000
_DEV_NULL = 0x103  # which is as good as no file
_SHELL = frozenset("$`;&|<>()~\"'\\ \t")  # not without quotes


class Config:
    """The configuration's values, where each comes from, and what is wrong with it.

    ``origins`` maps a key to ``default`` or ``FILE:LINE``; ``problems`` are one
    line each and name file and line. ``hiding`` are those of them that may hide
    that a container asks. ``failure`` is why the file couldn't be read, if that isn't
    because it is of another kind or we may not.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.values = dict(_DEFAULTS)
        self.origins = dict.fromkeys(_DEFAULTS, "default")
        self.problems: list[str] = []
        self.hiding: list[str] = []
        self.failure: OSError | None = None
        self._lacks_rules = False  # of what is judged whoever gave it

    def complain(self, problem: str, key: str = SOURCES[0]) -> None:
        """Note a problem, with the value of a key where that is known."""
        self.problems.append(problem)
        if key in SOURCES:
            self.hiding.append(problem)
        self._lacks_rules = self._lacks_rules or key.startswith(("DENY", "EXCLUSIVE"))

    def __getitem__(self, key: str) -> str:
        return self.values[key]

    @property
    def has_policy(self) -> bool:
        """Whether not every device is allowed to everybody."""
        return self["ALLOW"] != "*" or self["DENY"] != "" or len(self.values) > len(KEYS)

    @property
    def judges_engines(self) -> bool:
        """Whether what engines give by themselves is judged, too."""
        return (
            self._lacks_rules
            or self["EXCLUSIVE"] != ""
            or any(
                value and (key.startswith("DENY") or "from=engine" in value.split())
                for key, value in self.values.items()
            )
        )

    def rules(self, key: str) -> list[Rule]:
        """Return the rules of ALLOW or DENY. With others beside it the default is none."""
        from cdi_hook.config.rule import Rule

        keys = [one for one in self.values if one == key or one.startswith(f"{key}_")]
        if len(keys) > 1 and self.origins[key] == "default":
            keys.remove(key)
        return [Rule(one, self.values[one], self.origins[one]) for one in keys]

    def words(self, key: str) -> list[str]:
        """Return a value's words."""
        return self.values[key].split()


def path(environ: Mapping[bytes, bytes]) -> str:
    """Return the path of the configuration that the environment names."""
    return _variable(environ, b"CDI_HOOK_CONFIG") or DEFAULT_PATH


def load(environ: Mapping[bytes, bytes]) -> Config:
    """Read the configuration that the environment names; a missing file means the defaults."""
    config = Config(path(environ))
    try:
        descriptor = posix.open(config.path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except FileNotFoundError:
        return config
    except OSError as error:
        _fail(config, error)
        return config
    text = b""
    try:
        status = posix.fstat(descriptor)
        if status.st_mode & _S_IFMT != _S_IFREG and status.st_rdev != _DEV_NULL:
            config.complain(f"{config.path}: not a regular file")
        else:
            while len(text) <= _MOST and (chunk := posix.read(descriptor, 1 << 16)):
                text += chunk
            if len(text) > _MOST:
                config.complain(f"{config.path}: larger than {_MOST} bytes")
                text = b""
    except OSError as error:
        _fail(config, error)
    finally:
        posix.close(descriptor)
    parse(text.decode("utf-8", "surrogateescape"), config)
    return config


def _fail(config: Config, error: OSError) -> None:
    import errno

    config.complain(f"{config.path}: {error.strerror}")
    # with these, another try would end the same way
    if error.errno not in (errno.ENXIO, errno.EACCES, errno.ENOTDIR, errno.ELOOP):
        config.failure = error


def _variable(environ: Mapping[bytes, bytes], name: bytes) -> str:
    return environ.get(name, b"").decode("utf-8", "surrogateescape")


def parse(text: str, config: Config) -> None:
    """Read the text of a configuration file into config."""
    if text.startswith("\ufeff"):
        text = text[1:]
        config.problems.append(f"{config.path}:1: begins with a byte order mark; save it without")
    if "\r\n" in text:
        number = text[: text.index("\r\n")].count("\n") + 1
        text = text.replace("\r\n", "\n")
        config.problems.append(
            f"{config.path}:{number}: ends in a carriage return; save it with Unix line ends"
        )
    for number, line in enumerate(text.split("\n"), 1):
        setting = line.strip(" \t")
        if not setting or setting.startswith("#"):
            continue
        before, equals, rest = setting.partition("=")
        key = (before.split() or [""])[-1]
        where = f"{config.path}:{number}"
        if not (equals and key):
            config.complain(f"{where}: not of the form KEY=value")
        elif not _kind_of(key):
            from cdi_hook.base import words

            config.complain(f"{where}: unknown key {key}; {words.instead(key, _DEFAULTS)}")
        else:
            value = rest.lstrip(" \t")
            if before != key or (value != rest and not value.startswith("#")):
                config.problems.append(f"{where}: {key}: it must begin the line, with no spaces around the =")
                rest = value
            _set(config, key, rest, where)
    if config.has_policy:
        _check_sources(config)


def _kind_of(key: str) -> str:
    """Return what a key's value has to be; "" if there is no such key."""
    is_rule = key.startswith(_RULES) and key not in _RULES and not key.strip(_WORD)
    return "rule" if is_rule else _KINDS.get(key, "")


def _check_sources(config: Config) -> None:
    """Complain of rules about sources that there aren't: with a slip in it, a rule would never count."""
    known = {*config.words("ANNOTATION_PREFIXES"), *config.words("DEVICE_ENV"), "engine"}
    known.add(config["DEVICE_MOUNTS"].rstrip("/"))
    for key in ("ALLOW", "DENY"):
        for rule in config.rules(key):
            for source in rule.sources:
                if source not in known:
                    config.complain(
                        f"{rule.origin}: {rule.key}: from={source} is none of ANNOTATION_PREFIXES, "
                        "DEVICE_ENV and DEVICE_MOUNTS, and not engine",
                        rule.key,
                    )


def _set(config: Config, key: str, text: str, where: str) -> None:
    """Give a key the value that is written there, or the words of it that can be used."""
    kind = _kind_of(key)
    problems: list[object] = []
    try:
        words = [unquote(text)]
    except ValueError as error:
        problems.append(error)
        words = [text.partition(" #")[0].replace('"', " ").replace("'", " ")] if kind in _LISTS else []
    if kind in _LISTS:
        written = words[0].split()
        words = words[0].replace(":", " ").replace(",", " ").split()
        if words != written:
            problems.append("its words are separated by spaces")
    used = []
    for word in words:
        try:
            _CHECKS[kind](word, kind)
        except ValueError as error:
            problems.append(error)
        else:
            used.append(word)
    if problems:
        config.complain(f"{where}: {key}: {problems[0]}", key)
    if used or not problems:
        value, former = " ".join(used), config.values.get(key)
        if config.origins.get(key, "default") != "default" and value != former:
            problem = f"{where}: {key}: {config.origins[key]} says something else; write one line"
            config.complain(problem, key)
            value = f"{former} {value}" if kind in _LISTS else value
        config.values[key] = value
        config.origins[key] = where


def unquote(text: str) -> str:
    """Return the value that a shell would assign; raises ValueError for more than a plain value."""
    parts, at = [], 0
    while at < len(text) and text[at] not in " \t":
        part, at = _UNQUOTING.get(text[at], _bare)(text, at)
        parts.append(part)
    if text[at:].lstrip(" \t")[:1] not in ("", "#"):
        raise ValueError("a value with spaces needs quotes")
    value = "".join(parts)
    for character in value:
        if character.isspace() and character not in " \t":  # a carriage return, say: a shell keeps it
            raise ValueError(f"{character!r} is neither a space nor a tab")
    return value


# Each returns the value of what begins at a place in a text, and where that ends.


def _bare(text: str, at: int) -> tuple[str, int]:
    if text[at] in _SHELL:
        raise ValueError(f"{text[at]} needs quotes")
    return text[at], at + 1


def _escaped(text: str, at: int) -> tuple[str, int]:
    if at + 1 == len(text):
        raise ValueError("ends in a backslash")
    return text[at + 1], at + 2


def _in_single_quotes(text: str, at: int) -> tuple[str, int]:
    end = text.find("'", at + 1)
    if end < 0:
        raise ValueError("the quote ' isn't closed")
    return text[at + 1 : end], end + 1


def _in_double_quotes(text: str, at: int) -> tuple[str, int]:
    parts = []
    at += 1
    while at < len(text) and text[at] != '"':
        if text[at] in "$`":
            raise ValueError(f"{text[at]} needs a backslash")
        if text[at] == "\\" and text[at + 1 : at + 2] in ("$", "`", '"', "\\"):
            at += 1
        parts.append(text[at])
        at += 1
    if at == len(text):
        raise ValueError("the quote \" isn't closed")
    return "".join(parts), at + 1


_UNQUOTING = {"'": _in_single_quotes, '"': _in_double_quotes, "\\": _escaped}


def _any(_value: str, _kind: str) -> None:
    pass


def _one_of(value: str, kind: str) -> None:
    if value not in kind.split():
        raise ValueError(f'"{value}" is none of {", ".join(kind.split())}')


def _rule(value: str, _kind: str) -> None:
    from cdi_hook.config.rule import Rule

    Rule("", value, "")


def _patterns(value: str, _kind: str) -> None:
    from cdi_hook.config.rule import Rule

    rule = Rule("", value, "")
    if rule.sources or rule.namespaces:
        raise ValueError("it takes patterns of devices, and no conditions")


def _directories(value: str, _kind: str) -> None:
    for directory in value.split(":") if value else ():
        if not directory.startswith("/"):
            raise ValueError(f'"{directory}" is not an absolute path (dirs are separated by colons)')


def _absolute(value: str, _kind: str) -> None:
    if value and not value.startswith("/"):
        raise ValueError(f'"{value}" is not an absolute path')


def _searchable(value: str, kind: str) -> None:
    for character in value:
        if character not in _SEARCHABLE:
            raise ValueError(f'"{character}" is not allowed in it (letters, digits, and . _ - / are)')
    if kind == "searchable directory":
        _absolute(value, kind)
        if "//" in value:
            raise ValueError(f'"{value}" has two slashes in a row')


def _variable_name(word: str, _kind: str) -> None:
    if word.strip(_WORD):
        raise ValueError(f'"{word}" is not the name of an environment variable')


def _kind(value: str, _kind_name: str) -> None:
    if value:
        from cdi_hook.errors import InvalidName
        from cdi_hook.names import parse_qualified_name

        try:
            parse_qualified_name(f"{value}=x")
        except InvalidName:
            raise ValueError(f'"{value}" is not of the form vendor/class') from None


def _class(word: str, _kind_name: str) -> None:
    from cdi_hook.generate.classes import CLASSES

    if word not in CLASSES:
        raise ValueError(f'"{word}" is no class of devices; write one of {", ".join(CLASSES)}')


_CHECKS = {
    "words": _any,
    "rule": _rule,
    "patterns": _patterns,
    "directories": _directories,
    "prefixes": _searchable,
    "kind": _kind,
    "variables": _variable_name,
    "classes": _class,
    "searchable directory": _searchable,
    "path": _absolute,
}
for _key, _default, _values in KEYS:
    _CHECKS.setdefault(_values, _one_of)


def spec_dirs(config: Config, environ: Mapping[bytes, bytes], system: bool) -> list[str]:
    """Return the spec dirs in rising priority: the configured ones, for a user also their own."""
    dirs = config["SPEC_DIRS"].split(":") if config["SPEC_DIRS"] else []
    if not system:
        home = _variable(environ, b"HOME")  # an engine's hook may have none
        own = _variable(environ, b"XDG_CONFIG_HOME") or (home and f"{home}/.config")
        for base in (own, _variable(environ, b"XDG_RUNTIME_DIR")):
            if base.startswith("/"):
                dirs.append(f"{base}/cdi")
    return dirs


def state_dir(environ: Mapping[bytes, bytes], system: bool) -> str:
    """Return the dir for what can be made again at any time; "" where a user has none."""
    if system:
        return "/run/cdi-hook"
    base = _variable(environ, b"XDG_RUNTIME_DIR")
    return f"{base}/cdi-hook" if base.startswith("/") else ""
