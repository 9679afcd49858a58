from __future__ import annotations

import copy
import json
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from training_helpers import arguments, fictional, make, trainer_for
from transformers import TrainerCallback

from modeling_docre import DocREForRelationExtraction, DocREProcessor, Document, Relation
from modeling_docre.configuration_docre import DocREConfig
from modeling_docre.decisions import DECISIONS
from modeling_docre.methods import HEADS, LOSSES
from modeling_docre.metrics.docred.scoring import score
from modeling_docre.model_card import DECISIONS as DECISION_WORDS
from modeling_docre.model_card import TAGS
from modeling_docre.model_card_facts import HEADS as HEAD_WORDS
from modeling_docre.model_card_facts import LOSSES as LOSS_WORDS
from modeling_docre.model_card_facts import citations, duration, plain
from modeling_docre.recipes import RecipeError, load_recipe, train_from_recipe
from modeling_docre.training import DocRETrainer
from modeling_docre.training_arguments import DocRETrainingArguments
from modeling_docre.training_record import hub_id

SHA = "5503434ddd753f426f4b38109466949a1217c2bb"


def card_of(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def section(card, title):
    return re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", card, re.DOTALL | re.MULTILINE)[1]


# The whole card

WHOLE = """\
---
base_model: somebody/tiny-bert
datasets:
- someone/stories
language:
- en
library_name: modeling-docre
license: apache-2.0
metrics:
- f1
- precision
- recall
- ign_f1
- evidence_sentence_f1
pipeline_tag: token-classification
tags:
- docre
- document-level-relation-extraction
- relation-extraction
- information-extraction
- knowledge-graph
- bert
- generated_from_trainer
- stories
model-index:
- name: my-model
  results:
  - task:
      type: relation-extraction
      name: Document-level relation extraction
    dataset:
      name: Stories
      type: someone/stories
      split: validation
      revision: 5503434ddd753f426f4b38109466949a1217c2bb
    metrics:
    - type: f1
      value: FRACTION
      name: F1
    - type: precision
      value: FRACTION
      name: Precision
    - type: recall
      value: FRACTION
      name: Recall
    - type: ign_f1
      value: FRACTION
      name: Ign F1
    - type: evidence_sentence_f1
      value: FRACTION
      name: Evidence sentence F1
---

<!-- DocRETrainer writes this card, and replaces it when it saves or pushes the model again. To keep changes of your
own, take the tag generated_from_trainer out of the lines above. -->

# my-model

Document-level relation extraction: a document with its entities goes in, the relations between them come out, \
across sentences, each with a probability and the sentences that show it. A model of the method `atlop`, trained \
further from somebody/tiny-bert, that knows 3 relations. F1 on the evaluation documents: **PERCENT**.

```python
from transformers import pipeline
from modeling_docre import Document
extract = pipeline("docre", model="my-model")
document = Document.from_markup("A nurse named [Ines]() works in [Lisbon](), where [she](Ines) studied.")
print(extract(document)["relations"])
```

This runs with the package `modeling-docre`. Where Python files stand beside the weights, it runs without the package
too: pass `trust_remote_code=True` to `pipeline`, and documents as dicts. Entities are given: as markup like this, as a
document in DocRED's form, or as character offsets in a text:

```python
document = {
    "text": "Ines works in Lisbon.",
    "entities": [{"mentions": [{"start": 0, "end": 4}]}, {"mentions": [{"start": 14, "end": 20}]}],
}
```

## Model details

- **Method:** `atlop`
- **Encoder:** bert, 2 layers, 32 wide
- **Pair head:** grouped bilinear with localized context pooling (Zhou et al., 2021), width 16, blocks of 4
- **Loss:** pairwise moving threshold (Guo et al., 2023), with entropy=False
- **Decision:** a relation is predicted where its probability is above THRESHOLD; at most 4 relations of a pair
- **Evidence:** sentences that hold more than THRESHOLD of a pair's attention
- **Length:** the encoder reads 512 tokens at once; longer documents are read in windows that overlap by 128 tokens \
or more and leave nothing out
- **Relations:** 3, listed below
- **Entity types:** LOC, PER; they are optional, and others count as unknown
- **Parameters:** COUNT, of which COUNT are the encoder's
- **Licence:** apache-2.0

## Relations

| Relation | Words | Training facts |
| --- | --- | --- |
| born_in | place of birth | 30 |
| part_of | part of | 20 |
| rules | rules | 10 |

## Uses

**Direct use:** the lines above; `threshold=`, `relations=`, `head=`, `tail=` and `top_k=` filter what comes out.

**Training further**, with labelled `documents` whose relations the model knows:

```python
from modeling_docre import DocREForRelationExtraction, DocREProcessor
from modeling_docre import DocRETrainer, DocRETrainingArguments
model = DocREForRelationExtraction.from_pretrained("my-model")
processor = DocREProcessor.from_pretrained("my-model")
arguments = DocRETrainingArguments("runs/further", num_train_epochs=3)
trainer = DocRETrainer(model, arguments, train_dataset=documents, processing_class=processor)
trainer.train()
```

**Out of scope:** finding the entities of a text, relations that are not in the table, and decisions about people.

## Limits

- It relates entities that are given, and finds none by itself. Wrong entities give wrong relations.
- It learned from 30 documents: other subjects, styles and languages than theirs will fare worse, and what they leave \
out or get wrong, it learned too.
- Scores are the model's own probabilities. They have not been calibrated.
- Facts that a text denies, supposes or reports from hearsay may come out like those that it states.

## Evaluation

| Documents | Number | Facts | F1 | Precision | Recall | Ign F1 | Evidence sentence F1 |
| --- | --- | --- | --- | --- | --- | --- | --- |
| evaluation | 15 | 30 | PERCENT | PERCENT | PERCENT | PERCENT | PERCENT |

- Figures in percent. Mentions and entities are given as in the gold data; a relation is right if head, tail and \
relation are, by the rules of the official DocRED scorer.
- Ign F1 leaves out correct facts that the training documents name too.
- Evidence sentence F1 counts the sentences of correct relations that have gold evidence; it is not the official \
evidence F1.
- The evaluation documents: Stories, data set someone/stories, split validation, revision \
5503434ddd753f426f4b38109466949a1217c2bb.
- Threshold: THRESHOLD, chosen by F1 on the evaluation documents, where it gives PERCENT.
- Evidence threshold: THRESHOLD, chosen by evidence sentence F1 on the evaluation documents, where it gives PERCENT.
- The checkpoint and the threshold and the evidence threshold were chosen on the evaluation documents, which flatters \
the figures.

Relations with 10 or more gold facts in the evaluation documents (1 relation with fewer not listed):

| Relation | Words | Gold facts | F1 | Precision | Recall |
| --- | --- | --- | --- | --- | --- |
| born_in | place of birth | 15 | PERCENT | PERCENT | PERCENT |
| part_of | part of | 10 | PERCENT | PERCENT | PERCENT |

## Training

- **Data:** 30 documents, 60 facts
- **Steps:** 64 (8 epochs)CHECKPOINT
- **Duration:** DURATION
- **Device:** CPU

| Hyper-parameter | Value |
| --- | --- |
| num_train_epochs | 8 |
| learning_rate | 0.001 |
| per_device_train_batch_size | 4 |
| optim | adamw_torch_fused |
| lr_scheduler_type | linear |
| warmup_steps | 0.06 |
| weight_decay | 0 |
| max_grad_norm | 1 |
| seed | 42 |
| head_learning_rate | 0.01 |
| tune_threshold | True |
| load_best_model_at_end | True |

Evaluations during training:

| Epoch | Step | Training loss | Evaluation loss | F1 | Precision | Recall |
| --- | --- | --- | --- | --- | --- | --- |
| 1 | 8 | LOSS | LOSS | PERCENT | PERCENT | PERCENT |
| 2 | 16 | LOSS | LOSS | PERCENT | PERCENT | PERCENT |
| 3 | 24 | LOSS | LOSS | PERCENT | PERCENT | PERCENT |
| 4 | 32 | LOSS | LOSS | PERCENT | PERCENT | PERCENT |
| 5 | 40 | LOSS | LOSS | PERCENT | PERCENT | PERCENT |
| 6 | 48 | LOSS | LOSS | PERCENT | PERCENT | PERCENT |
| 7 | 56 | LOSS | LOSS | PERCENT | PERCENT | PERCENT |
| 8 | 64 | LOSS | LOSS | PERCENT | PERCENT | PERCENT |

## Framework versions

- Python VERSION
- modeling-docre VERSION
- torch VERSION
- transformers VERSION
- tokenizers VERSION
- accelerate VERSION
- datasets VERSION

## Citation

```bibtex
@software{modeling_docre,
    title = {modeling-docre},
    author = {{The modeling-docre authors}},
    version = {VERSION},
    license = {Apache-2.0},
}

@inproceedings{zhou2021atlop,
    title = {Document-level relation extraction with adaptive thresholding and localized context pooling},
    author = {Zhou, Wenxuan and Huang, Kevin and Ma, Tengyu and Huang, Jing},
    booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
    volume = {35},
    pages = {14612--14620},
    year = {2021},
}

@inproceedings{guo2023pemscl,
    title = {Towards integration of discriminability and robustness for document-level relation extraction},
    author = {Guo, Jia and Kok, Stanley and Bing, Lidong},
    booktitle = {Proceedings of the 17th Conference of the European Chapter of the Association for Computational
        Linguistics},
    pages = {2606--2617},
    year = {2023},
}
```
"""

PLACEHOLDERS = {
    "FRACTION": r"[01]\.\d+",
    "PERCENT": r"\d{1,3}\.\d",
    "THRESHOLD": r"0\.\d{1,6}",
    "COUNT": r"\d\d,\d{3}",
    "LOSS": r"\d+\.?\d*(e-\d+)?",
    "DURATION": r"\d+ (s|min \d+ s)",
    "VERSION": r"\d+\.\d+\S*",
    "CHECKPOINT": r"(\n- \*\*Checkpoint:\*\* that of step \d+, the best by f1)?",
}


def pattern(text):
    text = re.escape(text)
    for name, expression in PLACEHOLDERS.items():
        text = text.replace(name, expression)
    return text


@pytest.fixture(scope="module")
def trained(tiny_bert_dir, tmp_path_factory):
    """A trainer whose model is trained, tuned, evaluated and saved with its card."""
    folder = tmp_path_factory.mktemp("runs") / "my-model"
    trainer = trainer_for(
        tiny_bert_dir,
        folder,
        30,
        num_train_epochs=8,
        logging_steps=8,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        tune_threshold=True,
        trainer={"eval_dataset": [fictional(number) for number in range(15)]},
        model_settings={
            "loss": "pmt",
            "loss_arguments": {"entropy": False},
            "use_entity_types": True,
            "entity_types": ["LOC", "PER"],
            "relation_names": {"born_in": "place of birth", "part_of": "part of"},
        },
    )
    trainer.train()
    trainer.evaluate()
    trainer.save_model()
    trainer.create_model_card(
        language="en", license="apache-2.0", tags="stories", finetuned_from="somebody/tiny-bert", dataset="Stories",
        dataset_tags="someone/stories", dataset_split="validation", dataset_revision=SHA,
    )  # fmt: skip
    return trainer, folder


def test_the_whole_card(trained):
    card = card_of(trained[1])
    expression = pattern(WHOLE)
    if re.fullmatch(expression, card) is None:
        pieces = list(zip(WHOLE.split("\n"), card.split("\n"), strict=False))
        wrong = next((pair for pair in pieces if re.fullmatch(pattern(pair[0]), pair[1]) is None), "its end")
        pytest.fail(f"the card differs at {wrong}:\n{card}")


def test_front_matter_has_the_figures_of_the_last_evaluation(trained):
    trainer, folder = trained
    data = ModelCard.load(folder / "README.md").data
    figures = [entry for entry in trainer.state.log_history if "eval_f1" in entry][-1]
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        name: round(figures[f"eval_{name}"], 4)
        for name in ("f1", "precision", "recall", "ign_f1", "evidence_sentence_f1")
    }
    for result in data.eval_results:
        assert (result.dataset_type, result.dataset_split) == ("someone/stories", "validation")
        assert result.dataset_revision == SHA
    assert set(TAGS) < set(data.tags)
    assert f"F1 on the evaluation documents: **{100 * figures['eval_f1']:.1f}**." in card_of(folder)


