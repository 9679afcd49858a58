"""Code that travels with a checkpoint, and checkpoints that go to the Hub.

`save_pretrained(..., include_code=True)` puts the files that inference needs beside the weights, in one flat folder,
and the keys by which `trust_remote_code=True` finds them into `config.json` and `processor_config.json`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RevisionNotFoundError
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME, TRANSFORMERS_DYNAMIC_MODULE_NAME, PushToHubMixin

PIPELINE_FILE = "pipeline_docre.py"
CODE_FILES = (
    "attention.py",
    "augmentation.py",
    "configuration_checks.py",
    "configuration_docre.py",
    "contrastive.py",
    "decisions.py",
    "distillation_losses.py",
    "docred_format.py",
    "document_checks.py",
    "document_parts.py",
    "document_reading.py",
    "documents.py",
    "encoders.py",
    "encoding.py",
    "entity_filters.py",
    "entity_table.py",
    "evidence.py",
    "hard_attention.py",
    "head_axial.py",
    "head_bilinear.py",
    "head_pair_aware.py",
    "head_unet.py",
    "loading.py",
    "losses.py",
    "markers.py",
    "markup.py",
    "memory.py",
    "method_loss.py",
    "methods.py",
    "model_outputs.py",
    "modeling_base.py",
    "modeling_docre.py",
    "names.py",
    "pair_aware_loss.py",
    PIPELINE_FILE,
    "predicted_relations.py",
    "processing_docre.py",
    "remote_code.py",
    "sentence_features.py",
    "text.py",
    "text_format.py",
)

# Every class is asked for by the name of the pipeline's file: transformers keeps a copy of the folder for each file
# that it is asked for, and a model of one copy is no instance of the class of the other.
_MODULE = PIPELINE_FILE.removesuffix(".py")
# `custom_pipelines` takes standard auto classes alone, and `AutoModel` is the model without a head.
AUTO_MODEL = "AutoModelForTokenClassification"
CODE_KEYS: dict[str, dict[str, Any]] = {
    CONFIG_NAME: {
        "auto_map": {
            "AutoConfig": f"{_MODULE}.DocREConfig",
            "AutoModel": f"{_MODULE}.DocREModel",
            AUTO_MODEL: f"{_MODULE}.DocREForRelationExtraction",
        },
        "custom_pipelines": {"docre": {"impl": f"{_MODULE}.DocREPipeline", "pt": [AUTO_MODEL]}},
    },
    PROCESSOR_NAME: {"auto_map": {"AutoProcessor": f"{_MODULE}.DocREProcessor"}},
}

# What tells our files from those of another library.
_OURS = {CONFIG_NAME: ("model_type", "docre"), PROCESSOR_NAME: ("processor_class", "DocREProcessor")}

CARD = "README.md"
LIBRARY = "modeling-docre"
PIPELINE_TAG = "token-classification"
CARD_TAGS = (
    "docre",
    "document-level-relation-extraction",
    "relation-extraction",
    "information-extraction",
    "knowledge-graph",
)

# True in the copy that came with a checkpoint, which has to stay whole when the checkpoint is saved again.
IS_COPY = __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}.")


def without_code_keys(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config's dict without the keys that point to code; the copy that came with a checkpoint needs them."""
    return config if IS_COPY else {key: config[key] for key in config if key not in CODE_KEYS[CONFIG_NAME]}


@contextmanager
def looking_up(name: str | os.PathLike[str]) -> Iterator[None]:
    """Say of a folder that is missing that it is, also where it can be taken for the id of a repository.

    Args:
        name (`str` or `os.PathLike`): What `from_pretrained` was given, which is read inside.

    Raises:
        FileNotFoundError: when there is no such folder, and no repository can have this name.
        OSError: when there is no such folder, and what came of looking for a repository of this name.
    """
    name = os.fspath(name)
    if os.path.exists(name):
        yield
        return
    missing = f"There is no folder {name} (working directory: {os.getcwd()})"
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        home = f" Python does not expand ~: write {os.path.expanduser(name)}." if name.startswith("~") else ""
        raise FileNotFoundError(f"{missing}.{home}")
    try:
        yield
    except OSError as error:
        raise OSError(f"{missing}, and no repository of this name was found on the Hub: {error}") from error


def describe_other_checkpoint(name: str, model_type: str | None, start: str = "") -> str:
    """Return the error about a checkpoint that is no relation extraction model.

    Args:
        name (`str`): Folder or Hub id.
        model_type (`str`, *optional*): What it is.
        start (`str`, *optional*): The code that makes a new model of an encoder, where that may help.
    """
    remedy = f" To start a new model around it:\n    {start}" if start else ""
    if str(model_type).startswith("docre-"):
        remedy = " It goes with one: name the model that it was trained for."
    return f"{name} is a {model_type!r} checkpoint, not a relation extraction model of this library.{remedy}"


