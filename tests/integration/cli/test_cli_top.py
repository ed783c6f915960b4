"""`stepwave top`: what a server does now, once or live."""

import fcntl
import json
import os
import pty
import signal
import struct
import termios

import pytest

from integration.cli.shell import RunningCommand, Shell, serving


def _wait_until_running(run: RunningCommand) -> None:
    run.wait_for_error("holding")


def test_one_picture_shows_the_attempts_of_each_action() -> None:
    with serving("--actions", "tools") as (address, _):
        shell = Shell(address)
        with shell.start("run", "flows/holding.yaml") as run:
            _wait_until_running(run)
            done = shell.run("top", "--once", COLUMNS="100")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{address}  local, memory")
    assert lines[1].startswith("1 run  1 attempt of 1,000 in flight  0 queued  1 stream")
    assert lines[3].split() == ["ACTION", "in", "flight", "queued"]
    assert lines[4].split()[1:3] == ["1", "0"]


@pytest.mark.parametrize("columns", ["60", "100"])
def test_a_picture_fits_the_width(columns: str) -> None:
    with serving() as (address, _):
        done = Shell(address).run("top", "--once", COLUMNS=columns)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= int(columns)


def test_json_has_the_numbers_of_the_server() -> None:
    with serving() as (address, _):
        done = Shell(address).run("top", "--once", "--output", "json")
    stats = json.loads(done.stdout)
    assert (stats["runs_in_flight"], stats["actions"], stats["commits"]) == (0, [], None)
    assert stats["time"].endswith("Z")


def test_json_repeats_in_lines_until_an_interrupt() -> None:
    with (
        serving() as (address, _),
        Shell(address).start("top", "--output", "json", "--interval", "10ms") as top,
    ):
        first, second = top.wait_for_output("runs_in_flight"), top.wait_for_output("runs_in_flight")
        top.process.send_signal(signal.SIGINT)
        code, _, err = top.end()
    assert json.loads(first)["time"] < json.loads(second)["time"]
    assert (code, err) == (0, "")


def test_without_a_server_it_says_how_to_start_one() -> None:
    done = Shell("127.0.0.1:1").run("top")
    assert done.returncode == 3
    assert "no server at 127.0.0.1:1" in done.stderr


def test_the_live_view_redraws_until_an_interrupt() -> None:
    controller, user_end = pty.openpty()
    fcntl.ioctl(user_end, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 80, 0, 0))
    with (
        serving() as (address, _),
        Shell(address).start("top", "--interval", "10ms", stderr=user_end, TERM="xterm-256color") as top,
    ):
        os.close(user_end)
        drawn = ""
        while drawn.count("no attempts") < 3:
            drawn += os.read(controller, 65_536).decode()
        top.process.send_signal(signal.SIGINT)
        code, out, _ = top.end()
    os.close(controller)
    assert (code, out) == (0, "")
    assert address in drawn
