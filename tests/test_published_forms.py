from __future__ import annotations

import gzip
import json
import logging

import published_forms as forms
import pytest
from published_forms import message, write

from modeling_docre.data_files import iter_documents
from modeling_docre.datasets_scripts import compare_counts, convert, load_docre, load_regime, reading_report
from modeling_docre.datasets_scripts.mesh import drop_hypernyms, read_mesh_tree
from modeling_docre.datasets_scripts.published_files import find_form

COMPOSITE = "composite mention, which counts for each of its concepts"
PART = "part of a composite mention without a concept"
UNLISTED = "candidate pair without a row of labels, which is a negative one"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def names(row: dict) -> list[list[str]]:
    return [[mention["name"] for mention in vertex] for vertex in row["vertexSet"]]


def facts(row: dict) -> list[tuple[int, int, str]]:
    return [(label["h"], label["t"], label["r"]) for label in row["labels"]]


def words(row: dict) -> list[list[list[str]]]:
    """The words that each mention covers."""
    return [[row["sents"][m["sent_id"]][slice(*m["pos"])] for m in vertex] for vertex in row["vertexSet"]]


# ---------------------------------------------------------------------------------------------------------------------
# What is read
# ---------------------------------------------------------------------------------------------------------------------

FILES = {
    "pubtator": ("a.PubTator.txt", forms.pubtator("11", "12")),
    "edge-oriented": ("a.data", forms.edge_oriented_line("11") + "\n" + forms.edge_oriented_line("12") + "\n"),
    "hacred": ("a.json", forms.json_lines(forms.hacred_row("1"), forms.hacred_row("2"))),
    "dwie": ("a.json", json.dumps([forms.dwie_article("DW_1"), forms.dwie_article("DW_2")])),
}


def check_pubtator(row: dict) -> None:
    assert row["title"] == "11"
    assert row["sents"][0] == ["Velorin", "causes", "slow", "gait", "."]
    assert [len(vertex) for vertex in row["vertexSet"]] == [2, 1, 1, 1, 1]
    assert names(row)[0] == ["Velorin", "velorin"] and names(row)[3] == names(row)[4] == ["Ear and nose pain"]
    assert [vertex[0]["type"] for vertex in row["vertexSet"]] == [
        "Chemical",
        "Disease",
        "Chemical",
        "Disease",
        "Disease",
    ]
    assert words(row)[3] == [["Ear", "and", "nose", "pain"]]
    assert facts(row) == [(0, 1, "CID")]
    assert row["pairs"] == [[0, 1], [0, 3], [0, 4], [2, 1], [2, 3], [2, 4]]


def check_edge_oriented(row: dict) -> None:
    assert row["sents"][1] == ["Rats", "took", "velorin", "and", "had", "ear", "pain", "."]
    assert names(row) == [["Velorin", "velorin"], ["slow gait"], ["ear pain"], ["Rats"]]
    assert words(row) == [[["Velorin"], ["velorin"]], [["slow", "gait"]], [["ear", "pain"]], [["Rats"]]]
    assert facts(row) == [(0, 1, "CID")]
    assert row["pairs"] == [[0, 1], [0, 2]]  # the second was written from right to left


def check_hacred(row: dict) -> None:
    assert row["title"] == "1" and row["sents"][0] == list("甲生于乙。")
    assert facts(row) == [(0, 1, "birthplace")] and row["labels"][0]["evidence"] == [0]
    assert words(row) == [[["甲"], ["甲"]], [["乙"]], [["丙"]]]
    assert row["pairs"] is None


def check_dwie(row: dict) -> None:
    assert row["sents"][0] == ["Mara", "Voss", "leads", "Ostania", "."]
    assert names(row) == [["Ostania"], ["Quil"], ["Ostanian"], ["Mara Voss"]]
    assert [vertex[0]["type"] for vertex in row["vertexSet"]] == ["location", "location", "gpe0-x", "person"]
    assert facts(row) == [(3, 0, "head_of_gov"), (3, 0, "agent_of")]
    assert row["pairs"] is None


IDS = "entity's ids left out (no column for them)"
CHECKS = {
    "pubtator": (
        check_pubtator,
        {"mention without a concept": 2, COMPOSITE: 2, PART: 2, "two entities on one span": 2, IDS: 10},
    ),
    "edge-oriented": (check_edge_oriented, {"pair marked not_include": 2, IDS: 8}),
    "hacred": (check_hacred, {}),
    "dwie": (
        check_dwie,
        {
            "mention without a concept": 2,
            "concept without mentions": 2,
            "relation of a concept without mentions": 2,
        },
    ),
}
each_form = pytest.mark.parametrize("form", FILES)


