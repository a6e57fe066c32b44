// dispatch: which instruction sets this CPU can run, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "cpu/backend.hpp"

namespace fusedrop::cpu {

const Backend& backend();                   // the one in use; the best available unless told otherwise
std::vector<std::string> available_isas();  // from the plainest to the fastest
bool use_isa(const std::string& name);      // false when it is not available; nothing changes then

}  // namespace fusedrop::cpu
