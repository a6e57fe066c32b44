"""What each rank does for test_parallel.py: it trains on its part of the batch and records its layers' outputs."""

import fusedrop.torch as ft
import torch
from parallel import ranks
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

SEED = 2**63 + 11
STEPS = 3
FLAT, DEEP = (8, 6), (4, 3, 6)  # of x: [M, K], [B, T, K]
DROPPED = {"0.block.0": 0.3, "0.block.1": 0.1, "1": 0.2}  # layer name: p


class Block(torch.nn.Module):
    """Two layers. recompute is None, or the use_reentrant of the checkpoint that computes them again."""

    def __init__(self, recompute):
        super().__init__()
        self.recompute = recompute
        first = ft.Linear(6, 40, activation="gelu", p=0.3, input_p=0.2)
        self.block = torch.nn.Sequential(first, ft.Dropout(0.1))

    def forward(self, x):
        if self.recompute is None:
            return self.block(x)
        return checkpoint(self.block, x, use_reentrant=self.recompute)


def network(recompute=None, dtype=torch.float64, seed=SEED):
    """With gelu an output is 0 exactly where it was dropped."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(Block(recompute), ft.Linear(40, 5, p=0.2)).to(dtype)
    return ft.assign_mask_keys(model, seed)


def batch(shape, dtype=torch.float64):
    """x of all ranks together. It requires a gradient, as reentrant checkpoints need."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=dtype, requires_grad=True)


def train(model, x, layers):
    """STEPS steps of SGD: the losses, and the outputs of `layers` in each step, after any recomputation."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses, outputs, seen = [], [], {}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, x, y, name=name: seen.update({name: y.detach().clone()}))
    for _ in range(STEPS):
        loss = model(x).to(x.dtype).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        outputs.append(dict(seen))
    return losses, outputs


def masked_layers(model):
    return {name: module for name, module in model.named_modules() if name in DROPPED}


def on_this_rank(parallel, shape=FLAT, recompute=None, dtype=torch.float64):
    """A case: `parallel` makes the model parallel."""

    def case(rank, world):
        model = network(recompute, dtype)
        layers = masked_layers(model)
        ft.shard_rows(model, rank, world)
        x = batch(shape, dtype).detach().chunk(world)[rank].requires_grad_()
        losses, outputs = train(parallel(model), x, layers)
        full = [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]
        return {
            "losses": losses,
            "outputs": outputs,
            "parameters": [p.detach().clone() for p in full],
            "masks": ft.mask_state(model),
            "keys": list(model.state_dict()),
        }

    return case


def ddp(model):
    return DistributedDataParallel(model)


def fsdp(model, **options):
    for part in model:
        fully_shard(part, **options)
    return fully_shard(model, **options)


def fsdp_bfloat16(model):
    return fsdp(model, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32))


def unseeded(rank, world):
    """With one manual_seed the ranks have one key; with different ones, different keys."""
    seeds = {}
    for case, seed in (("one", 5), ("own", 5 + rank)):
        model = ft.shard_rows(network(seed=None), rank, world)
        torch.manual_seed(seed)
        model(batch(FLAT).chunk(world)[rank])
        seeds[case] = model[1].mask_key.rng.seed
    return seeds


CASES = {
    "ddp": on_this_rank(ddp),
    "ddp_deep": on_this_rank(ddp, DEEP),
    "ddp_recomputed": on_this_rank(ddp, recompute=False),
    "ddp_recomputed_reentrant": on_this_rank(ddp, recompute=True),
    "fsdp": on_this_rank(fsdp),
    "fsdp_deep": on_this_rank(fsdp, DEEP),
    "fsdp_recomputed": on_this_rank(fsdp, recompute=False),
    "fsdp_bfloat16": on_this_rank(fsdp_bfloat16, dtype=torch.float32),
    "unseeded": unseeded,
}

if __name__ == "__main__":
    ranks.main(ranks.run_cases(CASES))
