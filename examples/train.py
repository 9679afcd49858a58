"""Train a model on labelled documents, in DocRED's form or as JSON Lines.

    python examples/train.py train_annotated.json dev.json --relation-names rel_info.json
    torchrun --nproc_per_node 4 examples/train.py train_annotated.json dev.json

The folder that it writes is what `pipeline("docre", model="my-model")` takes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from modeling_docre import (
    DEFAULT_MODEL,
    DocREForRelationExtraction,
    DocREProcessor,
    DocRETrainer,
    DocRETrainingArguments,
)
from modeling_docre.data_files import iter_documents
from modeling_docre.processes import leave_processes

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("train", metavar="TRAIN", help="labelled documents to learn from: .json, .jsonl or .parquet")
parser.add_argument("dev", metavar="DEV", help="labelled documents to evaluate on, and to choose thresholds on")
parser.add_argument("--encoder", default=DEFAULT_MODEL, help="folder or Hub id, such as google-bert/bert-base-cased")
parser.add_argument("--relation-names", metavar="FILE", help='JSON with words for the relations: {"P17": "country"}')
parser.add_argument("--output", default="my-model", help="folder to write (default: %(default)s)")
parser.add_argument("--epochs", type=float, default=30, help="passes over TRAIN (default: %(default)s)")


def main() -> None:
    """Train, evaluate, save."""
    options = parser.parse_args()
    train, dev = (list(iter_documents(path)) for path in (options.train, options.dev))
    names: dict[str, str] = {}
    if options.relation_names is not None:
        names = json.loads(Path(options.relation_names).read_text(encoding="utf-8"))
    relations = sorted({relation.relation for document in train for relation in document.relations or ()})

    model = DocREForRelationExtraction.from_encoder(
        options.encoder, method="atlop", relations={relation: names.get(relation, relation) for relation in relations}
    )
    processor = DocREProcessor.from_encoder(options.encoder, config=model.config)
    arguments = DocRETrainingArguments(
        options.output,
        num_train_epochs=options.epochs,
        learning_rate=5e-5,
        head_learning_rate=1e-4,
        eval_strategy="epoch",
        tune_threshold=True,
    )
    trainer = DocRETrainer(model, arguments, train_dataset=train, eval_dataset=dev, processing_class=processor)
    trainer.train()
    print(json.dumps(trainer.evaluate(), indent=1))
    trainer.save_model()


if __name__ == "__main__":
    main()
    leave_processes()
