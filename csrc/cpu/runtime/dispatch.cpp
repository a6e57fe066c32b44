// dispatch: see cpu/runtime/dispatch.hpp. Compiled with the platform's baseline flags.
#include "cpu/runtime/dispatch.hpp"

#include <atomic>

namespace fusedrop::cpu {

namespace scalar {
extern const Backend backend;
}
#if defined(FUSEDROP_X86)
namespace avx2 {
extern const Backend backend;
}
namespace avx512 {
extern const Backend backend;
}
#if defined(FUSEDROP_BF16)
namespace avx512_bf16 {
extern const Backend backend;
}
#endif
#endif

namespace {

std::vector<const Backend*> available() {
  std::vector<const Backend*> found = {&scalar::backend};
#if defined(FUSEDROP_X86)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    found.push_back(&avx2::backend);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      found.push_back(&avx512::backend);
#if defined(FUSEDROP_BF16)
      if (__builtin_cpu_supports("avx512bf16")) found.push_back(&avx512_bf16::backend);
#endif
    }
  }
#endif
  return found;
}

std::atomic<const Backend*>& in_use() {
  static std::atomic<const Backend*> chosen{available().back()};
  return chosen;
}

}  // namespace

const Backend& backend() { return *in_use().load(std::memory_order_relaxed); }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Backend* b : available()) names.emplace_back(b->name);
  return names;
}

bool set_isa(const std::string& name) {
  for (const Backend* b : available()) {
    if (name != b->name) continue;
    in_use().store(b, std::memory_order_relaxed);
    return true;
  }
  return false;
}

}  // namespace fusedrop::cpu
