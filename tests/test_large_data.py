"""Training on a set that is larger than the memory allowed: a child process whose memory is limited."""

import json
import subprocess
import sys

import numpy as np
import pytest

# Trains with a limit on the memory that is not backed by a file (RLIMIT_DATA), and prints what it had at some steps.
CHILD = """
import json, resource, sys
from pathlib import Path
import torch
import nextpixel as npx
from nextpixel.tasks import keeper, training  # with the trainer, so that what follows is memory for data
from nextpixel.tasks.batches import Batches

path, allowed, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {key: int(value.split()[0]) << 10 for key, _, value in (line.partition(":") for line in lines)
            if key in ("RssAnon", "VmData")}

def train(data, run, **options):
    model = npx.build("pixelcnn", like=data, blocks=1, features=4, first_kernel=3)
    try:
        npx.train(model, data, run=run, batch_size=4, progress=False, valid_images=8, sample_every=0,
                  device="cpu", threads=1, **options)
    except npx.tasks.train.Interrupted:
        pass

torch.set_num_threads(1)
small = npx.dataset(path, levels=2, lazy=True)
warm = npx.images.Dataset("warm", small.train[:40], small.valid[:4], small.test[:4])
train(warm, "warm", epochs=1)  # what code and allocator take once
before = anonymous()
resource.setrlimit(resource.RLIMIT_DATA, (before["VmData"] + allowed, -1))
seen = {}

class Watch(keeper.Keeper):
    def on_train_batch_end(self, trainer, *rest):
        super().on_train_batch_end(trainer, *rest)
        seen[trainer.global_step] = anonymous()["RssAnon"]
        if trainer.global_step == steps:
            self.stop = "by the test"

training.Keeper = Watch
data = npx.dataset(path, levels=2, lazy=True)
train(data, "run", epochs=1)
try:
    npx.dataset(path, levels=2, lazy=False)
    refused = False
except (MemoryError, npx.errors.UserError) as error:
    refused = str(error)
print(json.dumps({"before": before["RssAnon"], "seen": seen, "refused": refused}))
"""


def holed_file(path, size):
    """A .npy file of images 32x32 that takes no room on the disk."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(size >> 10, 32, 32))
    array[:: len(array) // 10, 5, 5] = 1
    array.flush()
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize(("allowed", "steps"), [(32 << 20, 40), pytest.param(200 << 20, 400, marks=pytest.mark.full)])
def test_a_set_20_times_larger_than_the_memory_trains_with_flat_memory(tmp_path, allowed, steps):
    path = holed_file(tmp_path / "large.npy", 20 * allowed)
    command = [sys.executable, "-c", CHILD, str(path), str(allowed), str(steps)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    seen = {int(step): size for step, size in found["seen"].items()}
    print({"before": found["before"] >> 20, **{step: size >> 20 for step, size in seen.items() if step in (10, steps)}})
    assert max(seen) == steps
    assert max(seen.values()) - seen[10] < 4 << 20, seen
    assert max(seen.values()) - found["before"] < allowed
    assert found["refused"], "the same set was read into memory: the limit is none, and the test shows nothing"
