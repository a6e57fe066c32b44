"""Mutants of pools, LSTMs, convolutions, and of saving them."""

from mutant import Mutant

MASKS, VALUES = "tests/test_masks.py", "tests/test_linear_values.py"
CONVOLUTION, LSTM = "tests/test_convolution.py", "tests/test_lstm.py"
POOLING, SAVING = "tests/test_pooling.py", "tests/test_saving.py tests/test_saving_refusals.py"

LAYERS_BESIDE_LINEAR = [
    Mutant(
        "pooling: the last of equal maxima wins (avx512)",
        "csrc/cpu/pool_lanes.hpp",
        "_mm512_cmp_ps_mask(v.v, m.v, _CMP_GT_OQ)",
        "_mm512_cmp_ps_mask(v.v, m.v, _CMP_GE_OQ)",
        f"{POOLING} -k avx512",
    ),
    Mutant(
        "pooling: a NaN loses (scalar)",
        "csrc/cpu/pool_lanes.hpp",
        "return v.v > m.v || v.v != v.v;",
        "return v.v > m.v;",
        f"{POOLING} -k scalar",
    ),
    Mutant(
        "pooling: a window may start in the padding behind the image",
        "csrc/bind/bind_pool.cpp",
        "if (ceil_mode && (out - 1) * stride >= in + padding) --out;",
        "",
        POOLING,
    ),
    Mutant(
        "pooling: a tile's planes end with its first image",
        "csrc/cpu/pool_tile.hpp",
        "at += a_.image - channels_ * a_.channel;",
        "",
        f"{POOLING} -k strides",
    ),
    Mutant(
        "saving: a resumed run starts its masks again",
        "python/fusedrop/saving.py",
        "        mask_name.rng = rng",
        "        mask_name.rng = mask_name.rng",
        SAVING,
    ),
    Mutant(
        "saving: Ctrl-C leaves half a file behind",
        "python/fusedrop/saving.py",
        "except BaseException:",
        "except Exception:",
        SAVING,
    ),
    Mutant(
        "rows that share a mask all take the first one's",
        "csrc/cpu/keep.hpp",
        "if (r == 0 || row != drawn)",
        "if (r == 0)",
        f"{VALUES} {MASKS}",
    ),
    Mutant(
        "the LSTM's masks change over time",
        "csrc/bind/bind_lstm.cpp",
        "if (time_constant) name.repeat = steps;",
        "",
        LSTM,
    ),
    Mutant(
        "the LSTM's gates share a mask of h",
        "csrc/cpu/lstm_recurrence.hpp",
        "steps + t, gate * cols_, divide_up",
        "steps + t, 0, divide_up",
        LSTM,
    ),
    Mutant(
        "the LSTM's input and forget gate swapped",
        "csrc/core/lstm_cell.hpp",
        "c = fma(s.f, c_before, s.i * s.g);",
        "c = fma(s.i, c_before, s.f * s.g);",
        LSTM,
    ),
    Mutant(
        "the gradient by h passes the mask by",
        "csrc/cpu/lstm_backward.inl",
        "if (!masks.keeps_all()) v = masks.drop(v, words, gate, r + i, j + c);",
        "",
        LSTM,
    ),
    Mutant(
        "dw_hh of the h that was not dropped",
        "csrc/cpu/lstm_weights.inl",
        "drop_panels<NR>(of_x ? x_keeper : h_keeper, m, depth, at, n, dst, layout.words(memory[thread]));",
        "if (of_x) drop_panels<NR>(x_keeper, m, depth, at, n, dst, layout.words(memory[thread]));",
        LSTM,
    ),
    Mutant(
        "pixels at an edge miss their last tap",
        "csrc/cpu/conv_classes.hpp",
        "minimum(taps, size - first))",
        "minimum(taps, size - first - 1))",
        CONVOLUTION,
    ),
    Mutant(
        "dx of a convolution reads the kernel forwards",
        "csrc/cpu/conv_window.hpp",
        "return tap + step * (taps - 1 - t);",
        "return tap + step * t;",
        CONVOLUTION,
    ),
    Mutant(
        "a convolution's mask begins anew with each chunk of pixels",
        "csrc/cpu/conv2d_forward.inl",
        "layer.mask.row0 += static_cast<u64>(pixels.begin);",
        "",
        CONVOLUTION,
    ),
    Mutant(
        "channel dropout ties no pixels",
        "csrc/bind/bind_conv2d.cpp",
        "if (channel) name.repeat = pixels;",
        "",
        CONVOLUTION,
    ),
    Mutant(
        "dx of a convolution is not masked where x was",
        "csrc/cpu/conv2d_backward.inl",
        "drop_pixels(input_keeper, first, w.step, n, cols, sums + offset * s.C, s.C);",
        "",
        CONVOLUTION,
    ),
]
