from __future__ import annotations

import gzip
import io
import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_docre import Document, DocumentError, count_repairs
from modeling_docre.data_files import (
    is_document_file,
    iter_documents,
    read_docred_rows,
    read_json,
    read_rows,
    write_documents,
)
from modeling_docre.json_stream import JsonProblem, JsonWindow
from modeling_docre.output_files import DataFileError, open_output
from modeling_docre.relation_files import read_relations

ADA = Document.from_markup(
    "[Ada](ada:PER) was born in [London](:LOC). [She](ada) was 12 years old in [Łódź](:LOC) 👩‍🔬.", title="Ada"
)
BO = Document.from_text(
    "Bo saw Ada.",
    [{"name": "Bo", "type": "PER", "mentions": [{"start": 0, "end": 2}]}, {"mentions": [{"start": 7, "end": 10}]}],
    title="Bo",
    relations=[{"head": 0, "tail": 1, "relation": "saw", "evidence": [0]}],
    pairs=[[0, 1]],
)
IN_WORDS = {
    "title": "Story",
    "sents": [["Ada", "was", "born", "in", "London", "."]],
    "vertexSet": [
        [{"name": "Ada", "sent_id": 0, "pos": [0, 1], "type": "PER"}],
        [{"name": "London", "sent_id": 0, "pos": [4, 5], "type": "LOC"}],
    ],
    "labels": [{"h": 0, "t": 1, "r": "P19", "evidence": [0]}],
}
ONE = '{"text": "Ada lived.", "entities": []}'


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(
        gzip.compress(data) if name.lower().endswith(".gz") and not data.startswith(b"\x1f\x8b") else data
    )
    return path


# ---------------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(ADA.to_dict())),
        ("a.json", json.dumps([ADA.to_dict()], indent=1, ensure_ascii=False)),
        ("A.JSON", json.dumps([ADA.to_dict()])),
        ("a.json.gz", json.dumps([ADA.to_dict()])),
        ("a.jsonl", json.dumps(ADA.to_dict())),
        ("a.jsonl", "\n\n" + json.dumps(ADA.to_dict()) + "\r\n  \r\n"),
        ("a.jsonl.gz", json.dumps(ADA.to_dict(), ensure_ascii=False) + "\n"),
        ("A.JSONL.GZ", json.dumps(ADA.to_dict(), ensure_ascii=False) + "\n"),
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_kind_of_file(tmp_path, name, content, mark):
    assert list(iter_documents(write(tmp_path, name, mark + content.encode()))) == [ADA]


