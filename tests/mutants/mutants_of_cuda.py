"""Mutants of the CUDA kernels, which the emulation runs."""

from mutant import Mutant

TILE = "tests/cuda/test_host.py -k tile"
LINEAR, MASKS = "tests/cuda/test_linear.py", "tests/cuda/test_masks.py"

CUDA = [
    Mutant(
        "CUDA: a k-step's copies are not waited for",
        "csrc/cuda/gemm/half_tile.hpp",
        "product.add(0);\n    cp_async_wait_group<Shape::Stages - 2>();",
        "product.add(0);\n    cp_async_wait_group<Shape::Stages - 1>();",
        LINEAR,
    ),
    Mutant(
        "CUDA: the epilogue runs before all threads have stored their sums",
        "csrc/cuda/gemm/half_tile.hpp",
        "product.store(sums);\n  __syncthreads();",
        "product.store(sums);",
        LINEAR,
    ),
    Mutant(
        "CUDA: copies overwrite a k-step that others still read",
        "csrc/cuda/gemm/float_tile.hpp",
        "start(k_step + Shape::Stages - 1);  // over",
        "start(k_step + Shape::Stages);  // over",
        LINEAR,
    ),
    Mutant(
        "CUDA: quarters of a transposed fragment change places",
        "csrc/cuda/gemm/tile.hpp",
        "return {k + lane % 8 + 8 * (lane / 16), row / 8 + lane / 8 % 2};",
        "return {k + lane % 16, row / 8 + lane / 16};",
        TILE,
    ),
    Mutant(
        "CUDA: vec8s of a tile are in the same banks",
        "csrc/cuda/gemm/tile.hpp",
        "Vec8s == 4 ? (p.line >> 1) & 3",
        "Vec8s == 4 ? p.line >> 3 & 3",
        TILE,
    ),
    Mutant(
        "CUDA: the last band of tiles is treated as complete",
        "csrc/cuda/gemm/tile.hpp",
        "const i64 rows = tiles_m - first < kBand ? tiles_m - first : kBand;",
        "const i64 rows = kBand;",
        TILE,
    ),
    Mutant(
        "CUDA: a tail counts one element too few",
        "csrc/cuda/gemm/tile.hpp",
        "return at >= end ? 0 : end - at < kVec8 ? static_cast<int>(end - at) : kVec8;",
        "return at >= end ? 0 : end - at <= kVec8 ? static_cast<int>(end - at - 1) : kVec8;",
        TILE,
    ),
    Mutant(
        "CUDA: a split leaves out its last k-step",
        "csrc/cuda/gemm/epilogue.hpp",
        "static_cast<int>(part_begin(k_steps, split + 1, g.splits) - first)",
        "static_cast<int>(part_begin(k_steps, split + 1, g.splits) - first - (g.splits > 1))",
        LINEAR,
    ),
    Mutant(
        "CUDA: keep bits of a quad overlap",
        "csrc/cuda/gemm/mask_bits.hpp",
        "bits <<= 2 * q;",
        "bits <<= q;",
        MASKS,
    ),
    Mutant(
        "CUDA: an origin within a group draws the same group twice",
        "csrc/cuda/gemm/mask_bits.hpp",
        "quad_word(mask, coordinate, block + 1) << (kGroup - shift)",
        "quad_word(mask, coordinate, block) << (kGroup - shift)",
        MASKS,
    ),
    Mutant(
        "CUDA: a stream in device memory loses the input's bit",
        "csrc/cuda/gemm/mask_bits.hpp",
        "mask.stream ^= static_cast<u32>(mask.device_key[2]);",
        "mask.stream = static_cast<u32>(mask.device_key[2]);",
        MASKS,
    ),
    Mutant(
        "CUDA: the step in device memory is not read",
        "csrc/cuda/gemm/mask_bits.hpp",
        "mask.step = static_cast<u32>(mask.device_key[1]);",
        "static_cast<void>(mask.device_key[1]);",
        MASKS,
    ),
    Mutant(
        "CUDA: every tile takes the first rows of a list",
        "csrc/cuda/gemm/half_tile.hpp",
        "operand_.rows[first_row_ + row]",
        "operand_.rows[row]",
        LINEAR,
    ),
    Mutant(
        "CUDA: dx is not scaled where x was",
        "csrc/cuda/linear/backward.cu",
        "g.epilogue.scale = scale_of(args.input_mask);",
        "g.epilogue.scale = 1;",
        LINEAR,
    ),
    Mutant(
        "CUDA: dy is taken for dz under a mask",
        "csrc/cuda/linear/backward.cu",
        "args.epilogue.activation == Activation::identity && !drops(args.epilogue.mask)",
        "args.epilogue.activation == Activation::identity",
        LINEAR,
    ),
    Mutant(
        "CUDA: rows of dw that unit dropout drops are not cleared",
        "csrc/cuda/linear/backward.cu",
        "input_gaps || outputs.index != nullptr",
        "input_gaps",
        LINEAR,
    ),
    Mutant(
        "CUDA: the residual is added before the activation's scale",
        "csrc/cuda/gemm/epilogue.hpp",
        "v[e] = widen(*element<S>(f.residual, row, column(e))) + v[e];",
        "v[e] = f.scale * widen(*element<S>(f.residual, row, column(e))) + v[e];",
        LINEAR,
    ),
    Mutant(
        "CUDA: float16 rounds its subnormal numbers down",
        "csrc/core/dtypes.hpp",
        "bits_of(float_of(magnitude) + 0.5f)",
        "bits_of(float_of(magnitude & 0xffffe000) + 0.5f)",
        "tests/cuda/test_float16.py",
    ),
    Mutant(
        "CUDA: db leaves out chunks of rows",
        "csrc/cuda/linear/dz.cu",
        "chunk < chunks; chunk += kFoldLines",
        "chunk < chunks; chunk += 2 * kFoldLines",
        LINEAR,
    ),
]
