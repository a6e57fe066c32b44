"""Masks of the CUDA module equal the reference's and the CPU's, bit for bit; keys in device memory; dropout alone."""

import itertools

import fusedrop as fd
import numpy as np
import pytest
from cuda_devices import DTYPES, HALF, draw, stored, torch, wide
from fusedrop import reference
from fusedrop.reference.linear import input_rng

RNG = fd.Philox(seed=2**63 + 5, stream=3, step=7)
KEYS = [
    RNG,
    RNG.at(row0=1000, col0=17),
    RNG.at(row0=2**32 - 210, col0=2**35 - 256),
    RNG.at(row0=3, col0=32).tied(repeat=3),
    RNG.tied(repeat=2, period=5),
    fd.Philox(0, 2**32 - 1, 2**32 - 1),
]
SHAPES = [(1, 1), (3, 7), (5, 33), (64, 64), (17, 129), (200, 31), (4, 5, 6), (40,), ()]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_masks(device, key):
    for shape, p, granularity in itertools.product(SHAPES, (0.0, 0.001, 0.5, 1.0), ("element", "unit")):
        got = wide(device.dropout_mask(shape, p, key, granularity))
        assert np.array_equal(got, reference.dropout_mask(shape, p=p, rng=key, granularity=granularity)), (shape, p)
        assert np.array_equal(got, fd.dropout_mask(shape, p=p, rng=key, granularity=granularity))


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function_draws_that_mask(device, dtype, key):
    """A layer whose results are all positive, standalone dropout, and dropout of a layer's input."""
    M, K, N = 37, 5, 70
    x, w = np.ones((M, K)), np.ones((N, K))
    keep = reference.dropout_mask((M, N), p=0.4, rng=key)
    x, w = device.tensor(x, dtype), device.tensor(w, dtype)
    y, saved = device.linear_forward(x, w, p=0.4, rng=key)
    assert np.array_equal(wide(y) != 0, keep)
    assert np.array_equal(wide(device.dropout(device.tensor(np.ones((M, N)), dtype), 0.4, key)) != 0, keep)
    # With the identity for w, dx is the masked dy.
    eye = device.tensor(np.eye(N), dtype)
    _, saved = device.linear_forward(device.tensor(np.ones((M, N)), dtype), eye, p=0.4, rng=key)
    dx, _, _ = device.linear_backward(device.tensor(np.ones((M, N)), dtype), saved)
    assert np.array_equal(wide(dx) != 0, keep)
    y = device.linear(device.tensor(np.ones((M, N)), dtype), eye, input_p=0.4, rng=key)
    assert np.array_equal(wide(y) != 0, reference.dropout_mask((M, N), p=0.4, rng=input_rng(key)))


