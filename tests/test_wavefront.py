"""Pictures made by diagonals: the same probabilities and pictures as symbol by symbol, in fewer steps."""

import pytest
import torch

import nextpixel as npx
from nextpixel.causal import Layout, PixelConv, UnwrittenError, Wave, WaveMemory, Whole
from nextpixel.checking.diagonals import whole_is_wavefront
from nextpixel.networks import families
from nextpixel.replay import native, waves
from nextpixel.tasks.drawing import SampleOptions, choose, draw, uniform_noise
from nextpixel.wavefront import Wavefront

NETWORKS = [
    ("local", {"layers": 2, "features": 5}, 2),
    ("local", {"layers": 1, "features": 5, "slope": 1}, 1),
    ("local", {"layers": 1, "features": 5, "neighbours": 3}, 2),
    ("local", {"layers": 2, "features": 4, "slope": 3, "kernel": 5}, 3),
    ("pixelcnn", {"blocks": 2, "features": 5}, 4),
    ("pixelcnn", {"blocks": 1, "features": 5, "first_kernel": 3, "kernel": 5}, 3),
    ("row_lstm", {"layers": 2, "features": 5}, 4),
    ("row_lstm", {"layers": 1, "features": 5, "width": 5, "first_kernel": 3}, 3),
]
PICTURES = [
    {"shape": (1, 5, 7), "levels": 3},
    {"shape": (3, 4, 5), "levels": 4, "classes": 3},
    {"shape": (3, 5, 4), "levels": 4, "head": "logistic_mixture", "orders": ["transpose-flip-x"]},
    {"shape": (2, 3, 1), "levels": 3, "head": "autoregressive_categorical", "map_shape": (2, 2, 1)},
    {"shape": (1, 1, 6), "levels": 2, "orders": ["flip-x"], "vector": 2},
]


def build(family, options, **picture):
    torch.manual_seed(1)
    model = npx.build(family, **picture, **options).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def condition_of(model, n):
    if model.condition is None:
        return None
    if model.classes:
        return torch.arange(n) % model.classes
    shape = model.condition.map_shape or (model.condition.vector_width,)
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(2))


def waved(model, n, condition, noise, options=None):
    wave, steps = Wavefront(model, n, condition), 0
    places = wave.by_position(noise)
    while (here := wave.here) is not None:
        positions, channel = here
        log_pmf = wave.log_pmf()
        assert torch.equal(log_pmf, wave.log_pmf())  # asking twice changes nothing
        wave.push(choose(log_pmf, places[positions, :, channel].flatten(), options or SampleOptions()))
        steps += 1
    return wave.images, steps


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: "x".join(map(str, p["shape"])))
@pytest.mark.parametrize(("family", "options", "slope"), NETWORKS)
def test_the_same_pictures_as_symbol_by_symbol_in_fewer_steps(family, options, slope, picture):
    model = build(family, options, **picture)
    assert model.network.slope == slope
    noise, condition = uniform_noise(0, range(3), model.shape), condition_of(model, 3)
    stepper = model.stepper(3, condition)
    draw(stepper, noise, SampleOptions())
    images, steps = waved(model, 3, condition, noise)
    assert torch.equal(images, stepper.images)
    rows, columns = model.order.grid(*model.shape[1:])
    diagonals = columns + slope * (rows - 1) if columns >= slope else rows * columns
    assert steps == diagonals * model.shape[0]


@pytest.mark.parametrize(("family", "options", "slope"), NETWORKS)
def test_whole_is_wavefront(family, options, slope):
    for picture in ({"shape": (1, 6, 9), "levels": 3}, {"shape": (3, 5, 6), "levels": 2, "classes": 2}):
        models = [build(family, options, **picture)]
        findings = whole_is_wavefront(models, picture["shape"][1:], 1e-10)
        assert [finding.passed for finding in findings] == [True], findings


def test_declared_wherever_no_layer_needs_finished_rows():
    torch.manual_seed(0)
    for name, family in families().items():
        network = npx.build(name, shape=(1, 6, 6), levels=2).network
        possible = all(getattr(module, "slope", 1) is not None for module in network.modules() if module is not network)
        convolutional = family.any_size and family.orders == "flips" and name not in ("pixelcnnpp", "pixelsnail")
        assert ("wavefront" in family.schedules) == (possible and convolutional), name


def test_sample_goes_by_diagonals_where_it_can():
    model = build("local", {"layers": 1, "features": 4}, shape=(3, 5, 6), levels=3, classes=2, orders=["flip-y"])
    told = []
    pictures = npx.sample(model, n=5, batch_size=2, condition="each", temperature=0.7, tell=told.append)
    assert "Method: wavefront (diagonal by diagonal)" in told[0]
    assert torch.equal(pictures, npx.sample(model, n=5, condition="each", temperature=0.7, method="cursor"))
    gated = npx.build("gated_pixelcnn", shape=(1, 6, 6), levels=2, layers=1, features=4)
    with pytest.raises(npx.UserError, match="finished rows above a pixel; use method='auto'"):
        npx.sample(gated, n=1, method="wavefront")


def test_other_families_refuse():
    model = npx.build("gated_pixelcnn", shape=(1, 6, 6), levels=2, layers=1, features=4).eval()
    assert model.network.slope is None
    with pytest.raises(npx.UserError, match="cannot make pictures by diagonals"):
        Wavefront(model, 1)
    with pytest.raises(npx.UserError, match="evaluation mode"):
        Wavefront(npx.build("local", shape=(1, 6, 6), levels=2, layers=1, features=4), 1)