def python_blocks(card):
    return re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)


def test_the_code_of_the_card_runs_beside_the_saved_folder(trained, monkeypatch, capsys):
    folder = trained[1]
    monkeypatch.chdir(folder.parent)
    use, offsets, further = python_blocks(card_of(folder))
    assert len(use.splitlines()) == 5
    names = {}
    exec(use, names)
    (printed,) = capsys.readouterr().out.splitlines()
    assert eval(printed) == names["extract"](names["document"])["relations"]
    best = names["extract"](names["document"], threshold=0.01)["relations"][0]
    assert {best["head_name"], best["tail_name"]} == {"Ines", "Lisbon"}
    exec(offsets, names)
    assert [entity["name"] for entity in names["extract"](names["document"])["entities"]] == ["Ines", "Lisbon"]
    names = {"documents": [fictional(number) for number in range(2)]}
    exec(further.replace("num_train_epochs=3", "num_train_epochs=1, use_cpu=True, report_to='none'"), names)
    assert names["trainer"].state.global_step == 1


def test_relations_of_the_evaluation_are_those_of_the_scorer(trained):
    trainer, folder = trained
    documents = trainer.eval_dataset.documents
    rows = [
        {"title": str(i), "h_idx": relation.head, "t_idx": relation.tail, "r": relation.relation}
        for i, relations in enumerate(trainer.predict(documents).predictions)
        for relation in relations
    ]
    figures = score(rows, [{**document.to_docred(), "title": str(i)} for i, document in enumerate(documents)])
    for name, words in (("born_in", "place of birth"), ("part_of", "part of")):
        cells = [f"{100 * figures[f'relation/{name}/{figure}']:.1f}" for figure in ("f1", "precision", "recall")]
        row = re.escape(" | ".join(cells))
        assert re.search(rf"^\| {name} \| {words} \| \d+ \| {row} \|$", card_of(folder), re.MULTILINE)


