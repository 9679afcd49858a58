"""What the documentation shows is run: its Python, its commands' options, its links."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import io
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from modeling_docre import DEFAULT_MODEL, DocREConfig
from modeling_docre.cli_options import make_parser
from modeling_docre.recipes import load_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.is_file()]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
# Where programs lie that are no part of the package.
SCRIPTS = ("examples/", "benchmarks/")

each_page = pytest.mark.parametrize("page", PAGES, ids=[path.relative_to(ROOT).as_posix() for path in PAGES])


class Block(NamedTuple):
    language: str
    code: str
    line: int
    follows: bool  # directly after the block before it


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found, end = [], -1
    for match in FENCE.finditer(text):
        follows = end >= 0 and not text[end : match.start()].strip()
        found.append(Block(match[1], match[2], text.count("\n", 0, match.start(2)), follows))
        end = match.end()
    return found


def commands(page: Path) -> list[list[str]]:
    """The calls of `docre` and of scripts on a page, without what a shell or a launcher does around them."""
    found = []
    for block in blocks(page):
        if block.language in ("bash", "console", "sh"):
            for line in block.code.replace("\\\n", " ").splitlines():
                for call in split(shlex.split(line.removeprefix("$ "), comments=True), ("|", "&&", ";")):
                    words = plain(call)
                    if words[:1] == ["docre"] or (words and words[0].startswith(SCRIPTS)):
                        found.append(words)
    return found


def split(words: list[str], signs: tuple[str, ...]) -> list[list[str]]:
    calls: list[list[str]] = [[]]
    for word in words:
        if word in signs:
            calls.append([])
        else:
            calls[-1].append(word)
    return calls


def plain(words: list[str]) -> list[str]:
    """What runs: `docre` or a script, with its arguments."""
    words, *_ = split(words, (">", ">>", "<"))
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[:1] not in (["python"], ["torchrun"]):
        return words
    if "modeling_docre.cli" in words:
        return ["docre", *words[words.index("modeling_docre.cli") + 1 :]]
    return next((words[at:] for at, word in enumerate(words) if word.startswith(SCRIPTS)), [])


@each_page
def test_python_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    found = blocks(page)
    code = [block.code for block in found if block.language == "python"]
    if not DEFAULT_MODEL.is_dir() and re.search(r'pipeline\("docre"\)|DEFAULT_MODEL', "".join(code)):
        pytest.skip(f"the embedded model is absent: {DEFAULT_MODEL}")
    monkeypatch.chdir(tmp_path)
    for name in ("examples", "metrics", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    names = {"__name__": "__main__"}
    printed = None
    for block in found:
        if block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile("\n" * block.line + block.code, page.name, "exec"), names)
            printed = out.getvalue()
        else:
            if printed is not None and block.follows and block.language in ("output", "text"):
                assert printed.rstrip() == block.code.rstrip(), f"{page.name}, line {block.line}"
            printed = None


class Parsed(Exception):
    """A script has read its arguments."""


def read_arguments(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a script until it has read its arguments."""
    script = ROOT / words[0]
    source = script.read_text(encoding="utf-8")
    if "parse_args" not in source:
        names = re.search(r"^ *([\w, *]+) = sys\.argv\[1:\]$", source, re.MULTILINE)[1].split(", ")
        needed = sum(not name.startswith("*") for name in names)
        assert len(words) - 1 == needed or (len(words) - 1 > needed and needed < len(names))
        return
    parse = argparse.ArgumentParser.parse_args

    def stop(*arguments: Any) -> None:
        parse(*arguments)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", words)
        patch.syspath_prepend(script.parent)
        with pytest.raises(Parsed):
            runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "benchmarks" / "README.md"], ids=lambda page: page.name)
def test_commands_exist_with_their_options(page, monkeypatch):
    for words in commands(page):
        if words[0] != "docre":
            try:
                read_arguments(words, monkeypatch)
            except SystemExit:
                pytest.fail(f"{page.name}: {shlex.join(words)}")
            continue
        try:
            options, rest = make_parser().parse_known_args(words[1:])
        except SystemExit:
            pytest.fail(f"{page.name}: {shlex.join(words)}")
        assert not rest or words[1] == "train", f"{page.name}: {shlex.join(words)} has no option {rest}"
        for word in words:
            if word.startswith(("recipes/", "examples/")):
                assert (ROOT / word).exists(), f"{page.name}: there is no {word}"
        if words[1] == "train" and (ROOT / options.recipe).is_file():
            load_recipe(ROOT / options.recipe, rest)


