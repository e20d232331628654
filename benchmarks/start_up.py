"""From the command to the first training step, and the share of time that training waits for data.

python -m benchmarks.start_up [--data mnist] [--data-dir FOLDER] [--steps 100]

Starts `nextpixel train DATA` (Gated PixelCNN, 8 layers of 32 features, batch 32) in a process of its own, as a user
does, and watches the curve in its run folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import machine, save
from nextpixel.tasks.run_folder import RunFolder

OPTIONS = ["--option", "layers=8", "--option", "features=32", "--epochs", "1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    runs = [measure(args.data, args.data_dir, args.steps) for _ in range(args.repeats)]
    save("start-up", {**machine(), "data": args.data, "steps": args.steps, "runs": runs})


def measure(data: str, data_dir: str, steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        command = [sys.executable, "-m", "nextpixel", "train", data, "--run", str(run.path), *OPTIONS]
        binary = ["--binarise", "dynamic"] if data == "mnist" else []
        began, first = time.monotonic(), 0.0
        with subprocess.Popen([*command, *binary, "--data-dir", data_dir], stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                time.sleep(0.02)
                lines = [line for line in run.read_metrics() if "train" in line]
                if lines and not first:
                    first = time.monotonic() - began
                if lines and lines[-1]["step"] >= steps:
                    break
            process.kill()
    if not lines or lines[-1]["step"] < steps:
        raise SystemExit(f"The training ended before step {steps}: see what `{' '.join(command)}` says.")
    last = lines[-1]
    found = {"first_step_seconds": first, "waiting": last["waiting"], "images_per_second": last["images_per_second"]}
    print(f"first step after {first:.1f} s; up to step {last['step']}: {found}")
    return found


if __name__ == "__main__":
    main()
