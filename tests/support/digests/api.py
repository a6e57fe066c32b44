"""All calls of fusedrop's functions: neutral words on the callers' side, today's names inside.

Whoever renames a function, an argument, an attribute or a module of fusedrop changes this file, `api_objects.py` (what
layers, optimisers and the like have for methods and attributes) or `api_torch.py`, and no other. The tables hold what
today's names are; the functions hold how calls are put together and results taken apart.
"""

import functools
import importlib

import numpy as np

# neutral name of a function or class: its path below `fusedrop`, where that is another one
ENTRIES = {
    "mask": "dropout_mask",
    "loss": "softmax_cross_entropy",
    "Name": "Philox",
}
# neutral name of an argument or attribute: today's, in all calls ...
ARGUMENTS = {
    "dropout_first": "dropout_before_activation",
    "active_inputs": "kept_inputs",
    "constant": "time_constant",
    "apart": "gate_masks",
    "sequences": "return_sequences",
    "optimizer": "optimiser",
}
# ... and in those of one entry
FUSED_LAYER = {"p": "dropout", "input_p": "input_dropout"}
ARGUMENTS_OF = {
    "Linear": FUSED_LAYER,
    "Conv2d": FUSED_LAYER,
    "LSTM": {"input_p": "dropout", "recurrent_p": "recurrent_dropout"},
    "use_isa": {"isa": "name"},
    "torch.Linear": FUSED_LAYER,
}
# neutral words among the values of arguments: today's, where that is another one
VALUES: dict[str, str] = {}


def find(entry):
    """The function or class of this neutral name."""
    module, _, name = f"fusedrop.{ENTRIES.get(entry, entry)}".rpartition(".")
    return getattr(importlib.import_module(module), name)


def today(entry, argument):
    """An argument's name in fusedrop."""
    return ARGUMENTS_OF.get(entry, {}).get(argument) or ARGUMENTS.get(argument, argument)


def call(entry, *positional, **arguments):
    """Calls the function or class with neutral arguments."""
    return find(entry)(*positional, **named(entry, arguments))


def bound(entry, **arguments):
    """The function itself with arguments of keywords, for what looks into it: a compiler."""
    return functools.partial(find(entry), **named(entry, arguments))


def named(entry, arguments):
    """Arguments under today's names, with today's words."""
    return {today(entry, name): _word(value) for name, value in arguments.items()}


def _word(value):
    return VALUES.get(value, value) if isinstance(value, str) else value


# --- settings and names of masks


def isas():
    """The instruction sets of this CPU, from the plainest on."""
    return list(call("available_isas"))


def use(isa, threads):
    """Forces an instruction set and a count of threads."""
    call("use_isa", isa=isa)
    call("set_num_threads", threads=threads)


def settings():
    """What the package says of itself, but its version."""
    return [call("isa"), call("get_num_threads"), list(find("activations")), call("tf32")]


def mask_name(seed=7, stream=3, step=11, **place):
    """Names a mask; `place` is row0, col0, repeat, period."""
    return call("Name", seed=seed, stream=stream, step=step, **place)


def name_fields(name):
    """The seven integers (the last may be None) of a mask's name."""
    return [name.seed, name.stream, name.step, name.row0, name.col0, name.repeat, name.period]


def names_after(name):
    """The names that a name makes: of the next step, of another origin, of other ties."""
    return [name.next(), name.at(row0=2, col0=3), name.tied(repeat=5), name.tied(period=9)]


# --- functions, forward and backward


def poisoned(like):
    """An array that a call has to fill."""
    return np.full(like.shape, np.nan, like.dtype)


def fused(kind, x, w, b, dy_of, *, alone=False, into=False, out=None, **options):
    """Results of "linear" or "conv2d" and its gradients; dy_of(shape) makes dy.

    alone: also y by the function that keeps nothing, and each gradient without the others.
    into: gradients are written into arrays of ours.
    out: likewise y.
    """
    if out is not None:
        options["out"] = out
    y, saved = call(f"{kind}_forward", x=x, w=w, b=b, **options)
    if out is not None and y is not out:
        raise AssertionError("out was not returned")
    dy = dy_of(y.shape)
    wanted = {}
    if into:
        wanted = {"dx": poisoned(x), "dw": poisoned(w), "db": poisoned(b)}
    dx, dw, db = call(f"{kind}_backward", dy=dy, saved=saved, **wanted)
    results = {"y": y, "dx": dx, "dw": dw, "db": db} | (kept_of(saved) if kind == "linear" else {})
    if alone:
        if out is not None:
            options["out"] = poisoned(y)
        results["alone"] = [call(kind, x=x, w=w, b=b, **options)]
        for name in ("dx", "dw", "db"):
            one = {"dx": False, "dw": False, "db": False, name: True}
            results["alone"] += call(f"{kind}_backward", dy=dy, saved=saved, **one)
    return {name: value for name, value in results.items() if value is not None}


def kept_of(saved):
    """What a linear forward call keeps beside its operands and y, and which outputs it left out."""
    return {"z": saved.kept if saved.kind == "z" else None, "active_outputs": saved.kept_outputs}


LSTM_GRADIENTS = ("dx", "dw_ih", "dw_hh", "db")  # and those by h0 and c0, after them


def lstm(arrays, dy_of, *, alone=False, into=False, **options):
    """Results of an LSTM and its gradients. arrays: x, w_ih, w_hh, b, h0, c0, dh, dc; the last five may be None."""
    forward = {name: arrays[name] for name in ("x", "w_ih", "w_hh", "b", "h0", "c0")}
    y, (h, c), saved = call("lstm_forward", **forward, **options)
    backward = {"dy": dy_of(y.shape), "saved": saved, "dh": arrays["dh"], "dc": arrays["dc"]}
    wanted = {}
    if into:
        like = {"dx": "x", "dw_ih": "w_ih", "dw_hh": "w_hh", "db": "b"}
        wanted = {name: poisoned(arrays[of]) for name, of in like.items()}
    gradients = call("lstm_backward", **backward, **wanted)
    results = {"y": y, "state": [h, c]} | dict(zip(LSTM_GRADIENTS, gradients[:4], strict=True))
    results["dstate"] = list(gradients[4:])
    if alone:
        results["alone"] = []
        for name in LSTM_GRADIENTS:
            one = {"dx": False, "dw_ih": False, "dw_hh": False, "db": False, name: True}
            results["alone"] += call("lstm_backward", **backward, **one)
    return {name: value for name, value in results.items() if value is not None}


def pool(kind, x, dy_of, **options):
    """Results of the "max" or "avg" pool and its gradient."""
    y, saved = call(f"{kind}_pool2d_forward", x=x, **options)
    dx = call(f"{kind}_pool2d_backward", dy=dy_of(y.shape), saved=saved)
    results = {"y": y, "dx": dx}
    if kind == "max":
        results["positions"] = saved.positions
    return results
