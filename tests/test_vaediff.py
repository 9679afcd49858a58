"""The generator of pair embeddings: its networks and its loss against plain loops, what it draws, what it refuses."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import transformers
from torch.nn import functional

from modeling_docre import DocREConfig, DocREForRelationExtraction, DocREProcessor
from modeling_docre.configuration_vaediff import VaeDiffConfig
from modeling_docre.extraction import load_config
from modeling_docre.vaediff import VaeDiffForTraining, VaeDiffModel
from modeling_docre.vaediff_parts import Denoiser, EntityPairVAE, Gaussian, RMSNorm

RELATIONS = ["P17", "P131", "P27"]
SMALL = {
    "embedding_size": 12,
    "latent_size": 6,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_steps": 5,
}


def config_for(**settings) -> VaeDiffConfig:
    return VaeDiffConfig(**{"relations": RELATIONS, **SMALL, **settings})


def shaken(module):
    """All parameters away from what they are at first, in float64."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data = parameter.data + 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.double().eval()


def model_for(kind=VaeDiffModel, **settings):
    torch.manual_seed(0)
    return shaken(kind(config_for(**settings)))


def multi_hot(*rows) -> torch.Tensor:
    labels = torch.zeros(len(rows), len(RELATIONS) + 1)
    for row, classes in enumerate(rows):
        labels[row, list(classes)] = 1
    return labels


def vectors(*shape) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


# ---------------------------------------------------------------------------------------------------------------------
# Networks
# ---------------------------------------------------------------------------------------------------------------------


def linear(layer, vector):
    out = torch.stack([sum(w * x for w, x in zip(row, vector, strict=True)) for row in layer.weight])
    return out if layer.bias is None else out + layer.bias


def leaky(vector):
    return torch.stack([x if x > 0 else 0.2 * x for x in vector])


def rms(norm, vector):
    return vector / (sum(x**2 for x in vector) / len(vector)) ** 0.5 * norm.weight


def layer_norm(norm, vector):
    mean = vector.sum() / len(vector)
    variance = (vector - mean).square().sum() / len(vector)
    return (vector - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def gelu(vector):
    return torch.stack([x * 0.5 * (1 + torch.erf(x / math.sqrt(2))) for x in vector])


def test_autoencoder_by_loops():
    vae, embeddings, latents = shaken(EntityPairVAE(config_for())), vectors(3, 12), vectors(3, 6)
    posterior = vae.encode(embeddings)
    means, log_variances = vae.decode(latents)
    for row in range(3):
        first, one, _, two, second, _, three = vae.encoder
        inside = linear(three, leaky(rms(second, linear(two, leaky(linear(one, rms(first, embeddings[row])))))))
        torch.testing.assert_close(posterior.mean[row], linear(vae.mean, inside).clamp(-5, 5))
        spread = (linear(vae.log_variance, inside).clamp(-5, 5) / 2).exp()
        torch.testing.assert_close(posterior.std[row], spread)
        one, _, first, two, _, second, three = vae.decoder
        decoded = linear(three, rms(second, leaky(linear(two, rms(first, leaky(linear(one, latents[row])))))))
        torch.testing.assert_close(torch.cat([means[row], log_variances[row]]), decoded)


def test_the_papers_autoencoder_has_one_batch_norm_in_the_middle():
    vae = EntityPairVAE(config_for(norm="batch")).double().train()
    for part in (vae.encoder, vae.decoder):
        kinds = [type(layer).__name__ for layer in part]
        assert kinds.count("BatchNorm") == 1 and "RMSNorm" not in kinds
    embeddings = vectors(4, 12)
    _, one, _, two, norm, _, three = vae.encoder
    inside = torch.stack([linear(two, leaky(linear(one, row))) for row in embeddings])
    normed = (inside - inside.mean(0)) / (inside.var(0, unbiased=False) + norm.eps).sqrt()
    expected = torch.stack([linear(vae.mean, linear(three, leaky(row))) for row in normed])
    torch.testing.assert_close(vae.encode(embeddings).mean, expected.clamp(-5, 5))


def test_lengths_of_vectors_of_zeros_stay_finite():
    norm, zeros = RMSNorm(4), torch.zeros(1, 4, requires_grad=True)
    norm(zeros).sum().backward()
    assert not norm(zeros).any() and zeros.grad.isfinite().all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("estimated", [False, True])
def test_denoiser_by_loops(reduction, estimated):
    network = shaken(Denoiser(config_for(class_reduction=reduction)))
    noisy, estimates, steps = vectors(4, 6), vectors(5, 6)[1:], torch.tensor([0, 1, 4, 2])
    labels = multi_hot([1], [1, 3], [], [0, 2])
    got = network(noisy, steps, labels, estimates if estimated else None)
    for row, classes in enumerate(([1], [1, 3], [], [2])):
        angles = [float(steps[row]) * 10_000 ** (-place / 3) for place in range(4)]
        waves = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)
        condition = linear(network.step_projection[2], gelu(linear(network.step_projection[0], waves)))
        if classes:
            total = sum(network.class_embedding.weight[number] for number in classes)
            total = total / len(classes) if reduction == "mean" else total
            condition = condition + linear(network.class_projection, total)
        estimate = estimates[row] if estimated else network.no_estimate[0]
        hidden = linear(network.input, torch.cat([noisy[row], estimate]))
        hidden = hidden + linear(network.step_input, gelu(condition))
        for layer in network.layers:
            hidden = hidden + linear(layer.out, linear(layer.value, layer_norm(layer.attention_norm, hidden)))
            up = linear(layer.up, layer_norm(layer.norm, hidden))
            fed = layer_norm(layer.after_norm, linear(layer.down, up[:32] * gelu(up[32:])))
            change = linear(layer.scale_shift, gelu(condition))
            hidden = hidden + fed * (1 + change[:8]) + change[8:]
        expected = linear(network.output, layer_norm(network.norm, hidden))
        torch.testing.assert_close(got[row], expected, atol=1e-6, rtol=1e-6)


