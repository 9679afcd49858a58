"""What may be written after `docre`."""

from __future__ import annotations

import argparse

from . import __version__
from .cli_data_options import add_data
from .cli_figure_options import add_comparison, add_plots
from .cli_parts import add_command as _command


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of `docre`; what it parses has the name of the command as `command`."""
    parser = argparse.ArgumentParser(
        prog="docre",
        description="Document-level relation extraction: from a document to its relations.",
        epilog="docre COMMAND --help shows the options of a command, with an example.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"docre {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")

    extract = _command(
        commands, "extract", "extract relations from documents",
        "docre extract examples/documents/harbour.txt\n"
        "  docre extract documents.jsonl -o relations.jsonl --threshold 0.7\n"
        "  docre extract dev.json -o result.json --format submission\n"
        "  docre extract folder/ more.parquet -o relations.jsonl --resume",
    )  # fmt: skip
    extract.add_argument(
        "sources",
        metavar="IN",
        nargs="+",
        help="files or folders: .json, .jsonl, .txt with [inline](:TYPE) markup (each may end in .gz), .parquet; "
        "- for JSON Lines on stdin",
    )
    extract.add_argument("-o", "--output", metavar="OUT", help="file to write (.jsonl or .json); a table without it")
    extract.add_argument("--model", help="folder or Hub id; the embedded model without it")
    extract.add_argument("--format", choices=("table", "json", "jsonl", "submission"), help="form of the output")
    extract.add_argument(
        "--threshold",
        type=float,
        help="probability above which a relation is returned; the model's own, tuned one without it",
    )
    extract.add_argument(
        "--relations",
        action="append",
        help="relations to return, ids or words with commas between them; may be repeated; docre relations lists them",
    )
    extract.add_argument("--top-k", type=int, help="relations of a document at most")
    extract.add_argument("--head", help="return relations of this head entity, by name")
    extract.add_argument("--tail", help="return relations of this tail entity, by name")
    extract.add_argument("--batch-size", type=int, help="documents that run at once")
    extract.add_argument("--device", help="where to run, such as cpu or cuda:0")
    extract.add_argument("--resume", action="store_true", help="go on after what an earlier run for OUT has done")
    extract.add_argument("--skip-invalid", action="store_true", help="skip and count what is wrong in a document")

    train = _command(
        commands, "train", "train a model from a recipe",
        "docre train recipes/default-minilm.yaml --training.num_train_epochs=3",
    )  # fmt: skip
    train.add_argument("recipe", metavar="RECIPE.yaml", help="what to train; --section.name=value overrides a setting")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint of output_dir")

    distill = _command(
        commands, "distill", "write a teacher's soft labels of documents, for training a student",
        "docre distill distant.jsonl --model runs/teacher -o runs/soft-labels\n"
        "  docre distill documents/ --model runs/teacher-1 --model runs/teacher-2 -o runs/soft-labels --resume",
    )  # fmt: skip
    distill.add_argument(
        "sources", metavar="IN", nargs="+", help="files or folders of documents, as docre extract takes them"
    )
    distill.add_argument(
        "-o", "--output", required=True, metavar="STORE", help="folder to write, for training.soft_labels"
    )
    distill.add_argument(
        "--model",
        action="append",
        help="folder or Hub id of the teacher; repeated, the mean of several; the embedded model without it",
    )
    distill.add_argument("--batch-size", type=int, default=8, help="documents that run at once")
    distill.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    distill.add_argument("--device", help="where to run, such as cpu or cuda:0")
    distill.add_argument("--resume", action="store_true", help="go on after what an earlier run for STORE has done")
    distill.add_argument("--skip-invalid", action="store_true", help="skip and count what is wrong in a document")

    evaluate = _command(
        commands, "evaluate", "score predictions against gold documents, as the official scorer does",
        "docre evaluate result.json dev.json --train-annotated train_annotated.json",
    )  # fmt: skip
    evaluate.add_argument(
        "predictions",
        metavar="PRED",
        help="JSON list or JSON Lines of {title, h_idx, t_idx, r, evidence?}, a .zip that holds the list, or what "
        "docre extract writes as .json or .jsonl",
    )
    evaluate.add_argument(
        "references", metavar="GOLD", help="labelled documents, .json or .jsonl, in DocRED's form or with text"
    )
    evaluate.add_argument(
        "--train-annotated",
        metavar="FILE",
        help="annotated training file, for Ign F1 and figures by frequency of the relation",
    )
    evaluate.add_argument("--train-distant", metavar="FILE", help="distant training file, for its own Ign F1")
    evaluate.add_argument(
        "--few-facts",
        type=int,
        metavar="N",
        help="score relations with fewer than N facts in the annotated training file, and the others, apart",
    )
    evaluate.add_argument("--json", action="store_true", help="print all figures as JSON, per relation too")

    add_comparison(commands)

    add_data(commands)

    distant = _command(
        commands, "label-distant", "label documents with the facts of a table, by names or ids",
        "docre label-distant documents.jsonl --facts facts.tsv -o distant.json\n"
        "  docre label-distant test.json --facts wikidata.jsonl --aliases names.json -o distant.json",
    )  # fmt: skip
    distant.add_argument(
        "sources",
        metavar="DOCS",
        nargs="+",
        help="files or folders of documents with entities, as docre extract reads",
    )
    distant.add_argument(
        "--facts",
        metavar="KB",
        required=True,
        help="rows of head, relation, tail: .json, .jsonl, .csv or .tsv; docre facts makes one of labelled documents",
    )
    distant.add_argument(
        "--aliases", metavar="FILE", help='names by id: .json, {"Q84": ["London", ...]}, or .csv or .tsv, Q84, London'
    )
    distant.add_argument(
        "-o", "--output", metavar="OUT", help=".json (DocRED's form) or .jsonl; JSON Lines on stdout without it"
    )
    distant.add_argument("--skip-invalid", action="store_true", help="skip and count wrong facts and documents")

    facts = _command(
        commands, "facts", "gather the facts of labelled documents as a table for docre label-distant",
        "docre facts train_annotated.json -o facts.tsv",
    )  # fmt: skip
    facts.add_argument("sources", metavar="DOCS", nargs="+", help="files or folders of labelled documents")
    facts.add_argument(
        "-o", "--output", metavar="KB", help=".json, .jsonl, .csv or .tsv; JSON Lines on stdout without it"
    )
    facts.add_argument("--skip-invalid", action="store_true", help="skip and count what is wrong in a document")

    importing = _command(
        commands, "import", "make a model of a checkpoint that the authors of a method published",
        "docre import atlop.pt --method atlop --encoder google-bert/bert-base-cased -o my-atlop",
    )  # fmt: skip
    importing.add_argument("file", metavar="FILE", help=".pt, .bin or .safetensors: a state dict")
    importing.add_argument("--method", required=True, help="the method it is of; docre methods lists them")
    importing.add_argument(
        "--encoder", required=True, help="Hub id or folder of the encoder; its config.json is enough"
    )
    importing.add_argument("-o", "--output", required=True, metavar="OUT", help="folder to save the model to")

    generator = _command(
        commands, "import-generator", "make a generator of the two files of VaeDiff-DocRE's second stage",
        "docre import-generator vae.pt diffusion.pt -o my-generator",
    )  # fmt: skip
    generator.add_argument("vae", metavar="VAE", help="the autoencoder: .pt, .bin or .safetensors")
    generator.add_argument("prior", metavar="PRIOR", help="the denoiser, whose moving average is taken")
    generator.add_argument("-o", "--output", required=True, metavar="OUT", help="folder to save the generator to")
    for command in (importing, generator):
        command.add_argument(
            "--relations",
            metavar="FILE",
            help="JSON of relation ids in class order, or rel2id.json; DocRED's without it",
        )

    add_plots(commands)

    _command(commands, "methods", "list the methods: what each is made of", "docre methods")

    relations = _command(
        commands, "relations", "list the relations that a model knows, with their words",
        "docre relations\n  docre relations --model my-model",
    )  # fmt: skip
    relations.add_argument("--model", help="folder or Hub id; the embedded model without it")

    demo = _command(
        commands, "demo", "show the relations of documents that you type on a page in the browser",
        "docre demo\n  docre demo --model my-model --port 8000",
    )  # fmt: skip
    demo.add_argument("--model", help="folder or Hub id; the embedded model without it")
    demo.add_argument("--device", help="where to run, such as cpu or cuda:0")
    demo.add_argument("--host", help="address to listen at, such as 0.0.0.0; this machine alone without it")
    demo.add_argument("--port", type=int, help="port to listen at; the first free one from 7860 on without it")
    return parser


__all__ = ["make_parser"]
