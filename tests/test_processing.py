"""Documents to tensors and back: markers, truncation, candidates, labels, and the filters of `decode`."""

from __future__ import annotations

import copy
import json
import math
import re
from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from modeling_docre import (
    DocREConfig,
    DocREForRelationExtraction,
    DocREProcessor,
    Document,
    DocumentError,
    Entity,
    Mention,
    Relation,
)
from modeling_docre.markers import marker_tokens

RELATIONS = {"P17": "country", "P19": "place of birth", "P131": "located in", "P26": "spouse", "P40": "child"}
TYPES = ["PER", "LOC"]

STORY = {
    "title": "Mira",
    "sents": [
        ["Mira", "Solen", "was", "born", "in", "Old", "Tarn", "*", "."],
        ["Old", "Tarn", "of", "the", "River", "is", "in", "Velland", ",", "she", "said", "."],
    ],
    "vertexSet": [
        [
            {"name": "Mira Solen", "sent_id": 0, "pos": [0, 2], "type": "PER"},
            {"name": "she", "sent_id": 1, "pos": [9, 10], "type": "PER"},
        ],
        [
            {"name": "Old Tarn", "sent_id": 0, "pos": [5, 7], "type": "LOC"},
            {"name": "Old Tarn of the River", "sent_id": 1, "pos": [0, 5], "type": "LOC"},
            {"name": "Old Tarn", "sent_id": 1, "pos": [0, 2], "type": "LOC"},
        ],
        [{"name": "River", "sent_id": 1, "pos": [4, 5], "type": "WATER"}],
        [{"name": "Velland", "sent_id": 1, "pos": [7, 8], "type": "LOC"}],
    ],
    "labels": [
        {"h": 0, "t": 1, "r": "P19", "evidence": [0]},
        {"h": 1, "t": 3, "r": "P17", "evidence": [1]},
        {"h": 1, "t": 3, "r": "P131", "evidence": []},
    ],
}


def processor_for(tokenizer, **settings) -> DocREProcessor:
    settings = {"entity_types": TYPES, **settings}
    # Marker tokens are added to the tokenizer that is passed, and this one is shared by all tests.
    tokenizer = copy.deepcopy(tokenizer)
    return DocREProcessor.from_encoder(tokenizer, config=DocREConfig.for_method("atlop", RELATIONS, **settings))


@pytest.fixture
def processor(tiny_tokenizer):
    return processor_for(tiny_tokenizer)


@pytest.fixture
def story() -> Document:
    return Document.from_docred(STORY)


def features_by_loops(
    tokenizer, document: Document, marker
) -> tuple[list[int], dict[tuple[int, int], int], list[int]]:
    """Word by word: a marker before the first and after the last word of a mention, one where several meet."""
    ids, sentences, opened = [tokenizer.cls_token_id], [-1], {}
    mentions = [mention for entity in document.entities for mention in entity.mentions]
    for number, sentence in enumerate(document.words):
        for position, word in enumerate(sentence):
            before = len(ids)
            starting = [m for m in mentions if (m.sentence, m.words[0]) == (number, position)]
            ending = [m for m in mentions if (m.sentence, m.words[1] - 1) == (number, position)]
            if starting:
                opened[number, position] = len(ids)
                ids.append(tokenizer.convert_tokens_to_ids(marker(starting[0], False)))
            ids.extend(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word)))
            if ending:
                ids.append(tokenizer.convert_tokens_to_ids(marker(ending[0], True)))
            sentences.extend([number] * (len(ids) - before))
    return [*ids, tokenizer.sep_token_id], opened, [*sentences, -1]


MARKERS = {
    "asterisk": lambda mention, closing: "*",
    "tags": lambda mention, closing: "</e>" if closing else "<e>",
    "typed": lambda mention, closing: f"<{'/' if closing else ''}e:{mention.type if mention.type in TYPES else ''}>",
}


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert"])
@pytest.mark.parametrize("style", MARKERS)
def test_features_are_those_of_a_plain_loop(tiny_encoder, story, family, style):
    processor = processor_for(tiny_encoder(family), marker_style=style)
    (features,) = processor(story)
    ids, opened, sentences = features_by_loops(processor.tokenizer, story, MARKERS[style])
    assert features["input_ids"] == ids
    assert features["sentence_ids"] == sentences
    assert [tuple(row) for row in features["mentions"]] == [
        (number, opened[mention.sentence, mention.words[0]])
        for number, entity in enumerate(story.entities)
        for mention in entity.mentions
    ]
    tokenizer = processor.tokenizer
    opening = {tokenizer.convert_tokens_to_ids(token) for token in marker_tokens(processor.config) if "/" not in token}
    assert {ids[token] for _, token in features["mentions"]} <= opening
    assert tokenizer.unk_token_id not in opening
    assert features["num_entities"] == 4
    assert features["entity_types"] == [1, 2, 0, 2]
    assert features["pairs"] == [(h, t) for h in range(4) for t in range(4) if h != t]
    assert sorted(features["labels"]) == [(0, 2), (5, 1), (5, 3)]