def test_a_layer_begins_without_the_influence_of_the_step():
    model = VaeDiffModel(config_for())
    for layer in model.denoiser.layers:
        assert not layer.scale_shift.weight.any() and not layer.scale_shift.bias.any()
    assert model.denoiser.no_estimate.std() > 0.3


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------


class Draws:
    """Random numbers that are the same every time they are asked for."""

    def __init__(self, monkeypatch, coin=0.99):
        self.noise = []
        monkeypatch.setattr(torch, "randn_like", self._randn_like)
        monkeypatch.setattr(torch, "randint", lambda high, shape, device=None: torch.arange(shape[0]) % high)
        monkeypatch.setattr(torch, "rand", lambda shape: torch.tensor(coin))

    def _randn_like(self, like):
        self.noise.append(torch.randn(like.shape, generator=torch.Generator().manual_seed(len(self.noise))).to(like))
        return self.noise[-1]


@pytest.mark.parametrize("coin", [0.99, 0.0], ids=["plain", "hidden classes, fed back"])
@pytest.mark.parametrize("kl_weight", [1e-6, 0.5])
def test_loss_of_equation_9_by_loops(monkeypatch, kl_weight, coin):
    model = model_for(VaeDiffForTraining)
    shaken(model.learner)
    draws, embeddings = Draws(monkeypatch, coin), vectors(3, 12)
    labels = multi_hot([1], [1, 3], [2])
    output = model(embeddings, labels, kl_weight=kl_weight)
    posterior = model.vae.encode(embeddings)
    latents = posterior.mean + posterior.std * draws.noise[0]
    means, log_variances = (part.clamp(-5, 5) for part in model.vae.decode(latents))
    kept = model.schedule.kept

    def error(row, noise, known):
        noisy = kept[row].sqrt() * latents[row] + (1 - kept[row]).sqrt() * noise[row]
        inputs = noisy[None], torch.tensor([row]), known[row : row + 1] if known is not None else None
        estimate = model.learner(*inputs, model.learner(*inputs) if coin == 0.0 else None)[0]
        return sum((a - b) ** 2 for a, b in zip(estimate, latents[row], strict=True)) / 6

    expected = {"reconstruction": 0.0, "entropy": 0.0, "cross_entropy": 0.0, "prior": 0.0}
    for row in range(3):
        for value, mean, log_variance in zip(embeddings[row], means[row], log_variances[row], strict=True):
            variance = log_variance.exp()
            expected["reconstruction"] += 0.5 * ((value - mean) ** 2 / variance + (2 * math.pi * variance).log()) / 3
        for value, mean, std in zip(latents[row], posterior.mean[row], posterior.std[row], strict=True):
            expected["entropy"] -= 0.5 * (((value - mean) / std) ** 2 + (2 * math.pi * std**2).log()) / 3
        of_vae = error(row, draws.noise[1], labels)
        expected["cross_entropy"] += 6 * (0.5 * (1 + math.log(2 * math.pi * (1 - float(kept[0])))) + of_vae) / 3
        expected["prior"] += error(row, draws.noise[2], None if coin == 0.0 else labels) / 3
    assert output.losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(output.losses[name], value, msg=lambda text, name=name: f"{name}: {text}")
    total = expected["reconstruction"] + kl_weight * (expected["entropy"] + expected["cross_entropy"])
    torch.testing.assert_close(output.loss, total + expected["prior"])


