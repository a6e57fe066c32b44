"""Column- and row-parallel layers in real processes: masks equal those of one process, all else within rounding.

All is float64, with sums of up to 40 terms in another order. A tolerance of 1e-12 is far above their rounding, and far
below the effect of one wrong element of a mask.
"""

import fusedrop
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)

import fusedrop.torch as ft  # noqa: E402
from parallel import tensor_parallel_cases as cases  # noqa: E402
from parallel.ranks import run_ranks  # noqa: E402
from parallel.tensor_parallel_cases import DEEP, FLAT, INNER, SEED, network, tensor  # noqa: E402


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """[{case: result} of rank 0, of rank 1]"""
    return run_ranks(cases.__file__, 2, tmp_path_factory.mktemp("two"), *cases.CASES)


@pytest.fixture(scope="module")
def results_of_four(tmp_path_factory):
    return run_ranks(cases.__file__, 4, tmp_path_factory.mktemp("four"), *cases.CASES_OF_FOUR)


def close(got, want, what=""):
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12, msg=lambda text: f"{what}: {text}")


def assert_equal_training(got, want, what=""):
    for step in range(cases.STEPS):
        assert torch.equal(got["outputs"][step] == 0, want["outputs"][step] == 0), f"{what}: mask of step {step}"
    for key in want:
        for i, (g, w) in enumerate(zip(got[key], want[key], strict=True)):
            close(g, w, f"{what} {key}[{i}]")


@pytest.mark.parametrize("name", cases.NETWORKS)
def test_parallel_training_equals_one_process(results, name):
    shape, _, options, second = cases.NETWORKS[name]
    x = tensor(*shape).requires_grad_()
    model = network(second=second, **options)
    want = cases.train(model, x)
    for rank in results:
        close(rank[name]["evaluated"], model.eval()(x).detach())
        assert_equal_training({key: rank[name][key] for key in want}, want, name)
        close(rank[name]["dx"], x.grad, "dx")


def test_weights_and_biases_are_placed_as_by_pytorch(results):
    columns = ["(Shard(dim=0),)", "(Shard(dim=0),)"]
    assert results[0]["pair"]["placements"] == [*columns, "(Shard(dim=1),)", "(Replicate(),)"]


@pytest.mark.parametrize("activation", ["identity", "gelu"])
def test_row_parallel_with_a_residual(results, activation):
    w, b, r = tensor(5, 6, seed=5).requires_grad_(), tensor(5, seed=6), tensor(2, 4, 5, seed=7).requires_grad_()

    def one(step):
        rng = fusedrop.Philox(SEED, 1, step)
        return ft.linear(tensor(2, 4, 6), w, b, activation=activation, p=0.4, rng=rng, residual=r)

    y = one(0)
    y.square().sum().backward()
    dropped = torch.from_numpy(~fusedrop.dropout_mask((8, 5), p=0.4, rng=fusedrop.Philox(SEED, 1, 0))).reshape(y.shape)
    for rank in results:
        got = rank["residual"][activation]
        close(got["y"], y.detach())
        close(got["dr"], r.grad)
        close(got["dw"], w.grad)
        close(got["plain"], one(1).detach())
        assert torch.equal(got["y"][dropped], r[dropped])


@pytest.mark.parametrize("granularity", ["element", "unit"])
def test_dropout_of_a_dtensor_in_any_placement(results, granularity):
    x, rng = tensor(3, 5, 70).requires_grad_(), fusedrop.Philox(SEED, 2, 0)
    y = ft.dropout(x, p=0.4, rng=rng, granularity=granularity)
    y.sum().backward()
    for rank in results:
        assert len(rank["dropout"][granularity]) == 5
        for place, (got, dx) in rank["dropout"][granularity].items():
            assert torch.equal(got, y), place
            assert torch.equal(dx, x.grad), place


def test_dropout_under_sequence_parallel(results):
    y = ft.dropout(tensor(3, 5, 70), p=0.4, rng=fusedrop.Philox(SEED, 2, 0))
    assert all(torch.equal(rank["dropout"]["sequence"], y) for rank in results)


