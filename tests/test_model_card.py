from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from training_helpers import RELATIONS, arguments, fictional, trainer_for
from transformers import TrainerCallback

from modeling_docre import DocREForRelationExtraction, DocREProcessor, Document, Relation
from modeling_docre.configuration_docre import DECISIONS, HEADS, LOSSES, DocREConfig
from modeling_docre.metrics.docred.scoring import score
from modeling_docre.model_card import DECISIONS as DECISION_WORDS
from modeling_docre.model_card import TAGS
from modeling_docre.model_card_facts import HEADS as HEAD_WORDS
from modeling_docre.model_card_facts import LOSSES as LOSS_WORDS
from modeling_docre.model_card_facts import citations, example_markup, relation_examples
from modeling_docre.model_card_text import duration, plain
from modeling_docre.recipes import RecipeError, load_recipe, train_from_recipe
from modeling_docre.training import DocRETrainer
from modeling_docre.training_record import Origin, hub_model, hub_origin, relation_counts

SHA = "5503434ddd753f426f4b38109466949a1217c2bb"


def of_hub(documents, **settings):
    """Documents as if they were a dataset that was loaded from the Hub."""
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(documents, split=settings.pop("split", "validation"))
    files = settings.pop("files", [f"hf://datasets/someone/stories@{SHA}/data/0.parquet"])
    data.info.download_checksums = {file: {"num_bytes": 1, "checksum": None} for file in files}
    data.info.config_name = settings.pop("config", "default")
    return data


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
      name: someone/stories
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
across sentences, each with a probability and the sentences that show it. A model of the method `atlop` around \
the encoder of somebody/tiny-bert that knows 3 relations. F1 on the evaluation documents: **PERCENT**.

```python
from transformers import pipeline
from modeling_docre import Document
extract = pipeline("docre", model="my-model")
document = Document.from_markup("[Bo](:PER) was born in [Pell](:LOC) .")
print(extract(document)["relations"])
```

This needs the package `modeling-docre`. Entities are given: as markup like this, as character offsets in a text, or as
a document in DocRED's form.

## Model details

- **Method:** `atlop`
- **Encoder:** somebody/tiny-bert, bert, 2 layers, 32 wide
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

| Relation | Words | Training facts | Example from the training documents |
| --- | --- | --- | --- |
| born_in | place of birth | 30 | Bo → Pell: “Bo was born in Pell .” |
| part_of | part of | 20 | Pell → Tarn: “Pell is part of Tarn .” |
| rules | rules | 10 | Bo → Umber |

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
- The evaluation documents: data set someone/stories, split validation, revision \
5503434ddd753f426f4b38109466949a1217c2bb.
- Threshold: THRESHOLD, chosen by F1 on the evaluation documents, where it gives PERCENT.
- Evidence threshold: THRESHOLD, chosen by evidence sentence F1 on the evaluation documents, where it gives PERCENT.
- The checkpoint and the thresholds were chosen on these documents, which flatters the figures.

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
        trainer={"eval_dataset": of_hub([fictional(number) for number in range(15)])},
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
    trainer.create_model_card(language="en", license="apache-2.0", tags="stories", finetuned_from="somebody/tiny-bert")
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
    use, further = python_blocks(card_of(folder))
    assert len(use.splitlines()) == 5
    names = {}
    exec(use, names)
    (printed,) = capsys.readouterr().out.splitlines()
    assert eval(printed) == names["extract"](names["document"])["relations"]
    best = names["extract"](names["document"], threshold=0.01)["relations"][0]
    assert (best["head_name"], best["relation"], best["tail_name"]) == ("Bo", "born_in", "Pell")
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


facts = st.lists(st.builds(Relation, st.integers(0, 2), st.integers(0, 2), st.sampled_from("abc")), max_size=8)


