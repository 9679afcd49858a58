from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers
from transformers import pipeline

from modeling_docre import DocREForRelationExtraction, DocREPipeline, DocREProcessor, Document, DocumentError

ADA = {
    "title": "Ada",
    "text": "Ada was born in London. She studied in Paris.",
    "entities": [
        {"name": "Ada", "type": "PER", "mentions": [{"start": 24, "end": 27}, {"start": 0, "end": 3}]},
        {"type": "LOC", "mentions": [{"start": 39, "end": 44}]},
        {"type": "LOC", "mentions": [{"start": 16, "end": 22}]},
    ],
}
# The same words; DocRED's form counts in them.
ADA_IN_WORDS = {
    "title": "Ada",
    "sents": [["Ada", "was", "born", "in", "London", "."], ["She", "studied", "in", "Paris", "."]],
    "vertexSet": [
        [
            {"name": "Ada", "sent_id": 1, "pos": [0, 1], "type": "PER"},
            {"name": "Ada", "sent_id": 0, "pos": [0, 1], "type": "PER"},
        ],
        [{"name": "Paris", "sent_id": 1, "pos": [3, 4], "type": "LOC"}],
        [{"name": "London", "sent_id": 0, "pos": [4, 5], "type": "LOC"}],
    ],
}


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint: Path) -> DocREPipeline:
    return pipeline("docre", model=str(tiny_checkpoint), device="cpu")


def story(number: int) -> dict[str, Any]:
    """A document of a length and with a number of entities that depend on its number; 0 and 1 entity occur."""
    names = ["Ada", "Bo", "Cleo", "Dag", "Eva"][: number % 6]
    text = "".join(f"{name} was born in the city. " for name in names) + "The River was old. " * (number % 7)
    text = text or "Nothing happened."
    mentions = [(text.index(name), name) for name in names]
    return {
        "text": text,
        "entities": [
            {"type": "PER", "mentions": [{"start": start, "end": start + len(name)}]} for start, name in mentions
        ],
    }


def facts(answer: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(item["head"], item["tail"], item["relation"]) for item in answer["relations"]]


