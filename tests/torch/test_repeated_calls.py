"""Calls that a backward pass repeats use the same masks, eager and compiled, or raise an error; never other masks."""

import functools

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import fusedrop.torch as ft  # noqa: E402
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts  # noqa: E402

seeds = pytest.mark.parametrize("seed", [None, 3], ids=["generator", "seed"])
reentrants = pytest.mark.parametrize("reentrant", [False, True], ids=["saved tensors", "reentrant"])


def model(seed):
    torch.manual_seed(0)
    layers = ft.Linear(6, 40, activation="relu", p=0.5), ft.Dropout(0.5), ft.Linear(40, 6, input_p=0.2)
    return ft.assign_mask_keys(torch.nn.Sequential(*layers), seed)


def gradients(net, forward, between=lambda: None):
    """Gradients of two calls of `forward`, the second with another input. `between` is called between them."""
    torch.manual_seed(5)
    x = torch.arange(1.0, 25.0).reshape(4, 6).requires_grad_()
    first = forward(x)
    between()
    loss = first.square().sum() + forward(2 * x).square().sum()
    net.zero_grad()
    loss.backward()
    return [x.grad, *(p.grad for p in net.parameters())]


def assert_same(seed, forward_of, between=lambda: None):
    """Checks forward_of(net), which repeats its calls, against the model itself, which does not."""
    plain, repeating = model(seed), model(seed)
    for _ in range(2):
        wanted, got = gradients(plain, plain, between), gradients(repeating, forward_of(repeating), between)
        assert all(map(torch.equal, got, wanted))
    assert [m.mask_key.step for m in repeating] == [m.mask_key.step for m in plain] == [4, 4, 4]


@seeds
@reentrants
def test_checkpoint(seed, reentrant):
    assert_same(seed, lambda net: functools.partial(checkpoint, net, use_reentrant=reentrant))


@seeds
def test_nested_checkpoints(seed):
    def forward_of(net):
        inner = functools.partial(checkpoint, net[:2], use_reentrant=False)
        return functools.partial(checkpoint, lambda x: net[2](inner(x)), use_reentrant=False)

    assert_same(seed, forward_of)


@seeds
@pytest.mark.parametrize("saved", [[], ["linear"], ["linear", "dropout", "linear_forward"]], ids=str)
def test_selective_checkpoint(seed, saved):
    operators = [getattr(torch.ops.fusedrop, name).default for name in saved]

    def policy(ctx, operator, *args, **kwargs):
        return CheckpointPolicy.MUST_SAVE if operator in operators else CheckpointPolicy.PREFER_RECOMPUTE

    contexts = functools.partial(create_selective_checkpoint_contexts, policy)
    assert_same(seed, lambda net: functools.partial(checkpoint, net, use_reentrant=False, context_fn=contexts))


@seeds
@reentrants
def test_checkpoint_under_autocast(seed, reentrant):
    def forward_of(net, repeat=True):
        def forward(x):
            with torch.autocast("cpu", torch.bfloat16):
                return checkpoint(net, x, use_reentrant=reentrant) if repeat else net(x)

        return forward

    plain, repeating = model(seed), model(seed)
    wanted, got = gradients(plain, forward_of(plain, repeat=False)), gradients(repeating, forward_of(repeating))
    assert all(map(torch.equal, got, wanted))


@seeds
@reentrants
def test_a_repetition_without_the_generators_state_raises(seed, reentrant):
    net = model(seed)
    with pytest.raises(RuntimeError, match="preserve_rng_state=True"):
        gradients(net, functools.partial(checkpoint, net, use_reentrant=reentrant, preserve_rng_state=False))


def test_a_new_call_in_a_backward_pass_raises():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.register_hook(ft.Dropout(0.5))
    with pytest.raises(RuntimeError, match="called inside a backward pass"):
        y.sum().backward()


@reentrants
def test_two_calls_from_one_state_of_the_generator(reentrant):
    """Without a seed they have one mask, as in torch. With a seed they have two, and a repetition is ambiguous."""

    def set_back():
        torch.manual_seed(5)

    assert_same(None, lambda net: functools.partial(checkpoint, net, use_reentrant=reentrant), set_back)
    net = model(3)
    with pytest.raises(RuntimeError, match="can't tell which"):
        gradients(net, functools.partial(checkpoint, net, use_reentrant=reentrant), set_back)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # from inductor
@pytest.mark.parametrize(("backend", "preserve"), [("aot_eager", True), ("aot_eager", False), ("inductor", True)])
@seeds
def test_checkpoint_inside_compiled_code(seed, backend, preserve):
    """The compiler sets the generator back for any preserve_rng_state."""
    plain, repeating = model(seed), model(seed)
    compiled = torch.compile(
        lambda x: checkpoint(repeating, x, use_reentrant=False, preserve_rng_state=preserve),
        backend=backend,
        fullgraph=True,
    )
    for _ in range(2):
        for got, wanted in zip(gradients(repeating, compiled), gradients(plain, plain), strict=True):
            torch.testing.assert_close(got, wanted)  # the same masks; a compiler may sum in another order
    assert repeating[0].mask_key.step == plain[0].mask_key.step == 4
    torch._dynamo.reset()


@seeds
def test_compiled_code_inside_a_checkpoint(seed):
    def forward_of(net):
        return functools.partial(
            checkpoint, torch.compile(net, backend="aot_eager", fullgraph=True), use_reentrant=False
        )

    assert_same(seed, forward_of)
    torch._dynamo.reset()


@seeds
def test_an_exported_program_draws_a_new_mask_in_each_call(seed):
    net, x = model(seed), torch.ones(4, 6)
    program = torch.export.export(net, (x,)).module()
    calls = [program(x) for _ in range(3)]
    assert not torch.equal(calls[0], calls[1])
    assert not torch.equal(calls[1], calls[2])
    again = model(seed)
    if seed is not None:
        torch.testing.assert_close([again(x) for _ in range(3)], calls)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # from inductor
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@seeds
def test_two_calls_in_one_compiled_graph_are_two_calls(seed, backend):
    """No compiler merges the two calls as a common subexpression, or exchanges them."""
    module, x = ft.assign_mask_keys(ft.Dropout(0.5), seed), torch.ones(4, 40)

    def twice(x):
        return module(x), module(x)

    outputs = []
    for forward in (twice, torch.compile(twice, backend=backend, fullgraph=True)):
        torch.manual_seed(5)
        ft.assign_mask_keys(module, seed)
        outputs.append((*forward(x), *forward(x)))
        assert module.mask_key.step == 4
    assert all(map(torch.equal, *outputs))
    assert len({tuple(y.flatten().tolist()) for y in outputs[0]}) == 4
    torch._dynamo.reset()
