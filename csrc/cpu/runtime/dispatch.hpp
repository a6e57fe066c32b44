// dispatch: the instruction sets that this CPU can run, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "cpu/runtime/backend.hpp"

namespace fusedrop::cpu {

const Backend& backend();                   // the one in use; by default the fastest available
std::vector<std::string> available_isas();  // from the slowest to the fastest
bool set_isa(const std::string& name);      // returns false, and changes nothing, when it is not available

}  // namespace fusedrop::cpu