def assert_same(answer: dict[str, Any], other: dict[str, Any]) -> None:
    scores = [{(r["head"], r["tail"], r["relation"]): r["score"] for r in a["relations"]} for a in (answer, other)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert {**answer, "relations": []} == {**other, "relations": []}


# ---------------------------------------------------------------------------------------------------------------------
# What goes in, what comes out
# ---------------------------------------------------------------------------------------------------------------------


def test_answer_is_the_whole_contract(pipe):
    answer = pipe(ADA, threshold=0.0)
    assert set(answer) == {"entities", "relations", "sentences", "coverage"}
    assert answer["entities"] == [
        {
            "id": 0,
            "name": "Ada",
            "type": "PER",
            "mentions": [
                {"start": 24, "end": 27, "text": "She", "sentence": 1},
                {"start": 0, "end": 3, "text": "Ada", "sentence": 0},
            ],
        },
        {
            "id": 1,
            "name": "Paris",
            "type": "LOC",
            "mentions": [{"start": 39, "end": 44, "text": "Paris", "sentence": 1}],
        },
        {
            "id": 2,
            "name": "London",
            "type": "LOC",
            "mentions": [{"start": 16, "end": 22, "text": "London", "sentence": 0}],
        },
    ]
    assert answer["sentences"] == [[0, 23], [24, 45]]
    names = ["Ada", "Paris", "London"]
    labels = {"P17": "country", "P131": "located in", "P27": "country of citizenship"}
    assert len(answer["relations"]) == 6 * 3
    for relation in answer["relations"]:
        assert list(relation) == [
            *("head", "tail", "head_name", "tail_name", "relation", "label", "score", "evidence"),
        ]
        assert (relation["head_name"], relation["tail_name"]) == (names[relation["head"]], names[relation["tail"]])
        assert relation["label"] == labels[relation["relation"]]
        assert set(relation["evidence"]) <= {0, 1}
    scores = [relation["score"] for relation in answer["relations"]]
    assert scores == sorted(scores, reverse=True)
    assert json.loads(json.dumps(answer)) == answer


def test_score_is_the_sigmoid_of_the_distance_to_the_threshold_class(pipe):
    document = Document.from_dict(ADA)
    with torch.no_grad():
        output = pipe.model(**pipe.processor.collate(pipe.processor([document])))
    answer = pipe(document, threshold=0.0)
    for relation in answer["relations"]:
        row = output.pairs.tolist().index([0, relation["head"], relation["tail"]])
        logits = output.logits[row]
        class_id = pipe.model.config.relations.index(relation["relation"]) + 1
        assert relation["score"] == pytest.approx(float(torch.sigmoid(logits[class_id] - logits[0])), abs=1e-5)


def test_three_forms_of_one_document_agree(pipe):
    from_text, from_words = pipe(ADA, threshold=0.0), pipe(ADA_IN_WORDS, threshold=0.0)
    from_document = pipe(Document.from_dict(ADA), threshold=0.0)
    assert from_document.pop("text") == ADA["text"]
    assert_same(from_text, from_document)
    assert facts(from_text) == facts(from_words)
    assert "text" not in from_text
    assert from_words["text"] == "Ada was born in London . She studied in Paris ."
    for entity in from_words["entities"]:
        for mention in entity["mentions"]:
            assert from_words["text"][mention["start"] : mention["end"]] == mention["text"]


def test_offsets_count_in_the_text_that_comes_back_where_words_were_read(pipe):
    # A dict may hold a text of its own beside the words that are read.
    answer = pipe({**ADA_IN_WORDS, "text": "something else"})
    assert answer["text"] == "Ada was born in London . She studied in Paris ."


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("👩‍👩‍👧 Zoë 🎸 met Bo in Łódź 🇵🇱 today.", ["👩‍👩‍👧 Zoë", "Bo", "Łódź", "🇵🇱"]),
        ("Rene\u0301e lived in A\u030angstrom\u0323ville.", ["Rene\u0301e", "A\u030angstrom\u0323ville"]),
        ("וולדימיר נולד בעיר חיפה. הוא גר בתל אביב.", ["וולדימיר", "חיפה", "תל אביב"]),
        ("وُلدت مريم في القاهرة، مصر.", ["مريم", "القاهرة", "مصر"]),
        ("王小明在北京出生。他住在中国上海。", ["王小明", "北京", "中国", "上海"]),
        ("The * in a*b and **Ada** of *Paris*.", ["a*b", "**Ada**", "*Paris*"]),
        ("Ada\tlived\r\n  in\u00a0London\u3000.", ["Ada", "London"]),
        ("𝔄𝔡𝔞 in 𐍈𐍉.", ["𝔄𝔡𝔞", "𐍈𐍉"]),
    ],
)
def test_offsets_are_the_callers_own_characters(pipe, text, mentions):
    places = [(text.index(mention), text.index(mention) + len(mention)) for mention in mentions]
    entities = [{"mentions": [{"start": start, "end": end}]} for start, end in places]
    answer = pipe({"text": text, "entities": entities}, threshold=0.0)
    assert [entity["name"] for entity in answer["entities"]] == mentions
    for entity, (start, end) in zip(answer["entities"], places, strict=True):
        (found,) = entity["mentions"]
        assert (found["start"], found["end"], found["text"]) == (start, end, text[start:end])
        first, last = answer["sentences"][found["sentence"]]
        assert first <= start < end <= last
    assert len(answer["relations"]) == len(mentions) * (len(mentions) - 1) * 3


