# SPDX-License-Identifier: Apache-2.0
"""A node of Kubernetes: a machine (tests/machine) with a control plane, a kubelet and an engine.

One kind is on this kernel, with cgroups of the layout that this machine has; the other is a virtual machine. Neither has
a network but its own, so images are imported.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.engine.box import LAYOUT, STANDARD_PATH, Box, Host
from tests.machine import base_images
from tests.machine.machine import BOARD, Machine
from tests.machine.virtual.vm import KUBERNETES, Virtual

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGES = (
    "systemd-sysv", "dbus", "libpam-systemd", "udev", "procps", "kmod", "python3", "runc", "containerd",
    "busybox-static", "skopeo", *KUBERNETES,
)  # fmt: skip
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_reap.service",
    "fstrim.timer", "e2scrub_all.timer", "etcd.service",
)  # fmt: skip
ADDRESS = "10.99.0.1"

# What engines keep is on disks of its own: they make overlays, and these don't stack.
_INIT = """
read -r pid rest </proc/self/stat
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$INSTALLED,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
for place in containerd containers kubelet; do
    mkdir -p /mnt/root/var/lib/$place
    mount -t tmpfs -o mode=755 tmpfs /mnt/root/var/lib/$place
done
"""
_SETTLE = """
umount -R /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
while IFS=: read -r number names path; do
    if [ "$names" ]; then
        mkdir "/sys/fs/cgroup/${names#name=}"
        mount -t cgroup -o "$names" none "/sys/fs/cgroup/${names#name=}"
    else
        mkdir /sys/fs/cgroup/unified
        mount -t cgroup2 none /sys/fs/cgroup/unified
    fi
done </proc/self/cgroup
mount -t sysfs sysfs /sys -o remount,rw || :
trap '' CHLD
echo "$pid"
exec cat >/dev/null
"""
_ENTER = """
for group in /sys/fs/cgroup/*/; do
    if [ -e "$group/init.scope" ]; then echo 0 >"$group/init.scope/cgroup.procs"; else echo 0 >"$group/cgroup.procs"; fi
done 2>/dev/null
cd /
exec "$@"
"""
_NETWORK = f"""#!/bin/sh
ip link set lo up
ip link add outside type bridge
ip addr add {ADDRESS}/24 dev outside
ip link set outside up
ip route add default via 10.99.0.254
echo 1 >/proc/sys/net/ipv4/ip_forward
"""
# What a machine has, and nspawn doesn't give: cgroups that can be written. The kubelet sets settings of the kernel,
# which are the whole machine's: it sees files in their place.
_NSPAWN = """for group in /sys/fs/cgroup/*/; do mount -o remount,bind,rw "$group"; done
mkdir -p /run/sysctls
while read -r name value; do
    echo "$value" >"/run/sysctls/${name##*/}"
    mount --bind "/run/sysctls/${name##*/}" "/proc/sys/$name"
