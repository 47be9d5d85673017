"""The sweep in a real terminal: what is drawn, and how it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from typing import Any

import pytest

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A process on a pseudo terminal of `columns` x `lines`, which is also its controlling terminal."""

    def __init__(self, lab: Any, columns: int, lines: int, *args: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", sys.executable, "-m", "lab", *args],
            cwd=lab.home,
            env={**environment, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.text = ""

    def read_until(self, text: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while text not in ANSI.sub("", self.text):
            assert time.monotonic() < deadline, self.text
            if not self.read():
                pytest.fail(f"{text!r} was never drawn: {self.text}")

    def read(self) -> bool:
        """Take what has come; return whether there may be more."""
        if not select.select([self.master], [], [], 0.2)[0]:
            return True
        try:
            found = os.read(self.master, 65536).decode(errors="replace")
        except OSError:  # Linux's end of a pseudo terminal
            found = ""
        self.text += found
        return bool(found)

    def finish(self) -> int:
        while self.read():
            pass
        return self.process.wait(120)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs util-linux")
@pytest.mark.parametrize("size", [(80, 24), pytest.param((120, 40), marks=pytest.mark.slow)])
def test_a_live_table_and_ctrl_c(lab: Any, size: tuple[int, int]) -> None:
    terminal = Terminal(lab, *size, "sweep", "tiny.yaml", "--workers", "2", "--set", "epochs=5000")
    terminal.read_until("checking every cell and the data")
    terminal.read_until("2/5000")
    for text in ("worker", "trial", "val_accuracy", "tiny: 0/3 done; 2 running, 1 waiting, 0 failed"):
        terminal.read_until(text)  # the second worker may begin long after the first
    os.write(terminal.master, b"\x03")
    terminal.read_until("Stopping: trials checkpoint and return to the queue.")
    assert terminal.finish() == 130
    assert "Traceback" not in terminal.text
    end = ANSI.sub("", terminal.text.rpartition("\x1b[?25h")[2])  # after the cursor is shown again
    assert "outcome" in end
    assert "…" not in end
    assert "Continue with: lab sweep tiny.yaml --workers 2 --set epochs=5000" in end
    assert all(len(line.rstrip("\r")) <= size[0] for line in end.split("\n") if "Browse" not in line)
    assert set(lab.runs("tiny")["status"]) == {"KILLED"}
