"""The queue for a machine with a GPU: tests, codec, speed and trainings, in calls of a few minutes that go on from each
other.

python -m benchmarks.gpu_queue --data DATA --runs RUNS --out OUT [--minutes 9] [--stage CARRIED] [--back EARLIER]
python -m benchmarks.gpu_queue --toy --runs RUNS --out OUT          # all of it on the CPU at toy size, in a minute
python -m benchmarks.gpu_queue --unpack OUT --runs RUNS             # afterwards: cards, weights, unfinished runs

RUNS keeps everything on that machine from call to call. OUT holds what is to be copied away after each call: at most
five files (summary.json, and part-*.bin of at most 15 MiB) with all cards, new weights and the unfinished run. If RUNS
is lost, --back takes the files of the call before. --stage takes a folder with a part of the data sets, laid out as
DATA; jobs whose data are not complete yet wait for a later call. A job that fails is recorded in its card and not tried
again, unless with --retry.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_checks import ROOT
from benchmarks.gpu_jobs import FAILED, JOBS, write_card
from benchmarks.gpu_pieces import Torn, pack, stage, unpack
from benchmarks.gpu_setting import FULL_MINUTES, Setting

PACKING = 30.0  # seconds at the end of a call, to write what is to be copied away
GRACE = 15.0  # of these, for a job to save after it was told to stop


def card(setting: Setting, name: str) -> dict[str, Any]:
    """The job's card, or one without a status."""
    path = setting.runs / "cards" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def pending(setting: Setting, names: list[str]) -> list[str]:
    """The jobs still to be done: those that were stopped first."""
    left = [name for name in names if card(setting, name).get("status") not in ("done", "failed")]
    return sorted(left, key=lambda name: card(setting, name).get("status") != "stopped")


def work(setting: Setting, names: list[str]) -> None:
    """Do the jobs in processes of their own until the call is over; another process after each failure."""
    given = json.dumps({**dataclasses.asdict(setting), "runs": str(setting.runs)})
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    running = setting.runs / "running.txt"
    running.unlink(missing_ok=True)
    while names and setting.left() > 0:
        worker = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu_jobs", *names],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            text=True,
        )
        assert worker.stdin is not None
        worker.stdin.write(given)
        worker.stdin.close()
        status = _waited(worker, setting)
        if running.exists():  # the process ended within this job
            name = running.read_text()
            running.unlink()
            if setting.left() > 0:
                write_card(
                    setting, name, "failed", {"error": "Ended", "said": f"the process ended with status {status}"}
                )
            else:  # a later call begins it again, or goes on from its last checkpoint
                write_card(setting, name, "stopped", {"said": "ended at the end of the call"})
        elif status == 0:
            return  # all are done, or there is no time for the others
        elif status != FAILED:
            raise SystemExit(f"The jobs could not be begun (status {status}): see above.")
        names = pending(setting, names)


def _waited(worker: subprocess.Popen[str], setting: Setting) -> int:
    """The exit status. At the end of the call the worker is told to stop, and ended if it does not."""
    for seconds, end in ((setting.left(), worker.terminate), (setting.reserve(GRACE), worker.kill)):
        try:
            return worker.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            end()
    return worker.wait()


def summary(setting: Setting) -> dict[str, Any]:
    """What stands where, job by job."""
    jobs = {name: card(setting, name).get("status", "not begun") for name in JOBS}
    return {"jobs": jobs, "toy": setting.toy, "device": setting.device}


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="folder of the named data sets; --stage puts them together here")
    parser.add_argument("--runs", type=Path, required=True, help="folder that is kept between calls")
    parser.add_argument("--out", type=Path, help="folder for what is to be copied away")
    parser.add_argument("--back", type=Path, help="folder with what came out of the call before")
    parser.add_argument("--stage", type=Path, help="folder with a part of the data sets")
    parser.add_argument("--unpack", type=Path, help="only put the parts of this folder into RUNS")
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call; 0: stage only")
    parser.add_argument("--training-minutes", type=float, default=FULL_MINUTES, help="of all trainings, over all calls")
    parser.add_argument(
        "--jobs", nargs="+", default=list(JOBS), choices=list(JOBS), metavar="JOB", help=", ".join(JOBS)
    )
    parser.add_argument("--device", default="", help="default: cuda, with --toy cpu")
    parser.add_argument("--retry", action="store_true", help="do failed jobs again")
    parser.add_argument("--all", action="store_true", help="put all weights into OUT, not only the new ones")
    parser.add_argument("--toy", action="store_true", help="everything at toy size")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    began, args = time.time(), arguments(given)
    args.runs.mkdir(parents=True, exist_ok=True)
    try:
        for folder, newer in (
            (args.unpack, True),
            (args.back, False),
        ):  # what is back at home is older than what is here
            if folder is not None:
                print(f"{len(unpack(folder, args.runs, replace=newer))} files put into {args.runs}")
    except (Torn, OSError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if args.unpack is not None:
        return 0
    if args.out is None or (args.stage is not None and not args.data):
        print("Error: say --out FOLDER, and with --stage also --data FOLDER.", file=sys.stderr)
        return 2
    device = args.device or ("cpu" if args.toy else "cuda")
    if device == "cuda" and not torch.cuda.is_available():
        print("Error: there is no CUDA GPU here; --toy runs everything on the CPU at toy size.", file=sys.stderr)
        return 2
    if args.stage is not None:
        print(f"{len(stage(args.stage, Path(args.data)))} files staged")
    until = began + 60 * args.minutes
    data = str(Path(args.data).resolve()) if args.data else ""
    setting = Setting(data, args.runs.resolve(), device, until, args.training_minutes, args.toy)
    setting = dataclasses.replace(setting, until=until - setting.reserve(PACKING))
    if args.all:
        (args.runs / "packed.json").unlink(missing_ok=True)
    for name in args.jobs if args.retry else []:
        if card(setting, name).get("status") == "failed":
            (setting.runs / "cards" / f"{name}.json").unlink()
    if args.minutes:
        work(setting, pending(setting, args.jobs))
    about = pack(args.runs, args.out, summary(setting))
    for name, status in about["jobs"].items():
        print(f"{name:34} {status}")
    for name in about["left_behind"]:
        print(f"{name} is too large for what can be copied away: it goes on only where it is")
    return 0


if __name__ == "__main__":
    sys.exit(main())