@pytest.mark.parametrize("name", ["Ada.txt", "Ada.txt.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_text_file_is_one_document_in_markup(tmp_path, name, end, mark):
    content = f"[Ada](:PER) was born.{end}{end}She lived in [London](:LOC).{end}".encode()
    (document,) = iter_documents(write(tmp_path, name, mark + content))
    assert document.title == name
    assert document.text == "Ada was born.\n\nShe lived in London."
    assert [entity.name for entity in document.entities] == ["Ada", "London"]


def test_both_forms_may_be_mixed_and_lines_are_read_as_they_go(tmp_path):
    lines = [json.dumps(ADA.to_dict()), json.dumps(IN_WORDS), '{"text": "cut of']
    documents = iter_documents(write(tmp_path, "a.jsonl", "\n".join(lines)))
    assert next(documents) == ADA
    assert next(documents) == Document.from_docred(IN_WORDS)
    with pytest.raises(DataFileError, match="line 3"):
        next(documents)


def test_standard_input_is_json_lines_in_utf8(monkeypatch):
    data = (json.dumps(ADA.to_dict(), ensure_ascii=False) + "\n" + json.dumps(BO.to_dict())).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="latin-1"))
    assert list(iter_documents("-")) == [ADA, BO]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "Ada" "entities": []}')))
    with pytest.raises(DataFileError, match="standard input, line 1, column 16: not JSON"):
        list(iter_documents("-"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "", "a.json, line 1, column 1: not JSON .*The file is empty"),
        ("a.json", '[\n{"text": "Ada",\n "enti', "a.json, line 3, column 2: not JSON .*was the file cut off"),
        ("a.json", f"[{ONE},\n{ONE}", "line 2, .*was the file cut off"),
        ("a.json", f"[{ONE}\n{ONE}]", "line 2, column 1: not JSON"),
        ("a.json", f"{ONE}\n{ONE}\n", "line 2, .*let the file end in .jsonl"),
        ("a.json", "3", "a.json: 3, where a document or a list"),
        ("a.json", '"text"', "where a document or a list"),
        ("a.json", "[" * 100_000, "a.json, line 1: not JSON that can be read"),
        ("a.json", f'[{{"text": {"1" * 5000}}}]', "a.json, line 1: not JSON that can be read"),
        ("a.jsonl", f"{ONE}\n\n{ONE[:20]}\n{ONE}", "a.jsonl, line 3, column 10: not JSON .*was the file cut off"),
        ("a.jsonl", f"{ONE}\n[{ONE}]\n", r"a.jsonl, line 2: a list, where one document should be.*ends in \.json"),
        ("a.jsonl.gz", gzip.compress(ONE.encode() * 99, mtime=0)[:-20], "a.jsonl.gz: broken gzip file"),
        ("a.jsonl.gz", b"\x1f\x8b but no gzip", "a.jsonl.gz: broken gzip file"),
        (
            "a.jsonl",
            f"{ONE}\n".encode() + '{"text": "Zoë"}'.encode("latin-1"),
            "a.jsonl, line 2, column 13: not a text file in UTF-8 .*Save it as UTF-8",
        ),
        ("a.json", bytes(range(256)), "a.json: not a text file in UTF-8"),
        ("a.txt", "Zoë".encode("utf-16"), "a.txt: not a text file in UTF-8"),
        ("a.pdf", b"%PDF", r"a.pdf: nothing is known about files that end in '\.pdf'. Pass \.json"),
        ("a", ONE, r"a: the name has no ending. Pass \.json"),
    ],
)
def test_a_broken_file_is_named_with_the_place_and_the_remedy(tmp_path, name, content, message):
    with pytest.raises(DataFileError, match=message):
        list(iter_documents(write(tmp_path, name, content)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"text": ""}', "a.json: `text` is '': there is not a single word"),
        ("a.json", '{"text": " \\n "}', "there is not a single word"),
        ("a.json", f'[{ONE}, {{"title": "Bo", "sents": 3}}]', "a.json, document 1: document 'Bo': `sents` is 3"),
        ("a.json", '{"data": []}', 'a.json: neither "text" nor "sents"'),
        ("a.jsonl", f"{ONE}\n\n3", "a.jsonl, line 3: 3 is not a dict but a int"),
        (
            "a.jsonl",
            '{"text": "A", "entities": [{"mentions": [{"start": 0, "end": 9}]}]}',
            "line 1: .*outside the text",
        ),
        ("a.txt", "", "a.txt.*there is not a single word"),
        ("a.txt", "\n\n[Ada](:PER lived in [London](:LOC)", "a.txt: document 'a.txt': markup.*character 2"),
        ("a.json", '{"text": "broken \\ud800 half"}', "surrogate"),
    ],
)
def test_a_wrong_document_is_named_with_its_file_and_place(tmp_path, name, content, message):
    with pytest.raises(DocumentError, match=message):
        list(iter_documents(write(tmp_path, name, content)))


def test_a_line_that_is_not_utf8_takes_no_other_with_it(tmp_path):
    lines = [json.dumps(ADA.to_dict(), ensure_ascii=False).encode()] * 1000
    lines[500] = b'{"text": "Zo\xeb", "entities": []}'
    path = write(tmp_path, "a.jsonl", b"\r\n".join(lines))
    found = iter_documents(path)
    assert [next(found) for _ in range(500)] == [ADA] * 500
    with pytest.raises(DataFileError, match=r"a\.jsonl, line 501, column 13: not a text file in UTF-8"):
        next(found)
    documents = list(iter_documents(path, strict=False))
    assert documents[:500] + documents[501:] == [ADA] * 999
    assert count_repairs(documents) == {"line that is not JSON": 1}


class Counting(io.StringIO):
    """A text that knows how much of it was read."""

    def read(self, size=-1):
        self.taken = getattr(self, "taken", 0) + size
        return super().read(size)


@pytest.mark.parametrize("wrong", ['{"a" 1}', "{1}", "[1 2]", "oops", '{"a": "\\x"}', '{"a": "\\u12x4"}', "[1,]"])
def test_what_is_wrong_early_is_said_without_reading_the_rest(wrong):
    text = Counting(f"[{wrong}, " + "1, " * 100_000)
    with pytest.raises(JsonProblem):
        list(JsonWindow(text, 100).items())
    assert text.taken <= 1000


