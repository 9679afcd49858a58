from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run_docre

from modeling_docre import DocREForRelationExtraction, DocREProcessor, Document, __version__
from modeling_docre.data_files import iter_documents
from modeling_docre.metrics.docred.scoring import score

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    *("extract", "train", "distill", "evaluate", "compare", "convert", "label-distant", "facts", "plot", "relations"),
    "demo",
)
MARKUP = "[Ada](ada:PER) was born in [London](:LOC). [She](ada) lived in [中国](:LOC).\n"
PEOPLE, PLACES = ("Ada", "Bo", "Cleo", "Dag", "Eva", "Finn"), ("Orle", "Pell", "Quay", "Rusk", "Sorn", "Tarn")


def story(number: int) -> dict[str, Any]:
    """An invented document in DocRED's form: somebody is born somewhere, and rules it."""
    person, place, realm = PEOPLE[number], PLACES[number], PLACES[(number + 1) % len(PLACES)]
    return {
        "title": f"Story {number}",
        "sents": [[person, "was", "born", "in", place, "."], [person, "rules", realm, "."]],
        "vertexSet": [
            [
                {"name": person, "sent_id": 0, "pos": [0, 1], "type": "PER"},
                {"name": person, "sent_id": 1, "pos": [0, 1], "type": "PER"},
            ],
            [{"name": place, "sent_id": 0, "pos": [4, 5], "type": "LOC"}],
            [{"name": realm, "sent_id": 1, "pos": [2, 3], "type": "LOC"}],
        ],
        "labels": [{"h": 0, "t": 1, "r": "P17", "evidence": [0]}, {"h": 0, "t": 2, "r": "P27", "evidence": [1]}],
    }


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the same three documents in every form, and one in markup."""
    stories = [story(number) for number in range(3)]
    documents = [Document.from_docred(row) for row in stories]
    lines = "".join(json.dumps(document.to_dict(), ensure_ascii=False) + "\n" for document in documents)
    (tmp_path / "stories.json").write_text(json.dumps(stories))
    (tmp_path / "stories.jsonl").write_text(lines)
    (tmp_path / "stories.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "ada.txt").write_text(MARKUP, encoding="utf-8")
    return tmp_path


# ---------------------------------------------------------------------------------------------------------------------
# Help
# ---------------------------------------------------------------------------------------------------------------------


def test_help_lists_the_commands(docre):
    shown = docre("--help")
    assert shown.code == 0
    assert all(re.search(rf"^    {command}\s+\S", shown.out, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example_that_parses(docre, command):
    from modeling_docre.cli_options import make_parser

    shown = docre(command, "--help")
    assert shown.code == 0
    examples = re.findall(r"^  (docre .+)$", shown.out.partition("example:")[2], re.MULTILINE)
    assert examples
    for example in examples:
        assert example.split()[1] == command
        for word in example.split():
            # Of a checkout; other names stand for files of one's own.
            assert (ROOT / word).exists() or not word.endswith((".txt", ".yaml")), word
        make_parser().parse_known_args(example.split()[1:])
    # Every option says what it does.
    options = re.findall(r"^  (?:-\w, )?(--[\w-]+)(?: .*)?$", shown.out, re.MULTILINE)
    assert "--help" in options
    if "--threshold" in options:
        assert "the model's own, tuned one without it" in " ".join(shown.out.split())


def test_version(docre):
    assert docre("--version") == (0, f"docre {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("destroy",),
        ("extract",),
        ("extract", "a.txt", "--treshold", "0.5"),
        ("extract", "a.txt", "--thresh", "0.5"),
        ("extract", "a.txt", "--threshold", "high"),
        ("extract", "a.txt", "--format", "xml"),
        ("evaluate", "a.json"),
        ("convert", "a.json", "b.jsonl", "c.jsonl"),
    ],
)
def test_wrong_usage_is_exit_code_2(docre, arguments):
    ran = docre(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("usage: docre")


# ---------------------------------------------------------------------------------------------------------------------
# docre extract
# ---------------------------------------------------------------------------------------------------------------------


def test_extract_prints_a_table(docre, files, tiny_checkpoint):
    ran = docre("extract", files / "ada.txt", "--model", tiny_checkpoint, "--threshold", 0, "--relations", "P17, P27")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == "ada.txt: 3 entities, 12 relations"
    assert re.split(r"  +", lines[1]) == ["HEAD", "RELATION", "TAIL", "SCORE", "EVIDENCE"]
    rows = [re.split(r"  +", line) for line in lines[2:]]
    assert len(rows) == 12
    assert {row[0] for row in rows} == {row[2] for row in rows} == {"Ada", "London", "中国"}
    assert {row[1] for row in rows} == {"country", "country of citizenship"}
    scores = [float(row[3]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    # The numbers of JSON.
    options = ("--model", tiny_checkpoint, "--threshold", 0, "--relations", "P17, P27", "--format", "json")
    relations = json.loads(docre("extract", files / "ada.txt", *options).out)[0]["relations"]
    assert [row[4] if len(row) > 4 else "" for row in rows] == [str(item["evidence"])[1:-1] for item in relations]
    assert any(item["evidence"] for item in relations)
    # A wide character takes two columns of the terminal: the scores start at the same place in all lines.
    before = [line[: re.search(r"SCORE|\d\.\d\d", line).start()] for line in lines[1:]]
    assert len({sum(2 if char in "中国" else 1 for char in text) for text in before}) == 1
    assert ran.err == "documents: 1, relations: 12\n"


@pytest.mark.parametrize("source", ["stories.json", "stories.jsonl", "stories.jsonl.gz", "-"])
def test_extract_reads_every_kind_of_file(docre, files, tiny_checkpoint, source):
    stdin = (files / "stories.jsonl").read_text() if source == "-" else ""
    path = source if source == "-" else files / source
    ran = docre("extract", path, "--model", tiny_checkpoint, "--format", "jsonl", "--threshold", 0, stdin=stdin)
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["title"] for row in rows] == ["Story 0", "Story 1", "Story 2"]
    for row in rows:
        assert list(row) == ["title", "text", "entities", "relations", "sentences", "coverage"]
        assert len(row["relations"]) == 18
        for entity in row["entities"]:
            for mention in entity["mentions"]:
                assert row["text"][mention["start"] : mention["end"]] == mention["text"]
    first, second = ran.err.splitlines()
    assert first == "documents: 3, relations: 54"
    assert re.fullmatch(r"3 documents in [\d.]+ s: [\d.,]+ documents/s, [\d,]+ pairs/s, [\d,]+ tokens/s", second)


def test_extract_writes_every_form(docre, files, tiny_checkpoint):
    options = ("--model", tiny_checkpoint, "--threshold", 0, "--batch-size", 2)
    for name in ("out.jsonl", "out.jsonl.gz", "out.json"):
        ran = docre("extract", files / "stories.json", "-o", files / name, *options)
        assert (ran.code, ran.out) == (0, "")
    # A line is a document with relations, which everything that reads documents reads.
    documents = list(iter_documents(files / "out.jsonl"))
    assert documents == list(iter_documents(files / "out.jsonl.gz")) == list(iter_documents(files / "out.json"))
    assert [document.title for document in documents] == ["Story 0", "Story 1", "Story 2"]
    assert all(0 <= relation.score <= 1 for document in documents for relation in document.relations)
    expected = [Document.from_docred(story(number)) for number in range(3)]
    assert [document.text for document in documents] == [document.text for document in expected]
    ran = docre("extract", files / "stories.json", "-o", files / "result.json", "--format", "submission", *options)
    assert ran.code == 0
    rows = json.loads((files / "result.json").read_text())
    assert rows == [
        {
            "title": document.title,
            "h_idx": item.head,
            "t_idx": item.tail,
            "r": item.relation,
            "evidence": list(item.evidence),
        }
        for document in documents
        for item in document.relations
    ]
    ran = docre("extract", files / "stories.json", "-o", "-", "--format", "json", *options)
    assert json.loads(ran.out) == json.loads((files / "out.json").read_text())


def test_extract_passes_filters_on(docre, files, tiny_checkpoint):
    options = ("--model", tiny_checkpoint, "--threshold", 0, "--format", "json", "--device", "cpu")
    everything = json.loads(docre("extract", files / "ada.txt", *options).out)[0]["relations"]
    filters = ("--head", "london", "--tail", "Ada", "--relations", "country,located in", "--top-k", 1)
    found = json.loads(docre("extract", files / "ada.txt", *options, *filters).out)[0]["relations"]
    wanted = [r for r in everything if (r["head"], r["tail"]) == (1, 0) and r["relation"] in ("P17", "P131")]
    assert found == wanted[:1]


def test_extract_says_which_names_no_document_has(docre, files, tiny_checkpoint):
    options = ("--model", tiny_checkpoint, "--threshold", 0)
    ran = docre("extract", files / "stories.jsonl", "--head", "Klara", "--tail", "Orla", *options)
    assert (ran.code, ran.out.count("0 relations")) == (0, 3)
    assert "No entity of any document is named 'Orla'. Did you mean 'Orle'?\n" in ran.err
    assert "No entity of any document is named 'Klara'.\n" in ran.err
    # One document that has it is enough.
    ran = docre("extract", files / "stories.jsonl", "--head", "bo", *options)
    assert "documents without an entity 'bo': 2" in ran.err
    assert "No entity" not in ran.err
    assert "No entity" not in docre("extract", files / "ada.txt", "--head", "she", *options).err


def test_a_resumed_run_knows_the_names_that_the_first_one_missed(docre, files, tiny_checkpoint, monkeypatch):
    from modeling_docre import extraction

    arguments = ("extract", files / "stories.jsonl", "-o", files / "out.jsonl", "--model", tiny_checkpoint)
    arguments = (*arguments, "--head", "Klara")
    with monkeypatch.context() as patch:
        patch.setattr(extraction, "write_answers", lambda *_: 1 / 0)
        assert "ZeroDivisionError" in docre(*arguments).err
    ran = docre(*arguments, "--resume")
    assert ran.code == 0, ran.err
    assert "No entity of any document is named 'Klara'.\n" in ran.err


def test_extract_says_when_no_entity_is_marked(docre, tiny_checkpoint, tmp_path):
    (tmp_path / "plain.txt").write_text("Ada was born in London.")
    ran = docre("extract", tmp_path / "plain.txt", "--model", tiny_checkpoint)
    assert (ran.code, ran.out) == (0, "plain.txt: 0 entities, 0 relations\n")
    assert "No entity is marked" in ran.err
    assert "[Ada](:PER)" in ran.err


def test_extract_counts_what_a_submission_cannot_tell_apart(docre, tiny_checkpoint, tmp_path):
    lines = [json.dumps({"title": title, "text": "Ada lived.", "entities": []}) for title in ("a", "", "a", "b")]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    ran = docre("extract", tmp_path / "in.jsonl", "--format", "submission", "--model", tiny_checkpoint)
    assert (ran.code, ran.out) == (0, "[]\n")
    assert "documents without a title: 1, documents with the title of another: 1" in ran.err


def test_extract_says_what_a_length_limit_left_unread(docre, tiny_checkpoint, files, tmp_path):
    short = tmp_path / "short"
    shutil.copytree(tiny_checkpoint, short)
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**config, "max_length": 8}))
    ran = docre("extract", files / "stories.json", "--model", short)
    assert ran.code == 0
    assert "mentions beyond the length limit: 9" in ran.err


def test_a_failure_leaves_no_half_of_a_file(docre, files, tiny_checkpoint):
    lines = (files / "stories.jsonl").read_text() + '{"text": "cut'
    (files / "cut.jsonl").write_text(lines)
    (files / "out.jsonl").write_text("from before\n")
    for name in ("out.jsonl", "new.jsonl"):
        ran = docre("extract", files / "cut.jsonl", "-o", files / name, "--model", tiny_checkpoint, "--batch-size", 1)
        assert ran.code == 1
        assert "cut.jsonl, line 4" in ran.err
    assert (files / "out.jsonl").read_text() == "from before\n"
    assert not [path for path in files.iterdir() if "new" in path.name or "partial" in path.name]
    ran = docre(
        "extract", files / "cut.jsonl", "-o", files / "out.jsonl", "--model", tiny_checkpoint, "--skip-invalid"
    )
    assert ran.code == 0
    assert "documents: 4" in ran.err
    assert "line that is not JSON: 1" in ran.err
    assert len((files / "out.jsonl").read_text().splitlines()) == 4


def test_an_unexpected_error_is_one_line_unless_a_traceback_is_asked_for(docre, files, tiny_checkpoint, monkeypatch):
    def break_down(self, *arguments, **options):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(DocREForRelationExtraction, "forward", break_down)
    arguments = ("extract", files / "ada.txt", "--model", tiny_checkpoint)
    ran = docre(*arguments)
    assert ran.code == 1
    assert ran.err.startswith("docre: error: RuntimeError: ")
    assert "docre --traceback" in ran.err
    with pytest.raises(RuntimeError):
        docre("--traceback", *arguments)


def test_an_unexpected_error_says_what_is_kept(docre, files, tiny_checkpoint, monkeypatch):
    from modeling_docre.pipelines.pipeline_docre import DocREPipeline

    # Eight documents one by one, which are a chunk.
    forward, left = DocREPipeline.forward, list(range(8))

    def short_of_memory(self, *arguments, **options):
        if not left:
            raise torch.OutOfMemoryError("CUDA out of memory")
        left.pop()
        return forward(self, *arguments, **options)

    (files / "many.jsonl").write_text((files / "stories.jsonl").read_text() * 6)
    monkeypatch.setattr(DocREPipeline, "forward", short_of_memory)
    arguments = ("extract", files / "many.jsonl", "-o", files / "out.jsonl", "--model", tiny_checkpoint)
    ran = docre(*arguments, "--batch-size", 1)
    assert ran.code == 1
    assert "OutOfMemoryError: CUDA out of memory" in ran.err
    assert "The answers to 8 documents are kept" in ran.err
    assert "pass --resume" in ran.err


def test_the_installed_command_in_another_folder_with_another_encoding(files, tiny_checkpoint):
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0", "LC_ALL": "C"}
    stdin = json.dumps(Document.from_markup(MARKUP, title="ada").to_dict(), ensure_ascii=False).encode()
    command = [Path(sys.executable).with_name("docre"), "extract", "-", "--model", tiny_checkpoint, "--threshold", "0"]
    ran = subprocess.run(command, capture_output=True, cwd=files, input=stdin, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert "中国" in ran.stdout.decode()
    assert ran.stderr.decode() == "documents: 1, relations: 18\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes break in another way")
def test_a_reader_that_has_seen_enough_is_no_error(files, tiny_checkpoint):
    many = (files / "stories.jsonl").read_text() * 400
    (files / "many.jsonl").write_text(many)
    command = [Path(sys.executable).with_name("docre"), "extract", files / "many.jsonl", "--model", tiny_checkpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        first = process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read().decode()
    assert first.startswith(b"Story 0: 3 entities")
    assert process.returncode == 1
    assert said == ""


# ---------------------------------------------------------------------------------------------------------------------
# docre relations
# ---------------------------------------------------------------------------------------------------------------------


def test_relations_lists_what_extract_takes(docre, files, tiny_checkpoint, tiny_bert_dir):
    config = DocREForRelationExtraction.from_pretrained(tiny_checkpoint).config
    ran = docre("relations", "--model", tiny_checkpoint)
    assert (ran.code, ran.err) == (0, "")
    assert [re.split("  +", line) for line in ran.out.splitlines()] == [
        [relation, config.relation_names[relation]] for relation in config.relations
    ]
    assert docre("relations").out.startswith("P")
    ran = docre("relations", "--model", tiny_bert_dir)
    assert (ran.code, ran.out) == (1, "")
    assert "is a 'bert' checkpoint, not a relation extraction model" in ran.err


def test_extract_takes_relations_in_any_case_and_names_those_meant(docre, files):
    ran = docre("extract", files / "ada.txt", "--relations", "Place of Birth", "--format", "json")
    assert {relation["relation"] for relation in json.loads(ran.out)[0]["relations"]} == {"P19"}
    ran = docre("extract", files / "ada.txt", "--relations", "birthplace")
    assert ran.code == 1
    assert "did you mean 'P19' (place of birth) or 'P569' (date of birth)? `docre relations` lists all 96." in ran.err


# ---------------------------------------------------------------------------------------------------------------------
# docre evaluate
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def scored(files: Path) -> Path:
    gold = [story(number) for number in range(3)]
    rows = [
        {"title": "Story 0", "h_idx": 0, "t_idx": 1, "r": "P17", "evidence": [0]},
        {"title": "Story 1", "h_idx": 0, "t_idx": 2, "r": "P27"},
        {"title": "Story 1", "h_idx": 2, "t_idx": 0, "r": "P27"},
    ]
    (files / "gold.json").write_text(json.dumps(gold))
    (files / "train.json").write_text(json.dumps(gold[:1]))
    (files / "result.json").write_text(json.dumps(rows))
    with zipfile.ZipFile(files / "result.zip", "w") as archive:
        archive.write(files / "result.json", "result.json")
    return files


def test_evaluate_prints_the_figures_of_the_function(docre, scored):
    gold, train, rows = (json.loads((scored / f"{name}.json").read_text()) for name in ("gold", "train", "result"))
    files = (scored / "result.json", scored / "gold.json")
    expected = score(rows, gold)
    assert expected["f1"] == pytest.approx(2 * 2 / (3 + 6))
    ran = docre("evaluate", *files, "--json")
    assert (ran.code, json.loads(ran.out)) == (0, expected)
    ran = docre("evaluate", *files)
    check_shown(ran.out, expected)
    assert ran.err.endswith("need the training documents: --train-annotated FILE\n")
    trained = ("--train-annotated", scored / "train.json", "--train-distant", scored / "train.json")
    ran = docre("evaluate", *files, "--json", *trained)
    assert json.loads(ran.out) == score(rows, gold, train_annotated=train, train_distant=train)
    assert ran.err == ""
    assert "ign_f1_distant" in json.loads(ran.out)
    assert docre("evaluate", scored / "result.zip", scored / "gold.json", "--json", *trained) == ran


def shown(text: str) -> dict[str, str]:
    """The figures that `docre evaluate` prints, by the names that JSON has for them; none for `-`."""
    figures = {}
    for line in text.splitlines():
        name, *values = line.split() if line.startswith("  ") else [""]
        if "*" in name:
            cells = zip(("precision", "recall", "f1"), values, strict=True)
            figures |= {name.replace("*", column): value for column, value in cells}
        elif name and name != "precision":
            (figures[name],) = values
    return {name: value for name, value in figures.items() if value != "-"}


def check_shown(text: str, expected: dict[str, float]) -> set[str]:
    """Check that figures are printed but for those of nothing, and return these."""
    printed = shown(text)
    assert printed == {name: f"{value:.4f}" for name, value in expected.items() if name in printed}
    of_nothing = {name for name in expected.keys() - printed.keys() if "relation/" not in name}
    assert not any(expected[name] for name in of_nothing)
    return of_nothing


def test_evaluate_prints_groups_of_figures(docre, scored):
    files = (scored / "result.json", scored / "gold.json")
    trained = ("--train-annotated", scored / "train.json", "--train-distant", scored / "train.json", "--few-facts", 2)
    ran = docre("evaluate", *files, *trained)
    expected = json.loads(docre("evaluate", *files, *trained, "--json").out)
    assert expected["recall_few_facts"] == 2 / 6
    of_nothing = check_shown(ran.out, expected)
    # All facts are of two frequent relations, and stand in one sentence.
    assert of_nothing >= {"f1_inter", "recall_long_tail", "f1_cluster_10"}
    assert not of_nothing & {"f1", "f1_intra", "precision_frequent", "f1_cluster_1", "evidence_recall"}
    headings = [line for line in ran.out.splitlines() if line and not line.startswith(" ")]
    assert len(headings) == 7 and headings[0].startswith("All facts (`*` in a name")
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[1] == ["precision", "recall", "f1"] and lines[2] == ["*", "0.6667", "0.3333", "0.4444"]
    assert ["ign_*_distant", "0.5000", "-", "0.4000"] in lines
    # Nothing is there to be found, and nothing is predicted: no figure says anything.
    gold = json.loads((scored / "gold.json").read_text())
    (scored / "none.json").write_text(json.dumps([{**row, "labels": []} for row in gold]))
    (scored / "nothing.json").write_text("[]")
    ran = docre("evaluate", scored / "nothing.json", scored / "none.json", *trained)
    assert set(shown(ran.out)) == {"macro_f1_all", "rela_accuracy"}
    ran = docre("evaluate", *files, "--few-facts", 2)
    assert (ran.code, ran.out) == (1, "")
    assert "--few-facts counts facts of training documents: pass --train-annotated FILE" in ran.err


def test_evaluate_reads_what_the_other_commands_read(docre, scored):
    gold, rows = (json.loads((scored / f"{name}.json").read_text()) for name in ("gold", "result"))
    expected = docre("evaluate", scored / "result.json", scored / "gold.json", "--json")
    (scored / "gold.json.gz").write_bytes(gzip.compress((scored / "gold.json").read_bytes()))
    in_text = [Document.from_docred(row).to_dict() for row in gold]
    (scored / "gold.jsonl").write_text("\n".join(map(json.dumps, in_text)))
    lines = "\n".join(map(json.dumps, rows))
    (scored / "result.jsonl").write_text(lines)
    for predictions in ("result.json", "result.jsonl", "result.zip"):
        for references in ("gold.json", "gold.json.gz", "gold.jsonl"):
            assert docre("evaluate", scored / predictions, scored / references, "--json") == expected
    assert docre("evaluate", "-", scored / "gold.json", "--json", stdin=lines) == expected
    answers = [
        {
            "title": document["title"],
            "relations": [
                {
                    "head": row["h_idx"],
                    "tail": row["t_idx"],
                    "relation": row["r"],
                    "score": 0.9,
                    "evidence": row.get("evidence"),
                }
                for row in rows
                if row["title"] == document["title"]
            ],
        }
        for document in gold
    ]
    (scored / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    assert docre("evaluate", scored / "answers.jsonl", scored / "gold.json", "--json") == expected


def test_evaluate_refuses_what_cannot_be_scored_in_one_sentence(docre, scored):
    unlabelled = [{key: value for key, value in story(0).items() if key != "labels"}]
    (scored / "test.json").write_text(json.dumps(unlabelled))
    (scored / "deep.json").write_text("[" * 100_000)
    (scored / "text.json").write_text(json.dumps([{"text": "Ada.", "entities": [{"mentions": []}, 3]}]))
    ran = docre("evaluate", scored / "result.json", scored / "test.json")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("docre: error: references: the data has no labels")
    assert len(ran.err.splitlines()) == 1
    for arguments, message in [
        ((scored / "gold.json", scored / "gold.json"), r"gold\.json, entry 0: neither a prediction nor an answer"),
        ((scored / "absent.json", scored / "gold.json"), r"absent\.json: there is no such file"),
        ((scored / "ada.txt", scored / "gold.json"), r"ada\.txt, line 1, column \d+: not JSON"),
        ((scored / "result.json", scored), "a folder, where a file should be"),
        ((scored / "result.json", scored / "text.json"), r"text\.json, document 0: "),
        ((scored / "deep.json", scored / "gold.json"), r"deep\.json, line 1: not JSON that can be read"),
    ]:
        ran = docre("evaluate", *arguments)
        assert ran.code == 1
        assert re.search(message, ran.err), ran.err
        assert "strict" not in ran.err, "there is no such option"


# ---------------------------------------------------------------------------------------------------------------------
# docre convert
# ---------------------------------------------------------------------------------------------------------------------


def test_convert_there_and_back(docre, files):
    ran = docre("convert", files / "stories.json", files / "there.jsonl")
    assert ran == (0, "", "documents: 3, facts: 6\n")
    documents = list(iter_documents(files / "there.jsonl"))
    assert [document.text for document in documents] == [
        Document.from_docred(story(number)).text for number in range(3)
    ]
    assert docre("convert", files / "there.jsonl", files / "back.json").code == 0
    assert json.loads((files / "back.json").read_text()) == [story(number) for number in range(3)]
    assert docre("convert", files / "ada.txt", files / "ada.jsonl.gz") == (0, "", "documents: 1, unlabelled: 1\n")
    (ada,) = iter_documents(files / "ada.jsonl.gz")
    assert ada == Document.from_markup(MARKUP.strip(), title="ada.txt")
    ran = docre("convert", "-", files / "piped.json", stdin=(files / "stories.jsonl").read_text())
    assert (files / "piped.json").read_text() == (files / "back.json").read_text()


def test_convert_counts_repairs_and_says_how_to_skip(docre, files):
    twice = story(0)
    twice["labels"] *= 2
    wrong = {**story(1), "labels": [{"h": 0, "t": 9, "r": "P17"}]}
    (files / "dirty.json").write_text(json.dumps([twice, wrong]))
    ran = docre("convert", files / "dirty.json", files / "clean.json")
    assert ran.code == 1
    assert re.search(r"dirty\.json, document 1: document 'Story 1': `labels\[0\]\.t` is 9.*--skip-invalid", ran.err)
    assert not (files / "clean.json").exists()
    ran = docre("convert", files / "dirty.json", files / "clean.json", "--skip-invalid")
    assert ran == (0, "", "documents: 2, facts: 2, duplicate label: 2, label to a missing entity: 1\n")
    assert json.loads((files / "clean.json").read_text()) == [story(0), {**story(1), "labels": []}]


def test_convert_makes_a_dataset_repository_and_reads_it(docre, files, monkeypatch, tmp_path_factory):
    source = tmp_path_factory.mktemp("published")
    (source / "train_annotated.json").write_text(json.dumps([story(0), story(1)]))
    (source / "dev.json").write_text(json.dumps([story(2)]))
    ran = docre("convert", source, files / "repository", "--license", "mit")
    assert ran.code == 0, ran.err
    assert "\nlicense: mit\n" in (files / "repository" / "README.md").read_text()
    assert "train: documents: 2, facts: 4\n" in ran.err
    assert "validation: documents: 1, facts: 2\n" in ran.err
    assert (files / "repository" / "README.md").is_file()
    assert list((files / "repository").glob("**/*.parquet"))
    ran = docre("convert", files / "repository", files / "dev.json", "--split", "validation")
    assert ran.code == 0, ran.err
    assert json.loads((files / "dev.json").read_text()) == [story(2)]
    ran = docre("convert", files / "repository", files / "all.json")
    assert ran.code == 1
    assert "split" in ran.err
    # A file has no card for it.
    ran = docre("convert", files / "dev.json", files / "dev.jsonl", "--license", "mit")
    assert ran.code == 1
    assert "dataset repository" in ran.err
    assert not (files / "dev.jsonl").exists()


# ---------------------------------------------------------------------------------------------------------------------
# The whole path
# ---------------------------------------------------------------------------------------------------------------------

RECIPE = """
output_dir: trained
model: {{encoder: {encoder}, method: atlop, emb_size: 32, block_size: 8, relations: {{P17: country, P27: citizen}}}}
data: {{train: stories.json, eval: stories.json}}
training: {{num_train_epochs: 1, per_device_train_batch_size: 2, learning_rate: 1.0e-3, save_strategy: "no", seed: 1}}
"""


def test_train_predict_evaluate_from_the_command_line(tmp_path, tiny_bert_dir):
    (tmp_path / "stories.json").write_text(json.dumps([story(number) for number in range(6)]))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(encoder=tiny_bert_dir))
    settings = ("--training.num_train_epochs=25", "--head_learning_rate=1e-2")
    ran = run_docre("train", "recipe.yaml", *settings, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    results = json.loads(re.search(r"^\{\n.*^\}", ran.stdout, re.DOTALL | re.MULTILINE)[0])
    assert results["epoch"] == 25
    assert results["eval_f1"] > 0.9, "six documents of one form are learned by heart"
    arguments = ("stories.json", "--model", "trained", "-o", "result.json", "--format", "submission")
    ran = run_docre("extract", *arguments, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    ran = run_docre("evaluate", "result.json", "stories.json", "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["f1"] == pytest.approx(results["eval_f1"])
    # The folder is an ordinary checkpoint.
    model = DocREForRelationExtraction.from_pretrained(tmp_path / "trained")
    assert model.config.relation_names == {"P17": "country", "P27": "citizen"}
    assert DocREProcessor.from_pretrained(tmp_path / "trained").config.relations == ["P17", "P27"]


def test_train_names_what_is_wrong_with_a_recipe(docre, tmp_path, tiny_bert_dir, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(encoder=tiny_bert_dir))
    for arguments, message in [
        ((tmp_path / "absent.yaml",), "absent.yaml"),
        ((recipe, "--training.lerning_rate=1e-4"), "lerning_rate.*Did you mean 'learning_rate'"),
        ((recipe, "--seed", "5"), "--NAME=VALUE"),
        ((recipe,), "stories.json"),
    ]:
        ran = docre("train", *arguments)
        assert ran.code == 1, arguments
        assert re.search(message, ran.err), ran.err
    assert not (tmp_path / "trained").exists()


def test_relation_words_that_hold_a_comma_are_one_relation():
    from modeling_docre import DocREConfig
    from modeling_docre.cli_parts import split_relations

    config = DocREConfig.for_method("atlop", {"P1412": "languages spoken, written or signed", "P17": "country"})
    assert split_relations(["Languages spoken, written or signed", "P17, country"], config) == [
        "Languages spoken, written or signed", "P17", "country",
    ]  # fmt: skip
    assert split_relations(None, config) is None
    with pytest.raises(ValueError, match="--relations names nothing"):
        split_relations([""], config)


def test_backslashes_in_a_name_are_not_read_as_a_pattern(docre, tmp_path):
    (tmp_path / "a.txt").write_text("[Ada](:PER) met [Bo](:PER).")
    ran = docre("extract", tmp_path / "a.txt", "--model", r".\m")
    assert ran.code == 1 and r"There is no folder .\m" in ran.err