# Which evaluation is reported


def tiny_run(tiny_bert_dir, folder, count=6, **settings):
    trainer = trainer_for(tiny_bert_dir, folder, count, **{"num_train_epochs": 1, **settings})
    trainer.train()
    return trainer


def write(trainer, folder, **settings):
    trainer.create_model_card(**{"dataset_tags": "someone/stories", **settings})
    return card_of(folder)


def test_a_model_that_was_never_evaluated_says_so(tiny_bert_dir, tmp_path):
    trainer = tiny_run(tiny_bert_dir, tmp_path)
    card = write(trainer, tmp_path)
    assert section(card, "Evaluation").startswith("Unknown: ")
    assert ModelCard.load(tmp_path / "README.md").data.eval_results is None
    assert "F1 on" not in card and "Evaluations during training" not in card
    untrained = trainer_for(tiny_bert_dir, tmp_path, 6)
    card = write(untrained, tmp_path)
    assert section(card, "Training").startswith("- **Unknown:** this trainer has not trained the model\n")
    assert "learned from" not in card and "born_in |" in section(card, "Relations")


def test_pairs_that_are_left_out_and_types_that_are_read_are_told(tiny_bert_dir, tmp_path):
    settings = {
        "method": "paee",
        "unet_width": 4,
        "unet_outputs": 4,
        "entity_encoder_heads": 2,
        "entity_types": ["PER"],
    }
    trainer = trainer_for(tiny_bert_dir, tmp_path, 4, model_settings=settings)
    trainer.save_model()
    card = (tmp_path / "README.md").read_text()
    assert "- **Entity types:** PER; they are optional" in card and "are left out" not in card
    trainer.model.config.entity_types = []
    trainer.save_model()
    assert "- **Entity types:** none is known to it\n" in (tmp_path / "README.md").read_text()
    trainer.model.config.use_pair_grid = False
    trainer.save_model()
    assert "- **Entity types:** not used\n" in (tmp_path / "README.md").read_text()
    trainer.model.config.use_pair_grid = True
    trainer.model.config.prune_threshold = 0.03
    trainer.save_model()
    told = "; pairs that are related with a probability of 0.03 or less are left out\n"
    assert told in (tmp_path / "README.md").read_text()


