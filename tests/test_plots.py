"""Pictures of generated pair embeddings, and the figure of merit beside them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from forked import run_python
from training_helpers import RELATIONS, fictional
from vaediff_helpers import axial_model

from modeling_docre import Document, VaeDiffConfig, VaeDiffModel, cli, generator_quality
from modeling_docre.generator_quality import score_generator
from modeling_docre.output_files import DataFileError
from modeling_docre.pair_embeddings import MANIFEST, PairEmbeddingStore, store_pair_embeddings
from modeling_docre.plot_style import COLOURS
from modeling_docre.plots import _colours, plot_generator

WIDTH = 8
CENTRES = torch.eye(3, WIDTH) * 6


class Known(VaeDiffModel):
    """Draws what it is told to."""

    centres = CENTRES

    def sample(self, labels, num_samples=1, *, generator=None, guidance=None, batch_size=4096):
        labels = labels.float()
        noise = torch.randn(len(labels), WIDTH, generator=generator)
        return labels[:, 1:] @ self.centres + noise


def generator_for(kind=VaeDiffModel, width=WIDTH, **settings):
    config = VaeDiffConfig(
        RELATIONS, embedding_size=width, latent_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_steps=2, **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    return kind(config)


def store_of(folder, number: int, seed: int, **about) -> PairEmbeddingStore:
    """A store of pairs with one relation or two, around the centres of these."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    labels = np.zeros((number, 4), "u1")
    labels[np.arange(number), 1 + np.arange(number) % 3] = 1
    labels[::7, 2] = 1
    vectors = labels[:, 1:] @ CENTRES.numpy() + random.standard_normal((number, WIDTH))
    (folder / "embeddings.f32").write_bytes(vectors.astype("<f4").tobytes())
    (folder / "labels.u8").write_bytes(labels.tobytes())
    np.save(folder / "ends.npy", np.array([number], "<i8"))
    manifest = {"format": 1, "embeddings_of": "m", "documents": "d", "count": 1, "pairs": number, "width": WIDTH,
                "relations": RELATIONS, "relation_names": {}, **about}  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return PairEmbeddingStore(folder)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return store_of(folder / "train", 300, 1), store_of(folder / "held-out", 120, 2)


def test_good_generators_teach_what_real_pairs_teach_and_bad_ones_do_not(stores):
    good = score_generator(generator_for(Known), *stores)
    assert good["f1_real"] > 0.95 and good["f1_generated"] > 0.95
    assert good["macro_f1_generated"] == pytest.approx(good["macro_f1_real"], abs=0.05)
    assert (good["train_pairs"], good["held_out_pairs"], good["relations"]) == (300, 120, 3)
    wrong = generator_for(Known)
    wrong.centres = CENTRES.roll(1, 0)
    bad = score_generator(wrong, *stores)
    assert bad["f1_real"] == good["f1_real"] and bad["f1_generated"] < 0.3
    assert score_generator(generator_for(Known), *stores) == good
    fewer = score_generator(generator_for(Known), *stores, max_pairs=50)
    assert fewer["train_pairs"] == 50 and fewer["f1_real"] != good["f1_real"]


def test_figures_are_those_of_counted_facts(stores, monkeypatch):
    """Classifiers that say what is written here."""
    said = {"real": np.zeros((120, 3), int), "generated": np.zeros((120, 3), int)}
    said["real"][:40, 0] = 1
    said["generated"][:, 1:] = 1
    order = iter(said.values())
    monkeypatch.setattr(generator_quality, "_classifier", lambda *_: partial(lambda found, given: found, next(order)))
    figures = score_generator(generator_for(Known), *stores)
    gold = np.array(stores[1].labels[:, 1:])
    for name, found in said.items():
        right, each = 0, []
        for relation in range(3):
            hits = sum(a and b for a, b in zip(gold[:, relation], found[:, relation], strict=True))
            each.append(2 * hits / max(1, gold[:, relation].sum() + found[:, relation].sum()))
            right += hits
        assert figures[f"f1_{name}"] == pytest.approx(2 * right / (gold.sum() + found.sum()))
        assert figures[f"macro_f1_{name}"] == pytest.approx(sum(each) / 3)


def test_figures_are_of_the_generators_own_embeddings(stores, tmp_path):
    with pytest.raises(DataFileError, match="of another model than the training ones: pass those"):
        score_generator(generator_for(Known, embeddings_of="n"), *stores)
    with pytest.raises(DataFileError, match="of another model"):
        score_generator(generator_for(width=16), *stores)
    with pytest.raises(DataFileError, match="No held-out pair has a relation"):
        score_generator(generator_for(Known), stores[0], store_of(tmp_path / "empty", 0, 1))


# Pictures


@pytest.fixture(scope="module")
def trained(tiny_bert_dir, tmp_path_factory):
    """A model, its generator, untrained, with what it would learn from beside it, and documents, all in a folder."""
    folder = tmp_path_factory.mktemp("plots")
    model, processor = axial_model(tiny_bert_dir)
    model.config.relation_names = {"born_in": "born <in>", "part_of": "part of", "rules": "rules"}
    model.save_pretrained(folder / "model")
    processor.config = model.config
    processor.save_pretrained(folder / "model")
    stories = [fictional(number, f"Story {number}") for number in range(24)]
    (folder / "stories.json").write_text(json.dumps(stories))
    documents = [Document.from_docred(story) for story in stories]
    store = store_pair_embeddings(model, processor, documents[:9], folder / "generator" / "pair_embeddings")
    generator = generator_for(width=32, embeddings_of=store.manifest["embeddings_of"])
    generator.save_pretrained(folder / "generator")
    return folder, (generator, model, processor, documents[9:]), store


