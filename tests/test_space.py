from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import gradio
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from hypothesis import given
from hypothesis import strategies as st

from modeling_docre import DEFAULT_MODEL, Document, DocumentError, __version__
from modeling_docre.extraction import load_pipeline
from modeling_docre.spaces_app import app
from modeling_docre.spaces_app.drawing import MAX_EDGES, MAX_NODES, draw_graph
from modeling_docre.spaces_app.rendering import MAX_ROWS, answer_html, hue, message_html, text_html

RECENT = tuple(map(int, gradio.__version__.split(".")[:2])) >= (6, 24)
MARKUP = (
    "[Ada](ada:PER) was born in [London](:LOC), [England](:LOC). [She](ada) ruled the [City of [Paris](:LOC)](c:ORG)."
)
TWO = "[Ada](a:PER) lived in [London](b:LOC)."
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"' onload='x' &lt; ${alert(3)} {{x}} ]]> -->"


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint: Path) -> Any:
    return load_pipeline(str(tiny_checkpoint), "cpu")


@pytest.fixture(scope="module")
def embedded() -> Any:
    if not DEFAULT_MODEL.is_dir():
        pytest.skip(f"the embedded model is absent: {DEFAULT_MODEL}")
    return load_pipeline(None, "cpu")


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """A function that starts the page of a pipeline and returns its address."""
    started = []

    def start(pipe: Any) -> str:
        started.append(app.build_demo(pipe))
        return started[-1].launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)[1]

    yield start
    for demo in started:
        demo.close(verbose=False)