def test_figures_of_other_weights_or_thresholds_are_marked_and_not_indexed(tiny_bert_dir, tmp_path):
    class EarlyLook(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_evaluate = state.global_step == 2

    trainer = trainer_for(tiny_bert_dir, tmp_path, 12, num_train_epochs=1, trainer={"callbacks": [EarlyLook()]})
    trainer.train()
    card = write(trainer, tmp_path)
    assert "are of training step 2; the model is that of step 3." in card
    assert ModelCard.load(tmp_path / "README.md").data.eval_results is None
    trainer.evaluate()
    assert "training step 2" not in write(trainer, tmp_path)
    assert ModelCard.load(tmp_path / "README.md").data.eval_results
    trainer.tune_threshold()
    card = write(trainer, tmp_path)
    assert "The figures on the evaluation documents were measured with other thresholds than these." in card
    assert "chosen by F1 on the evaluation documents, where it gives" in card
    assert ModelCard.load(tmp_path / "README.md").data.eval_results is None
    trainer.evaluate()
    assert "other thresholds" not in write(trainer, tmp_path)
    assert ModelCard.load(tmp_path / "README.md").data.eval_results
    # Training goes on: what was measured before is of another model.
    trainer.remove_callback(EarlyLook)
    trainer.train()
    assert section(write(trainer, tmp_path), "Evaluation").startswith("Unknown: ")


def test_a_threshold_that_was_tuned_by_hand_is_marked(tiny_bert_dir, tmp_path):
    trainer = tiny_run(tiny_bert_dir, tmp_path)
    flattered = "The threshold was chosen on the evaluation documents, which flatters the figures."
    trainer.tune_threshold([fictional(7), fictional(8)])
    trainer.evaluate()
    card = write(trainer, tmp_path)
    assert "chosen by F1 on labelled documents, where it gives" in card and "flatters" not in card
    trainer.tune_threshold()
    trainer.evaluate()
    assert flattered in write(trainer, tmp_path)
    # The same documents, and one of them among others.
    trainer.tune_threshold([fictional(7), fictional(3)])
    trainer.evaluate()
    assert flattered in write(trainer, tmp_path)
    trainer.model.config.threshold = 0.5
    trainer.evaluate()
    card = write(trainer, tmp_path)
    assert "flatters" not in card and "as the configuration had it" in card


def test_other_documents_need_a_name_of_their_own(tiny_bert_dir, tmp_path):
    trainer = tiny_run(tiny_bert_dir, tmp_path)
    trainer.evaluate([fictional(2)])
    trainer.predict([fictional(2)])
    assert section(write(trainer, tmp_path), "Evaluation").startswith("Unknown: ")
    trainer.evaluate()
    trainer.evaluate([fictional(2), fictional(8)], metric_key_prefix="test")
    trainer.predict([fictional(2)], metric_key_prefix="guess")
    card = write(trainer, tmp_path)
    assert re.search(r"^\| evaluation \| 5 \| 9 \|.*\n\| test \| 2 \| 6 \|", card, re.MULTILINE)
    assert "guess" not in card


def results(folder):
    found = ModelCard.load(folder / "README.md").data.eval_results or []
    return {(r.dataset_type, r.dataset_name, r.dataset_split) for r in found}


def test_several_evaluation_sets_go_by_their_names(tiny_bert_dir, tmp_path, caplog):
    sets = {"dev": [fictional(2)], "news": [fictional(5), fictional(1)]}
    trainer = trainer_for(
        tiny_bert_dir, tmp_path, 4, num_train_epochs=2, eval_strategy="epoch", trainer={"eval_dataset": sets}
    )
    trainer.train()
    trainer.create_model_card()
    card = card_of(tmp_path)
    assert re.search(r"^\| dev \| 1 \| 3 \|.*\n\| news \| 2 \| 5 \|", card, re.MULTILINE)
    assert "Evaluations during training on the dev documents:\n" in card
    assert results(tmp_path) == set() and "Pass one for each" not in caplog.text
    card = write(trainer, tmp_path)
    assert results(tmp_path) == set() and caplog.text.count("Pass one for each: dev, news.") == 1
    card = write(trainer, tmp_path, dataset_tags=["x/old", "x/new"], dataset=["Old", "New"], dataset_split="test")
    assert results(tmp_path) == {("x/old", "Old", None), ("x/new", "New", None)}
    card = write(trainer, tmp_path, dataset_split=["validation", "test"], dataset_tags=["x/old", "x/new"])
    assert results(tmp_path) == {("x/old", "Old", "validation"), ("x/new", "New", "test")}
    assert "The news documents: New, data set x/new, split test." in card


def test_a_resumed_run_says_which_step_its_figures_are_of(tiny_bert_dir, tmp_path):
    # The learning rate falls to nothing after the first epochs, so that the best step lies before the interruption.
    settings = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    first = trainer_for(tiny_bert_dir, tmp_path, 9, num_train_epochs=2, **settings)
    first.train()
    state_file = tmp_path / "checkpoint-6" / "trainer_state.json"
    state = json.loads(state_file.read_text())
    # As an upload leaves it: without the folder.
    state |= {"best_metric": 2.0, "best_global_step": 3, "best_model_checkpoint": "checkpoint-3"}
    state_file.write_text(json.dumps(state))
    again = trainer_for(tiny_bert_dir, tmp_path, 9, num_train_epochs=3, **settings)
    again.train(resume_from_checkpoint=True)
    assert again.state.best_model_checkpoint == str(tmp_path / "checkpoint-3")
    card = write(again, tmp_path)
    assert "are of training step 9; the model is that of step 3." in card
    assert "- **Checkpoint:** that of step 3, the best by f1\n" in card
    assert "since the run was resumed" in card
    assert str(tmp_path) not in card
    again.evaluate()
    assert "training step 9" not in write(again, tmp_path)


# What it was made from


def test_a_continued_model_is_not_called_new(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir)
    model.config._name_or_path = "someone/docre-base"
    model.config.encoder._name_or_path = "google-bert/bert-base-cased"
    trainer = DocRETrainer(model, arguments(tmp_path), [fictional(0)], processing_class=processor)
    card = write(trainer, tmp_path)
    assert "`atlop`, trained further from someone/docre-base, that knows" in card
    assert "- **Encoder:** google-bert/bert-base-cased, bert, 2 layers" in card and "around" not in card
    assert ModelCard.load(tmp_path / "README.md").data.base_model == "someone/docre-base"
    model.config._name_or_path = ""
    trainer = DocRETrainer(model, arguments(tmp_path), [fictional(0)], processing_class=processor)
    assert "`atlop` around the encoder of google-bert/bert-base-cased that knows" in write(trainer, tmp_path)
    assert ModelCard.load(tmp_path / "README.md").data.base_model == "google-bert/bert-base-cased"


# Text stays text

HOSTILE = [
    "a|b `c` **d** _e_ ~~f~~",
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "line\n## heading\n\n---\n- item\r\n```\nfence",
    "[link](javascript:alert(3)) ![image](x) <https://x.example> www.x.example mail@x.example https://x.example",
    "key: value # {{ 7 * 7 }} {% raw %} 'quote' \"double\" !!python/object &amp; &#124; \\| \\( x \\) $$y$$",
    "\u202eright to left\u2066 \x07 bell",
]


def rendered(card):
    """Tags and text of the card as a page shows it."""
    markdown_it = pytest.importorskip("markdown_it")
    from html.parser import HTMLParser

    body = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    page = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body)
    tags, cells = [], []

    class Reader(HTMLParser):
        open = False

        def handle_starttag(self, tag, attributes):
            tags.append((tag, tuple(attributes)))
            if tag in ("td", "h1", "li"):
                cells.append("")
                self.open = True

        def handle_data(self, data):
            if cells and self.open:
                cells[-1] += data

        def handle_endtag(self, tag):
            self.open = self.open and tag not in ("td", "h1", "li")

    Reader(convert_charrefs=True).feed(page)
    return tags, cells


