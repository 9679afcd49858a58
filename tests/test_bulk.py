from __future__ import annotations

import gzip
import io
import json
import logging
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from forked import run_python

from modeling_docre import Document, DocumentError, extraction
from modeling_docre.corpus import Corpus
from modeling_docre.corpus_parts import CorpusParts, partial_folder
from modeling_docre.data_files import iter_documents
from modeling_docre.extraction import extract_files, extract_rows, load_pipeline
from modeling_docre.model_digest import digest_pipeline
from modeling_docre.output_files import DataFileError
from modeling_docre.processes import Processes

NUMBER = 40
# Of two documents at a time: the pipeline reads 16 ahead, so that forty documents are three chunks.
OPTIONS = {"batch_size": 2, "threshold": 0.0}
NAMES = ("Ada", "Bo", "Cleo", "Dag", "Eva", "Finn", "Gus")


def story(number: int, **more: Any) -> dict[str, Any]:
    """An invented document in text form, each a little longer than the one before."""
    person, place = NAMES[number % 7], f"Place{number}"
    text = f"{person} was born in {place}. " + "It rained. " * (number % 5) + f"{person} left {place}."
    mentions = [
        [{"start": match.start(), "end": match.end()} for match in re.finditer(rf"\b{name}\b", text)]
        for name in (person, place)
    ]
    entities = [{"type": kind, "mentions": found} for kind, found in zip(("PER", "LOC"), mentions, strict=True)]
    # A mention that is there twice is repaired, and counted.
    entities[0]["mentions"] += entities[0]["mentions"][:1]
    return {"title": f"Story {number}\u2028\x85", "text": text, "entities": entities, **more}


class Breaking:
    """A pipeline that fails after so many chunks, as if the machine did."""

    def __init__(self, pipe: Any, chunks: int, error: BaseException | None = None) -> None:
        self.pipe, self.chunks, self.error = pipe, chunks, error or RuntimeError("out of memory")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipe, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if not self.chunks:
            raise self.error
        self.chunks -= 1
        return self.pipe(*arguments, **options)


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint):
    return load_pipeline(str(tiny_checkpoint), "cpu")


@pytest.fixture
def corpus(tmp_path) -> Path:
    path = tmp_path / "corpus.json"
    path.write_text(json.dumps([story(number) for number in range(NUMBER)], indent=1))
    return path


@pytest.fixture
def undisturbed(pipe, corpus, tmp_path) -> Path:
    output = tmp_path / "undisturbed.jsonl"
    extract_files(pipe, corpus, output, **OPTIONS)
    return output


def interrupt(
    pipe: Any, corpus: Any, output: Path, chunks: int = 2, breaking: type[Breaking] = Breaking, **options: Any
) -> None:
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        extract_files(breaking(pipe, chunks), corpus, output, **{**OPTIONS, **options})
    assert f"The answers to {16 * chunks} documents are kept in {output}.partial" in "".join(caught.value.__notes__)
    assert not output.exists()


