"""What every test stands on: no network, tiny encoders of every supported family, and the places of optional data."""

from __future__ import annotations

import atexit
import gc
import io
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# Hugging Face libraries read these once, when they are imported. Subprocesses that tests start inherit them.
HF_HOME = tempfile.mkdtemp(prefix="docre-tests-")
atexit.register(shutil.rmtree, HF_HOME, ignore_errors=True)
os.environ.update(
    HF_HOME=HF_HOME,
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    GRADIO_ANALYTICS_ENABLED="False",
    TOKENIZERS_PARALLELISM="false",
)
for variable in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_EVALUATE_CACHE", "HF_METRICS_CACHE"):
    os.environ.pop(variable, None)

import hypothesis
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

torch.set_num_threads(1)
hypothesis.settings.register_profile(
    "docre",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("docre")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    # Every training collects garbage before it starts, and would go through all that the libraries are made of.
    gc.collect()
    gc.freeze()


# ---------------------------------------------------------------------------------------------------------------------
# No network
# ---------------------------------------------------------------------------------------------------------------------

LOCAL_NAMES = {"localhost", "", "0.0.0.0", "::", "::1", socket.gethostname()}
attempts: list[str] = []


class NetworkBlockedError(OSError):
    """A test tried to leave the machine."""


def is_local(host: object) -> bool:
    if host is None:
        return True
    name = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
    return name in LOCAL_NAMES or name.startswith("127.")


def check_host(host: object) -> None:
    if not is_local(host):
        attempts.append(str(host))
        raise NetworkBlockedError(f"tests run without a network, but something asked for {host!r}")


@pytest.fixture(scope="session", autouse=True)
def guarded_sockets() -> Iterator[None]:
    """Refuses every connection and every name that is not this machine's own."""
    patch = pytest.MonkeyPatch()
    original = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
    lookup = socket.getaddrinfo

    def guarded(name: str) -> Callable[..., object]:
        def call(self: socket.socket, address: object) -> object:
            if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
                check_host(address[0])
            return original[name](self, address)

        return call

    def guarded_lookup(host: object, *args: object, **kwargs: object) -> object:
        check_host(host)
        return lookup(host, *args, **kwargs)

    for name in original:
        patch.setattr(socket.socket, name, guarded(name))
    patch.setattr(socket, "getaddrinfo", guarded_lookup)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test that tried to leave the machine, even where the library under test swallowed the refusal."""
    attempts.clear()
    yield
    tried, attempts[:] = list(attempts), []
    if tried:
        pytest.fail(f"{request.node.name} tried to reach {', '.join(sorted(set(tried)))}")


# ---------------------------------------------------------------------------------------------------------------------
# Optional data
# ---------------------------------------------------------------------------------------------------------------------


def optional_folder(variable: str, default: str, what: str) -> Path:
    folder = Path(os.environ.get(variable) or REPOSITORY.parent / default)
    if not folder.is_dir():
        pytest.skip(f"{what} is absent: set {variable} to its folder")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the published data sets (`re-docred/dev_revised.json`, `docred/...`), or a skip."""
    return optional_folder("DOCRE_DATA", "shared/data", "real data")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of the numbers that the methods' published code gave, or a skip."""
    return optional_folder("DOCRE_GOLDEN", "shared/golden", "the folder of golden vectors")


# ---------------------------------------------------------------------------------------------------------------------
# Tiny encoders: two layers of random weights, and a tokenizer that knows single characters and a few words
# ---------------------------------------------------------------------------------------------------------------------

ENCODER_FAMILIES = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "deberta-v2", "modernbert")
CHARACTERS = [chr(code) for code in range(33, 127)] + list("éöüñç–“”’中国人在北京")
WORDS = ["the", "of", "in", "and", "was", "born", "city", "London", "River"]
HIDDEN, HEADS, LAYERS, POSITIONS = 32, 4, 2, 512
SHAPE = {
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 2 * HIDDEN,
}


def wordpiece_tokenizer() -> transformers.BertTokenizer:
    pieces = [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *CHARACTERS,
        *(f"##{character}" for character in CHARACTERS),
        *WORDS,
    ]
    return transformers.BertTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)}, do_lower_case=False, model_max_length=POSITIONS
    )


