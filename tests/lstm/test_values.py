"""The LSTM's functions: values, masks, exactness, against a loop over time in lstm_by_hand.py."""

import fusedrop as fd
import numpy as np
import pytest
from finite_differences import assert_gradient
from fusedrop import reference
from lstm_by_hand import NAMES, assert_within, call, masks, random_case, run

SEED, STREAM, STEP = 7, 3, 11
INPUT_STREAM = STREAM ^ 0x80000000
RNG = fd.Philox(SEED, STREAM, STEP)
DTYPES = ["float32", "float64"]
# (B, T, I, H): ones, primes, one below, at and above the tiles (14 and 6 rows, 4 to 32 columns), a second band of
# sequences (56, 24, 8), a second block of K in the products over B*T rows, and one of H (1024 or 512).
SHAPES = [
    (1, 1, 1, 1),
    (2, 3, 5, 7),
    (13, 2, 16, 31),
    (15, 3, 33, 32),
    (14, 2, 31, 33),
    (61, 2, 3, 17),
    (3, 4, 70, 9),
]
RULES = [
    {"time_constant": True, "gate_masks": True},
    {"time_constant": True, "gate_masks": False},
    {"time_constant": False, "gate_masks": True},
    {"time_constant": False, "gate_masks": False},
]
rules = pytest.mark.parametrize("rule", RULES, ids=["Keras 4", "Keras 1", "per step 4", "per step 1"])


def by_hand(case, rule, input_p, recurrent_p, first=0):
    (B, T, K), H = case.x.shape, case.w_hh.shape[1]
    how = {"step": STEP, "first": first, "constant": rule["time_constant"], "by_gate": rule["gate_masks"]}
    keep_x = masks((B, T, K), input_p, SEED, INPUT_STREAM, **how)
    keep_h = masks((B, T, H), recurrent_p, SEED, STREAM, **how)
    return run(case, keep_x, keep_h, input_p, recurrent_p)


def check(shape, dtype, rule, input_p=0.3, recurrent_p=0.4, first=0):
    case = random_case(*shape, dtype)
    rates = {"input_p": input_p, "recurrent_p": recurrent_p}
    assert_within(call(case, rng=RNG.at(row0=first), **rates, **rule), by_hand(case, rule, **rates, first=first))


def same_bits(got, want):
    for name in NAMES:
        assert (got[name] is None) == (want[name] is None), name
        assert got[name] is None or got[name].tobytes() == want[name].tobytes(), name


# --- values


@pytest.mark.parametrize("dtype", DTYPES)
@rules
def test_values_and_gradients(isa, rule, dtype):
    for shape in SHAPES:
        check(shape, dtype, rule)


@rules
@pytest.mark.parametrize(("input_p", "recurrent_p"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (1.0, 0.2), (0.2, 1.0)])
def test_rates(isa, rule, input_p, recurrent_p):
    check((15, 3, 20, 40), "float32", rule, input_p, recurrent_p)


@pytest.mark.parametrize("shape", [(260, 5, 40, 5), (2, 2, 3, 530), (2, 2, 1030, 20)])
def test_long_and_wide(isa, shape):
    """More rows B*T than are packed at once, and more units: 1024 for float32, 512 for float64."""
    check(shape, "float32" if shape[3] < 500 else "float64", RULES[0])


def test_more_units_than_a_row_of_a_holds():
    check((2, 2, 3, 1030), "float32", RULES[0])


def test_reference_is_the_loop_by_hand():
    for rule in RULES:
        case = random_case(5, 4, 6, 7, "float64")
        rates = {"input_p": 0.3, "recurrent_p": 0.4}
        states = {"h0": case.h0, "c0": case.c0}
        y, (h, c), saved = reference.lstm_forward(
            case.x, case.w_ih, case.w_hh, case.b, **states, rng=RNG.at(row0=2), **rates, **rule
        )
        gradients = reference.lstm_backward(case.dy, saved, dh=case.dh, dc=case.dc)
        got = dict(zip(NAMES, (y, h, c, *gradients), strict=True))
        assert_within(got, by_hand(case, rule, **rates, first=2))


@rules
@pytest.mark.parametrize("sequences", [True, False])
def test_gradients_are_those_of_the_reference(rule, sequences):
    case = random_case(2, 3, 2, 3, "float64")
    rule = rule | {"input_p": 0.3, "recurrent_p": 0.4, "rng": RNG, "return_sequences": sequences}
    dy = case.dy if sequences else case.dy[:, -1]

    def forward():
        return reference.lstm_forward(case.x, case.w_ih, case.w_hh, case.b, h0=case.h0, c0=case.c0, **rule)

    def loss():
        y, (h, c), _ = forward()
        return (y * dy).sum() + (h * case.dh).sum() + (c * case.dc).sum()

    gradients = reference.lstm_backward(dy, forward()[2], dh=case.dh, dc=case.dc)
    arrays = (case.x, case.w_ih, case.w_hh, case.b, case.h0, case.c0)
    for name, array, gradient in zip(NAMES[3:], arrays, gradients, strict=True):
        assert_gradient(loss, array, gradient, operations=200, name=name)


