// streams: streams, stream-ordered memory and events, as devices/device_backend.hpp describes them.
#pragma once

#include "devices/device_backend.hpp"

namespace fusedrop::cuda {

Stream own_stream(int device);

void* allocate(i64 bytes, Stream stream);
void release(void* data, Stream stream) noexcept;
void copy(void* to, const void* from, i64 bytes, Stream stream);

void* record(Stream stream);  // returns a new event
bool completed(void* event);
void wait(void* event, Stream stream);
void destroy(void* event) noexcept;

}  // namespace fusedrop::cuda