@pytest.mark.parametrize("granularity", ["element", "unit"])
@pytest.mark.parametrize("scaling", ["inverted", "classic"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout(device, dtype, scaling, granularity):
    options = {"p": 0.3, "rng": RNG.at(row0=9, col0=40), "granularity": granularity, "scaling": scaling}
    for shape in SHAPES:
        x = draw(shape, 1, dtype)
        want = stored(np.float32(x) * np.float32(reference.scale(0.3) if scaling == "inverted" else 1.0), dtype)
        want = np.where(reference.dropout_mask(shape, p=0.3, rng=options["rng"], granularity=granularity), want, 0.0)
        assert np.array_equal(wide(device.dropout(device.tensor(x, dtype), **options)), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_of_strided_arrays(device, dtype):
    x = draw((30, 44), 1, dtype)
    t = device.tensor(x, dtype)
    for view in (t.t(), t[:, 3::2], t[::3], t.reshape(5, 6, 44)[:, :, 1:], t[:, :1], t.reshape(30, 4, 11)[2]):
        want = device.dropout(view.contiguous(), 0.3, RNG)
        assert torch.equal(device.dropout(view, 0.3, RNG), want)
    with pytest.raises(ValueError, match="x must have axes before the last that step through memory like one axis"):
        device.dropout(t.reshape(5, 6, 44).transpose(0, 1), 0.3, RNG)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropped_values_are_selected(device, dtype):
    y = wide(device.dropout(device.empty((40, 40), dtype), 0.5, RNG))
    keep = reference.dropout_mask((40, 40), p=0.5, rng=RNG)
    assert np.isnan(y[keep]).all()
    assert not y[~keep].any()


@pytest.mark.parametrize("activation", fd.activations)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_alone(device, dtype, activation):
    """The CPU's float64 values, within the errors of float32 activations and of the rounding of the result."""
    for shape in ((1,), (7, 33), (3, 4, 5), (), (0, 4)):
        x, dy = draw(shape, 1, dtype) * 3, draw(shape, 2, dtype)
        x = stored(x, dtype)
        got = (
            device.activate(device.tensor(x, dtype), activation),
            device.activate_backward(device.tensor(dy, dtype), device.tensor(x, dtype), activation),
        )
        y, context = fd.activate_forward(x, activation)
        wanted = y, fd.activate_backward(dy, context)
        for g, want in zip(got, wanted, strict=True):
            assert g.dtype == DTYPES[dtype]
            near = 16 * np.finfo(np.float32).eps * (np.abs(want) + np.abs(dy)) + HALF[dtype] * np.abs(want) + 2.0**-24
            assert (np.abs(wide(g) - want) <= near).all()


# --- keys in device memory


def in_memory(device, rng, with_stream):
    signed = rng.seed - 2**64 if rng.seed >= 2**63 else rng.seed
    drawn = [signed, rng.step] + ([rng.stream] if with_stream else [])
    key = fd.DevicePhilox(device.tensor(np.array(drawn)), 0 if with_stream else rng.stream)
    return key.at(rng.row0, rng.col0).tied(rng.repeat, rng.period)


@pytest.mark.parametrize("with_stream", [False, True], ids=["seed, step", "seed, step, stream"])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_key_in_memory_draws_the_same_masks(device, key, with_stream):
    drawn = in_memory(device, key, with_stream)
    x, w, dy = (device.tensor(draw(s, i), "float32") for i, s in enumerate(((37, 40), (70, 40), (37, 70))))
    for granularity in ("element", "unit"):
        a, b = (device.dropout_mask((37, 70), 0.4, rng, granularity) for rng in (key, drawn))
        assert torch.equal(a, b)
        results = []
        for rng in (key, drawn):
            y, saved = device.linear_forward(
                x, w, activation="gelu", p=0.4, input_p=0.2, rng=rng, granularity=granularity
            )
            active = saved.active_outputs
            dropped = device.dropout(x, 0.4, rng, granularity)
            results.append((y, *device.linear_backward(dy, saved)[:2], dropped, active))
        assert all(p is q is None or torch.equal(p, q) for p, q in zip(*results, strict=True))


def test_a_key_in_memory_is_read_when_the_kernel_runs(device):
    drawn = device.tensor(np.array([7, 0]))
    key = fd.DevicePhilox(drawn, stream=3)
    for step in range(3):
        got = wide(device.dropout_mask((20, 50), 0.5, key))
        assert np.array_equal(got, fd.dropout_mask((20, 50), p=0.5, rng=fd.Philox(7, 3, step)))
        drawn[1] += 1


def test_a_captured_graph_draws_a_new_mask_at_each_replay(device):
    if device.place != "cuda":
        pytest.skip("the emulation has no graphs")
    drawn = device.tensor(np.array([7, 0]))
    key = fd.DevicePhilox(drawn, stream=3)
    x, w, dy = (device.tensor(draw(s, i), "float32") for i, s in enumerate(((37, 40), (70, 40), (37, 70))))

    def step():
        y, saved = fd.linear_forward(x, w, activation="gelu", p=0.5, rng=key)
        results = (y, *fd.linear_backward(dy, saved)[:2])
        drawn[1] += 1
        return results

    warm = torch.cuda.Stream()
    with torch.cuda.stream(warm):
        step()
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    drawn[1] = 100
    for n in range(100, 103):
        graph.replay()
        y, saved = fd.linear_forward(x, w, activation="gelu", p=0.5, rng=fd.Philox(7, 3, n))
        for got, want in zip(results, (y, *fd.linear_backward(dy, saved)[:2]), strict=True):
            assert torch.equal(got, want), n


def test_more_than_2_to_the_31_elements(device):
    """No index overflows: the last rows of a mask, and of a layer's output, are those of the reference."""
    if device.place != "cuda" or torch.cuda.get_device_properties(0).total_memory < 24 * 2**30:
        pytest.skip("needs a GPU with 24 GiB")
    M, N = 2**16 + 3, 2**15 + 1
    mask = fd.dropout_mask((M, N), p=0.5, rng=RNG, out=torch.empty(M, N, dtype=torch.bool, device="cuda"))
    tail = reference.dropout_mask((5, N), p=0.5, rng=RNG.at(row0=M - 5))
    assert np.array_equal(wide(mask[-5:]), tail)
    x = torch.ones(M, 2, dtype=torch.bfloat16, device="cuda")
    w = torch.ones(N, 2, dtype=torch.bfloat16, device="cuda")
    y, saved = fd.linear_forward(x, w, p=0.5, rng=RNG)
    assert torch.equal(y != 0, mask)
    kept_per_row, kept_per_column = wide(mask.sum(1)), wide(mask.sum(0))
    del mask
    dx, dw, _ = fd.linear_backward(y, saved)  # dz = keep ? 4 * 2 : 0
    assert np.allclose(wide(dx), 8 * kept_per_row[:, None], rtol=2.0**-8, atol=0)
    assert np.allclose(wide(dw), 8 * kept_per_column[:, None], rtol=2.0**-8, atol=0)
    assert torch.equal(fd.dropout(y, p=0.0)[-5:], y[-5:])