def test_entities_keep_order_and_ids_whatever_their_place(pipe):
    text = "The University of Vienna opened. Vienna grew."
    spans = [(33, 39), (4, 24), (18, 24), (4, 24)]
    entities = [{"name": f"e{number}", "mentions": [{"start": a, "end": b}]} for number, (a, b) in enumerate(spans)]
    entities[2]["id"] = "Q1741"
    answer = pipe({"text": text, "entities": entities}, threshold=0.0)
    assert [(entity["id"], entity["name"]) for entity in answer["entities"]] == [(n, f"e{n}") for n in range(4)]
    # What a knowledge base calls an entity comes back, and results are documents again.
    assert [entity.get("ids") for entity in answer["entities"]] == [None, None, ["Q1741"], None]
    again = Document.from_dict(answer | {"text": text})
    assert [entity.ids for entity in again.entities] == [(), (), ("Q1741",), ()]
    assert "entity with an id that is not a string" not in dict(again.repairs)
    pairs = {(relation["head"], relation["tail"]) for relation in answer["relations"]}
    assert pairs == {(head, tail) for head in range(4) for tail in range(4) if head != tail}


def test_gold_relations_play_no_part(pipe):
    labelled = {**ADA_IN_WORDS, "labels": [{"h": 0, "t": 1, "r": "no such relation", "evidence": [0]}]}
    assert_same(pipe(labelled), pipe(ADA_IN_WORDS))


def test_candidate_pairs_are_the_only_ones_scored(pipe):
    answer = pipe({**ADA, "pairs": [[2, 0], [1, 2]]}, threshold=0.0)
    assert {(r["head"], r["tail"]) for r in answer["relations"]} == {(2, 0), (1, 2)}
    assert answer["coverage"]["pairs"] == 6
    assert answer["coverage"]["pairs_scored"] == 2


def test_coverage_says_what_a_limit_cut_off(tiny_checkpoint):
    pipe = pipeline("docre", model=str(tiny_checkpoint))
    whole = pipe(ADA)["coverage"]
    assert whole["tokens"] == whole["tokens_read"]
    assert (whole["mentions"], whole["mentions_read"]) == (4, 4)
    mentions = pipe.processor([Document.from_dict(ADA)])[0]["mentions"]
    she = next(token for entity, token in mentions if entity == 0)
    assert she == sorted(token for _, token in mentions)[2], "Ada, London, She, Paris"
    pipe.model.config.max_length = she + 1  # [SEP] stands where the marker of "She" was
    answer = pipe(ADA)
    cut = answer["coverage"]
    assert (cut["tokens"], cut["tokens_read"]) == (whole["tokens"], she + 1)
    assert (cut["mentions"], cut["mentions_read"]) == (4, 2)
    assert (cut["entities"], cut["entities_read"]) == (3, 2)
    assert len(answer["entities"]) == 3, "no entity is dropped"
    pipe.model.config.max_length = she + 2
    assert pipe(ADA)["coverage"]["mentions_read"] == 3


# ---------------------------------------------------------------------------------------------------------------------
# Many documents
# ---------------------------------------------------------------------------------------------------------------------


def test_an_entity_that_was_not_read_has_no_relations(tiny_checkpoint):
    text = "Ada was born in London. She studied in Paris."
    nowhere = {"name": "Oslo", "mentions": [{"start": 90, "end": 99}]}
    entities = [ADA["entities"][0], nowhere, ADA["entities"][2], ADA["entities"][1]]
    document = Document.from_text(text, entities, strict=False)
    model = DocREForRelationExtraction.from_pretrained(tiny_checkpoint)
    processor = DocREProcessor.from_pretrained(tiny_checkpoint)

    def related(**settings) -> set[int]:
        for name, value in settings.items():
            setattr(model.config, name, value)
        answer = pipeline("docre", model=model, processor=processor)(document, threshold=0.0)
        return {relation[end] for relation in answer["relations"] for end in ("head", "tail")}

    assert related() == {0, 2, 3}
    tokens = processor([document])[0]["mentions"][-1][1]
    # Paris comes last; the published arithmetic answers for it all the same, and for entities without mentions.
    assert related(max_length=tokens) == {0, 2}
    assert related(window_mode="reference") == {0, 1, 2, 3}