@each_form
@pytest.mark.parametrize("dress", ["plain", "crlf", "bom", "gzip"])
def test_each_form_is_found_and_read(form, dress, tmp_path):
    name, content = FILES[form]
    raw = content.encode()
    raw = raw.replace(b"\n", b"\r\n") if dress == "crlf" else raw
    raw = b"\xef\xbb\xbf" + raw if dress == "bom" else raw
    path = tmp_path / (name + ".gz" * (dress == "gzip"))
    path.write_bytes(gzip.compress(raw) if dress == "gzip" else raw)
    assert find_form(path) == form
    data = load_docre(path)
    check, repairs = CHECKS[form]
    check(data[0])
    assert data.num_rows == 2
    assert reading_report(data)["repairs"] == repairs


def test_the_form_is_found_by_what_the_first_line_begins_with(tmp_path):
    path = write(tmp_path / "words.txt", "\n\n" + forms.pubtator("11"))
    assert find_form(path) == "pubtator" and load_docre(path)["title"] == ["11"]
    path = write(tmp_path / "table.tsv", forms.edge_oriented_line())
    assert find_form(path) == "edge-oriented"
    assert find_form(write(tmp_path / "x.json", [{"title": "T", "sents": [["a"]], "vertexSet": []}])) == "docred"
    with pytest.raises(ValueError, match="`format` is 'bioc'"):
        load_docre(path, format="bioc")
    assert "this is HacRED's form" in message(
        load_docre, write(tmp_path / "h.json", [forms.hacred_row()]), format="docred"
    )


def test_hacred_has_two_views_and_may_have_no_labels(tmp_path):
    path = write(tmp_path / "test.json", forms.json_lines(forms.hacred_row("1", labelled=False)))
    row = load_docre(path, view="word")[0]
    assert row["sents"][0] == ["甲", "生于", "乙", "。"] and row["labels"] is None
    assert load_docre(path)[0]["sents"][0] == list("甲生于乙。")  # the cache keeps the views apart
    with pytest.raises(ValueError, match="`view` is 'both'"):
        load_docre(path, view="both")
    with pytest.raises(ValueError, match="`view` is for HacRED"):
        load_docre(write(tmp_path / "a.PubTator.txt", forms.pubtator("11")), view="word")


def test_a_pubtator_file_without_relations_is_unlabelled_and_one_abstract_without_is_not(tmp_path):
    bare = "\n".join(forms.pubtator_block("12")[:-1]) + "\n"
    assert load_docre(write(tmp_path / "a.PubTator.txt", bare))["labels"] == [None]
    both = load_docre(write(tmp_path / "b.PubTator.txt", forms.pubtator("11") + bare))
    assert [len(labels) for labels in both["labels"]] == [1, 0]
    assert load_docre(tmp_path / "a.PubTator.txt")[0]["pairs"] == both[0]["pairs"]


def test_a_fact_of_a_concept_that_is_nowhere_is_counted(tmp_path):
    text = forms.pubtator("11").rstrip() + "\n11\tCID\tD000001\tD999999\n"
    data = load_docre(write(tmp_path / "a.PubTator.txt", text))
    assert facts(data[0]) == [(0, 1, "CID")]
    assert reading_report(data)["repairs"]["fact of a concept without mentions"] == 1


def test_a_fact_whose_concepts_are_in_the_wrong_order_is_nonsense(tmp_path):
    lines = [line.split("\t") for line in forms.pubtator("11").rstrip().splitlines()]
    ((*_, head, tail),) = (line for line in lines if len(line) == 4)
    path = write(tmp_path / "a.PubTator.txt", forms.pubtator("11").rstrip() + f"\n11\tCID\t{tail}\t{head}\n")
    assert "no Chemical and Disease in this order" in message(load_docre, path)
    data = load_docre(path, strict=False)
    assert facts(data[0]) == [(0, 1, "CID")]
    assert reading_report(data)["repairs"]["fact of no candidate pair"] == 1


