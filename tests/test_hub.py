"""Pushing to the Hub and loading from it by id, against a Hub that runs inside this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from bare_python import link_distributions, run_python
from fake_hub import GUARD, TOKEN, FakeHub, running_hub
from huggingface_hub import ModelCard
from safetensors.torch import load
from training_helpers import fictional

from modeling_docre.remote_code import CARD_TAGS, CODE_FILES

# Every test stands on one long run of a client.
pytestmark = pytest.mark.slow

CHECKPOINT = {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
ASK = """
import json, os
DOCUMENT = {"text": "Ada Lovelace was born in London, England.", "entities": [
    {"type": "PER", "mentions": [{"start": 0, "end": 12}]},
    {"type": "LOC", "mentions": [{"start": 25, "end": 31}]},
    {"type": "LOC", "mentions": [{"start": 33, "end": 40}]}]}
def answer(pipe):
    return json.loads(json.dumps(pipe(DOCUMENT, threshold=0.1)))
"""


class Pushed(NamedTuple):
    hub: FakeHub
    answers: dict[str, Any]


def client(hub: FakeHub, home: Path, code: str, *, site: Path | None = None, **environment: str | None) -> Any:
    """What the code prints on its last line, as JSON, run against the Hub; nothing may leave the machine."""
    result = run_python(GUARD + ASK + code, site=site, **hub.environment(home, **environment))
    assert result.returncode == 0, result.stderr[-3000:]
    assert hub.unknown == []
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def pushed(tiny_checkpoint, tmp_path_factory) -> Any:
    with running_hub() as hub:
        folder = tmp_path_factory.mktemp("pusher")
        answers = client(
            hub,
            folder / "home",
            f"""
import modeling_docre
from transformers import pipeline
pipe = pipeline("docre", model={str(tiny_checkpoint)!r})
found = dict(plain=answer(pipe))

pipe.push_to_hub("plain")
pipe.push_to_hub("ada/code", include_code=True, private=True, commit_message="With its code", tags="tiny")

pipe.model.push_to_hub("ada/model-first", include_code=True)
pipe.processor.push_to_hub("ada/model-first")
pipe.processor.push_to_hub("ada/processor-first")
pipe.model.push_to_hub("ada/processor-first", include_code=True)

pipe.push_to_hub("ada/changing", include_code=True)
pipe.push_to_hub("ada/changing")

pipe.push_to_hub("ada/branches")
threshold, pipe.model.config.threshold = pipe.model.config.threshold, 0.97
pipe.push_to_hub("ada/branches", revision="strict")
pipe.push_to_hub("ada/branches", create_pr=True, commit_description="Is this right?")
pipe.model.config.threshold = threshold
pipe.processor.push_to_hub("ada/changing", revision="old")
pipe.push_to_hub("ada/kept", include_code=True)
pipe.processor.push_to_hub("ada/kept", revision="new")

os.chdir({str(folder)!r})
pipe.save_pretrained("saved", include_code=True, push_to_hub=True, private=True)
pipe.model.save_pretrained("part", push_to_hub=True, repo_id="ada/model-alone", commit_message="Weights alone")
pipe.model.add_model_tags("mine")
half = {{name: value.half() for name, value in pipe.model.state_dict().items()}}
pipe.model.save_pretrained("half", push_to_hub=True, state_dict=half, variant="fp16", max_shard_size="60KB")
found["half"] = sorted(os.listdir("half"))
pipe.model.save_pretrained("nobody", push_to_hub=True, is_main_process=False)
with open("saved/README.md", "w") as file:
    file.write("---\\ntags: [harbours]\\nlibrary_name: other\\n---\\n# A card of its own\\n")
carded = pipeline("docre", model="saved")
carded.push_to_hub("ada/carded", tags="tiny")
carded.push_to_hub("ada/plain")
try:
    pipe.push_to_hub("ada/refused", token="hf_of_nobody")
except Exception as error:
    found["refused"] = str(error)