def test_each_part_has_the_gradient_of_its_own_loss():
    # Classes always shown and nothing fed back, so that all parameters have a part in each step.
    model = model_for(VaeDiffForTraining, class_dropout=0.0, self_condition_probability=0.0)
    embeddings, labels = vectors(3, 12), multi_hot([1], [1, 3], [2])
    grads = {}
    for name, weight, prior in (("both", 0.5, True), ("autoencoder", 0.5, False), ("no kl", 0.0, False)):
        model.zero_grad()
        torch.manual_seed(1)
        model(embeddings, labels, kl_weight=weight, learn_prior=prior).loss.backward()
        grads[name] = {key: value.grad for key, value in model.named_parameters()}
    for name in grads["both"]:
        if name.startswith("denoiser."):
            assert grads["both"][name] is None, name
        elif name.startswith("learner."):
            assert grads["both"][name].abs().sum() > 0, name
            # The autoencoder's loss leaves the learner alone.
            assert grads["autoencoder"][name] is None, name
        else:
            torch.testing.assert_close(grads["both"][name], grads["autoencoder"][name])
    changed = grads["autoencoder"]["vae.mean.weight"] - grads["no kl"]["vae.mean.weight"]
    assert changed.abs().max() > 1e-6


def test_how_often_classes_are_hidden_and_estimates_fed_back(monkeypatch):
    model = model_for(VaeDiffForTraining, class_dropout=0.2, self_condition_probability=0.5)
    seen = []
    original = model.learner.forward
    model.learner.forward = lambda *given: seen.append(given) or original(*given)
    torch.manual_seed(0)
    for _ in range(1500):
        model.prior_error(vectors(1, 6), multi_hot([1]), learns=True)
    last = [given for given in seen if len(given) == 4]
    assert len(last) == 1500
    hidden = sum(given[2] is None for given in last) / 1500
    fed = sum(given[3] is not None for given in last) / 1500
    # Within four standard deviations.
    assert abs(hidden - 0.2) < 0.042 and abs(fed - 0.5) < 0.052
    seen.clear()
    for _ in range(50):
        model.prior_error(vectors(1, 6), multi_hot([1]), learns=False)
    assert all(given[2] is not None for given in seen)


def test_nothing_is_learned_through_the_first_estimate():
    model = model_for(VaeDiffForTraining, self_condition_probability=1.0, class_dropout=0.0)
    shaken(model.learner)
    latents, labels = vectors(3, 6), multi_hot([1], [1, 3], [2])
    torch.manual_seed(1)
    model.prior_error(latents, labels, learns=True).sum().backward()
    got = model.learner.input.weight.grad.clone()
    model.zero_grad()
    torch.manual_seed(1)
    step = torch.randint(5, (3,))
    noisy = model.schedule.add_noise(latents, step, torch.randn_like(latents))
    estimate = model.learner(noisy, step, labels).detach()
    (model.learner(noisy, step, labels, estimate) - latents).square().mean(1).sum().backward()
    torch.testing.assert_close(got, model.learner.input.weight.grad)


