// streams: streams, stream-ordered memory and events. The bindings use them for callers whose library does not expose
// its current stream. The host never waits.
#pragma once

#include <memory>

#include "core/platform.hpp"
#include "cuda/runtime/stream.hpp"

namespace fusedrop::cuda {

Stream own_stream(int device);  // one per device; created at first use, on the current device, and never destroyed

void* allocate(i64 bytes, Stream stream);  // usable by work enqueued on `stream` after this call; null for 0 bytes
void release(void* data, Stream stream) noexcept;

class Event {  // marks all work that `stream` had been given at construction
 public:
  explicit Event(Stream stream);
  void wait(Stream other) const;  // work enqueued on `other` after this call waits for the event
  bool completed() const;

 private:
  std::shared_ptr<void> event_;
};

}  // namespace fusedrop::cuda
