"""Which relations a training augments (ERA, section 3.4)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from .configuration_docre import DocREConfig
from .documents import Document
from .training_arguments import DocRETrainingArguments

FEW_FACTS = 500
"""Training facts of DocRED below which a relation counts as a tail relation in Macro@500 (ERA, section 5.2)."""

DOCRED_FACTS = 38_180
"""Facts of DocRED's annotated training documents."""


def relations_to_augment(
    config: DocREConfig, args: DocRETrainingArguments, documents: Sequence[Document]
) -> tuple[list[str], int | None]:
    """
    The relations that a training augments: those that the config names, or those with few facts.

    Args:
        config ([`DocREConfig`]): `relations` and `era_relations` are read.
        args ([`DocRETrainingArguments`]): `era_max_facts` and `era_scale_facts` are read.
        documents (`Sequence[Document]`): The training documents.

    Returns:
        `tuple[list[str], int | None]`: Their ids in class order, and the number of facts that each has fewer than;
        `None` where the config names them and no argument asks for others.
    """
    if config.era_relations is not None and args.era_max_facts is None and not args.era_scale_facts:
        return list(config.era_relations), None
    counts = Counter(relation.relation for document in documents for relation in document.relations or ())
    limit: float = FEW_FACTS if args.era_max_facts is None else args.era_max_facts
    if args.era_scale_facts:
        limit *= sum(counts.values()) / DOCRED_FACTS
    # Of whole numbers the same are below.
    limit = math.ceil(limit)
    return [name for name in config.relations if counts[name] < limit], limit


__all__ = ["DOCRED_FACTS", "FEW_FACTS", "relations_to_augment"]