def test_a_list_gives_a_list(pipe):
    answers = pipe([ADA, ADA_IN_WORDS, Document.from_dict(ADA)], threshold=0.0)
    assert isinstance(answers, list)
    assert facts(answers[0]) == facts(answers[1]) == facts(answers[2])
    assert pipe([]) == []
    assert pipe(()) == []
    assert pipe([ADA]) == [pipe(ADA)]


def test_a_generator_is_read_only_a_little_ahead(pipe):
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield story(number)

    answers = pipe(endless(), batch_size=2)
    assert read == [], "nothing is read before the first answer is asked for"
    first = list(itertools.islice(answers, 3))
    assert [len(answer["entities"]) for answer in first] == [0, 1, 2]
    assert len(read) <= 32


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_batch_size_changes_no_answer_and_no_order(pipe, batch_size):
    documents = [story(number) for number in (40, 3, 0, 17, 1, 29, 11, 6, 23, 35, 2)]
    assert {len(document["entities"]) for document in documents} >= {0, 1, 5}
    answers = pipe(documents, batch_size=batch_size, threshold=0.0)
    for document, answer in zip(documents, answers, strict=True):
        assert_same(answer, pipe(document, threshold=0.0))


def test_a_document_longer_than_the_encoder_reads_runs_beside_a_short_one(pipe):
    long = Document.from_markup("[Ada](:PER) was born. " + "The River was old. " * 200 + "[Bo](:PER) ended it.")
    answers = pipe([ADA, long, ADA], threshold=0.0)
    assert answers[1]["coverage"]["tokens_read"] > 512
    assert answers[1]["coverage"]["mentions_read"] == 2
    assert_same(answers[0], pipe(ADA, threshold=0.0))
    assert_same(answers[0], answers[2])
    assert_same(answers[1], pipe(long, threshold=0.0))


def test_batches_stay_below_the_limits_of_pairs_and_tokens(pipe, monkeypatch):
    module = __import__(DocREPipeline.__module__, fromlist=["DocREPipeline"])
    monkeypatch.setattr(module, "_PAIRS", 3)
    monkeypatch.setattr(module, "_TOKENS", 40)
    seen = []
    forward = pipe.model.forward

    def recorded(**inputs):
        seen.append((inputs["input_ids"].shape, len(inputs["pairs"])))
        return forward(**inputs)

    documents = [story(number) for number in range(36)]
    expected = [facts(answer) for answer in pipe(documents)]
    monkeypatch.setattr(pipe.model, "forward", recorded)
    assert [facts(answer) for answer in pipe(documents)] == expected
    assert sum(shape[0] for shape, _ in seen) == 36
    for (batch, tokens), pairs in seen:
        assert batch == 1 or (pairs <= 24 and batch * tokens <= 320)
    assert max(shape[0] for shape, _ in seen) > 1


def test_rows_of_a_dataset(pipe):
    rows = [ADA_IN_WORDS, {**ADA_IN_WORDS, "title": "again"}]
    answers = pipe(datasets.Dataset.from_list(rows))
    assert [facts(answer) for answer in answers] == [facts(pipe(ADA_IN_WORDS))] * 2


def test_rows_and_column_of_a_dataset_in_text_form(pipe):
    # A table fills in the keys that a row lacks: here the first entity's name, and all of the words.
    rows = [{**ADA, "sents": None}, {**story(3), "title": None}]
    expected = [pipe(ADA), pipe(story(3))]
    for answer, one in zip(pipe(datasets.Dataset.from_list(rows)), expected, strict=True):
        assert_same(answer, one)
    column = datasets.Dataset.from_dict({"document": rows})["document"]
    for answer, one in zip(pipe(column), expected, strict=True):
        assert_same(answer, one)


# ---------------------------------------------------------------------------------------------------------------------
# Filters
# ---------------------------------------------------------------------------------------------------------------------


