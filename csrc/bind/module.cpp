// module: fusedrop._core. Its functions are listed in register.hpp.
#include "bind/register.hpp"
#include "devices/backend.hpp"
#include "devices/memory.hpp"

PYBIND11_MODULE(_core, m) {
  m.doc() =
      "Kernels of fusedrop. The public interface is the package fusedrop; this module checks arguments and runs them.";
  m.attr("__version__") = FUSEDROP_VERSION;
  fusedrop::bind::register_philox(m);
  fusedrop::devices::register_backend(m);
  fusedrop::devices::register_memory(m);
  fusedrop::bind::register_linear(m);
  fusedrop::bind::register_conv2d(m);
  fusedrop::bind::register_dropout(m);
  fusedrop::bind::register_activation(m);
  fusedrop::bind::register_lstm(m);
  fusedrop::bind::register_optim(m);
  fusedrop::bind::register_pool(m);
  fusedrop::bind::register_runtime(m);
}
