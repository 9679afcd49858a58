"""The published files themselves, where they are at hand."""

from __future__ import annotations

import gzip

import pytest

from modeling_docre.datasets_scripts import compare_counts, load_docre, reading_report
from modeling_docre.documents import DocumentError

# Facts, candidate pairs of a chemical and a disease, and mentions without a concept of each split.
CDR = {"Training": (1038, 5432, 76), "Development": (1012, 5261, 59)}


@pytest.mark.parametrize("part", CDR)
def test_cdr(part, data_dir, tmp_path):
    path = data_dir / "cdr" / f"CDR_{part}Set.PubTator.txt.gz"
    if not path.is_file():
        pytest.skip(f"real data is absent: {path.name}")
    data = load_docre(path, cache_dir=tmp_path)
    facts, pairs, without = CDR[part]
    assert data.num_rows == 500
    assert sum(map(len, data["labels"])) == facts
    assert sum(map(len, data["pairs"])) == pairs
    repairs = reading_report(data)["repairs"]
    assert repairs["mention without a concept"] == without
    # Every row of a mention is a mention, once for each of its concepts, or was counted.
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [row for row in (line.rstrip("\n").split("\t") for line in stream) if len(row) > 4]
    kept = sum(len(vertex) for vertices in data["vertexSet"] for vertex in vertices)
    ids = sum(len({concept for concept in row[5].split("|") if concept != "-1"}) for row in rows)
    assert kept + repairs.get("duplicate mention", 0) == ids
    assert sum(row[5] == "-1" for row in rows) == without


def test_cdr_has_the_sizes_that_the_papers_report(data_dir, tmp_path):
    if not (data_dir / "cdr").is_dir():
        pytest.skip("real data is absent: cdr")
    data = load_docre(data_dir / "cdr", cache_dir=tmp_path)
    assert data.num_rows == {"train": 500, "validation": 500}
    assert compare_counts(data, "cdr") == {}


def test_dwie_without_its_texts(data_dir, tmp_path):
    folder = data_dir / "dwie"
    if not folder.is_dir():
        pytest.skip("real data is absent: dwie")
    files = sorted(folder.glob("DW_*.json"))
    assert len(files) == 3
    for path in [*files, folder]:
        with pytest.raises(DocumentError, match=r"DW_\d+\.json: `content` is None: the article's text is missing"):
            load_docre(path, cache_dir=tmp_path)
    with pytest.raises(DocumentError, match=r"no document in it \(3 x unreadable document"):
        load_docre(folder, strict=False, cache_dir=tmp_path)


def test_re_docred_has_the_sizes_that_its_paper_reports(data_dir, tmp_path):
    data = load_docre(data_dir / "re-docred", cache_dir=tmp_path)
    assert data.num_rows == {"validation": 500}
    assert compare_counts(data, "re-docred") == {}
