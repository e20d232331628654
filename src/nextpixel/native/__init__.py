"""C files of ours, built once a machine with the C compiler that is there, if any.

Nothing depends on them: without a compiler, or with NEXTPIXEL_NATIVE=0, everything is done by PyTorch's own operations.
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
from pathlib import Path

from nextpixel import durable
from nextpixel.cache import cache_folder

SHARED = Path(__file__).with_name("elementary.h")
FLAGS = ["-O3", "-march=native", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared"]


def library(source: Path) -> ctypes.CDLL | None:
    """The functions of a C file; None if they cannot be had on this machine. The file may include elementary.h."""
    if os.environ.get("NEXTPIXEL_NATIVE") == "0" or platform.system() == "Windows":
        return None
    return _opened(source)


@functools.cache
def _opened(source: Path) -> ctypes.CDLL | None:
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    for more in (["-fopenmp"], []):  # PyTorch's own threads, where it uses OpenMP's; one thread where there is none
        try:
            return ctypes.CDLL(str(_built(source, compiler, more)))
        except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: there is no home, so no cache
            continue
    return None


def _built(source: Path, compiler: str, more: list[str]) -> Path:
    """The shared library for this source, compiler and processor; compiled if it is not there yet."""
    features = processor_features()
    vector, rows = (64, 8) if "avx512f" in features else (32, 4) if "avx2" in features else (16, 4)
    flags = [*FLAGS, *more, f"-DVECTOR_BYTES={vector}", f"-DROWS_AT_ONCE={rows}"]
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=60).stdout
    settings = "\n".join([platform.machine(), features, *flags]).encode()
    digest = hashlib.sha256(b"\n".join([source.read_bytes(), SHARED.read_bytes(), version, settings])).hexdigest()
    path = cache_folder() / "native" / f"{source.stem}-{digest[:24]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as aside:
            made = Path(aside) / path.name
            command = [compiler, *flags, f"-I{SHARED.parent}", "-o", str(made), str(source), "-lm"]
            subprocess.run(command, capture_output=True, check=True, timeout=300)
            durable.put(made, path)
    if path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} is somebody else's: it is not loaded")
    return path


def processor_features() -> str:
    """The line of the processor's features where the system tells them, such as "flags: … avx512f …"."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
