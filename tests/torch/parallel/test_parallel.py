"""DDP and FSDP2 in real processes: together the ranks equal one process. Masks are equal, training within rounding."""

import fusedrop
import pytest
from repository import ROOT

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)

import fusedrop.torch as ft  # noqa: E402
from parallel import data_parallel_cases as cases  # noqa: E402
from parallel import snippets  # noqa: E402
from parallel.ranks import run_ranks  # noqa: E402

WORLD = 2
EXACT = [name for name in cases.CASES if name.startswith(("ddp", "fsdp")) and name != "fsdp_bfloat16"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """[{case: result} of rank 0, of rank 1]"""
    return run_ranks(cases.__file__, WORLD, tmp_path_factory.mktemp("ranks"), *cases.CASES)


def joined(results, case, step, layer):
    """A layer's output for the whole batch, from the ranks' parts of it."""
    return torch.cat([rank[case]["outputs"][step][layer] for rank in results])


@pytest.mark.parametrize("case", [*EXACT, "fsdp_bfloat16"])
def test_the_ranks_draw_the_rows_of_one_mask(results, case):
    for stream, (layer, p) in enumerate(cases.DROPPED.items()):
        for step in range(cases.STEPS):
            y = joined(results, case, step, layer)
            rng = fusedrop.Philox(cases.SEED, stream, step)
            keep = torch.from_numpy(fusedrop.dropout_mask(tuple(y.shape), p=p, rng=rng))
            if layer == "0.block.1":  # its input was dropped before
                keep = keep & (joined(results, case, step, "0.block.0") != 0)
            assert torch.equal(y != 0, keep), f"{layer}, step {step}"


@pytest.mark.parametrize("case", EXACT)
def test_training_equals_one_process(results, case):
    """float64 sums of up to 40 terms in another order: 1e-12 is far above their rounding."""
    model = cases.network()
    shape = cases.DEEP if "deep" in case else cases.FLAT
    losses, outputs = cases.train(model, cases.batch(shape), cases.masked_layers(model))
    for step in range(cases.STEPS):
        mean = sum(rank[case]["losses"][step] for rank in results) / WORLD
        assert mean == pytest.approx(losses[step], rel=1e-12)
        for layer in cases.DROPPED:
            torch.testing.assert_close(joined(results, case, step, layer), outputs[step][layer], rtol=1e-12, atol=1e-12)
    for rank in results:
        for got, want in zip(rank[case]["parameters"], model.parameters(), strict=True):
            torch.testing.assert_close(got, want.detach(), rtol=1e-12, atol=1e-12)


def test_mixed_precision_equals_one_process_in_bfloat16(results):
    """The same casts in one process. dw is rounded to bfloat16 on each rank: 2^-8 of updates below 1 in sum."""
    model = cases.network(dtype=torch.float32)

    def in_bfloat16(x):
        parameters = {name: p.bfloat16() for name, p in model.named_parameters()}
        return torch.func.functional_call(model, parameters, x.bfloat16())

    in_bfloat16.parameters = model.parameters
    losses, _ = cases.train(in_bfloat16, cases.batch(cases.FLAT, torch.float32), {})
    for rank in results:
        for got, want in zip(rank["fsdp_bfloat16"]["parameters"], model.parameters(), strict=True):
            torch.testing.assert_close(got, want.detach(), rtol=2**-8, atol=2**-8)
    mean = [sum(rank["fsdp_bfloat16"]["losses"][step] for rank in results) / WORLD for step in range(cases.STEPS)]
    assert mean == pytest.approx(losses, rel=2**-7)


@pytest.mark.parametrize("case", EXACT)
def test_state_stays_that_of_the_layers(results, case):
    """No part of a mask key is a buffer or a parameter, which DDP would send and a checkpoint would contain."""
    names = {"0.block.0.weight", "0.block.0.bias", "1.weight", "1.bias"}
    for rank in results:
        assert set(rank[case]["keys"]) == names
        assert {name: state["step"] for name, state in rank[case]["masks"].items()} == dict.fromkeys(
            cases.DROPPED, cases.STEPS
        )


def test_without_a_seed_the_key_is_the_generators(results):
    """One manual_seed on all ranks gives one key, different ones give different keys. assign_mask_keys avoids this."""
    first, second = (rank["unseeded"] for rank in results)
    assert first["one"] == second["one"] == first["own"]
    assert first["own"] != second["own"]


@pytest.mark.parametrize("activation", ["identity", "gelu"])
def test_an_output_may_be_changed_in_place(activation):
    """As torch.nn.Linear's: it is no view, of which FSDP2 warns, and backward does not need it."""
    layer = ft.Linear(6, 5, activation=activation, p=0.3, seed=1, dtype=torch.float64)
    y = layer(cases.batch(cases.DEEP))
    assert not y._is_view()
    y += 1
    y.sum().backward()
    keep = fusedrop.dropout_mask((12, 5), p=0.3, rng=layer.mask_key.rng)
    assert torch.equal(layer.bias.grad != 0, torch.from_numpy(keep.any(0)))


def test_the_snippets_of_the_guide_run(tmp_path):
    """The assertions of docs/parallel.md hold on every rank."""
    document = ROOT / "docs" / "parallel.md"
    assert run_ranks(snippets.__file__, WORLD, tmp_path, str(document)) == [4] * WORLD
