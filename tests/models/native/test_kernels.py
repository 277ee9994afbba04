"""The kernels against torch's own operators in float64, on sizes that fill no register."""

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")
if keras.backend.backend() != "torch":
    pytest.skip("native graphs exist on the torch backend only", allow_module_level=True)

from torch.nn import functional  # noqa: E402

from kderm.models.native import kernels  # noqa: E402
from kderm.models.native.convolution import DepthwiseConvolution  # noqa: E402
from kderm.models.native.fused_norm import GatedNormActivation, NormActivation  # noqa: E402

pytestmark = pytest.mark.skipif(not kernels.available(), reason="needs Linux and a C++ compiler")
ACTIVATIONS = {
    None: lambda x: x,
    "silu": functional.silu,
    "relu": functional.relu,
    "relu6": functional.relu6,
}
# n, c, h, w: places that share a row of the lanes, parts of a row, spans of many rows, one place
SHAPES = [(2, 1, 3, 5), (3, 3, 16, 16), (2, 17, 7, 9), (1, 33, 4, 4), (5, 24, 1, 1), (2, 8, 40, 60)]
EPSILON = 1e-3


@pytest.fixture(params=[1, 2, 4])
def threads(request):
    """Threads that the kernels use, more than there are cores among them."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def drawn(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape).astype("float32"))


def maps(*shape, seed=0):
    return kernels.as_rows(drawn(*shape, seed=seed))


def gradients(outputs, towards, leaves):
    found = torch.autograd.grad((outputs * towards).sum(), leaves)
    return [outputs.detach(), *found]


def assert_agree(found, expected):
    for own, exact in zip(found, expected, strict=True):
        scale = max(0.1, exact.abs().max().item())
        assert (own.double() - exact).abs().max().item() < 5e-6 * scale


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_norm_and_activation_have_the_values_and_gradients_of_float64(shape, activation, threads):
    channels = shape[1]
    parts = (2 + 3 * maps(*shape), 1 + drawn(channels, seed=1) / 2, drawn(channels, seed=2))
    towards = maps(*shape, seed=3)
    leaves = [part.clone().requires_grad_() for part in parts]
    outputs, mean, variance = NormActivation.apply(*leaves, EPSILON, activation)
    found = gradients(outputs, towards, leaves)

    exact = [part.double().requires_grad_() for part in parts]
    y = functional.batch_norm(exact[0], None, None, *exact[1:], True, 0.0, EPSILON)
    assert_agree(found, gradients(ACTIVATIONS[activation](y), towards.double(), exact))
    x = exact[0].detach()
    assert_agree([mean, variance], [x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_gate_has_the_values_and_gradients_of_float64(shape, activation, threads):
    channels = shape[1]
    parts = (maps(*shape), 1 + drawn(channels, seed=1) / 2, drawn(channels, seed=2))
    weight, towards = drawn(channels, channels, seed=4), maps(*shape, seed=3)
    leaves = [part.clone().requires_grad_() for part in (*parts, weight)]
    x, gamma, beta, own = leaves
    outputs, _, _ = GatedNormActivation.apply(
        x, gamma, beta, EPSILON, activation, lambda mean: torch.sigmoid(mean @ own), own
    )
    found = gradients(outputs, towards, leaves)

    exact = [part.double().requires_grad_() for part in (*parts, weight)]
    y = functional.batch_norm(exact[0], None, None, exact[1], exact[2], True, 0.0, EPSILON)
    z = ACTIVATIONS[activation](y)
    gate = torch.sigmoid(z.mean((2, 3)) @ exact[3])[:, :, None, None]
    assert_agree(found, gradients(z * gate, towards.double(), exact))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [(0, 0), (2, 2), (1, 4)], ids=str)
@pytest.mark.parametrize("shape", [(3, 5, 7, 9), (2, 33, 6, 5), (4, 16, 12, 20)], ids=str)
def test_a_depthwise_kernel_has_the_gradient_of_float64(shape, padding, stride, threads):
    parts = (maps(*shape), drawn(shape[1], 1, 5, 5, seed=1), drawn(shape[1], seed=2))
    leaves = [part.clone().requires_grad_() for part in parts]
    outputs = DepthwiseConvolution.apply(*leaves, stride, padding)
    towards = maps(*outputs.shape, seed=3)
    found = gradients(outputs, towards, leaves)
    exact = [part.double().requires_grad_() for part in parts]
    expected = functional.conv2d(*exact, stride, padding, 1, shape[1])
    assert_agree(found, gradients(expected, towards.double(), exact))


def test_threads_do_not_disturb_one_another(threads):
    """The same threads give the same bits, as often as they are asked."""
    x, g = maps(3, 20, 33, 31), maps(3, 20, 33, 31, seed=1)
    gate = torch.sigmoid(drawn(3, 20, seed=2))

    def once():
        batch = kernels.statistics(x, None, None, EPSILON)
        return [
            batch.scale,
            kernels.normalize(x, batch.scale, batch.shift, "silu", gate),
            kernels.pooled(x, batch.scale, batch.shift, "silu"),
            kernels.gate_gradient(g, x, batch.scale, batch.shift, "silu"),
            *kernels.norm_gradient(g, x, batch, "silu", gate, gate),
            kernels.depthwise_kernel_gradient(g, x, 1, (2, 2)),
        ]

    first = once()
    for _ in range(8):
        for one, two in zip(first, once(), strict=True):
            assert torch.equal(one, two)


def test_a_channel_far_from_zero_keeps_its_variance():
    x = 1000 + maps(4, 3, 30, 30)
    batch = kernels.statistics(x, None, None, EPSILON)
    expected = x.double().var((0, 2, 3), unbiased=False)
    np.testing.assert_allclose(batch.variance, expected, rtol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_no_number_stays_none_and_reaches_no_other_channel(activation):
    x = maps(2, 3, 4, 4)
    x[1, 1, 2, 2] = float("nan")
    outputs, mean, variance = NormActivation.apply(x, None, None, EPSILON, activation)
    assert mean.isnan().tolist() == variance.isnan().tolist() == [False, True, False]
    assert outputs[:, 1].isnan().all()
    assert outputs[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("value", [-1e30, -200.0, -90.0, -1e-30, 0.0, 1e-30, 90.0, 1e30])
def test_the_activation_holds_at_the_ends_of_float32(value):
    x = torch.full((1, 16, 1, 1), value)
    one, none = torch.ones(16), torch.zeros(16)
    found = kernels.normalize(x, one, none, "silu")
    torch.testing.assert_close(found, functional.silu(x), rtol=1e-6, atol=2e-8)
