"""Counts the kernel's out-of-memory kills in a process's control group (version 1 or 2)."""

from pathlib import Path
from typing import NamedTuple, Self


class OutOfMemoryKills:
    """Holds the count at one moment for a later comparison. Without a control group that counts, no kill is ever
    seen."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._before = count_kills(path)

    @classmethod
    def of(cls, pid: int) -> Self:
        return cls(find_counter(pid))

    def have_risen(self) -> bool:
        return count_kills(self._path) > self._before


def count_kills(path: Path | None) -> int:
    """Read the line `oom_kill N` of `memory.events` (version 2) or `memory.oom_control` (version 1)."""
    try:
        lines = path.read_text().splitlines() if path else []
    except OSError:
        return 0  # The group was removed.
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def find_counter(pid: int, proc: Path = Path("/proc")) -> Path | None:
    """Return the file that counts the kills for this process; None if no control group counts them."""
    groups = (proc / str(pid) / "cgroup").read_text()
    mounts = [mount for line in (proc / "self/mountinfo").read_text().splitlines() if (mount := Mount.parse(line))]
    for line in groups.splitlines():
        _, controllers, group = line.split(":", 2)
        for mount in mounts:
            if mount.controls(controllers):
                path = mount.folder_of(group) / ("memory.oom_control" if controllers else "memory.events")
                if path.exists():
                    return path
    return None


class Mount(NamedTuple):
    root: str
    """Is the group that is visible at `point`. In a container this is often the container's group."""
    point: str
    kind: str
    options: list[str]

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """Parse a line of /proc/self/mountinfo, see proc(5); return None if the line mounts no control group."""
        before, _, behind = line.partition(" - ")
        fields, (kind, _, options) = before.split(), behind.split()[:3]
        return cls(fields[3], fields[4], kind, options.split(",")) if kind in ("cgroup", "cgroup2") else None

    def controls(self, controllers: str) -> bool:
        if not controllers:
            return self.kind == "cgroup2"
        return self.kind == "cgroup" and "memory" in controllers.split(",") and "memory" in self.options

    def folder_of(self, group: str) -> Path:
        seen = group.removeprefix(self.root.rstrip("/"))
        return Path(self.point) / seen.lstrip("/")