def test_stars_in_the_text_are_not_markers(processor, story):
    (features,) = processor([story])
    star = processor.tokenizer.convert_tokens_to_ids("*")
    # Six words open a mention and six close one, nested ones sharing theirs; one star is the text's own.
    opened = {token for _, token in features["mentions"]}
    assert len(opened) == 6 and features["input_ids"].count(star) == 13


@pytest.mark.parametrize(
    "text",
    [
        "Die *Straße* von 👩‍👩‍👧‍👦 Łódź 👍🏽 e\u0301te\u0301 na\u0308mlich",
        "\u202bעיר גדולה\u202c ושם مدينة القاهرة",
        "中国人在北京 lives 漢字",
        "zero\u200bwidth and\u00a0hard spaces\tand [SEP] <e> [CLS]",
    ],
)
def test_any_script_keeps_its_mentions(tiny_tokenizer, text):
    words = [(match.start(), match.end()) for match in re.finditer(r"\S+", text)]
    entities = [{"mentions": [{"start": start, "end": end}]} for start, end in words]
    document = Document.from_text(text, entities)
    for style in MARKERS:
        processor = processor_for(tiny_tokenizer, marker_style=style)
        (features,) = processor(document)
        ids, opened, _ = features_by_loops(processor.tokenizer, document, MARKERS[style])
        assert features["input_ids"] == ids
        assert [token for _, token in features["mentions"]] == sorted(opened.values())
        assert len(opened) == len(words)


def test_what_lies_between_two_windows_is_counted_as_unread(tiny_tokenizer):
    story = Document.from_docred(STORY)
    (whole,) = processor_for(tiny_tokenizer)(story)
    (features,) = processor_for(tiny_tokenizer, window_size=12, window_mode="reference")(story)
    total = len(whole["input_ids"])
    # Eleven tokens from the start and eleven from the end; special tokens stand where the windows meet.
    kept = [(entity, token) for entity, token in whole["mentions"] if token < 11 or token >= total - 11]
    coverage = features["coverage"]
    assert (coverage["tokens"], coverage["tokens_read"]) == (total, 22)
    assert (coverage["mentions"], coverage["mentions_read"]) == (7, len(kept)) and len(kept) < 7
    assert coverage["entities_read"] == len({entity for entity, _ in kept})


@given(
    length=st.integers(3, 60),
    mode=st.sampled_from(["cover", "reference"]),
)
def test_truncation_keeps_the_first_tokens_and_counts_the_rest(tiny_tokenizer, length, mode):
    story = Document.from_docred(STORY)
    whole = processor_for(tiny_tokenizer)(story)[0]
    processor = processor_for(tiny_tokenizer, max_length=length, window_mode=mode)
    (features,) = processor(story)
    total = len(whole["input_ids"])
    read = min(length, total)
    assert features["input_ids"] == [*whole["input_ids"][: read - 1], whole["input_ids"][-1]]
    assert features["sentence_ids"] == [*whole["sentence_ids"][: read - 1], -1]
    assert features["mentions"] == whole["mentions"]
    kept = [(entity, token) for entity, token in whole["mentions"] if token < read - 1]
    coverage = features["coverage"]
    assert (coverage["tokens"], coverage["tokens_read"]) == (total, read)
    assert (coverage["mentions"], coverage["mentions_read"]) == (7, len(kept))
    assert (coverage["entities"], coverage["entities_read"]) == (4, len({entity for entity, _ in kept}))
    batch = processor.collate([features])
    # Published code lets a mention that was cut off exactly here read the end token.
    if mode == "reference":
        kept = [(entity, token) for entity, token in whole["mentions"] if token < read]
    assert batch["mentions"].tolist() == [[0, *row] for row in kept]
    assert batch["num_entities"].tolist() == [4] and len(batch["pairs"]) == 12


