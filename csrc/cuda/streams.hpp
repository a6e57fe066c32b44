// streams: what the bindings need for callers whose library does not tell its current stream: a stream of ours, memory in
// its order, and the order of two streams. The host never waits.
#pragma once

#include <memory>

#include "core/platform.hpp"
#include "cuda/stream.hpp"

namespace fusedrop::cuda {

Stream own_stream(int device);  // one a device, made at its first use on the device that is set, and kept

void* allocate(i64 bytes, Stream stream);  // usable by what `stream` is given from now on; null for no bytes
void release(void* data, Stream stream) noexcept;

class Moment {  // what a stream had been given when this was made
 public:
  explicit Moment(Stream stream);
  void hold_back(Stream other) const;  // what `other` is given from now on waits for it
  bool passed() const;

 private:
  std::shared_ptr<void> event_;
};

}  // namespace fusedrop::cuda
