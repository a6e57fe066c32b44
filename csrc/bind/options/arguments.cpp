// arguments: see arguments.hpp.
#include "bind/options/arguments.hpp"

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace fusedrop::bind {
namespace {

// The index of a keyword. Callers' names are nearly always interned, so the pointers are equal.
std::size_t index_of(const Signature& signature, PyObject* keyword) {
  for (std::size_t i = 0; i < signature.count; ++i)
    if (signature.names[i] == keyword) return i;
  for (std::size_t i = 0; i < signature.count; ++i)
    if (PyUnicode_Compare(signature.names[i], keyword) == 0) return i;
  return signature.count;
}

}  // namespace

void bind_arguments(const Signature& signature, PyObject* const* args, Py_ssize_t positional, PyObject* keywords,
                    py::handle* bound) {
  const auto given = static_cast<std::size_t>(positional);
  const auto function = [&] { return std::string(signature.function); };
  if (given > signature.count)
    throw py::type_error(function() + "() takes at most " + std::to_string(signature.count) + " arguments; got " +
                         std::to_string(given));
  for (std::size_t i = 0; i < given; ++i) bound[i] = args[i];
  const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
  for (Py_ssize_t k = 0; k < named; ++k) {
    PyObject* keyword = PyTuple_GET_ITEM(keywords, k);
    const std::size_t i = index_of(signature, keyword);
    const auto quoted = [&] { return " '" + py::str(keyword).cast<std::string>() + "'"; };
    if (i == signature.count) throw py::type_error(function() + "() got an unexpected keyword argument" + quoted());
    if (bound[i]) throw py::type_error(function() + "() got multiple values for argument" + quoted());
    bound[i] = args[positional + k];
  }
  for (std::size_t i = given; i < signature.count; ++i)
    if (!bound[i]) bound[i] = Py_None;
}

void set_python_error() {
  try {
    throw;
  } catch (py::error_already_set& error) {
    error.restore();
#if defined(__GLIBCXX__)
  } catch (abi::__forced_unwind&) {  // the thread is being ended
    throw;
#endif
  } catch (...) {
    py::detail::try_translate_exceptions();
  }
}

}  // namespace fusedrop::bind
