"""Code that travels with a checkpoint: the folder runs where the package is not installed, and still where it is."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from bare_python import link_distributions, run_python
from transformers import AutoModel, AutoModelForTokenClassification, pipeline
from transformers.dynamic_module_utils import get_relative_import_files

from modeling_docre import (
    DEFAULT_MODEL,
    DocREConfig,
    DocREForRelationExtraction,
    DocREModel,
    DocREPipeline,
    DocREProcessor,
)
from modeling_docre.remote_code import CODE_FILES, CODE_KEYS

TEXT = "Ada Lovelace was born in London, England. She worked with Babbage. The city of London lies on the Thames."
PLAIN = {
    "text": TEXT,
    "entities": [
        {"name": "Ada", "type": "PER", "mentions": [{"start": 0, "end": 12}, {"start": 42, "end": 45}]},
        {"type": "LOC", "mentions": [{"start": 25, "end": 31}, {"start": 79, "end": 85}]},
        {"type": "LOC", "mentions": [{"start": 33, "end": 40}]},
        {"type": "PER", "mentions": [{"start": 58, "end": 65}]},
    ],
}
DOCRED = {
    "title": "Oslo",
    "sents": [["Oslo", "is", "the", "capital", "of", "Norway", "."], ["It", "was", "founded", "by", "Harald", "."]],
    "vertexSet": [
        [{"name": "Oslo", "pos": [0, 1], "sent_id": 0, "type": "LOC"}, {"name": "It", "pos": [0, 1], "sent_id": 1}],
        [{"name": "Norway", "pos": [5, 6], "sent_id": 0, "type": "LOC"}],
        [{"name": "Harald", "pos": [4, 5], "sent_id": 1, "type": "PER"}],
    ],
}
CALLS: list[dict[str, Any]] = [{}, {"threshold": 0.2, "top_k": 3}, {"threshold": 0.01, "head": 0}]
KEYS = ("auto_map", "custom_pipelines")

# Prints what the pipeline answers, and where its classes come from.
ASK = f"""
import json
DOCUMENTS, CALLS = {[PLAIN, DOCRED]!r}, {CALLS!r}
def answers(pipe):
    return [pipe(DOCUMENTS, **call) for call in CALLS]
def homes(pipe):
    return [type(part).__module__.split(".")[0] for part in (pipe, pipe.model, pipe.processor, pipe.model.config)]
"""


def answers(pipe: Any) -> Any:
    return json.loads(json.dumps([pipe([PLAIN, DOCRED], **call) for call in CALLS]))


def last_line(result: Any) -> Any:
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def keys_in(folder: Path) -> list[str]:
    names = [name for name in CODE_KEYS if (folder / name).exists()]
    return [f"{name}: {key}" for name in names for key in KEYS if key in read(folder, name)]


@pytest.fixture(scope="module")
def plain(tiny_checkpoint) -> tuple[DocREPipeline, Any]:
    pipe = pipeline("docre", model=str(tiny_checkpoint))
    found = answers(pipe)
    assert sum(len(answer["relations"]) for call in found for answer in call) > 10
    return pipe, found


@pytest.fixture(scope="module")
def with_code(plain, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "my-model.v1"
    plain[0].save_pretrained(folder, include_code=True)
    return folder


@pytest.fixture(scope="module")
def bare_site(tmp_path_factory) -> Path:
    return link_distributions(tmp_path_factory.mktemp("bare") / "site-packages")


# ---------------------------------------------------------------------------------------------------------------------
# What is in the folder
# ---------------------------------------------------------------------------------------------------------------------


def imports_of(path: Path) -> set[str]:
    """Files of this library that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.level == 1:
                found.add(f"{node.module}.py")
            elif node.module.startswith("modeling_docre."):
                found.add(f"{node.module.removeprefix('modeling_docre.')}.py")
    return found


def test_files_that_travel_are_those_that_the_pipeline_imports(repository):
    folders = {"pipeline_docre.py": repository / "pipelines"}
    closure, left = set(), {"pipeline_docre.py"}
    while left:
        name = left.pop()
        closure.add(name)
        left |= imports_of(folders.get(name, repository / "modeling_docre") / name) - closure
    assert set(CODE_FILES) == closure
    assert list(CODE_FILES) == sorted(CODE_FILES)


