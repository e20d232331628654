"""Damage to archives: the mutations that tests use, and a long run of them.

    python tests/fuzz_archives.py --mutations 100000 --repaired 2000

The model is one of tables of integers, quick to decode with; `--frozen` takes a frozen network of one layer instead.
Every mutated archive must end in a UserError, or in pictures all of which are right. With `--repaired` the checksums of
header and chunks are put right after the mutation, so that the parser and the decoder are reached.
"""

import argparse
import random
import resource
import sys
import time
import warnings
import zlib
from collections import Counter

import torch
from integer_model import IntegerModel, pictures_of

import nextpixel as npx
from nextpixel.coding import write
from nextpixel.coding.layout import ENTRY, FIXED, RUN
from nextpixel.coding.sections import File, pack_files
from nextpixel.errors import UserError
from nextpixel.exact import Coded

INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def mutated(data, rng):
    """The archive with one to a few changes: bits, bytes, whole fields, or a part cut out, put in or doubled."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        kind, at = rng.randrange(7), rng.randrange(max(1, len(out)))
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at] = rng.randrange(256)
        elif kind == 2:  # a field of the header or the table
            at = 4 * rng.randrange(60)
            out[at : at + 4] = rng.choice(INTERESTING).to_bytes(4, "little")
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : at + rng.randrange(1, 40)]
        elif kind == 5:
            out[at:at] = rng.randbytes(rng.randrange(1, 40))
        else:
            start = rng.randrange(max(1, len(out)))
            out[at:at] = out[start : start + rng.randrange(1, 40)]
    return bytes(out)


def repaired(data):
    """The archive with the checksums of its header and of every chunk as they should be."""
    out = bytearray(data)
    runs = int.from_bytes(out[FIXED.size - 4 : FIXED.size], "little")
    size = FIXED.size + RUN.size * runs + 4
    if size > len(out):
        return bytes(out)
    out[size - 4 : size] = zlib.crc32(out[: size - 4]).to_bytes(4, "little")
    files, model, chunks = (int.from_bytes(out[FIXED.size - at : FIXED.size - at + 4], "little") for at in (16, 12, 8))
    place = size + ENTRY.size * chunks + files + model
    for entry in range(size, min(size + ENTRY.size * chunks, len(out) - ENTRY.size), ENTRY.size):
        length = int.from_bytes(out[entry : entry + 4], "little")
        crc = zlib.crc32(out[place : place + length], zlib.crc32(out[entry : entry + ENTRY.size - 4]))
        out[entry + ENTRY.size - 4 : entry + ENTRY.size] = crc.to_bytes(4, "little")
        place += length
    return bytes(out)


def outcome(data, model, images, damaged):
    """ "refused", "right" or "recovered"; AssertionError for wrong pixels."""
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = npx.decompress(data, model, damaged=damaged, max_pixels=1 << 16).images
    except UserError:
        return "refused"
    if found.shape == images.shape and torch.equal(found, images):
        return "right"
    assert said, "some pictures are not there, and nothing was said"
    known = {picture.numpy().tobytes() for picture in images}
    assert all(picture.numpy().tobytes() in known for picture in found), "wrong pixels"
    return "recovered"


def subject(frozen=False):
    """A model of 8x8 pictures, pictures, and their archive: several chunks, with names."""
    if frozen:
        torch.manual_seed(0)
        network = npx.freeze(npx.build("gated_pixelcnn", shape=(1, 8, 8), levels=4, layers=1, features=4))
        model, images = Coded(network), npx.sample(network, n=48, seed=0)
    else:
        model = IntegerModel((1, 8, 8), 4)
        images, _ = pictures_of(model, 48)
    files = pack_files([File(f"{index}.png", "L") for index in range(48)])
    return model, images, write(model, [images], None, chunk_bytes=100, files=files)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--repaired", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frozen", action="store_true", help="decode with a frozen network")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    model, images, archive = subject(arguments.frozen)
    assert outcome(archive, model, images, "raise") == "right"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, count, repair in (("mutations", arguments.mutations, False), ("repaired", arguments.repaired, True)):
        results, slowest, began = Counter(), 0.0, time.monotonic()
        for index in range(count):
            damaged = "report" if index % 2 else "raise"
            data = mutated(archive, rng)
            data = repaired(data) if repair else data
            started = time.monotonic()
            try:
                results[damaged, outcome(data, model, images, damaged)] += 1
            except Exception:
                print(f"number {index} of {name}, seed {arguments.seed}: {data.hex()}", file=sys.stderr)
                raise
            slowest = max(slowest, time.monotonic() - started)
            if (index + 1) % 5000 == 0:
                print(f"{index + 1} {name}: {dict(results)}", flush=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{count} {name} in {time.monotonic() - began:.0f} s, slowest {slowest:.2f} s, {dict(results)}")
        print(f"peak memory {peak / 1024:.0f} MiB, {before / 1024:.0f} MiB after decoding the archive itself")


if __name__ == "__main__":
    main()
