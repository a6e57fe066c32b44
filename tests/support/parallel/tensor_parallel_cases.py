"""What each rank does for test_tensor_parallel.py: it makes models of one process parallel by PyTorch's styles."""

import fusedrop.torch as ft
import torch
from parallel import ranks
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
from torch.utils.checkpoint import checkpoint

SEED, STEPS = 77, 2
FLAT, DEEP = (4, 6), (2, 4, 6)  # of x: [M, K], [B, T, K]
# A mask is drawn in groups of 32 columns: with 40 the second rank's columns begin inside a group.
INNER = 40
PAIR = {"0": ColwiseParallel(), "1": RowwiseParallel()}
SEQUENCE = {
    "0": ColwiseParallel(input_layouts=Shard(1)),
    "1": RowwiseParallel(output_layouts=Shard(1), use_local_output=False),
}
WHOLE = {name: ColwiseParallel(output_layouts=Replicate()) for name in "01"}
UNEVEN = {"0": ColwiseParallel(use_local_output=False), "1": RowwiseParallel()}

# name: (shape of x, plan, options of the layers, options of the second)
NETWORKS = {
    "pair": (FLAT, PAIR, {}, {}),
    "deep": (DEEP, PAIR, {}, {}),
    "unit": (FLAT, PAIR, {"granularity": "unit"}, {}),
    "no_bias": (FLAT, PAIR, {"bias": False}, {}),
    "activation": (DEEP, PAIR, {}, {"activation": "gelu_tanh"}),
    "dropout_first": (FLAT, PAIR, {"dropout_first": True}, {"activation": "tanh"}),
    "columns": (FLAT, WHOLE, {}, {"activation": "silu"}),
    "sequence": (DEEP, SEQUENCE, {}, {}),
    "uneven": (FLAT, UNEVEN, {"inner": 33}, {}),
    "empty": (FLAT, UNEVEN, {"inner": 1}, {"activation": "sigmoid"}),
}


def network(inner=INNER, second=None, **options):
    torch.manual_seed(3)
    first = {"activation": "gelu", "p": 0.3, "input_p": 0.2}
    model = torch.nn.Sequential(
        ft.Linear(6, inner, dtype=torch.float64, **first | options),
        ft.Linear(inner, 5, dtype=torch.float64, **{"p": 0.2, "input_p": 0.25} | options | (second or {})),
    )
    return ft.assign_mask_keys(model, SEED)