class Reader(HTMLParser):
    """Takes HTML apart as a browser would: elements with their attributes, and text."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.open: list[str] = []
        self.inside: dict[int, str] = {}
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("path", "rect"):
            self.open.append(str(len(self.elements) - 1))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[int(self.open.pop())][0] == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        for number in self.open:
            self.inside[int(number)] = self.inside.get(int(number), "") + data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    handle_decl = handle_pi = unknown_decl = handle_comment


# ---------------------------------------------------------------------------------------------------------------------
# HTML and SVG
# ---------------------------------------------------------------------------------------------------------------------

ELEMENTS = {
    *("div", "section", "figure", "figcaption", "h3", "p", "span", "mark", "small", "button", "details", "summary"),
    *("ul", "li", "table", "thead", "tbody", "tr", "th", "td"),
    *("svg", "defs", "marker", "g", "path", "rect", "text", "title"),
}
STRINGS = st.one_of(
    st.sampled_from([HOSTILE, "</mark>", '"><svg onload=x>', "&amp;", "中国", "a\u202eb"]),
    st.text(alphabet="<>&\"'`=/ abc;\n\\${}é中", max_size=12),
)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """What a pipeline might answer, with strings that do their worst and mentions that nest and cross."""
    pieces = draw(st.lists(STRINGS.filter(bool), min_size=1, max_size=4))
    text, sentences = "", []
    for piece in pieces:
        sentences.append([len(text), len(text) + len(piece)])
        text += piece + draw(st.sampled_from(["", " ", "\n\n"]))
    entities = []
    for number in range(draw(st.integers(0, 5))):
        mentions = []
        for _ in range(draw(st.integers(1, 3))):
            sentence = draw(st.integers(0, len(sentences) - 1))
            first, last = sentences[sentence]
            start = draw(st.integers(first, last - 1))
            end = draw(st.integers(start + 1, last))
            mentions.append({"start": start, "end": end, "text": text[start:end], "sentence": sentence})
        entities.append({"id": number, "name": draw(STRINGS), "type": draw(st.none() | STRINGS), "mentions": mentions})
    relations = []
    if len(entities) > 1:
        for _ in range(draw(st.integers(0, 4))):
            head, tail = draw(st.permutations(range(len(entities))))[:2]
            relations.append(
                {
                    "head": head,
                    "tail": tail,
                    "head_name": entities[head]["name"],
                    "tail_name": entities[tail]["name"],
                    "relation": draw(STRINGS),
                    "label": draw(STRINGS),
                    "score": draw(st.floats(0, 1)),
                    "evidence": draw(st.lists(st.integers(0, len(sentences) - 1), max_size=2, unique=True)),
                }
            )
    coverage = {"tokens": 9, "tokens_read": 9, draw(STRINGS.filter(bool)): 3}
    return {"text": text, "sentences": sentences, "entities": entities, "relations": relations, "coverage": coverage}


@given(answers(), st.floats(0, 1))
def test_nothing_that_was_written_becomes_html(answer, threshold):
    page = Reader(answer_html(answer, threshold, draw_graph(answer, threshold, hue)))
    assert not page.open
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("src", "href", "srcdoc") for name in attributes)
        assert re.fullmatch(r"(--(hue:\d+|score:[\d.]+))?", attributes.get("style", ""))
    (data,) = [attributes["data-answer"] for _, attributes in page.elements if "data-answer" in attributes]
    assert json.loads(data) == answer


@given(answers())
def test_the_text_comes_out_whole_and_every_mention_is_marked_where_it_is(answer):
    page = Reader(text_html(answer))
    assert page.text == answer["text"]
    for entity in answer["entities"]:
        marked = "".join(
            page.inside.get(number, "")
            for number, (tag, attributes) in enumerate(page.elements)
            if tag == "mark" and attributes["data-entity"] == str(entity["id"])
        )
        length = sum(mention["end"] - mention["start"] for mention in entity["mentions"])
        assert len(marked) == length


def test_mentions_nest_as_elements_and_keep_their_entity(pipe):
    page = text_html(pipe(Document.from_markup(MARKUP)))
    city = re.search(
        r'<mark data-entity="(\d+)"[^>]*>City of <mark data-entity="(\d+)"[^>]*>Paris</mark></mark>', page
    )
    assert city
    assert city[1] != city[2]
    ada = re.findall(r'<mark data-entity="0" style="(--hue:\d+)">(\w+)</mark>', page)
    assert [words for _, words in ada] == ["Ada", "She"], "one entity has one number"
    assert len({colour for colour, _ in ada}) == 1, "and one colour"


def test_mentions_that_cross_are_cut_not_lost():
    answer = {
        "text": "abcdef",
        "sentences": [[0, 6]],
        "entities": [
            {"id": 0, "mentions": [{"start": 0, "end": 4, "sentence": 0}]},
            {"id": 1, "mentions": [{"start": 2, "end": 6, "sentence": 0}]},
        ],
    }
    plain = re.sub(r' style="[^"]*"', "", text_html(answer))
    assert plain == (
        '<span class="docre-sentence" data-sentence="0"><mark data-entity="0">ab<mark data-entity="1">cd</mark></mark>'
        '<mark data-entity="1">ef</mark></span>'
    )


def test_relations_below_the_threshold_wait_in_the_page(pipe):
    answer = pipe(Document.from_markup(MARKUP), threshold=0.05)
    scores = [relation["score"] for relation in answer["relations"]]
    threshold = (scores[2] + scores[3]) / 2
    page = Reader(answer_html(answer, threshold))
    rows = [attributes for tag, attributes in page.elements if tag == "tr" and "data-relation" in attributes]
    assert [float(row["data-score"]) for row in rows] == scores
    assert [row.get("class") != "docre-off" for row in rows] == [score > threshold for score in scores]
    assert "Relations 3" in page.text
    assert "No relation above" in page.text


def test_a_table_too_long_says_so():
    relation = {"head": 0, "tail": 1, "head_name": "a", "tail_name": "b", "label": "of", "evidence": []}
    answer = {
        "text": "a b",
        "sentences": [[0, 3]],
        "entities": [{"id": number, "name": "ab"[number], "type": None, "mentions": []} for number in range(2)],
        "relations": [{**relation, "score": 1 - number / 1000} for number in range(MAX_ROWS + 5)],
        "coverage": {},
    }
    page = answer_html(answer, 0.1)
    assert page.count("<tr data-relation=") == MAX_ROWS
    assert f"{MAX_ROWS} most probable" in page
    assert f'docre-count">{MAX_ROWS + 5}<' in page


def test_the_graph_is_sound_svg_and_says_what_it_leaves_out():
    names = [HOSTILE if number == 0 else f"entity {number}" for number in range(60)]
    answer = {
        "entities": [{"id": number, "name": name} for number, name in enumerate(names)],
        "relations": [
            {
                "head": number % 60,
                "tail": (number * 7 + 1) % 60,
                "head_name": names[number % 60],
                "tail_name": names[(number * 7 + 1) % 60],
                "label": HOSTILE,
                "score": 1 - number / 300,
                "evidence": [],
            }
            for number in range(200)
            if number % 60 != (number * 7 + 1) % 60
        ],
    }
    figure = ElementTree.fromstring(draw_graph(answer, 0.5, hue))
    nodes = [part for part in figure.iter("g") if part.get("class", "").startswith("docre-node")]
    edges = [part for part in figure.iter("g") if part.get("class", "").startswith("docre-edge")]
    assert len(nodes) == MAX_NODES
    assert 0 < len(edges) <= MAX_EDGES
    assert f"leaves out {len(answer['relations']) - len(edges)} of" in "".join(figure.itertext())
    boxes = [[float(node.find("rect").get(name)) for name in ("x", "y", "width", "height")] for node in nodes]
    _, _, width, height = map(float, figure.find(".//svg").get("viewBox").split())
    for x, y, w, h in boxes:
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
    overlapping = sum(
        a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
        for number, a in enumerate(boxes)
        for b in boxes[:number]
    )
    assert overlapping == 0, "names can be read"
    assert draw_graph({**answer, "relations": []}, 0.5, hue) == ""


def test_arrows_between_the_same_entities_do_not_hide_each_other(pipe):
    answer = pipe(Document.from_markup("[Ada](:PER) saw [Oslo](:LOC)."), threshold=0.0)
    figure = ElementTree.fromstring(draw_graph(answer, 0.0, hue))
    curves = [edge.findall("path")[1].get("d") for edge in figure.iter("g") if edge.get("data-head")]
    assert len(curves) == len(answer["relations"]) > 2
    # The middle point of each curve, whichever way it goes.
    assert len({re.findall(r"Q([\d.-]+ [\d.-]+)", curve)[0] for curve in curves}) == len(curves)


def test_coverage_says_what_was_read_and_what_was_not():
    whole = {"tokens": 40, "tokens_read": 40, "pairs": 6, "pairs_scored": 6}
    answer = {"text": "a", "sentences": [[0, 1]], "entities": [], "relations": [], "coverage": whole}
    assert "Read: all of 40 tokens, 6 pairs." in Reader(answer_html(answer, 0.5)).text
    part = {"tokens": 1400, "tokens_read": 512, "mentions": 9, "mentions_read": 9, "entities of unknown type": 2}
    page = answer_html({**answer, "coverage": part}, 0.5)
    assert "Read in part: 512 of 1,400 tokens." in page
    assert "entities of unknown type: 2." in page
    assert "docre-warning" in page


# ---------------------------------------------------------------------------------------------------------------------
# What the page reads
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("", "choose an example"),
        (" \n ", "choose an example"),
        ({}, "choose an example"),
        (["a"], "not a list"),
        ("[Ada](ada met [Bob](:PER).", r"Write \[words\]\(key:TYPE\)"),
        ({"text": "Ada", "entities": [{"mentions": [{"start": 0, "end": 9}]}]}, "outside the text"),
        ("Ada lived in London.", "fewer are marked"),
        ({"text": "Ada lived in London."}, "fewer are marked"),
        ({"text": "Ada lived in London.", "entities": None}, "fewer are marked"),
        ("x" * (app.MAX_CHARACTERS + 1), "20,001 characters.*docre extract FILE"),
        ({"text": "x" * (app.MAX_CHARACTERS + 1), "entities": []}, "20,001 characters.*docre extract FILE"),
        ({"text": "x", "entities": [], "more": "y" * 10 * app.MAX_CHARACTERS}, "document has .* characters.*200,000"),
        (f"{TWO} " + "中" * app.MAX_TOKENS, r"6,\d\d\d tokens.*at most 6,000.*docre extract FILE"),
        (f"{TWO} " + "x " * app.MAX_TOKENS, r"6,\d\d\d tokens.*at most 6,000.*docre extract FILE"),
        (" ".join(f"[e{number}](:PER)" for number in range(101)), "101 entities.*at most 100.*docre extract FILE"),
        (" ".join(f"[e](k{number % 9})" for number in range(501)), "501 mentions.*at most 500.*docre extract FILE"),
        (TWO + "\n\nx" * app.MAX_SENTENCES, "1,001 sentences.*at most 1,000.*docre extract FILE"),
        ({"sents": [["x"], *[[]] * app.MAX_SENTENCES], "vertexSet": []}, "1,001 sentences.*at most 1,000"),
        (f"{TWO} [{'x' * 201}](c)", "longest name has 201 characters.*at most 200.*docre extract FILE"),
        (
            {"text": "a b", "entities": [{"name": "x" * 501, "mentions": [{"start": 0, "end": 1}]}]},
            "longest name has 501 characters",
        ),
    ],
    ids=[
        *("empty", "blank", "nothing", "list", "markup", "offsets", "plain", "plain-dict", "plain-row"),
        *("long", "long-dict", "large-dict", "tokens-without-spaces", "tokens", "entities", "mentions", "sentences"),
        *("empty-sentences", "mention-name", "entity-name"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(document, says, pipe, serve):
    with pytest.raises(DocumentError, match=says) as caught:
        app.read(document, pipe.processor)
    assert "strict" not in str(caught.value), "a visitor has no such argument"
    with pytest.raises(AppError) as answered:
        Client(serve(pipe), verbose=False).predict(document, api_name="/extract")
    assert str(caught.value) in str(answered.value)


def test_advice_is_what_its_reader_can_follow(pipe):
    broken = {"text": "Ada", "entities": [{"mentions": [{"start": 0, "end": 9}]}]}
    with pytest.raises(DocumentError) as of_page:
        app.read(broken, pipe.processor)
    with pytest.raises(DocumentError) as of_pipeline:
        pipe(broken)
    offer = ", or pass Document.from_dict(..., strict=False) to skip it with a count"
    assert offer in str(of_pipeline.value)
    assert str(of_pipeline.value).removeprefix("input 0: ").replace(offer, "") == str(of_page.value)


def test_a_document_that_says_it_has_no_entities_has_no_relations(pipe):
    document = {"text": "Ada lived in London.", "entities": []}
    assert pipe(app.read(document, pipe.processor))["relations"] == []


def largest(name: str) -> str:
    """A document at its limits of tokens, entities and mentions, and near that of sentences."""
    mentions = [f"[{name}](k{number % app.MAX_ENTITIES}:PER)" for number in range(app.MAX_MENTIONS)]
    # A mention is three tokens, with its markers; two are the ends of the document.
    words = ["x"] * (app.MAX_TOKENS - 3 * app.MAX_MENTIONS - 2)
    words[::5] = ["x\n\n"] * len(words[::5])
    return " ".join(mentions + words).replace("\n ", "\n")


def test_the_largest_document_is_read(embedded):
    found = app.read(largest("y"), embedded.processor)
    assert len(embedded.processor(found)[0]["input_ids"]) == app.MAX_TOKENS
    assert len(found.entities) == app.MAX_ENTITIES
    assert sum(len(entity.mentions) for entity in found.entities) == app.MAX_MENTIONS
    assert 0.9 * app.MAX_SENTENCES <= len(found.sentence_spans) <= app.MAX_SENTENCES
    text = "x" * (app.MAX_CHARACTERS - len(TWO) - 1)
    assert len(app.read(f"{TWO} {text}", embedded.processor).text) > 0.99 * app.MAX_CHARACTERS


MEASURED = r"""
import re, sys
from pathlib import Path
from modeling_docre.extraction import load_pipeline
from modeling_docre.spaces_app import app
pipe = load_pipeline(None, "cpu")
answer = pipe(app.read(sys.stdin.read(), pipe.processor), threshold=app.LOWEST_THRESHOLD)
# Not getrusage, whose peak begins with that of the process that started this one.
peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
print(answer["coverage"]["pairs_scored"], peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory in other units")
def test_the_largest_document_fits_into_a_small_machine(embedded):
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], input=largest("y"), capture_output=True, text=True, timeout=300, check=True
    )
    pairs, kilobytes = map(int, done.stdout.split())
    assert pairs == app.MAX_ENTITIES * (app.MAX_ENTITIES - 1)
    assert kilobytes < 1.5 * 2**20