print(json.dumps(found))
""",
        )
        yield Pushed(hub, answers)


@pytest.fixture(scope="module")
def bare_site(tmp_path_factory) -> Path:
    return link_distributions(tmp_path_factory.mktemp("bare") / "site-packages")


# ---------------------------------------------------------------------------------------------------------------------
# What arrives
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pipeline_is_pushed_whole_in_one_commit(pushed):
    repo = pushed.hub.repos["ada/plain"]
    assert repo.paths() == CHECKPOINT | {"README.md"}
    assert [commit.message for commit in repo.branches["main"]] == ["initial commit", *["Upload DocREPipeline"] * 2]
    card = ModelCard(repo.text("README.md"))
    assert (card.data.library_name, card.data.pipeline_tag) == ("modeling-docre", "token-classification")
    assert card.data.tags == list(CARD_TAGS) and "# A card of its own" not in card.text, "the repository's own stays"
    assert list(repo.branches["main"][-1].large) == ["model.safetensors"]
    assert not repo.private
    assert "auto_map" not in repo.json("config.json") and "custom_pipelines" not in repo.json("config.json")


def test_code_goes_along_where_it_is_wanted(pushed):
    repo = pushed.hub.repos["ada/code"]
    assert repo.paths() == CHECKPOINT | {"README.md"} | set(CODE_FILES)
    assert repo.private
    assert repo.branches["main"][-1].message == "With its code"
    assert ModelCard(repo.text("README.md")).data.tags == [*CARD_TAGS, "tiny"]
    assert "docre" in repo.json("config.json")["custom_pipelines"]
    assert "AutoProcessor" in repo.json("processor_config.json")["auto_map"]


@pytest.mark.parametrize("name", ["ada/model-first", "ada/processor-first"])
def test_model_and_processor_pushed_apart_make_the_same_repository(pushed, name):
    repo, whole = pushed.hub.repos[name], pushed.hub.repos["ada/code"]
    assert repo.paths() == whole.paths()
    for path in ("config.json", "processor_config.json"):
        assert repo.json(path) == whole.json(path)
    assert len(repo.branches["main"]) == 3


def test_pushing_again_without_code_takes_the_keys_out(pushed):
    repo = pushed.hub.repos["ada/changing"]
    for path in ("config.json", "processor_config.json"):
        assert repo.json(path) == pushed.hub.repos["ada/plain"].json(path)


def test_the_card_of_the_folder_goes_along(pushed):
    card = ModelCard(pushed.hub.repos["ada/carded"].text("README.md"))
    assert card.text.strip() == "# A card of its own" and card.data.library_name == "other"
    assert card.data.tags == ["harbours", "tiny"]


def test_a_new_branch_keeps_the_code_of_the_default_one(pushed):
    repo = pushed.hub.repos["ada/kept"]
    assert repo.json("config.json", "new") == repo.json("config.json")
    assert "AutoProcessor" in repo.json("processor_config.json", "new")["auto_map"]
    assert "auto_map" not in pushed.hub.repos["ada/changing"].json("processor_config.json", "old")


def test_branches_and_pull_requests(pushed):
    repo = pushed.hub.repos["ada/branches"]
    assert set(repo.branches) == {"main", "strict"}
    assert repo.json("config.json")["threshold"] is None
    assert repo.json("config.json", "strict")["threshold"] == 0.97
    ((proposal,),) = repo.requests
    assert json.loads(proposal.files["config.json"])["threshold"] == 0.97


def test_saving_can_push(pushed):
    repo = pushed.hub.repos["ada/saved"]
    assert repo.private and repo.paths() == pushed.hub.repos["ada/code"].paths()
    alone = pushed.hub.repos["ada/model-alone"]
    assert alone.paths() == {"README.md", "config.json", "model.safetensors"}
    assert alone.branches["main"][-1].message == "Weights alone"
    half = pushed.hub.repos["ada/half"]
    assert half.paths() == {*pushed.answers["half"], "README.md"} and len(pushed.answers["half"]) > 3
    assert half.text("model.safetensors.index.fp16.json").count("fp16") > 3
    assert ModelCard(half.text("README.md")).data.tags == [*CARD_TAGS, "mine"]
    assert "ada/nobody" not in pushed.hub.repos


def test_a_wrong_token_pushes_nothing(pushed):
    assert "401" in pushed.answers["refused"]
    assert "ada/refused" not in pushed.hub.repos


def test_a_hub_that_cannot_be_asked_changes_nothing(pushed, tiny_checkpoint, tmp_path):
    repo = pushed.hub.repos["ada/code"]
    before = list(repo.branches["main"])
    pushed.hub.blocked |= {"ada/code/", "ada/plain/tokenizer"}
    code = f"""
from modeling_docre import DocREProcessor
found = []
try:
    DocREProcessor.from_pretrained({str(tiny_checkpoint)!r}).push_to_hub("ada/code")
except Exception as error:
    found.append(str(error))
try:
    DocREProcessor.from_pretrained("ada/plain")
except OSError as error:
    found.append(str(error))
print(json.dumps(found))
"""
    try:
        pushing, loading = client(pushed.hub, tmp_path, code)
    finally:
        pushed.hub.blocked.clear()
    assert repo.branches["main"] == before
    for message in (pushing, loading):
        assert "check your connection" in message and "tokenizer that loads" not in message


def test_trainer_pushes_model_and_processor(pushed, tiny_checkpoint, tmp_path):
    code = f"""