def test_candidates_by_document_and_by_type(tiny_tokenizer, story):
    own = Document.from_docred({**STORY, "pairs": [[3, 1], [1, 3], [0, 2]]})
    (features,) = processor_for(tiny_tokenizer)(own)
    assert features["pairs"] == [(3, 1), (1, 3), (0, 2)]
    assert sorted(features["labels"]) == [(1, 1), (1, 3)]
    assert features["coverage"]["pairs"] == 12 and features["coverage"]["pairs_scored"] == 3
    assert features["coverage"]["relations"] == 3
    assert features["coverage"]["relations outside the candidate pairs"] == 1
    typed = processor_for(tiny_tokenizer, pair_types=[("PER", "LOC"), ["LOC", "WATER"]])
    assert typed(story)[0]["pairs"] == [(0, 1), (0, 3), (1, 2), (3, 2)]
    assert typed(own)[0]["pairs"] == []
    assert typed.collate(typed(own))["pairs"].shape == (0, 3)


def test_labels_are_multi_hot_with_the_threshold_class(processor, story):
    unlabelled = Document.from_docred({key: value for key, value in STORY.items() if key != "labels"})
    without_facts = Document.from_docred({**STORY, "labels": []})
    batch = processor.collate(processor([without_facts, story]))
    expected = torch.zeros(24, 6)
    expected[12, 2] = expected[17, 1] = expected[17, 3] = 1
    expected[[row for row in range(24) if row not in (12, 17)], 0] = 1
    assert torch.equal(batch["labels"], expected)
    assert "labels" not in processor(unlabelled)[0]
    assert "labels" not in processor.collate(processor([story, unlabelled]))


def test_relations_that_the_model_does_not_know(processor):
    document = Document.from_docred({**STORY, "labels": [{"h": 0, "t": 1, "r": "P191"}, {"h": 0, "t": 1, "r": "P19"}]})
    with pytest.raises(DocumentError, match=r"document 'Mira': 'P191' is not .*did you mean 'P19' \(place of birth\)"):
        processor([document])
    (features,) = processor([document], strict=False)
    assert features["labels"] == [(0, 2)]
    assert features["coverage"]["relations unknown to the model"] == 1
    for name in ("NA", "Na"):
        odd = Document.from_docred({**STORY, "title": "", "labels": [{"h": 0, "t": 1, "r": name}]})
        with pytest.raises(DocumentError, match=f"document 1: '{name}' is not a relation"):
            processor([document := Document.from_docred(STORY), odd])
        batch = processor.collate(processor([odd], strict=False))
        assert batch["labels"][:, 0].tolist() == [1.0] * 12, "column 0 is 1 exactly where there is no relation"


def test_a_fact_of_an_entity_with_itself_is_counted(processor, story):
    entities, relations = story.entities, (Relation(1, 1, "P131"), Relation(0, 1, "P19"))
    document = Document(story.title, story.text, story.sentences, entities, relations)
    (features,) = processor(document)
    assert features["labels"] == [(0, 2)]
    assert features["coverage"]["relations outside the candidate pairs"] == 1


def test_repairs_of_the_reader_are_part_of_the_coverage(processor):
    data = json.loads(json.dumps(STORY))
    data["vertexSet"][0].append(data["vertexSet"][0][0])
    document = Document.from_docred(data)
    (cause,) = [cause for cause, _ in document.repairs if "mention" in cause]
    assert processor(document)[0]["coverage"][cause] == 1


