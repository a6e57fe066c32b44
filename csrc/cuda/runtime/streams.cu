// streams: see streams.hpp.
#include "cuda/runtime/streams.hpp"

#include <map>
#include <mutex>

#include "cuda/runtime/device.hpp"
#include "cuda/runtime/launch.hpp"

namespace fusedrop::cuda {
namespace {

cudaStream_t cuda_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t cuda_event(void* event) { return static_cast<cudaEvent_t>(event); }

}  // namespace

Stream own_stream(int device) {
  static std::mutex lock;
  static std::map<int, cudaStream_t> streams;
  const std::lock_guard<std::mutex> guard(lock);
  const auto found = streams.find(device);
  if (found != streams.end()) return found->second;
  const int previous = set_device(device);
  cudaStream_t stream = nullptr;
  const cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  set_device(previous);
  check(error, "a stream of fusedrop's own");
  return streams[device] = stream;
}

void* allocate(i64 bytes, Stream stream) {
  void* data = nullptr;
  if (bytes > 0)
    check(cudaMallocAsync(&data, static_cast<std::size_t>(bytes), cuda_stream(stream)), "memory for a result");
  return data;
}

void release(void* data, Stream stream) noexcept {
  if (data != nullptr) cudaFreeAsync(data, cuda_stream(stream));
}

void copy(void* to, const void* from, i64 bytes, Stream stream) {
  if (bytes <= 0) return;
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault, cuda_stream(stream)),
        "a copy between device and host");
  check(cudaStreamSynchronize(cuda_stream(stream)), "a copy between device and host");
}

void* record(Stream stream) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "an event");
  const cudaError_t error = cudaEventRecord(event, cuda_stream(stream));
  if (error != cudaSuccess) destroy(event);
  check(error, "an event");
  return event;
}

bool completed(void* event) { return cudaEventQuery(cuda_event(event)) != cudaErrorNotReady; }

void wait(void* event, Stream stream) {
  check(cudaStreamWaitEvent(cuda_stream(stream), cuda_event(event), 0), "order of two streams");
}

void destroy(void* event) noexcept { cudaEventDestroy(cuda_event(event)); }

}  // namespace fusedrop::cuda
