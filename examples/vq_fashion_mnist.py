"""A VQ-VAE on Fashion-MNIST, a prior over its codes, and pictures drawn from both.

    python -m examples.vq_fashion_mnist --out vq-demo          (needs: pip install 'nextpixel[vq]')

1. An auto-encoder is trained whose bottleneck is a 7x7 grid of K = 256 codes (van den Oord, Vinyals and Kavukcuoglu
   2017; the quantiser is vector-quantize-pytorch's, with codebook vectors as moving averages and dead codes replaced).
   What we do differently: the decoder does not give a picture but a distribution of every pixel, a discretised mixture
   of logistics, so that the reconstruction has a cost in bits. Since the encoder is deterministic,
   -log2 p(x) <= (bits of the codes under the prior) + (bits of the picture given its codes): a bound, not exact.
2. The codes of all images are written to codes.npz, integers like any other data set.
3. A class-conditional Gated PixelCNN is trained on them: the prior. Its likelihood of the codes is exact.
4. 64 code grids are drawn and decoded; beside them 64 reconstructions, and the training images nearest to the samples.

Every stage leaves a file and is skipped when that is there, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

import nextpixel as npx
from nextpixel.images import Dataset
from nextpixel.images.levels import scale
from nextpixel.images.pictures import grid
from nextpixel.tasks.baselines import baselines
from nextpixel.tasks.progress import Steps

CODES, WIDTH, DEPTH, MIXTURES = 256, 64, 16, 5


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(WIDTH, WIDTH // 2, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH // 2, WIDTH, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class VQVAE(nn.Module):
    """Images [N, 1, 28, 28] with 256 levels <-> codes [N, 7, 7]."""

    def __init__(self) -> None:
        super().__init__()
        self.head = npx.heads()["logistic_mixture"](1, 256, mixtures=MIXTURES)
        self.encoder = nn.Sequential(
            nn.Conv2d(1, WIDTH // 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH // 2, WIDTH, 4, stride=2, padding=1),
            Residual(),
            Residual(),
            nn.Conv2d(WIDTH, DEPTH, 1),
        )
        self.quantiser = VectorQuantize(
            dim=DEPTH,
            codebook_size=CODES,
            decay=0.99,
            threshold_ema_dead_code=2,
            kmeans_init=True,
            accept_image_fmap=True,
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(DEPTH, WIDTH, 3, padding=1),
            Residual(),
            Residual(),
            nn.ReLU(),
            nn.ConvTranspose2d(WIDTH, WIDTH, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(WIDTH, WIDTH // 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH // 2, sum(self.head.sizes), 3, padding=1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bits of each picture given its codes, [N]; the codes, [N, 7, 7]; the commitment loss."""
        quantised, codes, commitment = self.quantiser(self.encoder(scale(x, 256, torch.float32)))
        return self._bits(quantised, x), codes, commitment.sum()

    def _bits(self, quantised: Tensor, x: Tensor) -> Tensor:
        log_prob: Tensor = self.head.log_prob(self.decoder(quantised).permute(0, 2, 3, 1), x)
        return -log_prob.flatten(1).sum(1) / math.log(2)

    def decode(self, codes: Tensor) -> Tensor:
        """The mean picture of each code grid [N, 7, 7], rounded to a level: uint8 [N, 1, 28, 28]."""
        vectors = self.quantiser.get_output_from_indices(codes)
        features = self.decoder(vectors).permute(0, 2, 3, 1)
        pmf = self.head.log_pmf(features.flatten(0, 2), 0, codes.new_zeros(features[..., 0].numel(), 0)).exp()
        mean = (pmf * torch.arange(256)).sum(-1).round()
        return mean.view(len(codes), 1, *features.shape[1:3]).to(torch.uint8)