def test_the_command_line_has_all_forms_and_views():
    from modeling_docre.cli_options import make_parser
    from modeling_docre.datasets_scripts.hacred import VIEWS
    from modeling_docre.datasets_scripts.published_files import FORMATS

    for value, option, known in ((value, o, k) for o, k in (("format", FORMATS), ("view", VIEWS)) for value in k):
        options = make_parser().parse_args(["data", "stats", "a.json", f"--{option}", value])
        assert getattr(options, option) == value and value in known
    with pytest.raises(SystemExit):
        make_parser().parse_args(["data", "stats", "a.json", "--format", "other"])


@pytest.mark.parametrize("dress", ["plain", "crlf", "bom", "other order"])
def test_renet(dress, tmp_path):
    folder = forms.renet(tmp_path / "mine", "11", "12")
    for path in folder.iterdir():
        raw = path.read_bytes()
        if dress == "other order" and path.name == "anns.txt":
            raw = b"\n".join(reversed(raw.splitlines())) + b"\n"
        raw = raw.replace(b"\n", b"\r\n") if dress == "crlf" else raw
        path.write_bytes(b"\xef\xbb\xbf" * (dress == "bom") + raw)
    data = load_docre(folder, "train")
    row = data[1]
    types = {vertex[0]["name"]: vertex[0]["type"] for vertex in row["vertexSet"]}
    assert types == {"Velorin": "Gene", "slow gait": "Disease", "tamox": "Gene"}
    place = {name[0]: number for number, name in enumerate(names(row))}
    assert facts(row) == [(place["Velorin"], place["slow gait"], "GDA")]
    assert {tuple(pair) for pair in row["pairs"]} == {
        (place[gene], place["slow gait"]) for gene in ("Velorin", "tamox")
    }
    assert reading_report(data)["repairs"] == {UNLISTED: 2, IDS: 6}


# ---------------------------------------------------------------------------------------------------------------------
# The tree of MeSH
# ---------------------------------------------------------------------------------------------------------------------

TREE = (
    "D000011\tC10.100.200\tslow gait\nC10.100\tD000012\tgait\nD000013\tC10.100.200.300,F01\tvitamin B12\nbroken line\n"
)


def test_negatives_more_general_than_a_fact_of_the_same_chemical_are_left_out(tmp_path):
    tree = write(tmp_path / "tree.tsv", TREE)
    path = write(tmp_path / "a.PubTator.txt", forms.pubtator("11"))
    data = load_docre(path, mesh_tree=tree)
    # D000012 is an ancestor of the fact's disease: its pair with the same chemical goes, that with another one stays,
    # and so does the more special D000013.
    assert data[0]["pairs"] == [[0, 1], [0, 4], [2, 1], [2, 3], [2, 4]]
    assert reading_report(data)["repairs"]["candidate pair with a hypernym of a fact's disease"] == 1
    assert load_docre(path)[0]["pairs"] != data[0]["pairs"]
    write(tree, TREE.replace("C10.100\t", "C10.999\t"))
    assert [0, 3] in load_docre(path, mesh_tree=tree)[0]["pairs"]


def test_the_tree_of_a_table_and_of_the_published_descriptors(tmp_path):
    table = read_mesh_tree(write(tmp_path / "tree.tsv", TREE))
    assert table == {"D000011": ("C10.100.200",), "D000012": ("C10.100",), "D000013": ("C10.100.200.300", "F01")}
    records = "*NEWRECORD\nRECTYPE = D\nMH = Gait\nMN = C10.100\nMN = F01\nUI = D000012\n\n*NEWRECORD\nUI = D000099\n"
    assert read_mesh_tree(write(tmp_path / "d.bin", records)) == {"D000012": ("C10.100", "F01")}
    error = message(read_mesh_tree, write(tmp_path / "mtrees.bin", "Gait;C10.100\n"))
    assert "no line has an id of MeSH" in error
    pairs = [("C1", "D000012"), ("C1", "D000013"), ("C1", "D000011")]
    assert drop_hypernyms(pairs, [("C1", "MESH:D000011")], table) == pairs[1:]
    # What holds stays, however general it is.
    assert drop_hypernyms(pairs, pairs, table) == pairs


def test_tables_lose_such_negatives_too(tmp_path):
    ids = {"\tD1\t": "\tD000011\t", "\tD2\t": "\tD000012\t"}
    line = forms.edge_oriented_line()
    for old, new in ids.items():
        line = line.replace(old, new)
    data = load_docre(write(tmp_path / "a.data", line), mesh_tree=write(tmp_path / "tree.tsv", TREE))
    assert data[0]["pairs"] == [[0, 1]] and facts(data[0]) == [(0, 1, "CID")]
    assert reading_report(data)["repairs"]["candidate pair with a hypernym of a fact's disease"] == 1


