from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable

import published_forms as forms
import pytest
from published_forms import message, write

from modeling_docre.datasets_scripts import load_docre, reading_report
from modeling_docre.datasets_scripts.pubtator import iterate_pubtator
from modeling_docre.documents import DocumentError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


LOST = {"unreadable document": 1}
ROW = {"row that cannot be read": 1}


def spoil(old: str, new: str, count: int = -1) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, count)

    return change


def cut(size: int) -> Callable[[str], str]:
    return lambda text: text.rstrip()[:-size]


def latin(word: str) -> Callable[[str], bytes]:
    """Write a file in UTF-8, but for one word."""
    return lambda text: text.encode().replace(word.encode(), b"\xe9\xe9", 1)


# The second of two documents is spoilt: how, what the error says (place and field), what is counted, and how many
# documents are left.
PUBTATOR = {
    "no abstract": (spoil("12|a|", "12|x|"), ["line 12", "`abstract`"], LOST, 1),
    "no title": (spoil("12|t|", "12 "), ["line 11", "`title`"], LOST, 1),
    "other text": (spoil("velorin\tChemical", "velorim\tChemical"), ["line 5", "`text`"], None, 2),
    "offset outside": (lambda text: text[:400] + text[400:].replace("\t0\t7", "\t0\t700"), ["`start, end`"], None, 2),
    "offset that is none": (
        spoil("12\t0\t", "12\tzero\t"),
        ["line 13", "`start`"],
        {"mention with a broken offset": 1},
        2,
    ),
    "negative offset": (spoil("12\t0\t", "12\t-1\t"), ["line 13", "`start`"], {"mention with a broken offset": 1}, 2),
    "other abstract's row": (spoil("12\t0\t", "13\t0\t"), ["line 13", "`pmid`"], ROW, 2),
    "no type": (
        spoil("12\t0\t7\tVelorin\tChemical", "12\t0\t7\tVelorin\t"),
        ["`type`"],
        {"mention without a type": 1},
        2,
    ),
    "other relation": (spoil("12\tCID", "12\tPPI"), ["line 19", "`relation`"], ROW, 2),
    "cut off in a row": (cut(14), ["line 19", "`row`", "3 columns"], ROW, 2),
    "cut off in the head": (lambda text: text[: text.index("12|a|") + 2], ["line 12", "`abstract`"], LOST, 1),
    "same id": (spoil("12", "11"), ["line 11", "`pmid`"], LOST, 1),
    "encoding": (latin("12|a|Rats"), ["line 12", "column 1", "UTF-8"], LOST, 1),
}
EDGES = {
    "columns": (cut(2), ["line 2", "`pairs`"], LOST, 1),
    "no text": (lambda text: text.split("\n")[0] + "\n12\t\t\n", ["line 2", "`text`"], LOST, 1),
    "token outside": (spoil("\t10\t12", "\t10\t99"), ["line 1", "`pairs[1].first.start, end`"], None, 2),
    "token in two sentences": (spoil("\t2\t4", "\t2\t6"), ["`pairs[0].second.start, end`"], None, 2),
    "ends that are missing": (spoil("\t1:8\t", "\t1\t"), ["`pairs[0].first.start, end`"], None, 2),
    "relation": (spoil("1:CID:2", "CID"), ["`pairs[0].relation`"], {"pair that cannot be read": 2}, 2),
    "direction": (spoil("R2L", "left"), ["`pairs[1].direction`"], {"pair that cannot be read": 2}, 2),
    "same id": (spoil("\n12\t", "\n11\t"), ["line 2", "`pmid`"], LOST, 1),
    "encoding": (latin("ear pain .\t"), ["line 1", "UTF-8"], LOST, 1),
}
HACRED = {
    "no id": (spoil('"id": "2", ', ""), ["line 2", "`id`"], LOST, 1),
    "same id": (spoil('"id": "2"', '"id": "1"'), ["line 2", "`id`"], LOST, 1),
    "no entities": (spoil("vertex_char", "vertices"), ["line 1", "`vertex_char`"], None, 0),
    "no sentences": (spoil('"id": "2", ', '"id": "2", "sents_char": null, "old": '), ["line 2"], None, 1),
    "offset": (spoil('"pos": [3, 4]', '"pos": [3, 44]'), ["line 1", "pos"], {"mention outside its sentence": 2}, 2),
    "cut off": (cut(9), ["line 2", "not valid JSON"], {"line that is not JSON": 1}, 1),
    "encoding": (latin("甲生于"), ["line 1", "UTF-8"], {"line that is not JSON": 1}, 1),
    "no object": (lambda text: text + "17\n", ["line 3", "`entry`"], LOST, 2),
}
DWIE = {
    "no content": (spoil("content", "inhalt"), ["entry 0", "`content`"], None, 0),
    "no id": (spoil('"id": "DW_2", ', ""), ["entry 1", "`id`"], LOST, 1),
    "same id": (spoil("DW_2", "DW_1"), ["entry 1", "`id`"], LOST, 1),
    "no mentions": (spoil('"mentions"', '"m"', 1), ["entry 0", "`mentions`"], None, 1),
    "offset": (spoil('"begin": 0', '"begin": 999'), ["`mentions[0].begin`"], {"mention outside the text": 2}, 2),
    "text": (
        spoil('"text": "Mara Voss", "concept": 4}', '"text": "X", "concept": 4}'),
        ["`mentions[0].text`"],
        None,
        2,
    ),
    "concept": (
        spoil('"text": "Quil", "concept": 1}', '"text": "Quil", "concept": 9}'),
        ["`mentions[2].concept`"],
        None,
        2,
    ),
    "relation's end": (spoil('"o": 3', '"o": 33'), ["`relations[2].o`"], {"relation of a missing concept": 2}, 2),
    "relation's name": (spoil('"p": "in0"', '"p": ""'), ["`relations[2].p`"], {"relation without a name": 2}, 2),
    "concept twice": (spoil('{"concept": 3', '{"concept": 1'), ["`concepts[3].concept`"], {"broken concept": 2}, None),
}
FILES = {
    "pubtator": ("a.PubTator.txt", forms.pubtator("11", "12"), PUBTATOR),
    "edge-oriented": ("a.data", forms.edge_oriented_line("11") + "\n" + forms.edge_oriented_line("12") + "\n", EDGES),
    "hacred": ("a.json", forms.json_lines(forms.hacred_row("1"), forms.hacred_row("2")), HACRED),
    "dwie": ("a.json", json.dumps([forms.dwie_article("DW_1"), forms.dwie_article("DW_2")]), DWIE),
}


