"""Linear -> Dropout -> ReLU -> Linear, 10 -> 5 -> 2, p = 0.5: dropout BEFORE the activation.

    z = x w1ᵀ + b1                   x [M, 10]   w1 [5, 10]   b1 [5]   z, mask, h [M, 5]
    h = relu(z * mask / (1 - p))     mask 0 or 1, drawn anew in each training call
    y = h w2ᵀ + b2                   w2 [2, 5]   b2 [2]   y [M, 2]
    backward                         dz = (dy w2) * [h > 0] * mask / (1 - p): the mask of that forward call

The first three layers are one fused call. The data are real and have this shape: 10 measurements of 442 patients. The
2 classes say whether the disease progressed less or more than the median.

Run: python examples/textbooks/03_linear_dropout_relu_linear.py
"""

import fusedrop as fd
import numpy as np
from sklearn.datasets import load_diabetes

P, SEED = 0.5, 3


def build():
    """A new network. The seed fixes the weights and the first mask, so that every call returns the same network."""
    return fd.Sequential(
        fd.Linear(10, 5, activation="relu", p=P, dropout_first=True, dtype="float64"),
        fd.Linear(5, 2, dtype="float64"),
        seed=SEED,
    )


def finite_difference(x, labels, i, position, eps=1e-6):
    """d loss / d (element `position` of parameter i), by a small change of that element in both directions."""
    losses = []
    for change in (eps, -eps):
        net = build()
        net.parameters()[i].value[position] += change
        losses.append(fd.softmax_cross_entropy(net.forward(x), labels)[0])
    return (losses[0] - losses[1]) / (2 * eps)


def main():
    x, progress = load_diabetes(return_X_y=True)
    x, labels = x / x.std(axis=0), (progress > np.median(progress)).astype(int)

    net = build()
    y = net.forward(x, train=True)
    loss, dy = fd.softmax_cross_entropy(y, labels)
    dx = net.backward(dy)
    print(f"forward   x {x.shape} -> y {y.shape}, loss {loss:.4f}")
    print(f"backward  dy {dy.shape} -> dx {dx.shape}, " + ", ".join(f"d{k} {g.shape}" for k, g in net.grads.items()))

    # The same by hand. The key of the mask is that of layer 0 in the first training call.
    mask = fd.dropout_mask((len(x), 5), p=P, rng=fd.Philox(SEED, stream=0, step=0))
    w1, b1, w2, b2 = (parameter.value for parameter in net.parameters())
    h = np.maximum((x @ w1.T + b1) * mask / (1 - P), 0)
    dz = (dy @ w2) * (h > 0) * mask / (1 - P)
    print(f"mask      keeps {mask.mean():.3f} of {mask.shape}; its first row is {mask[0].astype(int)}")
    for name, got, want in (("y", y, h @ w2.T + b2), ("dx", dx, dz @ w1), ("dw1", net.grads["0.weight"], dz.T @ x)):
        print(f"by hand   {name:3} with this mask differs by at most {np.abs(got - want).max():.1e}")
        assert np.allclose(got, want, rtol=1e-12, atol=1e-12)

    for i, parameter in enumerate(net.parameters()):
        numeric = [finite_difference(x, labels, i, position) for position in np.ndindex(parameter.value.shape)]
        worst = np.abs(parameter.grad.ravel() - numeric).max()
        print(f"numeric   d{parameter.name} differs by at most {worst:.1e}")
        assert worst < 1e-8

    sgd = fd.training.SGD(net.parameters(), lr=0.1)
    for _ in range(300):
        net.backward(fd.softmax_cross_entropy(net.forward(x[:342]), labels[:342])[1])
        sgd.step()
    correct = net.forward(x[342:], train=False).argmax(axis=1) == labels[342:]
    print(f"trained   on 342 patients; right for {np.mean(correct):.0%} of the other 100")


if __name__ == "__main__":
    main()