def shown(demo: Any, *inputs: Any) -> str:
    """What pressing the button puts on the page."""
    (press,) = {block.fn for block in demo.fns.values() if block.name == "show"}
    return press(*inputs)


def test_errors_are_messages_on_the_page(pipe):
    demo = app.build_demo(pipe)
    for text, says in [
        ("", "choose an example"),
        ("Ada lived in London.", "[Ada](:PER) lived in [London](:LOC)"),
        ("[Ada](:PER) slept.", "A relation needs two entities"),
        ("[<img src=x onerror=alert(1)>](a", "'[<img src=x onerror=alert(1)>](a'"),
    ]:
        page = Reader(shown(demo, text, 0.5))
        assert [attributes for _, attributes in page.elements if attributes.get("role") == "alert"]
        assert says in page.text
        assert "Traceback" not in page.text
        assert {tag for tag, _ in page.elements} == {"div", "strong", "p"}
    demo.close(verbose=False)


def test_messages_are_text():
    assert Reader(message_html(HOSTILE, HOSTILE)).text == HOSTILE + HOSTILE


def test_the_model_runs_once_whatever_the_threshold_is(pipe, embedded):
    # The slider sifts on the page what one run has found: it must be what a call with that threshold returns.
    texts = [MARKUP, *((app.HERE / "examples" / name).read_text(encoding="utf-8") for _, name in app.EXAMPLES)]
    for model, documents in ((pipe, texts), (embedded, texts[:2])):
        for document in map(Document.from_markup, documents):
            once = model(document, threshold=app.LOWEST_THRESHOLD)
            own = model.model.config.threshold or 0.5
            assert [item for item in once["relations"] if item["score"] > own] == model(document)["relations"]
            for threshold in (0.05, 0.29, 0.77, 0.99):
                sifted = [item for item in once["relations"] if item["score"] > threshold]
                assert sifted == model(document, threshold=threshold)["relations"]


