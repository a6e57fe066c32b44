"""Mutants of pools, LSTMs, convolutions, and of saving them."""

from mutant import Mutant

MASKS, VALUES = "tests/mask/test_masks.py", "tests/linear/test_values.py"
CONVOLUTION, LSTM = "tests/conv2d/test_values.py", "tests/lstm/test_values.py"
RATES = "tests/layers/test_rates.py"
POOLING, SAVING = (
    "tests/pool/test_values.py",
    "tests/training/test_checkpoint.py tests/training/test_checkpoint_refusals.py",
)

LAYERS_BESIDE_LINEAR = [
    Mutant(
        "pooling: the last of equal maxima wins (avx512)",
        "csrc/cpu/pool/lanes.hpp",
        "_mm512_cmp_ps_mask(v.v, m.v, _CMP_GT_OQ)",
        "_mm512_cmp_ps_mask(v.v, m.v, _CMP_GE_OQ)",
        f"{POOLING} -k avx512",
    ),
    Mutant(
        "pooling: a NaN loses (scalar)",
        "csrc/cpu/pool/lanes.hpp",
        "return v.v > m.v || v.v != v.v;",
        "return v.v > m.v;",
        f"{POOLING} -k scalar",
    ),
    Mutant(
        "pooling: a window may start in the padding behind the image",
        "csrc/bind/pool.cpp",
        "if (ceil_mode && (out - 1) * stride >= in + padding) --out;",
        "",
        POOLING,
    ),
    Mutant(
        "pooling: a tile's planes end with its first image",
        "csrc/cpu/pool/tile.hpp",
        "at += a_.image - channels_ * a_.channel;",
        "",
        f"{POOLING} -k strides",
    ),
    Mutant(
        "saving: a resumed run starts its masks again",
        "python/fusedrop/training/checkpoint.py",
        "        mask_key.rng = rng",
        "        mask_key.rng = mask_key.rng",
        SAVING,
    ),
    Mutant(
        "saving: Ctrl-C leaves half a file behind",
        "python/fusedrop/training/checkpoint.py",
        "except BaseException:",
        "except Exception:",
        SAVING,
    ),
    Mutant(
        "rows that share a mask all take the first one's",
        "csrc/cpu/gemm/mask_bits.hpp",
        "if (r == 0 || row != drawn_row)",
        "if (r == 0)",
        f"{VALUES} {MASKS}",
    ),
    Mutant(
        "the LSTM's masks change over time",
        "csrc/bind/lstm.cpp",
        "if (time_constant) key.repeat = rows;",
        "",
        LSTM,
    ),
    Mutant(
        "the LSTM's gates share a mask of h",
        "csrc/cpu/lstm/recurrence.hpp",
        "time_steps + t, gate * cols_, divide_up",
        "time_steps + t, 0, divide_up",
        LSTM,
    ),
    Mutant(
        "the LSTM's input and forget gate swapped",
        "csrc/core/lstm_cell.hpp",
        "c = fma(s.f, c_prev, s.i * s.g);",
        "c = fma(s.i, c_prev, s.f * s.g);",
        LSTM,
    ),
    Mutant(
        "the gradient by h passes the mask by",
        "csrc/cpu/lstm/backward.inl",
        "if (!masks.keeps_all()) v = masks.drop(v, weight.words, gate, at.i + i, at.j + c);",
        "",
        LSTM,
    ),
    Mutant(
        "dw_hh of the h that was not dropped",
        "csrc/cpu/lstm/weights.inl",
        "drop_panels<NR>(of_x ? x_mask_bits : h_mask_bits, {m.begin, depth, at, n}, dst, words);",
        "if (of_x) drop_panels<NR>(x_mask_bits, {m.begin, depth, at, n}, dst, words);",
        LSTM,
    ),
    Mutant(
        "pixels at an edge miss their last tap",
        "csrc/cpu/conv2d/window_classes.hpp",
        "minimum(taps, size - first))",
        "minimum(taps, size - first - 1))",
        CONVOLUTION,
    ),
    Mutant(
        "dx of a convolution reads the kernel forwards",
        "csrc/cpu/conv2d/window.hpp",
        "return tap + stride * (taps - 1 - t);",
        "return tap + stride * t;",
        CONVOLUTION,
    ),
    Mutant(
        "a convolution's mask begins anew with each chunk of pixels",
        "csrc/cpu/conv2d/forward.inl",
        "mask.row0 += static_cast<u64>(pixels.begin);",
        "",
        CONVOLUTION,
    ),
    Mutant(
        "channel dropout ties no pixels",
        "csrc/bind/conv2d.cpp",
        "if (mask.channel) key.repeat = pixels;",
        "",
        CONVOLUTION,
    ),
    Mutant(
        "dx of a convolution is not masked where x was",
        "csrc/cpu/conv2d/backward.inl",
        "drop_pixels(input_mask_bits, {first, w.stride, n}, cols, sums + offset * s.C, s.C);",
        "",
        CONVOLUTION,
    ),
    Mutant(
        "a rate is not checked when it is set on a live layer",
        "python/fusedrop/layers/base.py",
        "setattr(layer, self._attribute, checks.probability(p, self._name))",
        "setattr(layer, self._attribute, p)",
        RATES,
    ),
    Mutant(
        "dropout's backward pass forgets the granularity",
        "python/fusedrop/functional/dropout.py",
        "granularity=saved.granularity",
        'granularity="element"',
        "tests/mask/test_dropout.py",
    ),
    Mutant(
        "an operator without context still saves for a backward pass",
        "python/fusedrop/functional/operator.py",
        'forward.__globals__ | {"SAVE": False}',
        'forward.__globals__ | {"SAVE": True}',
        "tests/layers/test_operators.py",
    ),
]