def as_list(value: str | Sequence[str] | None) -> list[str]:
    """Return the strings of what may be one, several or none."""
    return [value] if isinstance(value, str) else [str(item) for item in value or ()]


def _read(folder: Path, name: str) -> dict[str, Any] | None:
    """Read `config.json` or `processor_config.json`; `None` where there is none of this library."""
    path = folder / name
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # half of a file, which is written anew
        return None
    key, value = _OURS[name]
    return found if found.get(key) == value else None


def has_code(folder: str | os.PathLike[str]) -> bool:
    """Whether the `config.json` of a folder points to the code of this library."""
    return "custom_pipelines" in (_read(Path(folder), CONFIG_NAME) or {})


def finish_folder(folder: str | os.PathLike[str], *, include_code: bool) -> None:
    """Put the code and the keys that point to it into a saved checkpoint, or take such keys of an earlier save out.

    Args:
        folder (`str` or `os.PathLike`): What `save_pretrained` wrote.
        include_code (`bool`): Whether the checkpoint shall run where this library is not installed.
    """
    folder = Path(folder)
    if include_code:
        for name in CODE_FILES:
            (folder / name).write_text(_code(name), encoding="utf-8")
    for name, keys in CODE_KEYS.items():
        old = _read(folder, name)
        if old is not None:
            new = {key: value for key, value in old.items() if key not in keys} | (keys if include_code else {})
            if new != old:
                (folder / name).write_text(json.dumps(new, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _code(name: str) -> str:
    """Return what a file of `CODE_FILES` holds in a checkpoint's folder."""
    source = Path(__file__).with_name(name)
    if not source.exists():
        found = importlib.util.find_spec(f"{__package__}.pipelines.{name.removesuffix('.py')}")
        source = Path(found.origin)  # type: ignore[union-attr, arg-type]
    code = source.read_text(encoding="utf-8")
    # In the flat folder the pipeline lies beside what it imports.
    return re.sub(r"^from modeling_docre\.(\w+) import", r"from .\1 import", code, flags=re.MULTILINE)


def _refuse_to_replace(folder: Path) -> None:
    """Refuse a folder with files that have the names of our code and that we did not write."""
    if any(keys.keys() & (_read(folder, name) or {}).keys() for name, keys in CODE_KEYS.items()):
        return
    code = {name: _code(name).encode() for name in CODE_FILES if (folder / name).exists()}
    others = [name for name, content in code.items() if (folder / name).read_bytes() != content]
    if others:
        raise FileExistsError(
            f"include_code=True would replace {', '.join(others)} in {folder}, which this library did not write: pass "
            "another folder, or move them away."
        )


class Shareable:
    """`save_pretrained` and `push_to_hub` of models, processors and pipelines, with their code where it is wanted."""

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *args: Any,
        include_code: bool = False,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save to a folder.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write; made where it does not exist.
            args: Further arguments of transformers' `save_pretrained`.
            include_code (`bool`, *optional*, defaults to `False`):
                Save the code that inference needs too, for those who will not install this library: they load the
                folder with `trust_remote_code=True`.
            push_to_hub (`bool`, *optional*, defaults to `False`):
                Call `push_to_hub` afterwards, for a repository `repo_id` or else of the folder's name.
            kwargs: Further arguments of transformers' `save_pretrained`, and of `push_to_hub`.

        Raises:
            NotADirectoryError: when there is a file of that name.
            FileExistsError: when code would replace files of the folder that this library did not write.
        """
        if os.path.isfile(save_directory):
            raise NotADirectoryError(f"{os.fspath(save_directory)} is a file; pass the folder to save in.")
        repo = _hub_arguments(kwargs) if push_to_hub else {}
        include_code = include_code or IS_COPY
        if include_code and kwargs.get("is_main_process", True):
            _refuse_to_replace(Path(save_directory))
        self._save(save_directory, *args, include_code=include_code, **kwargs)
        if push_to_hub and kwargs.get("is_main_process", True):
            repo_id = repo.pop("repo_id", Path(save_directory).resolve().name)
            _push(self, repo_id, (args, {**kwargs, "include_code": include_code}), **repo)

    def _save(
        self, save_directory: str | os.PathLike[str], *args: Any, include_code: bool = False, **kwargs: Any
    ) -> None:
        folder = Path(save_directory)
        had_code = has_code(folder)
        super().save_pretrained(os.fspath(folder), *args, **kwargs)  # type: ignore[misc]
        if kwargs.get("is_main_process", True):
            if had_code and not include_code:
                for name in CODE_FILES:
                    (folder / name).unlink(missing_ok=True)
            finish_folder(folder, include_code=include_code)

    def push_to_hub(self, repo_id: str, *, include_code: bool = False, **kwargs: Any) -> Any:
        """Upload to the Hub, in one commit.

        Args:
            repo_id (`str`): `user/name`, or a name in your own namespace; made where it does not exist.
            include_code (`bool`, *optional*, defaults to `False`): As in `save_pretrained`.
            kwargs:
                Further arguments of transformers' `push_to_hub`: `private`, `token`, `revision` (a branch, made where
                it does not exist), `create_pr`, `commit_message`, `commit_description`, `tags`, `max_shard_size`.

        Returns:
            `CommitInfo`: The commit.
        """
        return _push(self, repo_id, ((), {"include_code": include_code or IS_COPY}), **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Do nothing: `include_code` says whether code is saved, and it knows the whole set of files."""


def _hub_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take what `push_to_hub` reads out of the arguments of `save_pretrained(..., push_to_hub=True)`."""
    names = ("repo_id", "commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags")
    return {name: arguments.pop(name) for name in names if name in arguments}


def _push(shared: Shareable, repo_id: str, saving: tuple[tuple[Any, ...], dict[str, Any]], **kwargs: Any) -> Any:
    """Upload what `shared.save_pretrained(folder, *args, **kwargs)` writes, its arguments being `saving`."""
    token = kwargs.get("token")
    full_id = HfApi(token=token).create_repo(repo_id, private=kwargs.get("private"), exist_ok=True).repo_id
    if kwargs.get("commit_message") is None:
        code = " and its code" if saving[1]["include_code"] else ""
        kwargs["commit_message"] = f"Upload {type(shared).__name__}{code}"
    model = getattr(shared, "model", shared)
    kwargs["tags"] = [*as_list(kwargs.get("tags")), *as_list(getattr(model, "model_tags", None))] or None
    upload = _Upload(shared, saving, {"repo_id": full_id, "revision": kwargs.get("revision"), "token": token})
    return upload.push_to_hub(repo_id, **kwargs)


class _Upload(PushToHubMixin):
    """What `push_to_hub` saves and uploads."""

    def __init__(
        self, shared: Shareable, saving: tuple[tuple[Any, ...], dict[str, Any]], repo: dict[str, Any]
    ) -> None:
        self.shared, self.saving, self.repo = shared, saving, repo

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        # Model and processor may be pushed one after the other, in either order: a folder is made whole only where
        # what the other one wrote is there.
        folder = Path(save_directory)
        for name in CODE_KEYS:
            found = self._download(name)
            if found is not None:
                shutil.copyfile(found, folder / name)
                if _read(folder, name) is None:
                    (folder / name).unlink()
        args, others = self.saving
        self.shared.save_pretrained(save_directory, *args, **{**kwargs, **others})

    def _download(self, name: str) -> str | None:
        """The file of that name in the repository: of the branch, or where there is none yet, of the default one."""
        for revision in dict.fromkeys((self.repo["revision"], None)):
            try:
                return hf_hub_download(filename=name, **{**self.repo, "revision": revision})
            except RevisionNotFoundError:
                continue
            except LocalEntryNotFoundError:  # the Hub could not be asked
                raise
            except EntryNotFoundError:
                break
        return None

    def _upload_modified_files(self, working_dir: Any, *args: Any, **kwargs: Any) -> Any:
        # transformers has written a card by now: that of the repository, or a blank one of its own.
        self.repo["revision"] = None
        if self._download(CARD) is None:
            path = Path(working_dir) / CARD
            card = ModelCard.load(path)
            tags = as_list(card.data.tags)
            model = getattr(self.shared, "model", self.shared)
            own = Path(getattr(model, "name_or_path", None) or ".no-folder") / CARD
            if own.is_file():
                card = ModelCard.load(own, ignore_metadata_errors=True)
                tags = [*as_list(card.data.tags), *tags]
            else:
                card.data.library_name, card.data.pipeline_tag = LIBRARY, PIPELINE_TAG
                tags = [*CARD_TAGS, *tags]
            card.data.tags = list(dict.fromkeys(tags))
            card.save(path)
        return super()._upload_modified_files(working_dir, *args, **kwargs)


__all__ = [
    "AUTO_MODEL",
    "CARD_TAGS",
    "CODE_FILES",
    "CODE_KEYS",
    "IS_COPY",
    "LIBRARY",
    "PIPELINE_FILE",
    "PIPELINE_TAG",
    "Shareable",
    "as_list",
    "finish_folder",
    "has_code",
    "without_code_keys",
]