def test_the_examples_are_read_and_have_relations(embedded):
    documents = {
        name: app.read((app.HERE / "examples" / name).read_text(encoding="utf-8"), embedded.processor)
        for _, name in app.EXAMPLES
    }
    assert len(documents) >= 4
    assert sorted(documents) == sorted(path.name for path in (app.HERE / "examples").iterdir())
    answers = {name: embedded(document) for name, document in documents.items()}
    assert all(len(answer["relations"]) >= 5 for answer in answers.values())
    assert max(answer["coverage"]["tokens"] for answer in answers.values()) > embedded.model.config.window_size
    assert all(answer["coverage"]["pairs"] == answer["coverage"]["pairs_scored"] for answer in answers.values())
    found = {(item["head_name"], item["label"]) for item in answers["chemist.txt"]["relations"]}
    assert ("University of Vienna", "located in the administrative territorial entity") in found, "a nested name"


# ---------------------------------------------------------------------------------------------------------------------
# The server
# ---------------------------------------------------------------------------------------------------------------------


def test_the_endpoint_answers_as_the_pipeline_does(pipe, serve):
    client = Client(serve(pipe), verbose=False)
    document = Document.from_markup(MARKUP)
    expected = json.loads(json.dumps(pipe(document)))
    assert client.predict(MARKUP, api_name="/extract") == expected
    assert client.predict(document=document.to_dict(), api_name="/extract") == expected
    assert client.predict(MARKUP, 0.9, api_name="/extract") == json.loads(json.dumps(pipe(document, threshold=0.9)))
    for bad, says in [(("", None), "choose an example"), ((MARKUP, 7), "threshold=7 is not a probability")]:
        with pytest.raises(AppError, match=says) as caught:
            client.predict(*bad, api_name="/extract")
        assert "Traceback" not in str(caught.value)
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert [name for name in endpoints if name != "/load_example"] == ["/extract"], "the page's own events are private"


