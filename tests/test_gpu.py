"""What only a GPU can show: the same model there and on the CPU. Skipped where there is none.

NEXTPIXEL_TEST_DEVICE=cpu runs these tests with the CPU in the place of the GPU, which shows that they run, no more.
"""

import copy
import os

import pytest
import torch
from safetensors.torch import load_file

import nextpixel as npx
from nextpixel.tasks.batches import Batches

DEVICE = os.environ.get("NEXTPIXEL_TEST_DEVICE", "cuda")
GPU = DEVICE == "cuda"
FAMILIES = npx.families()
FREEZABLE = [name for name, family in FAMILIES.items() if family.freezable]
SMALL = {"layers": 2, "blocks": 1, "scales": 2, "features": 6, "hidden": 8, "heads": 1, "keys": 2, "values": 3}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(GPU and not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


@pytest.fixture(autouse=True)
def whole_float32():
    """Convolutions of float32 are made in TF32 by default, which is nobody's fault here."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield


@pytest.fixture
def small(tiny):
    def make(family, channels=1, **more):
        options = {name: value for name, value in SMALL.items() if name in FAMILIES[family].options}
        head = {} if channels == 1 else {"head": "autoregressive_categorical"}
        return tiny(family, shape=(channels, 5, 6), levels=4, spread=0.5, **{**options, **head, **more})

    return make


def images(model, n=3):
    return torch.randint(model.levels, (n, *model.shape), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_and_cursor_agree_there_and_with_the_cpu(small, family):
    model = small(family, double=True)
    x = images(model)
    here = model.log_pmf(x)
    there = model.to(DEVICE)
    whole = there.log_pmf(x)
    torch.testing.assert_close(whole.cpu(), here, atol=1e-10, rtol=1e-10)
    stepper = there.stepper(len(x))
    while (position := stepper.position) is not None:
        row, column, channel = position
        torch.testing.assert_close(stepper.log_pmf(), whole[:, channel, row, column], atol=1e-10, rtol=1e-10)
        stepper.push(x[:, channel, row, column].to(DEVICE))


@pytest.mark.parametrize("method", ["cursor", "wavefront", "guess"])
def test_the_same_noise_gives_the_same_pictures(small, method):
    model = small("local", double=True)
    here = npx.sample(model, n=5, seed=4, method="cursor")
    assert torch.equal(npx.sample(model.to(DEVICE), n=5, seed=4, method=method), here)


@pytest.mark.parametrize("family", FAMILIES)
def test_figures_of_float32_agree_to_rounding(small, family):
    model = small(family)
    data = npx.Split(images(model, 64).to(torch.uint8), None, 4, "some", "4 levels")
    here = npx.evaluate(model, data).bits_per_dim
    assert npx.evaluate(model.to(DEVICE), data, batch_size=64).bits_per_dim == pytest.approx(here, abs=1e-5)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.skipif(not GPU, reason="minutes"))])
@pytest.mark.parametrize("family", ["gated_pixelcnn", "pixelcnnpp"])
def test_training_in_bfloat16_learns_and_saves_32_bits(digits, tiny, run, family, compiled):
    options = {name: value for name, value in SMALL.items() if name in FAMILIES[family].options}
    before = tiny(family, like=digits, **options)
    bits = npx.evaluate(before, digits.valid).bits_per_dim
    settings = {"epochs": 4, "batch_size": 16, "learning_rate": 1e-2, "ema": 0.9, "flip": 0.5}
    if GPU:
        settings["precision"] = "bf16"
    model = npx.train(before, digits, run=run, device=DEVICE, compile=compiled, progress=False, **settings)
    assert npx.evaluate(model, digits.valid).bits_per_dim < bits - 0.05
    assert {tensor.dtype for tensor in load_file(run / "model" / "model.safetensors").values()} == {torch.float32}
    again = npx.train(tiny(family, like=digits, **options), digits, run=run, resume=True, device=DEVICE, progress=False)
    assert again.card["training"]["steps"] == model.card["training"]["steps"]


@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_batches_made_there_are_those_made_here(digits, flip):
    here, there = (Batches(digits.train, 20, 3, lambda: 2, flip=flip) for _ in range(2))
    there.keep_on(torch.device(DEVICE))
    for (x, told, weight), (same, told_there, weight_there) in zip(here, there, strict=True):
        assert same.device.type == DEVICE
        assert torch.equal(same.cpu(), x)
        assert torch.equal(told["class"], told_there["class"].cpu())
        assert weight == weight_there


@pytest.mark.parametrize("form", ["float32", "float64"])
@pytest.mark.parametrize("family", FREEZABLE)
def test_the_codec_gives_the_same_integers_and_bytes_both_ways(small, family, form):
    here = npx.freeze(small(family, channels=3), form=form)
    there = copy.deepcopy(here).to(DEVICE)
    x = images(here, 7)
    assert torch.equal(here.masses(x), there.masses(x).cpu())
    archive = npx.compress(here, x)
    assert npx.compress(there, x) == archive
    assert torch.equal(npx.decompress(archive, there).images.long(), x)
    assert torch.equal(npx.decompress(npx.compress(there, x), here).images.long(), x)
    assert there.like().dtype == getattr(torch, form), "exact as it is, without a wider type"


@pytest.mark.skipif(not GPU, reason="a CPU has no TF32")
def test_the_codec_notices_tf32_and_does_without(small):
    here = npx.freeze(small("local", features=32), form="float32")
    there = copy.deepcopy(here).to(DEVICE)
    x = images(here, 40)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        found = there.masses(x).cpu()
        assert there.like().dtype == torch.float64, "products in TF32 are not exact, so a wider type takes over"
        assert torch.backends.cuda.matmul.allow_tf32, "and nobody else's setting was touched"
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert torch.equal(found, here.masses(x))