@given(st.lists(st.tuples(facts, facts), max_size=4))
def test_counts_by_relation_are_the_scorer_s(pairs):
    gold = [SimpleNamespace(relations=relations) for relations, _ in pairs]
    counts = relation_counts(gold, [predicted for _, predicted in pairs])

    def rows(relations, names):
        return [dict(zip(names, (r.head, r.tail, r.relation), strict=True)) for r in relations]

    references = [
        {"title": str(i), "vertexSet": [[], [], []], "labels": rows(relations, "htr")}
        for i, (relations, _) in enumerate(pairs)
    ]
    predictions = [
        {"title": str(i), **row}
        for i, (_, predicted) in enumerate(pairs)
        for row in rows(predicted, ("h_idx", "t_idx", "r"))
    ]
    figures = score(predictions, references)
    assert {key.split("/")[1] for key in figures if "/" in key} == counts.keys()
    for name, (number, predicted, correct) in counts.items():
        assert figures[f"relation/{name}/precision"] == (correct / predicted if predicted else 0.0)
        assert figures[f"relation/{name}/recall"] == (correct / number if number else 0.0)


# Which evaluation is reported


def tiny_run(tiny_bert_dir, folder, count=6, **settings):
    trainer = trainer_for(tiny_bert_dir, folder, count, **{"num_train_epochs": 1, **settings})
    trainer.train()
    return trainer


def write(trainer, folder):
    trainer.create_model_card()
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


def test_figures_of_other_weights_or_thresholds_are_marked_and_not_indexed(tiny_bert_dir, tmp_path):
    class EarlyLook(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_evaluate = state.global_step == 2

    trainer = trainer_for(tiny_bert_dir, tmp_path, 12, num_train_epochs=1, trainer={"callbacks": [EarlyLook()]})
    trainer.train()
    card = write(trainer, tmp_path)
    assert "are of training step 2; the model is that of step 3, which has not been evaluated." in card
    assert ModelCard.load(tmp_path / "README.md").data.eval_results is None
    trainer.evaluate()
    assert "has not been evaluated" not in write(trainer, tmp_path)
    trainer.tune_threshold()
    card = write(trainer, tmp_path)
    assert "The figures on the evaluation documents were measured with other thresholds than these." in card
    assert "chosen by F1 on the labelled documents, where it gives" in card
    assert ModelCard.load(tmp_path / "README.md").data.eval_results is None
    trainer.evaluate()
    assert "other thresholds" not in write(trainer, tmp_path)
    assert ModelCard.load(tmp_path / "README.md").data.eval_results
    # Training goes on: what was measured before is of another model.
    trainer.remove_callback(EarlyLook)
    trainer.train()
    assert section(write(trainer, tmp_path), "Evaluation").startswith("Unknown: ")


def test_other_documents_need_a_name_of_their_own(tiny_bert_dir, tmp_path):
    trainer = tiny_run(tiny_bert_dir, tmp_path)
    trainer.evaluate([fictional(2)])
    assert section(write(trainer, tmp_path), "Evaluation").startswith("Unknown: ")
    trainer.evaluate()
    trainer.evaluate([fictional(2), fictional(8)], metric_key_prefix="test")
    card = write(trainer, tmp_path)
    assert re.search(r"^\| evaluation \| 5 \| 9 \|.*\n\| test \| 2 \| 6 \|", card, re.MULTILINE)
    splits = {result.dataset_split for result in ModelCard.load(tmp_path / "README.md").data.eval_results}
    assert splits == {None, "test"}


def test_several_evaluation_sets_go_by_their_names(tiny_bert_dir, tmp_path):
    sets = {"dev": [fictional(2)], "news": of_hub([fictional(5), fictional(1)], config="late", split="test")}
    trainer = trainer_for(
        tiny_bert_dir, tmp_path, 4, num_train_epochs=2, eval_strategy="epoch", trainer={"eval_dataset": sets}
    )
    trainer.train()
    card = write(trainer, tmp_path)
    assert re.search(r"^\| dev \| 1 \| 3 \|.*\n\| news \| 2 \| 5 \|", card, re.MULTILINE)
    assert f"The news documents: data set someone/stories, configuration late, split test, revision {SHA}." in card
    assert "Evaluations during training on the dev documents:\n" in card
    found = {
        (result.dataset_type, result.dataset_config, result.dataset_split, result.dataset_revision)
        for result in ModelCard.load(tmp_path / "README.md").data.eval_results
    }
    assert found == {("unknown", None, "dev", None), ("someone/stories", "late", "test", SHA)}


def test_a_resumed_run_reports_its_best_step_from_the_log(tiny_bert_dir, tmp_path):
    # The learning rate falls to nothing after the first epochs, so that the best step lies before the interruption.
    settings = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    first = trainer_for(tiny_bert_dir, tmp_path, 9, num_train_epochs=2, **settings)
    first.train()
    state_file = tmp_path / "checkpoint-6" / "trainer_state.json"
    state = json.loads(state_file.read_text())
    state |= {"best_metric": 2.0, "best_global_step": 3, "best_model_checkpoint": str(tmp_path / "checkpoint-3")}
    state_file.write_text(json.dumps(state))
    again = trainer_for(tiny_bert_dir, tmp_path, 9, num_train_epochs=3, **settings)
    again.train(resume_from_checkpoint=True)
    card = write(again, tmp_path)
    figures = next(entry for entry in again.state.log_history if "eval_f1" in entry and entry["step"] == 3)
    assert again.state.global_step == 9
    assert f"| evaluation |  |  | {100 * figures['eval_f1']:.1f} |" in card
    assert "- **Checkpoint:** that of step 3, the best by f1\n" in card
    assert "since the run was resumed" in card
    assert str(tmp_path) not in card


def test_many_evaluations_are_thinned_out(tiny_bert_dir, tmp_path):
    trainer = tiny_run(tiny_bert_dir, tmp_path, 2, num_train_epochs=30, eval_strategy="epoch", logging_steps=1)
    card = section(write(trainer, tmp_path), "Training")
    rows = re.findall(r"^\| (\d+) \| \1 \|", card, re.MULTILINE)
    assert "Evaluations during training (12 of 30):" in card
    assert (len(rows), rows[0], rows[-1]) == (12, "1", "30")


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
    documents = []
    for relation, text in zip(relations, HOSTILE, strict=True):
        start = f"{text} first "
        document = Document.from_text(
            f"{start}lives with second .",
            [
                {
                    "name": f"name {text}",
                    "type": text[:5],
                    "mentions": [{"start": len(text) + 1, "end": len(start) - 1}],
                },
                {"mentions": [{"start": len(start) + 11, "end": len(start) + 17}]},
            ],
            title=text,
            sentences=[(0, len(start) + 19)],
        )
        documents.append(replace(document, relations=(Relation(0, 1, relation, evidence=(0,)),)))
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
        model_name="a: |\n--- # <b>", license="x: [y]", tags=["- a\n---\n", "{b}"], dataset=HOSTILE[4], language="- e"
    )
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
    # Both tables have the id and the words; the first an example besides.
    for relation, words in relations.items():
        assert [cells.count(shown(relation)), cells.count(shown(words))] == [2, 2]
    examples = [cell for cell in cells if cell.startswith("name ") and "“" in cell]
    assert len(examples) == len(HOSTILE)
    for text in HOSTILE:
        assert any(f"“{shown(text)} first lives with second .”" in example for example in examples)
    monkeypatch.chdir(tmp_path)
    exec(python_blocks(card)[0].replace('"a: |\\n--- # <b>"', '"m"'), {})


