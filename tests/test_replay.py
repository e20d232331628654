"""Replayed steps are the network's own: in every family, after forks and known rows; never where they would not be."""

import dataclasses
import os
import subprocess
import sys

import pytest
import torch

import nextpixel as npx
from nextpixel.causal import Layout, PixelConv
from nextpixel.native import _opened
from nextpixel.networks import Network, register, unregister
from nextpixel.replay import learning, native, recording, replay

SIZES = {
    "pixelcnn": {"blocks": 2, "features": 7},
    "gated_pixelcnn": {"layers": 3, "features": 9},
    "row_lstm": {"layers": 2, "features": 6, "skip": True},
    "diagonal_bilstm": {"layers": 2, "features": 5, "highway": True, "residual": False},
    "pixelcnnpp": {"scales": 2, "blocks": 1, "features": 5},
}
OTHERS = {"pixelsnail": {"blocks": 1, "layers": 1, "features": 6}, "made": {"hidden": 20}, "nade": {"hidden": 9}}

needs_kernels = pytest.mark.skipif(not native.kernels(), reason="no kernels: no C compiler here, or NEXTPIXEL_NATIVE=0")


@pytest.fixture
def replayed(monkeypatch):
    """How many steps were replayed so far."""
    count = [0]
    run = replay._Program.run

    def counted(*args):
        count[0] += 1
        return run(*args)

    monkeypatch.setattr(replay._Program, "run", counted)
    return count


def build(family, channels=1, dtype=torch.float64, size=(13, 11), **more):
    torch.manual_seed(3)
    model = npx.build(family, shape=(channels, *size), levels=3, **{**SIZES, **OTHERS}.get(family, {}), **more)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0 if parameter.dim() > 1 else 1.0)  # so that errors are not lost in flat distributions
    return model.to(dtype).eval()


def walk(stepper, x, start=0):
    """The stepper's log-pmf at every symbol of the pictures x from symbol `start` on, [symbols, n, K]."""
    channels = x.shape[1]
    values = x.permute(2, 3, 1, 0).flatten(0, 2)
    assert len(values) == x.shape[2] * x.shape[3] * channels
    found = []
    for value in values[start:]:
        found.append(stepper.log_pmf())
        stepper.push(value)
    return torch.stack(found)


def expected(model, x, condition=None):
    return model.log_pmf(x, condition).detach().permute(2, 3, 1, 0, 4).flatten(0, 2)


@needs_kernels
@pytest.mark.parametrize("family", SIZES)
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_replayed_steps_are_the_networks_own(replayed, family, dtype, allowed):
    channels = 1 if family == "pixelcnnpp" else 2
    model = build(family, channels, dtype, classes=3)
    for n in (2, 1, 19):  # recorded with two, replayed with any number: less than a block of samples, more than one
        before = replayed[0]
        x = torch.randint(3, (n, channels, 13, 11))
        condition = torch.arange(n) % 3
        difference = walk(model.stepper(n, condition), x) - expected(model, x, condition)
        assert float(difference.abs().max()) <= allowed
        assert replayed[0] - before >= 0.5 * 13 * 11 * channels


@pytest.mark.parametrize("family", OTHERS)
def test_what_cannot_be_replayed_is_left_to_the_network(replayed, family):
    model = build(family)
    for _ in range(2):
        x = torch.randint(3, (2, 1, 13, 11))
        assert torch.allclose(walk(model.stepper(2), x), expected(model, x), atol=1e-10)
    assert replayed[0] == 0


@needs_kernels
@pytest.mark.parametrize("family", SIZES)
def test_forks_and_known_rows(replayed, family):
    model = build(family)
    x = torch.randint(3, (3, 1, 13, 11))
    stepper = model.stepper(3)
    stepper.prefill(x[:, :, :4])
    want = expected(model, x)
    for index in range(4 * 11, 7 * 11 + 5):
        row, column = divmod(index, 11)
        assert torch.allclose(stepper.log_pmf(), want[index], atol=1e-10)
        stepper.push(x[:, 0, row, column])
    fork = stepper.fork([2, 2, 0, 1])
    other = x[[2, 2, 0, 1]].clone()
    other[1, 0, 8:] = (other[1, 0, 8:] + 1) % 3
    assert torch.allclose(walk(fork, other, 7 * 11 + 5), expected(model, other)[7 * 11 + 5 :], atol=1e-10)
    assert torch.allclose(walk(stepper, x, 7 * 11 + 5), want[7 * 11 + 5 :], atol=1e-10)
    assert replayed[0] > 0


@needs_kernels
@pytest.mark.parametrize("by", ["no_grad", "data"])
@pytest.mark.parametrize("family", ["gated_pixelcnn", "pixelcnn"])
def test_other_weights_are_recorded_anew(replayed, family, by):
    """Changed through `.data` as well, of which PyTorch keeps no version."""
    model = build(family)
    x = torch.randint(3, (2, 1, 13, 11))
    walk(model.stepper(2), x)
    with torch.no_grad():
        for parameter in model.parameters():
            (parameter.data if by == "data" else parameter).add_(0.1 * torch.randn_like(parameter))
    assert torch.allclose(walk(model.stepper(2), x), expected(model, x), atol=1e-10)


@needs_kernels
@pytest.mark.parametrize("family", SIZES)
def test_pictures_do_not_depend_on_what_was_made_before(family):
    model = build(family, dtype=torch.float32)
    x = torch.randint(3, (2, 1, 13, 11))
    assert torch.equal(walk(model.stepper(2), x), walk(model.stepper(2), x))


@needs_kernels
def test_small_pictures_are_not_worth_a_recording(replayed):
    model = build("gated_pixelcnn", size=(9, 11))
    walk(model.stepper(2), torch.randint(3, (2, 1, 9, 11)))
    assert replayed[0] == 0