def test_last_output_alone(isa):
    case = random_case(5, 4, 6, 7, "float32")
    options = {"input_p": 0.3, "recurrent_p": 0.4, "rng": RNG}
    whole, last = call(case, **options), call(case, sequences=False, **options)
    assert last["y"].tobytes() == whole["y"][:, -1].tobytes() == whole["h"].tobytes()
    case.dy[:, :-1] = 0
    same_bits(last | {"y": None}, call(case, **options) | {"y": None})


def test_what_is_left_out_is_none_and_changes_nothing_else(isa):
    case = random_case(5, 3, 6, 35, "float32")
    options = {"input_p": 0.3, "recurrent_p": 0.4, "rng": RNG}
    whole = call(case, **options)
    for without in [("dx",), ("dw_ih",), ("dw_hh",), ("db",), ("dw_ih", "dw_hh"), ("dx", "dw_ih", "dw_hh", "db")]:
        same_bits(call(case, **options, without=without), whole | dict.fromkeys(without))


def test_no_bias_and_no_state(isa):
    case = random_case(4, 3, 5, 6, "float32")
    y, (h, c), saved = fd.lstm_forward(case.x, case.w_ih, case.w_hh)
    gradients = fd.lstm_backward(case.dy, saved)
    zeros = case._replace(b=case.b * 0, h0=case.h0 * 0, c0=case.c0 * 0, dh=case.dh * 0, dc=case.dc * 0)
    assert gradients.db is None
    same_bits(dict(zip(NAMES, (y, h, c, *gradients), strict=True)), call(zeros) | {"db": None})


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (3, 0, 4, 5), (3, 2, 0, 5), (3, 2, 4, 0), (0, 0, 0, 0), (3, 0, 4, 0)])
def test_empty_dimensions(isa, shape):
    """I = 0: the cell depends on the bias and h alone. T = 0: the state is unchanged, gradients of weights are 0."""
    case = random_case(*shape, "float32")
    options = {"input_p": 0.3, "recurrent_p": 0.4, "rng": RNG}
    got = call(case, **options)
    if shape[1]:
        return assert_within(got, by_hand(case, RULES[0], input_p=0.3, recurrent_p=0.4))
    for name, want in {"h": case.h0, "c": case.c0, "dh0": case.dh, "dc0": case.dc}.items():
        assert got[name].tobytes() == want.tobytes(), name
    for name in ("dw_ih", "dw_hh", "db"):
        assert not got[name].any()
    y, _, saved = fd.lstm_forward(case.x, case.w_ih, case.w_hh, h0=case.h0, return_sequences=False)
    assert y.tobytes() == case.h0.tobytes()
    assert fd.lstm_backward(case.dh, saved).dh0.tobytes() == case.dh.tobytes()


# --- masks


def seen_input_masks(shape, hidden, rule, p=0.5):
    """One bool [B, T, I] per gate: where dx is not 0, with weights through which only one gate acts."""
    B, T, K = shape
    seen = []
    for gate in range(4):
        w_ih = np.zeros((4 * hidden, K), np.float32)
        w_ih[gate * hidden : (gate + 1) * hidden] = 0.01
        arguments = (np.ones(shape, np.float32), w_ih, np.zeros((4 * hidden, hidden), np.float32))
        half = np.full(4 * hidden, 0.5, np.float32)  # every gate open, none saturated
        _, _, saved = fd.lstm_forward(*arguments, half, input_p=p, rng=RNG, **rule)
        seen.append(fd.lstm_backward(np.ones((B, T, hidden), np.float32), saved).dx != 0)
    return seen


@rules
def test_masks_of_the_inputs_are_seen(isa, rule):
    """Masks are constant over time, or new at each time step, and shared by the gates or not, as the options say."""
    shape = (3, 4, 40)
    seen = seen_input_masks(shape, 2, rule)
    wanted = masks(shape, 0.5, SEED, INPUT_STREAM, STEP, constant=rule["time_constant"], by_gate=rule["gate_masks"])
    wanted[1][:, 0] = seen[1][:, 0] = False  # c_0 is 0: the first step's forget gate does not count
    for got, want in zip(seen, wanted, strict=True):
        assert np.array_equal(got, want)
        assert (got[:, 1:] == got[:, 1:2]).all() == rule["time_constant"]
    assert all(np.array_equal(seen[0][:, 1:], other[:, 1:]) for other in seen[1:]) != rule["gate_masks"]
    assert (seen[0][0] != seen[0][1]).any()  # sequences differ


def test_gate_masks_none_is_the_rule_of_keras(isa):
    """Four masks of x and of h where recurrent_p is not 0, else one: its dropout_mask_count."""
    case = random_case(4, 3, 8, 6, "float32")
    for recurrent_p, by_gate in [(0.0, False), (0.3, True)]:
        options = {"input_p": 0.4, "recurrent_p": recurrent_p, "rng": RNG}
        got = call(case, **options)
        same_bits(got, call(case, **options, gate_masks=by_gate))
        assert got["y"].tobytes() != call(case, **options, gate_masks=not by_gate)["y"].tobytes()