def test_an_entity_without_mentions_keeps_its_place(tiny_bert_dir):
    data = json.loads(json.dumps(STORY))
    data["vertexSet"][2] = [{"name": "nowhere", "sent_id": 7, "pos": [0, 1], "type": "LOC"}]
    document = Document.from_docred(data, strict=False)
    assert document.entities[2].mentions == ()
    model = DocREForRelationExtraction.from_encoder(tiny_bert_dir, relations=RELATIONS, emb_size=32, block_size=8)
    processor = DocREProcessor.from_encoder(tiny_bert_dir, config=model.config)
    batch = processor.collate(processor([document]))
    with torch.no_grad():
        output = model.eval()(**batch, output_entity_embeddings=True)
    assert output.logits.shape == (12, 6) and torch.isfinite(output.logits).all()
    assert output.entity_embeddings[0, 2].abs().sum() == 0
    assert output.entities_read.tolist() == [[True, True, False, True]]
    found = processor.decode(output, [document], threshold=0.0)
    assert {end for relation in found[0] for end in (relation.head, relation.tail)} == {0, 1, 3}
    processor.config.window_mode = "reference"
    published = processor.decode(output, [document], threshold=0.0)
    assert {relation.head for relation in published[0]} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "document",
    [
        Document("", "", ()),
        Document.from_text("Nobody was here."),
        Document.from_markup("[Ada](a:PER) was here."),
    ],
    ids=["empty", "no entity", "one entity"],
)
def test_documents_without_pairs(tiny_bert_dir, story, document):
    model = DocREForRelationExtraction.from_encoder(tiny_bert_dir, relations=RELATIONS, emb_size=32, block_size=8)
    processor = DocREProcessor.from_encoder(tiny_bert_dir, config=model.config)
    for documents in ([document], [document, story], [story, document, document]):
        batch = processor.collate(processor(documents))
        with torch.no_grad():
            output = model.eval()(**batch)
        assert len(output.logits) == 12 * documents.count(story)
        found = processor.decode(output, documents, threshold=0.0)
        assert [bool(relations) for relations in found] == [item is story for item in documents]


def test_batches_are_padded_and_indices_are_of_the_batch(processor, story):
    short = Document.from_markup("[Ada](a:PER) left [London](l:LOC).")
    features = processor([short, story])
    batch = processor.collate(features)
    lengths = [len(item["input_ids"]) for item in features]
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert batch["input_ids"].shape == (2, max(lengths))
    assert (batch["input_ids"][0, lengths[0] :] == processor.tokenizer.pad_token_id).all()
    assert (batch["sentence_ids"][0, lengths[0] :] == -1).all()
    assert batch["entity_types"].tolist() == [[1, 2, 0, 0], [1, 2, 0, 2]]
    assert batch["pairs"][:3].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 1]]
    for document, entity, token in batch["mentions"].tolist():
        assert [entity, token] in [list(row) for row in features[document]["mentions"]]
    assert batch["num_entities"].tolist() == [2, 4]
    assert set(batch) <= set(processor.model_input_names)
    with pytest.raises(ValueError, match="nothing to collate"):
        processor.collate([])


# ---------------------------------------------------------------------------------------------------------------------
# Decoding
# ---------------------------------------------------------------------------------------------------------------------

PAIRS = torch.tensor([[0, 0, 1], [0, 1, 0], [0, 1, 3], [1, 0, 1]])
LOGITS = torch.tensor(
    [
        # NA, P17, P19, P131, P26, P40
        [0.0, -1.0, 2.0, -3.0, 1.0, -4.0],
        [1.0, 0.9, 0.5, 0.0, -1.0, -2.0],
        [-2.0, 3.0, -3.0, 1.0, -1.0, -1.5],
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
    ]
)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.fixture
def pair_of_documents(story):
    return [story, Document.from_markup("[Ada](a:PER) left [London](l:LOC). [She](a) came back.")]


def rows(found):
    return [[(item.head, item.tail, item.relation) for item in relations] for relations in found]


def test_scores_are_probabilities_against_the_threshold_class(processor, pair_of_documents):
    found = processor.decode(SimpleNamespace(logits=LOGITS, pairs=PAIRS), pair_of_documents)
    expected = [[], []]
    for (document, head, tail), logits in zip(PAIRS.tolist(), LOGITS.tolist(), strict=True):
        scored = [
            (sigmoid(logit - logits[0]), head, tail, name)
            for name, logit in zip(RELATIONS, logits[1:], strict=True)
            if logit > logits[0]
        ]
        expected[document].extend(sorted(scored, reverse=True)[:4])
    for got, want in zip(found, expected, strict=True):
        want.sort(key=lambda row: -row[0])
        assert [(item.head, item.tail, item.relation) for item in got] == [row[1:] for row in want]
        assert [item.score for item in got] == pytest.approx([row[0] for row in want], abs=1e-6)
    assert len(found[1]) == 4, "five relations are above the threshold class, four may be predicted"


