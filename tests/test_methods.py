"""Every row of the table of methods: trains, saves, loads, runs; and what goes with what."""

from __future__ import annotations

import inspect
import json
import re

import pytest
import torch
from forked import run_python
from training_helpers import RELATIONS, fictional, make, trainer_for
from transformers import pipeline

from modeling_docre import METHODS, DocREConfig, DocREForRelationExtraction, Document
from modeling_docre.method_loss import LOSS_FUNCTIONS
from modeling_docre.methods import HEADS, LOSSES, find_method, methods_table
from modeling_docre.modeling_docre import HEAD_CLASSES
from modeling_docre.recipe_files import read_yaml

SIZES = {"emb_size": 16, "block_size": 4, "axial_layers": 2, "axial_heads": 4, "unet_width": 8, "unet_outputs": 8}
NAMES = [row.name for row in METHODS]

EXTRACT = """
import json, sys
from transformers import pipeline
import modeling_docre
extract = pipeline("docre", model=sys.argv[1])
answers = extract(json.load(open(sys.argv[2])), threshold=0.05)
print(json.dumps([answer["relations"] for answer in answers]))
"""


def batch_for(processor, numbers, labelled=True):
    documents = [Document.from_dict(fictional(number)) for number in numbers]
    batch = processor.collate(processor(documents))
    return batch if labelled else {name: tensor for name, tensor in batch.items() if name != "labels"}


@pytest.mark.parametrize("method", NAMES)
def test_from_encoder_to_the_pipeline_of_another_process(tiny_bert_dir, tmp_path, method):
    trainer = trainer_for(
        tiny_bert_dir,
        tmp_path / "run",
        20,
        model_settings={"method": method, **SIZES},
        num_train_epochs=2,
        head_learning_rate=3e-3,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-3:]) < sum(losses[:3])
    trainer.save_model(str(tmp_path / "saved"))
    documents = [{key: value for key, value in fictional(number).items() if key != "labels"} for number in range(5)]
    here = pipeline("docre", model=trainer.model, processor=trainer.processing_class)(documents, threshold=0.05)
    (tmp_path / "documents.json").write_text(json.dumps(documents))
    (tmp_path / "extract.py").write_text(EXTRACT)
    there = run_python(tmp_path / "extract.py", tmp_path / "saved", tmp_path / "documents.json")
    assert there.returncode == 0, there.stderr
    found = json.loads(there.stdout)
    assert any(found)
    for mine, theirs in zip([answer["relations"] for answer in here], found, strict=True):
        keys = ("head", "tail", "relation", "evidence")
        assert [[one[key] for key in keys] for one in mine] == [[one[key] for key in keys] for one in theirs]
        assert [one["score"] for one in mine] == pytest.approx([one["score"] for one in theirs], abs=1e-5)