def test_a_quote_in_the_example_leaves_the_code_whole(tiny_bert_dir, tmp_path, monkeypatch, capsys):
    odd = fictional(0)
    odd["sents"][0] = ["Ada", "``", "'was'", '"born"', "[in]", "```", "Orle", "\\"]
    odd["vertexSet"][1][0]["pos"] = [6, 7]
    trainer = trainer_for(
        tiny_bert_dir, tmp_path / "odd", trainer={"train_dataset": [odd], "eval_dataset": None}, num_train_epochs=1
    )
    trainer.train()
    trainer.save_model()
    card = card_of(tmp_path / "odd")
    use = re.search(r"^````python\n(.*?)^````$", card, re.DOTALL | re.MULTILINE)[1]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(use, names)
    assert names["document"].text == " ".join(odd["sents"][0])


# Nothing of this machine, nothing that nobody knows


def test_no_place_of_this_machine_is_in_the_card(tiny_encoder, tmp_path, monkeypatch):
    import shutil

    private = tmp_path / "private-home"
    shutil.copytree(tiny_encoder("bert"), private / "secret-encoder")
    monkeypatch.chdir(private)
    trainer = trainer_for(
        "secret-encoder",
        private / "secret-runs" / "model",
        num_train_epochs=1,
        freeze_layers=1,
        frozen_cache_dir=str(private / "secret-cache"),
        run_name=str(private / "secret-run"),
        hub_token="secret-token",
    )
    trainer.train()
    trainer.evaluate()
    trainer.save_model()
    card = card_of(private / "secret-runs" / "model")
    assert "secret" not in card and "private-home" not in card and str(tmp_path) not in card
    assert ModelCard.load(private / "secret-runs" / "model" / "README.md").data.base_model is None
    assert "- **Encoder:** bert, 2 layers, 32 wide\n" in card
    assert "| freeze_layers | 1 |" in card