def test_without_the_cap_all_are_returned(tiny_tokenizer, pair_of_documents):
    processor = processor_for(tiny_tokenizer, max_relations_per_pair=None)
    found = processor.decode(SimpleNamespace(logits=LOGITS, pairs=PAIRS), pair_of_documents, threshold=0.0)
    assert [len(relations) for relations in found] == [15, 5]
    assert processor.decode(SimpleNamespace(logits=LOGITS, pairs=PAIRS), pair_of_documents, threshold=1.0) == [[], []]


def test_thresholds_of_the_call_and_of_the_config(tiny_tokenizer, pair_of_documents):
    outputs = SimpleNamespace(logits=LOGITS, pairs=PAIRS)
    processor = processor_for(tiny_tokenizer)
    strict = processor.decode(outputs, pair_of_documents, threshold=0.9)
    assert strict and all(item.score > 0.9 for relations in strict for item in relations)
    processor.config.threshold = 0.9
    assert processor.decode(outputs, pair_of_documents) == strict
    loose = processor.decode(outputs, pair_of_documents, threshold=0.3)
    assert len(loose[0]) > len(strict[0]) and all(item.score > 0.3 for item in loose[0])
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="pass a number from 0 to 1"):
            processor.decode(outputs, pair_of_documents, threshold=wrong)


