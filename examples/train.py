"""Train a relation extraction model on a DocRED file: python examples/train.py TRAIN.json DEV.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from modeling_docre import DocREForRelationExtraction, DocREProcessor, DocRETrainer, DocRETrainingArguments

train, dev = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:3])
encoder = sys.argv[3] if len(sys.argv) > 3 else "google-bert/bert-base-cased"
relations = sorted({label["r"] for document in train for label in document["labels"]})
model = DocREForRelationExtraction.from_encoder(encoder, method="atlop", relations=relations)
processor = DocREProcessor.from_encoder(encoder, config=model.config)
arguments = DocRETrainingArguments("my-model", learning_rate=5e-5, head_learning_rate=1e-4, eval_strategy="epoch")
trainer = DocRETrainer(model, arguments, train_dataset=train, eval_dataset=dev, processing_class=processor)
trainer.train()
print(trainer.evaluate())
trainer.save_model()
