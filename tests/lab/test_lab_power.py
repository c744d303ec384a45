"""Guests die, freeze and come back, as machines do."""

import time

import pytest
from lab.errors import GuestGone, NoAnswer
from lab.fabric import Lab

pytestmark = pytest.mark.lab


def test_power_loss_keeps_what_was_synced(pair: Lab) -> None:
    guest = pair.host(2)
    guest.write("/etc/lab/boot", "#!/bin/sh\ncp /proc/sys/kernel/random/boot_id /root/booted\n", 0o755)
    guest.write("/root/kept", "kept")
    identity, before = guest.read("/etc/machine-id"), guest.boot_id
    guest.kill()
    assert not guest.running
    guest.start()
    assert guest.read("/root/kept") == b"kept"
    assert guest.read("/etc/machine-id") == identity
    assert guest.boot_id != before
    assert guest.ok("until [ -s /root/booted ]; do sleep 0.05; done; cat /root/booted").strip() == guest.boot_id


def test_an_orderly_reboot(pair: Lab) -> None:
    guest = pair.host(2)
    before = guest.boot_id
    guest.reboot()
    assert guest.boot_id != before
    assert guest.ok(["hostname"]) == "h2\n"


def test_a_frozen_guest_answers_when_thawed(pair: Lab) -> None:
    guest = pair.host(2)
    guest.freeze()
    for _ in range(40):  # more than its serial line could hold if they were all sent
        with pytest.raises(NoAnswer):
            guest.run(["true"], timeout=0.02)
    guest.thaw()
    assert guest.ok(["echo", "back"], timeout=20) == "back\n"


def test_a_command_learns_of_its_guest_s_death(pair: Lab) -> None:
    guest = pair.host(2)
    guest.daemon("killer", ["sh", "-c", "sleep 0.3; reboot -f"])
    with pytest.raises(GuestGone):
        guest.run(["sleep", "30"])
    guest.wait()


def test_exec_keeps_status_and_both_streams_apart(pair: Lab) -> None:
    result = pair.host(1).run("cat; echo oops >&2; exit 7", stdin=b"\x00in")
    assert (result.status, result.stdout, result.err) == (7, b"\x00in", "oops\n")
    assert pair.host(1).run(["/no/such/program"]).status == 127
    big = pair.host(1).run("head -c 3000000 /dev/zero")
    assert len(big.stdout) == 3_000_000


def test_a_daemon_survives_its_start_and_is_stopped_by_pid(pair: Lab) -> None:
    guest = pair.host(1)
    pid = guest.daemon("sleeper", ["sh", "-c", "echo hello; exec sleep 1000"])
    assert guest.daemon_pid("sleeper") == pid
    began = time.monotonic()
    guest.stop_daemon("sleeper")
    assert time.monotonic() - began < 5
    assert not guest.daemon_running("sleeper")
    assert guest.daemon_log("sleeper") == "hello\n"


def test_the_checkout_is_seen_but_cannot_be_written(pair: Lab) -> None:
    guest, here = pair.host(1), __file__
    assert guest.ok(["sha256sum", here]).startswith(pair.run_in_switch(["sha256sum", here]).split()[0])
    assert guest.run(["touch", here]).status != 0
    # a mount of its own must not get around it
    sneak = f"mkdir -p /sneak; mount -t hostfs -o {pair.places.work.parent} none /sneak && touch /sneak/intruder"
    assert guest.run(sneak).status != 0
    assert not (pair.places.work.parent / "intruder").exists()