def test_filters(processor, pair_of_documents):
    outputs = SimpleNamespace(logits=LOGITS, pairs=PAIRS)

    def decode(**filters):
        return rows(processor.decode(outputs, pair_of_documents, **filters))

    everything = decode()
    chosen = [[row for row in relations if row[2] in ("P17", "P26")] for relations in everything]
    assert chosen != everything
    for names in (["P17", "P26"], ["country", "spouse"], ("P17", "spouse"), (name for name in ["P26", "P17"])):
        assert decode(relations=names) == chosen
    assert decode(relations="country") == [[row for row in relations if row[2] == "P17"] for relations in everything]
    assert decode(relations=[]) == [[], []]
    assert decode(top_k=2) == [relations[:2] for relations in everything]
    assert decode(head=1) == [[row for row in relations if row[0] == 1] for relations in everything]
    assert decode(head="old tarn of the river") == [[row for row in everything[0] if row[0] == 1], []]
    assert decode(tail="Old Tarn") == [[row for row in everything[0] if row[1] == 1], []]
    assert decode(head="SHE") == [[row for row in relations if row[0] == 0] for relations in everything]
    assert decode(head=0, tail="London") == [[], everything[1]]
    assert decode(head=1, tail=1, relations="P17", top_k=1) == [[], []]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"relations": ["contry"]}, r"did you mean 'P17' \(country\)"),
        ({"relations": "NA"}, "'NA' is not a relation"),
        ({"top_k": 0}, "top_k=0"),
        ({"head": 3}, r"no entity 3: document ''"),
        ({"tail": -1}, "no entity -1: document 'Mira' has 4"),
    ],
)
def test_filters_that_make_no_sense(processor, pair_of_documents, filters, message):
    with pytest.raises(ValueError, match=message):
        processor.decode(SimpleNamespace(logits=LOGITS, pairs=PAIRS), pair_of_documents, **filters)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_broken_weights_are_an_error_not_an_empty_answer(processor, pair_of_documents, value):
    logits = LOGITS.clone()
    logits[2, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        processor.decode(SimpleNamespace(logits=logits, pairs=PAIRS), pair_of_documents)


def test_outputs_of_other_documents_are_refused(processor, pair_of_documents):
    with pytest.raises(ValueError, match="of 2 documents or more, but 1 were given"):
        processor.decode(SimpleNamespace(logits=LOGITS, pairs=PAIRS), pair_of_documents[:1])


@pytest.mark.parametrize("decision", ["zero", "probability"])
def test_decisions_without_a_threshold_class(tiny_tokenizer, pair_of_documents, decision):
    processor = processor_for(tiny_tokenizer, decision=decision, max_relations_per_pair=None)
    found = processor.decode(SimpleNamespace(logits=LOGITS, pairs=PAIRS), pair_of_documents)
    expected = {
        (document, head, tail, name): sigmoid(logit)
        for (document, head, tail), logits in zip(PAIRS.tolist(), LOGITS.tolist(), strict=True)
        for name, logit in zip(RELATIONS, logits[1:], strict=True)
        if logit > 0
    }
    got = {
        (number, item.head, item.tail, item.relation): item.score
        for number, relations in enumerate(found)
        for item in relations
    }
    assert got.keys() == expected.keys()
    assert got == pytest.approx(expected, abs=1e-6)


def test_half_precision_outputs_decode(processor, pair_of_documents):
    exact = processor.decode(SimpleNamespace(logits=LOGITS, pairs=PAIRS), pair_of_documents)
    half = processor.decode(SimpleNamespace(logits=LOGITS.bfloat16(), pairs=PAIRS), pair_of_documents)
    assert rows(half) == rows(exact)


# ---------------------------------------------------------------------------------------------------------------------
# Saving and loading
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert"])
def test_processor_alone_round_trip(tiny_encoder, tmp_path, story, family):
    processor = processor_for(tiny_encoder(family), marker_style="typed", max_length=40, threshold=0.3)
    processor.save_pretrained(tmp_path)
    for loaded in (DocREProcessor.from_pretrained(tmp_path), transformers.AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is DocREProcessor
        assert loaded(story) == processor(story)
        assert loaded.config.threshold == 0.3 and loaded.config.relation_names == RELATIONS
    assert json.loads((tmp_path / "processor_config.json").read_text()) == {"processor_class": "DocREProcessor"}
    assert "DocREProcessor" in repr(processor)


def test_processor_with_its_model(tiny_bert_dir, tmp_path, story):
    model = DocREForRelationExtraction.from_encoder(
        tiny_bert_dir, relations=RELATIONS, marker_style="tags", emb_size=32, block_size=8
    ).eval()
    processor = DocREProcessor.from_encoder(tiny_bert_dir, config=model.config)
    assert processor.config is model.config
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["DocREForRelationExtraction"]
    loaded, again = DocREForRelationExtraction.from_pretrained(tmp_path), DocREProcessor.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(**processor.collate(processor(story)))
        got = loaded(**again.collate(again(story)))
    assert torch.equal(got.logits, expected.logits) and torch.equal(got.loss, expected.loss)
    assert again.decode(got, [story]) == processor.decode(expected, [story])


def test_marker_tokens_are_added_once(tiny_tokenizer):
    processor = processor_for(tiny_tokenizer, marker_style="typed")
    assert len(processor.tokenizer) == len(tiny_tokenizer) + 6
    again = DocREProcessor.from_encoder(processor.tokenizer, config=processor.config)
    assert len(again.tokenizer) == len(tiny_tokenizer) + 6
    assert again.tokenizer.tokenize("<e:PER>") == ["<e:PER>"]


def test_a_tokenizer_without_start_and_end_tokens_is_refused(tiny_tokenizer, story):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.cls_token = tokenizer.sep_token = None
    with pytest.raises(ValueError, match="no start or end token"):
        processor_for(tokenizer)(story)


def test_hand_made_documents_pass_through(processor):
    text = "Ada met Ben"
    document = Document(
        "",
        text,
        (((0, 3), (4, 7), (8, 11)),),
        (
            Entity((Mention(0, 3, 0, (0, 1), "Ada"),), "Ada"),
            Entity((Mention(8, 11, 0, (2, 3), "Ben"), Mention(0, 11, 0, (0, 3), "Ada met Ben")), "Ben"),
        ),
    )
    (features,) = processor(iter([document]))
    opened = dict(features["mentions"][:1])[0]
    assert features["mentions"] == [[0, opened], [1, features["mentions"][1][1]], [1, opened]]
    assert processor.tokenizer.convert_ids_to_tokens(features["input_ids"])[opened] == "*"


def test_entities_of_unknown_type_are_counted_where_types_matter(tiny_tokenizer, story):
    assert "entities of unknown type" not in processor_for(tiny_tokenizer)([story])[0]["coverage"]
    coverage = processor_for(tiny_tokenizer, use_entity_types=True)([story])[0]["coverage"]
    assert coverage["entities of unknown type"] == 1, "WATER"


def test_documents_may_be_dicts_of_either_form_and_one_may_stand_alone(processor):
    document = Document.from_docred(STORY)
    expected = processor([document])
    for documents in (document, STORY, [STORY], [document.to_dict()], iter([document])):
        assert processor(documents) == expected
    with pytest.raises(DocumentError, match="Pass a list of documents"):
        processor("A text.")