def test_a_picture_names_relations_and_tells_encoded_from_generated(trained, tmp_path):
    _, parts, store = trained
    figures = plot_generator(*parts, tmp_path / "all.svg", train=store)
    assert 0.0 <= figures["f1_generated"] <= 1.0 and figures["held_out_pairs"] > 12
    text = (tmp_path / "all.svg").read_text()
    drawn = re.findall(r"<!-- (.*?) -->", text)
    for words in ("part of", "rules", "encoded", "generated"):
        assert drawn.count(words) == (1 if words == "generated" else 2), words
    # Words of a user are words in the picture.
    assert "born &lt;in&gt;" in text or "born <in>" in text
    assert plot_generator(*parts, tmp_path / "few.png", number=1) == {}
    assert (tmp_path / "few.png").read_bytes().startswith(b"\x89PNG")


def test_points_of_a_picture_are_pairs(trained, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    _, parts, store = trained
    scattered = []
    scatter = Axes.scatter
    monkeypatch.setattr(
        Axes,
        "scatter",
        lambda self, *a, **k: scattered.append((len(a[0]), k.get("marker"), k["c"])) or scatter(self, *a, **k),
    )
    plot_generator(*parts, tmp_path / "points.svg", train=store)
    rarest_first = sorted((1, 2, 3), key=lambda number: store.labels.sum(0)[number])
    held_out = store_pair_embeddings(*parts[1:], tmp_path / "held-out")
    owners = [min((n for n in (1, 2, 3) if row[n]), key=rarest_first.index) for row in held_out.labels]
    counts = [owners.count(number) for number in rarest_first]
    encoded = [(number, colour) for number, marker, colour in scattered if marker is None and number]
    generated = [(number, colour) for number, marker, colour in scattered if marker == "x" and number]
    # The commonest first on the left, the rarest first on the right, each with its colour.
    assert [number for number, _ in encoded] == [*counts[::-1], *counts]
    assert encoded[:3] == encoded[:2:-1] and generated == encoded[3:]
    assert len({colour for _, colour in generated}) == 3


def test_a_relation_has_one_colour_in_both_panels_and_no_two_share_one():
    for common, rare in (
        ([1, 2, 3], [3, 2, 1]),
        ([1, 2], [5, 2, 7]),
        ([*range(1, 9)], [*range(8, 0, -1)]),
        ([1], [2]),
    ):
        left = dict(zip(common, COLOURS, strict=False))
        right = _colours(rare, common)
        assert list(right) == rare and len(set(right.values())) == len(rare)
        assert all(right[number] == left[number] for number in rare if number in left)
    assert list(_colours([*range(9, 17)], [*range(1, 9)]).values()) == list(COLOURS)


def test_wrong_wishes_for_a_picture(trained, tmp_path, tiny_bert_dir):
    _, parts, _ = trained
    with pytest.raises(ValueError, match=r"neither a \.png nor an \.svg"):
        plot_generator(*parts, tmp_path / "a.pdf")
    for number in (9, 0, -1):
        with pytest.raises(ValueError, match="1 to 8 relations"):
            plot_generator(*parts, tmp_path / "a.png", number=number, relations=["rules"])
    nobody = [replace(document, relations=document.relations[:1]) for document in parts[3]]
    with pytest.raises(DataFileError, match="No pair of the documents has rules"):
        plot_generator(*parts[:3], nobody, tmp_path / "a.png", relations=["born_in", "rules"])
    with pytest.raises(ValueError, match="did you mean 'rules'"):
        plot_generator(*parts, tmp_path / "a.png", relations=["rule"])
    with pytest.raises(DataFileError, match="No relation has 5 pairs"):
        plot_generator(*parts[:3], parts[3][:1], tmp_path / "a.png")
    plot_generator(*parts[:3], parts[3][:2], tmp_path / "named.svg", relations=["born_in", "part_of"])
    drawn = (tmp_path / "named.svg").read_text()
    assert "encoded pairs of some relations" in drawn and "commonest" not in drawn
    other, processor = axial_model(tiny_bert_dir)
    with pytest.raises(DataFileError, match="than the model that is given: pass the one"):
        plot_generator(parts[0], other, processor, parts[3], tmp_path / "a.png")
    assert not list(tmp_path.glob("a.*"))


def test_the_command_draws_and_says_the_figures(trained, tmp_path, capsys):
    folder, _, _ = trained
    command = ["plot", "vaediff", str(folder / "generator"), str(folder / "stories.json"), "--documents", "9:"]
    command += ["--model", str(folder / "model"), "--relations", "part of,rules"]
    assert cli.main([*command, "-o", str(tmp_path / "a.png")]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^f1_generated +[01]\.\d{4}$", shown, re.M) and re.search(r"^train_pairs +\d+$", shown, re.M)
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert cli.main([*command, "-o", str(tmp_path / "a.gif")]) == 1
    assert "neither a .png nor an .svg" in capsys.readouterr().err


def test_what_is_missing_for_a_picture_is_said(trained, tmp_path):
    """In a process whose import of scikit-learn fails."""
    folder, _, _ = trained
    (tmp_path / "plot.py").write_text(
        "import sys; sys.modules['sklearn'] = None\n"
        "from modeling_docre.cli import main\n"
        "sys.exit(main(['plot', 'vaediff', *sys.argv[1:]]))"
    )
    arguments = [folder / "generator", folder / "stories.json", "--model", folder / "model", "-o", tmp_path / "a.png"]
    ran = run_python(tmp_path / "plot.py", *arguments)
    assert ran.returncode == 1 and "pip install 'modeling-docre[plots]'" in ran.stderr
