"""The mutants: one wrong line each, and the tests that must notice it.

A mutant that survives is a gap in the tests. `killer` is a pytest selection; "build" means that the compiler refuses.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    killer: str


MASKS, VALUES = "tests/test_masks.py", "tests/test_linear_values.py"
SPECIAL, EXACT = "tests/test_special_values.py", "tests/test_exactness.py"
LAYERS = "tests/test_layers.py tests/test_reproducibility.py"
PYTORCH = "tests/pytorch/test_masks_everywhere.py tests/pytorch/test_operators.py tests/pytorch/test_rules.py"
LSTM = "tests/test_lstm.py"
UNIT, BFLOAT16, OPTIM = "tests/test_unit_dropout.py", "tests/test_bfloat16.py", "tests/test_optim.py"
POOLING, SAVING = "tests/test_pooling.py", "tests/test_saving.py"

MUTANTS = [
    Mutant(
        "nine Philox rounds",
        "csrc/core/philox.hpp",
        "kPhiloxRounds = 10",
        "kPhiloxRounds = 9",
        "build",
    ),
    Mutant(
        "> for >= (scalar)",
        "csrc/core/mask.hpp",
        "& 0xffff) >= threshold",
        "& 0xffff) > threshold",
        f"{MASKS} -k scalar",
    ),
    Mutant(
        "> for >= (avx512)",
        "csrc/cpu/vec_avx512.hpp",
        "_mm512_cmpge_epu16_mask",
        "_mm512_cmpgt_epu16_mask",
        f"{MASKS} -k avx512",
    ),
    Mutant(
        "kept and dropped swapped below the threshold (avx2)",
        "csrc/cpu/vec_avx2.hpp",
        "_mm256_max_epu16(word, threshold)",
        "_mm256_min_epu16(word, threshold)",
        f"{MASKS} -k avx2",
    ),
    Mutant(
        "mask keyed on the block instead of the row",
        "csrc/cpu/keep.hpp",
        "four_rows(i + r, block, words + r);",
        "four_rows(r, block, words + r);",
        f"{VALUES} {MASKS}",
    ),
    Mutant(
        "misaligned origins join the wrong way round",
        "csrc/cpu/keep.hpp",
        "(left >> shift) | (right << (kGroup - shift))",
        "(right >> shift) | (left << (kGroup - shift))",
        f"{MASKS} -k shards",
    ),
    Mutant(
        "input mask on the output's stream",
        "csrc/bind/bind_rng.cpp",
        "input.stream ^= kInputStream;",
        "",
        f"{MASKS} -k flipped",
    ),
    Mutant(
        "backward draws the next step's mask",
        "csrc/bind/bind_linear.cpp",
        "args.mask = saved.mask;",
        "args.mask = saved.mask; ++args.mask.step;",
        f"{VALUES} {MASKS}",
    ),
    Mutant(
        "scale off by one part in 65536",
        "csrc/core/mask.hpp",
        "static_cast<double>(kThresholdAll - threshold)",
        "static_cast<double>(kThresholdAll + 1 - threshold)",
        VALUES,
    ),
    Mutant(
        "dropped elements multiplied by zero",
        "csrc/core/epilogue.hpp",
        "return select(keep, Act::forward(z) * scale, zero);",
        "return Act::forward(z) * select(keep, scale, zero);",
        SPECIAL,
    ),
    Mutant(
        "relu loses NaN",
        "csrc/core/activations.hpp",
        "return max(V(scalar_of<V>(0)), z);",
        "return max(z, V(scalar_of<V>(0)));",
        SPECIAL,
    ),
    Mutant(
        "gelu's density a little off",
        "csrc/core/activations.hpp",
        "0.3989422804014327",
        "0.39895",
        f"{VALUES} -k gelu",
    ),
    Mutant(
        "exp two terms short",
        "csrc/core/math.hpp",
        "static constexpr int degree = 7;",
        "static constexpr int degree = 5;",
        f"{VALUES} -k 'sigmoid or silu or tanh'",
    ),
    Mutant(
        "partial sums of a split K forgotten",
        "csrc/cpu/gemm.hpp",
        "panels, tile, !first);",
        "panels, tile, false);",
        VALUES,
    ),
    Mutant(
        "db counted once for every block of columns",
        "csrc/cpu/linear_backward.inl",
        "first && cols.begin == 0 ? db_sums + n : nullptr;",
        "db_sums + n;",
        f"{VALUES} {EXACT}",
    ),
    Mutant(
        "one scratch buffer for all threads",
        "csrc/cpu/scratch.cpp",
        "thread_local Pool pool;",
        "Pool pool;",
        f"{EXACT} -k python_threads",
    ),
    Mutant(
        "a forked child inherits a dead thread pool",
        "csrc/cpu/threads.cpp",
        "omp_pause_resource_all(omp_pause_hard);",
        "",
        f"{EXACT} -k forked",
    ),
    Mutant(
        "a layer repeats one mask",
        "python/fusedrop/naming.py",
        "return self.rng.next() if train else self.rng",
        "return self.rng",
        LAYERS,
    ),
    Mutant(
        "a network gives all layers one stream",
        "python/fusedrop/network.py",
        "else next(free))",
        "else 0)",
        LAYERS,
    ),
    Mutant(
        "bfloat16 rounds half up",
        "csrc/cpu/vec_avx512.hpp",
        "_mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))",
        "_mm512_set1_epi32(0x8000)",
        BFLOAT16,
    ),
    Mutant(
        "an odd K's last pair keeps its neighbour",
        "csrc/cpu/pack_pairs.hpp",
        "k + 1 < K ? src(k + 1, c) : bfloat16{0}",
        "src(k + 1 < K ? k + 1 : k, c)",
        BFLOAT16,
    ),
    Mutant(
        "a tile's columns end with its last kept one",
        "csrc/cpu/kept.hpp",
        "j + n >= kept_.count ? size_ : kept_.index[j + n - 1] + 1",
        "kept_.index[j + n - 1] + 1",
        UNIT,
    ),
    Mutant(
        "dropped columns take 0 before every activation",
        "csrc/cpu/linear_forward.inl",
        "return args.before ? lanes[0] : T(0);",
        "return T(0);",
        UNIT,
    ),
    Mutant(
        "rows of dw that were dropped keep what they held",
        "csrc/cpu/store_sink.hpp",
        "(!row_axis_.all() && (row_axis_.bits(r) & 1) == 0)",
        "false",
        UNIT,
    ),
    Mutant(
        "unit input dropout without its scale",
        "csrc/cpu/linear_backward.inl",
        "return inputs.all() ? T(1) : static_cast<T>(args.input_scale);",
        "return T(1);",
        UNIT,
    ),
    Mutant(
        "a network trusts a subclass's zeros",
        "python/fusedrop/layers.py",
        "own.forward is layer_type.forward and own.backward is layer_type.backward",
        "True",
        UNIT,
    ),
    Mutant(
        "Adam's second moment of g",
        "csrc/core/update.hpp",
        "V(one_minus_beta2) * (g * g)",
        "V(one_minus_beta2) * abs(g)",
        OPTIM,
    ),
    Mutant(
        "padding counts in the softmax",
        "csrc/cpu/softmax.inl",
        "select(V::lanes(real >> j), e, V(T(0)))",
        "e",
        "tests/test_losses.py",
    ),
    Mutant(
        "memory of another library is never given back",
        "csrc/bind/dlpack.cpp",
        "if (m->deleter != nullptr) m->deleter(m);",
        "static_cast<void>(m);",
        "tests/test_dlpack.py",
    ),
    Mutant(
        "PyTorch: a recomputation draws the next step's mask",
        "python/fusedrop/torch/naming.py",
        "        return call.step",
        "        return self.step",
        PYTORCH,
    ),
    Mutant(
        "PyTorch: two draws of one compiled graph are merged",
        "python/fusedrop/torch/operators.py",
        "rand_ops.append(torch.ops.fusedrop.draw)",
        "pass",
        PYTORCH,
    ),
    Mutant(
        "PyTorch: a patched layer keeps the rate it was patched with",
        "python/fusedrop/torch/fused_modules.py",
        "            p = group.dropout.p\n",
        '            p = self.__dict__.setdefault("_first_p", group.dropout.p)\n',
        "tests/pytorch/test_patch.py",
    ),
    Mutant(
        "PyTorch: a column-parallel layer draws the first columns",
        "python/fusedrop/torch/parallel.py",
        "    col0 = part(w)[1][0]",
        "    col0 = 0 * part(w)[1][0]",
        "tests/pytorch/test_tensor_parallel.py",
    ),
    Mutant(
        "PyTorch: negated views go to the kernel as they lie in memory",
        "python/fusedrop/torch/eager.py",
        "not (type(t) in PLAIN and torch._C._dispatch_keys(t).raw_repr() in ORDINARY)",
        "type(t) not in PLAIN",
        " ".join(f"tests/pytorch/test_torch_style_{topic}.py" for topic in ("linear", "modules", "func")),
    ),
    Mutant(
        "PyTorch: a seed loses its top bit",
        "python/fusedrop/torch/operators.py",
        "return seed & 0xFFFF_FFFF_FFFF_FFFF",
        "return seed & 0x7FFF_FFFF_FFFF_FFFF",
        PYTORCH,
    ),
    Mutant(
        "PyTorch: every shard draws the first rows",
        "python/fusedrop/torch/naming.py",
        "row0 = self.shard * rows",
        "row0 = 0 * rows",
        PYTORCH,
    ),
    Mutant(
        "PyTorch: autocast lowers the residual stream",
        "python/fusedrop/torch/derivatives.py",
        "    return residual + operator(x, w, b, None, *options)",
        "    return operator(x, w, b, residual.to(dtype), *options)",
        PYTORCH,
    ),
    Mutant(
        "PyTorch: a dropout's gradient draws another mask",
        "python/fusedrop/torch/derivatives.py",
        "return apply_dropout(dy, *ctx.options), None",
        "return apply_dropout(dy, *ctx.options[:3], ctx.options[3] + 1, *ctx.options[4:]), None",
        PYTORCH,
    ),
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
]