def test_dropout_drops_whole_heads_and_single_numbers():
    network = shaken(Denoiser(config_for(dropout=0.5))).train()
    inputs = vectors(1, 6).expand(64, -1), torch.zeros(64, dtype=torch.long)
    assert len(network(*inputs).unique(dim=0)) > 8
    layer = network.layers[0]
    with torch.no_grad():
        layer.down.weight.zero_()
    hidden = vectors(1, 8).expand(64, -1)
    # Two heads, each there or not: four outcomes, where the feed-forward part adds nothing.
    assert len(layer(hidden, vectors(1, 32).expand(64, -1)).unique(dim=0)) == 4


def test_what_is_off_draws_nothing(monkeypatch):
    model = model_for(VaeDiffForTraining, self_condition_probability=0.0, class_dropout=0.0)
    monkeypatch.setattr(torch, "rand", None)
    assert model.prior_error(vectors(2, 6), multi_hot([1], [2]), learns=True).shape == (2,)


def test_batch_norm_of_one_pair_takes_what_was_seen_before():
    vae = EntityPairVAE(config_for(norm="batch")).double().train()
    vae.encode(vectors(5, 12))
    one = vae.encode(vectors(1, 12)).mean
    torch.testing.assert_close(one, vae.eval().encode(vectors(1, 12)).mean)


def test_half_precision_cannot_average():
    with pytest.raises(ValueError, match=r"torch\.bfloat16, in which the steps of the average are rounded away"):
        VaeDiffForTraining(config_for()).bfloat16().update_average()


def test_average_after_some_steps():
    model = VaeDiffForTraining(config_for())
    expected = None
    for step in range(1, 16):
        with torch.no_grad():
            model.learner.output.bias += step
        model.update_average()
        learned = model.learner.output.bias.detach()
        expected = learned.clone() if step <= 10 else 0.995 * expected + 0.005 * learned
    torch.testing.assert_close(model.denoiser.output.bias, expected)
    assert int(model.num_updates) == 15


