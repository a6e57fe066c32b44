"""Three stacked LSTMs that read an image row by row: x [M, 28, 28] is a sequence of T = 28 rows of I = 28 pixels.

    LSTM(128) -> Dropout(0.4) -> LSTM(64) -> Dropout(0.4) -> LSTM(32), its last output [M, 32] -> logits [M, 10]
    z_t = (x_t ⊙ m_x) w_ihᵀ + (h_{t-1} ⊙ m_h) w_hhᵀ + b                gates i, f, c, o; forget bias 1
    c_t = sigmoid(z_f) c_{t-1} + sigmoid(z_i) tanh(z_c)                 h_t = sigmoid(z_o) tanh(c_t)

Trained by two rules of where dropout applies:
    Keras's     the second and third LSTM have input_p=0.25 (m_x) and recurrent_p=0.25 (m_h): inverted, constant over
                the time steps of a call, four of each for the gates, new ones at the next call; never on c
    PyTorch's   between the layers only, a new mask every time step, nothing on h: input_p=0.4, time_constant=False
Both Dropout layers have seed 1001 as in the text; their positions in the network make their masks differ.

Run: python examples/textbooks/05_stacked_lstm.py [--data DIR] [--epochs 5] [--out DIR]
"""

import argparse
import math
import sys
from pathlib import Path

import fusedrop as fd
from fusedrop.cli.datasets import DatasetError, load


def keras_rule(pixels):
    inside = {"input_p": 0.25, "recurrent_p": 0.25}
    return fd.Sequential(
        fd.LSTM(pixels, 128, return_sequences=True),
        fd.Dropout(0.4, seed=1001),
        fd.LSTM(128, 64, return_sequences=True, **inside),
        fd.Dropout(0.4, seed=1001),
        fd.LSTM(64, 32, **inside),
        fd.Linear(32, 10),
        seed=0,
    )


def pytorch_rule(pixels):
    between = {"input_p": 0.4, "time_constant": False}
    return fd.Sequential(
        fd.LSTM(pixels, 128, return_sequences=True),
        fd.LSTM(128, 64, return_sequences=True, **between),
        fd.LSTM(64, 32, **between),
        fd.Linear(32, 10),
        seed=0,
    )


def main(data, epochs, picture):
    curves = fd.training.History()
    side = math.isqrt(data.x_train.shape[1])
    x, x_test = data.x_train.reshape(-1, side, side), data.x_test.reshape(-1, side, side)
    for rule, build in {"Keras's rule": keras_rule, "PyTorch's rule": pytorch_rule}.items():
        net = build(side)
        trainer = fd.training.Trainer(net, fd.training.Adam(net.parameters(), lr=0.002))
        history = trainer.fit(x, data.y_train, epochs=epochs, batch_size=128, validation=(x_test, data.y_test))
        if history.stopped:
            sys.exit("stopped before the end")  # by Ctrl-C
        curves[f"{rule}: train loss"] = losses = history["train loss"]
        curves[f"{rule}: test accuracy"] = accuracies = history["validation accuracy"]
        print(f"{rule}: train loss {losses[-1]:.3f}, test accuracy {accuracies[-1]:.4f}")
        assert data.name != "Fashion-MNIST" or epochs < 5 or accuracies[-1] > 0.84
    curves.plot(picture, title=f"{data.name}, row by row: three LSTMs with dropout")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="folder with the four IDX files, plain or .gz")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        data = load(options.data)
        print(f"data: {data.name}, from {data.source}")
        main(data, options.epochs, picture=options.out / "05_stacked_lstm.png")
    except (DatasetError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
