"""How soon the page shows something: first frame and whole picture of a generation, over HTTP.

python -m benchmarks.web [--model FOLDER] [--threads 2] [--repeats 10] [--pictures 1 6 16]

The server is the command `nextpixel serve`, in a process of its own; the client is in this one. Times run from the
request to the arrival of the line with the first drawn pixels, and of the last line. The very first request after the
start is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from urllib.request import Request, urlopen

from benchmarks.measure import machine, save


def visit(address: str, n: int, seed: int) -> tuple[float, float, int]:
    """Seconds to the first frame and to the end, and the number of frames."""
    body = json.dumps({"n": n, "seed": seed}).encode()
    request = Request(f"{address}api/generate", body, {"content-type": "application/json"})
    began, first, frames, event = time.perf_counter(), 0.0, 0, {"event": ""}
    with urlopen(request) as answer:
        for line in answer:
            event = json.loads(line)
            if event["event"] == "frame":
                first, frames = first or time.perf_counter() - began, frames + 1
    assert event == {"event": "end"}, event
    return first, time.perf_counter() - began, frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="binarized-mnist")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--pictures", type=int, nargs="+", default=[1, 6, 16])
    args = parser.parse_args()
    command = [sys.executable, "-m", "nextpixel", "serve", args.model, "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "PYTHONUNBUFFERED": "1"}
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            address = next(word for word in server.stdout.readline().split() if word.startswith("http"))
            started = time.perf_counter() - began
            first, whole, frames = visit(address, 1, 0)
            print(f"the server is up after {started:.1f} s; its first visitor: ", end="")
            print(f"first frame {1000 * first:.0f} ms, picture {whole:.2f} s in {frames} frames")
            rows = [{"pictures": 1, "visit": "first", "first_frame": first, "whole": whole, "frames": frames}]
            for n in args.pictures:
                each = [visit(address, n, seed) for seed in range(args.repeats)]
                firsts, wholes, counts = zip(*each, strict=True)
                row = {
                    "pictures": n,
                    "visit": "later",
                    "first_frame": statistics.median(firsts),
                    "first_frame_worst": max(firsts),
                    "whole": statistics.median(wholes),
                    "whole_worst": max(wholes),
                    "frames": statistics.median(counts),
                }
                rows.append(row)
                print(
                    f"{n:3} pictures: first frame {1000 * row['first_frame']:4.0f} ms (worst "
                    f"{1000 * row['first_frame_worst']:.0f}), all finished {row['whole']:.2f} s "
                    f"(worst {row['whole_worst']:.2f}), {row['frames']:.0f} frames"
                )
        finally:
            server.terminate()
    save("web", {**machine(), **vars(args), "started": started, "rows": rows})


if __name__ == "__main__":
    main()