done <<X
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
X
mount --make-rshared /
"""
_PKI = "/etc/kubernetes/pki"
# By name: what comes before it, and its command.
_UNITS = {
    "k-etcd": (
        "network-up.service",
        "/usr/bin/etcd --data-dir /var/lib/k-etcd --unsafe-no-fsync --log-level warn",
    ),
    "k-apiserver": (
        "k-etcd.service",
        "/usr/local/bin/kube-apiserver --etcd-servers=http://127.0.0.1:2379 --service-cluster-ip-range=10.96.0.0/16 "
        f"--advertise-address={ADDRESS} --tls-cert-file={_PKI}/apiserver.crt --tls-private-key-file={_PKI}/apiserver.key "
        f"--client-ca-file={_PKI}/ca.crt --kubelet-client-certificate={_PKI}/admin.crt "
        f"--kubelet-client-key={_PKI}/admin.key --kubelet-certificate-authority={_PKI}/ca.crt "
        f"--service-account-issuer=https://kubernetes.default.svc --service-account-key-file={_PKI}/sa.pub "
        f"--service-account-signing-key-file={_PKI}/sa.key --authorization-mode=Node,RBAC --allow-privileged "
        "--enable-admission-plugins=NodeRestriction --kubelet-preferred-address-types=InternalIP",
    ),
    "k-manager": (
        "k-apiserver.service",
        "/usr/local/bin/kube-controller-manager --kubeconfig=/etc/kubernetes/manager.conf "
        f"--root-ca-file={_PKI}/ca.crt --service-account-private-key-file={_PKI}/sa.key "
        "--use-service-account-credentials --leader-elect=false",
    ),
    "k-scheduler": (
        "k-apiserver.service",
        "/usr/local/bin/kube-scheduler --kubeconfig=/etc/kubernetes/scheduler.conf --leader-elect=false",
    ),
    "kubelet": (
        "ENGINE.service",
        "/usr/local/bin/kubelet --config=/etc/kubernetes/kubelet.yaml --kubeconfig=/etc/kubernetes/kubelet.conf "
        f"--hostname-override=node1 --node-ip={ADDRESS} --v=2",
    ),
}
# By name: the subject, and other names of its owner.
_CERTIFICATES = {
    "apiserver": (
        "/CN=kube-apiserver",
        f"IP:127.0.0.1,IP:{ADDRESS},IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc,DNS:node1",
    ),
    "admin": ("/O=system:masters/CN=admin", ""),
    "manager": ("/CN=system:kube-controller-manager", ""),
    "scheduler": ("/CN=system:kube-scheduler", ""),
    "kubelet": ("/O=system:nodes/CN=system:node:node1", f"IP:{ADDRESS},DNS:node1"),
}
_KUBELET = f"""apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{x509: {{clientCAFile: {_PKI}/ca.crt}}, webhook: {{enabled: true}}, anonymous: {{enabled: false}}}}
authorization: {{mode: Webhook}}
tlsCertFile: {_PKI}/kubelet.crt
tlsPrivateKeyFile: {_PKI}/kubelet.key
cgroupDriver: systemd
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://SOCKET
evictionHard: {{memory.available: 1Mi}}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
maxPods: 250
serializeImagePulls: false
kubeAPIQPS: 200
kubeAPIBurst: 400
"""
# CRI-O asks whether a network is as it was made, and udev gives an interface another address.
_CNI = """{"cniVersion": "1.0.0", "name": "pods", "disableCheck": true, "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "ipam": {"type": "host-local",
  "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
"""
# restrict_oom_score_adj: root of a container may not have CAP_SYS_RESOURCE
_CONTAINERD = """version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    restrict_oom_score_adj = true
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
"""
# What `containerd config default` of 2.x writes, and what this node needs in its place.
_SECOND = (
    ("restrict_oom_score_adj = false", "restrict_oom_score_adj = true"),
    ("SystemdCgroup = false", "SystemdCgroup = true"),
    ("bin_dirs = ['/opt/cni/bin']", "bin_dirs = ['/usr/lib/cni']"),
)

_CRIO = """[crio.runtime]
default_runtime = "runc"
[crio.runtime.runtimes.runc]
runtime_path = ""
[crio.image]
pause_image = "registry.k8s.io/pause:3.10"
[crio.network]
plugin_dirs = ["/usr/lib/cni"]
"""
# CRI-O has no such setting, and gives privileged containers all capabilities.
_RUNC = """#!/bin/sh
take=
for word; do
    [ -z "$take" ] || sed -i 's/"CAP_SYS_RESOURCE",//g; s/"oomScoreAdj": *-[0-9]*/"oomScoreAdj":0/' "$word/config.json"
    take=
    [ "$word" != --bundle ] || take=1
done
exec /usr/bin/runc "$@"
"""


def _unit(after: str, command: str, kind: str = "simple") -> str:
    return f"""[Unit]
After={after}
Wants={after}
StartLimitIntervalSec=0
[Service]
Type={kind}
ExecStart={command}
Restart=always
RestartSec=1
KillMode=process
Delegate=yes
[Install]
WantedBy=multi-user.target
"""


def _kubeconfig(name: str) -> str:
    user = {"client-certificate": f"{_PKI}/{name}.crt", "client-key": f"{_PKI}/{name}.key"}
    cluster = {"server": "https://127.0.0.1:6443", "certificate-authority": f"{_PKI}/ca.crt"}
    whole = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": cluster}], "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }  # fmt: skip
    return json.dumps(whole)


def _certify(place: Path) -> None:
    """Make the certificates of a cluster that exists only here."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=place, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *key, "-days", "3650", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt",
        "-addext", "basicConstraints=critical,CA:TRUE",
    )  # fmt: skip
    for name, (subject, names) in _CERTIFICATES.items():
        openssl("req", *key, "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        extensions = "extendedKeyUsage=clientAuth,serverAuth\nkeyUsage=digitalSignature,keyEncipherment\n"
        (place / f"{name}.ext").write_text(extensions + (f"subjectAltName={names}\n" if names else ""))
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "3650", "-extfile", f"{name}.ext", "-out", f"{name}.crt",
        )  # fmt: skip
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sa.key")
    openssl("ec", "-in", "sa.key", "-pubout", "-out", "sa.pub")