def test_dropped_nan_is_zero(isa):
    """Dropout selects and does not multiply: x_t, h0, and in backward their gradients."""
    case = random_case(3, 4, 40, 33, "float32")
    keep_x = masks(case.x.shape, 0.5, SEED, INPUT_STREAM, STEP, by_gate=False)[0]
    keep_h = masks((3, 4, 33), 0.5, SEED, STREAM, STEP, by_gate=False)[0]
    poisoned = case._replace(x=np.where(keep_x, case.x, np.nan), h0=np.where(keep_h[:, 0], case.h0, np.inf))
    clean = case._replace(x=np.where(keep_x, case.x, 0), h0=np.where(keep_h[:, 0], case.h0, 0))
    options = {"input_p": 0.5, "recurrent_p": 0.5, "rng": RNG, "gate_masks": False}
    same_bits(call(poisoned, **options), call(clean, **options))
    assert not call(poisoned, **options)["dx"][~keep_x].any()


def test_kept_nan_goes_on(isa):
    case = random_case(3, 4, 5, 6, "float32")
    case.x[1, 2, 3] = np.nan
    y = call(case)["y"]
    assert np.isnan(y[1, 2:]).all()
    assert not np.isnan(y[[0, 2]]).any()
    assert not np.isnan(y[1, :2]).any()


# --- exactness


@pytest.mark.parametrize("shape", [(64, 9, 28, 70), (5, 40, 300, 64), (130, 3, 9, 100)])
@pytest.mark.parametrize("rule", [RULES[0], RULES[3]], ids=["Keras 4", "per step 1"])
def test_any_number_of_threads(isa, threads, shape, rule):
    case = random_case(*shape, "float32")
    options = {"input_p": 0.3, "recurrent_p": 0.4, "rng": RNG} | rule
    threads(1)
    want = call(case, **options)
    for n in (2, 3, 7):
        threads(n)
        same_bits(call(case, **options), want)


@rules
def test_shards_of_the_batch_draw_their_part(isa, rule):
    case = random_case(21, 3, 10, 35, "float32")
    options = {"input_p": 0.3, "recurrent_p": 0.4} | rule
    whole = call(case, **options, rng=RNG.at(row0=100))
    for begin, end in [(0, 1), (4, 20), (20, 21)]:
        rows = {name: getattr(case, name)[begin:end] for name in ("x", "h0", "c0", "dy", "dh", "dc")}
        part = call(case._replace(**rows), **options, rng=RNG.at(row0=100 + begin))
        for name in ("y", "h", "c", "dx", "dh0", "dc0"):
            assert part[name].tobytes() == whole[name][begin:end].tobytes(), name


def test_avx2_and_avx512_agree_to_the_bit():
    if "avx512" not in fd.config.available_isas():
        pytest.skip("this CPU has no avx512")
    case, before, results = random_case(17, 5, 20, 45, "float32"), fd.config.get_isa(), []
    for name in ("avx2", "avx512"):
        fd.config.set_isa(name)
        results.append(call(case, input_p=0.3, recurrent_p=0.4, rng=RNG))
    fd.config.set_isa(before)
    same_bits(*results)


def test_strides_and_untouched_arguments(isa):
    """Any strides: time first, reversed, Keras's weights transposed, a column of a matrix. No input is written."""
    case = random_case(5, 4, 6, 7, "float32")
    options = {"input_p": 0.3, "recurrent_p": 0.4, "rng": RNG}
    want = call(case, **options)
    strided = case._replace(
        x=np.ascontiguousarray(case.x.swapaxes(0, 1)).swapaxes(0, 1),
        w_ih=np.asfortranarray(case.w_ih),
        w_hh=np.asfortranarray(case.w_hh),
        b=np.stack([case.b, case.b], 1)[:, 0],
        h0=np.asfortranarray(case.h0),
        c0=case.c0[::-1].copy()[::-1],
        dy=case.dy[:, ::-1].copy()[:, ::-1],
        dh=np.asfortranarray(case.dh),
    )
    for a in strided:
        a.flags.writeable = False
    same_bits(call(strided, **options), want)


def test_backward_may_run_again_and_does_not_need_y(isa):
    case = random_case(5, 4, 6, 7, "float32")
    y, (h, c), saved = fd.lstm_forward(case.x, case.w_ih, case.w_hh, case.b, recurrent_p=0.3, rng=RNG)
    first = fd.lstm_backward(case.dy, saved)
    for a in (y, h, c):
        a[...] = np.nan
    for got, want in zip(fd.lstm_backward(case.dy, saved), first, strict=True):
        assert got.tobytes() == want.tobytes()


def test_destinations_receive_the_gradients(isa):
    case = random_case(5, 4, 6, 7, "float32")
    _, _, saved = fd.lstm_forward(case.x, case.w_ih, case.w_hh, case.b)
    want = fd.lstm_backward(case.dy, saved)
    given = {name: np.full_like(getattr(want, name), np.nan) for name in ("dx", "dw_ih", "dw_hh", "db")}
    got = fd.lstm_backward(case.dy, saved, **given)
    for name, array in given.items():
        assert getattr(got, name) is array
        assert array.tobytes() == getattr(want, name).tobytes()
