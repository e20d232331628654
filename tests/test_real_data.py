"""A step of training and an evaluation of 100 images on the real data sets, where they are."""

import math
import os
from pathlib import Path

import pytest
import torch

import nextpixel as npx
from nextpixel.images import Dataset

FOLDER = Path(os.environ.get("NEXTPIXEL_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data")

SETS = {
    "mnist": ({"binarise": "threshold"}, (1, 28, 28), 2, (60000, 10000)),
    "binarized_mnist": ({}, (1, 28, 28), 2, (60000, 10000)),
    "fashion_mnist": ({}, (1, 28, 28), 256, (60000, 10000)),
    "cifar10": ({}, (3, 32, 32), 256, (50000, 10000)),
}


@pytest.fixture
def real(request, monkeypatch, tmp_path):
    """A data set of the folder, never one that would have to be downloaded."""
    name = request.param
    if not (FOLDER / name).is_dir():
        pytest.skip(f"{name} is not in {FOLDER}: set NEXTPIXEL_DATA to the folder of the data sets")
    monkeypatch.setenv("NEXTPIXEL_CACHE", str(tmp_path / "cache"))
    return name, npx.dataset(name, data_dir=FOLDER, download=False, **SETS[name][0])


@pytest.mark.timeout(200)
@pytest.mark.parametrize("real", SETS, indirect=True)
def test_a_step_and_an_evaluation(real, tiny, run):
    name, data = real
    _, shape, levels, (seen, tested) = SETS[name]
    assert (data.shape, data.levels) == (shape, levels)
    assert len(data.train) + len(data.valid) == seen
    assert len(data.test) == tested

    classes = data.classes if name == "fashion_mnist" else None
    model = tiny(like=data, classes=classes, layers=1, features=6)
    # A fresh model is nearly uniform.
    start = npx.evaluate(model, data.test, limit=100, batch_size=50)
    assert start.images == 100
    assert start.dims == math.prod(shape)
    assert start.bits_per_dim == pytest.approx(math.log2(levels), abs=0.5)

    part = Dataset(data.name, data.train[:16], data.valid[:16], data.test[:100])
    npx.train(
        model,
        part,
        epochs=1,
        batch_size=16,
        warmup_steps=0,
        ema=0.0,
        sample_every=0,
        run=run,
        progress=False,
        device="cpu",
    )
    found = npx.evaluate(model, data.test, limit=100, batch_size=50)
    assert found.bits_per_dim < start.bits_per_dim
    assert (found.given_class is None) == (classes is None)
    again = npx.evaluate(npx.load(run), data.test, limit=100, batch_size=50)
    assert again.nats == found.nats
    assert found.protocol == data.protocol

    per_symbol = model.log_prob_per_symbol(data.test[:2].images, 0 if classes else None)
    assert per_symbol.shape == (2, *shape)
    assert torch.isfinite(per_symbol).all()