def engine_of(programs: Path | None) -> str:
    """Return the engine that these programs are, as its unit is called; Debian's is containerd."""
    return "crio" if programs and (programs / "crio").exists() else "containerd"


def _second(programs: Path) -> str:
    """Return the configuration that a containerd 2 proposes, as this node needs it."""
    command = [str(programs / "containerd"), "config", "default"]
    text: str = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for before, after in _SECOND:
        assert before in text, text
        text = text.replace(before, after)
    return text


def _of_engine(programs: Path | None) -> dict[str, str]:
    """Return the files of an engine."""
    if engine_of(programs) == "crio":
        return {
            "etc/crio/crio.conf": _CRIO,
            "etc/systemd/system/crio.service": _unit("network-up.service", "/usr/local/bin/crio", "notify"),
            "usr/local/bin/runc": _RUNC,
        }
    if not programs:
        return {"etc/containerd/config.toml": _CONTAINERD}
    newer = "[Service]\nExecStart=\nExecStart=/usr/local/bin/containerd\n"
    return {
        "etc/containerd/config.toml": _second(programs),
        "etc/systemd/system/containerd.service.d/newer.conf": newer,
    }


def furnish(root: Path, binaries: Path, programs: Path | None, network: str = _NETWORK) -> None:
    """Write a node's files, which lie over those of Debian's packages.

    ``programs`` is a dir with an engine to have in place of Debian's containerd.
    """
    engine = engine_of(programs)
    socket = {"crio": "/run/crio/crio.sock", "containerd": "/run/containerd/containerd.sock"}[engine]
    files = {f"etc/kubernetes/{name}.conf": _kubeconfig(name) for name in ("manager", "scheduler", "kubelet")}
    for name, (after, command) in _UNITS.items():
        files[f"etc/systemd/system/{name}.service"] = _unit(after.replace("ENGINE", engine), command)
    files |= {
        **_of_engine(programs),
        "etc/kubernetes/kubelet.yaml": _KUBELET.replace("SOCKET", socket),
        "etc/cni/net.d/10-bridge.conflist": _CNI,
        "etc/hostname": "node1\n",
        "root/.kube/config": _kubeconfig("admin"),
        "usr/local/sbin/network-up": network,
        "etc/systemd/system/network-up.service": "[Unit]\nDefaultDependencies=no\n"
        "After=systemd-journald.socket systemd-tmpfiles-setup-dev.service\nBefore=sysinit.target containerd.service crio.service\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/sbin/network-up\n",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        if text.startswith("#!"):
            (root / path).chmod(0o755)
    (root / "usr/local/bin").mkdir(exist_ok=True)
    system = root / "etc/systemd/system"
    for target, units in (("multi-user", list(_UNITS)), ("sysinit", ["network-up"])):
        (system / f"{target}.target.wants").mkdir(exist_ok=True)
        for name in units:
            (system / f"{target}.target.wants/{name}.service").symlink_to(f"../{name}.service")
    for unit in (*MASKED, *([] if engine == "containerd" else ["containerd.service"])):
        (system / unit).symlink_to("/dev/null")
    place = root / _PKI.lstrip("/")
    place.mkdir(parents=True)
    _certify(place)
    for binary in (*(binaries / "bin").iterdir(), *(programs.iterdir() if programs else ())):
        shutil.copy(binary, root / "usr/local/bin")


def make_root(cache: Path, directory: Path, binaries: Path, programs: Path | None) -> Path:
    """Return a node's root dir: overlays of one made in ``directory``, and Debian's packages that are in a cache."""
    furnish(directory, binaries, programs, _NETWORK + _NSPAWN)
    return Path(f"{directory}:{base_images.make_root(cache, PACKAGES)}")


class Kubernetes(Host):
    """What is asked of a node of either kind. At BOARD it sees what a test brought."""

    before = ""  # what its tree was before anything of ours came
    engine = "containerd"
    has_events = False  # whether udev hears of devices

    def is_ready(self) -> bool:
        """Say whether the node is Ready."""
        found = self.call("kubectl", "get", "node", "node1", "--no-headers", timeout=60).stdout
        return found.split()[1:2] == ["Ready"]

    def reboot(self) -> None:
        """Shut down and boot again."""
        raise NotImplementedError

    def close(self) -> None:
        """End the node."""
        raise NotImplementedError

    def wait_for_pods(self) -> None:
        """Wait until the node takes pods."""
        self.wait(self.is_ready)
        for words in (("--raw", "/openapi/v2"), ("serviceaccount", "default")):
            self.wait(lambda: self.call("kubectl", "get", *words).returncode == 0)  # noqa: B023

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 0) -> str:
        """Run kubectl, which must succeed; return its stdout."""
        return self.do("kubectl", *arguments, stdin=stdin.encode(), timeout=seconds or self.timeout)

    def apply(self, *objects: Any) -> None:
        """Apply objects."""
        self.kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        )

    def delete(self, *pods: str) -> None:
        """Delete pods at once."""
        self.kubectl("delete", "pod", "--ignore-not-found", "--grace-period=1", "--wait", *pods)

    def load(self, archives: Iterable[Path]) -> None:
        """Give the node images, which a registry would; they lie at BOARD with their names."""
        for archive in archives:
            command = ["ctr", "-n", "k8s.io", "images", "import", f"{BOARD}/{archive.name}"]
            if self.engine == "crio":
                (name,) = json.loads(self.do("tar", "-xOf", f"{BOARD}/{archive.name}", "manifest.json"))[0][
                    "RepoTags"
                ]
                source = f"docker-archive:{BOARD}/{archive.name}"
                command = ["skopeo", "copy", "-q", source, f"containers-storage:{name}"]
            self.do(*command, timeout=self.timeout)

    def show(self, kind: str, name: str, path: str) -> str:
        """Return a field of an object."""
        return self.kubectl("get", kind, name, "-o", f"jsonpath={{{path}}}")

    def wait_for(self, condition: str, *objects: str, namespace: str = "default") -> None:
        """Wait until objects have a condition."""
        within = f"--timeout={self.timeout}s"
        self.kubectl(
            "-n", namespace, "wait", f"--for={condition}", within, *objects, seconds=self.timeout + 30
        )

    def runs(self, *pods: str) -> None:
        """Wait until pods are ready."""
        self.wait_for("condition=Ready", *(f"pod/{one}" for one in pods))

    def rolled_out(self, deployment: str) -> None:
        """Wait until all pods of a deployment, of which there may be many, are ready."""
        seconds = 4 * self.timeout
        self.kubectl(
            "rollout", "status", f"deployment/{deployment}", f"--timeout={seconds}s", seconds=seconds + 30
        )

    def main(self, unit: str) -> str:
        """Return the main process of a unit."""
        return self.do("systemctl", "show", unit, "-p", "MainPID", "--value")


