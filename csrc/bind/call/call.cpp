// call: see call.hpp.
#include "bind/call/call.hpp"

#include "arrays/numpy.hpp"

namespace fusedrop::bind {
namespace {

bool computes_with(const Type& type, bool on_device) {
  return type == kFloat32 || type == kBfloat16 || type == (on_device ? kFloat16 : kFloat64);
}

// The type as the caller's library writes it: "torch.float16".
std::string type_text_of(const Array& a, const py::handle& value) {
  if (a.device.type != dlpack::kCpu || is_numpy(value) || !py::hasattr(value, "dtype")) return type_name(a.type);
  return py::str(value.attr("dtype")).cast<std::string>();
}

}  // namespace

Array Call::floating(const py::handle& value, const char* name) const {
  Array a = view(value, name);
  if (!computes_with(a.type, on_device()))
    throw py::type_error(std::string(name) + " must be " +
                         (on_device()       ? ""
                          : is_numpy(value) ? "a NumPy array of "
                                            : "an array of ") +
                         (on_device() ? "float32, float16 or bfloat16 on the GPU" : kFloatingTypes) + "; got " +
                         type_text_of(a, value));
  if (!a.aligned()) throw py::value_error(std::string(name) + " must be aligned to its elements; got an odd address");
  return a;
}

Array Call::like(const py::handle& value, const char* name, const Array& other, const char* other_name) const {
  Array a = floating(value, name);
  require_type(a, name, other.type, other_name);
  return a;
}

Array Call::bias(const py::handle& value, const Array& x, const Array& w) const {
  if (value.is_none()) return {};
  Array b = like(value, "b", x, "x");
  if (b.shape != Dims{w.shape[0]})
    throw py::value_error("b must be [N] = " + shape_text({w.shape[0]}) + " to match w " + shape_text(w.shape) +
                          "; got " + shape_text(b.shape));
  return b;
}

Array Call::output(const py::handle& value, const char* name, const char* dims, const Dims& shape,
                   const Type& type) const {
  Array a = floating(value, name);
  require_output(a, name, dims, shape, type);
  return a;
}

}  // namespace fusedrop::bind