def titles(path: Path) -> list[str]:
    return [json.loads(line)["title"] for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


# ---------------------------------------------------------------------------------------------------------------------
# Going on after an interruption
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize(
    ("name", "format"),
    [("a.jsonl", None), ("a.json", None), ("a.jsonl.gz", None), ("a.json", "submission"), ("a.txt", "table")],
)
def test_an_interrupted_run_goes_on_to_the_same_output(pipe, corpus, tmp_path, chunks, name, format):
    straight, output = tmp_path / f"straight.{name}", tmp_path / f"resumed.{name}"
    whole = extract_files(pipe, corpus, straight, format=format, **OPTIONS)
    interrupt(pipe, corpus, output, chunks, format=format)
    report = extract_files(pipe, corpus, output, format=format, resume=True, **OPTIONS)
    assert output.read_bytes() == straight.read_bytes()
    if name.endswith(".gz"):
        assert gzip.decompress(output.read_bytes()).count(b"\n") == NUMBER
    assert report.counts == whole.counts
    assert report.counts["documents"] == NUMBER
    assert report.counts["duplicate mention"] == NUMBER
    assert (whole.documents, report.documents) == (NUMBER, NUMBER - 16 * chunks)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([corpus.name, straight.name, output.name])


def test_what_a_kill_left_half_written_is_cut_off(pipe, corpus, undisturbed, tmp_path):
    output = tmp_path / "out.jsonl"
    interrupt(pipe, corpus, output)
    part = tmp_path / "out.jsonl.partial" / "part-00000"
    with open(part, "ab") as stream:
        stream.write(b'{"title": "half a lin')
    with open(f"{part}.journal", "ab") as stream:
        stream.write(b'{"chunk": 2, "start": 1')
    extract_files(pipe, corpus, output, resume=True, **OPTIONS)
    assert output.read_bytes() == undisturbed.read_bytes()
    # Answers that the journal has, but the disk not: as after a failure of the power.
    output.unlink()
    interrupt(pipe, corpus, output)
    os.truncate(part, part.stat().st_size - 5)
    report = extract_files(pipe, corpus, output, resume=True, **OPTIONS)
    assert report.documents == NUMBER - 16
    assert output.read_bytes() == undisturbed.read_bytes()


def test_a_kill_while_the_output_is_put_together_loses_nothing(pipe, corpus, undisturbed, tmp_path, monkeypatch):
    output = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(extraction.CorpusParts, "remove", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract_files(pipe, corpus, output, **OPTIONS)
    report = extract_files(pipe, corpus, output, resume=True, **OPTIONS)
    assert report.documents == 0
    assert output.read_bytes() == undisturbed.read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_a_run_that_is_killed_at_random_moments_loses_and_repeats_nothing(tiny_checkpoint, pipe, tmp_path):
    source = tmp_path / "corpus.jsonl"
    source.write_text("".join(json.dumps(story(number)) + "\n" for number in range(300)))
    script = Path(__file__).with_name("bulk_script.py")
    ran = run_python(script, "kill", tiny_checkpoint, source, tmp_path / "out.jsonl", 8, os.getpid())
    assert ran.returncode == 0, ran.stderr
    assert int(re.search(r"killed (\d+)", ran.stdout)[1]) >= 3, ran.stdout
    extract_files(pipe, source, tmp_path / "straight.jsonl", **OPTIONS)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "straight.jsonl").read_bytes(), ran.stdout


def test_an_earlier_run_is_refused_unless_it_is_resumed(pipe, corpus, tmp_path):
    output = tmp_path / "out.jsonl"
    interrupt(pipe, corpus, output)
    with pytest.raises(DataFileError, match=r"out\.jsonl\.partial holds the answers to 32 documents.*resume=True"):
        extract_files(pipe, corpus, output, **OPTIONS)


def test_another_run_is_not_gone_on_with(pipe, corpus, undisturbed, tmp_path, tiny_bert_dir):
    output = tmp_path / "out.jsonl"
    interrupt(pipe, corpus, output)
    other = load_pipeline(pipe.model.name_or_path, "cpu")
    other.model.head.classifier.bias.data += 1
    for changed, options, message in [
        (pipe, {**OPTIONS, "threshold": 0.5}, "threshold was 0.0 and is 0.5 now"),
        (pipe, {**OPTIONS, "top_k": 3}, "top_k was null and is 3 now"),
        (pipe, {**OPTIONS, "batch_size": 4}, "documents in a chunk was 16 and is 32 now"),
        (other, OPTIONS, "model changed since"),
    ]:
        with pytest.raises(DataFileError, match=f"of another run: {message}.*remove that folder"):
            extract_files(changed, corpus, output, resume=True, **options)
    content = corpus.read_text()
    corpus.write_text(content.replace("It rained", "It poured"))
    with pytest.raises(DataFileError, match="input changed since"):
        extract_files(pipe, corpus, output, resume=True, **OPTIONS)


def test_a_model_is_the_same_wherever_its_folder_lies(
    pipe, corpus, undisturbed, tiny_checkpoint, tmp_path, monkeypatch
):
    output, copy = tmp_path / "out.jsonl", tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    settings = json.loads((copy / "config.json").read_text())
    settings["encoder_config"]["_name_or_path"] = "/elsewhere/encoder"
    settings["transformers_version"] = "5.0.0"
    (copy / "config.json").write_text(json.dumps(settings))
    monkeypatch.chdir(tmp_path)
    loaded = [load_pipeline(name, "cpu") for name in ("copy", "./copy", str(copy))]
    assert {digest_pipeline(each) for each in loaded} == {digest_pipeline(pipe)}
    interrupt(pipe, corpus, output)
    assert extract_files(loaded[0], corpus, output, resume=True, **OPTIONS).documents == NUMBER - 32
    assert output.read_bytes() == undisturbed.read_bytes()
    # Other numbers, other answers.
    loaded[1].model.half()
    settings["window_overlap"] += 1
    (copy / "config.json").write_text(json.dumps(settings))
    assert len({digest_pipeline(each) for each in (pipe, loaded[1], load_pipeline("copy", "cpu"))}) == 3


def test_a_bad_document_stops_a_run_that_can_go_on_without_it(docre, tiny_checkpoint, pipe, tmp_path):
    lines = [json.dumps(story(number)) for number in range(NUMBER)]
    lines[36] = '{"text": "cut'
    source, output = tmp_path / "a.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(lines))
    arguments = ("extract", source, "-o", output, "--model", tiny_checkpoint, "--batch-size", 2, "--threshold", 0)
    ran = docre(*arguments)
    assert ran.code == 1
    assert "a.jsonl, line 37" in ran.err
    assert "The answers to 32 documents are kept in" in ran.err
    assert "pass --resume." in ran.err
    ran = docre(*arguments)
    assert ran.code == 1
    assert "pass --resume; to begin anew, remove that folder" in ran.err
    ran = docre(*arguments, "--resume", "--skip-invalid")
    assert ran.code == 0, ran.err
    assert "documents: 40, " in ran.err
    assert "line that is not JSON: 1" in ran.err
    assert re.search(r"^8 documents in [\d.]+ s: [\d.,]+ documents/s, [\d,]+ pairs/s, [\d,]+ tokens/s$", ran.err, re.M)
    extract_files(pipe, source, tmp_path / "straight.jsonl", strict=False, **OPTIONS)
    assert output.read_bytes() == (tmp_path / "straight.jsonl").read_bytes()


def test_a_run_that_skipped_does_not_go_on_as_one_that_stops(pipe, corpus, tmp_path):
    output = tmp_path / "out.jsonl"
    interrupt(pipe, corpus, output, strict=False)
    with pytest.raises(DataFileError, match="strict was false and is true now"):
        extract_files(pipe, corpus, output, resume=True, **OPTIONS)


def test_two_runs_for_one_output_are_refused(pipe, corpus, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    output = tmp_path / "out.jsonl"
    interrupt(pipe, corpus, output)
    with open(tmp_path / "out.jsonl.partial" / "part-00000", "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        for resume in (True, False):
            with pytest.raises(DataFileError, match="is being written by another process"):
                extract_files(pipe, corpus, output, resume=resume, **OPTIONS)
    extract_files(pipe, corpus, output, resume=True, **OPTIONS)


def test_a_second_run_leaves_the_first_alone(pipe, corpus, undisturbed, tmp_path):
    pytest.importorskip("fcntl")
    output = tmp_path / "out.jsonl"
    refused = []

    class Meanwhile(Breaking):
        """Starts the same run once more before each chunk."""

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            for resume in (True, False):
                with pytest.raises(DataFileError, match="is being written by another process") as caught:
                    extract_files(pipe, corpus, output, resume=resume, **OPTIONS)
                refused.append(caught.value)
            return super().__call__(*arguments, **options)

    extract_files(Meanwhile(pipe, 99), corpus, output, **OPTIONS)
    assert len(refused) == 6
    assert output.read_bytes() == undisturbed.read_bytes()
    assert not partial_folder(output).exists()


def test_a_run_is_alone_before_its_first_process_has_opened_its_part(tmp_path):
    pytest.importorskip("fcntl")
    first, second = (CorpusParts(tmp_path / "out.jsonl") for _ in range(2))
    first.begin({}, resume=False)
    with pytest.raises(DataFileError, match="is being written by another process"):
        second.begin({}, resume=False)
    second.remove()
    second.release()
    assert first.folder.is_dir()
    first.remove()
    second.begin({}, resume=False)
    second.remove()
    assert not first.folder.exists()


class Changing(Breaking):
    """A pipeline during whose first chunk somebody writes to the input."""

    def __init__(self, pipe: Any, act: Callable[[], Any]) -> None:
        super().__init__(pipe, 99)
        self.act = act

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.chunks == 99:
            self.act()
        return super().__call__(*arguments, **options)


@pytest.mark.parametrize("change", ["more", "fewer", "longer"])
def test_input_that_changes_while_it_is_read_is_refused(pipe, tmp_path, change):
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("b", "c"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(story(number)) + "\n" for number in range(20)))
    act = {
        "more": lambda: (folder / "a.jsonl").write_text(json.dumps(story(1))),
        "fewer": (folder / "c.jsonl").unlink,
        "longer": lambda: os.utime(folder / "b.jsonl", (1, 1)),
    }[change]
    said = "there is no such file" if change == "fewer" else "The input changed while it was read"
    with pytest.raises(DataFileError, match=said) as caught:
        extract_files(Changing(pipe, act), folder, tmp_path / "out.jsonl", **OPTIONS)
    assert "are kept" not in "".join(getattr(caught.value, "__notes__", []))
    assert list(tmp_path.iterdir()) == [folder]


def test_each_process_reads_the_input_that_the_run_began_with(pipe, tmp_path):
    folder, output = tmp_path / "docs", tmp_path / "out.jsonl"
    folder.mkdir()
    (folder / "b.jsonl").write_text("".join(json.dumps(story(number)) + "\n" for number in range(40)))
    first = CorpusParts(output)
    first.begin(extraction._describe(pipe, Corpus([folder]), OPTIONS), resume=False)
    (folder / "a.jsonl").write_text("".join(json.dumps(story(number)) + "\n" for number in range(40)))
    with pytest.raises(DataFileError, match="The input changed while it was read"):
        extraction._prepare(pipe, Corpus([folder]), output, "jsonl", Processes(1, 2), OPTIONS).run()
    first.release()
    # Its answers are of other documents: whoever goes on begins at the beginning.
    (folder / "a.jsonl").unlink()
    report = extract_files(pipe, folder, output, resume=True, **OPTIONS)
    assert report.documents == 40


@pytest.fixture
def three(tmp_path) -> Path:
    """A folder of three files, each of which is a chunk."""
    folder = tmp_path / "three"
    folder.mkdir()
    for place, name in enumerate("abc"):
        rows = (json.dumps(story(number)) + "\n" for number in range(16 * place, 16 * place + 16))
        (folder / f"{name}.jsonl").write_text("".join(rows))
    return folder


def rewrite(path: Path) -> Callable[[], None]:
    """Change a file but not its size, and return what restores it with the times that anybody can set."""
    content, before = path.read_text(), path.stat()
    path.write_text(content.replace("It rained", "It poured"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def restore() -> None:
        path.write_text(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return restore


def test_answers_of_what_was_there_for_a_while_are_not_kept(pipe, three, tmp_path):
    output, restore = tmp_path / "out.jsonl", []

    class Interrupted(Breaking):
        """Does the second file after it was rewritten, and is interrupted in the third."""

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            if self.chunks == 2:
                restore.append(rewrite(three / "b.jsonl"))
            return super().__call__(*arguments, **options)

    with pytest.raises(KeyboardInterrupt) as caught:
        extract_files(Interrupted(pipe, 2, KeyboardInterrupt()), three, output, **OPTIONS)
    assert "The input changed while it was read" in "".join(caught.value.__notes__)
    assert "are kept" not in "".join(caught.value.__notes__)
    assert not partial_folder(output).exists()
    restore[0]()
    extract_files(pipe, three, output, resume=True, **OPTIONS)
    assert output.read_text().count("It poured") == 0
    assert len(titles(output)) == 48


def test_a_file_that_was_put_back_has_changed(pipe, three, tmp_path):
    # As after a kill: nothing could be checked when the run ended.
    output = tmp_path / "out.jsonl"
    interrupt(pipe, three, output)
    rewrite(three / "b.jsonl")()
    with pytest.raises(DataFileError, match="input changed since"):
        extract_files(pipe, three, output, resume=True, **OPTIONS)


def test_a_file_that_was_there_for_a_while_moves_no_answers(pipe, three, tmp_path):
    output, guest = tmp_path / "out.jsonl", three / "d" / "a.jsonl"
    guest.parent.mkdir()
    for name in "bc":
        (three / f"{name}.jsonl").rename(guest.parent / f"{name}.jsonl")

    class Visited(Breaking):
        """Meets another file after the first, which is gone again before the last of all."""

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            if not guest.exists() and not visits:
                visits.append(guest.write_text("".join(json.dumps(story(90)) + "\n" for _ in range(16))))
            elif guest.exists() and len(visits) == 1:
                visits.append(guest.unlink())
            return super().__call__(*arguments, **options)

    visits = []
    with pytest.raises(DataFileError, match="The input changed while it was read"):
        extract_files(Visited(pipe, 99), three, output, **OPTIONS)
    assert len(visits) == 2 and not partial_folder(output).exists()
    visits = []
    interrupt(pipe, three, output, breaking=Visited)
    assert len(visits) == 2
    with pytest.raises(DataFileError, match=r"The input changed while it was read.*they are not kept"):
        extract_files(pipe, three, output, resume=True, **OPTIONS)
    assert extract_files(pipe, three, output, resume=True, **OPTIONS).documents == 48


def test_a_link_that_led_elsewhere_for_a_while_has_changed(pipe, three, tmp_path):
    output, link = tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(three / "a.jsonl")
    sources = [link, three / "b.jsonl", three / "c.jsonl"]
    interrupt(pipe, sources, output)
    link.unlink()
    link.symlink_to(three / "a.jsonl")
    with pytest.raises(DataFileError, match="input changed since"):
        extract_files(pipe, sources, output, resume=True, **OPTIONS)


def test_answers_are_kept_while_the_input_cannot_be_looked_at(pipe, three, tmp_path):
    output, away = tmp_path / "out.jsonl", tmp_path / "away"

    class Unmounted(Breaking):
        """Loses sight of the input when it fails."""

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            if not self.chunks:
                three.rename(away)
            return super().__call__(*arguments, **options)

    interrupt(pipe, three, output, breaking=Unmounted)
    away.rename(three)
    assert extract_files(pipe, three, output, resume=True, **OPTIONS).documents == 16
    assert len(titles(output)) == 48


def test_a_file_that_may_not_be_read_is_said_before_anything_runs(pipe, three, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "c.jsonl")
    with pytest.raises(DataFileError, match=r"c\.jsonl: the file may not be read\. Change its permissions"):
        extract_files(Breaking(pipe, 0), three, tmp_path / "out.jsonl", **OPTIONS)
    assert list(tmp_path.iterdir()) == [three]
    assert extract_files(pipe, three, tmp_path / "out.jsonl", strict=False, **OPTIONS).documents == 48


@pytest.mark.parametrize("output", [None, "/dev/null"])
def test_input_that_changes_is_refused_where_answers_are_written_as_they_come(pipe, corpus, three, output):
    def append() -> None:
        with open(three / "b.jsonl", "a") as stream:
            stream.write(json.dumps(story(50)))

    with pytest.raises(DataFileError, match=r"The input changed while it was read.*what was written is of no use"):
        extract_files(Changing(pipe, append), [corpus, three], output, format="jsonl", **OPTIONS)


def test_files_beside_the_standard_input_may_not_change_either(pipe, corpus, tmp_path, monkeypatch):
    output = tmp_path / "out.jsonl"
    rows = "".join(json.dumps(story(number)) + "\n" for number in range(3)).encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(rows)))
    with pytest.raises(DataFileError, match="The input changed while it was read"):
        extract_files(Changing(pipe, corpus.touch), ["-", corpus], output, **OPTIONS)
    assert not output.exists()
    # A file of that name is not what is read.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_text("no documents")
    with pytest.raises(DataFileError, match="can be read only once"):
        extract_files(pipe, ["-", corpus], output, resume=True, **OPTIONS)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(rows)))
    assert extract_files(pipe, ["-", corpus], output, **OPTIONS).documents == 3 + NUMBER


def test_a_folder_of_somebody_elses_is_not_touched(pipe, corpus, tmp_path):
    folder = tmp_path / "out.jsonl.partial"
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(DataFileError, match=r"holds what is not of such a run \(precious\.txt\).*Move it away"):
        extract_files(pipe, corpus, tmp_path / "out.jsonl", **OPTIONS)
    assert [path.name for path in folder.iterdir()] == ["precious.txt"]
    (tmp_path / "file.jsonl.partial").write_text("mine")
    with pytest.raises(DataFileError, match=r"file\.jsonl\.partial is no folder.*Move it away"):
        extract_files(pipe, corpus, tmp_path / "file.jsonl", **OPTIONS)
    assert (tmp_path / "file.jsonl.partial").read_text() == "mine"


@pytest.mark.parametrize(
    "change",
    [
        {"chunk": "x"}, {"chunk": -1}, {"start": None}, {"start": 9}, {"end": 1.5}, {"end": 1 << 70}, {"counts": [1]},
        {"read": "x"}, {"counts": {"relations": 1}}, {"counts": {"documents": "2"}},
    ],
)  # fmt: skip
def test_a_journal_that_no_run_has_written_is_refused(tmp_path, change):
    parts = CorpusParts(tmp_path / "out.jsonl")
    parts.begin({}, resume=False)
    with parts:
        parts.add(0, b"{}\n{}\n", {"documents": 2})
    parts.release()
    line = {"chunk": 1, "start": 6, "end": 6, "read": 0, "counts": {"documents": 0}, **change}
    with open(parts.folder / "part-00000.journal", "a") as journal:
        journal.write(json.dumps(line) + "\n")
    with pytest.raises(
        DataFileError, match=r"part-00000\.journal, line 2: .*\. Remove .*out\.jsonl\.partial to begin"
    ):
        CorpusParts(tmp_path / "out.jsonl").begin({}, resume=True)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_folder_without_a_readable_description_holds_nothing(
    pipe, corpus, undisturbed, tmp_path, content, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    output = tmp_path / "out.jsonl"
    interrupt(pipe, corpus, output)
    (partial_folder(output) / "run.json").write_text(content)
    # What cannot be begun removes nothing.
    before = sorted(path.name for path in partial_folder(output).iterdir())
    with pytest.raises(DataFileError, match="there is no such file"):
        extract_files(pipe, tmp_path / "absent.json", output, resume=True, **OPTIONS)
    assert sorted(path.name for path in partial_folder(output).iterdir()) == before
    with pytest.raises(RuntimeError, match="out of memory"):
        extract_files(Breaking(pipe, 1), corpus, output, resume=True, **OPTIONS)
    assert "has no run.json that can be read: the answers there are of no use, and are removed" in caplog.text
    assert not (partial_folder(output) / "part-00000").read_bytes().count(b"\n") > 16
    (partial_folder(output) / "run.json").write_text(content)
    report = extract_files(pipe, corpus, output, resume=True, **OPTIONS)
    assert report.documents == NUMBER
    assert output.read_bytes() == undisturbed.read_bytes()


def test_an_output_behind_a_link_and_one_of_the_shells(docre, corpus, tiny_checkpoint, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real" / "out.jsonl")
    arguments = ("extract", corpus, "--model", tiny_checkpoint, "--format", "jsonl")
    # The second time it is there.
    for _ in range(2):
        assert docre(*arguments, "-o", tmp_path / "link.jsonl").code == 0
        assert (tmp_path / "link.jsonl").is_symlink()
        assert len(titles(tmp_path / "real" / "out.jsonl")) == NUMBER
    command = [sys.executable, "-m", "modeling_docre.cli", *map(str, arguments), "-o", "/dev/stdout"]
    (tmp_path / "shell.jsonl").write_text('{"title": "first"}\n')
    with open(tmp_path / "shell.jsonl", "ab") as stream:
        subprocess.run(command, check=True, stdout=stream, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert titles(tmp_path / "shell.jsonl") == ["first", *titles(tmp_path / "real" / "out.jsonl")]


def test_a_disk_that_is_full_at_the_end_is_said_with_the_output(pipe, corpus, undisturbed, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A list takes a comma more for each line.
    for output in (tmp_path / "out.json", tmp_path / "table.json"):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (undisturbed.stat().st_size, hard))
            with pytest.raises(DataFileError, match=r"out\.json cannot be written \(File too large\)") as caught:
                extract_files(pipe, corpus, tmp_path / "out.json", resume=output.name == "table.json", **OPTIONS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert f"The answers to {NUMBER} documents are kept" in "".join(caught.value.__notes__)
    report = extract_files(pipe, corpus, tmp_path / "out.json", resume=True, **OPTIONS)
    assert report.documents == 0
    assert len(json.loads((tmp_path / "out.json").read_text())) == NUMBER


def test_what_is_known_of_millions_of_chunks_takes_little_memory(tmp_path):
    parts = CorpusParts(tmp_path / "out.jsonl")
    parts.begin({}, resume=False)
    with parts:
        parts.add(0, b"{}\n", {"documents": 64, "relations": 7})
    counts = {"documents": 64, "relations": 7, "mentions beyond the length limit": 1}
    with open(parts.folder / "part-00000.journal", "w") as journal:
        for chunk in range(20_000):
            journal.write(json.dumps({"chunk": chunk, "start": 0, "end": 3, "read": 0, "counts": counts}) + "\n")
    tracemalloc.start()
    try:
        assert parts.counts() == {name: 20_000 * count for name, count in counts.items()}
        assert tracemalloc.get_traced_memory()[0] < 1_500_000
    finally:
        tracemalloc.stop()
    assert parts.documents_done(1, 3) == 64 * 6667
    assert next(parts.lines(20_000)) == "{}\n"
    with pytest.raises(DataFileError, match="lacks 1 of 20001 chunks"):
        next(parts.lines(20_001))
    parts.remove()


def test_a_tokenizer_that_is_written_in_python_is_part_of_the_run(pipe, tmp_path):
    from transformers import ByT5Tokenizer

    class Other:
        """A pipeline with another tokenizer."""

        def __init__(self, tokenizer: Any) -> None:
            self.model, self.processor = pipe.model, SimpleNamespace(tokenizer=tokenizer)

    digests = [digest_pipeline(Other(ByT5Tokenizer(extra_ids=number))) for number in (5, 5, 6)]
    assert digests[0] == digests[1] != digests[2]
    assert digest_pipeline(pipe) == digest_pipeline(load_pipeline(pipe.model.name_or_path, "cpu")) not in digests


def test_a_full_disk_is_said_and_costs_nothing(pipe, corpus, undisturbed, tmp_path):
    output = tmp_path / "out.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (undisturbed.stat().st_size // 2, hard))
        with pytest.raises(
            DataFileError, match=r"out\.jsonl\.partial.* cannot be written \(File too large\)"
        ) as caught:
            extract_files(pipe, corpus, output, **OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "The answers to 16 documents are kept" in "".join(caught.value.__notes__)
    extract_files(pipe, corpus, output, resume=True, **OPTIONS)
    assert output.read_bytes() == undisturbed.read_bytes()


def test_a_run_that_did_nothing_leaves_nothing(pipe, corpus, tmp_path):
    with pytest.raises(RuntimeError, match="out of memory"):
        extract_files(Breaking(pipe, 0), corpus, tmp_path / "out.jsonl", **OPTIONS)
    with pytest.raises(ValueError, match="P999"):
        extract_files(pipe, corpus, tmp_path / "out.jsonl", relations=["P999"])
    assert list(tmp_path.iterdir()) == [corpus]


def test_where_nothing_can_be_resumed(pipe, corpus, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    for sources, output in ((corpus, None), ("-", tmp_path / "out.jsonl"), (corpus, "/dev/null")):
        with pytest.raises(DataFileError, match="There is nothing to go on from"):
            extract_files(pipe, sources, output, format="jsonl", resume=True)
    with pytest.raises(DataFileError, match=r"cannot be made \(.*there is no folder .*absent"):
        extract_files(pipe, corpus, tmp_path / "absent" / "out.jsonl", resume=True)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataFileError, match="it is a folder"):
        extract_files(pipe, corpus, tmp_path / "folder.jsonl")
    with pytest.raises(DataFileError, match="is read and written"):
        extract_files(pipe, corpus, corpus)
    extract_files(pipe, corpus, tmp_path / "out.jsonl", resume=True, **OPTIONS)
    assert "holds nothing to go on from; extraction starts at the beginning" in caplog.text
    assert len(titles(tmp_path / "out.jsonl")) == NUMBER


# ---------------------------------------------------------------------------------------------------------------------
# What is read
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with eight documents in files of every kind, and files that are none."""
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    docs = tmp_path / "docs"
    (docs / "b").mkdir(parents=True)
    (docs / ".hidden").mkdir()
    (docs / "a.jsonl").write_text("\n".join(json.dumps(story(number)) for number in (0, 1)))
    (docs / "b" / "a.json.gz").write_bytes(gzip.compress(json.dumps([story(2)]).encode()))
    in_words = [Document.from_dict(story(number)).to_docred() for number in (3, 4)]
    in_words[1] |= {"labels": []}
    parquet.write_table(arrow.Table.from_pylist(in_words), docs / "b" / "c.parquet")
    rows = [{**story(5), "size": 9}, {**story(6), "size": 9}]
    parquet.write_table(arrow.Table.from_pylist(rows), docs / "b" / "d.parquet")
    (docs / "c.txt").write_text("[Ada](:PER) was born in [Rome](:LOC).")
    for name in ("notes.md", "rel_info.json", ".hidden/x.json", ".x.jsonl", "b/image.png"):
        (docs / name).write_text("no document")
    return docs


def test_folders_are_read_in_order_with_all_that_is_in_them(docre, folder, tiny_checkpoint, tmp_path):
    arguments = ("--model", tiny_checkpoint, "-o", folder / "out.jsonl", "--threshold", 0)
    expected = [f"Story {number}" for number in range(7)] + ["c.txt"]
    # The second time, the output of the first lies among the inputs.
    for _ in range(2):
        ran = docre("extract", folder, *arguments)
        assert ran.code == 0, ran.err
        assert [title.rstrip() for title in titles(folder / "out.jsonl")] == expected
        assert "documents: 8, " in ran.err
        assert "files that are no documents: 5" in ran.err
    ran = docre("extract", folder / "c.txt", folder / "b", folder / "a.jsonl", *arguments)
    assert [title.rstrip() for title in titles(folder / "out.jsonl")] == [
        "c.txt", *(f"Story {number}" for number in (2, 3, 4, 5, 6, 0, 1)),
    ]  # fmt: skip


def test_a_row_of_a_table_is_the_document_that_was_written(folder):
    found = list(iter_documents(folder / "b" / "c.parquet"))
    expected = [Document.from_dict(Document.from_dict(story(number)).to_docred()) for number in (3, 4)]
    assert [document.text for document in found] == [document.text for document in expected]
    assert [document.entities for document in found] == [document.entities for document in expected]
    assert list(iter_documents(folder / "b" / "d.parquet")) == [
        Document.from_dict(story(5)),
        Document.from_dict(story(6)),
    ]


def test_a_dataset_repository_is_a_folder_of_documents(pipe, tmp_path):
    from modeling_docre.datasets_scripts import to_dataset, write_dataset_repo

    documents = [Document.from_dict(story(number)) for number in range(3)]
    folder = write_dataset_repo(
        to_dataset(documents), tmp_path / "repository", name="R", license="mit", relation_names={"P17": "country"}
    )
    report = extract_files(pipe, folder, tmp_path / "out.jsonl")
    assert len(titles(tmp_path / "out.jsonl")) == 3
    assert report.counts["files that are no documents"] == 2


def test_one_broken_file_among_many_is_named_or_skipped(pipe, folder, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    broken = folder / "b" / "b.json"
    broken.write_text(f"[{json.dumps(story(7))}, {{")
    (folder / "d.jsonl.gz").write_bytes(b"no gzip")
    (folder / "e.parquet").write_bytes(b"no table")
    (folder / "f.txt").write_bytes("Zoë".encode("utf-16"))
    with pytest.raises(DataFileError, match=r"b/b\.json, line 1, column \d+: not JSON"):
        extract_files(pipe, folder, tmp_path / "out.jsonl")
    report = extract_files(pipe, folder, tmp_path / "out.jsonl", strict=False)
    assert report.counts["file that cannot be read to its end"] == 4
    found = [title.rstrip() for title in titles(tmp_path / "out.jsonl")]
    assert [title for title in found if not title.startswith("Story")] == [
        str(broken), "c.txt", *(str(folder / name) for name in ("d.jsonl.gz", "e.parquet", "f.txt")),
    ]  # fmt: skip
    assert len(found) == 8 + 1 + 4
    assert "e.parquet: broken, or no Parquet file" in caplog.text


def test_one_broken_file_alone_is_read_as_far_as_it_goes(docre, pipe, tiny_checkpoint, tmp_path):
    broken, output = tmp_path / "broken.json", tmp_path / "out.jsonl"
    broken.write_text(json.dumps([story(number) for number in range(3)])[:-1] + ', {"title": "cut')
    arguments = ("extract", broken, "-o", output, "--model", tiny_checkpoint)
    assert docre(*arguments).code == 1
    ran = docre(*arguments, "--skip-invalid")
    assert ran.code == 0, ran.err
    assert [title.rstrip() for title in titles(output)] == ["Story 0", "Story 1", "Story 2", str(broken)]
    assert "file that cannot be read to its end: 1" in ran.err
    with pytest.raises(DataFileError, match="there is no such file"):
        extract_files(pipe, tmp_path / "absent.json", output, strict=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", None, "no document file is in this folder"),
        ("a.csv", b"", r"nothing is known about files that end in '\.csv'"),
        ("a.parquet.gz", b"", "Parquet is compressed in itself"),
        ("absent.json", None, "there is no such file"),
    ],
)
def test_what_is_no_input_is_said_before_anything_runs(pipe, corpus, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    elif name == "empty":
        (tmp_path / name).mkdir()
    with pytest.raises(DataFileError, match=message):
        extract_files(Breaking(pipe, 0), [corpus, tmp_path / name], tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl.partial").exists()


def test_tables_of_something_else_and_without_pyarrow(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"tokens": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(DataFileError, match=r"a\.parquet: the columns are tokens, where documents have `sents`"):
        list(iter_documents(tmp_path / "a.parquet"))
    parquet.write_table(arrow.table({"text": ["Ada.", None]}), tmp_path / "b.parquet")
    with pytest.raises(DocumentError, match=r'b\.parquet, row 1: neither "text" nor "sents"'):
        list(iter_documents(tmp_path / "b.parquet"))
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'modeling-docre\[data\]'"):
        list(iter_documents(tmp_path / "b.parquet"))


def test_documents_are_counted_where_that_is_cheap(folder, tmp_path):
    (folder / "b" / "a.json.gz").unlink()
    assert Corpus([folder]).count() == 7
    (folder / "z.json").write_text("[]")
    assert Corpus([folder]).count() is None


def test_what_cannot_be_counted_is_read_all_the_same(docre, pipe, folder, tiny_checkpoint, tmp_path, monkeypatch):
    (folder / "b" / "a.json.gz").unlink()
    (folder / "e.parquet").write_bytes(b"no table")
    assert Corpus([folder], strict=False).count() is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    ran = docre("extract", folder, "-o", tmp_path / "out.jsonl", "--model", tiny_checkpoint, "--skip-invalid")
    assert ran.code == 0, ran.err
    assert "file that cannot be read to its end: 1" in ran.err
    monkeypatch.undo()
    if not hasattr(os, "mkfifo"):
        return
    pipe_with_name = tmp_path / "named.jsonl"
    os.mkfifo(pipe_with_name)
    content = "".join(json.dumps(story(number)) + "\n" for number in range(3))
    writer = threading.Thread(target=pipe_with_name.write_text, args=(content,), daemon=True)
    assert Corpus([pipe_with_name]).count() is None
    writer.start()
    assert extract_files(pipe, pipe_with_name, tmp_path / "out.jsonl").counts["documents"] == 3
    writer.join()


def test_folders_behind_links_are_read_once(pipe, folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.jsonl").write_text(json.dumps(story(9)))
    (folder / "far").symlink_to(elsewhere)
    expected = len(list(Corpus([folder]).files()))
    assert str(folder / "far" / "x.jsonl") in Corpus([folder]).files()
    # Circles, what is there a second time, links to nothing and to themselves are left out, and counted.
    (elsewhere / "circle").symlink_to(folder)
    (folder / "twice").symlink_to(elsewhere)
    (folder / "gone.json").symlink_to(tmp_path / "absent.json")
    (folder / "itself.json").symlink_to(folder / "itself.json")
    corpus = Corpus([folder])
    assert len(list(corpus.files())) == expected
    assert corpus.left_out == 5 + 2
    assert corpus.met_again == 2


def test_nothing_is_read_twice_whichever_way_it_is_named(docre, tiny_checkpoint, tmp_path):
    outer = tmp_path / "c"
    inner = outer / "sub"
    inner.mkdir(parents=True)
    (outer / "a.jsonl").write_text(json.dumps(story(0)))
    (inner / "b.jsonl").write_text(json.dumps(story(1)))
    (inner / "rel_info.json").write_text(json.dumps(story(2)))
    (tmp_path / "link.jsonl").symlink_to(inner / "b.jsonl")
    (tmp_path / "links").mkdir()
    for name in ("x.jsonl", "y.jsonl"):
        (tmp_path / "links" / name).symlink_to(inner / "b.jsonl")
    a, b, table = outer / "a.jsonl", inner / "b.jsonl", inner / "rel_info.json"
    link, linked = tmp_path / "link.jsonl", tmp_path / "links" / "x.jsonl"
    for sources, expected, times in [
        ([outer, inner], [a, b], 1),
        ([inner, outer], [b, a], 1),
        ([outer, outer / ".", f"{outer}/"], [a, b], 2),
        ([a, a, outer / "sub" / ".." / "a.jsonl"], [a], 2),
        ([b, outer], [b, a], 1),
        ([outer, b], [a, b], 1),
        ([link, inner], [link], 1),
        ([outer, tmp_path / "links"], [a, b], 2),
        ([tmp_path / "links", outer], [linked, a], 2),
        # Left out of folders, but named.
        ([outer, table], [a, b, table], 0),
    ]:
        corpus = Corpus(sources)
        # Each time anew.
        for _ in range(2):
            assert list(corpus.files()) == list(map(str, expected))
            assert corpus.met_again == times
    ran = docre("extract", outer, inner, b, "-o", tmp_path / "out.jsonl", "--model", tiny_checkpoint)
    assert ran.code == 0, ran.err
    assert [title.rstrip() for title in titles(tmp_path / "out.jsonl")] == ["Story 0", "Story 1"]
    assert "files and folders that were met again: 2" in ran.err
    assert "files that are no documents: 1" in ran.err


def test_a_link_that_comes_before_its_file_and_a_file_that_comes_before_its_link(tmp_path):
    folder = tmp_path / "docs"
    (folder / "m").mkdir(parents=True)
    for name in ("b.jsonl", "m/f.jsonl", "y.jsonl"):
        (folder / name).write_text(json.dumps(story(0)))
    for name, target in [("a", "y"), ("c", "b"), ("d", "m/f"), ("z", "m/f")]:
        (folder / f"{name}.jsonl").symlink_to(folder / f"{target}.jsonl")
    corpus = Corpus([folder])
    found = [Path(file).relative_to(folder) for file in corpus.files()]
    assert len(found) == len({os.path.realpath(folder / file) for file in found}) == 3
    assert corpus.met_again == 4
    assert corpus.left_out == 0


def test_an_output_under_another_name_is_no_input(pipe, folder, tmp_path):
    output = tmp_path / "out.jsonl"
    (folder / "old.jsonl").symlink_to(output)
    for _ in range(2):
        assert extract_files(pipe, folder, output).counts["documents"] == 8


def test_runs_for_other_outputs_are_no_input(pipe, folder, tmp_path):
    parts = CorpusParts(folder / "other.jsonl")
    parts.begin({}, resume=False)
    # A folder that is only called like that of a run.
    (folder / "kept.partial").mkdir()
    (folder / "kept.partial" / "a.jsonl").write_text(json.dumps(story(7)))
    report = extract_files(pipe, folder, tmp_path / "out.jsonl")
    assert report.counts["documents"] == 8 + 1
    assert report.counts["files that are no documents"] == 5 + 1
    parts.remove()


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_name_that_is_not_utf8(docre, tiny_checkpoint, tmp_path, caplog):
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in (b"M\xfcller.txt", b"Z\xfcrich.json"):
        with open(os.fsencode(folder) + b"/" + name, "wb") as stream:
            stream.write(b"[Ada](:PER) was born.")
    ran = docre("extract", folder, "-o", tmp_path / "out.jsonl", "--model", tiny_checkpoint, "--skip-invalid")
    assert ran.code == 0, ran.err
    assert [Path(title).name for title in titles(tmp_path / "out.jsonl")] == ["M\ufffdller.txt", "Z\ufffdrich.json"]
    (ran.out + ran.err + caplog.text).encode()


def test_a_broken_page_of_a_table_is_named_or_skipped(pipe, folder, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = folder / "z.parquet"
    parquet.write_table(arrow.Table.from_pylist([story(number) for number in range(400)]), path, use_dictionary=False)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = b"\xff" * 64
    path.write_bytes(data)
    with pytest.raises(DataFileError, match=r"z\.parquet: broken, or no Parquet file"):
        extract_files(pipe, folder, tmp_path / "out.jsonl")
    report = extract_files(pipe, folder, tmp_path / "out.jsonl", strict=False)
    assert report.counts["file that cannot be read to its end"] == 1
    assert report.counts["documents"] >= 8 + 1


def test_lines_before_the_place_where_a_gzip_file_ends_are_kept(folder):
    rows = "".join(json.dumps(story(number, note=os.urandom(20).hex())) + "\n" for number in range(500)).encode()
    packed = gzip.compress(rows)[: -len(rows) // 20]
    (folder / "z.jsonl.gz").write_bytes(packed)
    whole = zlib.decompressobj(31).decompress(packed).count(b"\n")
    found = [read() for read in Corpus([folder / "z.jsonl.gz", folder / "a.jsonl"], strict=False).readers()]
    assert 100 < whole < 500
    assert len(found) == whole + 1 + 2
    assert dict(found[whole].repairs) == {"file that cannot be read to its end": 1}


def test_a_list_is_read_as_it_goes(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(
        "[" + ",\n".join(json.dumps(story(number, note="x" * 100_000)) for number in range(40)) + ", oops]"
    )
    documents = iter_documents(path)
    # What is broken at the end does not matter yet.
    assert next(documents) == Document.from_dict(story(0))
    with pytest.raises(DataFileError, match=r"a\.json, line 40, column \d+: not JSON \(Expecting value\)"):
        list(documents)


def test_rows_of_any_documents(pipe):
    documents = [story(0), Document.from_dict(story(1))]
    rows = list(extract_rows(pipe, iter(documents), top_k=1))
    assert [row["title"] for row in rows] == [story(0)["title"], story(1)["title"]]
    assert all(len(row["relations"]) <= 1 for row in rows)
    assert rows[0]["text"] == story(0)["text"]
    assert rows[0]["entities"] == pipe(documents)[0]["entities"]
    many = (story(number) if number != 70 else {"text": "Ada.", "entities": 5} for number in range(80))
    with pytest.raises(DocumentError, match=r"^input 70: .*entities"):
        list(extract_rows(pipe, many))
    # As the pipeline does.
    for alone in ({"text": "Ada lived."}, {"text": "Ada lived.", "entities": None}, "Ada lived."):
        with pytest.raises(DocumentError, match=r"^input 1: the text comes without entities"):
            list(extract_rows(pipe, [story(0), alone]))
    (nobody,) = extract_rows(pipe, [{"text": "It rained.", "entities": []}])
    assert nobody["relations"] == []


def test_the_pipeline_names_no_argument_that_it_lacks(pipe):
    outside = {"text": "Ada.", "entities": [{"mentions": [{"start": 0, "end": 9}]}]}
    with pytest.raises(DocumentError, match=r"pass Document\.from_dict\(\.\.\., strict=False\) to skip it"):
        pipe(outside)
    assert len(pipe(Document.from_dict(outside, strict=False))["entities"]) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Several processes, memory, examples
# ---------------------------------------------------------------------------------------------------------------------


def launcher(*arguments: object) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1"]
    command += ["--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0"]
    return [*command, "-m", "modeling_docre.cli", "extract", *map(str, arguments)]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="the file behind the standard output has no name here")
def test_output_that_is_redirected_into_the_folder_is_not_read(tiny_checkpoint, tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(story(number)) + "\n" for number in range(100)))
    command = [sys.executable, "-m", "modeling_docre.cli", "extract", ".", "--format", "jsonl"]
    with (tmp_path / "out.jsonl").open("w") as stream:
        command += ["--model", str(tiny_checkpoint)]
        subprocess.run(command, check=True, stdout=stream, cwd=tmp_path, env=ENVIRONMENT, timeout=120)
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 100


@pytest.mark.slow
def test_two_processes_write_what_one_writes(pipe, corpus, tiny_checkpoint, tmp_path):
    options = ("--model", tiny_checkpoint, "--batch-size", 2, "--threshold", 0)
    alone, output = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    command = ("-m", "modeling_docre.cli", "extract", corpus)
    ran = run_python(*command, "-o", alone, *options)
    assert ran.returncode == 0, ran.stderr
    ran = run_python(*command, "-o", output, *options, processes=2)
    assert ran.returncode == 0, ran.stderr
    assert len(titles(output)) == NUMBER
    assert output.read_bytes() == alone.read_bytes()
    assert ran.stderr.count("documents: 40, relations: ") == 1
    assert ran.stderr.count("40 documents in ") == 1
    assert not output.with_name("two.jsonl.partial").exists()
    ran = run_python(*command, *options, processes=2)
    assert ran.returncode != 0
    assert "Several processes need files to read from and one to write to" in ran.stderr


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_and_any_number_goes_on(pipe, tiny_checkpoint, tmp_path):
    source, output = tmp_path / "corpus.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(story(number)) + "\n" for number in range(1000)))
    command = launcher(source, "-o", output, "--model", tiny_checkpoint, "--batch-size", 2, "--threshold", 0)
    journals = [tmp_path / "out.jsonl.partial" / f"part-0000{number}.journal" for number in range(2)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        deadline = time.monotonic() + 120
        while not all(journal.is_file() and journal.stat().st_size for journal in journals):
            assert time.monotonic() < deadline and process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ranks = {
            re.search(rb"(?<!\w)RANK=(\d)", Path(f"/proc/{child}/environ").read_bytes())[1]: int(child)
            for child in children
            if b"RANK=" in Path(f"/proc/{child}/environ").read_bytes()
        }
        os.kill(ranks[b"1"], signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert not output.exists()
    report = extract_files(pipe, source, output, resume=True, **OPTIONS)
    assert 0 < report.documents < 1000 - 16
    assert report.counts["documents"] == 1000
    extract_files(pipe, source, tmp_path / "straight.jsonl", **OPTIONS)
    assert output.read_bytes() == (tmp_path / "straight.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_memory_does_not_grow_with_the_documents(tiny_checkpoint, tmp_path):
    # Titles of 50,000 characters go from the input to the output: each copy of all that is held costs 40 MB.
    files = []
    for number in (200, 1000):
        files.append(tmp_path / f"{number}.json")
        rows = (json.dumps({**story(row), "title": "x" * 50_000}) for row in range(number))
        files[-1].write_text("[" + ",\n".join(rows) + "]")
    script = Path(__file__).with_name("bulk_script.py")
    command = [sys.executable, script, "peak", tiny_checkpoint, *files]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    small, large = map(float, re.findall(r"peak ([\d.]+)", ran.stdout))
    assert large - small < 15, f"{small} MiB for 200 documents, {large} MiB for 1,000"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_row_group(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    # One row group of 20 MB, and one of 100 MB.
    files = []
    for number in (2_000, 10_000):
        files.append(tmp_path / f"{number}.parquet")
        names = ["x" * 10_000 + str(row) for row in range(number)]
        table = arrow.table({"title": names, "text": ["Ada."] * number, "entities": [[]] * number})
        parquet.write_table(table, files[-1], compression="none", use_dictionary=False, row_group_size=number)
    script = Path(__file__).with_name("bulk_script.py")
    ran = subprocess.run([sys.executable, script, "read", *files], capture_output=True, text=True, env=ENVIRONMENT)
    assert ran.returncode == 0, ran.stderr
    small, large = map(float, re.findall(r"peak ([\d.]+)", ran.stdout))
    assert large - small < 35, f"{small} MiB for 2,000 rows, {large} MiB for 10,000"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_benchmark_kills_as_often_as_it_is_told(repository, tiny_checkpoint, tmp_path):
    source = tmp_path / "corpus.json"
    source.write_text(json.dumps([story(number) for number in range(240)]))
    command = [sys.executable, repository / "benchmarks" / "bulk.py", source, "--model", tiny_checkpoint]
    command += ["--batch-size", "1", "--kills", "2"]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=ENVIRONMENT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [int(number) for number in re.findall(r"(\d+) of 30 chunks are done", ran.stdout)] != []
    assert re.search(r"killed 2 times .* the output equals that of the undisturbed run", ran.stdout)
    peaks = [int(peak) for peak in re.findall(r"peak memory (\d+) MiB", ran.stdout)]
    assert len(peaks) == 3 and min(peaks) > 50


def as_parquet(folder: Path) -> Path:
    from modeling_docre.datasets_scripts import to_dataset, write_dataset_repo

    documents = [Document.from_dict(story(number)) for number in range(6)]
    return write_dataset_repo(to_dataset(documents), folder, name="R", license="mit")


@pytest.mark.slow
def test_example_of_a_data_set(repository, pipe, tiny_checkpoint, tmp_path):
    folder = as_parquet(tmp_path / "repository")
    command = [repository / "examples" / "bulk.py", folder, "train", tmp_path / "out.jsonl"]
    ran = run_python(*command, tiny_checkpoint)
    assert ran.returncode == 0, ran.stderr
    extract_files(pipe, folder, tmp_path / "straight.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "straight.jsonl").read_bytes()
    ran = run_python(*command, tiny_checkpoint, processes=2)
    assert ran.returncode == 0, ran.stderr
    shares = [titles(tmp_path / f"out.jsonl.{rank}") for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == sorted(titles(tmp_path / "out.jsonl"))
    assert all(shares)


@pytest.mark.slow
def test_example_of_ray(repository, pipe, tiny_checkpoint, tmp_path):
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = as_parquet(tmp_path / "repository")
    (source,) = folder.glob("data/*.parquet")
    command = [sys.executable, repository / "examples" / "bulk_ray.py", source, tmp_path / "out", tiny_checkpoint]
    environment = {**ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"}
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    rows = parquet.read_table(tmp_path / "out").to_pylist()
    extract_files(pipe, source, tmp_path / "straight.jsonl")
    assert [row["title"] for row in rows] == titles(tmp_path / "straight.jsonl")
    expected = (tmp_path / "straight.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    for row, line in zip(rows, expected, strict=True):
        first, second = json.loads(row["answer"]), json.loads(line)
        scores = [[relation.pop("score") for relation in answer["relations"]] for answer in (first, second)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
        assert first == second


def test_a_setting_that_older_models_lack_is_no_other_model(pipe, monkeypatch):
    digest = digest_pipeline(pipe)
    config = pipe.model.config
    older = {name: value for name, value in config.to_dict().items() if name != "grid_fill"}
    monkeypatch.setattr(config, "to_dict", lambda: older)
    assert digest_pipeline(pipe) == digest
    for beside in ({"prune_pairs": False}, {"prune_pairs": True}):
        monkeypatch.setattr(config, "to_dict", lambda beside=beside: older | beside)
        assert digest_pipeline(pipe) == digest
    encoder = {"encoder_config": older["encoder_config"] | {"prune_pairs": True}}
    for other in ({"grid_fill": "zeros"}, {"quantization_config": {"bits": 8}}, {"fusion_config": {"a": 1}}, encoder):
        monkeypatch.setattr(config, "to_dict", lambda other=other: older | other)
        assert digest_pipeline(pipe) != digest
