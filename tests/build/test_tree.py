"""The repository is as its documents say: tree, commands, sizes of files and lines, headers, version."""

import re

import fusedrop as fd
import pytest
from repository import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDERS = ("csrc", "python", "tests", "bench", "examples")
SOURCE_SUFFIXES = {".py", ".pyi", ".cpp", ".hpp", ".inl", ".cu", ".cuh"}
MAX_LINES, MAX_COLUMNS = 400, 120


def sources(*folders):
    files = (p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file())
    return sorted(p for p in files if p.suffix in SOURCE_SUFFIXES)


def relative(path):
    return path.relative_to(ROOT).as_posix()


# --- README's tree


def fenced_blocks(text):
    return re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


SUFFIXES_IN_TREE = "py|pyi|typed|cpp|hpp|inl|cuh?|md|toml|txt|json|ya?ml"


def looks_like_a_path(word):
    """`csrc/`, `core/mask.hpp`, `.clang-format`, `test_<topic>.py`; not `e.g.` or `0.1.0`."""
    return bool(
        re.fullmatch(r"[\w.<>{},*/-]+/", word)
        or re.fullmatch(rf"[\w<>{{}},*/-]+\.({SUFFIXES_IN_TREE})", word)
        or re.fullmatch(rf"\.(?!({SUFFIXES_IN_TREE})$)[a-z][\w./-]*", word)
    )


def expand(name):
    """Glob patterns for a name: `<topic>` stands for anything, `{a,b}` for each of its words."""
    name = re.sub(r"<\w+>", "*", name)
    braces = re.search(r"\{([^{}]*)\}", name)
    if not braces:
        return [name]
    head, tail = name[: braces.start()], name[braces.end() :]
    return [full for word in braces[1].split(",") for full in expand(head + word.strip() + tail)]


def tree_names(block):
    """(folder, pattern) for every path in a tree drawn by indentation or box characters."""
    open_folders = []  # (indentation, path) from the outermost to the innermost
    for line in block.splitlines():
        plain = re.sub(r"[│├└─]", " ", line)
        words = [w.strip(",;:()").rstrip(".") for w in plain.replace(", ", "  ").split()]
        if not words:
            continue
        indent = len(plain) - len(plain.lstrip())
        while open_folders and open_folders[-1][0] >= indent:
            open_folders.pop()
        folder = open_folders[-1][1] if open_folders else ""
        if words[0].endswith("/"):
            open_folders.append((indent, folder + words[0]))
            yield from ((folder, pattern) for pattern in expand(words[0]))
            folder, words = folder + words[0], words[1:]
        for word in filter(looks_like_a_path, words):
            yield from ((folder, pattern) for pattern in expand(word))


def exists_in_tree(folder, pattern):
    """Whether a path matches in the line's own folder, in a folder that contains it, or at the root."""
    place = ROOT / folder
    while True:
        if any(place.glob(pattern.rstrip("/"))):
            return True
        if place == ROOT:
            return False
        place = place.parent


def readme_tree():
    blocks = [b for b in fenced_blocks(README) if "csrc/" in b and "tests/" in b]
    assert len(blocks) == 1, f"README must have one tree with csrc/ and tests/; got {len(blocks)}"
    return list(tree_names(blocks[0]))


def test_readme_tree_names_only_what_exists():
    names = readme_tree()
    assert len(names) >= 15, f"the tree names too few paths to be a guide: {names}"
    missing = [folder + pattern for folder, pattern in names if not exists_in_tree(folder, pattern)]
    assert not missing, f"README's tree names what does not exist: {missing}"


@pytest.mark.parametrize("folder", [*FOLDERS, "docs"])
def test_readme_tree_names_every_top_folder(folder):
    named = [pattern for _, pattern in readme_tree()]
    assert any(pattern.startswith(f"{folder}/") for pattern in named)


