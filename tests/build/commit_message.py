"""Checks the form of a commit message: python tests/build/commit_message.py FILE, or - for standard input.

The subject has 1 to 72 characters and no full stop at its end; the second line is blank. pre-commit's commit-msg hook
runs this on every new message, and a whole commit can be checked with

    git log -1 --format=%B | python tests/build/commit_message.py -

Comment lines and what follows git's scissors line are no part of a message. The subject of a fixup!, squash! or amend!
commit repeats another subject and disappears with a rebase, so that its length is not checked.
"""

from __future__ import annotations

import sys
from pathlib import Path

MAX_SUBJECT = 72
SCISSORS = "# ------------------------ >8 ------------------------"
TEMPORARY = ("fixup! ", "squash! ", "amend! ")


def message_lines(text: str) -> list[str]:
    """The lines that git stores: without comments, without blank lines at the start."""
    lines = [line.rstrip() for line in text.partition(SCISSORS)[0].splitlines() if not line.startswith("#")]
    while lines and not lines[0]:
        lines.pop(0)
    return lines


def problems(text: str) -> list[str]:
    """One line for each rule that the message breaks."""
    lines = message_lines(text)
    if not lines:
        return ["the message is empty"]
    subject, found = lines[0], []
    if len(subject) > MAX_SUBJECT and not subject.startswith(TEMPORARY):
        found.append(f"the subject must have at most {MAX_SUBJECT} characters; got {len(subject)}: {subject}")
    if subject.endswith((".", "。")):
        found.append(f"the subject must not end with a full stop; got: {subject}")
    if len(lines) > 1 and lines[1]:
        found.append(f"the second line must be blank; got: {lines[1]}")
    return found


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit("usage: commit_message.py FILE, or - for standard input")
    text = sys.stdin.read() if sys.argv[1] == "-" else Path(sys.argv[1]).read_text(encoding="utf-8")
    found = problems(text)
    for line in found:
        print(f"commit message: {line}", file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