from modeling_docre import DocREForRelationExtraction, DocREProcessor, DocRETrainer, DocRETrainingArguments
model = DocREForRelationExtraction.from_pretrained({str(tiny_checkpoint)!r})
arguments = DocRETrainingArguments({str(tmp_path / "run")!r}, hub_model_id="ada/trained", hub_private_repo=True)
trainer = DocRETrainer(model, arguments, processing_class=DocREProcessor.from_pretrained({str(tiny_checkpoint)!r}))
trainer.push_to_hub()
from transformers import pipeline
found = [answer(pipeline("docre", model="ada/trained"))]
trainer.model.push_to_hub("ada/trained", include_code=True)
found.append(answer(pipeline("docre", model="ada/trained", trust_remote_code=True)))
print(json.dumps(found))
"""
    assert client(pushed.hub, tmp_path / "home", code) == [pushed.answers["plain"]] * 2
    repo = pushed.hub.repos["ada/trained"]
    first = {*repo.branches["main"][1].files, *repo.branches["main"][1].large}
    assert repo.private and first == CHECKPOINT | {"README.md", "training_args.bin"}
    assert repo.paths() == first | set(CODE_FILES)
    assert "AutoProcessor" in repo.json("processor_config.json")["auto_map"]
    assert "generated_from_trainer" in ModelCard(repo.text("README.md")).data.tags


def test_a_generator_is_pushed_and_loaded_by_id(pushed, tmp_path):
    code = """
import torch
from transformers import AutoModel
from modeling_docre import VaeDiffConfig, VaeDiffModel
config = VaeDiffConfig(["P17", "P131"], embedding_size=8, latent_size=4, hidden_size=8, num_hidden_layers=1,
                       num_attention_heads=1, num_steps=3, embeddings_of="abc")
generator = VaeDiffModel(config)
generator.push_to_hub("ada/generator")
def draw(model):
    return model.sample([["P17"]], generator=torch.Generator().manual_seed(1)).tolist()
loaded = [VaeDiffModel.from_pretrained("ada/generator"), AutoModel.from_pretrained("ada/generator")]
print(json.dumps([draw(model) == draw(generator) for model in loaded] + [loaded[0].config.embeddings_of]))
"""
    assert client(pushed.hub, tmp_path / "home", code) == [True, True, "abc"]
    assert {"config.json", "model.safetensors"} <= set(pushed.hub.repos["ada/generator"].paths())


def test_a_recipe_pushes_the_finished_card_and_no_place_of_this_machine(tiny_bert_dir, tmp_path):
    private = tmp_path / "private-home"
    private.mkdir()
    shutil.copytree(tiny_bert_dir, private / "encoder")
    (private / "stories.json").write_text(json.dumps([fictional(number) for number in range(9)]))
    recipe = {
        "output_dir": str(private / "run"),
        "model": {"encoder": "encoder", "emb_size": 16, "block_size": 4},
        "data": {"train": "${STORIES}/stories.json", "eval": "stories.json"},
        "training": {
            "num_train_epochs": 2,
            "use_cpu": True,
            "disable_tqdm": True,
            "push_to_hub": True,
            "hub_model_id": "ada/harbour",
            "hub_token": TOKEN,
            "hub_strategy": "checkpoint",
            "hub_always_push": True,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "load_best_model_at_end": True,
            "bf16_full_eval": True,
        },
        "card": {"language": "en", "dataset": "Stories", "dataset_tags": "someone/stories"},
    }
    (private / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    code = f"""