def test_threshold(pipe):
    everything = pipe(ADA, threshold=0.0)["relations"]
    assert len(everything) == 18
    assert pipe(ADA, threshold=1.0)["relations"] == []
    middle = everything[8]["score"]
    kept = [relation for relation in everything if relation["score"] > middle]
    assert 0 < len(kept) < 18
    assert pipe(ADA, threshold=middle + 1e-6)["relations"] == kept
    by_default = pipe(ADA)["relations"]
    assert by_default == [relation for relation in everything if relation["score"] > 0.5]
    assert 0 < len(by_default) < 18


def test_relations_by_id_and_by_words(pipe):
    everything = pipe(ADA, threshold=0.0)["relations"]
    country = [relation for relation in everything if relation["relation"] == "P17"]
    assert len(country) == 6
    for relations in ("P17", "country", ["P17"], ["country"], ("P17", "country")):
        assert pipe(ADA, threshold=0.0, relations=relations)["relations"] == country
    both = pipe(ADA, threshold=0.0, relations=["P17", "located in"])["relations"]
    assert both == [relation for relation in everything if relation["relation"] in ("P17", "P131")]


def test_top_k_keeps_the_best(pipe):
    everything = pipe(ADA, threshold=0.0)["relations"]
    assert pipe(ADA, threshold=0.0, top_k=2)["relations"] == everything[:2]
    assert pipe(ADA, threshold=0.0, top_k=999)["relations"] == everything


@pytest.mark.parametrize(("end", "entity"), [("head", 2), ("tail", 2), ("head", "London"), ("tail", "london")])
def test_head_and_tail_by_id_and_name(pipe, end, entity):
    everything = pipe(ADA, threshold=0.0)["relations"]
    found = pipe(ADA, threshold=0.0, **{end: entity})["relations"]
    assert found == [relation for relation in everything if relation[end] == 2]
    assert len(found) == 6


def test_filters_combine_and_a_mention_names_its_entity(pipe):
    found = pipe(ADA, threshold=0.0, head="She", tail="Paris", relations="located in", top_k=5)["relations"]
    assert [(item["head"], item["tail"], item["relation"]) for item in found] == [(0, 1, "P131")]


def test_filters_of_the_build_give_way_to_those_of_the_call(tiny_checkpoint, pipe):
    built = pipeline("docre", model=str(tiny_checkpoint), threshold=0.0, top_k=3, relations="P17", batch_size=2)
    everything = pipe(ADA, threshold=0.0)["relations"]
    country = [relation for relation in everything if relation["relation"] == "P17"]
    assert built(ADA)["relations"] == country[:3]
    assert built(ADA, top_k=None)["relations"] == country
    assert built(ADA, relations=None, top_k=4)["relations"] == everything[:4]
    assert built(ADA, threshold=None)["relations"] == [item for item in country if item["score"] > 0.5][:3]
    assert [len(answer["relations"]) for answer in built([ADA, story(0)])] == [3, 0]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"relations": "P9999"}, "P9999.*not a relation of this model"),
        ({"relations": ["P17", "contry"]}, "did you mean 'P17'"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"top_k": 0}, "top_k=0"),
    ],
)
def test_wrong_filters_are_refused_before_anything_runs(tiny_checkpoint, pipe, filters, message):
    with pytest.raises(ValueError, match=message):
        pipe(ADA, **filters)
    with pytest.raises(ValueError, match=message):
        pipe((document for document in [ADA]), **filters)
    with pytest.raises(ValueError, match=message):
        pipe([], **filters)
    with pytest.raises(ValueError, match=message):
        pipeline("docre", model=str(tiny_checkpoint), **filters)


def test_unknown_parameters_are_refused_with_those_that_exist(tiny_checkpoint, pipe):
    with pytest.raises(TypeError, match="no parameter treshold; it has threshold, relations, top_k, head, tail"):
        pipe(ADA, treshold=0.5)
    with pytest.raises(TypeError, match=r"parameter prune_threshold; .*model_kwargs=\{.prune_threshold.: \.\.\.\}"):
        pipe(ADA, prune_threshold=0.1)
    with pytest.raises(TypeError, match="no parameter aggregation_strategy"):
        pipeline("docre", model=str(tiny_checkpoint), aggregation_strategy="simple")