def test_parts_of_a_step_add_up(monkeypatch):
    model, embeddings, labels = model_for(VaeDiffForTraining), vectors(3, 12), multi_hot([1], [2], [3])
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr(torch, "randint", lambda high, shape, device=None: torch.zeros(shape[0], dtype=torch.long))
    monkeypatch.setattr(torch, "rand", lambda shape: torch.tensor(0.99))
    whole = model(embeddings, labels)
    parts = [model(embeddings[rows], labels[rows], num_items_in_batch=3) for rows in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(sum(part.loss for part in parts), whole.loss)
    for name, value in whole.losses.items():
        torch.testing.assert_close(sum(part.losses[name] for part in parts), value)


def test_no_pairs_cost_nothing():
    model = VaeDiffForTraining(config_for())
    output = model(torch.zeros(0, 12), torch.zeros(0, 4))
    output.loss.backward()
    assert output.loss == 0.0 and model.vae.mean.weight.grad is not None


# ---------------------------------------------------------------------------------------------------------------------
# Sampling
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("every_step", [True, False])
def test_sampler_by_loops(form, every_step):
    model = model_for(guidance=0.3, guidance_form=form, class_at_every_step=every_step)
    labels, start = multi_hot([1], [2, 3]), vectors(2, 6)
    noise = [vectors(step + 3, 6)[-2:] for step in range(5)]
    got = model.denoise(start, labels, iter(noise))
    betas, kept = model.schedule.betas, model.schedule.kept
    latents, estimate = start, None
    for turn, step in enumerate((4, 3, 2, 1, 0)):
        steps = torch.tensor([step, step])
        known = labels if every_step or turn == 0 else None
        conditional = model.denoiser(latents, steps, known, estimate)
        unconditional = model.denoiser(latents, steps, None, estimate)
        estimate = {
            "code": 1.3 * conditional - 0.3 * unconditional,
            "paper": 0.7 * conditional + 0.3 * unconditional,
        }[form]
        before = kept[step - 1] if step else torch.tensor(1.0)
        latents = (betas[step] * before.sqrt() * estimate + (1 - before) * (1 - betas[step]).sqrt() * latents) / (
            1 - kept[step]
        )
        if step:
            latents = latents + betas[step].sqrt() * noise[turn]
    torch.testing.assert_close(got, latents, atol=1e-10, rtol=1e-9)


def test_a_seed_gives_the_same_vectors_in_order():
    model = model_for()
    labels = [["P17"], ["P131", "P27"], []]

    def draw(**arguments):
        return model.sample(labels, 4, generator=torch.Generator().manual_seed(7), **arguments)

    found = draw()
    assert found.shape == (12, 12) and torch.equal(found, draw())
    other = model.sample(labels, 4, generator=torch.Generator().manual_seed(8))
    assert (found - other).abs().min() > 0
    as_tensor = model.sample(multi_hot([1], [2, 3], []), 4, generator=torch.Generator().manual_seed(7))
    assert torch.equal(found, as_tensor)
    # Column 0 is not read.
    with_none = multi_hot([0, 1], [2, 3], [0])
    assert torch.equal(found, model.sample(with_none, 4, generator=torch.Generator().manual_seed(7)))
    moved = model.sample(labels[::-1], 4, generator=torch.Generator().manual_seed(7))
    assert not torch.equal(moved[:4], found[:4])


def test_drawing_leaves_the_model_as_it_was_and_has_no_dropout():
    model = model_for(dropout=0.9).train()
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    first = model.sample([["P17"]], 3, generator=seeds[0])
    assert model.training and model.denoiser.training
    assert torch.equal(first, model.eval().sample([["P17"]], 3, generator=seeds[1]))
    weight = torch.ones(12, 1, dtype=torch.float64, requires_grad=True)
    (first @ weight).sum().backward()
    assert not first.requires_grad and weight.grad.isfinite().all()


def test_batch_size_changes_vectors_and_not_their_distribution():
    model = model_for()
    parts = [
        model.sample([["P17"], ["P27"]], 1500, generator=torch.Generator().manual_seed(2), batch_size=size)
        for size in (7, 4096)
    ]
    assert not torch.equal(*parts)
    for rows in (slice(0, 1500), slice(1500, 3000)):
        one, other = (part[rows] for part in parts)
        error = ((one.var(0) + other.var(0)) / 1500).sqrt()
        assert ((one.mean(0) - other.mean(0)).abs() < 4.5 * error).all()
        assert ((one.std(0) / other.std(0)).log().abs() < 0.15).all()


def test_two_classes_are_learned_and_drawn_in_their_places():
    torch.manual_seed(0)
    settings = {"embedding_size": 32, "hidden_size": 32, "num_steps": 20, "dropout": 0.0}
    model = VaeDiffForTraining(config_for(**settings)).train()
    centres = torch.tensor([[1.0] * 16 + [-1.0] * 16, [-1.0] * 16 + [1.0] * 16])
    optimizer = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], lr=3e-3)
    for step in range(400):
        which = torch.randint(2, (64,))
        labels = functional.one_hot(which + 1, 4).float()
        optimizer.zero_grad()
        model(centres[which] + 0.2 * torch.randn(64, 32), labels, learn_prior=step >= 100).loss.backward()
        optimizer.step()
        if step >= 100:
            model.update_average(decay=0.98)

    def places(labels):
        drawn = model.sample([labels], 200, generator=torch.Generator().manual_seed(0))
        assert drawn.isfinite().all()
        return torch.cdist(drawn, centres).argmin(1).float().mean()

    assert places(["P17"]) < 0.05 and places(["P131"]) > 0.95
    # From all training pairs where there is no relation; from both places where there are both.
    assert 0.2 < places([]) < 0.8 and 0.05 < places(["P17", "P131"]) < 0.95
    # What no pair had is finite, whatever it means.
    places(["P27"])


