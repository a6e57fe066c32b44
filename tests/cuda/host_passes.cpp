// host_passes: compares the elementwise passes of csrc/cuda, run by the emulation, with the scalar functions of core.
// Arrays are random with NaN and Inf, misaligned, and have any strides. Written arrays are in poisoned memory, which is
// compared as a whole. It prints one line per check; the exit status is 1 after the first difference.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "cuda/gemm/vec8.hpp"
#include "cuda/linear/passes.hpp"

using namespace fusedrop;
using namespace fusedrop::cuda;

namespace {

std::mt19937_64 engine(1);
i64 below(i64 n) { return static_cast<i64>(engine() % static_cast<u64>(n)); }
bool coin() { return below(2) == 0; }

void fail(const char* what, i64 i, i64 j) {
  std::printf("%s differs at (%lld, %lld)\n", what, static_cast<long long>(i), static_cast<long long>(j));
  std::exit(1);
}

template <class S>
bool same(S a, S b) {
  const float x = widen(a), y = widen(b);
  return std::isnan(x) ? std::isnan(y) : bits_of(x) == bits_of(y);
}

template <class S>
S random_value() {
  static std::normal_distribution<float> normal;
  const i64 kind = below(50);
  S value;
  narrow(kind == 0 ? NAN : kind == 1 ? INFINITY : kind == 2 ? 0.0f : normal(engine), value);
  return value;
}

template <class S>
struct Input {  // [M,N] in any layout
  std::vector<S> memory;
  const S* data;
  i64 row_stride, col_stride;

  Input(i64 M, i64 N) {
    const i64 step = coin() ? 1 : 1 + below(2), room = coin() ? (N + 7) / 8 * 8 : N + below(3);
    row_stride = room * step, col_stride = step;
    if (below(4) == 0) row_stride = step, col_stride = (M + below(3)) * step;
    const i64 start = coin() ? 0 : below(5);
    const i64 last = M * N == 0 ? -1 : (M - 1) * row_stride + (N - 1) * col_stride;
    memory.resize(static_cast<std::size_t>(start + last + 1));  // no memory past the last element
    for (S& value : memory) value = random_value<S>();
    data = memory.data() + start;
    if (M > 0 && below(5) == 0) data += (M - 1) * row_stride, row_stride = -row_stride;
  }
  float operator()(i64 i, i64 j) const { return widen(data[i * row_stride + j * col_stride]); }
  Matrix view() const { return {data, row_stride, col_stride}; }
};

template <class S>
struct Output {  // poisoned memory, and its expected contents after the call
  std::vector<S> memory, expected;
  i64 start;

  explicit Output(i64 size, i64 misaligned) : start(16 + misaligned) {
    S poison;
    narrow(-77.0f, poison);
    memory.assign(static_cast<std::size_t>(start + size + 16), poison);
    expected = memory;
  }
  S* data() { return memory.data() + start; }
  void expect(i64 at, float value) { narrow(value, expected[static_cast<std::size_t>(start + at)]); }
  void check(const char* what) const {
    for (std::size_t k = 0; k < memory.size(); ++k)
      if (!same(memory[k], expected[k])) fail(what, static_cast<i64>(k) - start, 0);
  }
};

struct KeyedMask {  // a mask, and the same mask with its key in memory
  Mask plain, given;
  i64 drawn[3];

  KeyedMask(i64 M, i64 N, bool unit) {
    const u32 thresholds[] = {0, 1, 6554, 32768, 65535, kThresholdAll};
    plain.seed = engine(), plain.stream = static_cast<u32>(engine()), plain.step = static_cast<u32>(engine());
    plain.threshold = thresholds[below(6)];
    plain.row0 = coin() ? 0 : engine() % (kMaxRows - static_cast<u64>(M));
    plain.col0 = coin() ? 32 * static_cast<u64>(below(9)) : engine() % (kMaxCols - static_cast<u64>(N) - 64);
    plain.repeat = coin() ? 1 : 3, plain.period = coin() ? 0 : 5;
    plain.unit = unit;
    given = plain;
    drawn[0] = static_cast<i64>(plain.seed), drawn[1] = plain.step, drawn[2] = plain.stream ^ 0x80000001u;
    if (coin()) return;
    given.device_key = drawn, given.seed = 5, given.step = 6;
    given.device_key_has_stream = coin();
    if (given.device_key_has_stream) given.stream = 0x80000001u;
  }
  KeyedMask(const KeyedMask&) = delete;
};

std::vector<i64> active_columns(const Mask& mask, const unsigned char* active, i64 n) {
  std::vector<i64> columns;
  for (i64 j = 0; j < n; ++j)
    if ((active == nullptr || active[j] != 0) && (!mask.unit || keep_element(mask, 0, static_cast<u64>(j))))
      columns.push_back(j);
  return columns;
}

struct List {  // a list of columns as the device makes it
  std::vector<i32> index;
  i32 count = -1;
  std::vector<i64> columns;

