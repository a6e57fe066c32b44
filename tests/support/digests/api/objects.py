"""Methods and attributes of fusedrop's layers, networks, optimizers, trainers and schedules; see `digests.api`."""

import numpy as np

from digests import api

# --- layers and networks


def forward(layer, x, train=True, **options):
    """y of a layer or network."""
    return layer.forward(x, train, **api.translated("forward", options))


def backward(layer, dy, input_grad=True):
    """dx of the last forward call; None without input_grad."""
    return layer.backward(dy, input_grad)


def parameters(net):
    """The parameters, as an optimizer takes them."""
    return net.parameters()


def values(net):
    """[a copy of each parameter]"""
    return [p.value.copy() for p in net.parameters()]


def values_by_name(net):
    """{name: parameter}"""
    return {p.name: p.value for p in net.parameters()}


def live_values(net):
    """The arrays of the parameters: writing to them changes the network."""
    return [p.value for p in net.parameters()]


def gradients(net):
    """[a copy of each gradient]"""
    return [p.grad.copy() for p in net.parameters()]


def live_gradients(net):
    """The arrays of the gradients: writing to them changes the next step."""
    return [p.grad for p in net.parameters()]


def set_parameters(layer, **arrays):
    """Sets parameters of a layer under the layer's own names for them."""
    for name, array in arrays.items():
        layer.params[name] = array


def next_keys(net):
    """The keys of the masks of the network's next training call."""
    return [api.key_fields(leaf.mask_key.rng) for leaf in net.leaves() if hasattr(leaf, "mask_key")]


def set_option(layer, kind, name, value):
    """Sets a live layer's option; kind is the layer's neutral class name."""
    setattr(layer, api.present(kind, name), value)


def get_option(layer, kind, name):
    """A live layer's option."""
    return getattr(layer, api.present(kind, name))


def shard(layer, row0):
    """Makes the rows of the layer's masks begin at row0."""
    layer.mask_key.rng = layer.mask_key.rng.at(row0=row0)


def lstm_states(layer):
    """(h, c) after the last forward call, and the gradients by the initial (h, c) of the last backward call."""
    return [*layer.last_state, *layer.initial_state_grads]


def lstm_to(layer, library):
    """An LSTM's weights in the layout of "pytorch" or "keras"."""
    return getattr(layer, f"to_{library}")()


def lstm_from(layer, library, weights):
    """Loads weights in that layout."""
    getattr(layer, f"load_{library}")(weights)


# --- optimizers


def step(optimizer, lr=None):
    """One training step, at another learning rate if one is given."""
    if lr is not None:
        optimizer.lr = lr
    optimizer.step()


def penalty(optimizer):
    """The penalty that the optimizer adds to the loss."""
    return optimizer.penalty()


def optimizer_state(optimizer):
    """The number of training steps of an optimizer, and the arrays of its state."""
    state = optimizer.state_dict()
    return [state["steps"], *[array for arrays in state["slots"].values() for array in arrays]]


def take_state(optimizer, other):
    """Loads the state of another optimizer."""
    optimizer.load_state_dict(other.state_dict())


# --- the training loop


def fit(trainer, x, y, **options):
    """Trains without a progress bar; returns (numbers by epoch, numbers by step, why it stopped)."""
    history = trainer.fit(x, y, progress=False, **api.translated("fit", options))
    return dict(history), dict(history.steps), history.stopped


def trained(trainer):
    """The trainer's network."""
    return trainer.net


def predict(trainer, x, batch_size):
    """The network's outputs at test time."""
    return trainer.predict(x, batch_size=batch_size)


def evaluate(trainer, x, y, batch_size):
    """Loss and accuracy at test time."""
    return trainer.evaluate(x, y, batch_size=batch_size)


def norm_callback(state):
    """A callback that appends a number to the history."""
    state.history.setdefault("norm", []).append(float(np.abs(values(state.net)[0]).max()))


def rate(schedule, *arguments):
    """A schedule's rate at a step, or after some epochs; without arguments, the rate that it has set last."""
    return schedule(*arguments) if arguments else schedule.rate


def apply(schedule, net, *arguments):
    """Sets that rate on the network; returns it."""
    return schedule.apply(net, *arguments)


def update(stopping, value, net):
    """Gives early stopping the number of an epoch; returns whether to stop."""
    return stopping.update(value, net)


def restore(stopping, net):
    """Writes the best weights back; returns the best number and its epoch."""
    stopping.restore(net)
    return [stopping.best, stopping.best_epoch]


def layer(net, i):
    """Layer i of a network."""
    return net[i]


def layers(net):
    """All layers of a network."""
    return list(net)
