"""CPU time that processes have used, from /proc (Linux; elsewhere it is not a number)."""

import math
import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def _stat(pid: int | str) -> list[int] | None:
    """Parent, then ticks: user, system, and both of the children that ended."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return [int(fields[1]), *(int(ticks) for ticks in fields[11:15])]


def seconds(pid: int) -> float:
    """CPU seconds, user and system, of a process and of all its children, living and ended."""
    stats = {int(path.name): stat for path in _PROC.glob("[0-9]*") if (stat := _stat(path.name))}
    if pid not in stats:
        return math.nan
    family, added = {pid}, {pid}
    while added:
        added = {child for child, stat in stats.items() if stat[0] in added} - family
        family |= added
    return sum(sum(stats[member][1:]) for member in family) / _TICKS


def parent(pid: int) -> int:
    """The process that started this one; 0 where that is not known."""
    stat = _stat(pid)
    return stat[0] if stat else 0
