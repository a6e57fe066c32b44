"""Digests of some thousand results: they prove that a change of the sources changed no bit of any result.

    python tests/support/digest.py --out old.txt         with the package as it was before the change
    python tests/support/digest.py --compare old.txt     with the package after it

A line is a key and the sha256 of the bits of a result, such as

    avx2/linear/f32/M61K131N151/gelu,p=.5,input_p=.1/dx 5b0c...

sorted by key. Lines of two machines can't be compared: instruction sets and libraries differ. The digest imports the
installed fusedrop. Each case runs on one thread and on two, and must give the same bits.

With --errors it makes some hundred wrong calls instead. A line is then a key, the type of the exception and the sha256
of its text; --texts FILE writes the texts themselves, so that changed words can be read.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # busy waiting is slow where other processes run
sys.path.insert(0, str(Path(__file__).resolve().parent))

from digests import api, runner
from digests.errors import outcomes


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", nargs="+", choices=api.isas(), help="instruction sets; default: all of this CPU")
    parser.add_argument("--topic", nargs="+", choices=runner.TOPICS, help="topics; default: all")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the lines there, not to stdout")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="list the differences from an earlier --out")
    parser.add_argument("--allow-added", action="store_true", help="a new key is no difference: there are new cases")
    parser.add_argument("--errors", action="store_true", help="wrong calls instead of results")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="with --errors: write the texts there")
    return parser.parse_args()


def main():
    """Runs the digest; the exit status is 1 if a comparison finds a difference."""
    chosen = arguments()
    if chosen.errors:
        found = outcomes.lines()
        if chosen.texts is not None:
            chosen.texts.write_text("".join(f"{key}\n    {text}\n" for key, text in sorted(outcomes.texts().items())))
    else:
        found = runner.lines(chosen.topic or runner.TOPICS, chosen.isa or api.isas())
    text = "".join(f"{key} {found[key]}\n" for key in sorted(found))
    if chosen.out is not None:
        chosen.out.write_text(text)
    elif chosen.compare is None:
        print(text, end="")
    print(f"digest: {len(found)} lines", file=sys.stderr)
    return 0 if chosen.compare is None else compare(read(chosen.compare, chosen), found, chosen.allow_added)


def read(path, chosen):
    """{key: value} of the lines of an earlier run that this run makes too."""
    lines = (line.partition(" ") for line in path.read_text().splitlines())
    return {key: value for key, _, value in lines if is_chosen(key, chosen)}


def is_chosen(key, chosen):
    """Whether this run makes the line of the key."""
    if chosen.errors:
        return True
    isa, topic = key.split("/")[:2]
    isas, topics = chosen.isa or api.isas(), chosen.topic or runner.TOPICS
    return topic in topics and (isa == "any" or isa in isas)


def compare(old, new, allow_added):
    """Prints the differences; returns the exit status."""
    missing, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    differing = sorted(key for key in old.keys() & new.keys() if old[key] != new[key])
    for name, keys in (("missing", missing), ("added", added), ("differs", differing)):
        for key in keys:
            print(f"{name}: {key}")
    print(f"digest: {len(missing)} missing, {len(added)} added, {len(differing)} differing", file=sys.stderr)
    return 1 if missing or differing or (added and not allow_added) else 0


if __name__ == "__main__":
    sys.exit(main())