@pytest.mark.parametrize(("form", "case"), [(form, case) for form in FILES for case in FILES[form][2]])
def test_what_is_wrong_is_named_or_skipped_and_counted(form, case, tmp_path):
    name, content, cases = FILES[form]
    change, expected, counted, left = cases[case]
    spoilt = change(content)
    path = tmp_path / name
    path.write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.encode())
    error = message(load_docre, path, format=form)
    assert error.startswith(str(path))
    assert [part for part in expected if part not in error] == [], error
    if left == 0:
        assert "there is no document in it (2 x unreadable document)" in message(
            load_docre, path, format=form, strict=False
        )
        return
    data = load_docre(path, format=form, strict=False)
    good = load_docre(write(tmp_path / f"good-{name}", content), format=form)
    repairs, known = (reading_report(part)["repairs"] for part in (data, good))
    assert left is None or data.num_rows == left
    # Something is counted that is not counted in the good file.
    assert {cause for cause in repairs if repairs[cause] > known.get(cause, 0)}
    assert {**repairs, **(counted or {})} == repairs


@pytest.mark.parametrize("name", ["a.PubTator.txt", "a.data", "a.json"])
@pytest.mark.parametrize("content", ["", "\ufeff", "\r\n\r\n"])
def test_empty_files(name, content, tmp_path):
    path = write(tmp_path / name, content)
    for format in (None, "hacred") if name == "a.json" else (None,):
        assert f"{path}: the file is empty" in message(load_docre, path, format=format)
    if name == "a.json":
        assert f"{path}: the file is empty" in message(load_docre, path, format="dwie")