@needs_kernels
def test_threads_share_the_samples():
    model = build("gated_pixelcnn")
    x = torch.randint(3, (50, 1, 13, 11))
    one = walk(model.stepper(50), x)
    torch.set_num_threads(3)
    three = walk(model.stepper(50), x)
    torch.set_num_threads(1)
    assert torch.allclose(one, three, atol=1e-12)


class Uneven(Network):
    """Does something else in every second row or column, without the levels that would announce it."""

    @dataclasses.dataclass(frozen=True)
    class Config:
        by: str = "row"

    def __init__(self, config, inputs, outputs, condition=None):
        super().__init__(config, inputs, outputs, condition)
        between = Layout((4,))
        self.first = PixelConv(inputs, between, "A", left=1, rows=1, side=1)
        self.last = torch.nn.ModuleList(PixelConv(between, outputs, "B") for _ in range(2))

    def pixels(self, x, contexts, run):
        h = torch.tanh(self.first(x, run))
        if x is None:
            return self.last[getattr(run, self.config.by) % 2](h, run)
        both = torch.stack([last(h, run) for last in self.last])
        number = torch.arange(h.shape[1])[:, None] if self.config.by == "row" else torch.arange(h.shape[2])[None]
        return torch.where((number % 2 == 0)[None, :, :, None], both[0], both[1])


@needs_kernels
@pytest.mark.parametrize("by", ["row", "column"])
def test_a_network_that_differs_from_place_to_place_is_not_replayed_as_if_it_did_not(by):
    register("uneven", summary="", channel_masks=False, full_context=False)(Uneven)
    try:
        model = build("uneven", by=by)
        for _ in range(2):
            x = torch.randint(3, (2, 1, 13, 11))
            assert torch.allclose(walk(model.stepper(2), x), expected(model, x), atol=1e-10)
    finally:
        unregister("uneven")


def test_without_a_compiler_nothing_changes(tmp_path):
    """The same pictures, step by step, with and without the kernels; a compiler that fails is like none."""
    program = (
        "import torch, nextpixel as npx\n"
        "torch.manual_seed(0)\n"
        "model = npx.build('gated_pixelcnn', shape=(1, 9, 9), levels=4, layers=2, features=6).double()\n"
        "print(npx.sample(model, n=5, seed=2).flatten().tolist())\n"
        "from nextpixel.replay.native import kernels\n"
        "print(sorted(kernels()))\n"
    )
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    drawn = {}
    for name, settings in {
        "usual": {},
        "off": {"NEXTPIXEL_NATIVE": "0"},
        "broken": {"CC": str(broken), "NEXTPIXEL_CACHE": str(tmp_path / "cache")},
        "no room": {"NEXTPIXEL_CACHE": "/proc/nowhere"},
    }.items():
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **settings}, capture_output=True, text=True, check=True
        )
        drawn[name], found = done.stdout.splitlines()
        assert done.stderr == ""
        if name != "usual":
            assert found == "[]"
    assert len(set(drawn.values())) == 1


@needs_kernels
@pytest.mark.parametrize("error", [RuntimeError("Could not determine home directory."), PermissionError(13, "no")])
def test_without_a_place_for_them_there_are_no_kernels(monkeypatch, error):
    def nowhere():
        raise error

    monkeypatch.setattr("nextpixel.native.cache_folder", nowhere)
    assert _opened.__wrapped__(native.SOURCE) is None


@needs_kernels
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-14), (torch.float32, 3e-7)])
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "elu", "neg"])
def test_the_kernels_functions(dtype, allowed, name):
    spread = torch.cat([torch.linspace(-30, 30, 4001), torch.linspace(-0.7, 0.7, 2001), torch.tensor([-1e4, 0.0, 1e4])])
    x = torch.stack([spread, -spread]).to(dtype)
    apply = getattr(torch.nn.functional, name, None) or getattr(torch, name)
    assert float((alone(apply, x) - apply(x)).abs().max()) <= allowed


@needs_kernels
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "elu", "neg"])
def test_what_is_no_number_stays_none(name):
    x = torch.full((2, 40), float("nan"))
    apply = getattr(torch.nn.functional, name, None) or getattr(torch, name)
    assert alone(apply, x).isnan().all()


@needs_kernels
@pytest.mark.parametrize("n", [1, 2, 7, 8, 16, 17, 33])
@pytest.mark.parametrize(("inner", "columns"), [(1, 1), (3, 5), (17, 16), (40, 33), (5, 128), (9, 300)])
def test_the_kernels_product(n, inner, columns):
    a, b, c = torch.randn(n, inner), torch.randn(inner, columns), torch.randn(n, columns)
    made = alone(lambda x: torch.addmm(x[:, inner:], x[:, :inner], b), torch.cat([a, c], 1))
    assert torch.allclose(made, torch.addmm(c, a, b), atol=1e-5)


def alone(function, x):
    """function(x) of x [n, m] by the kernels: recorded with x as row work of a memory, then replayed."""
    memory = npx.causal.Memory(x.new_empty(0), len(x), 1, 1)
    context = x[:, None, None].contiguous()
    with recording.PixelRecorder(memory, [context], 0, 0) as recorder:
        result = recorder.finish(function(context[:, 0, 0]))
    roles = replay._Roles(memory)
    program = replay._Program(result, roles, memory)
    roles.bind([context], 0)
    return program.run(native.kernels()[learning.TYPES[x.dtype]], roles, npx.causal.Cursor(memory)).clone()


def test_operations_are_numbered_as_in_the_kernels():
    text = native.SOURCE.read_text()
    names = text.partition("enum { COPY")[2].partition("}")[0]
    assert [name.strip().lower() for name in ("COPY" + names).split(",")] == recording.KINDS
