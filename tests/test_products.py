"""What a training step is made of, against PyTorch's own operations: the compiled gate, paddings, 1×1 products."""

import pytest
import torch
import torch.nn.functional as F

import nextpixel as npx
from nextpixel.causal import gate
from nextpixel.causal.products import _Padded, convolve, pointwise

needs_kernels = pytest.mark.skipif(not gate._functions(), reason="no C compiler here, or NEXTPIXEL_NATIVE=0")


def by_autograd(x):
    content, opening = x.tensor_split(2, -1)
    return content.tanh() * opening.sigmoid()


@needs_kernels
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("features", [1, 7, 32])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_compiled_gate_and_its_gradient(dtype, tolerance, features, threads):
    before = torch.get_num_threads()
    x = (4 * torch.randn(3, 41, 37, 2 * features, dtype=dtype)).requires_grad_()
    onto = torch.randn(3, 41, 37, features, dtype=dtype)
    expected = by_autograd(x)
    wanted = torch.autograd.grad(expected, x, onto)
    try:
        torch.set_num_threads(threads)
        y = gate.gated(x)
        assert "_Gate" in type(y.grad_fn).__name__
        found = torch.autograd.grad(y, x, onto)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(y, expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


@needs_kernels
def test_the_gate_far_from_zero_and_next_to_it():
    x = torch.tensor([-200.0, -20, -1e-6, 0, 1e-6, 20, 200]).repeat_interleave(2).view(7, 1, 1, 2).requires_grad_()
    y = gate.gated(x)
    torch.testing.assert_close(y, by_autograd(x), atol=1e-7, rtol=1e-5)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient, torch.autograd.grad(by_autograd(x).sum(), x)[0], atol=1e-6, rtol=1e-5)


@needs_kernels
def test_the_gradient_of_the_gate_is_its_own_at_every_stride():
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gate.gated, x)
    assert torch.autograd.gradgradcheck(gate.gated, x)
    assert torch.autograd.gradcheck(lambda x: gate.gated(x[:, ::2, 1:, ::3]), x)  # features that lie apart
    assert torch.autograd.gradcheck(lambda x: gate.gated(x.transpose(1, 2)).flip(3), x)
    grads = [torch.randn(2, 4, 6, 3)[:, 1:, 2:], torch.randn(3, 2, 4, 5).permute(1, 0, 2, 3)[..., 1:4]]
    for onto in (*grads, torch.randn(3, 2, 3, 4).permute(1, 2, 3, 0), torch.ones(1).expand(2, 3, 4, 3)):
        onto = onto.double()
        found = torch.autograd.grad(gate.gated(x), x, onto)
        torch.testing.assert_close(found, torch.autograd.grad(by_autograd(x), x, onto), atol=1e-14, rtol=0)
    empty = x[:0]
    assert gate.gated(empty).shape == (0, 3, 4, 3)


def test_outside_training_the_gate_is_the_same():
    x = torch.randn(2, 3, 4, 6, requires_grad=True)
    with torch.no_grad():
        assert torch.allclose(gate.gated(x), by_autograd(x), atol=1e-6)
        assert torch.allclose(gate.gated(x.double()), by_autograd(x.double()), atol=1e-14)
        assert torch.equal(gate.gated(x[0, 0]), by_autograd(x[0, 0]))  # of a step: recorded as PyTorch's operations


@pytest.mark.parametrize("padding", [(1, 1, 1, 0), (2, 0, 0, 0), (0, 3, 2, 1)])
def test_padding(padding):
    x = torch.randn(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(_Padded.apply(x, padding), F.pad(x, (0, 0, *padding)))
    assert torch.autograd.gradcheck(lambda x: _Padded.apply(x, padding), x)
    assert torch.autograd.gradgradcheck(lambda x: _Padded.apply(x, padding), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_convolutions_and_pointwise_products_have_the_gradients_of_plain_ones(dtype):
    x = torch.randn(2, 5, 7, 3, dtype=dtype, requires_grad=True)
    weight, bias = torch.randn(4, 3, 2, 3, dtype=dtype, requires_grad=True), torch.randn(4, dtype=dtype)
    bias.requires_grad_()
    plain = F.conv2d(F.pad(x.permute(0, 3, 1, 2), (1, 1, 1, 0)), weight, bias).permute(0, 2, 3, 1)
    straight = torch.einsum("nijd,od->nijo", x, weight[:, :, 0, 0]) + bias
    onto = torch.randn_like(plain)
    for found, expected in (
        (convolve(x, weight, bias, (1, 1, 1, 0)), plain),
        (pointwise(x, weight[:, :, 0, 0], bias), straight),
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        wanted = torch.autograd.grad(expected, (x, weight, bias), onto)
        torch.testing.assert_close(torch.autograd.grad(found, (x, weight, bias), onto), wanted, atol=1e-4, rtol=1e-4)


def test_a_step_without_the_compiled_gate_is_the_same(monkeypatch):
    model = npx.build("gated_pixelcnn", shape=(3, 6, 5), levels=4, layers=3, features=7).double()
    x = torch.randint(0, 4, (3, 3, 6, 5))
    gradients = []
    for functions in (gate._functions, dict):
        monkeypatch.setattr(gate, "_functions", functions)
        model.zero_grad()
        model.log_prob(x).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-10)