def test_options_of_forms_are_for_files(tmp_path):
    convert(write(tmp_path / "a.data", forms.edge_oriented_line()), tmp_path / "repository")
    with pytest.raises(ValueError, match="is a dataset repository"):
        load_docre(tmp_path / "repository", format="edge-oriented")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        load_docre(tmp_path / "none.PubTator.txt", format="pubtator")


def test_a_link_is_read_by_its_own_name(tmp_path):
    blob = tmp_path / "blobs" / "4f2a"
    blob.parent.mkdir()
    blob.write_bytes(gzip.compress(forms.pubtator("11").encode()))
    (tmp_path / "CDR_TestSet.PubTator.txt.gz").symlink_to(blob)
    assert load_docre(tmp_path, "test")["title"] == ["11"]


def test_the_tree_is_for_diseases_alone(tmp_path):
    tree = write(tmp_path / "tree.tsv", TREE)
    with pytest.raises(ValueError, match="`mesh_tree` is for pubtator"):
        load_docre(write(tmp_path / "dev.json", [forms.hacred_row()]), mesh_tree=tree)
    with pytest.raises(FileNotFoundError, match="`mesh_tree`: there is no file"):
        load_docre(write(tmp_path / "a.data", forms.edge_oriented_line()), mesh_tree=tmp_path / "none")


# ---------------------------------------------------------------------------------------------------------------------
# Folders, regimes, sizes, conversion
# ---------------------------------------------------------------------------------------------------------------------


def test_folders_of_cdr_and_of_tables(tmp_path, caplog):
    for number, part in enumerate(("Training", "Development", "Test"), start=1):
        text = forms.pubtator(*map(str, range(number)))
        (tmp_path / f"CDR_{part}Set.PubTator.txt.gz").write_bytes(gzip.compress(text.encode()))
    write(tmp_path / "CDR_TrainingSet.BioC.xml", "<collection/>")
    with caplog.at_level(logging.WARNING, logger="modeling_docre"):
        data = load_docre(tmp_path)
    assert data.num_rows == {"train": 1, "validation": 2, "test": 3}
    assert "other sizes of cdr. train documents: 1 instead of 500, validation documents: 2" in caplog.text
    for part in ("train", "dev", "test"):
        write(tmp_path / "tables" / f"{part}_filter.data", forms.edge_oriented_line())
    assert set(load_docre(tmp_path / "tables")) == {"train", "validation", "test"}


def test_folder_of_hacred(tmp_path):
    for name in ("train", "dev", "test"):
        write(tmp_path / f"{name}.json", forms.json_lines(forms.hacred_row("1", labelled=name != "test")))
    write(tmp_path / "rel2id.json", {"birthplace": 1})
    data = load_docre(tmp_path)
    assert [part["labels"][0] is None for part in data.values()] == [False, False, True]


def test_folder_of_dwie_is_split_by_tags_and_seed(tmp_path):
    folder = tmp_path / "data" / "annos_with_content"
    for number in range(60):
        tag = "test" if number < 10 else "train"
        write(folder / f"DW_{number}.json", forms.dwie_article(f"DW_{number}", tag))
    write(tmp_path / "data" / "annos" / "DW_0.json", {})
    data = load_docre(tmp_path)
    assert data.num_rows == {"train": 43, "validation": 7, "test": 10}  # 98 of 700 are 14%
    assert set(data["test"]["title"]) == {f"DW_{number}" for number in range(10)}
    chosen = data["validation"]["title"]
    assert len({*data["train"]["title"], *chosen}) == 50
    assert list(load_docre(tmp_path, "validation")["title"]) == list(chosen)
    # They are drawn, and not the first ones.
    assert list(chosen) != [f"DW_{number}" for number in range(10, 17)]


def test_folders_of_gda(tmp_path):
    forms.renet(tmp_path / "training_data", *map(str, range(100, 129)))
    forms.renet(tmp_path / "testing_data", "1", "2")
    data = load_docre(tmp_path)
    assert data.num_rows == {"train": 23, "validation": 6, "test": 2}  # as 29,192 fall into 23,353 and 5,839
    assert len({*data["train"]["title"], *data["validation"]["title"]}) == 29
    assert reading_report(data["validation"])["repairs"] == {UNLISTED: 6, IDS: 18}
    with pytest.raises(ValueError, match="three files that belong together"):
        load_docre(tmp_path / "testing_data" / "abstracts.txt")