  List(const KeyedMask& mask, i64 n) : index(static_cast<std::size_t>(n) + 8, -9) {
    std::vector<unsigned char> bytes(static_cast<std::size_t>(n) + 1);
    for (auto& byte : bytes) byte = static_cast<unsigned char>(coin() ? 0 : 1 + below(255));
    const bool some = coin();
    const void* active = some ? bytes.data() : nullptr;
    list_columns(mask.given, static_cast<const bool*>(active), n, index.data(), &count, nullptr);
    columns = active_columns(mask.plain, some ? bytes.data() : nullptr, n);
    if (count != static_cast<i32>(columns.size()))
      fail("the count of columns", count, static_cast<i64>(columns.size()));
    for (i32 j = 0; j < count; ++j)
      if (index[static_cast<std::size_t>(j)] != columns[static_cast<std::size_t>(j)]) fail("the list", j, 0);
    for (std::size_t j = columns.size(); j < index.size(); ++j)
      if (index[j] != -9) fail("what lies past the list", static_cast<i64>(j), 0);
  }
};

void check_lists() {
  for (int round = 0; round < 60; ++round) {
    const i64 n = round < 3 ? round : round % 5 == 0 ? 4000 + below(6000) : below(300);
    List(KeyedMask(4, n, coin()), n);
  }
}

template <class S>
void check_copies(Dtype dtype) {
  for (int round = 0; round < 60; ++round) {
    const i64 M = below(20), N = below(4) == 0 ? below(600) : below(70), ld = N + below(9);
    const Input<S> x(M, N);
    const KeyedMask mask(M, N, coin()), element(M, N, false);
    const bool listed = coin();
    const List list(mask, N);
    const KeyedMask& drawn = listed && coin() ? element : mask;  // active columns, and a mask of single elements
    const ColumnList columns = listed ? ColumnList{list.index.data(), &list.count} : ColumnList{};
    const i64 count = listed ? list.count : N;
    Output<S> to(M * ld, coin() ? 0 : 1);
    for (i64 i = 0; i < M; ++i)
      for (i64 j = 0; j < count; ++j) {
        const i64 c = listed ? list.columns[static_cast<std::size_t>(j)] : j;
        const bool all = listed && drawn.plain.unit;
        const bool keep = all || keep_element(drawn.plain, static_cast<u64>(i), static_cast<u64>(c));
        to.expect(i * ld + j, keep ? x(i, c) * 1.25f : 0.0f);
      }
    copy_columns({dtype, M, N, x.view(), columns, drawn.given, 1.25f, to.data(), ld}, nullptr);
    to.check("the copy");
  }
}

Activation random_activation() { return static_cast<Activation>(below(7)); }

template <class S>
void check_fills(Dtype dtype) {
  for (int round = 0; round < 40; ++round) {
    const bool large = round == 0 && dtype == Dtype::bfloat16;  // more than a grid covers in one iteration
    const i64 M = large ? 88000 : below(9), N = large ? 70 : below(140), misaligned = coin() ? 0 : 1;
    const Input<S> residual(M, N);
    Output<S> y(M * N, misaligned), z(M * N, 0);
    LinearForwardArgs args{};
    args.dtype = dtype, args.M = M, args.N = N;
    args.epilogue.activation = random_activation(), args.epilogue.dropout_first = coin();
    args.y = y.data(), args.z = coin() ? z.data() : nullptr;
    if (coin()) args.residual = residual.view();
    const float at_zero = args.epilogue.dropout_first && args.epilogue.activation == Activation::sigmoid ? 0.5f : 0.0f;
    for (i64 i = 0; i < M; ++i)
      for (i64 j = 0; j < N; ++j) {
        y.expect(i * N + j, args.residual.data != nullptr ? residual(i, j) + at_zero : at_zero);
        if (args.z != nullptr) z.expect(i * N + j, 0.0f);
      }
    fill_dropped(args, nullptr);
    y.check("y of a fill"), z.check("z of a fill");
  }
}

// The sum of a column in the order that dz.cu guarantees: within 64 rows every 16th row, then the 16 sums; over the
// chunks every 32nd chunk, then the 32 sums.
float column_sum(const std::vector<float>& dz) {
  const auto M = static_cast<i64>(dz.size());
  std::vector<float> lines(32);
  for (i64 chunk = 0; chunk * 64 < M; ++chunk) {
    float rows[16] = {}, sum = 0;
    for (i64 r = chunk * 64; r < M && r < chunk * 64 + 64; ++r) rows[r % 16] += dz[static_cast<std::size_t>(r)];
    for (const float row : rows) sum += row;
    lines[static_cast<std::size_t>(chunk % 32)] += sum;
  }
  float sum = 0;
  for (const float line : lines) sum += line;
  return sum;
}

template <class S>
void check_dz(Dtype dtype) {
  for (int round = 0; round < 70; ++round) {
    const i64 M = round < 3 ? 0 : round % 30 == 0 ? 64 * 33 + below(200) : below(150);
    const i64 N = M > 2000 ? 11 : below(300), ld = (N + 7) / 8 * 8;
    const Input<S> dy(M, N), given(1, M * N + 1);
    const KeyedMask mask(M, N, coin());
    const bool listed = mask.plain.unit;
    const List list(mask, N);
    std::vector<float> partial(static_cast<std::size_t>(dz_chunks(M) * N));
    const S* saved = given.memory.data() + given.memory.size() - M * N;
    Output<S> db(N, coin() ? 0 : 1), dz(M * ld, 0);
    DzArgs args{};
    LinearBackwardArgs& call = args.call;
    call.dtype = dtype, call.M = M, call.N = N, call.dy = dy.view();
    call.epilogue.activation = random_activation(), call.epilogue.dropout_first = coin(),
    call.epilogue.mask = mask.given;
    call.epilogue.saved_kind =
        static_cast<SavedKind>(call.epilogue.activation == Activation::identity
                                   ? 0
                                   : 1 + below(2));  // any numbers will do for the y of gelu and silu
    if (call.epilogue.saved_kind != SavedKind::nothing) call.saved_activation = saved;
    if (below(5) != 0) call.db = db.data();
    const float scale = static_cast<float>(keep_scale(mask.plain.threshold)), rescale = scale == 0 ? 0 : 1 / scale;
    const auto expected = [&](i64 i, i64 c) {
      const bool mask_shows =
          call.epilogue.activation == Activation::relu && call.epilogue.saved_kind == SavedKind::output;
      const bool keep = listed || mask_shows || keep_element(mask.plain, static_cast<u64>(i), static_cast<u64>(c));
      const float s = call.saved_activation == nullptr ? 0.0f : widen(saved[i * N + c]);
      return with_activation(call.epilogue.activation, [&](auto act) {
        return Epilogue<decltype(act)>::backward(dy(i, c), s, call.epilogue.saved_kind, keep, {scale, rescale},
                                                 call.epilogue.dropout_first);
      });
    };
    const i64 count = listed ? list.count : N;
    if (listed) args.outputs = {list.index.data(), &list.count};
    args.dz = coin() || call.db == nullptr ? dz.data() : nullptr, args.ld = ld, args.partial = partial.data();
    compute_dz(args, nullptr);
    for (i64 j = 0; j < N && call.db != nullptr; ++j) db.expect(j, 0.0f);
    for (i64 j = 0; j < count; ++j) {
      const i64 c = listed ? list.columns[static_cast<std::size_t>(j)] : j;
      std::vector<float> column;
      for (i64 i = 0; i < M; ++i) {
        column.push_back(expected(i, c));
        if (args.dz != nullptr) dz.expect(i * ld + j, column.back());
      }
      if (call.db != nullptr) db.expect(c, column_sum(column));
    }
    for (i64 i = 0; i < M && args.dz != nullptr; ++i)  // the rest of a vec8
      for (i64 j = count; j % kVec8 != 0; ++j) dz.expect(i * ld + j, 0.0f);
    dz.check("dz"), db.check("db");
  }
}

}  // namespace

int main() {
  check_lists();
  std::puts("lists of columns: equal");
  const Dtype dtypes[] = {Dtype::float32, Dtype::bfloat16, Dtype::float16};
  const char* names[] = {"float32", "bfloat16", "float16"};
  for (int d = 0; d < 3; ++d)
    with_element(dtypes[d], [&](auto s) {
      using S = decltype(s);
      check_copies<S>(dtypes[d]);
      std::printf("copies of columns, %s: equal\n", names[d]);
      check_fills<S>(dtypes[d]);
      std::printf("what unit dropout leaves, %s: equal\n", names[d]);
      check_dz<S>(dtypes[d]);
      std::printf("dz and db, %s: equal\n", names[d]);
    });
}
