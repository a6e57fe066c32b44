"""Methods and attributes of fusedrop's layers, networks, optimisers, trainers and schedules; see `api.py`."""

import numpy as np

from digests import api

# --- layers and networks


def forward(layer, x, train=True, **options):
    """y of a layer or network."""
    return layer.forward(x, train, **api.named("forward", options))


def backward(layer, dy, input_grad=True):
    """dx of the last forward call; None without input_grad."""
    return layer.backward(dy, input_grad)


def parameters(net):
    """What an optimiser takes."""
    return net.parameters()


def values(net):
    """[a copy of each parameter]"""
    return [p.value.copy() for p in net.parameters()]


def named_values(net):
    """{name: parameter}"""
    return {p.name: p.value for p in net.parameters()}


def live_values(net):
    """The parameters themselves, to be written into."""
    return [p.value for p in net.parameters()]


def gradients(net):
    """[a copy of each gradient]"""
    return [p.grad.copy() for p in net.parameters()]


def live_gradients(net):
    """The gradients themselves, to be written into."""
    return [p.grad for p in net.parameters()]


def set_parameters(layer, **arrays):
    """Gives a layer its parameters, by the names that the layer has for them."""
    for name, array in arrays.items():
        layer.params[name] = array


def places(net):
    """The names of the masks that the network's layers draw next."""
    return [api.name_fields(leaf.mask_name.rng) for leaf in net.leaves() if hasattr(leaf, "mask_name")]


def set_option(layer, kind, name, value):
    """Sets a live layer's option; kind is the layer's neutral class name."""
    setattr(layer, api.today(kind, name), value)


def get_option(layer, kind, name):
    """A live layer's option."""
    return getattr(layer, api.today(kind, name))


def shard(layer, row0):
    """Makes the layer draw the masks of rows from row0 on."""
    layer.mask_name.rng = layer.mask_name.rng.at(row0=row0)


def lstm_states(layer):
    """(h, c) after the last forward call, and the gradients by the initial ones after the last backward call."""
    return [*layer.last_state, *layer.initial_state_grads]


def lstm_to(layer, library):
    """An LSTM's weights in the layout of "pytorch" or "keras"."""
    return getattr(layer, f"to_{library}")()


def lstm_from(layer, library, weights):
    """Loads them."""
    getattr(layer, f"load_{library}")(weights)


# --- optimisers


def step(optimizer, lr=None):
    """One step, at another rate if one is given."""
    if lr is not None:
        optimizer.lr = lr
    optimizer.step()


def penalty(optimizer):
    """What the optimiser adds to the loss."""
    return optimizer.penalty()


def optimizer_state(optimizer):
    """The arrays that an optimiser keeps, and its count of steps."""
    state = optimizer.state_dict()
    return [state["steps"], *[array for arrays in state["slots"].values() for array in arrays]]


def take_state(optimizer, other):
    """Makes the optimiser go on where the other one stands."""
    optimizer.load_state_dict(other.state_dict())


# --- the training loop


def fit(trainer, x, y, **options):
    """Trains silently; (numbers by epoch, numbers by step, why it stopped)."""
    history = trainer.fit(x, y, progress=False, **api.named("fit", options))
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
    """A callback: it appends a number to the history."""
    state.history.setdefault("norm", []).append(float(np.abs(values(state.net)[0]).max()))


def rate(schedule, *arguments):
    """A schedule's rate at a step, or after some epochs; without arguments, the one that it has set last."""
    return schedule(*arguments) if arguments else schedule.rate


def apply(schedule, net, *arguments):
    """Sets that rate on the network."""
    return schedule.apply(net, *arguments)


def update(stopping, value, net):
    """Early stopping by hand: takes an epoch's number; whether to stop."""
    return stopping.update(value, net)


def restore(stopping, net):
    """Writes the best weights back; the best number and its epoch."""
    stopping.restore(net)
    return [stopping.best, stopping.best_epoch]


def layer(net, i):
    """A network's layer."""
    return net[i]


def layers(net):
    """All of them."""
    return list(net)
