// streams: see streams.hpp. The emulation runs every kernel at its launch, so it has one stream and never waits.
#include "cuda/runtime/streams.hpp"

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "cuda/runtime/launch.hpp"

namespace fusedrop::cuda {

#if defined(__CUDACC__)

Stream own_stream(int device) {
  static std::mutex lock;
  static std::map<int, cudaStream_t> streams;
  const std::lock_guard<std::mutex> guard(lock);
  const auto found = streams.find(device);
  if (found != streams.end()) return found->second;
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream of fusedrop's own");
  return streams[device] = stream;
}

void* allocate(i64 bytes, Stream stream) {
  void* data = nullptr;
  if (bytes > 0)
    check(cudaMallocAsync(&data, static_cast<std::size_t>(bytes), static_cast<cudaStream_t>(stream)),
          "memory for a result");
  return data;
}

void release(void* data, Stream stream) noexcept {
  if (data != nullptr) cudaFreeAsync(data, static_cast<cudaStream_t>(stream));
}

Event::Event(Stream stream) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "an event");
  event_.reset(event, [](void* e) { cudaEventDestroy(static_cast<cudaEvent_t>(e)); });
  check(cudaEventRecord(event, static_cast<cudaStream_t>(stream)), "an event");
}

void Event::wait(Stream other) const {
  check(cudaStreamWaitEvent(static_cast<cudaStream_t>(other), static_cast<cudaEvent_t>(event_.get()), 0),
        "order of two streams");
}

bool Event::completed() const { return cudaEventQuery(static_cast<cudaEvent_t>(event_.get())) != cudaErrorNotReady; }

#else

Stream own_stream(int) { return nullptr; }

void* allocate(i64 bytes, Stream) {
  if (bytes <= 0) return nullptr;
  void* data = std::aligned_alloc(256, static_cast<std::size_t>((bytes + 255) / 256 * 256));
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

void release(void* data, Stream) noexcept { std::free(data); }

Event::Event(Stream) {}
void Event::wait(Stream) const {}
bool Event::completed() const { return true; }

#endif

}  // namespace fusedrop::cuda
