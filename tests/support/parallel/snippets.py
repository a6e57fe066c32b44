"""Runs the Python snippets of a Markdown file, in their order, as one script in each rank."""

import re
from pathlib import Path

from parallel import ranks


def run(arguments):
    (path,) = arguments
    text = Path(path).read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    namespace = {}
    for snippet in snippets:
        exec(compile(snippet, path, "exec"), namespace)
    return len(snippets)


if __name__ == "__main__":
    ranks.main(run)