def test_nobody_passes_the_queue(pipe, serve):
    request = urllib.request.Request(
        f"{serve(pipe)}gradio_api/run/extract",
        json.dumps({"data": [MARKUP]}).encode(),
        {"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert "join the queue" in refused.value.read().decode()


def test_the_slider_reaches_the_model_s_own_threshold(tiny_checkpoint):
    for own in (0.995, 1.0, 0.02, 0.3137):
        strict = load_pipeline(str(tiny_checkpoint), "cpu")
        strict.model.config.threshold = own
        demo = app.build_demo(strict)
        (slider,) = [block for block in demo.blocks.values() if isinstance(block, gradio.Slider)]
        assert slider.preprocess(slider.value) == own
        assert slider.minimum <= own <= slider.maximum
        demo.close(verbose=False)


def test_twenty_at_once_are_all_answered(pipe, serve):
    url = serve(pipe)
    texts = [f"[Ada](:PER) came to [Place{number}](:LOC) in [{1900 + number}](:TIME)." for number in range(20)]
    gate = threading.Barrier(20)

    def visit(text: str) -> dict[str, Any]:
        client = Client(url, verbose=False)
        gate.wait(60)
        return client.predict(text, 0.2, api_name="/extract")

    with ThreadPoolExecutor(20) as visitors:
        answers = list(visitors.map(visit, texts))
    for text, answer in zip(texts, answers, strict=True):
        document = Document.from_markup(text)
        assert answer["text"] == document.text, "everybody gets an answer of their own"
        # Scores of other threads' order of sums may differ in the last digit.
        expected = pipe(document, threshold=0.2)["relations"]
        assert [item["score"] for item in answer["relations"]] == pytest.approx([item["score"] for item in expected])


class Slow:
    """A pipeline that waits for a signal."""

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.model, self.processor = pipe, pipe.model, pipe.processor
        self.go, self.most, self.running = threading.Event(), 0, 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.running += 1
        self.most = max(self.most, self.running)
        self.go.wait(60)
        self.running -= 1
        return self.pipe(*arguments, **options)


def test_who_waits_is_told_the_place_and_who_finds_the_queue_full_is_told_so(pipe, serve, monkeypatch):
    monkeypatch.setattr(app, "MAX_WAITING", 4)
    slow = Slow(pipe)
    slow.go.set()
    client = Client(serve(slow), verbose=False)
    slow.go.clear()
    jobs = []
    for _ in range(8):
        jobs.append(client.submit(MARKUP, api_name="/extract"))
        time.sleep(0.3)
    deadline = time.monotonic() + 30
    ranks: dict[int, int] = {}
    while RECENT and len(ranks) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
        told = [(number, job.status().rank) for number, job in enumerate(jobs) if not job.done()]
        ranks.update((number, rank) for number, rank in told if rank is not None)
    slow.go.set()
    refused = [str(job.exception(60)) for job in jobs if job.exception(60) is not None]
    # The first one runs, and those after the fifth are refused. Older versions of gradio do not tell all their place.
    assert ranks == ({1: 0, 2: 1, 3: 2, 4: 3} if RECENT else {})
    assert len(refused) == 3
    assert all("queue" in message.lower() and "full" in message.lower() for message in refused)
    assert slow.most == 1, "one document at a time"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, program: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and program.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as page:
                return page.read().decode()
        except OSError:
            time.sleep(0.3)
    program.kill()
    raise AssertionError(f"nothing at {url}: {program.communicate()}")


def test_a_port_that_is_taken_is_said(pipe, serve):
    port = int(serve(pipe).rstrip("/").rpartition(":")[2])
    with pytest.raises(OSError, match=f"port {port}: it is taken.*Name another one"):
        app.serve(pipe, port=port)


@pytest.mark.slow
def test_docre_demo_serves_until_it_is_interrupted(tiny_checkpoint):
    port = free_port()
    command = [Path(sys.executable).with_name("docre"), "demo", "--model", tiny_checkpoint, "--port", str(port)]
    # What a shell starts in the background ignores interrupts, and so would what is started from there.
    program = subprocess.Popen(
        [*command, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/", program)
        answer = Client(f"http://127.0.0.1:{port}/", verbose=False).predict(MARKUP, 0.1, api_name="/extract")
        assert answer["entities"][0]["name"] == "Ada"
    finally:
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
    assert f"The page is at http://127.0.0.1:{port}/" in out.decode()
    assert b"share" not in out + err
    assert b"Traceback" not in err


# What a Space runs, `python app.py`, with a note of every host outside that something asks for.
GUARDED = """
import runpy, socket
lookup, connect = socket.getaddrinfo, socket.socket.connect
def refuse(host):
    name = host.decode() if isinstance(host, bytes) else str(host)
    if not name.startswith("127.") and name not in ("localhost", "None", "", "0.0.0.0"):
        print(name, file=open("asked.txt", "a"), flush=True)
        raise OSError("no network")
def guarded_lookup(host, *arguments, **options):
    refuse(host)
    return lookup(host, *arguments, **options)
def guarded_connect(self, address):
    if isinstance(address, tuple):
        refuse(address[0])
    return connect(self, address)
socket.getaddrinfo, socket.socket.connect = guarded_lookup, guarded_connect
open("asked.txt", "w").close()
runpy.run_path("app.py", run_name="__main__")
"""


@pytest.mark.slow
def test_the_folder_alone_is_a_space_that_asks_nobody_outside(tmp_path, embedded):
    folder = tmp_path / "app"
    shutil.copytree(app.HERE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    rendering = folder / "rendering.py"
    rendering.write_text(rendering.read_text("utf-8").replace("Download JSON", "Take the JSON"), "utf-8")
    port = free_port()
    # Not with the variables of conftest.py: a user has none of them set.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "GRADIO_"))}
    program = subprocess.Popen(
        [sys.executable, "-c", GUARDED],
        cwd=folder,
        env={**environment, "GRADIO_SERVER_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        page = wait_for(f"http://127.0.0.1:{port}/config", program)
        time.sleep(1)
    finally:
        program.kill()
        program.communicate()
    assert "Take the JSON" in page, "the files of the folder count, not those of the installed package"
    assert "Fiona Brannigan" in page, "it opens with an example and its answer"
    assert (folder / "asked.txt").read_text() == ""


# ---------------------------------------------------------------------------------------------------------------------
# The Space's files
# ---------------------------------------------------------------------------------------------------------------------


def test_the_space_pins_the_versions_that_the_tests_ran_on(repository):
    front = (app.HERE / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    pins = dict(
        line.split("==") for line in (repository / "constraints" / "ci.txt").read_text().split() if "==" in line
    )
    settings = dict(re.findall(r"^(\w+): (.+)$", front, re.MULTILINE))
    assert settings["sdk"] == "gradio"
    assert settings["sdk_version"] == pins["gradio"]
    assert settings["python_version"] == '"3.11"'
    assert (app.HERE / settings["app_file"]).is_file()
    assert len(settings["short_description"]) <= 60, "the Hub refuses longer ones"
    required = dict(re.findall(r"^([\w-]+)==(.+)$", (app.HERE / "requirements.txt").read_text(), re.MULTILINE))
    assert required.pop("modeling-docre") == __version__
    assert required == {name: pins[name] for name in ("torch", "transformers")}


def test_the_space_describes_its_limits_rightly(repository):
    card = " ".join((app.HERE / "README.md").read_text(encoding="utf-8").split())
    how_to = " ".join((repository / "docs" / "how-to" / "demo.md").read_text(encoding="utf-8").split())
    limits = (
        f"at most {app.MAX_CHARACTERS:,} characters, {app.MAX_TOKENS:,} tokens, {app.MAX_ENTITIES} entities, "
        f"{app.MAX_MENTIONS} mentions, {app.MAX_SENTENCES:,} sentences, and names of {app.MAX_NAME} characters"
    )
    assert limits in card
    assert limits in how_to
    assert f"up to {app.MAX_WAITING} wait" in card
    assert f"from {app.LOWEST_THRESHOLD} on" in card
