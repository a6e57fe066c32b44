// optim: the parts of a training step outside the layers: softmax_cross_entropy, sgd_step, adam_step.
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "arrays/numpy.hpp"
#include "bind/call/call.hpp"
#include "bind/options/arguments.hpp"
#include "bind/register.hpp"
#include "core/params/elementwise.hpp"
#include "core/params/optim.hpp"

namespace fusedrop::bind {
namespace {

// The caller (functional/loss.py) has checked the arguments: all are NumPy arrays in C order, and labels or target is
// None.
py::object softmax_cross_entropy(const Arguments<3>& arguments) {
  const auto& [logits_arg, labels_arg, target_arg] = arguments;
  const Library library(logits_arg, "logits");
  const Call call(library);
  const Array logits = call.floating(logits_arg, "logits");
  const i64 M = logits.shape[0], N = logits.shape[1];
  const Array gradient = call.empty(logits.shape, logits.type);
  std::vector<double> row_loss(static_cast<std::size_t>(M));
  SoftmaxArgs args{dtype_of(logits), M, N, logits.data, nullptr, nullptr, gradient.data, row_loss.data()};
  Array classes, rows;
  if (labels_arg.is_none()) {
    rows = call.floating(target_arg, "target");
    args.target = rows.data;
  } else {
    classes = call.view(labels_arg, "labels");
    args.labels = static_cast<const i64*>(classes.data);
  }
  call.run(kernels::softmax_cross_entropy, args, {});
  const double loss = std::accumulate(row_loss.begin(), row_loss.end(), 0.0);
  return py::make_tuple(M == 0 ? 0.0 : loss / static_cast<double>(M), call.wrap(gradient));
}

// The data of an array of an optimizer's state, in C order and of the accumulator type; null for None.
void* state_data(const Call& call, const py::handle& state, const Array& value) {
  if (state.is_none()) return nullptr;
  const Array a = call.view(state, "state");
  if (a.shape != value.shape || a.item_bytes() != (value.item_bytes() == 8 ? 8 : 4) || !a.contiguous())
    throw py::value_error("the optimizer's state must fit its parameter " + shape_text(value.shape) + "; got " +
                          shape_text(a.shape) + ": was the parameter replaced by one of another shape or dtype?");
  return a.data;
}

// The parameters of a step, given as tuples (name, value, grad, first, second, penalized). Holds the gradients, so that
// copies of strided ones live until the step has run.
class ParameterList {
 public:
  explicit ParameterList(const py::handle& parameters) {
    for (const py::handle item : parameters) {
      const auto parameter = py::reinterpret_borrow<py::tuple>(item);
      const std::string name = parameter[0].cast<std::string>(), gradient_name = name + "'s gradient";
      const py::object value_arg = parameter[1], gradient_arg = parameter[2];
      const Library library(value_arg, name.c_str(), RunsOn::cpu_only);
      const Call call(library);
      const Array value = call.floating(value_arg, name.c_str());
      if (value.copied_from.first != nullptr || !value.contiguous() || value.read_only)
        throw py::value_error(name + " must be C-contiguous, aligned and writeable; got another array");
      const Array strided = call.like(gradient_arg, gradient_name.c_str(), value, name.c_str());
      if (strided.shape != value.shape)
        throw py::value_error(gradient_name + " must be " + shape_text(value.shape) + " to match " + name + "; got " +
                              shape_text(strided.shape));
      const Array gradient = contiguous(strided);
      parts_.push_back({dtype_of(value), value.data, gradient.data, state_data(call, parameter[3], value),
                        state_data(call, parameter[4], value), value.size(), parameter[5].cast<bool>()});
      gradients_.push_back(gradient);
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
  std::vector<Array> gradients_;
};

double number(const py::handle& value) { return value.cast<double>(); }

// The caller (training/optim.py) has checked the numbers.
py::object sgd_step(const Arguments<6>& arguments) {
  const auto& [parameters, lr, momentum, nesterov, l1, l2] = arguments;
  UpdateArgs args{};
  args.rule = UpdateRule::sgd;
  args.lr = number(lr), args.l1 = number(l1), args.l2 = number(l2);
  args.beta1 = number(momentum), args.nesterov = nesterov.ptr() == Py_True;
  ParameterList(parameters).run(args);
  return py::none();
}

py::object adam_step(const Arguments<8>& arguments) {
  const auto& [parameters, lr, beta1, beta2, eps, l1, l2, step] = arguments;
  UpdateArgs args{};
  args.rule = UpdateRule::adam;
  args.l1 = number(l1), args.l2 = number(l2);
  args.beta1 = number(beta1), args.beta2 = number(beta2), args.eps = number(eps);
  args.lr = number(lr) / (1 - std::pow(args.beta1, number(step)));
  args.root = 1 / std::sqrt(1 - std::pow(args.beta2, number(step)));
  ParameterList(parameters).run(args);
  return py::none();
}

}  // namespace

void register_optim(py::module_& m) {
  def<&softmax_cross_entropy>(m, "softmax_cross_entropy", {"logits", "labels", "target"});
  def<&sgd_step>(m, "sgd_step", {"parameters", "lr", "momentum", "nesterov", "l1", "l2"});
  def<&adam_step>(m, "adam_step", {"parameters", "lr", "beta1", "beta2", "eps", "l1", "l2", "step"});
}

}  // namespace fusedrop::bind
