"""The C++ sources: no function has more parameters than a reader can keep in mind.

There is no C++ parser here. The sources are clang-formatted, so a parameter reads `type name`, with `*` and `&` at the
type, and an argument of a call does not.
"""

import re

import pytest
from repository import ROOT

MAX_PARAMETERS = 6
SUFFIXES = {".cpp", ".hpp", ".inl", ".cu"}

NOT_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])*\'|^[ \t]*#(?:\\\n|[^\n])*',
    re.DOTALL | re.MULTILINE,
)
WORD = r"[A-Za-z_]\w*"
NAME = rf"(?:::)?{WORD}(?:::{WORD})*(?:<.*>(?:::{WORD})*)?"
TYPE = rf"(?:(?:const|typename|unsigned|struct|enum|class) )*{NAME}(?: const)?"
PARAMETER = re.compile(
    rf"{TYPE}(?:\.\.\.|(?:\*+(?: ?const| __restrict)?)?&{{0,2}})"  # a type
    rf"(?: (?:__restrict )?{WORD}(?:\[[^\]]*\])*)?"  # and a name
    rf"|{TYPE}[*&]* \([*&]\w*\)(?:\(.*\)|\[.*\])"  # a pointer to a function, or a reference to an array
)
UNNAMED = re.compile(r"bool|int|float|double|char|size_t|[iu]\d+|.*[*&>]|.*::.*")  # `f(a, b)` is a call


def code_of(text):
    """The text without comments, strings and directives. Lines keep their numbers."""
    return NOT_CODE.sub(lambda found: "\n" * found[0].count("\n"), text)


def items(inside):
    """The parts of a list between commas, each on one line, without default values."""
    depth, start, found = 0, 0, []
    for i, c in enumerate(inside):
        opens = c in "([{" or (c == "<" and re.match(r"\w<[^<= ]", inside[i - 1 : i + 2]))
        closes = c in ")]}" or (c == ">" and depth > 0 and inside[i - 1] not in " -")
        depth += bool(opens) - bool(closes)
        if c == "," and depth == 0:
            found.append(inside[start:i])
            start = i + 1
    found.append(inside[start:])
    return [re.sub(r" ?= .*", "", " ".join(part.split())) for part in found]


def is_parameter(item):
    """Whether this reads as a parameter of a function, and not as an argument of a call."""
    if not PARAMETER.fullmatch(item):
        return False
    return bool(re.search(r"[\w>*&] (?:__restrict )?\w+(?:\[[^\]]*\])*$|\(", item)) or bool(UNNAMED.fullmatch(item))


def parameter_lists(text):
    """(line number, parameters) of every list: functions, constructors, lambdas, pointers to functions."""
    code, opened = code_of(text), []
    for i, c in enumerate(code):
        if c == "(":
            opened.append(i)
        elif c == ")" and opened:
            begin = opened.pop()
            found = items(code[begin + 1 : i])
            if all(is_parameter(item) for item in found):
                yield code.count("\n", 0, begin) + 1, found


@pytest.mark.parametrize("folder", ["bind", "core", "cpu", "cuda"])
def test_functions_have_few_parameters(folder):
    long, lists = [], 0
    for path in sorted((ROOT / "csrc" / folder).rglob("*")):
        if path.suffix in SUFFIXES:
            for line, found in parameter_lists(path.read_text(encoding="utf-8")):
                lists += 1
                if len(found) > MAX_PARAMETERS:
                    long.append(f"{path.relative_to(ROOT).as_posix()}:{line}: {len(found)}: {', '.join(found)}")
    assert lists >= 50
    assert not long, f"more than {MAX_PARAMETERS} parameters:\n" + "\n".join(long)


LISTS = """
template <class S, Order order, int R, class T = acc_t<S>>
void run(i64 depth, const T* __restrict a, View<S, 3> v, T (&values)[kRunning], void (*body)(int, void*)) const;
Sink(const Args& args, std::vector<std::pair<int, int>> pairs = {{1, 2}, {3, 4}}) : args_(args), b(args, pairs) {}
auto f = [&](i64 b, i64, const Range& rows) { return g(b, rows.begin * 2, a < c, d > e); };  // h(int a, int b)
using Epilogue = void (*)(Sink&, i64 i, unsigned long rows);
call(a, b, c * d, e.f, "int a, int b", nullptr, g(h));
"""


def test_lists_are_seen():
    assert [len(found) for _, found in parameter_lists(LISTS)] == [2, 5, 2, 3, 3]