@each_page
def test_links_lead_somewhere(page):
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    prose = re.sub(r"`[^`\n]+`", "", prose)
    targets = [target for target in LINK.findall(prose) if "://" not in target and not target.startswith("mailto:")]
    if not DEFAULT_MODEL.is_dir():
        targets = [target for target in targets if DEFAULT_MODEL.name not in target]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing, f"{page.name} links to what is not there"


def test_the_harness_finds_what_it_looks_for():
    # A page that is read wrongly would pass without being tested.
    assert PAGES[0] == ROOT / "README.md"
    assert sum(block.language == "python" for page in PAGES for block in blocks(page)) >= 5
    found = [words for page in PAGES for words in commands(page)]
    assert {words[1] for words in found} >= {"extract", "train", "evaluate", "convert"}
    assert {words[0] for words in found} >= {"docre", "examples/bulk_ray.py", "benchmarks/speed.py"}
    assert ["docre", "extract", "-", "-o", "relations.jsonl"] in found
    assert plain(shlex.split("torchrun --nproc_per_node 4 -m modeling_docre.cli extract a/")) == [
        "docre", "extract", "a/",
    ]  # fmt: skip
    assert plain(shlex.split("A=1 python examples/train.py a.json > b")) == ["examples/train.py", "a.json"]


@pytest.mark.parametrize(
    "wrong",
    ["examples/bulk_ray.py one", "examples/predict.py a.txt --no-such-option 3", "benchmarks/speed.py --steps flying"],
)
def test_the_harness_refuses_what_a_script_would(wrong, monkeypatch):
    with pytest.raises((SystemExit, AssertionError)):
        read_arguments(wrong.split(), monkeypatch)


def fields_of_the_configuration() -> str:
    """The table of `DocREConfig`'s docstring."""
    documented = inspect.getdoc(DocREConfig).partition("Args:\n")[2].partition("\n\nRaises:")[0]
    entries = re.findall(r"^    (\w+) \((.*?)\):\s(.*?)(?=^    \w+ \(|\Z)", documented, re.MULTILINE | re.DOTALL)
    fields = {field.name: field for field in dataclasses.fields(DocREConfig)}
    rows = ["| field | default | what |", "| --- | --- | --- |"]
    for name, type_and_default, text in entries:
        default = type_and_default.partition("defaults to ")[2]
        if not default:
            default = "empty" if fields[name].default_factory is not dataclasses.MISSING else "`None`"
        text = re.sub(r"\[(`[^`]+`)\]", r"\1", " ".join(text.split()))
        rows.append(f"| `{name}` | {default} | {text} |")
    return "\n".join(rows)


def test_the_table_of_the_configuration_is_that_of_its_docstring():
    table = fields_of_the_configuration()
    own = [name for name in DocREConfig.__annotations__ if name != "sub_configs"]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == own
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert table in page, f"docs/reference/configuration.md needs this table:\n{table}"


def test_the_command_line_page_has_every_option():
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## docre ([\w -]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    commands = _flat(make_parser())
    assert list(sections) == list(commands)
    for name, command in commands.items():
        table = "\n".join(re.findall(r"^\| (`.*?) \|", sections[name], re.MULTILINE))
        options = {option for action in command._actions for option in action.option_strings} - {"-h", "--help"}
        assert set(re.findall(r"`(--?[a-z0-9-]+)`", table)) == options, name
        places = {str(action.metavar) for action in command._actions if not action.option_strings}
        assert set(re.findall(r"`([A-Z][\w.]*)(?: \.\.\.)?`", table)) == places, name


def _flat(parser, above=""):
    """All commands, those of commands included, by what is typed after `docre`."""
    found = {}
    for name, command in next(iter(parser._subparsers._group_actions)).choices.items():
        found |= _flat(command, f"{above}{name} ") if command._subparsers else {above + name: command}
    return found


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in PAGES if path.parent.parent == ROOT / "docs"}
    assert pages <= set(LINK.findall(index)), "docs/README.md lists every page"
