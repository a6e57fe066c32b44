// destinations: see destinations.hpp.
#include "bind/call/destinations.hpp"

#include "arrays/dlpack.hpp"
#include "arrays/numpy.hpp"

namespace fusedrop::bind {

using namespace arrays;

void set_arrays(const Call& call, std::initializer_list<Destination*> destinations, const Type& type,
                std::initializer_list<NamedArray> inputs) {
  for (Destination* const* at = destinations.begin(); at != destinations.end(); ++at) {
    Destination& d = **at;
    if (d.arg.ptr() == Py_False || d.arg.ptr() == Py_True) continue;
    if (!is_numpy(d.arg) && !supports_dlpack(d.arg))
      throw py::type_error(std::string(d.name) + " must be True, False or an array for the result; got " +
                           repr_text(d.arg));
    d.array = call.output(d.arg, d.name, d.dims, d.shape, type);
    refuse_overlap(d.name, d.array, inputs);
    for (Destination* const* earlier = destinations.begin(); earlier != at; ++earlier)
      refuse_overlap(d.name, d.array, {{(*earlier)->name, &(*earlier)->array}});
  }
  for (Destination* d : destinations)
    if (d->arg.ptr() == Py_True) d->array = call.empty(d->shape, type);
}

void refuse_bias_gradient(Destination& db, const char* layer) {
  if (db.arg.ptr() != Py_True && db.arg.ptr() != Py_False)
    throw py::type_error("db must be True or False for " + std::string(layer) + " without bias; got " +
                         repr_text(db.arg));
  db.arg = Py_False;
}

py::object returned_gradient(const Call& call, const Destination& destination) {
  if (destination.arg.ptr() == Py_False) return py::none();
  if (destination.arg.ptr() == Py_True) return call.wrap(destination.array);
  return py::reinterpret_borrow<py::object>(destination.arg);
}

}  // namespace fusedrop::bind