def test_rows_of_dtensors(results):
    want = cases.train(network(), tensor(3, 5, 6))
    for rank in results:
        for place, got in rank["rows"].items():
            assert_equal_training(got, want, place)


def test_autocast_and_a_checkpoint_keep_the_masks(results):
    y = network()(tensor(*FLAT))
    for rank in results:
        got = rank["bfloat16_recomputed"]
        assert got["y"].dtype is torch.bfloat16
        assert torch.equal(got["y"] == 0, y == 0)
        assert all(gradient.isfinite().all() and gradient.any() for gradient in got["gradients"])


def test_compiled_layers_draw_the_same(results):
    want = cases.train(network(), tensor(*FLAT))
    for rank in results:
        assert_equal_training(rank["compiled"], want)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no seed", "ValueError: seed must be given to drop elements of DTensors"),
        ("dropout without seed", "ValueError: seed must be given to drop elements of DTensors"),
        ("plain x", "TypeError: x must be a DTensor where the weight is one"),
        ("wrong K", "ValueError: x must be [..., K] to match w [N, K] = [4, 6]; got [2, 3]"),
        ("uneven", "ColwiseParallel(use_local_output=False) keeps them"),
        ("residual", "ValueError: residual must be [2, 2] to match this rank's part of y; got [2, 4]"),
        ("residual DTensor", "ValueError: residual must be [2, 4] to match y; got [2, 5]"),
    ],
)
def test_refusals(results, name, message):
    for rank in results:
        assert message in str(rank["errors"][name])


def test_a_mesh_of_two_dimensions(results_of_four):
    """Each rank has its rows of the data dimension, and all parameters."""
    want = cases.train(network(), tensor(*FLAT))
    for number, rank in enumerate(results_of_four):
        got, rows = rank["two_dimensions"], slice(0, 2) if number < 2 else slice(2, 4)
        for step in range(cases.STEPS):
            assert torch.equal(got["outputs"][step] == 0, want["outputs"][step][rows] == 0)
            close(got["outputs"][step], want["outputs"][step][rows])
        for key in ("gradients", "parameters"):
            for g, w in zip(got[key], want[key], strict=True):
                close(g, w, key)


def test_dtensors_on_a_mesh_of_two_dimensions(results_of_four):
    want = cases.train(network()[0], tensor(*FLAT))
    for rank in results_of_four:
        assert_equal_training(rank["two_dimensions_of_dtensors"], want)


@pytest.mark.parametrize("granularity", ["element", "unit"])
def test_columns_and_rows_by_hand(granularity):
    """Without DTensor: rng.at(row0, col0) of four pieces; y bit for bit, gradients as sums over the pieces."""
    x, w, b = tensor(*DEEP), tensor(INNER, 6, seed=8), tensor(INNER, seed=9)
    rng = fusedrop.Philox(SEED, 4, 1)
    options = {"activation": "gelu", "p": 0.3, "input_p": 0.2, "granularity": granularity}

    def run(x, w, b, rng):
        x, w, b = (t.detach().clone().requires_grad_() for t in (x, w, b))
        y = ft.linear(x, w, b, rng=rng, **options)
        y.square().sum().backward()
        return y.detach(), x.grad, w.grad, b.grad

    y, dx, dw, db = run(x, w, b, rng)
    rows, columns = ((0, 4), (4, 8)), ((0, 13), (13, INNER))

    def piece(row, stop, col, end):
        return run(x[row // 4 : stop // 4], w[col:end], b[col:end], rng.at(row, col))

    (a, e), (f, g) = ([piece(*r, *c) for c in columns] for r in rows)
    assert torch.equal(torch.cat([torch.cat([a[0], e[0]], -1), torch.cat([f[0], g[0]], -1)]), y)
    close(torch.cat([a[1] + e[1], f[1] + g[1]]), dx)
    close(torch.cat([a[2] + f[2], e[2] + g[2]]), dw)
    close(torch.cat([a[3] + f[3], e[3] + g[3]]), db)
