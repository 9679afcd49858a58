"""What makes `AutoConfig`, `AutoModel`, `AutoProcessor` and `pipeline("docre")` know this library.

The only file that touches private names of transformers' auto classes.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, AutoProcessor, Pipeline
from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_docre import DocREConfig
from .configuration_vaediff import VaeDiffConfig
from .loading import check_relation_model
from .modeling_base import DocREModel
from .modeling_contrastive import DocREForContrastivePreTraining
from .modeling_docre import DocREForRelationExtraction
from .processing_docre import DocREProcessor
from .remote_code import AUTO_MODEL
from .vaediff import VaeDiffModel

TASK = "docre"


class AutoModelForDocRE(_BaseAutoModelClass):
    """Loads any checkpoint of this library with its relation extraction head.

    Example:

    ```python
    model = AutoModelForDocRE.from_pretrained("path/or/hub-id")
    ```
    """

    _model_mapping = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())  # type: ignore[assignment]

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *model_args: Any, **kwargs: Any
    ) -> DocREForRelationExtraction:
        """Load a checkpoint; takes every argument of `AutoModel.from_pretrained`.

        Raises:
            ValueError: as [`DocREForRelationExtraction.from_pretrained`].
        """
        check_relation_model(str(pretrained_model_name_or_path), kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)


def register(pipeline_class: type[Pipeline], default_model: Path) -> None:
    """Register the model type and the pipeline task; a second call does nothing.

    Args:
        pipeline_class (`type[Pipeline]`): The pipeline of the task.
        default_model (`Path`): Folder of the model that `pipeline("docre")` loads when none is named.
    """
    if TASK in PIPELINE_REGISTRY.supported_tasks:
        return
    AutoConfig.register(DocREConfig.model_type, DocREConfig)
    AutoModel.register(DocREConfig, DocREModel)
    AutoModelForPreTraining.register(DocREConfig, DocREForContrastivePreTraining)
    AutoModelForDocRE.register(DocREConfig, DocREForRelationExtraction)
    # The name under which a checkpoint that brings its code offers this model; it shall also be good here.
    getattr(transformers, AUTO_MODEL).register(DocREConfig, DocREForRelationExtraction)
    AutoProcessor.register(DocREConfig, DocREProcessor)
    AutoConfig.register(VaeDiffConfig.model_type, VaeDiffConfig)
    AutoModel.register(VaeDiffConfig, VaeDiffModel)
    PIPELINE_REGISTRY.register_pipeline(
        TASK, pipeline_class=pipeline_class, pt_model=AutoModelForDocRE, default={"model": (str(default_model), None)}
    )


__all__ = ["AutoModelForDocRE", "register"]