def byte_vocabulary(special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n")]
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    return {piece: index for index, piece in enumerate(pieces)}, merges


def byte_tokenizer_roberta() -> transformers.RobertaTokenizer:
    vocabulary, merges = byte_vocabulary(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return transformers.RobertaTokenizer(vocab=vocabulary, merges=merges, model_max_length=POSITIONS)


def byte_tokenizer_modernbert() -> transformers.PreTrainedTokenizerFast:
    vocabulary, merges = byte_vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    )


def unigram_pieces(special: list[str], mask: str) -> list[tuple[str, float]]:
    return [
        *((token, 0.0) for token in special),
        ("▁", -2.0),
        *((character, -3.0) for character in CHARACTERS),
        *((f"▁{word}", -1.0) for word in WORDS),
        (mask, 0.0),
    ]


def unigram_tokenizer_xlm_roberta() -> transformers.XLMRobertaTokenizer:
    pieces = unigram_pieces(["<s>", "<pad>", "</s>", "<unk>"], "<mask>")
    return transformers.XLMRobertaTokenizer(vocab=pieces, model_max_length=POSITIONS)


def unigram_tokenizer_deberta() -> transformers.DebertaV2Tokenizer:
    pieces = unigram_pieces(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[MASK]")
    return transformers.DebertaV2Tokenizer(vocab=pieces, unk_id=3, model_max_length=POSITIONS)


def tiny_config(family: str, tokenizer: transformers.PreTrainedTokenizerBase) -> transformers.PretrainedConfig:
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    # RoBERTa counts positions from the padding id on, hence the two extra ones.
    shifted = {**common, **SHAPE, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}
    plain = {**common, **SHAPE, "max_position_embeddings": POSITIONS}
    match family:
        case "bert":
            return transformers.BertConfig(**plain)
        case "roberta":
            return transformers.RobertaConfig(**shifted)
        case "xlm-roberta":
            return transformers.XLMRobertaConfig(**shifted)
        case "electra":
            return transformers.ElectraConfig(**plain, embedding_size=HIDDEN // 2)
        case "distilbert":
            return transformers.DistilBertConfig(
                **common,
                dim=HIDDEN,
                n_heads=HEADS,
                n_layers=LAYERS,
                hidden_dim=2 * HIDDEN,
                max_position_embeddings=POSITIONS,
            )
        case "deberta-v2":
            return transformers.DebertaV2Config(
                **plain,
                type_vocab_size=0,
                relative_attention=True,
                pos_att_type=["p2c", "c2p"],
                position_biased_input=False,
                position_buckets=16,
                share_att_key=True,
                norm_rel_ebd="layer_norm",
            )
        case "modernbert":
            return transformers.ModernBertConfig(
                **plain,
                layer_types=["sliding_attention", "full_attention"],
                local_attention=16,
                cls_token_id=tokenizer.cls_token_id,
                sep_token_id=tokenizer.sep_token_id,
                bos_token_id=tokenizer.cls_token_id,
                eos_token_id=tokenizer.sep_token_id,
            )
    raise ValueError(f"unknown family {family!r}: expected one of {', '.join(ENCODER_FAMILIES)}")


TOKENIZERS: dict[str, Callable[[], transformers.PreTrainedTokenizerBase]] = {
    "bert": wordpiece_tokenizer,
    "electra": wordpiece_tokenizer,
    "distilbert": wordpiece_tokenizer,
    "roberta": byte_tokenizer_roberta,
    "modernbert": byte_tokenizer_modernbert,
    "xlm-roberta": unigram_tokenizer_xlm_roberta,
    "deberta-v2": unigram_tokenizer_deberta,
}


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a family's name to the folder of its tiny encoder, built when first asked for.

    The folder holds what a Hub checkpoint holds: config, weights and tokenizer. Read it, never write to it.
    """
    root = tmp_path_factory.mktemp("tiny-encoders")

    def folder(family: str) -> Path:
        path = root / family
        if not path.exists():
            tokenizer = TOKENIZERS[family]()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = transformers.AutoModel.from_config(tiny_config(family, tokenizer))
            model.save_pretrained(path)
            tokenizer.save_pretrained(path)
        return path

    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer() -> transformers.BertTokenizer:
    """A WordPiece tokenizer in memory: printable ASCII, a few other characters, a few English words."""
    return wordpiece_tokenizer()


@pytest.fixture(scope="session")
def tiny_bert_dir(tiny_encoder: Callable[[str], Path]) -> Path:
    """Folder of a two-layer random BERT (hidden 32, 4 attention heads, 512 positions) with its tokenizer."""
    return tiny_encoder("bert")


@pytest.fixture(scope="session")
def tiny_roberta_dir(tiny_encoder: Callable[[str], Path]) -> Path:
    """The same shape as RoBERTa, with a byte-level BPE tokenizer."""
    return tiny_encoder("roberta")


@pytest.fixture(scope="session")
def tiny_deberta_dir(tiny_encoder: Callable[[str], Path]) -> Path:
    """The same shape as DeBERTa-v2, with a Unigram tokenizer."""
    return tiny_encoder("deberta-v2")


@pytest.fixture(scope="session")
def tiny_modernbert_dir(tiny_encoder: Callable[[str], Path]) -> Path:
    """The same shape as ModernBERT: a layer with a sliding window of 16 tokens, then a layer with full attention."""
    return tiny_encoder("modernbert")


@pytest.fixture(scope="session", params=ENCODER_FAMILIES)
def tiny_encoder_dir(request: pytest.FixtureRequest, tiny_encoder: Callable[[str], Path]) -> Path:
    """The folder of each family in turn."""
    return tiny_encoder(request.param)


# ---------------------------------------------------------------------------------------------------------------------
# A tiny relation extraction model
# ---------------------------------------------------------------------------------------------------------------------

RELATIONS = {"P17": "country", "P131": "located in", "P27": "country of citizenship"}


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_bert_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a relation model with random weights on the tiny BERT, and its processor. Never write to it."""
    from modeling_docre import DocREForRelationExtraction, DocREProcessor

    path = tmp_path_factory.mktemp("tiny-checkpoint")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = DocREForRelationExtraction.from_encoder(
            str(tiny_bert_dir),
            relations=RELATIONS,
            entity_types=["PER", "LOC", "ORG"],
            use_entity_types=True,
            emb_size=32,
            block_size=8,
        )
        # Random pair heads give all pairs nearly the same scores; these differ enough to be told apart.
        torch.nn.init.normal_(model.head.classifier.weight, std=2.0)
    model.save_pretrained(path)
    DocREProcessor.from_encoder(str(tiny_bert_dir), config=model.config).save_pretrained(path)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------------------------------


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def docre(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """A function that runs the command `docre` with its arguments, inside this process."""
    from modeling_docre.cli import main

    def run(*arguments: object, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse leaves this way
            code = int(error.code or 0)
        return Ran(code, *capsys.readouterr())

    return run
