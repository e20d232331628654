"""Whole archives of the codec beside standard codecs, in one run: bytes, bits/dim, and pictures a second.

python -m benchmarks.codec MODEL DATA [--split test] [--images 10000] [--tile 0] [--formats auto float64]

Every archive is decoded and compared with the pixels, in other batches than it was made in. The standard codecs get the
same pictures: standard_codecs.py.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from benchmarks.measure import machine, save
from benchmarks.standard_codecs import standard
from nextpixel.images import Split


def measure(model: Any, split: Split, form: str, tile: int, batch: int) -> dict[str, Any]:
    exact = npx.freeze(model, split[:32], form=form)  # type: ignore[arg-type] # one of its forms
    began = time.perf_counter()
    archive = npx.compress(exact, split, verify=False, tile=tile, batch_size=batch)
    encoding = time.perf_counter() - began
    began = time.perf_counter()
    found = npx.decompress(archive, exact, batch_size=4096 if not tile else 512)
    decoding = time.perf_counter() - began
    if not torch.equal(found.images, split.images):
        raise RuntimeError("the archive does not decode to the same pixels")
    began = time.perf_counter()
    with torch.no_grad():
        for start in range(0, len(split.images), batch):
            model.log_prob_per_symbol(split.images[start : start + batch])
    float_pass = time.perf_counter() - began
    dims = split.images.numel()
    return {
        "form": exact.formats.form,
        "bytes": len(archive),
        "bits_per_dim": 8 * len(archive) / dims,
        "bytes_per_image": len(archive) / len(split.images),
        "framing": npx.archive_info(archive)["framing_bytes"],
        "encode_seconds": encoding,
        "decode_seconds": decoding,
        "float_pass_seconds": float_pass,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--tile", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--formats", nargs="+", default=["auto"])
    parser.add_argument("--name", default="codec")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = npx.load(args.model).eval()
    split = getattr(npx.dataset(args.data), args.split)[: args.images]
    rows = [measure(model, split, form, args.tile, args.batch) for form in args.formats]
    nats = sum(
        float(-model.log_prob(split.images[i : i + args.batch]).double().sum().detach())
        for i in range(0, len(split.images), args.batch)
    )
    dims = split.images.numel()
    print(f"{len(split.images)} pictures, {dims:,} values; the float model: {nats / dims / math.log(2):.5f} bits/dim")
    for row in rows:
        encoded, decoded = (len(split.images) / row[f"{what}code_seconds"] for what in ("en", "de"))
        print(
            f"{row['form']}: {row['bytes']:,} bytes, {row['bits_per_dim']:.5f} bits/dim, {row['bytes_per_image']:.2f} "
            f"bytes a picture ({row['framing']:,} of framing); encoded at {encoded:.1f} pictures/s "
            f"({row['float_pass_seconds'] / row['encode_seconds']:.2f} of a float pass), decoded at {decoded:.1f}",
            flush=True,
        )
    others = standard(split.images, split.levels)
    for name, figure in others.items():
        print(f"{name}: {figure:.4f} bits/dim")
    float_bits = nats / dims / math.log(2)
    # the figures go round, the machine's folders do not
    told = {**vars(args), "model": Path(args.model).name, "made_of": model.made_with()}
    told |= {"parameters": model.parameter_count, "float_bits_per_dim": float_bits}
    save(args.name, {**machine(), **told, "rows": rows, "others": others})


if __name__ == "__main__":
    main()
