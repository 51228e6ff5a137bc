"""Free memory, and the refusal of data that does not fit before it is read. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

from arzoo.base.console import human_bytes
from arzoo.base.errors import ArzooError

_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""Files with the memory limit and use of a container, in cgroups version 2 and 1."""

_MESSAGES = re.compile(
    r"can(no|')t allocate memory|not enough memory|bad_alloc|out of memory|could not create a primitive",
    re.IGNORECASE,
)
"""Messages of torch, oneDNN and the system when memory runs out; they raise different errors."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports that the memory of a GPU or of the machine ran out."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or bool(_MESSAGES.search(str(error)))
    )


def free_bytes() -> int | None:
    """Return the bytes of memory that this process may still allocate; None where the system does not report it."""
    return min(
        (value for value in (_of_machine(), _of_container(), _of_process()) if value is not None),
        default=None,
    )


def refuse_too_large(needed: int, what: str, remedy: str) -> None:
    """Refuse data that does not fit into memory, before it is read.

    Args:
        needed: Bytes that are needed.
        what: What needs them, in the plural.
        remedy: What to do.

    Raises:
        ArzooError: Less memory is free.
    """
    free = free_bytes()
    if free is not None and needed > free:
        raise ArzooError(
            f"{what} take {human_bytes(needed)} of memory, {human_bytes(free)} are free. {remedy}"
        )


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    facts = dict(line.split(":", 1) for line in lines)
    return int(facts["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in facts else None


def _of_container() -> int | None:
    for limit, used in _LIMITS:
        try:
            most, now = (
                (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii").strip() for name in (limit, used)
            )
        except OSError:
            continue
        if most.isdigit():
            return max(int(most) - int(now), 0)
    return None


def _of_process() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return limit
    return max(limit - pages * resource.getpagesize(), 0)