def test_the_end():
    wave = Wavefront(build("local", {"layers": 1, "features": 4}, shape=(1, 1, 2), levels=2), 1)
    for _ in range(2):
        wave.push(torch.ones(1, dtype=torch.long))
    assert wave.here is None
    assert wave.images.flatten().tolist() == [1, 1]
    with pytest.raises(npx.UserError, match="finished"):
        wave.log_pmf()


def test_no_pictures_are_no_mistake():
    wave = Wavefront(build("local", {"layers": 1, "features": 4}, shape=(1, 2, 3), levels=2), 0)
    while wave.here is not None:
        assert wave.log_pmf().shape == (0, 2)
        wave.push(torch.ones(0, dtype=torch.long))
    assert wave.images.shape == (0, 1, 2, 3)


@pytest.mark.parametrize("slope", [1, 2, 3])
def test_a_cut_kernel_sees_the_cone_and_nothing_else(slope):
    one = Layout((1,))
    conv = PixelConv(one, one, "B", left=2, rows=3, side=3, cut=slope).double()
    assert conv.slope == slope
    x = torch.randn(1, 5, 9, 1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(conv(x, Whole())[0, 4, 4, 0], x)
    seen = {(4 - i, j - 4) for i, j in torch.nonzero(gradient[0, :, :, 0]).tolist()}
    above = {(up, d) for up in (1, 2, 3) for d in range(-3, min(3, slope * up - 1) + 1)}
    assert seen == above | {(0, -2), (0, -1), (0, 0)}
    assert conv.above.numel() == len(above)  # no weight is held where nothing is seen


def test_a_diagonal_that_is_too_flat_is_noticed():
    """A layer says 2 columns, but its kernel sees 4: what is read was never written."""
    model = build("local", {"layers": 1, "features": 4}, shape=(1, 4, 6), levels=2)
    layer = model.network.layers[0]
    layer.spatial = PixelConv(layer.spatial.inputs, layer.spatial.outputs, "B", left=2, rows=1, side=3).double()
    assert model.network.slope == 4
    layer.spatial.slope = 2
    (finding,) = whole_is_wavefront([model], (4, 6), 1e-10)
    assert not finding.passed
    assert finding.fault == "wavefront fails"
    memory = WaveMemory(torch.zeros(0), 1, 3, 3, slope=2)
    run, stream = Wave(memory), memory.stream("x", 4, 1, 1)
    with pytest.raises(UnwrittenError):
        stream.tap(run, 0, 0, 1)
    stream.write(run, 0, torch.ones(1, 1))
    assert stream.tap(run, 0, 0, 1).item() == 1
    with pytest.raises(UnwrittenError):
        stream.tap(run, 1, 3, 1)  # three to the right, one above: in the future


def test_a_wrong_tap_is_noticed(monkeypatch):
    model = build("pixelcnn", {"blocks": 1, "features": 4}, shape=(1, 5, 6), levels=2)
    tap = waves.Stream.tap
    monkeypatch.setattr(waves.Stream, "tap", lambda self, run, up, d, f: tap(self, run, up, min(d, 0), f))
    (finding,) = whole_is_wavefront([model], (5, 6), 1e-10)
    assert finding.fault == "whole differs from wavefront"


@pytest.mark.skipif(not native.kernels(), reason="no kernels: no C compiler here, or NEXTPIXEL_NATIVE=0")
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
@pytest.mark.parametrize(("family", "options", "slope"), NETWORKS)
def test_replayed_diagonals_are_the_networks_own(family, options, slope, dtype, allowed, monkeypatch):
    for picture in ({"shape": (1, 9, 8), "levels": 3}, {"shape": (3, 6, 7), "levels": 2, "classes": 2}):
        model = build(family, options, **picture).to(dtype)
        replayed = [0]
        run = waves._Program.run

        def counted(*args, replayed=replayed, run=run):
            replayed[0] += 1
            return run(*args)

        with monkeypatch.context() as patch:
            patch.setattr(waves._Program, "run", counted)
            findings = whole_is_wavefront([model], picture["shape"][1:], allowed)
        assert findings[0].passed, findings
        channels, height, width = picture["shape"]
        assert replayed[0] == channels * (width + slope * (height - 1))


def test_memory_grows_with_the_height_only():
    def numbers(size):
        wave = Wavefront(build("local", {"layers": 2, "features": 4}, shape=(1, *size), levels=2), 2)
        wave.push(torch.zeros(2, dtype=torch.long))
        return wave._memory.numbers()

    assert numbers((8, 8)) == numbers((8, 64))
    assert numbers((64, 8)) < 8 * numbers((8, 8))


@pytest.mark.parametrize("family", ["pixelcnn", "row_lstm", "local"])
def test_autocast_around_diagonals_changes_nothing(tiny, family):
    model = tiny(family, shape=(1, 11, 10), levels=3, map_shape=(1, 11, 10), spread=0.3)
    told = torch.randn(2, 1, 11, 10)
    with torch.autocast("cpu", torch.bfloat16):
        stepper = Wavefront(model, 2, told)
        found = []
        while stepper.here is not None:
            found.append(stepper.log_pmf())
            stepper.push(found[-1].argmax(1))
    other = Wavefront(model, 2, told)
    for log_pmf in found:
        assert torch.equal(log_pmf, other.log_pmf())
        other.push(log_pmf.argmax(1))
