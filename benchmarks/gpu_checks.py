"""Jobs of the queue that train nothing: the tests that want a GPU, the codec across devices, the speed tables."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import Tensor

import nextpixel as npx
from benchmarks.gpu_setting import Setting
from benchmarks.measure import settle

ROOT = Path(__file__).resolve().parents[1]
RGB, BINARY = ((3, 16, 16), 256), ((1, 16, 16), 2)  # shape, levels
MIXTURE = {"head": "logistic_mixture"}
FROZEN: dict[str, tuple[dict[str, Any], tuple[tuple[int, int, int], int]]] = {
    "gated_pixelcnn": ({"layers": 6, "features": 48}, RGB),
    "local": ({"layers": 6, "features": 48}, RGB),
    "pixelcnnpp": ({"scales": 2, "blocks": 1, "features": 32, **MIXTURE}, RGB),
    "pixelcnn": ({"blocks": 6, "features": 48}, BINARY),
    "row_lstm": ({"layers": 3, "features": 32}, BINARY),
    "diagonal_bilstm": ({"layers": 3, "features": 32}, BINARY),
}


def tests(setting: Setting) -> dict[str, Any]:
    """tests/test_gpu.py on the device, with the outcome of every test."""
    report = setting.runs / "jobs" / "tests" / "report.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    chosen = ["-k", "codec or batches"] if setting.toy else []
    command = [sys.executable, "-m", "pytest", "tests/test_gpu.py", "-m", "gpu", *chosen, f"--junitxml={report}"]
    ended = _run(command, setting, {"NEXTPIXEL_TEST_DEVICE": setting.device})
    if not report.exists():
        raise RuntimeError(f"the tests ended with status {ended} and left no report")
    outcomes: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    messages = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name, kinds = str(case.get("name")), {child.tag for child in case}
        what = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        outcomes[what].append(name)
        for child in case:
            if child.tag in ("failure", "error"):
                messages[name] = str(child.get("message"))[:500]
    return {**outcomes, "messages": messages, "exit_status": ended}


def codec(setting: Setting) -> dict[str, Any]:
    """Models frozen on the CPU, and their twins on the device: the integers of both are counted and compared, each
    packs, and each unpacks what the other one packed."""
    pairs = [("local", "float32"), ("local", "float64")]
    pairs += [] if setting.toy else [(family, "auto") for family in FROZEN]
    rows = [codec_row(family, form, setting.device, setting.toy) for family, form in pairs]
    return {"rows": rows, "all_the_same": all(row["same"] for row in rows), "exact": True}


def codec_row(family: str, form: Any, device: str, toy: bool) -> dict[str, Any]:
    options, (shape, levels) = FROZEN[family]
    if toy:
        options, shape, levels = {"layers": 1, "features": 4, "first_kernel": 3}, (1, 5, 6), 4
    torch.manual_seed(0)
    model = npx.build(family, shape=shape, levels=levels, **options).eval()
    with torch.no_grad():  # fresh weights give nearly uniform masses, which would hide differences
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2.0)
    try:
        here = npx.freeze(model, form=form)
    except npx.UserError as refusal:
        return {"family": family, "form": form, "refused": str(refusal), "same": True}
    there = copy.deepcopy(here).to(device)
    images = torch.randint(levels, (5 if toy else 64, *shape), generator=torch.Generator().manual_seed(1))
    masses, seconds = {}, {}
    for name, twin in (("cpu", here), ("device", there)):
        began = time.perf_counter()
        masses[name] = torch.cat([part.cpu() for part in twin.spans(images)], 1)
        settle(device)
        seconds[f"whole {name}"] = time.perf_counter() - began
    archives = {name: npx.compress(twin, images, verify=False) for name, twin in (("cpu", here), ("device", there))}
    restored: dict[str, Tensor] = {}
    few = images[: 4 if toy else 16]  # decoding goes pixel by pixel
    for name, twin, other in (("cpu", here, there), ("device", there, here)):
        packed = npx.compress(other, few, verify=False)
        began = time.perf_counter()
        restored[name] = npx.decompress(packed, twin).images
        seconds[f"decode {name}"] = time.perf_counter() - began
    differing = int((masses["cpu"] != masses["device"]).sum())
    counts = {
        "integers": masses["cpu"].numel(),
        "integers_that_differ": differing,
        "archives_equal": archives["cpu"] == archives["device"],
        "archive_bytes": len(archives["cpu"]),
        "pixels_decoded": 2 * few.numel(),
        "pixels_wrong": sum(int((images != few).sum()) for images in restored.values()),
    }
    same = differing == 0 and counts["archives_equal"] and counts["pixels_wrong"] == 0
    held = str(there.like().dtype).removeprefix("torch.")
    return {"family": family, "form": form, "held_on_device_in": held, **counts, "seconds": seconds, "same": same}


def speed(setting: Setting) -> dict[str, Any]:
    """The programs that time sampling and training steps, on the device; their own files, put into one card."""
    step, drawing = ["--batch", "256", "--features", "96"], ["--sizes", "32", "--batches", "1", "64", "256"]
    if setting.toy:
        step = ["--batch", "2", "--features", "4", "--layers", "1", "--repeats", "1", "--threads", "1"]
        drawing = ["--sizes", "6", "--batches", "2", "--families", "local", "--threads", "1"]
    card: dict[str, Any] = {}
    for program, arguments in (("training_step", step), ("speed", [*drawing, "--repeats", "1"])):
        results = setting.runs / "jobs" / "speed" / program
        shutil.rmtree(results, ignore_errors=True)
        common = ["--device", setting.device, "--results", str(results)]
        status = _run([sys.executable, "-m", f"benchmarks.{program}", *arguments, *common], setting, {})
        made = list(results.glob("*.json"))
        card[program] = json.loads(made[0].read_text()) if made else {"failed_with_status": status}
    if all("failed_with_status" in part for part in card.values()):
        raise RuntimeError(f"both programs failed: {card}")
    return card


def _run(command: list[str], setting: Setting, environment: dict[str, str]) -> int:
    """The exit status; a program that would run into the end of the call is ended."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    try:
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, **environment},
            timeout=max(setting.left(), 1),
            check=False,
            stdout=sys.stderr,
        ).returncode
    except subprocess.TimeoutExpired:
        return 124
