"""The checker of commit messages takes good messages and names what is wrong with bad ones."""

import subprocess
import sys

import pytest
from repository import ROOT

CHECKER = ROOT / "tests" / "build" / "commit_message.py"

GOOD = {
    "subject": "Explain each GPU check in one line\n",
    "subject without a newline": "Explain each GPU check in one line",
    "subject of 72 characters": "x" * 72 + "\n",
    "body": "Pack w once a call\n\nThe second thread read it again: 5 % of 512x4096x1024.\n",
    "blank lines and comments first": "\n# Please enter the commit message\nPack w once a call\n\n# comment\nBody.\n",
    "comment after the subject": "Pack w once a call\n# On branch main\n# Changes to be committed:\n",
    "scissors": f"Pack w once a call\n\n# {'-' * 24} >8 {'-' * 24}\ndiff --git a/x b/x\n",
    "fixup": f"fixup! {'x' * 72}\n",
    "not ASCII": "é" * 72 + "\n",
}

BAD = {
    "empty": ("\n", "the message is empty"),
    "comments only": ("# On branch main\n", "the message is empty"),
    "subject of 73 characters": ("x" * 73 + "\n", "at most 72 characters; got 73"),
    "full stop": ("Pack w once a call.\n", "must not end with a full stop"),
    "second line": ("Pack w once a call\nBecause it was slow\n", "the second line must be blank; got: Because"),
    "second line below a comment": ("Pack w once a call\n# comment\nBecause\n", "the second line must be blank"),
}


def run(argument, text=None):
    command = [sys.executable, str(CHECKER), argument]
    return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", env={"PYTHONUTF8": "1"})


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_a_good_message_passes(text, tmp_path):
    (tmp_path / "message").write_text(text, encoding="utf-8")
    done = run(str(tmp_path / "message"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("text", "reason"), BAD.values(), ids=BAD)
def test_a_bad_message_is_refused_with_the_reason(text, reason, tmp_path):
    (tmp_path / "message").write_text(text, encoding="utf-8")
    done = run(str(tmp_path / "message"))
    assert done.returncode == 1
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_every_broken_rule_is_named():
    done = run("-", "x" * 80 + ".\nbody\n")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 3


def test_the_hook_runs_the_checker():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert f"entry: python {CHECKER.relative_to(ROOT).as_posix()}\n" in hooks
    assert "default_install_hook_types: [pre-commit, commit-msg]\n" in hooks