def shown(text):
    """What a reader shall see of a hostile string: one line, without what can't be seen."""
    return " ".join(re.sub("[\x00-\x1f\u202e\u2066]", " ", text).split())


@pytest.mark.parametrize("text", HOSTILE)
def test_plain_text_is_shown_as_it_is(text):
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    page = parser.render(f"| a |\n| --- |\n| {plain(text)} |\n\n- **b:** {plain(text)}")
    import html

    escaped = html.escape(shown(text), quote=False).replace('"', "&quot;")
    assert page.count("<td>") == 1
    assert f"<td>{escaped}</td>" in page
    assert f"<strong>b:</strong> {escaped}</li>" in page


def test_hostile_names_and_texts_stay_text(tiny_bert_dir, tmp_path, monkeypatch):
    relations = {f"{text} {number}": f"words of {text}" for number, text in enumerate(HOSTILE)}
    document = Document.from_markup("[Ada](:PER) lives in [Oslo](:LOC).")
    documents = [replace(document, relations=(Relation(0, 1, relation),)) for relation in relations]
    model = DocREForRelationExtraction.from_encoder(
        str(tiny_bert_dir), relations=relations, emb_size=16, block_size=4, entity_types=HOSTILE, use_entity_types=True
    )
    processor = DocREProcessor.from_encoder(str(tiny_bert_dir), config=model.config)
    trainer = DocRETrainer(
        model, arguments(tmp_path / "m", num_train_epochs=1), documents, documents * 10, processing_class=processor
    )
    trainer.train()
    trainer.evaluate()
    trainer.save_model()
    trainer.create_model_card(
        model_name="a: |\n--- # <b>", license="x: [y]", tags=["- a\n---\n", "{b}"], dataset=HOSTILE[4], language="- e",
        dataset_tags=HOSTILE[0], dataset_split=HOSTILE[1],
    )  # fmt: skip
    card = card_of(tmp_path / "m")
    data = ModelCard.load(tmp_path / "m" / "README.md").data
    assert (data.license, data.language) == ("x: [y]", ["- e"])
    assert {"- a\n---\n", "{b}"} < set(data.tags)
    assert {result.dataset_name for result in data.eval_results} == {HOSTILE[4]}
    assert data.model_name == "a: |\n--- # <b>"
    tags, cells = rendered(card)
    allowed = {"h1", "h2", "p", "pre", "code", "ul", "li", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in tags} == allowed
    assert {attributes for _, attributes in tags if attributes} <= {
        (("class", "language-python"),),
        (("class", "language-bibtex"),),
    }
    assert sum(tag == "h2" for tag, _ in tags) == 8 and sum(tag == "table" for tag, _ in tags) == 4
    assert cells[0] == "a: | --- # <b>"
    # Both tables have the id and the words.
    for relation, words in relations.items():
        assert [cells.count(shown(relation)), cells.count(shown(words))] == [2, 2]
    monkeypatch.chdir(tmp_path)
    exec(python_blocks(card)[0].replace('"a: |\\n--- # <b>"', '"m"'), {})


