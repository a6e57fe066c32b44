"""What git tracks: folders of a size to look through, and one word for one thing. docs/style.md has the words."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import PurePosixPath

import pytest
from repository import ROOT

MAX_FILES = 12

# Where the old words are quoted: the table of changes, the words themselves, the decision, and this file.
QUOTING = re.compile(
    r"CHANGELOG\.md|docs/style\.md|docs/decisions/interface/001[78]-[\w-]+\.md|tests/build/test_tracked_files\.py"
)

OLD_WORDS = {
    # C++
    r"\bsum_of\b|types? of the sums?\b": "acc_t, accumulator type",
    r"\bKeeper\b|\bkeep\.hpp": "MaskBits, mask_bits.hpp",
    r"\bkept\.hpp|\bargs\.kept\b|\bkept_columns\b|\bKept[&{]": "ActiveColumns, active_columns.hpp",
    r"\benum (class )?(Saved|Keeps)\b|\bKeeps::": "SavedKind",
    r"\b(Forward|Store)Sink\b|\bBufferLayout\b|\bGradientPacker\b": "EpilogueSink, GradientSink, Workspace, DzPacker",
    r"\b(Waiting|Blocking)([&{]| [a-z]\w* ?[=({;,)]| \{)|\barrange\(": "PartialSums, BlockSizes, plan",
    r"\bfinish(_octet)?\(|\bfinish\.hpp|\bfinish_octet\b": "epilogue, epilogue_vec8",
    r"\b[Oo]ctets?\b": "vec8",
    r"\bpacks? of lanes\b|\bSIMD packs?\b": "vector",
    r"\bLoan\b|\bborrow(s|ed|ing)?\b|\bviewed\(|\btaken\(": "DLPackTensor, import_dlpack, as_array",
    r"\bhold_back\b|\bMoment\b|\bHeld\b": "Event::wait, defer_release",
    r"\b(bool|const) before\b|\b(args|form|group|layer|options|saved)\.before\b|\bbefore=(True|False)": "dropout_first",
    # Python
    r"\bdropout_before_activation\b": "dropout_first",
    r"\binput_dropout\b": "input_p",
    r"\bkept_(inputs|outputs)\b": "active_inputs, active_outputs",
    r"\bforward_known\b": "forward_sparse",
    r"\bunwatched\b|\bwatched_linear\b": "can_bypass_dispatcher, dispatched_linear",
    r"\blinear_below\b": "without_autograd",
    r"\blinear_cpu\b|\blinear_saving\b": "linear_impl, linear_forward",
    r"\b(Conv2d|LSTM|Pool)Saved\b|\brestore_saved\b|\b(fd|_core|_cuda|reference)\.Saved\b": "...Context",
    r"\buse_(isa|tf32)\b|\bfd\.(isa|tf32|get_num_threads|set_num_threads)\b": "fd.config",
    r"\bfd\.(SGD|Adam|Trainer|EarlyStopping|History|penalty|\w+Schedule|split_validation)\b": "fd.training",
    # masks have keys
    r"\bMask_?Name\b|\bNO_NAME\b|\bno_name\b|\bmask_name\b|\bname_masks\b|\bnamed\(\)": "MaskKey, no_key, mask_key",
    r"\b[Mm]asks?(['’]s?)? names?\b|\bnames? of (a|the|this|that|its|each|one|another) masks?\b": "mask key",
    r"\bnam(es|ed|ing) (a|the|its|one|no|this|that|another) masks?\b": "is the key of a mask",
    # CUDA kernels verify themselves
    r"\bgpu_gate\b|\bFUSEDROP_CUDA_UNPROVED\b|\b[Uu]nproved\b|\bcuda[./]paths\b|\bCUDA paths?\b": "verified",
    # documentation
    r"\b[Ll]etters\b": "notation",
    r"\boptimis(er|ers|e|ed|ation)\b|\bpenalis|\binitialis|\bbehaviour|\bcolour|\bneighbour": "American spelling",
    # files that have moved
    r"\btests/pytorch\b|\bbind_\w+\.(cpp|hpp)\b|\bmicro\.hpp\b|\blinear_(forward|backward)\.(inl|cu)\b": "the new path",
    r"\b(eager|derivatives|patching|naming|simple_layers)\.py\b|\b\w+_functions\.py\b": "the new path",
    r"-epyc-zen4\.json|\bpython3? bench/": "bench/results/epyc-zen4/, python -m bench...",
}
ONE_DEFINITION = ("Grid", "Operand", "Library", "Saved")


@pytest.fixture(scope="module")
def tracked():
    """Paths of the files that git tracks or would track, as they lie in the working tree."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        pytest.skip(f"git cannot read the checkout: {done.stderr.strip()}")
    names = {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}
    assert len(names) >= 200
    return sorted(names)


def test_no_folder_has_many_files(tracked):
    sizes = Counter(str(PurePosixPath(name).parent) for name in tracked)
    crowded = {folder: size for folder, size in sizes.items() if size > MAX_FILES}
    assert not crowded, f"at most {MAX_FILES} files a folder"


def text_of(name):
    """The text of a file, or None of a picture."""
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def old_words_in(text):
    """(line number, word, what to say instead)"""
    for pattern, instead in OLD_WORDS.items():
        for found in re.finditer(pattern, text):
            yield text.count("\n", 0, found.start()) + 1, found[0], instead


def test_the_old_words_are_gone(tracked):
    found = []
    for name in tracked:
        if not QUOTING.fullmatch(name) and (text := text_of(name)) is not None:
            found += [f"{name}:{line}: {word!r}; say {instead}" for line, word, instead in old_words_in(text)]
    assert not found, "old words:\n" + "\n".join(found)


OLD = """acc sum_of<S>; Keeper keep; args.kept; struct Waiting {; Blocking b = arrange(; finish_octet(; an octet
fd.use_isa("avx2"); rng names one mask; the mask's name; a mask’s name; MaskName(); input_dropout; group.before"""
NEW = """acc_t<S>; MaskBits; waiting for the lock; blocking call; finish the tile; before the activation; keeps x
rng is the key of a mask; the name of the activation; Philox; a letter; fd.training.SGD; torch.optim.SGD; input_p"""


def test_the_patterns_see_old_words_only():
    assert [line for line, _, _ in old_words_in(OLD)].count(1) == 8
    assert [line for line, _, _ in old_words_in(OLD)].count(2) == 7
    assert list(old_words_in(NEW)) == []


def test_a_class_has_one_definition(tracked):
    definition = re.compile(rf"\b(?:struct|class)\s+({'|'.join(ONE_DEFINITION)})\b[^;({{]*{{")
    sources = [name for name in tracked if name.startswith("csrc/") and name.endswith((".hpp", ".cpp", ".inl", ".cu"))]
    assert len(sources) >= 100
    found = [(match[1], name) for name in sources for match in definition.finditer(text_of(name))]
    repeated = {word for word, count in Counter(word for word, _ in found).items() if count > 1}
    assert not repeated, f"defined more than once: {[pair for pair in found if pair[0] in repeated]}"
