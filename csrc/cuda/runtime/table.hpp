// table: what this module gives to the bindings.
#pragma once

#include "devices/device_backend.hpp"

namespace fusedrop::cuda {

const DeviceBackend& backend();

}  // namespace fusedrop::cuda