def test_a_name_that_a_document_alone_does_not_have_is_a_warning(pipe, caplog):
    assert pipe(ADA, head="Adda", tail="Nobody")["relations"] == []
    assert [record.getMessage() for record in caplog.records] == [
        "No entity of the document is named 'Adda', so there are no relations. Did you mean 'Ada'?",
        "No entity of the document is named 'Nobody', so there are no relations.",
    ]
    caplog.clear()
    byron = Document.from_markup("[Ada Byron](:PER) met [Bo](:PER), who lived in [Adaton](:LOC).")
    pipe(byron, head="ada", tail="Lord Byron")
    assert caplog.records[0].getMessage().endswith(" Did you mean 'Ada Byron' or 'Adaton'?")
    assert caplog.records[1].getMessage().endswith(" Did you mean 'Ada Byron'?")
    caplog.clear()
    pipe(ADA, head="ada")
    assert [answer["relations"] for answer in pipe([ADA, ADA], head="Nobody")] == [[], []]
    assert not caplog.records


def test_an_entity_that_is_not_there_and_a_batch_of_nothing(pipe):
    with pytest.raises(ValueError, match="no entity 3: document 'Ada' has 3"):
        pipe(ADA, head=3)
    with pytest.raises(ValueError, match="batch_size=0"):
        pipe([ADA], batch_size=0)


# ---------------------------------------------------------------------------------------------------------------------
# What is no document
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", ["Ada lived in London.", "", {"text": "Ada lived.", "entities": None}, {"text": "A"}]
)
@pytest.mark.parametrize("many", [False, True])
def test_raw_text_is_answered_with_what_to_pass(pipe, wrong, many):
    with pytest.raises(DocumentError) as caught:
        pipe([ADA, wrong] if many else wrong)
    message = str(caught.value)
    assert message.startswith(f"input {int(many)}: the text comes without entities")
    # What the message shows must work.
    shown = message.split("\n", 1)[1]
    code, by_hand = shown.split("or by hand, inside the text:\n")
    answers = [eval(part.strip(), {"pipe": pipe, "Document": Document}) for part in (code, by_hand)]
    assert [[entity["name"] for entity in answer["entities"]] for answer in answers] == [["Ada", "London"]] * 2


def test_no_entities_is_a_document_without_relations(pipe):
    answer = pipe({"text": "Nothing happened.", "entities": []})
    assert (answer["entities"], answer["relations"], answer["sentences"]) == ([], [], [[0, 17]])
    answer = pipe({"text": "Ada lived.", "entities": [{"mentions": [{"start": 0, "end": 3}]}]}, threshold=0.0)
    assert answer["relations"] == []
    assert answer["coverage"]["pairs"] == 0


@pytest.mark.parametrize(
    ("wrong", "kind"), [([3], "int"), ([[ADA]], "list"), (b"Ada", "bytes"), ([None], "NoneType"), (3, "int")]
)
def test_what_is_no_document_is_refused(pipe, wrong, kind):
    with pytest.raises(DocumentError, match=f"an object of type {kind} is not a document"):
        pipe(wrong)


def test_a_wrong_document_is_named_by_its_place(pipe):
    outside = {**ADA, "entities": [{"mentions": [{"start": 40, "end": 99}]}]}
    with pytest.raises(DocumentError, match=r"input 2: document 'Ada': `entities\[0\].mentions\[0\]`"):
        pipe([ADA, ADA, outside])
    with pytest.raises(DocumentError, match=r'input 0.*neither "text" nor "sents"'):
        pipe({"tokens": ["Ada"]})


# ---------------------------------------------------------------------------------------------------------------------
# Building and saving
# ---------------------------------------------------------------------------------------------------------------------