def test_base_model_is_an_id_and_never_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)

    def found(model, encoder=""):
        return hub_model(SimpleNamespace(name_or_path=model, encoder=SimpleNamespace(name_or_path=encoder)))

    assert found("", "google-bert/bert-base-cased") == "google-bert/bert-base-cased"
    assert found("someone/docre", "google-bert/bert-base-cased") == "someone/docre"
    for folder in ("runs/mine", str(tmp_path), "/gone/away", "../mine", "./mine", "~/mine", "a/b/c", "C:\\mine"):
        assert found(folder) is None
        assert found("", folder) is None


def test_origin_of_documents():
    data = of_hub([fictional(0)], config="small", split="train")
    assert hub_origin(data) == Origin("someone/stories", SHA, "small", "train")
    assert hub_origin(data.select([0])) == Origin("someone/stories", SHA, "small", "train")
    mixed = [f"hf://datasets/someone/stories@{SHA}/a.json", f"hf://datasets/someone/else@{SHA}/a.json"]
    local = [f"hf://datasets/someone/stories@{SHA}/a.json", "/home/me/private.json"]
    for files in (mixed, local, ["/home/me/private.json"], []):
        assert hub_origin(of_hub([fictional(0)], files=files)) is None
    assert hub_origin([fictional(0)]) is None and hub_origin(None) is None


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
    (tmp_path / "README.md").write_text("---\ntags: [generated_from_trainer, harbours]\nlicense: mit\n---\n# Old")
    trainer = tiny_run(tiny_bert_dir, tmp_path)
    assert card_of(tmp_path).endswith("# Old"), "training writes no card"
    trainer.save_model()
    data = ModelCard.load(tmp_path / "README.md").data
    assert "# Old" not in card_of(tmp_path)
    assert "harbours" in data.tags and len(data.tags) == len(set(data.tags))
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
        uploads.append((kwargs["repo_id"], card_of(kwargs["folder_path"] and tmp_path / "run")))

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
        assert len(papers) == {"atl": 1, "pmt": 2, "bce": 1}[loss]
        for paper in papers:
            (fact,) = [item for item in known["references"] if f"title = {{{item['title']}}}" in paper]
            authors = [f"{person['family-names']}, {person['given-names']}" for person in fact["authors"]]
            assert f"author = {{{' and '.join(authors)}}}" in paper
            assert f"pages = {{{fact['start']}--{fact['end']}}}" in paper and f"year = {{{fact['year']}}}" in paper
            assert fact["collection-title"] in " ".join(paper.split())


def test_examples_are_short_sentences_with_both_entities():
    long = fictional(0, "long")
    long["sents"][0] = ["Ada", "was", *["certainly"] * 40, "born", "in", "Orle"]
    long["vertexSet"][1][0]["pos"] = [44, 45]
    documents = [Document.from_docred(item) for item in (long, fictional(3), fictional(2))]
    examples = relation_examples(documents)
    assert (examples["born_in"].head, examples["born_in"].sentence) == ("Dag", "Dag was born in Rusk .")
    assert examples["rules"].sentence is None and examples["rules"].tail == "Umber"
    assert relation_examples(documents[:1])["born_in"].sentence is None
    assert example_markup(documents, []) == "[Dag]() was born in [Rusk]() ."
    assert example_markup(documents, ["LOC"]) == "[Dag]() was born in [Rusk](:LOC) ."
    assert example_markup([], []) is None
    assert len(RELATIONS) == 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min 0 s"), (61, "1 min 1 s"), (3599, "59 min 59 s"), (7380, "2 h 3 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