def train_vqvae(data: Dataset, epochs: int, batch_size: int = 64) -> VQVAE:
    torch.manual_seed(0)
    model = VQVAE().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    per_epoch = len(data.train) // batch_size
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * per_epoch, 2e-5)
    dims = math.prod(data.shape)
    with Steps(epochs * per_epoch, "VQ-VAE", unit=" steps") as steps:
        for epoch in range(epochs):
            order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(epoch))
            for indices in order[: per_epoch * batch_size].split(batch_size):
                bits, _, commitment = model(data.train.images[indices])
                loss = bits.mean() / dims + commitment
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                steps.to(steps.done + 1, f"{bits.mean().item() / dims:.3f} bits/dim given the codes,")
    return model


@torch.no_grad()
def encode(model: VQVAE, images: Tensor) -> tuple[Tensor, float]:
    """The codes [N, 7, 7] of images, and the mean bits of a picture given its codes."""
    model.eval()
    found = [model(part)[:2] for part in images.split(256)]
    return torch.cat([codes for _, codes in found]), float(torch.cat([bits for bits, _ in found]).mean())


def sheet(columns: dict[str, Tensor], path: Path) -> None:
    figure = Figure(figsize=(3.6 * len(columns), 3.9), layout="constrained")
    for axes, (title, images) in zip(figure.subplots(1, len(columns)), columns.items(), strict=True):
        axes.imshow(grid(images, 256, columns=8), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("vq-demo"))
    parser.add_argument("--data", default="fashion_mnist", help="8-bit grey pictures of 28x28: a name or a path")
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--epochs", type=int, default=3, help="of the VQ-VAE")
    parser.add_argument("--prior-epochs", type=int, default=4)
    given = parser.parse_args(arguments)
    began, out = time.monotonic(), given.out
    out.mkdir(parents=True, exist_ok=True)
    data = npx.dataset(given.data, data_dir=given.data_dir)

    weights = out / "vqvae.safetensors"
    model = VQVAE()
    if weights.exists():
        model.load_state_dict(load_file(weights))
    else:
        model = train_vqvae(data, given.epochs)
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    model.eval()

    splits = {"train": data.train, "valid": data.valid, "test": data.test}
    encoded = {name: encode(model, split.images) for name, split in splits.items()}
    arrays: dict[str, Any] = {name: codes.numpy().astype(np.uint8) for name, (codes, _) in encoded.items()}
    for name, split in splits.items():
        if split.labels is not None:
            arrays[f"{name}_labels"] = split.labels.numpy()
    np.savez_compressed(out / "codes.npz", **arrays)

    codes = npx.dataset(out / "codes.npz", levels=CODES)
    run = out / "prior"
    if not (run / "model").exists():
        torch.manual_seed(0)
        prior = npx.build(
            "gated_pixelcnn", like=codes, classes=codes.classes, embedding="learned", layers=5, features=48
        )
        npx.train(prior, codes, epochs=given.prior_epochs, batch_size=64, run=run)
    prior = npx.load(run)

    simple = baselines(codes)
    valid = npx.evaluate(prior, codes.valid, progress=True)
    bits = {name: value for name, (_, value) in encoded.items()}
    dims, positions = math.prod(data.shape), math.prod(codes.shape)
    card = {
        "codes": npx.code_usage(codes),
        "reconstruction_bits_per_dim": {name: value / dims for name, value in bits.items()},
        "prior_bits_per_code": {"valid": valid.bits_per_dim, "given_class": valid.given_class},
        "simple_codes_bits_per_code_test": simple,
        "bound_bits_per_dim_valid": (bits["valid"] + valid.bits_per_dim * positions) / dims,
        "seconds_of_this_call": time.monotonic() - began,
        "processor_seconds_of_this_call": time.process_time(),
    }
    samples = model.decode(npx.sample(prior, n=64, seed=0, condition="each")[:, 0].long())
    test = data.test.images[:: len(data.test) // 64][:64]
    columns = {
        "drawn: codes from the prior, decoded": samples,
        "nearest training images": data.train.images[npx.nearest(samples, data.train).indices[:, 0]],
        "test images, reconstructed": model.decode(encode(model, test)[0]),
        "the same test images": test,
    }
    sheet(columns, out / "pictures.png")
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