def docred_rows(*titles: str, relation: str = "P17") -> list[dict]:
    label = {"h": 0, "t": 1, "r": relation, "evidence": []}
    vertices = [[{"name": word, "pos": [at, at + 1], "sent_id": 0, "type": "LOC"}] for at, word in enumerate("ab")]
    return [{"title": title, "sents": [["a", "b"]], "vertexSet": vertices, "labels": [label]} for title in titles]


def test_regimes_join_docred_and_re_docred_by_title(tmp_path):
    write(tmp_path / "old" / "train_annotated.json", docred_rows("A", "B"))
    write(tmp_path / "old" / "dev.json", docred_rows("F", "C", "D", "E"))
    for name, titles in (("train", "AB"), ("dev", "CDX"), ("test", "EF")):
        write(tmp_path / "new" / f"{name}_revised.json", docred_rows(*titles, relation="P131"))
    data = load_regime(tmp_path / "old", tmp_path / "new", "oog")
    assert {split: part["title"][:] for split, part in data.items()} == {
        "train": ["A", "B"], "validation": ["C", "D"], "test": ["E", "F"]
    }  # fmt: skip
    relations = {split: {label["r"] for labels in part["labels"] for label in labels} for split, part in data.items()}
    assert relations == {"train": {"P17"}, "validation": {"P17"}, "test": {"P131"}}
    report = reading_report(data["validation"])
    assert report == {"documents": 2, "unlabelled": 0, "facts": 2, "repairs": {"title that no document has": 1}}
    gold = load_regime(tmp_path / "old", tmp_path / "new", "ogg")["validation"]
    assert gold["title"][:] == ["C", "D", "X"] and gold[0]["labels"][0]["r"] == "P131"
    with pytest.raises(ValueError, match=r"has no split 'test'.*: oog needs it"):
        load_regime(tmp_path / "old", tmp_path / "old", "oog")
    with pytest.raises(ValueError, match="`regime` is 'goo'"):
        load_regime(tmp_path / "old", tmp_path / "new", "goo")


def test_counts_are_compared_with_the_papers(tmp_path, caplog):
    for name in ("train", "dev", "test"):
        write(tmp_path / f"{name}_revised.json", docred_rows(*map(str, range(500))))
    with caplog.at_level(logging.WARNING, logger="modeling_docre"):
        data = load_docre(tmp_path)
    expected = {
        "train documents": (500, 3053),
        "train facts": (500, 85_932),
        "validation facts": (500, 17_284),
        "test facts": (500, 17_448),
        "relations": (1, 96),
    }
    assert compare_counts(data, "re-docred") == expected
    assert "the papers report other sizes of re-docred. train documents: 500 instead of 3,053" in caplog.text
    assert caplog.text.count("the papers report") == 1
    with pytest.raises(ValueError, match="No sizes are known of 'toy'"):
        compare_counts(data, "toy")


@each_form
def test_convert(form, tmp_path):
    name, content = FILES[form]
    source = write(tmp_path / name, content)
    convert(source, tmp_path / "out.json")
    rows = load_docre(source).to_list()
    assert load_docre(tmp_path / "out.json").to_list() == rows
    convert(source, tmp_path / "out.jsonl")
    ids = [key for document in iter_documents(tmp_path / "out.json") for one in document.entities for key in one.ids]
    assert len(ids) == reading_report(load_docre(source))["repairs"].get(IDS, 0)
    assert ids == [
        key for document in iter_documents(tmp_path / "out.jsonl") for one in document.entities for key in one.ids
    ]
    assert [document.pairs for document in iter_documents(tmp_path / "out.jsonl")] == [
        row["pairs"] and tuple(map(tuple, row["pairs"])) for row in rows
    ]
    convert(source, tmp_path / "repository", license="mit")
    assert load_docre(tmp_path / "repository", "train").to_list() == rows


def test_convert_passes_the_options_on(tmp_path):
    source = write(tmp_path / "dev.json", forms.json_lines(forms.hacred_row("1"), forms.hacred_row("2")))
    convert(source, tmp_path / "out.json", view="word", format="hacred")
    assert json.loads((tmp_path / "out.json").read_text("utf-8"))[0]["sents"][0] == ["甲", "生于", "乙", "。"]
    with pytest.raises(ValueError, match="`view` is for HacRED"):
        convert(tmp_path / "out.json", tmp_path / "again.json", view="word")
