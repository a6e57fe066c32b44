// optim: the parts of a training step outside the layers: softmax_cross_entropy, sgd_step, adam_step.
#include <cmath>
#include <string>
#include <vector>

#include "bind/array/array.hpp"
#include "bind/array/text.hpp"
#include "bind/register.hpp"
#include "cpu/runtime/dispatch.hpp"

namespace fusedrop::bind {
namespace {

using Labels = py::array_t<std::int64_t, py::array::c_style>;

// The caller (functional/loss.py) has checked the arguments: all are C-contiguous, and labels or target is None.
py::tuple softmax_cross_entropy(const py::array& logits, const py::object& labels, const py::object& target) {
  const i64 M = logits.shape(0), N = logits.shape(1);
  py::array gradient = new_array({M, N}, logits);
  std::vector<double> row_loss(static_cast<std::size_t>(M));
  SoftmaxArgs args{dtype_of(logits), M, N, logits.data(), nullptr, nullptr, gradient.mutable_data(), row_loss.data()};
  Labels classes;
  py::array rows;
  if (labels.is_none()) {
    rows = target.cast<py::array>();
    args.target = rows.data();
  } else {
    classes = labels.cast<Labels>();
    args.labels = classes.data();
  }
  double loss = 0;
  {
    py::gil_scoped_release release;
    cpu::backend().softmax_cross_entropy(args);
    for (const double row : row_loss) loss += row;
  }
  return py::make_tuple(M == 0 ? 0.0 : loss / static_cast<double>(M), gradient);
}

// The data of an array of an optimizer's state, in C order and of the accumulator type; null for None.
void* state_data(const py::handle& state, const py::array& value) {
  if (state.is_none()) return nullptr;
  py::array a = py::reinterpret_borrow<py::array>(state);
  const py::ssize_t itemsize = value.itemsize() == 8 ? 8 : 4;
  if (shape_text(a) != shape_text(value) || a.itemsize() != itemsize || (a.flags() & py::array::c_style) == 0)
    throw py::value_error("the optimizer's state must fit its parameter " + shape_text(value) + "; got " +
                          shape_text(a) + ": was the parameter replaced by one of another shape or dtype?");
  return a.mutable_data();
}

// The parameters of a step, given as tuples (name, value, grad, first, second, penalized). Holds the gradients, so that
// copies of strided ones live until the step has run.
class ParameterList {
 public:
  explicit ParameterList(const py::sequence& parameters) {
    for (const py::handle item : parameters) {
      const auto parameter = py::reinterpret_borrow<py::tuple>(item);
      const std::string name = parameter[0].cast<std::string>();
      py::array value = floating_array(parameter[1], name.c_str());
      if (!value.is(py::object(parameter[1])) || (value.flags() & py::array::c_style) == 0 || !value.writeable())
        throw py::value_error(name + " must be C-contiguous, aligned and writeable; got another array");
      const std::string gradient_name = name + "'s gradient";
      const py::array strided = array_like(parameter[2], gradient_name.c_str(), value, name.c_str());
      if (shape_text(strided) != shape_text(value))
        throw py::value_error(gradient_name + " must be " + shape_text(value) + " to match " + name + "; got " +
                              shape_text(strided));
      py::array grad = contiguous(strided);
      parts_.push_back({dtype_of(value), value.mutable_data(), grad.data(), state_data(parameter[3], value),
                        state_data(parameter[4], value), value.size(), parameter[5].cast<bool>()});
      gradients_.push_back(std::move(grad));
    }
  }

  void run(UpdateArgs args) const {
    args.parts = parts_.data();
    args.count = static_cast<i64>(parts_.size());
    py::gil_scoped_release release;
    cpu::backend().update(args);
  }

 private:
  std::vector<UpdatePart> parts_;
  std::vector<py::array> gradients_;
};

// The caller (training/optim.py) has checked the numbers.
void sgd_step(const py::sequence& parameters, double lr, double momentum, bool nesterov, double l1, double l2) {
  UpdateArgs args{};
  args.rule = UpdateRule::sgd;
  args.lr = lr, args.l1 = l1, args.l2 = l2;
  args.beta1 = momentum, args.nesterov = nesterov;
  ParameterList(parameters).run(args);
}

void adam_step(const py::sequence& parameters, double lr, double beta1, double beta2, double eps, double l1, double l2,
               double step) {
  UpdateArgs args{};
  args.rule = UpdateRule::adam;
  args.lr = lr / (1 - std::pow(beta1, step)), args.l1 = l1, args.l2 = l2;
  args.beta1 = beta1, args.beta2 = beta2, args.eps = eps;
  args.root = 1 / std::sqrt(1 - std::pow(beta2, step));
  ParameterList(parameters).run(args);
}

}  // namespace

void register_optim(py::module_& m) {
  m.def("softmax_cross_entropy", &softmax_cross_entropy, py::arg("logits"), py::arg("labels"), py::arg("target"));
  m.def("sgd_step", &sgd_step, py::arg("parameters"), py::arg("lr"), py::arg("momentum"), py::arg("nesterov"),
        py::arg("l1"), py::arg("l2"));
  m.def("adam_step", &adam_step, py::arg("parameters"), py::arg("lr"), py::arg("beta1"), py::arg("beta2"),
        py::arg("eps"), py::arg("l1"), py::arg("l2"), py::arg("step"));
}

}  // namespace fusedrop::bind
