"""Round trip and throughput of the range coder.

    python -m benchmarks.coder                      # 10^7 symbols for each K
    python -m benchmarks.coder --symbols 100000

Symbols are drawn from a few hundred rows of masses that are used in turn. What is timed is what compress and decompress
do: masses to intervals or frequencies, and the coder. The table has one line for each K and implementation; every
stream is decoded and compared, and both implementations must write the same.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

from benchmarks.measure import machine, save
from nextpixel.coding.coders import Kind, coder_kind, decoder, encoder
from nextpixel.coding.frequencies import bits, frequencies, intervals

ROWS = 512
PYTHON_SHARE = 20  # the coder in Python codes a twentieth of the symbols
KINDS: tuple[Kind, ...] = ("constriction", "python")


def drawn(values: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Masses [ROWS, K], peaked as a model's are, and symbols [count]: the i-th by row i mod ROWS."""
    rng = np.random.default_rng(values)
    logits = rng.normal(0, 3, (ROWS, values))
    masses = (np.exp(logits - logits.max(1, keepdims=True)) * 65535).astype(np.int64) + 1
    rows = np.arange(count) % ROWS
    ends = masses.cumsum(1)
    symbols = np.empty(count, np.int64)
    for row in range(ROWS):
        mine = rows == row
        symbols[mine] = np.searchsorted(ends[row], rng.integers(0, ends[row, -1], mine.sum()), side="right")
    return torch.from_numpy(masses), torch.from_numpy(symbols)


def measured(masses: torch.Tensor, symbols: torch.Tensor, kind: Kind) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    values, count = masses.shape[1], len(symbols)
    block = ROWS * max(1, 2**17 // (ROWS * values))  # as much as stays in the cache
    tiled = masses.repeat(block // ROWS, 1)
    coder, cost, preparing, coding = encoder(kind), 0.0, 0.0, 0.0
    for at in range(0, count, block):
        part = symbols[at : at + block]
        began = time.perf_counter()
        left, size = intervals(tiled[: len(part)], part)
        between = time.perf_counter()
        coder.encode(left.numpy(), size.numpy(), values)
        coding += time.perf_counter() - between
        preparing += between - began
        cost += float(bits(size).sum())
    words = coder.words()
    reader, reading, tabling = decoder(words, kind), 0.0, 0.0
    for at in range(0, count, block):
        part = symbols[at : at + block]
        began = time.perf_counter()
        wanted = frequencies(tiled[: len(part)]).numpy()
        between = time.perf_counter()
        found = reader.decode(wanted)
        reading += time.perf_counter() - between
        tabling += between - began
        if not np.array_equal(found, part.numpy()):
            raise SystemExit(f"K = {values}, {kind}: other symbols came back")
    figures = {
        "values": values,
        "coder": kind,
        "symbols": count,
        "bytes": 4 * len(words),
        "bits_above_the_frequencies": 32 * len(words) - cost,
        "encode_msym_per_s": count / coding / 1e6,
        "decode_msym_per_s": count / reading / 1e6,
        "intervals_msym_per_s": count / preparing / 1e6,
        "frequencies_msym_per_s": count / tabling / 1e6,
    }
    return figures, words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=10_000_000)
    parser.add_argument("--values", type=int, nargs="*", default=[2, 3, 16, 256])
    arguments = parser.parse_args()
    coder_kind("constriction")
    torch.set_num_threads(1)
    print("   K coder           symbols  bits above  encode  decode  intervals  frequencies  (Msym/s)")
    rows = []
    for values in arguments.values:
        streams = {}
        masses, symbols = drawn(values, arguments.symbols)
        for kind in KINDS:
            count = arguments.symbols if kind == "constriction" else arguments.symbols // PYTHON_SHARE
            row, streams[kind] = measured(masses, symbols[:count], kind)
            rows.append(row)
            print(
                f"{values:4d} {kind:12s} {count:10,d} {row['bits_above_the_frequencies']:11.1f} "
                f"{row['encode_msym_per_s']:7.2f} {row['decode_msym_per_s']:7.2f} "
                f"{row['intervals_msym_per_s']:10.2f} {row['frequencies_msym_per_s']:12.2f}",
                flush=True,
            )
        same = len(streams["python"]) - 2  # the shorter stream is a beginning of the longer one, its end apart
        if not np.array_equal(streams["python"][:same], streams["constriction"][:same]):
            raise SystemExit(f"K = {values}: the two coders wrote different words")
    save("coder", {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
