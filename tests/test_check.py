"""`check` passes what is right, names what is wrong, and leaves the model alone."""

import copy
import functools
import json

import mutants
import mutants_of_later_families  # noqa: F401 - adds to the catalogue
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nextpixel as npx
from nextpixel.causal import Cursor, Layout, UnwrittenError
from nextpixel.checks import Report, check
from nextpixel.heads import AutoregressiveCategorical
from nextpixel.networks import Network, register, unregister

torch.set_num_threads(1)


@functools.cache
def report_on(name: str) -> Report:
    torch.manual_seed(0)
    return check(mutants.MUTANTS[name].build(), seeds=3)


@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_a_wrong_model_is_rejected_and_its_fault_named(name):
    report = report_on(name)
    assert not report.passed
    assert mutants.MUTANTS[name].fault in report.faults, str(report)


def test_a_fault_that_leaves_the_probabilities_alone_is_the_only_one_named():
    alone = [
        "mask_a_in_the_first_blocks_second_convolution",
        "mask_a_in_every_later_horizontal_layer",
        "green_not_given_red",
        "horizontal_stack_shifted_twice",
        "one_row_too_few",
        "one_row_too_many",
        "batch_norm_in_the_horizontal_stack",
        "ring_one_row_too_small",
        "known_rows_not_remembered",
        "loss_at_another_temperature",
        "condition_that_does_nothing",
    ]
    for name in alone:
        assert report_on(name).faults == [mutants.MUTANTS[name].fault]


def test_every_check_fails_for_some_mutant():
    failed = {finding.name for name in mutants.MUTANTS for finding in report_on(name).findings if not finding.passed}
    made = {finding.name for name in mutants.MUTANTS for finding in report_on(name).findings}
    assert failed == made


def test_gates_that_halve_whole_channels_do_not_leak():
    """With a multiple of 3 features the interleaved numbering is another, equally right one for the whole network. Only
    the Cursor goes by the declared numbering."""
    findings = {finding.name: finding for finding in check(mutants.interleaved(features=6), seeds=2).findings}
    assert not findings["Whole = Cursor"].passed
    for name in ("later symbols", "jacobian", "channel order", "all images"):
        assert findings[name].passed


def test_the_residual_is_what_hides_a_second_mask_a():
    """The whole network's Jacobian does not show the mutant: the layer-wise check is needed."""
    findings = {finding.name: finding for finding in report_on("mask_a_in_every_later_horizontal_layer").findings}
    assert findings["channel order"].passed
    assert findings["jacobian"].passed
    assert not findings["mask layers"].passed


def test_a_head_that_forgets_the_earlier_channels():
    class Forgetful(AutoregressiveCategorical):
        def _channel_logits(self, features, channel, earlier):
            return self.logits[channel](torch.relu(features))

    model = mutants.plain(3, levels=3, head="autoregressive_categorical")
    assert check(model, seeds=2).passed
    model.head.__class__ = Forgetful
    assert check(model, seeds=2).faults == ["channel order lost"]


def test_a_loss_that_peeks_at_the_value_of_a_later_channel():
    class Peeks(AutoregressiveCategorical):
        def log_prob(self, features, x):
            values = x.unbind(1)
            given = [[values[-1]] * c for c in range(self.channels)]
            logits = [self._channel_logits(features, c, given[c]) for c in range(self.channels)]
            each = [
                F.log_softmax(one, -1).gather(-1, v[..., None])[..., 0] for one, v in zip(logits, values, strict=True)
            ]
            return torch.stack(each, 1)

    model = mutants.plain(3, levels=2, head="autoregressive_categorical")
    model.head.__class__ = Peeks
    assert "log_prob differs" in check(model, seeds=2).faults


def test_probabilities_that_are_not_numbers():
    model = mutants.gated()
    with torch.no_grad():
        model.network.out[-1].bias.fill_(float("nan"))
    assert "not a number" in check(model, seeds=2).faults


def test_a_network_that_raises_does_not_run():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("no features today")

    model = mutants.gated()
    model.network.layers[1].gate = Broken()
    report = check(model, seeds=2)
    assert report.faults == ["does not run"]
    assert "no features today" in str(report)