@pytest.mark.parametrize("chunk", range(1, 40))
def test_json_is_the_same_however_it_is_cut(chunk):
    value = [{"a\u2028": [1.5e3, -1e-5, True, None, '\U0001f469\\ "']}, -12, "x" * 50, [[], {}]]
    for text in (json.dumps(value), json.dumps(value, indent=9), json.dumps(value, ensure_ascii=False)):
        assert list(JsonWindow(io.StringIO(text), chunk).items()) == value


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(DataFileError, match="there is no such file"):
        list(iter_documents(tmp_path / "absent.jsonl"))
    with pytest.raises(DataFileError, match="a folder"):
        list(iter_documents(tmp_path))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(DataFileError, match="a folder, where a file should be"):
        list(iter_documents(tmp_path / "folder.json"))
    with pytest.raises(DataFileError, match="there is no such file"):
        read_json(tmp_path / "absent.json")


def test_without_strict_the_order_stays_and_all_is_counted(tmp_path):
    outside = {**ADA.to_dict(), "entities": [*ADA.to_dict()["entities"], {"mentions": [{"start": 0, "end": 999}]}]}
    lines = [json.dumps(outside), '{"text": "cut', "[]", '{"text": ""}', json.dumps(BO.to_dict())]
    documents = list(iter_documents(write(tmp_path, "a.jsonl", "\n".join(lines)), strict=False))
    places = [f"{tmp_path / 'a.jsonl'}, line {number}" for number in (2, 3, 4)]
    assert [document.title for document in documents] == ["Ada", *places, "Bo"]
    assert [len(document.entities) for document in documents] == [4, 0, 0, 0, 2]
    assert count_repairs(documents) == {
        "mention outside the text": 1,
        "entity without mentions": 1,
        "line that is not JSON": 1,
        "unreadable document": 2,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------------------


def test_packed_bytes_are_the_same_every_time_and_everywhere(tmp_path, monkeypatch):
    for name in ("a.jsonl.gz", "B.JSONL.GZ"):
        write_documents([ADA, BO], tmp_path / name)
        monkeypatch.setattr("time.time", lambda: 1.0)
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).count(b"\n") == 2
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "B.JSONL.GZ").read_bytes()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_keep_documents_as_they_are(tmp_path, name):
    assert write_documents(iter([ADA, BO]), tmp_path / name) == 2
    assert list(iter_documents(tmp_path / name)) == [ADA, BO]
    assert list(tmp_path.iterdir()) == [tmp_path / name]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_json_is_docreds_form(tmp_path, name):
    story = Document.from_docred(IN_WORDS)
    assert write_documents([story, BO], tmp_path / name) == 2
    written = read_json(tmp_path / name)
    assert written[0] == IN_WORDS
    assert [set(entry) for entry in written[1:]] == [{"title", "sents", "vertexSet", "labels", "pairs"}]
    assert next(iter_documents(tmp_path / name)) == story


def test_nothing_is_still_a_file_that_can_be_read(tmp_path):
    for name in ("a.json", "a.jsonl"):
        assert write_documents([], tmp_path / name) == 0
        assert list(iter_documents(tmp_path / name)) == []


def test_a_failure_leaves_what_was_there_before(tmp_path):
    write_documents([ADA], tmp_path / "a.jsonl")

    def failing():
        yield BO
        raise DocumentError("in the middle")

    for name in ("a.jsonl", "new.json", "new.jsonl.gz"):
        with pytest.raises(DocumentError, match="in the middle"):
            write_documents(failing(), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    assert list(iter_documents(tmp_path / "a.jsonl")) == [ADA]


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(DataFileError, match=r"a\.csv: documents are written as \.jsonl"):
        write_documents([ADA], tmp_path / "a.csv")
    with pytest.raises(DataFileError, match=r"there is no folder .*absent"):
        write_documents([ADA], tmp_path / "absent" / "a.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataFileError, match="cannot be written"):
        write_documents([ADA], tmp_path / "folder.jsonl")


def test_output_to_what_is_no_file(tmp_path, capsys):
    for path in (None, "-"):
        with open_output(path) as stream:
            stream.write("Łódź\n")
    assert capsys.readouterr().out == "Łódź\n" * 2
    with open_output("/dev/null") as stream:
        stream.write("gone")
    assert not Path("/dev/null").is_file()


def test_a_name_that_no_file_can_have():
    with pytest.raises(DataFileError, match="holds a null character"):
        list(iter_documents("a\0.json"))


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.jsonl", "a.jsonl.gz", "result"])
def test_rows_are_read_as_they_stand(tmp_path, name):
    rows = [{"title": "T", "r": "P17"}, {"anything": [1]}]
    content = "\n".join(map(json.dumps, rows)) if "jsonl" in name else json.dumps(rows)
    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    assert read_rows(tmp_path / name) == rows


def test_docred_rows_keep_their_dirt_and_text_becomes_words(tmp_path):
    dirty = {**IN_WORDS, "labels": IN_WORDS["labels"] * 2}
    in_text = Document.from_docred(IN_WORDS).to_dict()
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, [dirty, in_text])))
    first, second = read_docred_rows(path)
    assert first == dirty
    assert (second["vertexSet"], second["labels"]) == (IN_WORDS["vertexSet"], IN_WORDS["labels"])
    path.write_text(json.dumps({"text": "Ada.", "entities": 5}))
    with pytest.raises(DocumentError, match=r"a\.jsonl, document 0: `entities` is 5"):
        read_docred_rows(path)