def tensor(*shape, seed=4):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def train(model, x):
    """STEPS steps on x: outputs, gradients of the last step, and parameters, all as whole tensors."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    outputs = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        y = model(x)
        y.square().mean().backward()
        gradients = [whole(p.grad) for p in model.parameters()]
        optimizer.step()
        outputs.append(whole(y))
    return {"outputs": outputs, "gradients": gradients, "parameters": [whole(p) for p in model.parameters()]}


def whole(x):
    return (x.full_tensor() if isinstance(x, DTensor) else x).detach().clone()


def trained(name):
    """A case of NETWORKS, with dx."""

    def case(rank, world):
        shape, plan, options, second = NETWORKS[name]
        mesh = init_device_mesh("cpu", (world,))
        model = parallelize_module(network(second=second, **options), mesh, plan)
        x = tensor(*shape)
        if plan is SEQUENCE:
            x = x.chunk(world, dim=1)[rank].clone()
        x.requires_grad_()
        result = train(model, x)
        dx = DTensor.from_local(x.grad, mesh, [Shard(1)]).full_tensor() if plan is SEQUENCE else x.grad
        result["evaluated"] = whole(model.eval()(x))
        return result | {"dx": dx, "placements": [str(p.placements) for p in model.parameters()]}

    return case


def residual(rank, world):
    """Row-parallel with a residual: as a DTensor along the sequence, and whole as a plain tensor."""
    mesh, results = init_device_mesh("cpu", (world,)), {}
    for name, activation in (("identity", "identity"), ("gelu", "gelu")):
        layer = ft.Linear(6, 5, p=0.4, activation=activation, dtype=torch.float64, seed=SEED, stream=1)
        with torch.no_grad():
            layer.weight.copy_(tensor(5, 6, seed=5))
            layer.bias.copy_(tensor(5, seed=6))
        style = RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1), use_local_output=False)
        layer = parallelize_module(layer, mesh, style)
        r = distribute_tensor(tensor(2, 4, 5, seed=7), mesh, [Shard(1)]).requires_grad_()
        y = layer(tensor(2, 4, 6), residual=r)
        y.square().sum().backward()
        plain = whole(layer(tensor(2, 4, 6), residual=tensor(2, 4, 5, seed=7)))
        results[name] = {"y": whole(y), "dr": whole(r.grad), "dw": whole(layer.weight.grad), "plain": plain}
    return results


def dropout(rank, world):
    """Dropout of DTensors in every placement, and under SequenceParallel."""
    mesh, x, results = init_device_mesh("cpu", (world,)), tensor(3, 5, 70), {"element": {}, "unit": {}}
    for place in (Replicate(), Shard(0), Shard(1), Shard(2), Partial()):
        for granularity in ("element", "unit"):
            layer = ft.Dropout(0.4, granularity=granularity, seed=SEED, stream=2)
            if place == Partial():
                placed = DTensor.from_local((x / world).requires_grad_(), mesh, [place])
            else:
                placed = distribute_tensor(x, mesh, [place]).requires_grad_()
            placed.retain_grad()
            y = layer(placed)
            y.sum().backward()
            results[granularity][str(place)] = whole(y), whole(placed.grad)
    layer = parallelize_module(ft.Dropout(0.4, seed=SEED, stream=2), mesh, SequenceParallel())
    results["sequence"] = whole(layer(distribute_tensor(x, mesh, [Shard(1)])))
    return results


def rows(rank, world):
    """A replicated weight and x sharded along its rows. A sequence has several runs of rows."""
    mesh, results = init_device_mesh("cpu", (world,)), {}
    for place in (Shard(0), Shard(1)):
        model = parallelize_module(network(), mesh, {"0": SequenceParallel(), "1": SequenceParallel()})
        results[str(place)] = train(model, distribute_tensor(tensor(3, 5, 6), mesh, [place]))
    return results


def bfloat16_recomputed(rank, world):
    """Autocast and a checkpoint around the pair: y, for its zeros, and the gradients."""
    model = parallelize_module(network().float(), init_device_mesh("cpu", (world,)), PAIR)
    with torch.autocast("cpu", torch.bfloat16):
        y = checkpoint(model, tensor(*FLAT).float(), use_reentrant=False)
    y.float().square().mean().backward()
    return {"y": whole(y), "gradients": [whole(p.grad) for p in model.parameters()]}


def compiled(rank, world):
    """The pair as one graph. aot_eager generates no code."""
    model = parallelize_module(network(), init_device_mesh("cpu", (world,)), PAIR)
    return train(torch.compile(model, backend="aot_eager", fullgraph=True), tensor(*FLAT))


def errors(rank, world):
    """{case: the error}. Every rank raises, so no rank waits for another one."""
    mesh = init_device_mesh("cpu", (world,))
    half = torch.zeros(2, 3, dtype=torch.float64)
    uneven = {"0": ColwiseParallel(), "1": RowwiseParallel()}

    def column(**options):
        return parallelize_module(ft.Linear(6, 4, p=0.5, dtype=torch.float64, **options), mesh, ColwiseParallel())

    def call(layer, x, **kwargs):
        return lambda: layer(x, **kwargs)

    plain = column(seed=1)
    plain._forward_pre_hooks.clear()
    unseeded = ft.Dropout(0.5)
    raised = {}
    for name, function in {
        "no seed": call(column(), tensor(2, 6)),
        "dropout without seed": call(unseeded, distribute_tensor(tensor(2, 6), mesh, [Shard(1)])),
        "plain x": call(plain, tensor(2, 6)),
        "wrong K": call(column(seed=1), half),
        "uneven": call(parallelize_module(network(inner=7), mesh, uneven), tensor(*FLAT)),
        "residual": call(column(seed=1), tensor(2, 6), residual=tensor(2, 4)),
        "residual DTensor": call(column(seed=1), tensor(2, 6), residual=distribute_tensor(tensor(2, 5), mesh)),
    }.items():
        try:
            function()
            raised[name] = None
        except (TypeError, ValueError) as error:
            raised[name] = f"{type(error).__name__}: {error}"
    return raised


def two_dimensions(rank, world):
    """FSDP2 along one dimension of the mesh, the pair along the other: origins (row0, col0)."""
    mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("data", "tensor"))
    model = parallelize_module(network(), mesh["tensor"], PAIR)
    for layer in model:
        fully_shard(layer, mesh=mesh["data"])
    fully_shard(model, mesh=mesh["data"])
    part = mesh.get_local_rank("data")
    ft.shard_rows(model, part, 2)
    return train(model, tensor(*FLAT).chunk(2)[part])


def two_dimensions_of_dtensors(rank, world):
    """The same without an engine: x is sharded along the rows, the weight along its rows."""
    mesh = init_device_mesh("cpu", (2, world // 2))
    layer = network()[0]
    for name, p in list(layer.named_parameters()):
        placed = distribute_tensor(p, mesh, [Replicate(), Shard(0)])
        layer.register_parameter(name, torch.nn.Parameter(placed))
    return train(layer, distribute_tensor(tensor(*FLAT), mesh, [Shard(0), Replicate()]))


CASES = {name: trained(name) for name in NETWORKS} | {
    case.__name__: case for case in (residual, dropout, rows, bfloat16_recomputed, compiled, errors)
}
CASES_OF_FOUR = {case.__name__: case for case in (two_dimensions, two_dimensions_of_dtensors)}

if __name__ == "__main__":
    ranks.main(ranks.run_cases(CASES | CASES_OF_FOUR))