class VirtualNode(Virtual, Kubernetes):
    """A node with a kernel of its own: cgroup v2, devices that come and go, AppArmor. Its files come in BOARD/files."""

    has_events = True

    def _boot(self) -> None:
        super()._boot()
        if self.call("test", "-e", "/etc/kubernetes").returncode:
            self.do("cp", "-a", f"{BOARD}/files/.", "/", timeout=self.timeout)
            self.do("systemctl", "daemon-reload")
            self.do("systemctl", "start", "network-up", *_UNITS)
        self.wait_for_pods()


class Node(Machine, Kubernetes):
    """A node on this kernel, with ``directory / "board"`` at BOARD."""

    init = _INIT + _SETTLE
    timeout = 240

    def _make_cgroups(self) -> None:
        self.layout = LAYOUT
        super()._make_cgroups()

    def _boot(self) -> None:
        is_v1 = LAYOUT == "v1"
        environ = {
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "0" if is_v1 else "1",
            "SYSTEMD_NSPAWN_LOCK": "0",
            "SYSTEMD_SECCOMP": "0",
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1",
        }
        legacy = ("SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "systemd.unified_cgroup_hierarchy=0")
        command = Box.command(
            self,
            "systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--directory=/mnt/root", "--boot",
            "--private-network", "--capability=all", "--system-call-filter=@known", "--console=pipe",
            "--machine=node1", "--bind=/dev/fuse", "--bind=/dev/kmsg", f"--bind={self.directory}/board:{BOARD}",
            *(legacy if is_v1 else ()), environ=environ,
        )  # fmt: skip
        self._start_nspawn(command)
        self.wait_for_pods()

    def command(self, *arguments: str, user: int = 0, environ: dict[str, str] | None = None) -> list[str]:
        """Return the command line that runs a command on the node."""
        assert not user
        base = {"PATH": STANDARD_PATH, "HOME": "/root"}
        settings = [f"{key}={value}" for key, value in {**base, **(environ or {})}.items()]
        return [
            "nsenter", "-t", self._first, "-r", "-m", "-p", "-n", "-u", "-i", "-C", "--",
            "sh", "-c", _ENTER, "sh", "env", "-i", *settings, *arguments,
        ]  # fmt: skip
