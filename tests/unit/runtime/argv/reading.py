# SPDX-License-Identifier: Apache-2.0
"""What cdi_hook.runtime.argv is held to: its tables, the options without a value, and how a test reads arguments."""

from __future__ import annotations

from cdi_hook.runtime import argv

# Options without a value that the runtimes have before the command, or after
# create, run and restore; --rootless, which is both, is left out.
BOOLEANS = {
    "runc": """debug systemd-cgroup help version no-pivot no-new-keyring detach keep
        no-subreaper tcp-established ext-unix-sk shell-job file-locks auto-dedup
        lazy-pages""",
    "crun": """debug systemd-cgroup version help usage no-pivot no-subreaper
        no-new-keyring detach keep tcp-established tcp-close ext-unix-sk shell-job
        file-locks""",
    "youki": """systemd-log debug systemd-cgroup version help no-pivot no-new-keyring
        no-subreaper keep detach""",
    "runsc": """EXPERIMENTAL-xdp-need-wakeup TESTONLY-afs-syscall-panic
        allow-flag-override alsologtostderr app-huge-pages background buffer-pooling
        cgroupfs cpu-num-from-quota debug debug-to-user-log detach direct directfs
        enable-core-tags fs-restore-direct fsgofer-host-uds fuse gso gvisor-gro
        ignore-cgroups iouring lisafs log-packets net-disconnect-ok net-raw
        no-subreaper nvproxy nvproxy-docker oci-seccomp overlay overlayfs-stale-read
        pause-external-networking profile rdmaproxy reproduce-nat reproduce-nftables
        rx-checksum-offload save-restore-netstack software-gso split-fsrestore strace
        strace-event systemd-cgroup systrap-disable-fast-path tpuproxy
        tx-checksum-offload verity version vfs2""",
}
ALL_BOOLEANS = sorted({name for names in BOOLEANS.values() for name in names.split()})
VALUE_OPTIONS = sorted(argv.VALUE_OPTIONS)
VALUE_LETTERS = sorted(argv.VALUE_LETTERS)

FIELDS = ("command", "bundle", "config", "container_id", "log", "log_format", "root")
DEFAULTS = dict.fromkeys(FIELDS, "") | {"config": "config.json"}


def meaning(arguments: list[str]) -> dict[str, str]:
    """The fields that differ from the defaults."""
    invocation = argv.parse(arguments)
    fields = {name: getattr(invocation, name) for name in FIELDS}
    return {name: value for name, value in fields.items() if value != DEFAULTS[name]}
