"""`patch` in PyTorch's transformer layers: the feed-forward block, and the fast path of eval mode."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from fusedrop.torch import patch, patch_report, unpatch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from twins import close, equal, normal, results, same_values, with_masks_of  # noqa: E402

LAYERS = {
    "relu": {},
    "gelu": {"activation": "gelu"},
    "silu function": {"activation": F.silu},
    "norm first": {"activation": "gelu", "norm_first": True},
}


@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("kind", [nn.TransformerEncoderLayer, nn.TransformerDecoderLayer])
def test_transformer_layers(kind, options):
    """In training the attention's own dropout follows torch's generator: its p is 0, so that all masks are known."""
    torch.manual_seed(0)
    plain = kind(8, 2, 24, dropout=0.3, batch_first=True, **options).double()
    for attention in (m for m in plain.modules() if isinstance(m, nn.MultiheadAttention)):
        attention.dropout = 0.0
    plain.dropout1.p = 0.0
    if kind is nn.TransformerDecoderLayer:
        plain.dropout2.p = 0.0
    inputs = [normal(3, 5, 8), normal(3, 4, 8, seed=1)][: 1 if kind is nn.TransformerEncoderLayer else 2]
    patched = patch(copy.deepcopy(plain), seed=4)
    assert len(patch_report(patched).fused) == 2
    got = results(patched, *inputs)
    same_values(got, results(with_masks_of(patched, plain, rows=15), *inputs))
    patched.eval(), plain.eval()
    same_values(results(patched, *inputs), results(plain, *inputs))
    with torch.no_grad():
        close(patched(*inputs), plain(*inputs))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_whole_encoder_in_eval_mode(activation, gradients):
    """Without gradients PyTorch takes its fast path, with nested tensors for padding, and does not call a Linear."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 24, activation=activation, batch_first=True, dtype=torch.float64)
    plain = nn.TransformerEncoder(layer, 3).eval()
    patched = patch(copy.deepcopy(plain))
    padding = torch.arange(6).expand(4, 6) >= torch.tensor([6, 4, 2, 1])[:, None]
    x = normal(4, 6, 8)
    for mask in (None, padding):
        with torch.set_grad_enabled(gradients):
            got, want = patched(x, src_key_padding_mask=mask), plain(x, src_key_padding_mask=mask)
        (close if gradients else equal)(got, want)


@pytest.mark.parametrize("copied", [lambda m: m, copy.deepcopy], ids=["original", "deepcopy"])
@pytest.mark.parametrize("activation", [F.gelu, nn.GELU(), F.relu, torch.sigmoid])
@pytest.mark.parametrize("kind", [nn.TransformerEncoderLayer, nn.TransformerDecoderLayer])
def test_a_layers_activation_is_applied_once(kind, activation, copied):
    """gelu(gelu(z)) is not gelu(z). A copy of a decoder layer with a module computes F.relu in PyTorch, and here."""
    layer, x = copied(kind(8, 2, 16, dropout=0.0, activation=activation).double()), normal(2, 3, 8)
    used, want = layer.activation, layer._ff_block(x)
    assert len(patch_report(patch(layer)).fused) == 2
    close(layer._ff_block(x), want)
    assert unpatch(layer).activation is used
    equal(layer._ff_block(x), want)
