"""A page that shows the relations of a document: `docre demo`, or this folder as a Gradio Space."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

# Before gradio is imported, which reads it: otherwise starting the page asks two hosts outside.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

try:
    import gradio as gr
except ModuleNotFoundError:
    raise ModuleNotFoundError("The page needs gradio: pip install 'modeling-docre[demo]'.", name="gradio") from None

from modeling_docre import DocREProcessor, Document, DocumentError
from modeling_docre.extraction import load_pipeline
from modeling_docre.pipelines.pipeline_docre import read_dict

if __package__:
    from .drawing import draw_graph
    from .rendering import answer_html, hue, message_html
else:  # on a Space this folder is the whole program
    from drawing import draw_graph  # type: ignore[import-not-found, no-redef]
    from rendering import answer_html, hue, message_html  # type: ignore[import-not-found, no-redef]

HERE = Path(__file__).resolve().parent
EXAMPLES = (
    ("A film", "film.txt"),
    ("A river, in short", "river.txt"),
    ("A chemist, with nested names", "chemist.txt"),
    ("A railway, longer than one window", "railway.txt"),
    ("Eine Malerin, auf Deutsch", "painter-de.txt"),
)
# Everybody waits for the largest document in the queue. Each limit stands for something that costs time or memory and
# that the others leave open: attention is kept by mention and token, and summed by pair and sentence; answers repeat
# names with every relation. What a character costs depends on the script, and a token is what the model reads.
MAX_CHARACTERS = 20_000
MAX_TOKENS = 6_000
MAX_ENTITIES = 100
MAX_MENTIONS = 500
MAX_SENTENCES = 1_000
MAX_NAME = 200
# The slider, unless the model's own threshold lies outside. What is below is noise, and there is much of it.
LOWEST_THRESHOLD = 0.05
HIGHEST_THRESHOLD = 0.99
# One document at a time uses all cores; more at once would only take turns on them. The rest waits in the queue, with
# a place that it is told, and beyond this length is told to come back.
MAX_WAITING = 64

# Fonts of the reader's own machine: others would be fetched from outside.
THEME = gr.themes.Base(
    primary_hue="teal",
    neutral_hue="slate",
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    block_radius="12px",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
)

EMPTY = "There is no text. Write or paste one, or choose an example."
TOO_FEW = (
    "A relation needs two entities, and fewer are marked. Put brackets around their names, with a type if you like: "
    "[Ada](:PER) lived in [London](:LOC)."
)
LEAD = """<div class="docre-page"><h2>From a document to its relations</h2>
<p class="docre-lead">Mark who and what a text is about. The model says which relations hold between them, across
sentences, how sure it is, and where it looked.</p></div>"""
HELP = """<div class="docre-page"><p class="docre-help"><code>[words](key:TYPE)</code> marks a mention. Mentions with
the same key are one entity; without a key the words are the key. The model knows the types {types}; a mention may go
without one.</p></div>"""


def build_demo(pipe: Any = None) -> gr.Blocks:
    """Build the page.

    Args:
        pipe (`Pipeline`, *optional*): `pipeline("docre", ...)`; that of the embedded model when left out.

    Returns:
        `gradio.Blocks`: To be launched; the endpoint `/extract` answers with the pipeline's JSON.
    """
    pipe = load_pipeline() if pipe is None else pipe
    own = 0.5 if pipe.model.config.threshold is None else float(pipe.model.config.threshold)
    lowest = min(LOWEST_THRESHOLD, own)

    def extract(document: str | dict, threshold: float | None = None) -> dict:
        """Extract the relations of one document.

        Args:
            document: Text with inline markup, [words](key:TYPE), or a dict with "text" and "entities".
            threshold: Probability above which a relation is returned; the model's own when left out.
        """
        try:
            options = {} if threshold is None else {"threshold": threshold}
            return pipe(read(document, pipe.processor), **options)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def show(markup: str, threshold: float) -> str:
        try:
            document = read(markup, pipe.processor)
            if len(document.entities) < 2:
                raise DocumentError(TOO_FEW)
        except DocumentError as error:
            return _page(message_html("This text cannot be read yet", str(error)))
        answer = pipe(document, threshold=lowest)
        return _page(answer_html(answer, threshold, draw_graph(answer, threshold, hue)))

    examples = [(HERE / "examples" / name).read_text(encoding="utf-8").strip() for _, name in EXAMPLES]
    types = ", ".join(pipe.model.config.entity_types) or "of your choice"
    with gr.Blocks(title="Document-level relation extraction", analytics_enabled=False) as demo:
        gr.HTML(f"<style>{(HERE / 'page.css').read_text(encoding='utf-8')}</style>{LEAD}", apply_default_css=False)
        box = gr.Textbox(
            examples[0], label="Text, with its entities marked", lines=6, max_lines=12, elem_id="docre-box"
        )
        gr.HTML(HELP.format(types=escape(types)), apply_default_css=False)
        loaded = gr.Examples(
            [[text] for text in examples], [box], example_labels=[label for label, _ in EXAMPLES], preload=False
        )
        with gr.Row(elem_id="docre-controls"):
            button = gr.Button("Extract relations", variant="primary", scale=1, min_width=180)
            slider = gr.Slider(
                lowest,
                max(HIGHEST_THRESHOLD, own),
                value=own,
                step=0.001,
                label="Threshold",
                info=f"Show relations whose probability is above this. The model's own is {own:g}.",
                scale=3,
                elem_id="docre-threshold",
            )
        result = gr.HTML(show(examples[0], own), apply_default_css=False, elem_id="docre-result")
        running: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
        asked: dict[str, Any] = {
            "fn": show,
            "inputs": [box, slider],
            "outputs": result,
            "api_visibility": "private",
            **running,
        }
        button.click(**asked)
        loaded.load_input_event.then(**asked)
        sift = "(threshold) => { window.docre?.filter(threshold); return []; }"
        slider.change(None, [slider], None, js=sift, api_visibility="private")
        # The slider may have been moved while the model ran.
        result.change(None, [slider], None, js=sift, api_visibility="private")
        demo.load(None, None, None, js=(HERE / "page.js").read_text(encoding="utf-8"), api_visibility="private")
        gr.api(extract, api_name="extract", **running)
    # Not open: a request past the queue would run beside the others.
    return demo.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)


def read(document: str | Mapping[str, Any], processor: DocREProcessor) -> Document:
    """Read what a visitor sent, within the limits of a page that many share.

    Args:
        document (`str` or `Mapping`): Text with inline markup, or a dict as the pipeline takes it.
        processor ([`DocREProcessor`]): That of the model, which counts tokens.

    Raises:
        DocumentError: when there is no text, no entity is marked, one of the limits is passed, or it cannot be read.
    """
    if not isinstance(document, str | Mapping):
        raise DocumentError(f"A document is a text with markup or a dict, not a {type(document).__name__}.")
    if not document or (isinstance(document, str) and not document.strip()):
        raise DocumentError(EMPTY)
    size = len(document if isinstance(document, str) else json.dumps(document, ensure_ascii=False))
    # A dict says where each mention is, which takes more room than brackets.
    _check_limit(size, MAX_CHARACTERS if isinstance(document, str) else 10 * MAX_CHARACTERS, "characters", "document")
    found = Document.from_markup(document) if isinstance(document, str) else read_dict(document)
    if not found.entities and not _says_none(document):
        raise DocumentError(TOO_FEW)
    mentions = [mention for entity in found.entities for mention in entity.mentions]
    names = [entity.name for entity in found.entities] + [found.text[item.start : item.end] for item in mentions]
    _check_limit(len(found.text), MAX_CHARACTERS, "characters")
    _check_limit(len(found.entities), MAX_ENTITIES, "entities")
    _check_limit(len(mentions), MAX_MENTIONS, "mentions")
    _check_limit(len(found.sentence_spans), MAX_SENTENCES, "sentences")
    _check_limit(max(map(len, names), default=0), MAX_NAME, "characters", "longest name")
    # Last, since it costs the most.
    _check_limit(len(processor(found, strict=False)[0]["input_ids"]), MAX_TOKENS, "tokens")
    return found


def _says_none(document: str | Mapping[str, Any]) -> bool:
    """Whether a dict says that there are no entities, rather than nothing of them."""
    return isinstance(document, Mapping) and any(document.get(key) is not None for key in ("entities", "vertexSet"))


def _check_limit(count: int, most: int, what: str, where: str = "text") -> None:
    if count > most:
        raise DocumentError(
            f"The {where} has {count:,} {what}; this page takes at most {most:,}. Send a part of it, or run it where "
            "there is no limit, on your own machine: docre extract FILE."
        )


def _page(content: str) -> str:
    return f'<div class="docre-page">{content}</div>'


def serve(pipe: Any = None, *, host: str | None = None, port: int | None = None) -> None:
    """Start the page and stay until it is interrupted.

    Args:
        pipe (`Pipeline`, *optional*): `pipeline("docre", ...)`; that of the embedded model when left out.
        host (`str`, *optional*): Address to listen at; this machine alone when left out (on a Space, all).
        port (`int`, *optional*): Port to listen at; the first free one from 7860 on when left out.

    Raises:
        OSError: when the port is taken.
    """
    demo = build_demo(pipe)
    try:
        _, address, _ = demo.launch(
            server_name=host,
            server_port=port,
            theme=THEME,
            footer_links=["api", "gradio", "settings"],
            ssr_mode=False,
            quiet=True,  # gradio would advise a public link
            prevent_thread_lock=True,
        )
    except OSError as error:
        if port is None:
            raise
        raise OSError(
            f"The page cannot listen at port {port}: it is taken, or not allowed. Name another one, or none for the "
            "first that is free."
        ) from error
    sys.stdout.write(f"The page is at {address} (end it with Ctrl+C).\n")
    sys.stdout.flush()
    demo.block_thread()


if __name__ == "__main__":
    serve()