@pytest.mark.parametrize("method", NAMES)
def test_a_document_alone_has_the_logits_that_it_has_in_a_batch(tiny_bert_dir, method):
    model, processor = make(tiny_bert_dir, method=method, **SIZES)
    model.eval()
    numbers = [0, 1, 2, 5, 3]
    with torch.no_grad():
        together = model(**batch_for(processor, numbers, labelled=False))
        for row, number in enumerate(numbers):
            alone = model(**batch_for(processor, [number], labelled=False))
            rows = together.pairs[:, 0] == row
            torch.testing.assert_close(alone.logits, together.logits[rows], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", NAMES)
def test_losses_and_gradients_are_finite_under_autocast_on_extreme_logits(tiny_bert_dir, method, dtype):
    model, processor = make(tiny_bert_dir, method=method, **SIZES)
    batch = batch_for(processor, range(4))
    for factor in (1.0, 1e4):
        with torch.no_grad():
            model.head.classifier.bias.copy_(factor * torch.linspace(-1, 1, len(RELATIONS) + 1))
        model.zero_grad()
        with torch.autocast("cpu", dtype=dtype):
            output = model(**batch)
        assert output.loss.isfinite() and output.loss.dtype == torch.float32
        assert all(part.isfinite() for part in output.losses.values())
        output.loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("head", HEADS)
def test_any_loss_goes_with_any_head(tiny_bert_dir, head, loss):
    model, processor = make(tiny_bert_dir, method="atlop", head=head, loss=loss, contrastive_weight=0.5, **SIZES)
    output = model(**batch_for(processor, range(3)))
    assert set(output.losses) == {loss, "contrastive"} | ({"potential", "roles"} if head == "pair-aware" else set())
    assert output.loss.item() == pytest.approx(sum(part.item() for part in output.losses.values()))
    output.loss.backward()
    # But for class 0 of binary cross-entropy, everything learns.
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def test_tables_of_names_agree():
    assert set(HEAD_CLASSES) == set(HEADS)
    assert set(LOSS_FUNCTIONS) == set(LOSSES)
    signatures = {tuple(inspect.signature(head.pair_embeddings).parameters) for head in HEAD_CLASSES.values()}
    assert len(signatures) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "atl", "decision": "zero"}, 'decision="threshold-class", or one of the losses .balanced., .bce.'),
        ({"loss": "bce", "decision": "threshold-class"}, 'decision="probability" or decision="zero"'),
        ({"loss": "balanced", "decision": "threshold-class"}, 'decision="zero" or decision="probability"'),
    ],
)
def test_a_loss_that_does_not_train_the_decision_is_refused(tiny_bert_dir, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        make(tiny_bert_dir, method="atlop", **settings, **SIZES)
    # One that is loaded for its answers may have such settings, and answers.
    model, processor = make(tiny_bert_dir, method="atlop", **SIZES)
    for name, value in settings.items():
        setattr(model.config, name, value)
    assert model(**batch_for(processor, [0, 1], labelled=False)).loss is None
    with pytest.raises(ValueError, match=message):
        model(**batch_for(processor, [0, 1]))
    with pytest.raises(ValueError, match=message):
        trainer_for(tiny_bert_dir, tmp_path, trainer={"model": model, "processing_class": processor})


def test_a_loss_of_another_kind_brings_its_decision_along():
    assert DocREConfig.for_method("atlop", loss="bce").decision == "probability"
    assert DocREConfig.for_method("docunet", loss="atl").decision == "threshold-class"
    assert DocREConfig.for_method("atlop-bce", loss="balanced").decision == "probability"
    assert DocREConfig.for_method("atlop", loss="pmt").decision == "threshold-class"


def test_a_temperature_of_ones_own_leaves_the_form_of_the_row():
    config = DocREConfig.for_method("vaediff", contrastive_arguments={"temperature": 0.5})
    assert config.contrastive_arguments == {"form": "vaediff", "temperature": 0.5}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "axail"}, "head='axail' is not one of 'bilinear', 'axial', 'unet'"),
        ({"loss": "focal"}, "loss='focal' is not one of 'atl', 'afl'"),
        ({"loss": "ptm"}, r"'pmt', .*\. Did you mean 'pmt'\?$"),
        ({"loss": "alf"}, r"Did you mean 'afl'\?$"),
        ({"loss": "focal"}, r"'pmt', [^.]*\.$"),
        ({"loss": "PMT"}, r"Did you mean 'pmt'\?$"),
        ({"loss": ["pmt"]}, r"loss=\['pmt'\] is not a name"),
        ({"emb_size": "768"}, "emb_size='768' is not a whole number"),
        ({"axial_layers": 1.5}, "axial_layers=1.5 is not a whole number"),
        ({"era_copies": True}, "era_copies=True is not a whole number"),
        ({"mask_padding": "yes"}, "mask_padding='yes' is not True or False"),
        ({"era_relations": "P17"}, "era_relations='P17' is not a list or None"),
        ({"loss_arguments": None}, "loss_arguments=None is not a dict"),
        ({"loss": "mse"}, r"'bce'\.$"),
        ({"axial_form": "ours"}, "axial_form='ours' is not one of 'code', 'paper'"),
        ({"head": "axial", "axial_heads": 7}, r"axial_heads=7 does not divide .* such as axial_heads=6\."),
        ({"axial_layers": -1}, r"axial_layers=-1 is no number of layers; pass 0 or more\."),
        ({"axial_layers": None}, "axial_layers=None is not a whole number"),
        ({"axial_heads": None}, "axial_heads=None is not a whole number"),
        ({"head": "unet", "unet_width": 5}, r"unet_width=5 is odd.* pass unet_width=6\."),
        ({"pad_to": 0}, r"pad_to=0 is not positive; pass 1 or more, or None"),
        ({"emb_size": 100}, r"emb_size=100 is not a multiple .* such as block_size=50\."),
        ({"block_size": 0}, r"block_size=0 is not positive; pass 1 or more\."),
        ({"contrastive_weight": -1.0}, "contrastive_weight=-1.0 is no weight; pass a positive number, or 0"),
        ({"contrastive_weight": float("nan")}, "contrastive_weight=nan is no weight"),
        ({"contrastive_weight": None}, "contrastive_weight=None is not a number"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        DocREConfig.for_method("atlop", ["r"], **settings)


@pytest.mark.parametrize("arguments", [["temperature"], 0.2])
def test_arguments_of_the_contrastive_loss_that_are_no_dict(tiny_bert_dir, arguments):
    with pytest.raises(ValueError, match=r"contrastive_arguments=.* is not a dict"):
        make(tiny_bert_dir, method="pemscl", contrastive_arguments=arguments, **SIZES)


def test_unknown_arguments_of_the_contrastive_loss_are_named(tiny_bert_dir, tmp_path):
    settings = {"method": "pemscl", "contrastive_arguments": {"temprature": 0.2}, **SIZES}
    with pytest.raises(ValueError, match=r"contrastive_arguments has 'temprature'.*Did you mean 'temperature'"):
        trainer_for(tiny_bert_dir, tmp_path, model_settings=settings)


def test_unknown_methods_are_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"There is no method 'kddocre'\. Did you mean 'kd-docre'\?$"):
        find_method("kddocre")


