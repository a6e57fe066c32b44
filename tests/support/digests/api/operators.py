"""Settings, keys of masks, and the operators with their gradients; see `digests.api`.

An operator is a triple op, op_forward, op_backward. The functions here call all three, check that op and op_forward
return the same bits, and return the results by neutral name.
"""

import numpy as np

from digests.api.entries import call, find
from digests.case import digest


def isas():
    """The instruction sets of this CPU, from the smallest to the largest."""
    return list(call("available_isas"))


def use(isa, threads):
    """Forces an instruction set and a number of threads."""
    call("set_isa", isa=isa)
    call("set_num_threads", threads=threads)


def settings():
    """What the package reports of itself, without its version."""
    return [call("get_isa"), call("get_num_threads"), list(find("activations")), call("get_tf32")]


# --- keys of masks


def mask_key(seed=7, stream=3, step=11, **place):
    """The key of a mask; `place` is row0, col0, repeat, period."""
    return call("Name", seed=seed, stream=stream, step=step, **place)


def key_fields(key):
    """The seven integers of a key; the last may be None."""
    return [key.seed, key.stream, key.step, key.row0, key.col0, key.repeat, key.period]


def keys_after(key):
    """Keys that are made from a key: of the next step, of another origin, of other ties."""
    return [key.next(), key.at(row0=2, col0=3), key.tied(repeat=5), key.tied(period=9)]


# --- operators


def forward(entry, *operands, **options):
    """(results of op, context of op_forward), after a check that op and op_forward return the same bits.

    The results are y alone, or (y, state). With out=, y is that array.
    """
    *results, context = call(f"{entry}_forward", *operands, **options)
    if options.get("out") is not None:
        if results[0] is not options["out"]:
            raise AssertionError(f"{entry}_forward did not return out")
        options["out"] = poisoned(options["out"])
    results = results[0] if len(results) == 1 else tuple(results)
    if digest(call(entry, *operands, **options)) != digest(results):
        raise AssertionError(f"{entry} and {entry}_forward differ")
    return results, context


def poisoned(like):
    """An array of NaN, which a call must overwrite."""
    return np.full(like.shape, np.nan, like.dtype)


def fused(kind, x, w, b, dy_of, *, alone=False, into=False, **options):
    """Results of "linear" or "conv2d" and its gradients; dy_of(shape) makes dy.

    alone: also y a second time, and each gradient without the others.
    into: gradients are written into given arrays.
    """
    y, context = forward(kind, x, w, b, **options)
    dy = dy_of(y.shape)
    targets = {"dx": poisoned(x), "dw": poisoned(w), "db": poisoned(b)} if into else {}
    dx, dw, db = call(f"{kind}_backward", dy=dy, saved=context, **targets)
    results = {"y": y, "dx": dx, "dw": dw, "db": db} | (saved_arrays(context) if kind == "linear" else {})
    if alone:
        results["alone"] = [y]
        for name in ("dx", "dw", "db"):
            one = {"dx": False, "dw": False, "db": False, name: True}
            results["alone"] += call(f"{kind}_backward", dy=dy, saved=context, **one)
    return {name: value for name, value in results.items() if value is not None}


def saved_arrays(context):
    """What a linear context holds beside the operands and y, and the mask of outputs that may be non-zero."""
    z = context.saved_activation if context.kind == "z" else None
    return {"z": z, "active_outputs": context.active_outputs}


LSTM_GRADIENTS = ("dx", "dw_ih", "dw_hh", "db")  # the gradients by h0 and c0 follow them


def lstm(arrays, dy_of, *, alone=False, into=False, **options):
    """Results of an LSTM and its gradients. arrays: x, w_ih, w_hh, b, h0, c0, dh, dc; the last five may be None."""
    operands = {name: arrays[name] for name in ("x", "w_ih", "w_hh", "b", "h0", "c0")}
    (y, (h, c)), context = forward("lstm", **operands, **options)
    backward = {"dy": dy_of(y.shape), "saved": context, "dh": arrays["dh"], "dc": arrays["dc"]}
    targets = {}
    if into:
        like = {"dx": "x", "dw_ih": "w_ih", "dw_hh": "w_hh", "db": "b"}
        targets = {name: poisoned(arrays[of]) for name, of in like.items()}
    gradients = call("lstm_backward", **backward, **targets)
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
    y, context = forward(f"{kind}_pool2d", x, **options)
    results = {"y": y, "dx": call(f"{kind}_pool2d_backward", dy_of(y.shape), context)}
    if kind == "max":
        results["positions"] = context.positions
    return results


def dropout(x, dy, module="", **options):
    """y of dropout, and its gradient; module: "reference." for the specification."""
    y, context = forward(f"{module}dropout", x, **options)
    return {"y": y, "dx": call(f"{module}dropout_backward", dy, context)}


def activation(x, dy, name, module=""):
    """y of an activation, and its derivative times dy."""
    y, context = forward(f"{module}activate", x, name)
    return {"y": y, "dx": call(f"{module}activate_backward", dy, context)}