# Nothing of this machine, nothing that nobody knows


def test_no_place_of_this_machine_is_in_what_is_saved(tiny_encoder, tmp_path, monkeypatch):
    private = tmp_path / "private-home"
    shutil.copytree(tiny_encoder("bert"), private / "secret-encoder")
    monkeypatch.chdir(private)
    trainer = trainer_for(
        "secret-encoder",
        private / "run",
        num_train_epochs=2,
        freeze_layers=1,
        frozen_cache_dir=str(private / "cache"),
        run_name=str(private / "name"),
        lr_scheduler_type="constant",
        lr_scheduler_kwargs={"places": [str(private / "somewhere")]},
        hub_token="secret-token",
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        trainer={"eval_dataset": {"dev": [fictional(2)], "news": [fictional(1)]}},
    )
    # The trainer works with a copy of its arguments here, and that one keeps what it needs.
    assert trainer.args.metric_for_best_model == "dev_f1"
    assert (trainer.args.hub_token, trainer.args.output_dir) == ("secret-token", str(private / "run"))
    trainer.train()
    trainer.evaluate()
    trainer.save_model()
    trainer.save_state()
    files = [path for path in (private / "run").iterdir() if path.is_file()]
    assert {"README.md", "config.json", "training_args.bin", "trainer_state.json"} < {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        for place in ("secret", "private-home", str(tmp_path)):
            assert place.encode() not in content, path.name
    saved = torch.load(private / "run" / "training_args.bin", weights_only=False)
    assert (saved.hub_token, saved.output_dir, saved.num_train_epochs) == (None, "run", 2)
    assert saved.lr_scheduler_kwargs == {"places": ["somewhere"]}
    state = json.loads((private / "run" / "trainer_state.json").read_text())
    assert re.fullmatch(r"checkpoint-\d+", state["best_model_checkpoint"])
    card = card_of(private / "run")
    assert ModelCard.load(private / "run" / "README.md").data.base_model is None
    assert "- **Encoder:** bert, 2 layers, 32 wide\n" in card
    assert "| freeze_layers | 1 |" in card


def test_a_pickle_of_the_arguments_tells_no_folder_and_a_copy_keeps_everything(tmp_path):
    args = DocRETrainingArguments("../private-home/run", hub_token="secret-token", lr_scheduler_kwargs={"power": 2})
    args.freeze_layers, args.frozen_cache_dir = 1, tmp_path / "cache"
    saved = pickle.loads(pickle.dumps(args))
    assert saved.frozen_cache_dir == "cache"
    assert (saved.output_dir, saved.hub_token, saved.lr_scheduler_kwargs) == ("run", None, {"power": 2})
    for copied in (copy.copy(args), copy.deepcopy(args)):
        assert copied.to_dict() == args.to_dict()
        assert (copied.output_dir, copied.hub_token) == ("../private-home/run", "secret-token")
    assert copied.lr_scheduler_kwargs is not args.lr_scheduler_kwargs


def test_base_model_is_an_id_and_never_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)

    for name in ("google-bert/bert-base-cased", "bert-base-cased"):
        assert hub_id(name) == name
    for folder in ("runs/mine", str(tmp_path), "/gone/away", "../mine", "./mine", "~/mine", "a/b/c", "C:\\mine", ""):
        assert hub_id(folder) is None


