"""Bad input, as people have it: a clear error or a counted repair, never a traceback and never a silent loss."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import pipeline

from modeling_docre import DocREForRelationExtraction, DocREPipeline, DocREProcessor, Document, DocumentError

GOOD = {"text": "Ada lived.", "entities": [{"mentions": [{"start": 0, "end": 3}]}]}


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint: Path) -> DocREPipeline:
    return pipeline("docre", model=str(tiny_checkpoint), device="cpu", threshold=0.0)


def mark(text: str, *spans: tuple[int, int]) -> dict[str, Any]:
    return {"text": text, "entities": [{"mentions": [{"start": start, "end": end}]} for start, end in spans]}


# ---------------------------------------------------------------------------------------------------------------------
# Errors: one clear line, exit code 1
# ---------------------------------------------------------------------------------------------------------------------

WRONG_FILES = [
    ("empty.txt", "", "there is not a single word"),
    ("blank.txt", " \n\t ", "there is not a single word"),
    (
        "begun.txt",
        "[Ada](:PER lived in [London](:LOC).",
        r"begun\.txt.*markup.* Or pass --skip-invalid to skip it with a count\.$",
    ),
    ("types.txt", "[Ada](a:PER) lived with [Bo](a:LOC).", "has the type 'PER' already"),
    ("empty.json", "", r"empty\.json, line 1, column 1: not JSON.*empty"),
    ("empty-text.json", json.dumps({"text": ""}), "there is not a single word"),
    ("blank-text.jsonl", json.dumps({"text": "  "}), r"blank-text\.jsonl, line 1.*there is not a single word"),
    ("outside.json", json.dumps(mark("Ada lived.", (4, 99))), "outside the text, which has 10 characters.*--skip-inv"),
    ("negative.json", json.dumps(mark("Ada lived.", (-3, 3))), "outside the text"),
    ("backwards.json", json.dumps(mark("Ada lived.", (3, 0))), "is empty"),
    ("space.json", json.dumps(mark("Ada lived.", (3, 4))), "covers white space alone"),
    ("bytes.json", json.dumps(mark("Ada lived.", (0.5, 3))), "not a whole number"),
    ("entities.json", json.dumps({"text": "Ada.", "entities": {"Ada": [0, 3]}}), "not a list but a dict"),
    ("words.json", json.dumps({"title": "x", "sents": "Ada", "vertexSet": []}), "'x': `sents`"),
    (
        "position.json",
        json.dumps({"sents": [["Ada"]], "vertexSet": [[{"name": "A", "sent_id": 3, "pos": [0, 1]}]]}),
        "3",
    ),
    ("neither.json", json.dumps([{"tokens": ["Ada"]}]), 'document 0: neither "text" nor "sents"'),
    (
        "predictions.json",
        json.dumps([{"title": "x", "h_idx": 0, "t_idx": 1, "r": "P17"}]),
        'neither "text" nor "sents"',
    ),
    ("wrong.json", '{"text": "Ada", }', r"wrong\.json, line 1, column \d+: not JSON"),
    (
        "truncated.jsonl",
        json.dumps(GOOD) + '\n{"text": "Ada li',
        r"truncated\.jsonl, line 2, .*was the file cut off\? Or pass --skip-",
    ),
    ("list.jsonl", json.dumps(GOOD) + "\n[]\n", r"list\.jsonl, line 2: a list"),
    ("number.jsonl", "17\n", r"number\.jsonl, line 1: 17 is not a dict"),
    ("latin.json", '{"text": "Zoë"}'.encode("latin-1"), r"latin\.json: not a text file in UTF-8"),
    ("image.txt", b"\x89PNG\r\n\x1a\n\x00\x00", r"image\.txt: not a text file in UTF-8"),
    ("broken.jsonl.gz", b"no gzip", r"broken\.jsonl\.gz: broken gzip file"),
    ("table.csv", "Ada,London", r"files that end in '\.csv'"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG_FILES, ids=[row[0] for row in WRONG_FILES])
def test_a_wrong_file_is_one_clear_error(docre, tmp_path, tiny_checkpoint, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    ran = docre("extract", tmp_path / name, "-o", tmp_path / "out.jsonl", "--model", tiny_checkpoint)
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith("docre: error: ")
    assert "Traceback" not in ran.err
    assert name in ran.err
    assert re.search(message, ran.err), ran.err
    assert not (tmp_path / "out.jsonl").exists()


def test_what_is_skipped_is_named(docre, tmp_path, tiny_checkpoint):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("[Ada](:PER lived.")
    (tmp_path / "c.jsonl").write_text(json.dumps(GOOD) + '\n{"text": \n17\n')
    for output in ((), ("-o", tmp_path / "out.jsonl")):
        ran = docre("extract", tmp_path, "--model", tiny_checkpoint, "--skip-invalid", *output)
        assert ran.code == 0, ran.err
        assert "unreadable document: 3" in ran.err
        places = [tmp_path / "a.txt", tmp_path / "b.txt", f"{tmp_path / 'c.jsonl'}, line 2"]
        assert f"skipped: {'; '.join(map(str, places))}; and 1 more\n" in ran.err


WRONG_OPTIONS = [
    (("--relations", "P9999"), "'P9999' is not a relation of this model"),
    (("--relations", "P17,contry"), "'contry' is not a relation of this model; did you mean 'P17'"),
    (("--threshold", "1.5"), r"threshold=1\.5 is not a probability"),
    (("--threshold", "nan"), "threshold=nan is not a probability"),
    (("--top-k", "0"), "top_k=0 keeps nothing"),
    (("--batch-size", "0"), "batch_size=0"),
    (("-o", "out.csv"), r"out\.csv: no output format"),
    (("-o", "absent/out.jsonl"), "there is no folder .*absent"),
    (("--model", "absent/model/folder"), "There is no folder absent/model/folder"),
    (("--model", "./absent"), "There is no folder ./absent"),
    (("--device", "gpu"), r"'gpu' is no device: write cpu, cuda or cuda:0 \(here there is: cpu"),
    (("--device", "0"), "'0' is no device: write cpu, cuda or cuda:0"),
    (("--device", "cuda:99"), "There is no device cuda:99"),
    (("--model", "nobody/nothing"), "nobody/nothing|couldn't connect"),
    (("--model", "good.json"), r"good\.json is a file"),
    (("--model", "."), "has no config.json"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS, ids=[" ".join(row[0]) for row in WRONG_OPTIONS])
def test_a_wrong_option_is_one_clear_error(docre, tmp_path, tiny_checkpoint, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    Path("good.json").write_text(json.dumps(GOOD))
    model = () if "--model" in options else ("--model", tiny_checkpoint)
    ran = docre("extract", "good.json", *model, *options)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("docre: error: ")
    assert "Traceback" not in ran.err
    assert "Repo id must" not in ran.err
    assert re.search(message, ran.err), ran.err


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def spoil(folder: Path, how: str) -> None:
    if how == "no config":
        (folder / "config.json").unlink()
    elif how == "broken config":
        (folder / "config.json").write_text('{"model_type": "docre", ')
    elif how == "no weights":
        (folder / "model.safetensors").unlink()
    elif how == "truncated weights":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "no tokenizer":
        for path in folder.glob("token*"):
            path.unlink()
    elif how == "headless":
        model = DocREForRelationExtraction.from_pretrained(folder)
        state = {key: value for key, value in model.state_dict().items() if not key.startswith("head.")}
        model.save_pretrained(folder, state_dict=state)
    elif how in ("NaN", "infinite"):
        model = DocREForRelationExtraction.from_pretrained(folder)
        with torch.no_grad():
            model.head.classifier.weight[1, 3] = float("nan" if how == "NaN" else "inf")
        model.save_pretrained(folder)


SPOILED = [
    ("no config", r"has no config\.json"),
    ("broken config", r"not a valid JSON|config\.json"),
    ("no weights", r"model\.safetensors"),
    ("truncated weights", "SafetensorError|incomplete"),
    ("no tokenizer", r"has no tokenizer that loads.*tokenizer\.json"),
    ("headless", "lacks weights of DocREForRelationExtraction: head"),
    ("NaN", "not finite: its weights hold NaN"),
    ("infinite", "not finite"),
]


@pytest.mark.parametrize(("how", "message"), SPOILED, ids=[row[0] for row in SPOILED])
def test_a_spoiled_checkpoint_is_one_clear_error(docre, checkpoint, tmp_path, how, message):
    spoil(checkpoint, how)
    (tmp_path / "good.txt").write_text("[Ada](:PER) lived in [London](:LOC).")
    ran = docre("extract", tmp_path / "good.txt", "--model", checkpoint, "-o", tmp_path / "out.jsonl")
    assert (ran.code, ran.out) == (1, "")
    assert "docre: error: " in ran.err
    assert "Traceback" not in ran.err
    assert re.search(message, ran.err), ran.err
    assert not (tmp_path / "out.jsonl").exists()


def test_nan_weights_are_an_error_in_the_pipeline_too(checkpoint):
    spoil(checkpoint, "NaN")
    with pytest.raises(ValueError, match="not finite: its weights hold NaN"):
        pipeline("docre", model=str(checkpoint))(Document.from_markup("[Ada](:PER) lived in [London](:LOC)."))


def test_a_checkpoint_of_another_architecture(docre, tiny_bert_dir, tmp_path):
    (tmp_path / "good.json").write_text(json.dumps(GOOD))
    ran = docre("extract", tmp_path / "good.json", "--model", tiny_bert_dir)
    assert ran.code == 1
    assert "is a 'bert' checkpoint, not a relation extraction model of this library" in ran.err
    assert "DocREForRelationExtraction.from_encoder(" in ran.err
    with pytest.raises(ValueError, match="'bert' checkpoint, not a relation extraction model"):
        DocREProcessor.from_pretrained(tiny_bert_dir)


def test_a_folder_of_checkpoints_names_those_in_it(docre, tiny_checkpoint, tmp_path):
    (tmp_path / "good.json").write_text(json.dumps(GOOD))
    for step in (100, 200):
        shutil.copytree(tiny_checkpoint, tmp_path / "run" / f"checkpoint-{step}")
    ran = docre("extract", tmp_path / "good.json", "--model", tmp_path / "run")
    assert ran.code == 1
    assert "Name one of the folders in it: checkpoint-100, checkpoint-200." in ran.err


# ---------------------------------------------------------------------------------------------------------------------
# What looks odd and is fine
# ---------------------------------------------------------------------------------------------------------------------


def spans_of(text: str, *words: str) -> list[tuple[int, int]]:
    return [(text.index(word), text.index(word) + len(word)) for word in words]


FINE = {
    "no entities": ("Nothing happened.", []),
    "one entity": ("Ada lived.", [(0, 3)]),
    "overlapping mentions": ("The University of Vienna Hospital grew.", [(4, 24), (18, 33)]),
    "nested mentions": ("The University of Vienna grew.", [(4, 24), (18, 24)]),
    "two entities on one span": ("Ada lived.", [(0, 3), (0, 3)]),
    "mentions inside a word": ("Newfoundland grew.", [(0, 3), (3, 8), (8, 12)]),
    "one character": ("x", [(0, 1)]),
    "nothing but signs": ("!?… 。", [(0, 1), (4, 5)]),
    "emoji": (text := "👩‍🔬 met 👨‍👩‍👧‍👦 in 🇵🇱 🏴󠁧󠁢󠁥󠁮󠁧󠁿.", spans_of(text, "👩‍🔬", "👨‍👩‍👧‍👦", "🇵🇱")),
    "combining": (text := "Rene\u0301e lived in Łódz\u0301.", spans_of(text, "Rene\u0301e", "Łódz\u0301")),
    "combining marks without end": ("A" + "\u0301" * 3000 + " met Bo.", [(0, 3001), (3006, 3008)]),
    "right to left": (text := "נולד דוד בחיפה.", spans_of(text, "דוד", "בחיפה")),
    "both directions": (text := "Ada (عدا) met בו.", spans_of(text, "Ada", "عدا", "בו")),
    "asterisks": (text := "** Ada * met *Bo* in a*b*c.", spans_of(text, "Ada", "*Bo*", "a*b*c")),
    "markup of other kinds": (text := "<e>Ada</e> [SEP] met [CLS] Bo [PAD].", spans_of(text, "Ada", "Bo")),
    "control characters": ("Ada\x00met\x1b[31mBo\x07.", [(0, 3), (12, 14)]),
    "invisible characters": ("\u200bAda\u200b met \ufeffBo\u2060.", [(1, 4), (11, 13)]),
    "unknown characters": ("\U000e0fff met \ue000.", [(0, 1), (6, 7)]),
    "one word without end": ("a" * 5000 + " met Bo", [(0, 5000), (5005, 5007)]),
}


@pytest.mark.parametrize("name", FINE)
def test_odd_text_is_read_and_its_offsets_stay(pipe, name):
    text, spans = FINE[name]
    answer = pipe(mark(text, *spans))
    found = [
        (mention["start"], mention["end"], mention["text"])
        for entity in answer["entities"]
        for mention in entity["mentions"]
    ]
    assert found == [(start, end, text[start:end]) for start, end in spans]
    assert len(answer["relations"]) == 3 * len(spans) * (len(spans) - 1)
    coverage = answer["coverage"]
    assert coverage["mentions_read"] == coverage["mentions"] == len(spans)
    assert coverage["tokens_read"] == coverage["tokens"]
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize("name", FINE)
def test_odd_text_goes_through_the_command_line(docre, tiny_checkpoint, tmp_path, name):
    text, spans = FINE[name]
    (tmp_path / "in.json").write_text(json.dumps(mark(text, *spans)), encoding="utf-8")
    ran = docre("extract", tmp_path / "in.json", "-o", tmp_path / "out.jsonl", "--model", tiny_checkpoint)
    assert ran.code == 0, ran.err
    row = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert row["text"] == text
    assert [entity["mentions"][0]["text"] for entity in row["entities"]] == [text[start:end] for start, end in spans]
    ran = docre("extract", tmp_path / "in.json", "--model", tiny_checkpoint, "--threshold", 0)
    assert ran.code == 0
    assert not {"\x00", "\x07", "\x1b"} & set(ran.out), "nothing commands the terminal"
    # Two lines above the relations, and one for each.
    relations = 3 * len(spans) * (len(spans) - 1)
    assert len(ran.out.split("\n")) - 1 == (relations + 2 if relations else 1)


def test_a_marker_in_the_text_is_no_marker(pipe):
    # The model puts `*` around mentions: those of the text must not move them.
    features = pipe.processor([Document.from_dict(mark("* * * Ada * met * Bo", (6, 9), (18, 20)))])[0]
    tokens = pipe.tokenizer.convert_ids_to_tokens(features["input_ids"])
    assert [(tokens[token], tokens[token + 1]) for _, token in features["mentions"]] == [("*", "A"), ("*", "B")]


@pytest.mark.slow
def test_a_text_of_100_000_tokens(pipe):
    filler = "The River was old and the city was in the valley. " * 4200
    text = "Ada was born. " + filler + "Bo met Ada. " + filler + "Cleo left."
    second = text.index("Bo met")
    last = text.index("Cleo")
    document = {
        "text": text,
        "entities": [
            {"name": "Ada", "mentions": [{"start": 0, "end": 3}, {"start": second + 7, "end": second + 10}]},
            {"name": "Bo", "mentions": [{"start": second, "end": second + 2}]},
            {"name": "Cleo", "mentions": [{"start": last, "end": last + 4}]},
        ],
    }
    short = mark("Ada met Bo.", (0, 3), (8, 10))
    answers = pipe([short, document, short])
    coverage = answers[1]["coverage"]
    assert coverage["tokens"] == coverage["tokens_read"] >= 100_000
    assert coverage["mentions_read"] == 4
    assert len(answers[1]["relations"]) == 18
    assert answers[0]["relations"] == answers[2]["relations"]
    assert len(answers[0]["relations"]) == 6


# ---------------------------------------------------------------------------------------------------------------------
# Anything at all
# ---------------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 30) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NEARLY_RIGHT = st.fixed_dictionaries(
    {},
    optional={
        "title": JSON,
        "text": st.sampled_from(["Ada met Bo in London.", "", " "]) | JSON,
        "entities": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "name": JSON,
                    "type": JSON,
                    "mentions": st.lists(
                        st.fixed_dictionaries(
                            {}, optional={"start": st.integers(-1, 25) | JSON, "end": st.integers(-1, 25) | JSON}
                        ),
                        max_size=3,
                    )
                    | JSON,
                },
            )
            | JSON,
            max_size=3,
        )
        | JSON,
        "sents": JSON,
        "vertexSet": JSON,
        "sentences": JSON,
        "relations": JSON,
        "pairs": JSON,
    },
)


@given(NEARLY_RIGHT | JSON)
def test_whatever_comes_in_is_answered_or_refused(pipe, value):
    try:
        answer = pipe([value])[0]
    except DocumentError as error:
        assert "input 0: " in str(error)
    else:
        field = "entities" if value.get("entities") is not None else "vertexSet"
        assert len(answer["entities"]) == len(value.get(field) or ())
        for entity in answer["entities"]:
            for mention in entity["mentions"]:
                assert value["text"][mention["start"] : mention["end"]] == mention["text"]
        json.dumps(answer, allow_nan=False)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), st.data())
def test_any_text_with_any_mentions_keeps_its_offsets(pipe, text, data):
    edges = st.integers(0, len(text))
    spans = [sorted(data.draw(st.tuples(edges, edges))) for _ in range(data.draw(st.integers(0, 3)))]
    spans = [(start, end) for start, end in spans if text[start:end].strip()]
    if not text.strip():
        return
    answer = pipe(mark(text, *spans))
    mentions = [entity["mentions"][0] for entity in answer["entities"]]
    assert [(mention["start"], mention["end"]) for mention in mentions] == spans
    assert [mention["text"] for mention in mentions] == [text[start:end] for start, end in spans]
    assert answer["coverage"]["mentions_read"] == len(spans)
    assert len(answer["relations"]) == 3 * len(spans) * (len(spans) - 1)
