"""A mutant: one change of a source file that the tests must notice."""

from typing import NamedTuple


class Mutant(NamedTuple):
    name: str
    file: str  # path from the repository's root
    old: str  # text that stands exactly once in the file
    new: str  # replaces it
    killer: str  # the tests that must fail, as arguments of pytest; "build" where the compiler must refuse
