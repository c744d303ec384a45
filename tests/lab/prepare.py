"""The files a guest boots from: its disk, its share, its kernel's command line."""

import json
import secrets
import shutil
from pathlib import Path

from lab.places import INSIDE, Places
from lab.plan import CONTROLLER, SWITCH_GUEST, GuestPlan, LabPlan, address, guest_name, mac
from lab.switch import command

MODULES = (
    "8021q macvlan veth bridge br_netfilter ip_tables iptable_filter iptable_nat nf_nat "
    "xt_MASQUERADE xt_conntrack xt_addrtype af_packet nf_tables"
)


def keypair(path: Path, comment: str) -> None:
    if not path.exists():
        command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def lab_files(places: Places, plan: LabPlan) -> None:
    """What all guests share; then each guest's own, and how to reach them by ssh."""
    keypair(places.run / "id_ed25519", "lab")
    for guest in plan.guests:
        _guest_files(places, plan, guest)
    _ssh_files(places.run, [g.number for g in plan.guests if g.number != SWITCH_GUEST])


def _guest_files(places: Places, plan: LabPlan, guest: GuestPlan) -> None:
    directory = places.run / guest.name
    share = directory / "share"
    (share / "x").mkdir(parents=True)
    if guest.disk:
        disk = directory / "disk.img"
        command(["truncate", "-s", guest.disk, str(disk)])
        options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
        command(["mkfs.ext4", "-q", "-F", "-E", options, "-m", "0", str(disk)])
    keypair(share / "ssh_host_ed25519_key", guest.name)
    shutil.copy(INSIDE / "courier.py", share)
    shutil.copy(INSIDE / "init.sh", share)
    shutil.copy(places.run / "id_ed25519.pub", share / "authorized_keys")
    (share / "machine-id").write_text(secrets.token_hex(16) + "\n")
    names = [f"{address(g.number)} {g.name}" for g in plan.guests if g.number != SWITCH_GUEST]
    lines = ["127.0.0.1 localhost", f"{CONTROLLER} controller", *names]
    (share / "hosts").write_text("\n".join(lines) + "\n")
    (share / "guest.env").write_text("".join(f"{k}='{v}'\n" for k, v in _environment(places, guest).items()))


def _environment(places: Places, guest: GuestPlan) -> dict[str, str]:
    return {
        "NAME": guest.name,
        "INIT": guest.init,
        "CGROUP": guest.cgroup,
        "SHARE": str(places.run / guest.name / "share"),
        "DISK": "ubda" if guest.disk else "",
        "MOUNTS": " ".join(guest.mounts),
        "MODULE_DIR": str(places.modules),
        "MODULES": MODULES,
        "MGMT_IP": address(guest.number),
        "MGMT_MAC": mac("mgmt", guest.number),
        "TRUNK_MAC": mac("trunk", guest.number),
        "SWITCH_PORTS": str(len(guest.nics)) if guest.number == SWITCH_GUEST else "",
    }


def _ssh_files(run: Path, hosts: list[int]) -> None:
    known = []
    config = [
        f"Host h* 10.200.0.*\n  User root\n  IdentityFile {run}/id_ed25519\n  IdentitiesOnly yes",
        f"  UserKnownHostsFile {run}/known_hosts\n  StrictHostKeyChecking yes\n  ConnectTimeout 5",
    ]
    inventory = ["[hosts]"]
    for i in hosts:
        key = (run / guest_name(i) / "share/ssh_host_ed25519_key.pub").read_text().split()[:2]
        known.append(f"{address(i)},{guest_name(i)} {' '.join(key)}")
        config.append(f"Host {guest_name(i)}\n  HostName {address(i)}")
        inventory.append(f"{guest_name(i)} ansible_host={address(i)}")
    inventory += [
        "[hosts:vars]",
        "ansible_user=root",
        "ansible_python_interpreter=/usr/bin/python3",
        f"ansible_ssh_common_args=-F {run}/ssh_config",
    ]
    for name, lines in (("known_hosts", known), ("ssh_config", config), ("inventory.ini", inventory)):
        (run / name).write_text("\n".join(lines) + "\n")


def kernel_argv(places: Places, guest: GuestPlan) -> list[str]:
    """{console} and {line} become file descriptors in the runner."""
    directory = places.run / guest.name
    argv = [
        str(places.kernel),
        f"mem={guest.memory}",
        "root=/dev/root",
        "rootfstype=hostfs",
        f"rootflags={places.rootfs}",
        "ro",
        "quiet",
        "selinux=0",
        "apparmor=0",
        "init=/sbin/lab-init",
        f"umid={guest.name}",
        f"uml_dir={places.run}/uml",
        "con=null",
        "con0=null,fd:{console}",
        "ssl0=fd:{line}",
        "ssl=null",
        f"lab.share={directory}/share",
    ]
    for n, (tap, hardware) in enumerate(guest.nics):
        argv.append(f"vec{n}:transport=tap,ifname={tap},depth=128,gro=1,mac={hardware}")
    if guest.disk:
        argv.append(f"ubd0={directory}/disk.img")
    if guest.init == "systemd":
        unified = "1" if guest.cgroup == "v2" else "0"
        argv += [f"systemd.unified_cgroup_hierarchy={unified}", "systemd.show_status=0"]
    return argv


def runner_config(places: Places, guest: GuestPlan) -> Path:
    path = places.run / guest.name / "runner.json"
    config = {
        "number": guest.number,
        "directory": str(path.parent),
        "argv": kernel_argv(places, guest),
        "writable": [str(places.run), "/dev/shm"],
    }
    path.write_text(json.dumps(config, indent=1))
    return path
