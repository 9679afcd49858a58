from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer

import modeling_docre
from modeling_docre import (
    DEFAULT_MODEL,
    AutoModelForDocRE,
    DocREConfig,
    DocREForRelationExtraction,
    DocREModel,
    DocREPipeline,
    DocREProcessor,
    Document,
)
from modeling_docre.auto_docre import register

# Loaded by few, or slow to import; `import modeling_docre` and inference need none of them.
NOT_NEEDED = ("accelerate", "datasets", "evaluate", "gradio", "matplotlib", "pandas")


def test_auto_classes_load_what_was_saved(tiny_checkpoint):
    config = AutoConfig.from_pretrained(tiny_checkpoint)
    assert type(config) is DocREConfig
    assert config.relations == ["P17", "P131", "P27"]
    assert type(config.encoder) is transformers.BertConfig
    model = AutoModelForDocRE.from_pretrained(tiny_checkpoint)
    assert type(model) is DocREForRelationExtraction
    headless, info = AutoModel.from_pretrained(tiny_checkpoint, output_loading_info=True)
    assert type(headless) is DocREModel
    assert not info["missing_keys"]
    processor = AutoProcessor.from_pretrained(tiny_checkpoint)
    assert type(processor) is DocREProcessor
    assert processor.config.relations == config.relations
    assert type(AutoTokenizer.from_pretrained(tiny_checkpoint)) is type(processor.tokenizer)
    # The headless model has the weights of the whole one.
    batch = processor.collate(processor([Document.from_markup("[Ada](:PER) lived in [London](:LOC).")]))
    batch = {name: batch[name] for name in ("input_ids", "attention_mask", "mentions", "entity_types")}
    with torch.no_grad():
        one, other = (part.eval()(**batch) for part in (headless, model.docre))
    assert torch.equal(one.entity_embeddings, other.entity_embeddings)


def test_auto_classes_build_from_a_config(tiny_checkpoint):
    config = AutoConfig.from_pretrained(tiny_checkpoint)
    assert type(AutoModelForDocRE.from_config(config)) is DocREForRelationExtraction
    assert type(AutoModel.from_config(config)) is DocREModel
    assert type(AutoConfig.for_model("docre", relations=["P17"])) is DocREConfig


def test_another_architecture_is_refused(tiny_bert_dir):
    for auto in (AutoModelForDocRE, DocREForRelationExtraction):
        with pytest.raises(ValueError, match="'bert' checkpoint, not a relation extraction model"):
            auto.from_pretrained(tiny_bert_dir)


def test_registering_again_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register(DocREPipeline, DEFAULT_MODEL)
    task = transformers.pipelines.PIPELINE_REGISTRY.check_task("docre")[1]
    assert task["impl"] is DocREPipeline
    assert task["default"]["model"][0] == str(DEFAULT_MODEL)


def test_every_exported_name_is_there():
    for name in modeling_docre.__all__:
        assert getattr(modeling_docre, name) is not None
    assert set(modeling_docre.__all__) <= set(dir(modeling_docre))
    with pytest.raises(AttributeError, match="no attribute 'DocRETrainr'"):
        _ = modeling_docre.DocRETrainr


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=Path(sys.executable).parent,
        env={**os.environ, **environment},
    )


def test_inference_offline_in_a_fresh_process_needs_torch_and_transformers_only(tiny_checkpoint):
    code = f"""
import json, socket, sys
asked = []
def refuse(*arguments, **options):
    asked.append(str(arguments)); raise OSError("no network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
sys.modules.update(dict.fromkeys({NOT_NEEDED!r}))  # importing one of them now fails, as if it were not installed
import modeling_docre
from transformers import pipeline
pipe = pipeline("docre", model=sys.argv[1])
answer = pipe(modeling_docre.Document.from_markup("[Ada](:PER) lived in [London](:LOC)."), threshold=0.0)
print(json.dumps([len(answer["relations"]), asked]))
"""
    result = python(code, str(tiny_checkpoint), HF_HUB_OFFLINE="1")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [6, []]
    assert "Warning" not in result.stderr
    assert "Traceback" not in result.stderr
