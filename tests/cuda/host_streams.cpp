// host_streams: checks memory, events and devices of csrc/cuda/runtime, with the CUDA runtime of the emulation. It
// prints one line per check; the exit status is 1 after the first difference.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cuda/runtime/device.hpp"
#include "cuda/runtime/streams.hpp"

using namespace fusedrop;
using namespace fusedrop::cuda;

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::printf("%s does not hold\n", what);
  std::exit(1);
}

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}

void check_memory() {
  const Stream stream = own_stream(0);
  require(stream == own_stream(0), "one stream per device");
  require(allocate(0, stream) == nullptr, "null for 0 bytes");
  release(nullptr, stream);
  const char text[] = "copied to the device and back";
  void* data = allocate(sizeof text, stream);
  require(reinterpret_cast<std::uintptr_t>(data) % 256 == 0, "memory begins at a multiple of 256");
  char back[sizeof text] = {};
  copy(data, text, sizeof text, stream);
  copy(back, data, sizeof text, stream);
  require(std::string(back) == text, "copy");
  copy(back, nullptr, 0, stream);
  release(data, stream);
  std::puts("memory: equal");
}

void check_events() {
  const Stream stream = own_stream(0);
  void* event = record(stream);
  require(event != nullptr, "record returns an event");
  require(completed(event), "the emulation has no pending work");
  wait(event, nullptr);
  destroy(event);
  std::puts("events: equal");
}

void check_devices() {
  require(set_device(0) == 0 && emulated(), "one emulated device");
  require(state() == device_identity(0), "the emulated device has one description");
  const std::string missing = "the device of the arrays: invalid device ordinal";
  require(error_of([] { set_device(1); }) == missing, "set_device of a missing device");
  require(error_of([] { own_stream(1); }) == missing, "own_stream of a missing device");
  require(error_of([] { device_identity(1); }) != "no error", "device_identity of a missing device");
  std::puts("devices: equal");
}

}  // namespace

int main() {
  check_memory();
  check_events();
  check_devices();
}
