"""An interpreter in which torch and transformers can be imported and this package cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


def needed_distributions(*names: str) -> dict[str, metadata.Distribution]:
    """Distributions by name, with what they need to be installed, and so on."""
    found: dict[str, metadata.Distribution] = {}
    names_left = list(names)
    while names_left:
        name = names_left.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # a requirement that the build at hand does without
            continue
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                names_left.append(requirement.name)
    return found


def link_distributions(folder: Path) -> Path:
    """Make a `site-packages` of links that holds torch, transformers and what these need, and nothing else."""
    folder.mkdir()
    for distribution in needed_distributions("torch", "transformers").values():
        for name in sorted({path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}):
            target = Path(distribution.locate_file(name)).resolve()
            if not (folder / name).exists():
                (folder / name).symlink_to(target)
    return folder


def run_python(code: str, *, site: Path | None = None, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter: of this environment, or with the packages of the folder `site` alone.

    A variable of `environment` that is `None` is not set.
    """
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    if site is not None:
        # Without `site` no folder of installed packages and no editable installation is looked at.
        code = f"import sys; sys.path.append({str(site)!r})\n{code}"
    return subprocess.run(
        [sys.executable, *(["-I", "-S"] if site is not None else ["-P"]), "-c", code],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={name: value for name, value in variables.items() if value is not None},
        cwd=Path(sys.executable).parent,
    )
