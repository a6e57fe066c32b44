"""A fully connected layer with the dropout inside, between the matmul and the activation.

    forward     u = x W + b                         x [M, in]   W [in, out]   b [out]   u, z, mask [M, out]
                z = act(u * mask / (1 - p))         mask 0 or 1, drawn anew in each training call; act: sigmoid
    backward    du = act'(z) * dout * mask / (1 - p)            for sigmoid act'(z) = z (1 - z)
                dx = du Wᵀ    dW = xᵀ du    db = Σ over the rows of du

This is the kernel's own formula with dropout_first=True. fusedrop takes w [out, in] with any strides, so W.T, a view of
W, is passed without a copy.

Run: python examples/textbooks/09_fully_connected_layer.py
"""

import fusedrop as fd
import numpy as np
from sklearn.datasets import load_digits


class FullyConnectedLayer:
    """The text's class. activation_function is one of `fd.activations`; "identity" means none."""

    def __init__(self, input_size, output_size, activation_function="sigmoid", dropout_ratio=0.5, seed=0):
        weights = np.random.default_rng(seed).normal(0, input_size**-0.5, (input_size, output_size))
        self.W, self.b = weights.astype(np.float32), np.zeros(output_size, np.float32)
        self.activation_function, self.dropout_ratio = activation_function, dropout_ratio
        self.mask_key = fd.Philox(seed)

    def forward(self, x, train=True):
        self.mask_key = self.mask_key.next()  # step + 1: a new mask for each call
        act, p = self.activation_function, self.dropout_ratio if train else 0.0
        z, self.saved = fd.linear_forward(
            x, self.W.T, self.b, activation=act, p=p, rng=self.mask_key, dropout_first=True
        )
        return z

    def backward(self, dout):
        dx, dw, self.db = fd.linear_backward(dout, self.saved)
        self.dW = dw.T  # [in, out], again without a copy
        return dx


def check(x):
    """Compares forward and backward of one layer with the formulas above, in NumPy and with the same mask."""
    layer = FullyConnectedLayer(64, 100, dropout_ratio=0.5)
    layer.b[:] = np.linspace(-1, 1, 100)
    dout = np.random.default_rng(1).standard_normal((len(x), 100), np.float32)
    z, dx = layer.forward(x), layer.backward(dout)
    mask = fd.dropout_mask(z.shape, p=0.5, rng=layer.mask_key)
    z_text = 1 / (1 + np.exp(-(x @ layer.W + layer.b) * mask / 0.5))
    du = z_text * (1 - z_text) * dout * mask / 0.5
    text = {"z": z_text, "dx": du @ layer.W.T, "dW": x.T @ du, "db": du.sum(axis=0)}
    for (name, want), got in zip(text.items(), (z, dx, layer.dW, layer.db), strict=True):
        error = np.abs(got - want).max() / np.abs(want).max()
        print(f"{name:2} {want.shape!s:10} differs from the formula by {error:.1e} of its largest element")
        assert error < 1e-5  # float32


def main():
    digits, labels = load_digits(return_X_y=True)  # gray values 0 to 16 [1797, 64], and the digits
    x = (digits / 16).astype(np.float32)
    check(x[:200])
    hidden = FullyConnectedLayer(64, 100, "sigmoid", 0.2, seed=0)
    output = FullyConnectedLayer(100, 10, "identity", 0.0, seed=1)
    for epoch in range(1, 31):
        for rows in np.array_split(np.random.default_rng(epoch).permutation(1500), 30):  # 30 batches of 50
            logits = output.forward(hidden.forward(x[rows]))
            loss, dlogits = fd.softmax_cross_entropy(logits, labels[rows])
            hidden.backward(output.backward(dlogits))
            for layer in (hidden, output):
                layer.W -= layer.dW  # learning rate 1
                layer.b -= layer.db
        if epoch % 10 == 0:
            logits = output.forward(hidden.forward(x[1500:], train=False), train=False)
            accuracy = np.mean(logits.argmax(axis=1) == labels[1500:])
            print(f"epoch {epoch}: loss of the last batch {loss:.3f}, test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