def test_model_and_processor_as_objects(tiny_checkpoint, pipe):
    model = DocREForRelationExtraction.from_pretrained(tiny_checkpoint).train()
    processor = DocREProcessor.from_pretrained(tiny_checkpoint)
    built = pipeline("docre", model=model, processor=processor)
    assert built.device.type == model.device.type
    assert_same(built(ADA), pipe(ADA))
    # A threshold that is tuned later counts.
    model.config.threshold = 0.999999
    assert built(ADA)["relations"] == []
    # A model that was loaded from a folder finds its processor there.
    assert_same(pipeline("docre", model=DocREForRelationExtraction.from_pretrained(tiny_checkpoint))(ADA), pipe(ADA))
    assert_same(DocREPipeline(model=pipe.model, processor=processor)(ADA), pipe(ADA))


def test_a_new_model_needs_its_processor(tiny_bert_dir):
    model = DocREForRelationExtraction.from_encoder(str(tiny_bert_dir), relations=["P17"], emb_size=32, block_size=8)
    with pytest.raises(ValueError, match=r"processor=DocREProcessor\.from_encoder\(ENCODER, config=model\.config\)"):
        pipeline("docre", model=model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert_dir)
    with pytest.raises(ValueError, match="needs the model's processor"):
        pipeline("docre", model=model, processor=tokenizer)


def test_saved_pipeline_is_an_ordinary_checkpoint(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "processor_config.json"} <= names
    assert not any(name.endswith(".py") for name in names)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "custom_pipelines" not in config
    assert "auto_map" not in config
    # Moved, it still loads: nothing points to where it was made.
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    assert_same(pipeline("docre", model=str(tmp_path / "moved"))(ADA), pipe(ADA))
    assert_same(pipeline("docre", model=tmp_path / "moved")(ADA), pipe(ADA))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        pipe.save_pretrained(tmp_path / "file")


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert"])
def test_a_checkpoint_without_tokenizer_says_which_files_to_add(tiny_encoder: Callable, tmp_path, family):
    encoder = str(tiny_encoder(family))
    model = DocREForRelationExtraction.from_encoder(encoder, relations=["P17"], emb_size=32, block_size=8)
    model.save_pretrained(tmp_path)
    with pytest.raises(OSError, match="has no tokenizer that loads") as caught:
        pipeline("docre", model=str(tmp_path))
    assert "tokenizer.json" in str(caught.value)
    assert "DocREProcessor.from_encoder(ENCODER, config=model.config).save_pretrained(FOLDER)" in str(caught.value)
    DocREProcessor.from_encoder(encoder, config=model.config).save_pretrained(tmp_path)
    assert len(pipeline("docre", model=str(tmp_path))(ADA, threshold=0.0)["relations"]) == 6


def test_another_architecture_is_refused(tiny_bert_dir):
    with pytest.raises(ValueError, match="is a BertModel, not a relation extraction model of this library"):
        pipeline("docre", model=str(tiny_bert_dir))


def test_half_precision_runs_in_float32_on_a_cpu_unless_asked_for(tiny_checkpoint, tmp_path, pipe):
    model = DocREForRelationExtraction.from_pretrained(tiny_checkpoint)
    model.half().save_pretrained(tmp_path)
    DocREProcessor.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path)
    half = pipeline("docre", model=str(tmp_path), device="cpu")
    assert half.model.dtype == torch.float32
    scores = [{(r["head"], r["tail"], r["relation"]): r["score"] for r in p(ADA)["relations"]} for p in (half, pipe)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-2)
    asked = pipeline("docre", model=str(tmp_path), device="cpu", dtype=torch.float16)
    assert asked.model.dtype == torch.float16
    assert len(asked(ADA, threshold=0.0)["relations"]) == 18


def test_pairs_of_entities_that_were_not_read_do_not_count_as_scored(tiny_checkpoint):
    pipe = pipeline("docre", model=str(tiny_checkpoint))
    assert pipe(ADA)["coverage"]["pairs_scored"] == 6
    # "Paris" comes last and is cut off.
    pipe.model.config.max_length = max(token for _, token in pipe.processor([Document.from_dict(ADA)])[0]["mentions"])
    assert pipe(ADA)["coverage"]["pairs_scored"] == 2