from modeling_docre.recipes import train_from_recipe
os.chdir({str(private)!r})
os.environ["STORIES"] = os.getcwd()
metrics = train_from_recipe("recipe.yaml")
# The second run has no absolute path in its recipe, which goes along.
train_from_recipe("recipe.yaml", ["--output_dir=second", "--hub_model_id=ada/second", "--num_train_epochs=1"])
train_from_recipe("recipe.yaml", ["--num_train_epochs=3"], resume=True)
print(json.dumps(metrics))
"""
    with running_hub() as hub:
        metrics = client(hub, tmp_path / "home", code)
    received = list(hub.received())
    assert len(received) > 50
    for path, content in received:
        for secret in (b"private-home", str(tmp_path).encode(), TOKEN.encode()):
            assert secret not in content, path
    repo, second = hub.repos["ada/harbour"], hub.repos["ada/second"]
    assert "last-checkpoint/trainer_state.json" in repo.paths() and "recipe.yaml" not in repo.paths()
    assert yaml.safe_load(second.text("recipe.yaml"))["data"] == recipe["data"]
    last = next(commit for commit in repo.branches["main"] if commit.message == "End of training")
    card = ModelCard(last.files["README.md"].decode())
    assert {(result.dataset_name, result.metric_type): result.metric_value for result in card.data.eval_results}[
        "Stories", "f1"
    ] == round(metrics["eval_f1"], 4)
    assert card.data.language == ["en"] and card.text == ModelCard(last.files["README.md"].decode()).text
    # Evaluation in bfloat16 rounded the model, not what was uploaded.
    weights = load(hub.large[last.large["model.safetensors"]])
    assert not all((tensor == tensor.bfloat16().float()).all() for tensor in weights.values())


# ---------------------------------------------------------------------------------------------------------------------
# What comes back
# ---------------------------------------------------------------------------------------------------------------------

LOAD = """
from transformers import pipeline
from modeling_docre import DocREForRelationExtraction, DocREProcessor
found = dict(
    plain=answer(pipeline("docre", model="ada/plain")),
    code=answer(pipeline("docre", model="ada/code")),
    trusted=answer(pipeline("docre", model="ada/code", trust_remote_code=True)),
    parts=answer(pipeline("docre", model=DocREForRelationExtraction.from_pretrained("ada/plain"),
                          processor=DocREProcessor.from_pretrained("ada/plain"))),
)
strict = pipeline("docre", model="ada/branches", revision="strict")
found["thresholds"] = [strict.model.config.threshold, strict.processor.config.threshold,
    DocREForRelationExtraction.from_pretrained("ada/branches", revision="strict").config.threshold,
    DocREProcessor.from_pretrained("ada/branches", revision="strict").config.threshold,
    pipeline("docre", model="ada/branches").model.config.threshold]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_loading_by_id_gives_the_same_answers_then_offline_too(pushed, tmp_path):
    online = client(pushed.hub, tmp_path, LOAD)
    plain = pushed.answers["plain"]
    assert len(plain["relations"]) > 3
    assert [online[way] for way in ("plain", "code", "trusted", "parts")] == [plain] * 4
    assert online["thresholds"] == [0.97] * 4 + [None]
    asked = len(pushed.hub.asked)
    assert client(pushed.hub, tmp_path, LOAD, HF_HUB_OFFLINE="1") == online
    local = """
from modeling_docre import DocREForRelationExtraction, DocREProcessor, DocREPipeline
print(json.dumps(answer(DocREPipeline(DocREForRelationExtraction.from_pretrained("ada/plain", local_files_only=True),
                                      processor=DocREProcessor.from_pretrained("ada/plain", local_files_only=True)))))
"""
    assert client(pushed.hub, tmp_path, local) == plain
    assert pushed.hub.asked[asked:] == []


TRUST = """
from transformers import AutoProcessor, pipeline
pipes = [pipeline("docre", model=name, trust_remote_code=True)
         for name in ("ada/code", "ada/model-first", "ada/processor-first", "ada/saved")]
found = dict(answers=[answer(pipe) for pipe in pipes], module=type(pipes[0].model).__module__)
found["processor"] = type(AutoProcessor.from_pretrained("ada/processor-first", trust_remote_code=True)).__name__
print(json.dumps(found))
"""


@pytest.mark.slow
def test_code_of_a_repository_runs_without_the_package_then_offline_too(pushed, bare_site, tmp_path):
    online = client(pushed.hub, tmp_path, TRUST, site=bare_site)
    assert online["answers"] == [pushed.answers["plain"]] * 4
    assert online["module"].startswith("transformers_modules.ada.code.")
    assert online["processor"] == "DocREProcessor"
    asked = len(pushed.hub.asked)
    assert client(pushed.hub, tmp_path, TRUST, site=bare_site, HF_HUB_OFFLINE="1") == online
    assert pushed.hub.asked[asked:] == []


def test_a_private_repository_needs_a_token(pushed, tmp_path):
    code = f"""
from modeling_docre import DocREForRelationExtraction
try:
    DocREForRelationExtraction.from_pretrained("ada/code")
except OSError as error:
    message = str(error)
DocREForRelationExtraction.from_pretrained("ada/code", token={TOKEN!r})
print(json.dumps(message))
"""
    assert "ada/code" in client(pushed.hub, tmp_path, code, HF_TOKEN=None)


def test_the_guard_of_the_clients_holds(pushed, tmp_path):
    result = run_python(
        GUARD
        + "import urllib.request\ntry:\n    urllib.request.urlopen('http://hub.example/x')\nexcept OSError: pass",
        **pushed.hub.environment(tmp_path),
    )
    assert result.returncode == 97 and "hub.example" in result.stderr