def test_a_scale_is_that_of_what_goes_in_and_comes_out(monkeypatch):
    plain = model_for(VaeDiffForTraining, class_dropout=0.0, self_condition_probability=0.0)
    scaled = model_for(VaeDiffForTraining, class_dropout=0.0, self_condition_probability=0.0, embedding_scale=2.5)
    scaled.load_state_dict(plain.state_dict())
    embeddings, labels = vectors(5, 12), multi_hot([1], [2], [3], [1, 2], [2])
    outputs = []
    for model, given in ((plain, embeddings), (scaled, 2.5 * embeddings)):
        torch.manual_seed(3)
        trained = model(given, labels)
        read = VaeDiffModel.forward(model, given)
        drawn = model.sample([["P17"]], 4, generator=torch.Generator().manual_seed(1))
        outputs.append((trained, read, drawn))
    (trained, read, drawn), (of_scaled, read_scaled, drawn_scaled) = outputs
    torch.testing.assert_close(of_scaled.loss, trained.loss)
    for name, value in trained.losses.items():
        torch.testing.assert_close(of_scaled.losses[name], value)
    for one, other in ((read, read_scaled), (trained, of_scaled)):
        torch.testing.assert_close(other.latents, one.latents)
        torch.testing.assert_close(other.reconstruction, 2.5 * one.reconstruction)
    torch.testing.assert_close(drawn_scaled, 2.5 * drawn)
    untrained = model_for(embedding_scale="deviation")
    for use in (lambda: untrained(embeddings), lambda: untrained.sample([["P17"]])):
        with pytest.raises(ValueError, match="stands for a number that VaeDiffTrainer puts into the config"):
            use()


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        ([["P18"]], {}, r"no relation 'P18'\. Did you mean 'P17'\?"),
        ([[1]], {}, r"no relation 1\."),
        ([["P17"]], {"generator": 13}, r"generator=13 is no torch\.Generator; pass torch\.Generator\(\)\.manual_seed"),
        (["P17"], {}, r"labels\[0\] is 'P17'; pass a list of relation ids"),
        ([None], {}, r"labels\[0\] is None; pass a list of relation ids"),
        ("P17", {}, "labels are 'P17'; pass a list of relation ids"),
        (None, {}, "labels are None; pass a list of relation ids"),
        (torch.zeros(2, 3), {}, r"labels have shape \(2, 3\); pass \(number, 4\)"),
        ([["P17"]], {"num_samples": 0}, "num_samples=0"),
        ([["P17"]], {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_wrong_wishes(labels, arguments, message):
    with pytest.raises(ValueError, match=message):
        model_for().sample(labels, **arguments)


def test_words_for_a_relation_are_answered_with_its_id():
    model = model_for(relation_names={"P17": "country", "P27": "country of citizenship"})
    with pytest.raises(ValueError, match=r"no relation 'country'\. Did you mean 'P17' or 'P27'\?"):
        model.sample([["country"]])


def test_nothing_wished_for_gives_nothing():
    assert model_for().sample([]).shape == (0, 12)


# ---------------------------------------------------------------------------------------------------------------------
# Saving and loading
# ---------------------------------------------------------------------------------------------------------------------


def test_save_and_load(tmp_path):
    model = VaeDiffModel(config_for(relation_names={"P17": "country"}, embeddings_of="abc"))
    model.save_pretrained(tmp_path)
    again = VaeDiffModel.from_pretrained(tmp_path)
    kept = ("relations", "relation_names", "embedding_size", "norm", "guidance", "embeddings_of")
    assert [getattr(again.config, name) for name in kept] == [getattr(model.config, name) for name in kept]
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert isinstance(transformers.AutoModel.from_pretrained(tmp_path), VaeDiffModel)
    drawn = [one.sample([["P17"]], 2, generator=torch.Generator().manual_seed(1)) for one in (model.eval(), again)]
    assert torch.equal(*drawn)


def test_a_training_goes_on_where_it_was_saved_and_samples_with_the_average(tmp_path):
    torch.manual_seed(0)
    training = VaeDiffForTraining(config_for())
    assert torch.equal(training.denoiser.output.weight, training.learner.output.weight)
    with torch.no_grad():
        training.learner.output.weight += 1
    training.num_updates += 30
    training.update_average()
    training.save_pretrained(tmp_path)
    again = VaeDiffForTraining.from_pretrained(tmp_path)
    assert {name for name in training.state_dict()} == {name for name in again.state_dict()}
    for name, value in training.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    generator = VaeDiffModel.from_pretrained(tmp_path)
    assert torch.equal(generator.denoiser.output.weight, training.denoiser.output.weight)
    assert not hasattr(generator, "learner")


def test_what_is_no_generator_is_refused(tmp_path, tiny_bert_dir):
    docre = DocREForRelationExtraction.from_encoder(tiny_bert_dir, relations=RELATIONS, emb_size=8, block_size=4)
    docre.save_pretrained(tmp_path / "docre")
    with pytest.raises(ValueError, match="is a 'docre' checkpoint, not a generator"):
        VaeDiffModel.from_pretrained(tmp_path / "docre")
    model = VaeDiffModel(config_for())
    model.save_pretrained(tmp_path / "generator")
    for load in (DocREForRelationExtraction.from_pretrained, DocREProcessor.from_pretrained, load_config):
        with pytest.raises(ValueError, match="It goes with one: name"):
            load(str(tmp_path / "generator"))
    with pytest.raises(ValueError, match=r"not a relation extraction model of this library\. It goes with one"):
        transformers.pipeline("docre", model=str(tmp_path / "generator"))
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("vae.mean")}
    model.save_pretrained(tmp_path / "part", state_dict=state)
    with pytest.raises(ValueError, match=r"lacks weights of VaeDiffModel: vae\.mean\.bias, vae\.mean\.weight"):
        VaeDiffModel.from_pretrained(tmp_path / "part")
    model.save_pretrained(tmp_path / "generator")
    for settings, message in (
        (
            {"latent_size": 10},
            r"of other sizes than VaeDiffModel: denoiser\.input\.weight .* and 3 more.*\(latent_size\)",
        ),
        ({"guidence": 0.2}, r"'guidence' is no argument of from_pretrained, nor a setting\. Did you mean 'guidance'"),
        ({"guidance": "a"}, "guidance='a' is not a finite number"),
        ({"norm": "rsm"}, "norm='rsm' is not one of"),
    ):
        with pytest.raises(ValueError, match=message):
            VaeDiffModel.from_pretrained(tmp_path / "generator", **settings)
    for guidance in (float("nan"), "a"):
        with pytest.raises(ValueError, match=f"guidance={guidance!r} is not a finite number"):
            model.sample([[]], guidance=guidance)
    with pytest.raises(ValueError, match="'docre-vaediff' checkpoint"):
        DocREForRelationExtraction.from_pretrained(tmp_path / "generator")
    with pytest.raises(ValueError, match="lacks weights of VaeDiffForTraining"):
        VaeDiffForTraining.from_pretrained(tmp_path / "generator")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "rsm"}, r"norm='rsm' is not one of 'rms', 'batch'\. Did you mean 'rms'"),
        ({"guidance_form": "x"}, "guidance_form='x' is not one of"),
        ({"relations": ["P17", "P17"]}, "names a relation twice"),
        ({"num_steps": 0}, "num_steps=0 is not a positive whole number"),
        ({"num_steps": 2.5}, "num_steps=2.5 is not a positive whole number"),
        ({"guidance": math.nan}, "guidance=nan is not a finite number"),
        ({"embedding_scale": 0.0}, "embedding_scale=0.0 is not a positive number"),
        ({"embedding_scale": math.inf}, "embedding_scale=inf is not a positive number"),
        ({"embedding_scale": "std"}, "embedding_scale='std' is not a positive number; pass one, or 'deviation'"),
        ({"class_dropout": 1.5}, "class_dropout=1.5 is not a probability"),
        ({"hidden_size": 7}, "pass an even number"),
        ({"embedding_size": 3}, "embedding_size=3 has no quarter"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        config_for(**settings)


def test_log_density_is_that_of_torch():
    mean, std, values = vectors(3, 4), vectors(4, 4)[1:].exp(), vectors(5, 4)[2:]
    expected = torch.distributions.Normal(mean, std).log_prob(values)
    torch.testing.assert_close(Gaussian(mean, std).log_density(values), expected)
    clamped = Gaussian.of(torch.tensor([[9.0, -9.0]]), torch.tensor([[9.0, -9.0]]))
    assert clamped.mean.tolist() == [[5.0, -5.0]]
    torch.testing.assert_close(clamped.std, torch.tensor([[math.exp(2.5), math.exp(-2.5)]]))


def test_published_and_new_settings_share_defaults():
    config = VaeDiffConfig()
    assert (config.latent_size, config.hidden_size, config.num_hidden_layers, config.num_steps) == (384, 256, 6, 50)
    assert DocREConfig.model_type != VaeDiffConfig.model_type
    assert copy.deepcopy(config).num_classes == 1
