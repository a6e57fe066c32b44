"""Digests of some thousand results: a proof that a change of the sources changed no bit of them.

    python tests/support/digest.py --out before.txt         before the change, with the old package installed
    python tests/support/digest.py --compare before.txt     after it, with the new one

A line is a key and the sha256 of a result's bits, such as

    avx2/linear/f32/M61K131N151/gelu,p=.5,input_p=.1/dx 5b0c...

sorted by key. Run it on one machine: instruction sets differ, and so do the libraries of other machines. It imports
the installed fusedrop. Each case runs on one thread and on two, and must not depend on that.

With --errors it makes some hundred wrong calls instead, and a line is a key, the exception's type and the sha256 of
its text; --texts FILE writes the texts themselves, to read what a change of words did to them.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # two threads on a busy machine would wait for each other
sys.path.insert(0, str(Path(__file__).resolve().parent))

from digests import api, errors, runner


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", nargs="+", choices=api.isas(), help="instruction sets; all of this CPU's")
    parser.add_argument("--topic", nargs="+", choices=runner.TOPICS, help="topics; all")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the lines there, not to stdout")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="list what differs from an earlier --out")
    parser.add_argument("--errors", action="store_true", help="wrong calls instead of results")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="with --errors: write the texts there")
    return parser.parse_args()


def main():
    """The exit status: 1 where a comparison finds a difference."""
    chosen = arguments()
    if chosen.errors:
        found = errors.lines()
        if chosen.texts is not None:
            chosen.texts.write_text("".join(f"{key}\n    {text}\n" for key, text in sorted(errors.texts().items())))
    else:
        found = runner.lines(chosen.topic or runner.TOPICS, chosen.isa or api.isas())
    text = "".join(f"{key} {found[key]}\n" for key in sorted(found))
    if chosen.out is not None:
        chosen.out.write_text(text)
    elif chosen.compare is None:
        print(text, end="")
    print(f"digest: {len(found)} lines", file=sys.stderr)
    return compare(read(chosen.compare, chosen), found) if chosen.compare is not None else 0


def read(path, chosen):
    """{key: value} of an earlier run's lines, those of the topics and instruction sets that are chosen now."""
    lines = (line.partition(" ") for line in path.read_text().splitlines())
    return {key: value for key, _, value in lines if is_chosen(key, chosen)}


def is_chosen(key, chosen):
    """Whether this run makes the key's line."""
    if chosen.errors:
        return True
    isa, topic = key.split("/")[:2]
    isas, topics = chosen.isa or api.isas(), chosen.topic or runner.TOPICS
    return topic in topics and (isa == "any" or isa in isas)


def compare(before, after):
    """Prints what differs; 1 if anything does."""
    missing, added = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    differing = sorted(key for key in before.keys() & after.keys() if before[key] != after[key])
    for name, keys in (("missing", missing), ("added", added), ("differs", differing)):
        for key in keys:
            print(f"{name}: {key}")
    print(f"digest: {len(missing)} missing, {len(added)} added, {len(differing)} differing", file=sys.stderr)
    return 1 if missing or added or differing else 0


if __name__ == "__main__":
    sys.exit(main())
