"""Dropout in the textbook's form (not inverted), for arrays of any rank.

    training    mask = rand > dropout_ratio     y = x * mask                    x, mask, y, dout, dx: one shape
    test                                        y = x * (1 - dropout_ratio)
    backward                                    dx = dout * mask

Training leaves the kept elements as they are, so the test output is scaled down to the same mean.
Only `rand` is different here: a mask does not come from hidden state, but is computed from a key (seed, stream, step).
The same key gives the same mask again, so backward computes it from the key and no mask is stored.

Run: python examples/textbooks/01_dropout_textbook.py
"""

import math

import fusedrop as fd
import numpy as np
from sklearn.datasets import load_digits

SEED = 1


class Dropout:
    """The text's class and names. `fd.Dropout(dropout_ratio, scaling="classic")` does the same."""

    def __init__(self, dropout_ratio=0.5):
        self.dropout_ratio = dropout_ratio
        self.next_mask = fd.Philox(SEED, stream=0, step=0)
        self.mask_key = None

    def forward(self, x, train_flg=True):
        if not train_flg:
            return x * (1 - self.dropout_ratio)
        self.mask_key, self.next_mask = self.next_mask, self.next_mask.next()  # step + 1: a new mask each call
        return fd.dropout(x, p=self.dropout_ratio, rng=self.mask_key, scaling="classic")

    def backward(self, dout):
        return fd.dropout(dout, p=self.dropout_ratio, rng=self.mask_key, scaling="classic")


def check(dropout, x):
    """Compares a training call, its backward and a test call with the formulas above; returns the mask."""
    ready_made = fd.Dropout(dropout.dropout_ratio, scaling="classic", seed=SEED, stream=0)
    dout = np.cos(x)
    y, dx = dropout.forward(x, train_flg=True), dropout.backward(dout)
    mask = fd.dropout_mask(x.shape, p=dropout.dropout_ratio, rng=dropout.mask_key)
    assert np.array_equal(y, x * mask)
    assert np.array_equal(dx, dout * mask)
    assert np.array_equal(dropout.forward(x, train_flg=False), x * (1 - dropout.dropout_ratio))
    assert np.array_equal(ready_made.forward(x, True), y)
    return mask


def main():
    images = load_digits().images.astype(np.float32)  # [1797, 8, 8], gray values 0 to 16
    shapes = [(115008,), (1797, 64), (1797, 8, 8), (1797, 4, 2, 8), (3, 599, 4, 2, 8)]

    print("dropout_ratio  kept of 115008  expected 1 - ratio  standard errors apart")
    for ratio in (0.1, 0.3, 0.5, 0.9):
        masks = [check(Dropout(ratio), images.reshape(shape)) for shape in shapes]
        kept = masks[2].mean()
        error = math.sqrt(ratio * (1 - ratio) / images.size)
        print(f"{ratio:13.1f}  {kept:14.4f}  {1 - ratio:18.4f}  {(kept - (1 - ratio)) / error:+21.2f}")
    print(f"y = x*mask, dx = dout*mask, test y = x*(1-ratio): exact for ranks {[len(s) for s in shapes]}")

    dropout = Dropout()  # dropout_ratio=0.5
    batch, calls = images[:100], 2000
    mean = sum(dropout.forward(batch) for _ in range(calls)) / calls
    test = dropout.forward(batch, train_flg=False)
    print(f"{calls} training calls, a new mask each: mean {mean.mean():.3f}, the test output's mean {test.mean():.3f}")


if __name__ == "__main__":
    main()
