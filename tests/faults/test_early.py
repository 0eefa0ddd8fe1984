"""Ctrl-C before the command line is there to hear it."""

import os
import subprocess
import sys

import pytest

from tests.repro import toy

INTERRUPTED = """\
import os, signal
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("module", ["repro", "c3l"])
def test_ctrl_c_while_it_starts_makes_no_traceback(tmp_path, record_fault, module):
    (tmp_path / "typer.py").write_text(INTERRUPTED)
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", module, "--help"]
    with record_fault("stop", f"SIGINT while `python -m {module}` starts"):
        done = subprocess.run(
            command, env=env, cwd=toy.ROOT, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