def test_documents_are_no_file_of_relations(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "Ada."}\n{"text": "Bo."}\n')
    with pytest.raises(DataFileError, match=r"but one of documents.*docre data relations DOCUMENTS -o rel_info\.json"):
        read_relations(path)


def test_relations_in_class_order(tmp_path):
    file = tmp_path / "relations.json"
    for content, expected in (
        ({"P17": 2, "Na": 0, "P131": 1}, ["P131", "P17"]),
        ({"P17": 2, "P131": 1}, ["P131", "P17"]),
        ({"P17": "country"}, {"P17": "country"}),
        (["P131", "P17"], ["P131", "P17"]),
    ):
        file.write_text(json.dumps(content))
        assert read_relations(file) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"Na": 0, "P17": 1, "P131": 3}, "'P131' has 3, and none has 2"),
        ({"Na": 0, "P17": 1, "P131": 1}, "'P17' and 'P131' both have 1"),
        ({"Na": 0, "None": 0, "P17": 1}, "'Na' and 'None' both have 0"),
        ({"P17": 2, "P131": 3}, "'P17' has 2, and none has 1"),
        ({"Na": -1, "P17": 0}, "'Na' has -1, and none has 0"),
        ({"Na": 0, "P17": True}, "no relations. Write a list"),
        ({"Na": 0, "P17": 1.0}, "no relations. Write a list"),
        ("P17", "no relations. Write a list"),
    ],
)
def test_numbers_that_are_no_order_of_classes(tmp_path, content, message):
    file = tmp_path / "rel2id.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataFileError, match=re.escape(message)) as error:
        read_relations(file)
    assert str(error.value).startswith(f"{file}: ") and "Write " in str(error.value)


def test_names_of_document_files():
    assert all(map(is_document_file, ("a.json", "b/a.JSONL", "a.txt.gz", "-")))
    assert not any(map(is_document_file, ("a", "folder/", "a.csv", "user/data", "a.gz", "")))


# ---------------------------------------------------------------------------------------------------------------------
# Properties
# ---------------------------------------------------------------------------------------------------------------------


@st.composite
def documents(draw) -> Document:
    words = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1))
    text = " ".join(words)
    if not text.strip():
        text += "x"
    edges = st.integers(0, len(text))
    entities = []
    for _ in range(draw(st.integers(0, 4))):
        spans = [sorted(draw(st.tuples(edges, edges))) for _ in range(draw(st.integers(1, 3)))]
        mentions = [{"start": start, "end": end} for start, end in spans if text[start:end].strip()]
        if mentions:
            entities.append({"type": draw(st.sampled_from(["PER", None])), "mentions": mentions})
    return Document.from_text(
        text, entities, title=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=9))
    )


@given(st.lists(documents(), max_size=4), st.sampled_from(["a.jsonl", "a.jsonl.gz"]))
def test_any_documents_survive_json_lines(tmp_path_factory, items, name):
    path = tmp_path_factory.mktemp("property") / name
    assert write_documents(items, path) == len(items)
    assert list(iter_documents(path)) == items


@given(st.binary(max_size=200), st.sampled_from(["a.json", "a.jsonl", "a.txt", "a.json.gz"]), st.booleans())
def test_any_bytes_are_documents_or_an_error_that_names_the_file(tmp_path_factory, data, name, strict):
    path = tmp_path_factory.mktemp("property") / name
    path.write_bytes(data)
    try:
        for document in iter_documents(path, strict=strict):
            assert isinstance(document, Document)
    except (DataFileError, DocumentError) as error:
        assert str(path) in str(error)


@given(st.integers(0, 400), st.sampled_from(["a.json", "a.jsonl", "a.jsonl.gz"]))
def test_a_file_cut_off_anywhere_is_an_error_or_holds_whole_documents(tmp_path_factory, length, name):
    path = tmp_path_factory.mktemp("property") / name
    write_documents([Document.from_docred(IN_WORDS), Document.from_docred(IN_WORDS)], path)
    path.write_bytes(path.read_bytes()[:length])
    try:
        found = list(iter_documents(path))
    except (DataFileError, DocumentError) as error:
        assert str(path) in str(error)
    else:
        assert all(document.entities and document.relations for document in found)
