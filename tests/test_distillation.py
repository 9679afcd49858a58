"""Teachers, stores of their soft labels, and the training of students."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import run_python
from training_helpers import (
    RELATIONS,
    assert_close,
    fictional,
    make,
    parameters,
    parameters_of,
    result_of,
    train_in_processes,
    train_killed_and_resumed,
    trainer_for,
)

from modeling_docre import DocREForRelationExtraction, DocREProcessor, Document
from modeling_docre.distillation import Teacher, distill_files
from modeling_docre.model_card_facts import plain
from modeling_docre.output_files import DataFileError
from modeling_docre.recipes import build_trainer, load_recipe
from modeling_docre.soft_labels import (
    INDEX,
    MANIFEST,
    DocumentSoftLabels,
    SoftLabelStore,
    document_digest,
    pack,
)
from modeling_docre.training import DocRETrainer

COUNT = 20
# Chunks of eight documents.
OPTIONS = {"batch_size": 1}


def story(number: int) -> dict:
    """A document like no other: the first nine of `fictional`, and then these with the weather."""
    document = fictional(number)
    if number >= 9:
        document["sents"].append(["It", "rained", str(number), "."])
    return document


def teach(encoder: Path, seed: int = 3, **settings) -> tuple[DocREForRelationExtraction, DocREProcessor]:
    """A model whose logits differ enough to be told apart."""
    relations = settings.pop("relations", RELATIONS)
    torch.manual_seed(seed)
    settings = {"emb_size": 16, "block_size": 4, **settings}
    model = DocREForRelationExtraction.from_encoder(str(encoder), relations=relations, **settings)
    torch.nn.init.normal_(model.head.classifier.weight, std=2.0)
    return model, DocREProcessor.from_encoder(str(encoder), config=model.config)


def plain_logits(member, documents) -> list[torch.Tensor]:
    """What a model gives each document alone."""
    model, processor = member
    found = []
    for document in documents:
        batch = processor.collate(processor([document], strict=False))
        batch.pop("labels", None)
        with torch.no_grad():
            found.append(model.eval()(**batch).logits)
    return found


def ask(teacher: Teacher, documents, config=None) -> list[torch.Tensor]:
    features = teacher.features(documents)
    batch = teacher.members[0].processor.collate(features[0])
    logits = teacher.logits(features, batch["pairs"], config)
    return list(logits.split([len(item["pairs"]) for item in features[0]]))


@pytest.fixture(scope="module")
def stories() -> list[Document]:
    return [Document.from_docred(story(number)) for number in range(COUNT)]


@pytest.fixture
def files(tmp_path) -> Path:
    path = tmp_path / "stories.jsonl"
    path.write_text("".join(json.dumps(story(number)) + "\n" for number in range(COUNT)))
    return path


@pytest.fixture(scope="module")
def member(tiny_bert_dir):
    return teach(tiny_bert_dir)


@pytest.fixture(scope="module")
def saved(member, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    for part in member:
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def store(member, files, tmp_path) -> SoftLabelStore:
    distill_files(Teacher([member]), files, tmp_path / "store", **OPTIONS)
    return SoftLabelStore(tmp_path / "store")


# The teacher


def test_a_teacher_answers_without_dropout_and_without_a_gradient(tiny_bert_dir, stories):
    member = teach(tiny_bert_dir)
    expected = plain_logits(member, stories[:5])
    member[0].train()
    before = torch.get_rng_state()
    found = ask(Teacher([member]), stories[:5])
    assert torch.equal(before, torch.get_rng_state())
    for one, other in zip(found, expected, strict=True):
        assert not one.requires_grad and one.dtype == torch.float32
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_teacher_that_was_saved_in_half_precision_answers_in_float32(tiny_bert_dir, stories, tmp_path, kind):
    member = teach(tiny_bert_dir)
    member[0].to(kind)
    for part in member:
        part.save_pretrained(tmp_path)
    teacher = Teacher.from_pretrained(tmp_path, "cpu")
    assert teacher.members[0].model.dtype == torch.float32
    assert Teacher([member]).members[0].model.dtype == torch.float32
    for one, other in zip(ask(teacher, stories[:3]), plain_logits(member, stories[:3]), strict=True):
        torch.testing.assert_close(one, other)


def test_a_teacher_leaves_out_no_pair(tiny_bert_dir, stories):
    settings = {"method": "paee", "marker_style": "asterisk", "unet_width": 8, "unet_outputs": 8}
    member = teach(tiny_bert_dir, **settings)
    batch = member[1].collate(member[1](stories[:5]))
    expected = plain_logits(member, stories[:5])
    # Half of the pairs seem to have no relation then.
    member[0].config.prune_threshold = float(member[0].eval()(**batch).potential_pairs.detach().median())
    pruned = plain_logits(member, stories[:5])
    assert any(not torch.equal(one, other) for one, other in zip(pruned, expected, strict=True))
    for one, other in zip(ask(Teacher([member]), stories[:5]), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_an_ensemble_is_the_mean_of_its_members(tiny_bert_dir, tiny_roberta_dir, stories):
    # Another tokenizer, another order of relations, entity types and their markers.
    others = list(reversed(RELATIONS))
    members = [
        teach(tiny_bert_dir),
        teach(tiny_roberta_dir, 4, relations=others),
        teach(tiny_bert_dir, 5, use_entity_types=True, entity_types=["PER", "LOC"], marker_style="typed"),
    ]
    order = [0, 3, 2, 1]
    alone = [plain_logits(each, stories[:4]) for each in members]
    expected = [(first + second[:, order] + third) / 3 for first, second, third in zip(*alone, strict=True)]
    for one, other in zip(ask(Teacher(members), stories[:4]), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_relations_are_matched_by_their_ids(member, tiny_bert_dir, stories):
    student, _ = make(tiny_bert_dir)
    order = ["rules", "born_in", "part_of"]
    config = type(student.config).for_method("atlop", order, emb_size=16, block_size=4)
    (found,), (plain,) = ask(Teacher([member]), stories[2:3], config), plain_logits(member, stories[2:3])
    torch.testing.assert_close(found, plain[:, [0, 3, 1, 2]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relations": [*RELATIONS, "loves"]}, "the student lacks 'loves'. Make"),
        ({"relations": RELATIONS[:2]}, "The teacher lacks 'rules'. Make"),
        (
            {"relations": {"a": "likes", **dict.fromkeys(RELATIONS[1:], "x")}},
            "lacks 'born_in'; the student lacks 'a' ",
        ),
        ({"method": "docunet", "unet_width": 8, "unet_outputs": 8}, "decides by 'zero', the student by 'threshold"),
        ({"pair_types": [["PER", "LOC"]]}, "nobody taught the teacher the others"),
    ],
)
def test_a_teacher_of_something_else_is_refused(tiny_bert_dir, tmp_path, settings, message):
    teacher = Teacher([teach(tiny_bert_dir, **settings)])
    with pytest.raises(ValueError, match=message):
        trainer_for(tiny_bert_dir, tmp_path, trainer={"teacher": teacher})


def test_a_student_is_not_its_own_teacher(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path)
    teacher = Teacher([teach(tiny_bert_dir), (trainer.model, trainer.processing_class)])
    with pytest.raises(ValueError, match=r"a model of its own teacher.*Teacher\.from_pretrained"):
        DocRETrainer(
            trainer.model,
            trainer.args,
            train_dataset=[fictional(1)],
            processing_class=trainer.processing_class,
            teacher=teacher,
        )


def test_members_of_an_ensemble_must_go_together(tiny_bert_dir):
    first = teach(tiny_bert_dir)
    with pytest.raises(ValueError, match="Member 1 of the teacher lacks 'rules'"):
        Teacher([first, teach(tiny_bert_dir, relations=RELATIONS[:2])])
    with pytest.raises(ValueError, match="have different candidates"):
        Teacher([first, teach(tiny_bert_dir, pair_types=[["PER", "LOC"]])])
    with pytest.raises(ValueError, match="needs a model"):
        Teacher([])


# The store


def test_a_store_gives_what_the_teacher_gave_in_half_precision(store, member, stories):
    assert len(store) == COUNT
    rows = store.find(stories)
    for row, expected in zip(rows.tolist(), plain_logits(member, stories), strict=True):
        found = store.read(row)
        assert found.dtype == torch.float16
        torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-3)
    about = json.loads((store.folder / MANIFEST).read_text())
    assert about["relations"] == RELATIONS and about["format"] == 2 and len(about["teachers"]) == 1
    assert sorted(path.name for path in store.folder.iterdir()) == sorted([INDEX, *about["shards"], MANIFEST])


def test_pairs_come_in_the_order_that_is_asked_for(store, stories):
    place = 2
    (row,) = store.find(stories[place : place + 1])
    everything = store.read(row)
    pairs = list(itertools.permutations(range(len(stories[place].entities)), 2))
    wanted = [pairs[7], pairs[0], pairs[7], pairs[3]]
    assert torch.equal(store.read(row, wanted), everything[[7, 0, 7, 3]])
    assert store.read(row, []).shape == (0, 4)
    with pytest.raises(DataFileError, match=r"lacks 1 of 2 pairs of a document, such as \(1, 1\)"):
        store.read(row, [(0, 1), (1, 1)])


def test_a_document_is_known_by_what_models_read(stories):
    document = replace(stories[2], relations=None)
    same = replace(document, title="Another", relations=(), pairs=((0, 1),))
    assert document_digest(same) == document_digest(document) and len(document_digest(document)) == 16
    others = [
        replace(document, entities=document.entities[:-1]),
        replace(document, entities=document.entities[::-1]),
        replace(document, entities=(replace(document.entities[0], type="ORG"), *document.entities[1:])),
        Document.from_docred({**fictional(2), "sents": [*fictional(2)["sents"], ["Bo", "left", "."]]}),
    ]
    assert len({document_digest(other) for other in [document, *others]}) == 5


def test_shards_are_of_a_limited_size_and_hold_the_same(store, member, files, tmp_path, stories):
    distill_files(Teacher([member]), files, tmp_path / "many", **OPTIONS, shard_bytes=300)
    many = SoftLabelStore(tmp_path / "many")
    sizes = [(many.folder / name).stat().st_size for name in many.manifest["shards"]]
    assert list(many.manifest["shards"])[:2] == ["part-00000", "part-00000-00001"] and len(sizes) == 3
    for one, other in zip(store.find(stories), many.find(stories), strict=True):
        assert torch.equal(store.read(one), many.read(other))


def test_candidates_and_documents_without_pairs(member, tmp_path, tiny_bert_dir):
    whole = Document.from_docred(fictional(2))
    documents = [
        replace(whole, pairs=((3, 2), (0, 1))),
        replace(Document.from_docred(fictional(1)), pairs=()),
        Document.from_markup("[Ada](:PER) slept."),
        Document.from_text("Nobody came."),
    ]
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(document.to_docred()) + "\n" for document in documents))
    report = distill_files(Teacher([member]), path, tmp_path / "store")
    store = SoftLabelStore(tmp_path / "store")
    assert report.counts["documents"] == len(store) == 4 and store.manifest["pairs"] == 2
    rows = store.find(documents).tolist()
    assert [len(store.read(row)) for row in rows] == [2, 0, 0, 0]
    (expected,) = plain_logits(member, documents[:1])
    found = store.read(rows[0], [(0, 1), (3, 2)])
    torch.testing.assert_close(found.float(), expected[[1, 0]], rtol=1e-3, atol=1e-3)
    with pytest.raises(DataFileError, match="lacks 1 of 1 pairs"):
        store.read(rows[0], [(1, 0)])
    with pytest.raises(DataFileError, match="lacks 1 of 1 pairs"):
        store.read(rows[1], [(0, 1)])


KILLED = """
import os, signal, sys, torch
from modeling_docre import distillation
torch.set_num_threads(1)
left, original = int(sys.argv[4]), distillation.pack
def pack(*arguments):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
distillation.pack = pack
distillation.distill_files(
    distillation.Teacher.from_pretrained(sys.argv[1], "cpu"), sys.argv[2], sys.argv[3], batch_size=1, shard_bytes=300
)
"""


def test_a_run_that_was_killed_goes_on_to_the_same_store(saved, files, tmp_path):
    output = tmp_path / "store"
    # In the midst of the third chunk of eight documents.
    (tmp_path / "killed.py").write_text(KILLED)
    ended = run_python(tmp_path / "killed.py", saved, files, output, 18)
    assert ended.returncode == -signal.SIGKILL and not output.exists()
    with open(tmp_path / "store.partial" / "part-00000-00001", "ab") as part:
        part.write(b"half a document")
    with pytest.raises(DataFileError, match="To go on after them, pass resume=True"):
        distill_files(Teacher.from_pretrained(str(saved), "cpu"), files, output, **OPTIONS, shard_bytes=300)
    with pytest.raises(DataFileError, match="pass --resume to the same `docre distill`"):
        SoftLabelStore(output)
    teacher = Teacher.from_pretrained(str(saved), "cpu")
    report = distill_files(teacher, files, output, resume=True, **OPTIONS, shard_bytes=300)
    assert (report.documents, report.counts["documents"]) == (4, COUNT)
    distill_files(teacher, files, tmp_path / "straight", **OPTIONS, shard_bytes=300)
    names = sorted(path.name for path in output.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "straight").iterdir())
    for name in names:
        assert (output / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


@pytest.mark.parametrize("passed", ["object", "argument"])
def test_the_card_names_the_teacher(tiny_bert_dir, saved, tmp_path, passed):
    teacher = {"trainer": {"teacher": Teacher.from_pretrained(saved, "cpu")}} if passed == "object" else {}
    arguments = {} if teacher else {"teacher": [str(saved)]}
    trainer = trainer_for(tiny_bert_dir, tmp_path / "run", **teacher, **arguments, max_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert plain(f"['{saved.name}']") in card and str(saved.parent) not in card


def test_a_teacher_reads_no_altered_text(tiny_bert_dir, member, tmp_path):
    with pytest.raises(ValueError, match="learn without teacher"):
        trainer_for(tiny_bert_dir, tmp_path, trainer={"teacher": Teacher([member])}, text_augmentation="deletion")
    with pytest.raises(ValueError, match="learn without soft_labels"):
        trainer_for(tiny_bert_dir, tmp_path, soft_labels=str(tmp_path / "store"), text_augmentation="deletion")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "source"),
    [([], "teacher"), ([], "soft_labels"), (["--method=era", "--mask_probability=0"], "teacher")],
)
def test_students_learn_alike_in_two_processes_and_in_one(saved, store, tiny_bert_dir, tmp_path, options, source):
    # Nine documents, one a batch: in the last step, one process has a filler. No token is left out of contexts, since
    # processes draw from generators of their own.
    options = [*options, f"--{source}={saved if source == 'teacher' else store.folder}"]
    train_in_processes(tiny_bert_dir, tmp_path / "one", *options, "--batch=2")
    train_in_processes(tiny_bert_dir, tmp_path / "two", *options, "--batch=1", processes=2)
    first, second = (parameters_of(tmp_path / name) for name in ("one", "two"))
    assert_close(first, second, 1e-6)
    assert result_of(tmp_path / "one")["losses"] == pytest.approx(result_of(tmp_path / "two")["losses"], abs=1e-5)
    assert result_of(tmp_path / "one")["losses"] != pytest.approx(result_of(tmp_path / "one")["parts"], abs=1e-3)


@pytest.mark.slow
def test_a_killed_student_resumes_to_the_same_numbers(saved, tiny_bert_dir, tmp_path):
    options = ["--batch=2", "--dropout", f"--teacher={saved}"]
    train_in_processes(tiny_bert_dir, tmp_path / "straight", *options, "--save_steps=3")
    train_killed_and_resumed(tiny_bert_dir, tmp_path / "killed", *options)
    straight, resumed = (parameters_of(tmp_path / name) for name in ("straight", "killed"))
    assert_close(straight, resumed, 0.0)


@pytest.mark.slow
def test_two_processes_write_one_store(saved, files, store, stories, tmp_path):
    command = ("-m", "modeling_docre.cli", "distill", files, "--model", saved, "-o", tmp_path / "two")
    ran = run_python(*command, "--batch-size", 1, "--device", "cpu", processes=2)
    assert ran.returncode == 0, ran.stderr
    two = SoftLabelStore(tmp_path / "two")
    assert list(two.manifest["shards"]) == ["part-00000", "part-00001"] and len(two) == COUNT
    for one, other in zip(store.find(stories), two.find(stories), strict=True):
        assert torch.equal(store.read(one), two.read(other))


def test_a_run_goes_on_only_as_what_it_was(saved, member, files, tmp_path, tiny_bert_dir, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # The last moment: index and manifest are written, the folder has its old name.
        patch.setattr(Path, "rename", fail)
        with pytest.raises(KeyboardInterrupt):
            distill_files(Teacher([member]), files, tmp_path / "store", **OPTIONS)
    other = Teacher([teach(tiny_bert_dir, 9)])
    with pytest.raises(DataFileError, match="is of another run: teachers changed since"):
        distill_files(other, files, tmp_path / "store", resume=True, **OPTIONS)
    report = distill_files(Teacher([member]), files, tmp_path / "store", resume=True, **OPTIONS)
    assert report.documents == 0 and report.counts["documents"] == COUNT
    assert len(SoftLabelStore(tmp_path / "store")) == COUNT
    with pytest.raises(DataFileError, match=r"is there already, and whole: training\.soft_labels may read it"):
        distill_files(Teacher([member]), files, tmp_path / "store", **OPTIONS)


def test_documents_that_are_alike_are_there_once(member, tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text("".join(json.dumps(fictional(number)) + "\n" for number in (0, 1, 0)))
    distill_files(Teacher([member]), path, tmp_path / "store")
    assert len(SoftLabelStore(tmp_path / "store")) == 2


def test_documents_that_are_alike_but_for_their_candidates_are_all_there(member, tmp_path):
    whole = Document.from_docred(fictional(2))
    candidates = ((), ((2, 0),), ((0, 1), (2, 0)), ((1, 2), (0, 1)), ((3, 0),), ((2, 0),))
    documents = [replace(whole, pairs=pairs) for pairs in candidates]
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(document.to_docred()) + "\n" for document in documents))
    distill_files(Teacher([member]), path, tmp_path / "store")
    store = SoftLabelStore(tmp_path / "store")
    (row,) = set(store.find(documents).tolist())
    (expected,) = plain_logits(member, [whole])
    everything = dict(zip(itertools.permutations(range(len(whole.entities)), 2), expected, strict=True))
    assert (len(store), store.manifest["blocks"]) == (1, 5), "the candidates of one of them are there twice"
    # In the order of the blocks backwards, in theirs, and so that pairs are in several.
    for pairs in (*candidates, ((3, 0), (0, 1), (1, 2)), ((0, 1), (2, 0), (3, 0)), ((3, 0), (2, 0)), ((2, 0), (3, 0))):
        wanted = torch.stack([everything[pair] for pair in pairs]) if pairs else torch.zeros(0, len(RELATIONS) + 1)
        torch.testing.assert_close(store.read(row, pairs).float(), wanted, rtol=1e-3, atol=1e-3)
    with pytest.raises(DataFileError, match="lacks 1 of 2 pairs of a document, such as \\(3, 1\\)"):
        store.read(row, [(0, 1), (3, 1)])
    with open(path, "a") as stream:
        stream.write(json.dumps(whole.to_docred()) + "\n")
    distill_files(Teacher([member]), path, tmp_path / "whole")
    assert len(SoftLabelStore(tmp_path / "whole")) == 1, "that one has all pairs"


def damage(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: damage(folder / "part-00000"), r"part-00000 has changed: the store is damaged. Copy it again"),
        (lambda folder: (folder / "part-00000").write_bytes(b"short"), "has 5 bytes, and had "),
        (lambda folder: (folder / "part-00000").unlink(), "part-00000 is missing"),
        (lambda folder: (folder / INDEX).write_bytes(b"nothing"), "index.npy is no index of"),
        (lambda folder: np.save(folder / INDEX, np.zeros(3)), "index.npy is no index of"),
        (lambda folder: (folder / MANIFEST).unlink(), f"it has no {MANIFEST}. Write one: `docre distill"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "is not JSON"),
        (lambda folder: (folder / MANIFEST).write_text('{"format": 1}'), "has format 1, and this version .* reads 2"),
    ],
)
def test_damage_is_named_with_the_way_out(store, stories, harm, message):
    harm(store.folder)
    with pytest.raises(DataFileError, match=message):
        again = SoftLabelStore(store.folder)
        for row in again.find(stories):
            again.read(row)


def test_logits_that_half_precision_can_not_hold_are_refused(stories):
    pairs = list(itertools.permutations(range(len(stories[0].entities)), 2))
    for value in (1e5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="half precision can't hold"):
            pack(stories[0], pairs, torch.full((len(pairs), 4), value))
    assert pack(stories[0], pairs, torch.full((len(pairs), 4), 65504.0))


def test_a_store_that_is_pickled_leaves_its_maps_behind(store, stories):
    store.read(0)
    again = pickle.loads(pickle.dumps(store))
    assert store._maps and not again._maps
    assert torch.equal(again.read(0), store.read(0))


def test_a_store_is_no_input_and_nothing_can_not_be_distilled(store, member, files, tmp_path):
    shutil.copytree(store.folder, tmp_path / "documents" / "store")
    shutil.copy(files, tmp_path / "documents")
    report = distill_files(Teacher([member]), tmp_path / "documents", tmp_path / "again", **OPTIONS)
    assert report.counts["documents"] == COUNT and report.counts["files that are no documents"] == 3
    with pytest.raises(DataFileError, match="can be read only once"):
        distill_files(Teacher([member]), "-", tmp_path / "other")


def test_bfloat16_is_close_and_another_run(member, store, files, tmp_path, stories):
    distill_files(Teacher([member]), files, tmp_path / "rounded", **OPTIONS, bf16=True)
    rounded = SoftLabelStore(tmp_path / "rounded")
    assert (store.manifest["precision"], rounded.manifest["precision"]) == ("float32", "bfloat16")
    exact, close = (each.read(each.find(stories[2:3])[0]).float() for each in (store, rounded))
    torch.testing.assert_close(close, exact, rtol=0.1, atol=0.1)
    assert not torch.equal(close, exact)


# Training


def history(trainer: DocRETrainer) -> list[dict[str, float]]:
    names = ("loss", "loss_atl", "loss_distillation")
    return [
        {name: entry[name] for name in names} for entry in trainer.state.log_history if "loss_distillation" in entry
    ]


def test_training_on_the_fly_and_from_a_store_is_the_same(tiny_bert_dir, member, store, tmp_path):
    trained = []
    for trainer, settings in (({"teacher": Teacher([member])}, {}), ({}, {"soft_labels": str(store.folder)})):
        one = trainer_for(tiny_bert_dir, tmp_path, trainer=trainer, optim="sgd", **settings)
        one.train()
        trained.append((history(one), parameters(one.model)))
    (taught, first), (read, second) = trained
    assert len(taught) == 6
    for one, other in zip(taught, read, strict=True):
        assert one == pytest.approx(other, rel=2e-3)
        assert one["loss"] == pytest.approx(one["loss_atl"] + one["loss_distillation"], rel=1e-4)
    assert_close(first, second, 2e-3)


def test_a_student_comes_to_answer_as_its_teacher(tiny_bert_dir, member, tmp_path, stories):
    settings = {"model_settings": {"distillation_weight": 50.0}, "num_train_epochs": 30}
    trainer = trainer_for(tiny_bert_dir, tmp_path, trainer={"teacher": Teacher([member])}, **settings)

    def distance() -> float:
        own = plain_logits((trainer.model, trainer.processing_class), stories[:9])
        wanted = plain_logits(member, stories[:9])
        return float(torch.stack([(a - b).square().mean() for a, b in zip(own, wanted, strict=True)]).mean())

    before = distance()
    trainer.train()
    assert distance() < 0.2 * before


def test_without_a_weight_training_is_the_plain_one_to_the_bit(tiny_bert_dir, member, tmp_path):
    trained = []
    nothing = {"model_settings": {"distillation_weight": 0.0}}
    for trainer, settings in (
        ({}, {}),
        ({"teacher": Teacher([member])}, nothing),
        ({}, {**nothing, "soft_labels": str(tmp_path / "absent")}),
    ):
        one = trainer_for(tiny_bert_dir, tmp_path, trainer=trainer, dropout=True, **settings)
        one.train()
        trained.append(parameters(one.model))
    for other in trained[1:]:
        assert all(torch.equal(trained[0][name], other[name]) for name in other)


def test_accumulation_equals_one_large_batch_with_a_teacher(tiny_bert_dir, member, tmp_path):
    trained = []
    for batch, accumulate in ((4, 1), (1, 4)):
        one = trainer_for(
            tiny_bert_dir, tmp_path, 8, trainer={"teacher": Teacher([member])}, optim="sgd",
            per_device_train_batch_size=batch, gradient_accumulation_steps=accumulate,
        )  # fmt: skip
        one.train()
        trained.append((history(one), parameters(one.model)))
    for one, other in zip(trained[0][0], trained[1][0], strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert_close(trained[0][1], trained[1][1], 1e-5)


@pytest.mark.parametrize("source", ["teacher", "store"])
def test_training_with_a_teacher_resumes_exactly(tiny_bert_dir, member, store, tmp_path, source):
    def build(folder: str, **settings) -> DocRETrainer:
        given = {"soft_labels": str(store.folder)} if source == "store" else {}
        own = {} if source == "store" else {"teacher": Teacher([member])}
        return trainer_for(tiny_bert_dir, tmp_path / folder, dropout=True, trainer=own, **given, **settings)

    straight = build("straight")
    straight.train()
    build("resumed", save_strategy="steps", save_steps=4).train()
    shutil.rmtree(tmp_path / "resumed" / "checkpoint-6")
    resumed = build("resumed", save_strategy="steps", save_steps=4)
    resumed.train(resume_from_checkpoint=True)
    first, second = parameters(straight.model), parameters(resumed.model)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert history(resumed) == history(straight)


def test_evaluation_has_no_teacher(tiny_bert_dir, member, tmp_path):
    plain = trainer_for(tiny_bert_dir, tmp_path).evaluate()["eval_loss"]
    assert (
        trainer_for(tiny_bert_dir, tmp_path, trainer={"teacher": Teacher([member])}).evaluate()["eval_loss"] == plain
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_documents_without_pairs_train_from_a_store(tiny_bert_dir, member, tmp_path, workers):
    documents = [
        Document.from_docred(fictional(2)),
        replace(Document.from_docred(fictional(1)), pairs=((1, 0), (0, 1))),
        replace(Document.from_markup("[Ada](:PER) slept."), relations=()),
        replace(Document.from_text("Nobody came."), relations=()),
    ]
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(replace(one, pairs=None).to_docred()) + "\n" for one in documents))
    distill_files(Teacher([member]), path, tmp_path / "store")
    losses = []
    for given, own in (({"soft_labels": str(tmp_path / "store")}, {}), ({}, {"teacher": Teacher([member])})):
        trainer = trainer_for(
            tiny_bert_dir, tmp_path, per_device_train_batch_size=1, dataloader_num_workers=workers, **given,
            trainer={"train_dataset": documents, "eval_dataset": None, **own},
        )  # fmt: skip
        trainer.train()
        losses.append(history(trainer))
    assert len(losses[0]) == 8
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, rel=5e-3, abs=1e-4)


def test_documents_that_a_store_lacks_are_counted(tiny_bert_dir, store, tmp_path):
    documents = [fictional(number) for number in (0, 1)]
    documents[1]["sents"][0][0] = "Zoe"
    message = r"lacks 1 of 2 training documents, the first of them number 1 \('Story 1'\).*`docre distill FILE"
    with pytest.raises(DataFileError, match=message):
        trainer_for(tiny_bert_dir, tmp_path, soft_labels=str(store.folder), trainer={"train_dataset": documents})


def test_a_store_of_other_relations_is_refused(store, stories, tiny_bert_dir):
    config = make(tiny_bert_dir)[0].config
    other = type(config).for_method("atlop", [*RELATIONS, "loves"], emb_size=16, block_size=4)
    with pytest.raises(ValueError, match=r"The teacher of .*store and its student .* lacks 'loves'"):
        DocumentSoftLabels(store, stories, other)


def test_a_store_is_read_in_the_order_of_the_students_relations(store, stories, tiny_bert_dir):
    student, _ = teach(tiny_bert_dir, relations=[RELATIONS[2], RELATIONS[0], RELATIONS[1]])
    pairs = list(itertools.permutations(range(len(stories[3].entities)), 2))
    written = store.read(int(store.find(stories[3:4])[0]), pairs)
    assert len(set(written.T.tolist()[0])) > 1 and not torch.equal(written[:, 1], written[:, 3])
    assert torch.equal(DocumentSoftLabels(store, stories, student.config)(3, pairs), written[:, [0, 3, 1, 2]])


def test_one_teacher_at_a_time(tiny_bert_dir, member, saved, store, tmp_path):
    with pytest.raises(ValueError, match="A student has one teacher"):
        trainer_for(tiny_bert_dir, tmp_path, teacher=str(saved), soft_labels=str(store.folder))
    with pytest.raises(ValueError, match="A student has one teacher"):
        trainer_for(tiny_bert_dir, tmp_path, teacher=str(saved), trainer={"teacher": Teacher([member])})
    with pytest.raises(TypeError, match=r"pass Teacher\.from_pretrained"):
        trainer_for(tiny_bert_dir, tmp_path, trainer={"teacher": member[0]})


# Commands and recipes


def test_distill_and_train_from_the_command_line(docre, saved, files, tiny_bert_dir, tmp_path, monkeypatch):
    output = tmp_path / "store"
    ran = docre("distill", files, "--model", saved, "--model", saved, "-o", output, "--batch-size", 1)
    assert ran.code == 0, ran.err
    assert f"documents: {COUNT}" in ran.err and "documents/s" in ran.err and "relations" not in ran.err
    assert len(SoftLabelStore(output).manifest["teachers"]) == 2
    ran = docre("distill", files, "--model", saved, "-o", output)
    assert ran.code == 1 and "is there already" in ran.err
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"output_dir: {tmp_path}/student\n"
        f"model: {{encoder: {tiny_bert_dir}, method: kd-docre, emb_size: 16, block_size: 4, axial_layers: 1}}\n"
        f"data: {{train: {files}}}\n"
        "training: {use_cpu: true, max_steps: 2, save_strategy: 'no', soft_labels: '${HERE}/store'}\n"
    )
    monkeypatch.setenv("HERE", str(tmp_path))
    ran = docre("train", recipe)
    assert ran.code == 0, ran.err
    # On the fly, by name; and on, without a teacher, from what came out.
    taught = build_trainer(
        load_recipe(recipe, ["--soft_labels=null", "--teacher=['${HERE}/student', " + f"'{saved}']"])
    )
    assert len(taught._teacher.members) == 2
    changes = {"soft_labels": None, "model": {"checkpoint": f"{tmp_path}/student"}}
    plain = build_trainer(load_recipe(recipe, changes))
    assert plain._teacher is None and plain.model.config.distillation_weight == 1.0


def test_what_is_pickled_names_no_folder_of_a_teacher(tmp_path, tiny_bert_dir, saved):
    args = trainer_for(tiny_bert_dir, tmp_path, teacher=[str(saved), "runs/here/other"][:1]).args
    assert pickle.loads(pickle.dumps(args)).teacher == [saved.name] and args.teacher == [str(saved)]