def test_contrastive_part_by_hand(tiny_bert_dir):
    from modeling_docre.contrastive import supervised_contrastive_loss

    for method, form in (("pemscl", "pemscl"), ("vaediff", "vaediff")):
        model, processor = make(tiny_bert_dir, method=method, contrastive_weight=0.3, **SIZES)
        batch = batch_for(processor, range(6))
        output = model(**batch, output_pair_embeddings=True)
        temperature = model.config.contrastive_arguments.get("temperature", 1.0)
        expected = supervised_contrastive_loss(
            output.pair_embeddings, batch["labels"], temperature=temperature, form=form
        )
        if form == "pemscl":
            # Its sum over anchors is divided as the main loss is.
            expected = expected * (batch["labels"][:, 1:] > 0).any(1).sum() / len(batch["pairs"])
        torch.testing.assert_close(output.losses["contrastive"], 0.3 * expected, atol=1e-5, rtol=1e-5)
        # Over several batches of one step, each counts by its pairs.
        half = model(**batch, num_items_in_batch=2 * len(batch["pairs"]))
        torch.testing.assert_close(half.losses["contrastive"], output.losses["contrastive"] / 2)


def test_the_diagonal_counts_in_the_mean_where_the_published_code_counts_it(tiny_bert_dir):
    settings = {"method": "kd-docre", **SIZES}
    model, processor = make(tiny_bert_dir, **settings)
    counting, _ = make(tiny_bert_dir, include_diagonal_in_mean=True, **settings)
    counting.load_state_dict(model.state_dict())
    batch = batch_for(processor, range(4))
    plain, with_diagonal = model(**batch), counting(**batch)
    entities, pairs = int(batch["num_entities"].sum()), len(batch["pairs"])
    # A cell of zeros costs log(classes), and has no gradient.
    constant = entities * torch.tensor(float(len(RELATIONS) + 1)).log()
    expected = (plain.loss * pairs + constant) / (pairs + entities)
    torch.testing.assert_close(with_diagonal.loss, expected)
    itself = batch_for(processor, [1], labelled=False) | {"pairs": torch.tensor([[0, 1, 1], [0, 0, 1]])}
    logits = counting(**itself).logits
    assert (logits[0] == 0).all() and (logits[1] != 0).any()


@pytest.mark.parametrize("page", ["README.md", "docs/concepts/methods.md"])
def test_the_table_in_the_readme_and_the_docs(repository, page):
    lines = [f"| {' | '.join(row).rstrip()} |" for row in methods_table()]
    table = "\n".join([lines[0], "| --- | --- | --- | --- | --- |", *lines[1:]])
    assert table in (repository / page).read_text(encoding="utf-8"), table


def test_the_settings_of_rows_are_in_the_docs(repository):
    page = (repository / "docs" / "concepts" / "methods.md").read_text(encoding="utf-8")
    table = page.split("| method | settings |\n")[1].split("\n\n")[0]
    found = {}
    for line in table.splitlines()[1:]:
        names, settings = (re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split(" | "))
        read = {key: value for one in settings for key, value in read_yaml(one, "").items()}
        found |= {name: read for name in names}
    assert found == {row.name: dict(row.settings) for row in METHODS if row.settings}


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_rows_fill_configs(row):
    config = DocREConfig.for_method(row.name, ["P1"])
    config.check_decision()
    for name, value in row.settings.items():
        assert getattr(config, name) == value
    # A row's settings are shared by all configs made of it.
    config.contrastive_arguments["temperature"] = 9.0
    assert DocREConfig.for_method(row.name, ["P1"]).contrastive_arguments.get("temperature") != 9.0


def test_dropped_negative_labels_are_drawn_in_training_alone(tiny_bert_dir):
    settings = {"method": "pemscl", "loss_arguments": {"negative_label_rate": 0.3}, "contrastive_weight": 0.0}
    model, processor = make(tiny_bert_dir, **settings, **SIZES)
    batch = batch_for(processor, range(5))
    model.train()
    assert len({model(**batch).loss.item() for _ in range(4)}) > 1
    model.eval()
    assert len({model(**batch).loss.item() for _ in range(4)}) == 1


def test_a_saved_model_is_loaded_whole(tiny_bert_dir, tmp_path):
    model, _ = make(tiny_bert_dir, method="docunet", **SIZES)
    model.save_pretrained(tmp_path)
    again = DocREForRelationExtraction.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("method", NAMES)
def test_the_card_names_what_the_method_is_made_of(tiny_bert_dir, tmp_path, method):
    trainer = trainer_for(tiny_bert_dir, tmp_path, 2, model_settings={"method": method, **SIZES})
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"**Method:** `{method}`" in card
    papers = {"ncrl": "zhou2022ncrl", "pemscl": "guo2023pemscl", "kd-docre": "tan2022kddocre"}
    papers |= {"vaediff": "tran2025vaediff", "docunet": "zhang2021docunet", "era": "du2022era", "eracl": "du2022era"}
    papers |= {"paee": "huang2022paee"}
    assert papers.get(method, "zhou2021atlop") in card
    assert ("supervised contrastive, times 2.0" in card) == (method in ("pemscl", "vaediff"))
    augmented = "easy relation augmentation, 2 more rows for each pair with a relation, masked with probability 0.1"
    assert (augmented in card) == (method in ("era", "eracl"))
