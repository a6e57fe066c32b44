// arguments: the functions of _core take their arguments by position or keyword, at the cost of comparing pointers.
// A function gets one handle for each of its parameters; an argument that was not passed is None.
//
// pybind11 binds the 13 arguments of a linear layer, ten of them keywords, in 1.6 us, and this file does it in 0.1 us
// (pybind11 3, GCC 12, an Intel Xeon). A whole call of 8x16x8 takes about 2 us there.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <initializer_list>
#include <string>

namespace fusedrop::bind {

namespace py = pybind11;

template <std::size_t N>
using Arguments = std::array<py::handle, N>;

struct Signature {
  const char* function;
  PyObject* const* names;  // interned
  std::size_t count;
};
// TypeError, in Python's words, for too many arguments, an unknown keyword or one argument given twice.
void bind_arguments(const Signature& signature, PyObject* const* args, Py_ssize_t positional, PyObject* keywords,
                    py::handle* bound);
void set_python_error();  // from the C++ exception that is being handled

template <auto function>
struct Entry;
template <std::size_t N, py::object (*function)(const Arguments<N>&)>
struct Entry<function> {
  static inline const char* name = nullptr;
  static inline std::array<PyObject*, N> names{};
  static inline PyMethodDef method{};

  static PyObject* call(PyObject*, PyObject* const* args, Py_ssize_t positional, PyObject* keywords) {
    try {
      Arguments<N> bound;
      bind_arguments({name, names.data(), N}, args, positional, keywords, bound.data());
      return function(bound).release().ptr();
    } catch (...) {
      set_python_error();
      return nullptr;
    }
  }
};

// Adds `function` to the module.
template <auto function, std::size_t N>
void def(py::module_& m, const char* name, const char* const (&parameters)[N]) {
  using E = Entry<function>;
  E::name = name;
  for (std::size_t i = 0; i < N; ++i) E::names[i] = PyUnicode_InternFromString(parameters[i]);
  E::method = {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&E::call)),
               METH_FASTCALL | METH_KEYWORDS, nullptr};
  PyObject* made = PyCFunction_NewEx(&E::method, nullptr, m.attr("__name__").ptr());
  if (made == nullptr) throw py::error_already_set();
  m.attr(name) = py::reinterpret_steal<py::object>(made);
}

// For a class whose instances C++ alone makes: without this, X.__new__(X) has memory that nobody has initialized.
inline void forbid_new(const py::handle& cls) { reinterpret_cast<PyTypeObject*>(cls.ptr())->tp_new = nullptr; }

// The C++ object of an argument; null for a value of another class.
template <class T>
const T* instance_of(const py::handle& value) {
  if (!py::isinstance<T>(value)) return nullptr;
  return static_cast<const T*>(
      reinterpret_cast<py::detail::instance*>(value.ptr())->get_value_and_holder().value_ptr());
}

}  // namespace fusedrop::bind
