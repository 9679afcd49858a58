"""Document-level relation extraction for the Hugging Face stack.

Importing this package registers the `docre` model type and the `docre` pipeline task with transformers. It touches no
network. What needs the `train` extra (Trainer and above) is imported when first used.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout, some subpackages stand beside this folder, and Python run there finds this folder before the installed
# package.
_BESIDE = Path(__file__).resolve().parents[1]
if not Path(__file__).with_name("checkpoints").exists() and (_BESIDE / "checkpoints").is_dir():
    __path__.append(str(_BESIDE))

from .auto_docre import AutoModelForDocRE, register
from .checkpoints import DEFAULT_MODEL
from .configuration_docre import DocREConfig
from .configuration_vaediff import VaeDiffConfig
from .documents import Document, DocumentError, Entity, Mention, Relation, count_repairs, read_documents
from .methods import METHODS, Method
from .modeling_base import DocREModel, DocREPreTrainedModel
from .modeling_contrastive import DocREForContrastivePreTraining
from .modeling_docre import DocREForRelationExtraction
from .pipelines.pipeline_docre import DocREPipeline
from .processing_docre import DocREProcessor
from .vaediff import VaeDiffModel

if TYPE_CHECKING:
    from .training import DocRETrainer, DocRETrainingArguments
    from .vaediff_training import VaeDiffTrainer, VaeDiffTrainingArguments

__version__ = "0.1.0"

register(DocREPipeline, DEFAULT_MODEL)

_LAZY = {
    "DocRETrainer": "training",
    "DocRETrainingArguments": "training",
    "VaeDiffTrainer": "vaediff_training",
    "VaeDiffTrainingArguments": "vaediff_training",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


__all__ = [
    "DEFAULT_MODEL",
    "METHODS",
    "AutoModelForDocRE",
    "DocREConfig",
    "DocREForContrastivePreTraining",
    "DocREForRelationExtraction",
    "DocREModel",
    "DocREPipeline",
    "DocREPreTrainedModel",
    "DocREProcessor",
    "DocRETrainer",
    "DocRETrainingArguments",
    "Document",
    "DocumentError",
    "Entity",
    "Mention",
    "Method",
    "Relation",
    "VaeDiffConfig",
    "VaeDiffModel",
    "VaeDiffTrainer",
    "VaeDiffTrainingArguments",
    "count_repairs",
    "read_documents",
]
