"""Writes tests/archives/frozen-*.npx, which every later version must decode: `python tests/golden_archives.py`.

Never written again once released: a version that cannot decode them is wrong, not they. Each holds the first digits
of the test split, coded by a small frozen model that is inside.
"""

import tempfile
from pathlib import Path

import torch

import nextpixel as npx

FOLDER = Path(__file__).parent / "archives"
IMAGES = 150
MODELS = {
    "pixelcnn": {"family": "pixelcnn", "blocks": 1, "features": 8},
    "gated_pixelcnn": {"family": "gated_pixelcnn", "layers": 2, "features": 8, "classes": 10},
    "row_lstm": {"family": "row_lstm", "layers": 1, "features": 8},
    "diagonal_bilstm": {"family": "diagonal_bilstm", "layers": 1, "features": 8},
    "pixelcnnpp": {
        "family": "pixelcnnpp",
        "scales": 2,
        "blocks": 1,
        "features": 6,
        "head": "autoregressive_categorical",
    },
    "local": {"family": "local", "layers": 2, "features": 8, "head": "logistic_mixture"},
    "local-float64": {"family": "local", "layers": 1, "features": 8, "orders": ["transpose-flip-x"]},
}


def main() -> None:
    data = npx.dataset("digits")
    for name, made in MODELS.items():
        torch.manual_seed(0)
        model = npx.build(like=data.train, **made)
        with tempfile.TemporaryDirectory() as run:
            npx.train(model, data, epochs=4, learning_rate=1e-2, sample_every=0, run=f"{run}/{name}", progress=False)
        exact = npx.freeze(model, form="float64" if name.endswith("float64") else "float32")
        archive = npx.compress(exact, data.test[:IMAGES], embed_model=True, chunk_bytes=2000)
        (FOLDER / f"frozen-{name}.npx").write_bytes(archive)
        print(name, npx.archive_info(archive))


if __name__ == "__main__":
    main()
