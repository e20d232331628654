"""Archives of Kodak photographs by local models that have not seen them, beside standard codecs.

python -m benchmarks.photographs [--runs runs/codec] [--data-dir FOLDER] [--threads 2] [--again]

`photographs` of the package was trained on crops of those with even numbers and codes the twelve with odd ones; the
others are coded if kodak-odd of benchmarks/codec_models.py has been trained. Photographs that have been coded already
are not coded again, unless --again says so. Pictures are whole, not cut into tiles: a
model of this family decodes a diagonal at a time. Every archive is decoded and compared with the pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from benchmarks.codec_models import photographs
from benchmarks.measure import RESULTS, machine, save
from benchmarks.standard_codecs import standard
from nextpixel.images import Split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/codec"))
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("NEXTPIXEL_DATA"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--again", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    card = RESULTS / "photographs.json"
    rows: list[dict[str, Any]] = json.loads(card.read_text())["rows"] if card.exists() and not args.again else []
    there, counts, forms = {row["name"] for row in rows}, {}, set()
    models = [(True, "photographs"), (False, str(args.runs / "kodak-odd"))]
    for odd, name in models if Path(models[1][1]).exists() else models[:1]:
        chosen = photographs(Path(args.data_dir or ".") / "kodak", odd)
        corner = Split(chosen[0][1][None, :, :128, :128], None, 256, "a corner", "8-bit")
        model = npx.load(name)
        exact = npx.freeze(model, corner)
        counts[name] = model.parameter_count
        forms.add(exact.formats.form)
        for title, image in chosen:
            if title in there:
                continue
            began = time.perf_counter()
            archive = npx.compress(exact, image[None], verify=False, batch_size=1)
            encoded = time.perf_counter()
            if not torch.equal(npx.decompress(archive, exact).images[0], image):
                raise RuntimeError(f"{title} does not come back")
            decoded = time.perf_counter()
            row: dict[str, Any] = {"name": title, "values": image.numel(), "bytes": len(archive)}
            row |= {"encode_seconds": encoded - began, "decode_seconds": decoded - encoded}
            row["others"] = standard(image[None], 256)
            rows.append(row)
            others = ", ".join(f"{codec} {figure:.3f}" for codec, figure in row["others"].items())
            print(
                f"{title}: {8 * len(archive) / image.numel():.3f} bits/dim, {row['encode_seconds']:.1f} s, "
                f"{row['decode_seconds']:.1f} s back; {others}",
                flush=True,
            )
    values = sum(row["values"] for row in rows)
    total = {"nextpixel": 8 * sum(row["bytes"] for row in rows) / values}
    for codec in rows[0]["others"]:
        total[codec] = sum(row["others"][codec] * row["values"] for row in rows) / values
    print({codec: round(figure, 4) for codec, figure in total.items()})
    save(
        "photographs",
        {**machine(), "rows": rows, "total": total, "forms": sorted(forms), "parameters": counts},
    )


if __name__ == "__main__":
    main()
