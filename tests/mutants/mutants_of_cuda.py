"""Mutants of the CUDA kernels, as the emulation runs them."""

from mutant import Mutant

TILE = "tests/test_cuda_host.py -k tile"
LINEAR, MASKS = "tests/test_cuda_linear.py", "tests/test_cuda_masks.py"

CUDA = [
    Mutant(
        "CUDA: a step's copies are not waited for",
        "csrc/cuda/half_tile.hpp",
        "product.add(0);\n    wait_copies<Shape::Stages - 2>();",
        "product.add(0);\n    wait_copies<Shape::Stages - 1>();",
        LINEAR,
    ),
    Mutant(
        "CUDA: a tile is finished before all have stored their sums",
        "csrc/cuda/half_tile.hpp",
        "product.store(sums);\n  sync_threads();",
        "product.store(sums);",
        LINEAR,
    ),
    Mutant(
        "CUDA: copies go over a step that others still read",
        "csrc/cuda/float_tile.hpp",
        "start(step + Shape::Stages - 1);  // over",
        "start(step + Shape::Stages);  // over",
        LINEAR,
    ),
    Mutant(
        "CUDA: quarters of a transposed fragment change places",
        "csrc/cuda/tile.hpp",
        "return {k + lane % 8 + 8 * (lane / 16), row / 8 + lane / 8 % 2};",
        "return {k + lane % 16, row / 8 + lane / 16};",
        TILE,
    ),
    Mutant(
        "CUDA: octets of a tile lie in the same banks",
        "csrc/cuda/tile.hpp",
        "Octets == 4 ? (p.line >> 1) & 3",
        "Octets == 4 ? p.line >> 3 & 3",
        TILE,
    ),
    Mutant(
        "CUDA: the last band of tiles is taken for a whole one",
        "csrc/cuda/tile.hpp",
        "const i64 rows = tiles_m - first < kBand ? tiles_m - first : kBand;",
        "const i64 rows = kBand;",
        TILE,
    ),
    Mutant(
        "CUDA: a tail counts one element too few",
        "csrc/cuda/tile.hpp",
        "return at >= end ? 0 : end - at < kOctet ? static_cast<int>(end - at) : kOctet;",
        "return at >= end ? 0 : end - at <= kOctet ? static_cast<int>(end - at - 1) : kOctet;",
        TILE,
    ),
    Mutant(
        "CUDA: a split leaves out its last step",
        "csrc/cuda/finish.hpp",
        "static_cast<int>(part_begin(steps, split + 1, g.splits) - first)",
        "static_cast<int>(part_begin(steps, split + 1, g.splits) - first - (g.splits > 1))",
        LINEAR,
    ),
    Mutant(
        "CUDA: keep bits of a quad overlap",
        "csrc/cuda/draw.hpp",
        "bits <<= 2 * q;",
        "bits <<= q;",
        MASKS,
    ),
    Mutant(
        "CUDA: an origin inside a group draws the same group twice",
        "csrc/cuda/draw.hpp",
        "quad_word(mask, coordinate, block + 1) << (kGroup - shift)",
        "quad_word(mask, coordinate, block) << (kGroup - shift)",
        MASKS,
    ),
    Mutant(
        "CUDA: a stream in memory loses the input's bit",
        "csrc/cuda/draw.hpp",
        "mask.stream ^= static_cast<u32>(mask.drawn[2]);",
        "mask.stream = static_cast<u32>(mask.drawn[2]);",
        MASKS,
    ),
    Mutant(
        "CUDA: the step in memory is not read",
        "csrc/cuda/draw.hpp",
        "mask.step = static_cast<u32>(mask.drawn[1]);",
        "static_cast<void>(mask.drawn[1]);",
        MASKS,
    ),
    Mutant(
        "CUDA: every tile takes the first rows of a list",
        "csrc/cuda/half_tile.hpp",
        "operand_.rows[first_row_ + row]",
        "operand_.rows[row]",
        LINEAR,
    ),
    Mutant(
        "CUDA: dx is not scaled where x was",
        "csrc/cuda/linear_backward.cu",
        "g.finish.scale = scale_of(args.input_mask);",
        "g.finish.scale = 1;",
        LINEAR,
    ),
    Mutant(
        "CUDA: dy is taken for dz under a mask",
        "csrc/cuda/linear_backward.cu",
        "args.activation == Activation::identity && !drops(args.mask)",
        "args.activation == Activation::identity",
        LINEAR,
    ),
    Mutant(
        "CUDA: rows of dw that unit dropout leaves out keep what they held",
        "csrc/cuda/linear_backward.cu",
        "input_gaps || outputs.index != nullptr",
        "input_gaps",
        LINEAR,
    ),
    Mutant(
        "CUDA: the residual is added before the activation's scale",
        "csrc/cuda/finish.hpp",
        "v[e] = widen(*element<S>(f.residual, row, column(e))) + v[e];",
        "v[e] = f.scale * widen(*element<S>(f.residual, row, column(e))) + v[e];",
        LINEAR,
    ),
    Mutant(
        "CUDA: float16 rounds its subnormal numbers down",
        "csrc/core/float16.hpp",
        "bits_of(float_of(magnitude) + 0.5f)",
        "bits_of(float_of(magnitude & 0xffffe000) + 0.5f)",
        "tests/test_cuda_float16.py",
    ),
    Mutant(
        "CUDA: db leaves out chunks of rows",
        "csrc/cuda/gradient.cu",
        "chunk < chunks; chunk += kFoldLines",
        "chunk < chunks; chunk += 2 * kFoldLines",
        LINEAR,
    ),
]