def test_what_a_caller_says_of_data_and_tasks(tiny_bert_dir, tmp_path):
    trainer = tiny_run(tiny_bert_dir, tmp_path)
    trainer.evaluate()
    trainer.create_model_card(
        language=["en", "de"], tasks="token-classification", dataset_tags=["x/stories"], dataset="Stories",
        dataset_args="first half",
    )  # fmt: skip
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.language, data.datasets) == (["en", "de"], ["x/stories"])
    (result,) = {
        (item.task_type, item.dataset_type, item.dataset_name, item.dataset_args) for item in data.eval_results
    }
    assert result == ("token-classification", "x/stories", "Stories", "first half")
    # And goes into what is written later.
    trainer.save_model(str(tmp_path / "later"))
    later = ModelCard.load(tmp_path / "later" / "README.md").data
    assert (later.language, later.model_name) == (["en", "de"], "later")


# Where and when it is written


def test_a_card_that_a_person_wrote_stays(tiny_bert_dir, tmp_path, caplog):
    trainer = tiny_run(tiny_bert_dir, tmp_path)
    for content in ("# Mine", "---\ntags: [docre]\n---\n# Mine", "---\n: [broken\n---\n# Mine", "---\n- list\n---\n"):
        (tmp_path / "README.md").write_text(content)
        caplog.clear()
        trainer.create_model_card()
        trainer.save_model()
        assert card_of(tmp_path) == content
        assert "README.md stays as it is: its tags lack generated_from_trainer" in caplog.text