def test_folder_is_flat_and_needs_no_package(with_code):
    assert {path.name for path in with_code.glob("*.py")} == set(CODE_FILES)
    assert not [path for path in with_code.iterdir() if path.is_dir()]
    # What transformers copies, found by its own search, which reads lines and not the syntax.
    found = {Path(path).name for path in get_relative_import_files(with_code / "pipeline_docre.py")}
    assert found | {"pipeline_docre.py"} == set(CODE_FILES)
    for name in CODE_FILES:
        for node in ast.walk(ast.parse((with_code / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 1 or not str(node.module).startswith("modeling_docre"), name
            elif isinstance(node, ast.Import):
                assert not [alias.name for alias in node.names if alias.name.startswith("modeling_docre")], name


def test_keys_point_to_classes_of_one_file(with_code):
    config = read(with_code, "config.json")
    references = [*config["auto_map"].values(), *read(with_code, "processor_config.json")["auto_map"].values()]
    references.append(config["custom_pipelines"]["docre"]["impl"])
    assert {reference.split(".")[0] for reference in references} == {"pipeline_docre"}
    assert {reference.split(".")[1] for reference in references} == {
        *("DocREConfig", "DocREModel", "DocREForRelationExtraction", "DocREProcessor", "DocREPipeline")
    }
    assert config["custom_pipelines"]["docre"]["pt"] == ["AutoModelForTokenClassification"]


@pytest.mark.parametrize("kind", ["pipeline", "parts"])
def test_ordinary_checkpoints_have_neither_code_nor_keys(plain, kind, tmp_path):
    pipe = plain[0]
    for saved in [pipe] if kind == "pipeline" else [pipe.model, pipe.processor]:
        saved.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.py")) and keys_in(tmp_path) == []
    assert not [key for key in KEYS if hasattr(pipe.model.config, key)]


def test_saving_with_code_leaves_the_model_at_hand_as_it_was(plain, with_code):
    assert not [key for key in KEYS if hasattr(plain[0].model.config, key)]
    assert answers(plain[0]) == plain[1]


@pytest.mark.parametrize("order", ["model first", "processor first"])
def test_model_and_processor_saved_apart_make_the_same_folder(plain, with_code, order, tmp_path):
    pipe = plain[0]
    parts = [(pipe.model, {"include_code": True}), (pipe.processor, {})]
    for saved, arguments in parts if order == "model first" else reversed(parts):
        saved.save_pretrained(tmp_path, **arguments)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in with_code.iterdir()}
    for name in CODE_KEYS:
        assert read(tmp_path, name) == read(with_code, name)


def test_processor_and_headless_model_can_be_saved_with_code_alone(plain, with_code, tmp_path):
    plain[0].processor.save_pretrained(tmp_path / "processor", include_code=True)
    assert {path.name for path in (tmp_path / "processor").glob("*.py")} == set(CODE_FILES)
    assert len(keys_in(tmp_path / "processor")) == 3
    plain[0].model.docre.save_pretrained(tmp_path / "headless", include_code=True)
    assert read(tmp_path / "headless", "config.json")["auto_map"] == read(with_code, "config.json")["auto_map"]


def test_saving_again_without_code_takes_the_keys_out(with_code, tmp_path):
    folder = shutil.copytree(with_code, tmp_path / "folder")
    pipe = pipeline("docre", model=str(folder))
    (folder / "mine.py").write_text("")
    pipe.model.save_pretrained(folder)
    assert keys_in(folder) == [] and [path.name for path in folder.glob("*.py")] == ["mine.py"]
    pipe.save_pretrained(folder, include_code=True)
    assert len(keys_in(folder)) == 3 and len(list(folder.glob("*.py"))) == 1 + len(CODE_FILES)
    pipe.save_pretrained(folder)
    assert keys_in(folder) == [] and [path.name for path in folder.glob("*.py")] == ["mine.py"]


def test_files_that_only_have_our_names_stay(plain, tmp_path):
    (tmp_path / "text.py").write_text("mine = 1")
    plain[0].save_pretrained(tmp_path)
    assert (tmp_path / "text.py").read_text() == "mine = 1"


def test_files_that_only_have_our_names_are_not_replaced(plain, tmp_path):
    (tmp_path / "text.py").write_text("mine = 1")
    for saved in (plain[0], plain[0].model, plain[0].processor):
        with pytest.raises(FileExistsError, match=r"replace text\.py in .*pass another folder"):
            saved.save_pretrained(tmp_path, include_code=True)
        assert [path.name for path in tmp_path.iterdir()] == ["text.py"]
        assert (tmp_path / "text.py").read_text() == "mine = 1"


@pytest.mark.parametrize("part", ["model", "processor"])
def test_code_of_another_version_is_replaced(plain, tmp_path, part):
    saved = getattr(plain[0], part)
    saved.save_pretrained(tmp_path, include_code=True)
    code = (tmp_path / "text.py").read_text()
    (tmp_path / "text.py").write_text("older = 1")
    saved.save_pretrained(tmp_path, include_code=True)
    assert (tmp_path / "text.py").read_text() == code


def test_half_of_a_config_is_written_anew(plain, with_code, tmp_path):
    folder = shutil.copytree(with_code, tmp_path / "folder")
    (folder / "config.json").write_text('{"model_type": "doc')
    plain[0].save_pretrained(folder, include_code=True)
    assert read(folder, "config.json") == read(with_code, "config.json")


def test_processes_beside_the_main_one_write_nothing(plain, tmp_path):
    for saved in (plain[0], plain[0].model, plain[0].processor):
        saved.save_pretrained(tmp_path / "folder", is_main_process=False, include_code=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_files_of_other_libraries_are_left_alone(plain, tmp_path):
    other = {"processor_class": "SomeProcessor", "auto_map": {"AutoProcessor": "some.SomeProcessor"}}
    (tmp_path / "processor_config.json").write_text(json.dumps(other))
    plain[0].model.save_pretrained(tmp_path)
    assert read(tmp_path, "processor_config.json") == other


def test_saving_into_a_file_is_refused(plain, tmp_path):
    (tmp_path / "file").write_text("")
    for saved in (plain[0], plain[0].model, plain[0].processor):
        with pytest.raises(NotADirectoryError, match="pass the folder"):
            saved.save_pretrained(tmp_path / "file", include_code=True)


# ---------------------------------------------------------------------------------------------------------------------
# Where the package is imported
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust", [None, False, True])
def test_the_imported_package_runs_its_own_code(plain, with_code, trust):
    pipe = pipeline("docre", model=str(with_code), trust_remote_code=trust)
    assert type(pipe) is DocREPipeline and type(pipe.processor) is DocREProcessor
    assert type(pipe.model) is DocREForRelationExtraction and type(pipe.model.config) is DocREConfig
    assert answers(pipe) == plain[1]


def test_live_config_has_no_keys_of_a_folder_with_code(with_code, tmp_path):
    model = AutoModelForTokenClassification.from_pretrained(with_code, trust_remote_code=True)
    assert type(model) is DocREForRelationExtraction
    processor = DocREProcessor.from_pretrained(with_code)
    for config in (model.config, processor.config, DocREConfig.from_pretrained(with_code)):
        assert not [key for key in KEYS if hasattr(config, key)]
    assert type(AutoModel.from_pretrained(with_code, trust_remote_code=True)) is DocREModel
    # A model that was loaded and is handed over as an object goes the same way.
    pipe = pipeline("docre", model=model, processor=processor)
    assert type(pipe) is DocREPipeline


# ---------------------------------------------------------------------------------------------------------------------
# Where the package is not imported, or not even installed
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_folder_runs_where_the_package_is_not_installed(plain, with_code, bare_site, tmp_path):
    code = f"""{ASK}
import sys
from transformers import pipeline, AutoConfig, AutoModel, AutoModelForTokenClassification, AutoProcessor
folder, again = {str(with_code)!r}, {str(tmp_path / "again")!r}
try:
    import modeling_docre
except ModuleNotFoundError as error:
    missing = str(error)
pipe = pipeline("docre", model=folder, trust_remote_code=True)
found = dict(missing=missing, plain=answers(pipe), homes=homes(pipe))
found["without the task"] = answers(pipeline(model=folder, trust_remote_code=True))
loaded = dict(model=AutoModelForTokenClassification.from_pretrained(folder, trust_remote_code=True),
              processor=AutoProcessor.from_pretrained(folder, trust_remote_code=True))
found["from parts"] = answers(type(pipe)(**loaded))
found["headless"] = type(AutoModel.from_pretrained(folder, trust_remote_code=True)).__name__
found["config"] = type(AutoConfig.from_pretrained(folder, trust_remote_code=True)).__name__
pipe.save_pretrained(again)
found["saved again"] = answers(pipeline("docre", model=again, trust_remote_code=True))
found["heavy"] = sorted(set({("accelerate", "datasets", "pandas", "evaluate")!r}) & set(sys.modules))
try:
    pipeline("docre", model=folder)
except ValueError as error:
    found["without trust"] = str(error)
try:
    pipe("Ada was born in London.")
except ValueError as error:
    found["text alone"] = str(error)
print("\\n" + json.dumps(found))
"""
    found = last_line(run_python(code, site=bare_site, HF_HOME=str(tmp_path / "home")))
    assert found["missing"] == "No module named 'modeling_docre'"
    assert found["homes"] == ["transformers_modules"] * 4
    for way in ("plain", "without the task", "from parts", "saved again"):
        assert found[way] == plain[1], way
    assert (found["headless"], found["config"]) == ("DocREModel", "DocREConfig")
    assert found["heavy"] == []
    assert "trust_remote_code=True" in found["without trust"]
    assert '"mentions"' in found["text alone"]
    # What was saved there is whole again here.
    again = tmp_path / "again"
    assert {path.name for path in again.glob("*.py")} == set(CODE_FILES)
    assert answers(pipeline("docre", model=str(again))) == plain[1]


@pytest.mark.slow
def test_folder_runs_where_the_package_is_installed_but_not_imported(plain, with_code, tmp_path):
    code = f"""{ASK}
import sys
from transformers import pipeline
pipe = pipeline("docre", model={str(with_code)!r}, trust_remote_code=True)
found = dict(imported="modeling_docre" in sys.modules, before=answers(pipe), homes=homes(pipe))
import modeling_docre
found["after"] = answers(pipe)
own = pipeline("docre", model={str(with_code)!r}, trust_remote_code=True)
found |= dict(own=answers(own), own_homes=homes(own))
document = modeling_docre.Document.from_dict(DOCUMENTS[0])
found["own document"] = len(own(document)["entities"])
try:
    pipe(document)
except ValueError as error:
    found["other document"] = str(error)
try:
    pipeline("docre", model=pipe.model, processor=pipe.processor)
except ValueError as error:
    found["other model"] = str(error)
print(json.dumps(found))
"""
    found = last_line(run_python(code, HF_HOME=str(tmp_path / "home")))
    assert found["imported"] is False
    assert found["homes"] == ["transformers_modules"] * 4 and found["own_homes"] == ["modeling_docre"] * 4
    assert found["before"] == found["after"] == found["own"] == plain[1]
    assert found["own document"] == len(PLAIN["entities"])
    assert "Import modeling_docre before the pipeline is built" in found["other document"]
    assert "of another copy of the library" in found["other model"]
    assert "Import modeling_docre before the model is loaded" in found["other model"]


@pytest.mark.slow
def test_embedded_model_is_exported_in_one_call(bare_site, tmp_path):
    if not DEFAULT_MODEL.is_dir():
        pytest.skip(f"the embedded model is absent: {DEFAULT_MODEL}")
    pipe = pipeline("docre")
    pipe.save_pretrained(tmp_path / "embedded", include_code=True)
    code = f"""{ASK}
from transformers import pipeline
print(json.dumps(answers(pipeline("docre", model={str(tmp_path / "embedded")!r}, trust_remote_code=True))))
"""
    found = last_line(run_python(code, site=bare_site, HF_HOME=str(tmp_path / "home")))
    assert found == answers(pipe)
    assert found[0][0]["relations"]