def test_abstracts_come_one_by_one(tmp_path):
    # The first ones come before the broken end of the file is seen.
    numbers = random.Random(0)
    text = "".join(f"{n}|t|{numbers.randbytes(2000).hex()}\n{n}|a|x\n{n}\tCID\ta\tb\n\n" for n in range(300))
    path = tmp_path / "a.PubTator.txt.gz"
    path.write_bytes(gzip.compress(text.encode())[:-30])
    entries = iterate_pubtator(path, None, strict=True, repairs=Counter())
    assert [next(entries)[1]["title"] for _ in range(200)] == [str(number) for number in range(200)]
    with pytest.raises(DocumentError, match=f"{path.name}: broken gzip file"):
        list(entries)


RENET = {
    "no abstract": ("abstracts.txt", lambda text: text.rstrip()[:-78], ["abstracts.txt, line 5", "`abstract`"], LOST),
    "same id": ("abstracts.txt", spoil("12\n", "11\n"), ["abstracts.txt, line 5", "`pmid`"], LOST),
    "encoding": ("abstracts.txt", latin("Velorin"), ["abstracts.txt, line 2", "UTF-8"], LOST),
    "annotation": (
        "anns.txt",
        spoil("12\t0\t7", "12\t1\t7"),
        ["anns.txt, line 5", "`text`"],
        {"mention with another text": 1},
    ),
    "annotation cut off": ("anns.txt", lambda text: text.rstrip()[:-2], ["anns.txt, line 7", "`row`"], ROW),
    "no columns": ("anns.txt", lambda text: text + "oops\n", ["anns.txt, line 9", "`row`"], ROW),
    "encoding of annotations": ("anns.txt", latin("Velorin"), ["anns.txt, line 1", "UTF-8"], LOST),
    "label": ("labels.csv", spoil("12,7,D000011,1", "12,7,D000011,yes"), ["labels.csv, line 3", "`row`"], ROW),
    "encoding of labels": ("labels.csv", latin("D000011"), ["labels.csv, line 2", "`row`", "UTF-8"], ROW),
    "two labels": (
        "labels.csv",
        lambda text: text + "12,7,D000011,0\n",
        ["labels.csv, line 4", "`label`"],
        {"label that contradicts another": 1},
    ),
    "no such abstract": (
        "labels.csv",
        lambda text: text + "13,7,D000011,0\n13,8,D000011,0\n14,7,D000011,1\n",
        ["abstracts.txt", "`pmid` is '13'"],
        {"row of a missing abstract": 3},
    ),
}


@pytest.mark.parametrize("case", RENET)
def test_renet(case, tmp_path):
    name, change, expected, counted = RENET[case]
    folder = forms.renet(tmp_path / "mine", "11", "12")
    spoilt = change((folder / name).read_text("utf-8"))
    (folder / name).write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.encode())
    error = message(load_docre, folder)
    assert error.startswith(str(folder)) and [part for part in expected if part not in error] == [], error
    data = load_docre(folder, strict=False)["train"]
    assert data.num_rows == 2 - counted.get("unreadable document", 0)
    repairs = reading_report(data)["repairs"]
    assert {**repairs, **counted} == repairs


def test_renet_without_abstracts(tmp_path):
    folder = forms.renet(tmp_path / "mine", "11")
    write(folder / "abstracts.txt", "")
    assert f"{folder / 'abstracts.txt'}: the file is empty" in message(load_docre, folder)


def test_broken_articles_of_a_folder_take_no_other_with_them(tmp_path):
    for number in range(24):
        write(tmp_path / f"DW_{number}.json", forms.dwie_article(f"DW_{number}"))
    write(tmp_path / "DW_1.json", '{"id": "DW_1", "content": ')
    write(tmp_path / "DW_2.json", "")
    error = message(load_docre, tmp_path)
    assert error.startswith(f"{tmp_path / 'DW_1.json'}: not valid JSON")
    data = load_docre(tmp_path, strict=False)
    assert sum(part.num_rows for part in data.values()) == 22
    assert sum(reading_report(part)["repairs"].get("unreadable document", 0) for part in data.values()) == 2
