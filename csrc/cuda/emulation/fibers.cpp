// emulation/fibers: see fibers.hpp.
//
// makecontext gives a fiber its stack; setjmp and longjmp switch between fibers, because swapcontext would save signal
// masks with two system calls per switch. Threads of a block run in rounds, and the order changes from round to round,
// so that a missing barrier is likely to be found.
#undef _FORTIFY_SOURCE  // its longjmp does not allow a change of stacks
#include "cuda/emulation/fibers.hpp"

#include <setjmp.h>
#include <ucontext.h>

#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/runtime/ptx.hpp"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace fusedrop::cuda {

// Of a block: the least that a GPU of compute capability 8.0 or later has (8.6 and 8.9).
alignas(128) char shared_memory[99 * 1024];

}  // namespace fusedrop::cuda

namespace fusedrop::cuda::emulation {
namespace {

constexpr std::size_t kStack = 256 * 1024;

struct Barrier {  // of a warp or a block
  u32 expected = 0, arrived = 0;
  u64 generation = 0;        // how often it has opened
  void* arguments[32] = {};  // one per lane, of a warp
};

struct Copy {
  u32 shared;
  const void* global;
  u32 bytes;
  int valid;
};

struct Fiber {
  jmp_buf context;
  ucontext_t start;
  std::unique_ptr<char[]> stack{new char[kStack]};
  u32 thread = 0;
  bool started = false, done = false;
  const Barrier* waiting_at = nullptr;
  u64 generation = 0;  // of that barrier, at arrival
  std::deque<std::vector<Copy>> groups;  // the last group is not committed yet
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Barrier> warps;
  Barrier block;
  u32 shared_bytes = 0;
  Fiber* running = nullptr;
  jmp_buf scheduler;
  const std::function<void()>* kernel = nullptr;
  std::string fault;
  u32 random = 1;
};

Machine* machine = nullptr;
std::mutex one_grid_at_a_time;

void leave() {  // switches from the running fiber to the scheduler
  if (_setjmp(machine->running->context) == 0) _longjmp(machine->scheduler, 1);
}

void fault(const std::string& text) {  // ends the grid; the fiber is not resumed
  machine->fault = text + " (thread " + std::to_string(threadIdx.x) + " of block " + std::to_string(blockIdx.x) + ")";
  leave();
}

void entry() {
  for (;;) {
    (*machine->kernel)();
    machine->running->done = true;
    leave();
  }
}

void arrive(Barrier& barrier, void (*act)(void**)) {
  if (++barrier.arrived == barrier.expected) {
    if (act != nullptr) act(barrier.arguments);
    barrier.arrived = 0;
    ++barrier.generation;
    return;
  }
  machine->running->waiting_at = &barrier;
  machine->running->generation = barrier.generation;
  leave();
  machine->running->waiting_at = nullptr;
}

void enter(Fiber& fiber) {
  machine->running = &fiber;
  threadIdx.x = fiber.thread;
  if (_setjmp(machine->scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.context, 1);
  fiber.started = true;
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = kStack;
  fiber.start.uc_link = nullptr;
  makecontext(&fiber.start, &entry, 0);
  setcontext(&fiber.start);
}

bool may_run(const Fiber& fiber) {
  return !fiber.done && (fiber.waiting_at == nullptr || fiber.waiting_at->generation != fiber.generation);
}

void run_block(Machine& m) {
  const u32 threads = blockDim.x;
  std::memset(shared_memory, 0xff, m.shared_bytes);
  m.block = Barrier{};
  m.block.expected = threads;
  m.warps.assign((threads + 31) / 32, Barrier{});
  for (Barrier& warp : m.warps) warp.expected = 32;
  for (u32 t = 0; t < threads; ++t) {
    Fiber& fiber = *m.fibers[t];
    fiber.done = false;
    fiber.waiting_at = nullptr;
    fiber.groups.assign(1, {});
  }
  for (u32 left = threads; left > 0;) {
    m.random = m.random * 1664525u + 1013904223u;
    const u32 first = (m.random >> 8) % threads;
    const bool backwards = (m.random >> 31) != 0;
    bool moved = false;
    for (u32 i = 0; i < threads && m.fault.empty(); ++i) {
      Fiber& fiber = *m.fibers[(first + (backwards ? threads - i : i)) % threads];
      if (!may_run(fiber)) continue;
      moved = true;
      enter(fiber);
      left -= fiber.done ? 1 : 0;
    }
    if (!moved && m.fault.empty()) m.fault = "threads wait at different barriers, or some have returned";
    if (!m.fault.empty()) throw std::runtime_error("emulated kernel: " + m.fault);
  }
}

}  // namespace

void run_grid(dim3 grid, u32 threads, u32 shared_bytes, const std::function<void()>& kernel) {
  const std::lock_guard<std::mutex> lock(one_grid_at_a_time);
  if (shared_bytes > sizeof shared_memory) throw std::runtime_error("emulated kernel: too much shared memory");
  Machine m;
  m.shared_bytes = shared_bytes;
  m.kernel = &kernel;
  for (u32 t = 0; t < threads; ++t) {
    m.fibers.push_back(std::make_unique<Fiber>());
    m.fibers.back()->thread = t;
  }
  machine = &m;
  gridDim = grid;
  blockDim = {threads, 1, 1};
  for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_block(m);
}

void sync_warp(void* argument, void (*act)(void**)) {
  Barrier& warp = machine->warps[threadIdx.x / 32];
  warp.arguments[threadIdx.x % 32] = argument;
  arrive(warp, act);
}

void copy(u32 address, const void* global, u32 bytes, int valid) {
  shared(address, bytes, bytes);
  require_aligned(global, bytes);
  if (valid < 0 || valid > static_cast<int>(bytes)) fault("a copy of " + std::to_string(valid) + " bytes");
  machine->running->groups.back().push_back({address, global, bytes, valid});
}

void commit_copies() { machine->running->groups.emplace_back(); }

void wait_copies(int pending) {
  auto& groups = machine->running->groups;
  while (groups.size() > static_cast<std::size_t>(pending) + 1) {
    for (const Copy& c : groups.front()) {
      char* to = shared_memory + c.shared;
      std::memset(to, 0, c.bytes);
      if (c.valid > 0) std::memcpy(to, c.global, static_cast<std::size_t>(c.valid));
    }
    groups.pop_front();
  }
}

char* shared(u32 address, u32 bytes, u32 alignment) {
  if (address % alignment != 0 || address + bytes > machine->shared_bytes)
    fault("shared address " + std::to_string(address) + " for " + std::to_string(bytes) + " bytes of " +
          std::to_string(machine->shared_bytes));
  return shared_memory + address;
}

void require_aligned(const void* address, u32 alignment) {
  if (reinterpret_cast<std::uintptr_t>(address) % alignment != 0) fault("a misaligned address");
}

}  // namespace fusedrop::cuda::emulation

namespace emulation = fusedrop::cuda::emulation;

void __syncthreads() { emulation::arrive(emulation::machine->block, nullptr); }

unsigned __shfl_xor_sync(unsigned mask, unsigned value, int lane_mask) {
  struct Lane {
    unsigned value;
    int lane_mask;
    unsigned result;
  } mine{value, lane_mask, 0};
  if (mask != 0xffffffff) emulation::fault("a shuffle without all lanes");
  emulation::sync_warp(&mine, [](void** all) {
    for (int i = 0; i < 32; ++i) {
      Lane& lane = *static_cast<Lane*>(all[i]);
      lane.result = static_cast<Lane*>(all[i ^ lane.lane_mask])->value;
    }
  });
  return mine.result;
}

std::size_t __cvta_generic_to_shared(const void* address) {
  return static_cast<std::size_t>(static_cast<const char*>(address) - fusedrop::cuda::shared_memory);
}