def test_a_card_of_a_trainer_is_replaced_and_its_tags_stay(tiny_bert_dir, tmp_path):
    (tmp_path / "README.md").write_text(
        "---\ntags: [generated_from_trainer, docre, roberta, harbours]\nlicense: mit\n---\n# Old"
    )
    trainer = tiny_run(tiny_bert_dir, tmp_path)
    assert card_of(tmp_path).endswith("# Old"), "training writes no card"
    trainer.model.add_model_tags("mine")
    trainer.save_model()
    data = ModelCard.load(tmp_path / "README.md").data
    assert "# Old" not in card_of(tmp_path)
    assert data.tags == [*TAGS, "bert", "generated_from_trainer", "mine", "harbours"], "its encoder is another one now"
    assert data.license is None, "nobody has said so of this model"


def test_checkpoints_have_no_card(tiny_bert_dir, tmp_path):
    trainer = tiny_run(tiny_bert_dir, tmp_path, save_strategy="epoch")
    trainer.save_model(str(tmp_path / "final"))
    assert [path.parent.name for path in tmp_path.rglob("README.md")] == ["final"]


def test_push_to_hub_uploads_the_card(tiny_bert_dir, tmp_path, monkeypatch):
    uploads = []

    def create_repo(*_args, **_kwargs):
        return SimpleNamespace(repo_id="someone/harbour")

    def upload_folder(*_args, **kwargs):
        uploads.append((kwargs["repo_id"], card_of(Path(kwargs["folder_path"]))))

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    for name, function in (("create_repo", create_repo), ("upload_folder", upload_folder)):
        monkeypatch.setattr(f"transformers.trainer.{name}", function, raising=False)
    trainer = trainer_for(tiny_bert_dir, tmp_path / "run", num_train_epochs=1, hub_model_id="someone/harbour")
    trainer.train()
    trainer.evaluate()
    trainer.push_to_hub(language="en")
    ((repo, card),) = uploads
    assert repo == "someone/harbour"
    assert 'extract = pipeline("docre", model="someone/harbour")' in card and "\n# harbour\n" in card
    data = ModelCard(card).data
    assert (data.language, data.model_name) == (["en"], "harbour")


def test_a_recipe_writes_the_card(tiny_bert_dir, tmp_path):
    (tmp_path / "stories.json").write_text(json.dumps([fictional(number) for number in range(9)]))
    recipe = {
        "output_dir": str(tmp_path / "harbour"),
        "model": {"encoder": str(tiny_bert_dir), "emb_size": 16, "block_size": 4},
        "data": {"train": str(tmp_path / "stories.json"), "eval": str(tmp_path / "stories.json")},
        "training": {"num_train_epochs": 1, "use_cpu": True, "tune_threshold": True, "save_strategy": "no"},
        "card": {"language": ["en"], "license": "apache-2.0", "dataset": "Stories"},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    metrics = train_from_recipe(path, ["--card.dataset_tags=someone/stories"])
    card = ModelCard.load(tmp_path / "harbour" / "README.md")
    assert (card.data.license, card.data.datasets) == ("apache-2.0", ["someone/stories"])
    assert {result.metric_type: result.metric_value for result in card.data.eval_results}["f1"] == round(
        metrics["eval_f1"], 4
    )
    assert str(tmp_path) not in str(card)
    with pytest.raises(RecipeError, match=r"card has no setting 'licence'\. Did you mean 'license'"):
        load_recipe(path, {"card.licence": "mit"})
    assert load_recipe(path, ["--license=mit"]).card["license"] == "mit"


# Facts


def test_every_head_loss_and_decision_has_words():
    assert HEAD_WORDS.keys() == set(HEADS)
    assert LOSS_WORDS.keys() == set(LOSSES)
    assert DECISION_WORDS.keys() == set(DECISIONS)


def test_citations_say_what_the_citation_file_says(repository):
    known = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    for loss in LOSSES:
        config = DocREConfig.for_method("atlop", ["a"], loss=loss)
        entries = citations(config, known["version"]).split("\n\n")
        own, *papers = entries
        assert f"version = {{{known['version']}}}" in own and f"title = {{{known['title']}}}" in own
        assert known["authors"] == [{"name": "The modeling-docre authors"}] and "{{The modeling-docre authors}}" in own
        assert len(papers) == {"atl": 1, "bce": 1}.get(loss, 2)
        for paper in papers:
            (fact,) = [item for item in known["references"] if f"title = {{{item['title']}}}" in paper]
            authors = [f"{person['family-names']}, {person['given-names']}" for person in fact["authors"]]
            assert f"author = {{{' and '.join(authors)}}}" in " ".join(paper.split())
            assert f"pages = {{{fact['start']}--{fact['end']}}}" in paper and f"year = {{{fact['year']}}}" in paper
            assert fact["collection-title"] in " ".join(paper.split())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min 0 s"), (61, "1 min 1 s"), (3599, "59 min 59 s"), (7380, "2 h 3 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
