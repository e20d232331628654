"""Every way of sampling, over batches and picture sizes, with the same weights in one run.

python -m benchmarks.speed [--device cpu] [--threads 2] [--sizes 28 32 64] [--batches 1 16 64 256]
                           [--families gated_pixelcnn local]

"re-run" is a Whole pass for every pixel, "cropped" the same on the rows down to the pixel's only: of both, passes are
timed (of "cropped" at four heights) and multiplied. "cursor" goes symbol by symbol, "wavefront" by diagonals, where the
family allows it; both are run to the end and draw the same pictures, which is checked. Memory is what a sampler
remembers beyond weights and pictures. Prints a table; writes benchmarks/results/speed.json and
docs/pictures/speed.png (on a GPU speed-cuda.json, and no plot).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import nextpixel as npx
from benchmarks.measure import RESULTS, machine, matrix_rate, named, save, settled
from nextpixel.image_model import ImageModel
from nextpixel.tasks.drawing import SampleOptions, choose, draw, uniform_noise
from nextpixel.wavefront import Wavefront

FAMILIES: dict[str, dict[str, Any]] = {
    "gated_pixelcnn": {"layers": 10, "features": 64},
    "pixelcnn": {"blocks": 10, "features": 64},
    "local": {"layers": 6, "features": 64},
}
COLOURS = {"re-run": "tab:gray", "cropped": "tab:brown", "cursor": "tab:blue", "wavefront": "tab:orange"}
LONG = 8.0  # seconds; what takes longer is timed once


def best(run: Callable[[], object], repeats: int, device: str) -> float:
    """The shortest time of several runs."""
    times: list[float] = []
    run = settled(run, device)
    while len(times) < repeats and not (times and times[0] > LONG):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def by_cursor(model: ImageModel, noise: Tensor) -> tuple[Tensor, int]:
    stepper = model.stepper(len(noise), None, (noise.shape[2], noise.shape[3]))
    draw(stepper, noise, SampleOptions())
    return stepper.images, stepper._memory.numbers()


def by_diagonals(model: ImageModel, noise: Tensor) -> tuple[Tensor, int]:
    wave = Wavefront(model, len(noise), None, (noise.shape[2], noise.shape[3]))
    places = wave.by_position(noise)
    while (here := wave.here) is not None:
        positions, channel = here
        wave.push(choose(wave.log_pmf(), places[positions, :, channel].flatten(), SampleOptions()))
    return wave.images, wave._memory.numbers()


@torch.no_grad()
def measure(model: ImageModel, size: int, batch: int, repeats: int) -> dict[str, Any]:
    device = str(model.like().device)
    noise = uniform_noise(0, range(batch), (1, size, size)).to(device)
    x = torch.zeros(batch, 1, size, size, dtype=torch.long, device=device)
    model.log_pmf(x)  # not timed: libraries choose their programs here
    whole = best(lambda: model.log_pmf(x), repeats, device)
    heights = [max(1, round(size * part / 8)) for part in (1, 3, 5, 7)]
    parts = [best(lambda h=h: model.log_pmf(x[:, :, :h]), repeats, device) for h in heights]  # type: ignore[misc]
    row: dict[str, Any] = {"size": size, "batch": batch, "whole": whole}
    row |= {"re-run": size * size * whole, "cropped": size * size * sum(parts) / len(parts)}
    ways = {"cursor": by_cursor} | ({"wavefront": by_diagonals} if model.network.slope is not None else {})
    pictures = []
    for name, way in ways.items():
        images, numbers = way(model, noise)  # not timed: recordings are made here
        pictures.append(images)
        row[name] = best(lambda way=way: way(model, noise), repeats, device)  # type: ignore[misc]
        row[f"{name} bytes"] = numbers * model.like().element_size() / batch
    row["differing"] = max(int((images != pictures[0]).flatten(1).any(1).sum()) for images in pictures)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    columns = "family|size|pictures|re-run|cropped|Cursor|wavefront|Cursor, passes|Cursor / wavefront|kB a picture"
    lines = [f"| {columns.replace('|', ' | ')} |", "|---" * (columns.count("|") + 1) + "|"]
    for row in rows:
        wave = row.get("wavefront")
        memory = " / ".join(f"{row[k] / 1e3:.0f}" for k in ("cursor bytes", "wavefront bytes") if k in row)
        by_wave = ("", "") if wave is None else (f"{wave:.3f} s", f"{row['cursor'] / wave:.1f}×")
        lines.append(
            f"| `{row['family']}` | {row['size']} | {row['batch']} | {row['re-run']:.1f} s | {row['cropped']:.1f} s | "
            f"{row['cursor']:.3f} s | {by_wave[0]} | {row['cursor'] / row['whole']:.2f} | {by_wave[1]} | {memory} |"
        )
    return "\n".join(lines)


def doubled(rows: list[dict[str, Any]]) -> list[str]:
    """What a picture costs when its sides double."""
    found = []
    for name in ("cursor", "wavefront"):
        for row in rows:
            for other in rows:
                same = (row["family"], row["batch"], 2 * row["size"]) == (
                    other["family"],
                    other["batch"],
                    other["size"],
                )
                if same and name in row:
                    ratio = other[name] / row[name]
                    what = f"{row['family']}, {name}, {row['batch']} pictures"
                    found.append(f"{what}: {row['size']} → {other['size']}: {ratio:.2f}×")
    return found


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    families, sizes = (list(dict.fromkeys(row[key] for row in rows)) for key in ("family", "size"))
    figure, axes = plt.subplots(
        len(families), len(sizes), figsize=(3.4 * len(sizes), 2.8 * len(families)), sharex=True, squeeze=False
    )
    for i, family in enumerate(families):
        for j, size in enumerate(sizes):
            chosen = [row for row in rows if row["family"] == family and row["size"] == size]
            for name, colour in COLOURS.items():
                known = [(row["batch"], row[name] / row["batch"]) for row in chosen if name in row]
                if known:
                    axes[i][j].loglog(*zip(*known, strict=True), marker="o", color=colour, label=name)
            axes[i][j].set_title(f"{family}, {size}×{size}", fontsize=9)
            axes[i][j].set_xticks([row["batch"] for row in chosen], [str(row["batch"]) for row in chosen])
            axes[i][j].minorticks_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("seconds a picture")
    for axis in axes[-1]:
        axis.set_xlabel("pictures at a time")
    handles = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="upper center", ncol=4, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder; another one: without the plot")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[28, 32, 64])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    for family in args.families:
        model = npx.build(family, shape=(1, 28, 28), levels=2, **FAMILIES[family]).eval().to(args.device)
        for size in args.sizes:
            for batch in args.batches:
                rows.append({"family": family, **measure(model, size, batch, args.repeats)})
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    print("", table(rows), "", *doubled(rows), sep="\n")
    rate = matrix_rate(3, args.device)
    asked = {name: value for name, value in vars(args).items() if name != "results"}
    facts = {**machine(args.device), **asked, "matrix_rate": rate}
    save(named("speed", args.device), {**facts, "rows": rows, "doubled": doubled(rows)}, args.results)
    if args.device == "cpu" and args.results == RESULTS:
        plot(rows, Path("docs/pictures/speed.png"))


if __name__ == "__main__":
    main()
