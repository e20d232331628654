"""The compiled half of replaying: kernels.c, built once a machine with the C compiler that is there, if any.

Nothing depends on it. Without a compiler, or with NEXTPIXEL_NATIVE=0, pictures are made by PyTorch's own operations.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from nextpixel.cache import cache_folder

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ["-O3", "-march=native", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared"]


@functools.cache
def kernels() -> dict[str, Callable[..., None]]:
    """The functions of kernels.c by the name of their number type; empty if they cannot be had on this machine."""
    if os.environ.get("NEXTPIXEL_NATIVE") == "0" or platform.system() == "Windows":
        return {}
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return {}
    for more in (["-fopenmp"], []):  # PyTorch's own threads, where it uses OpenMP's; one thread where there is none
        try:
            return _load(_built(compiler, more))
        except (OSError, subprocess.SubprocessError, AttributeError):
            continue
    return {}


def _load(path: Path) -> dict[str, Callable[..., None]]:
    library = ctypes.CDLL(str(path))
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    found: dict[str, Callable[..., None]] = {}
    for name in ("float", "double"):
        function = getattr(library, f"replay_{name}")
        function.argtypes, function.restype = [pointer, count, *[pointer] * 4, count, count, count, count], None
        found[name] = function
    return found


def _built(compiler: str, more: list[str]) -> Path:
    """The shared library for this source, compiler and processor; compiled if it is not there yet."""
    features = _processor()
    vector, rows = (64, 8) if "avx512f" in features else (32, 4) if "avx2" in features else (16, 4)
    flags = [*FLAGS, *more, f"-DVECTOR_BYTES={vector}", f"-DROWS_AT_ONCE={rows}"]
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    told = "\n".join([SOURCE.read_text(), version, platform.machine(), features, *flags])
    path = cache_folder() / "native" / f"kernels-{hashlib.sha256(told.encode()).hexdigest()[:24]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as aside:
            made = Path(aside) / path.name
            command = [compiler, *flags, "-o", str(made), str(SOURCE), "-lm"]
            subprocess.run(command, capture_output=True, check=True, timeout=300)
            os.replace(made, path)
    if path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} is somebody else's: it is not loaded")
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