BY_INDENTATION = """
pyproject.toml  gone.toml
csrc/
  core/   philox.hpp, lost_{a,b}.hpp: for .cpp and .cu
void/
"""
BY_BOXES = """
├── pyproject.toml, gone.toml
├── csrc/
│   └── core/   (philox.hpp, lost_{a,b}.hpp)
└── void/
"""


@pytest.mark.parametrize("drawn", [BY_INDENTATION, BY_BOXES], ids=["indentation", "boxes"])
def test_tree_reader_sees_a_missing_file(drawn):
    names = list(tree_names(drawn))
    missing = [folder + pattern for folder, pattern in names if not exists_in_tree(folder, pattern)]
    assert missing == ["gone.toml", "csrc/core/lost_a.hpp", "csrc/core/lost_b.hpp", "void/"]


# --- README's commands


@pytest.mark.parametrize(
    ("variable", "command"),
    [
        ("TEST_COMMAND", "pip install '.[test]' && pytest"),
        ("DEMO_COMMAND", "pip install '.[demo]' && fusedrop demo"),
    ],
)
def test_readme_commands_are_those_that_ci_runs(variable, command):
    lines = [line.split("  #")[0].strip() for b in fenced_blocks(README) for line in b.splitlines()]
    assert command in lines, f"README must show, on a line of its own: {command}"
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert f'{variable}="{command}"\n' in script
    assert re.search(rf'^ +(\w+=\S+ )*in_venv \w+ "\${variable}\b', script, flags=re.MULTILINE)


# --- files


def test_no_source_file_is_long():
    files = sources(*FOLDERS)
    assert len(files) >= 30
    lengths = {relative(p): len(p.read_text(encoding="utf-8").splitlines()) for p in files}
    too_long = {name: n for name, n in lengths.items() if n > MAX_LINES}
    assert not too_long, f"at most {MAX_LINES} lines a file"


def test_no_line_is_long():
    files = [*sources(*FOLDERS), ROOT / "CMakeLists.txt", *(ROOT / "csrc").rglob("CMakeLists.txt")]
    files += (ROOT / "bench").rglob("*.sh")
    too_long = []
    for path in files:
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        too_long += [f"{relative(path)}:{number}" for number, line in lines if len(line) > MAX_COLUMNS]
    assert not too_long, f"at most {MAX_COLUMNS} columns a line"


def test_every_file_in_csrc_starts_by_saying_what_it_is():
    files = [p for p in sorted((ROOT / "csrc").rglob("*")) if p.is_file() and p.suffix != ".pyc"]
    assert len(files) >= 15
    comment = re.compile(r"(?://+|/\*+|#!?(?!pragma|include|define|if)|\"\"\")\s*(?P<words>\S.*)")
    silent = []
    for path in files:
        with path.open(encoding="utf-8") as lines:
            match = comment.fullmatch(next(lines, "").rstrip())
        if not match or len(match["words"].split()) < 2:
            silent.append(relative(path))
    assert not silent, f"the first line must be a comment that says what the file is: {silent}"


# --- version


def changelog_version():
    """Of the top entry: `## [0.1.0] - date`, or `## [Unreleased] - 0.1.0` before the release."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    top = re.search(r"^## \[([^\]]+)\] - (\S+)$", text, flags=re.MULTILINE)
    assert top, "CHANGELOG.md has no entry of the form '## [version] - date'"
    return top[2] if top[1] == "Unreleased" else top[1]


def pyproject_version():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = re.search(r"^\[project\]$(.*?)(?=^\[|\Z)", text, flags=re.DOTALL | re.MULTILINE)
    assert project, "pyproject.toml has no [project] table"
    version = re.search(r'^version *= *"([^"]+)"', project[1], flags=re.MULTILINE)
    assert version, "pyproject.toml must state the version in [project]"
    return version[1]


def test_one_version_everywhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+", fd.__version__)
    assert fd.__version__ == pyproject_version() == changelog_version()