@pytest.mark.parametrize("training", [False, True])
def test_model_mode_and_random_state_stay_as_they_are(training):
    model = mutants.gated(classes=2, dropout=0.3).train(training)
    layer = model.network.layers[1]
    layer.mix = mutants.Then(layer.mix, mutants.Norm(layer.mix.outputs.width)).train(training)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with torch.no_grad():
        report = check(model, seeds=2)
        assert not torch.is_grad_enabled()
    assert report.faults == ["train-mode leak"]
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training == training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert next(model.parameters()).dtype == torch.float32


def test_the_same_report_twice_and_a_dict_for_machines():
    model = mutants.gated()
    first, second = check(model, seeds=2), check(model, seeds=2)
    assert first == second
    again = json.loads(json.dumps(first.to_dict()))
    assert again["passed"] is True
    assert [finding["name"] for finding in again["findings"]] == [finding.name for finding in first.findings]
    wrong = report_on("no_shift")
    assert json.loads(json.dumps(wrong.to_dict()))["faults"] == wrong.faults
    assert "FUTURE LEAK" in str(wrong)


def test_progress_says_what_is_done():
    said = []
    names = {finding.name for finding in check(mutants.gated(), seeds=1, size=(3, 4), progress=said.append).findings}
    assert set(said) <= names
    assert len(said) >= 9


def test_half_precision_and_models_of_other_sizes_are_checked_in_double():
    assert check(mutants.gated().bfloat16(), seeds=2).passed
    assert check(mutants.plain(), seeds=2, size=(9, 4)).passed
    assert check(mutants.plain(), seeds=2, size=(1, 6)).passed


def test_a_model_with_trained_looking_weights():
    """Large weights make pmfs of nearly 0 and 1; the check must not mistake rounding for a fault."""
    model = mutants.gated(3, levels=5, dropout=0.2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    report = check(model, seeds=4)
    assert report.passed, str(report)


class FullyVisible(Network):
    """A family of somebody else's: one triangular matrix over all pixels (Frey 1998), made for one size only."""

    look_ahead = 0

    def __init__(self, config, inputs: Layout, outputs: Layout, condition=None):
        super().__init__(config, inputs, outputs, condition)
        pixels = 15
        self.weight = nn.Parameter(torch.randn(pixels, outputs.width, pixels, inputs.width) / pixels)
        self.bias = nn.Parameter(torch.zeros(pixels, outputs.width))
        causal = torch.ones(pixels, pixels).tril(-1 + self.look_ahead)
        self.register_buffer("causal", causal[:, None, :, None], persistent=False)

    def pixels(self, x, contexts, run):
        weight = (self.weight * self.causal).flatten(2)
        if isinstance(run, Cursor):
            place, inputs = run.row * 3 + run.column, self.inputs.width
            ring = run.memory.input
            seen = [ring.block(0, run.row - 1)[:, :, ring.left : ring.left + 3].flatten(1)] if run.row else []
            seen.append(ring.window(run.row, run.column, run.column, 0))
            return torch.cat(seen, 1) @ weight[place, :, : place * inputs].mT + self.bias[place]
        flat = torch.einsum("ni,poi->npo", x.flatten(1), weight) + self.bias
        return flat.unflatten(1, (5, 3))

    def receptive_field(self, height, width, row, column):
        return (torch.arange(height * width) < row * width + column).view(height, width)

    def input_reach(self):
        return (4, 3, 0)


class LooksAhead(FullyVisible):
    look_ahead = 1


@pytest.fixture
def visitors():
    """Two families of a third party."""
    register("fully_visible", summary="", channel_masks=False, full_context=True)(FullyVisible)
    register("looks_ahead", summary="", channel_masks=False, full_context=True)(LooksAhead)
    yield
    unregister("fully_visible")
    unregister("looks_ahead")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_third_partys_family_that_runs_at_one_size_only(visitors, channels):
    options = {"shape": (channels, 5, 3), "levels": 3, "head": "autoregressive_categorical"}
    report = check(npx.build("fully_visible", **options), seeds=4)
    assert report.passed, str(report)
    assert "5x3" in str(report)
    wrong = check(npx.build("looks_ahead", **options), seeds=4)
    assert {"sees itself", "whole differs from cursor"} <= set(wrong.faults)


def test_a_cursor_that_reads_what_is_not_there_yet():
    report = report_on("ring_one_row_too_small")
    assert any(UnwrittenError.__name__ in finding.detail for finding in report.findings)


@pytest.mark.full
@pytest.mark.parametrize("family", npx.families())
def test_a_model_of_the_default_size(family):
    report = check(npx.build(family, shape=(1, 28, 28), levels=2))
    assert report.passed, str(report)
