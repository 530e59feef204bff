"""Facts about the machine: memory, library versions, devices, folders. Importing this module loads no torch."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adbench import __version__
from adbench.core import plugins
from adbench.core.errors import UsageError

if TYPE_CHECKING:
    import torch


def reset_peak_memory() -> None:
    """Reset the peaks of memory; outside Linux the peak of the process remains the one since its start."""
    if sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    if torch := _torch_on_gpu():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process since `reset_peak_memory`, in MB (10^6 bytes)."""
    if sys.platform == "linux":
        with suppress(OSError):
            found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
            if found:
                return int(found[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def accelerator_memory_mb() -> float | None:
    """Return the peak of tensor memory on the GPU since `reset_peak_memory`, in MB (10^6 bytes); None if no GPU is in use."""
    torch = _torch_on_gpu()
    return torch.cuda.max_memory_allocated() / 1e6 if torch else None


def _torch_on_gpu() -> Any:
    """Return torch if this process already uses a GPU, else None. Asking the GPU itself would initialize it."""
    torch = sys.modules.get("torch")
    return torch if torch and torch.cuda.is_initialized() else None


@lru_cache(maxsize=1)
def memory_bytes() -> int:
    """Return the bytes of memory that this process may use: the machine's, or the limit of its container."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # versions 2 and 1
    texts = [limit.read_text().strip() for limit in limits if limit.is_file()]
    return min([machine, *(int(text) for text in texts if text.isdigit())])


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Return the versions of all libraries that can change a number."""
    packages = ("torch", "torchvision", "timm", "numpy", "scipy", "numba", "faiss-cpu", "pillow")
    return {"adbench": __version__} | {package: version(package) for package in packages}


@lru_cache(maxsize=1)
def environment() -> dict[str, Any]:
    """Return what a reader needs to compare numbers and timings: versions, plug-ins, processor, accelerator, threads.

    tf32: whether convolutions of detectors may use it; extraction never does. plugins: the SHA-256 of each one's source code,
    by name; absent where there are none.
    """
    import torch

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    system = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    tf32 = accelerator is not None and torch.backends.cudnn.allow_tf32
    facts = {"accelerator": accelerator, "tf32": tf32, "threads": torch.get_num_threads()}
    found = plugins.digests()
    return library_versions() | system | facts | ({"plugins": found} if found else {})


def choose_device(name: str) -> torch.device:
    """Return the device called auto, cpu, cuda, cuda:N or mps; raise UsageError if this machine lacks it."""
    import torch

    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    present = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count)), *(["mps"] if has_mps else [])]
    if name not in present:
        raise UsageError(f"device '{name}' is not on this machine; choose from: auto, {', '.join(present)}")
    return torch.device(name)


def check_device(name: str) -> None:
    """Raise UsageError as `choose_device` does; load no torch for a device that every machine has."""
    if name not in ("auto", "cpu"):
        choose_device(name)


CACHE_SETTINGS = "--cache, ADBENCH_CACHE"  # named where the cache folder cannot be written


def cache_folder(chosen: Path | None = None) -> Path:
    """Return the cache folder: the chosen one, else ADBENCH_CACHE, else the platform's."""
    from platformdirs import user_cache_path

    return chosen or Path(os.environ.get("ADBENCH_CACHE") or user_cache_path("adbench", appauthor=False)).expanduser()
