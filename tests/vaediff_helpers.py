"""A model whose pair embeddings a generator can learn, and documents for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from training_helpers import RELATIONS, fictional

from modeling_docre import DocREForRelationExtraction, DocREProcessor, Document

COUNT = 7


def stories() -> list[Document]:
    """Documents, one of them without a relation, in the midst."""
    found = [Document.from_docred(fictional(number)) for number in range(COUNT)]
    found[3] = replace(found[3], relations=())
    return found


def axial_model(encoder: Path) -> tuple[DocREForRelationExtraction, DocREProcessor]:
    """A model whose pair embeddings are 32 wide."""
    torch.manual_seed(4)
    model = DocREForRelationExtraction.from_encoder(
        encoder, "vaediff", RELATIONS, emb_size=16, block_size=4, axial_layers=1, axial_heads=2
    )
    return model, DocREProcessor.from_encoder(encoder, config=model.config)
