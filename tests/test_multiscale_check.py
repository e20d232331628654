"""`check` passes multi-scale models and names what is wrong with chains that are not one."""

import copy
import functools

import pytest
import torch
from multiscale_models import LARGE_FAMILIES, multi, small

import nextpixel as npx
from nextpixel.checks import check
from nextpixel.multiscale import MultiScaleModel
from nextpixel.multiscale_stepping import ChainStepper


class CountsTwice(MultiScaleModel):
    """What the large part says of the small picture stays in the sum."""

    def log_prob_given(self, x, condition):
        parts, small_picture = self.condition_parts(condition, len(x)), self.small_of(x)
        again = self.large.log_prob_given(x, self.large_condition(parts, small_picture))
        each = super().log_prob_given(x, condition).clone()
        self.small_of(each)[:] += self.small_of(again)
        return each


class ForgetsTheFirstTerm(MultiScaleModel):
    """The small picture costs nothing."""

    def log_prob_given(self, x, condition):
        each = super().log_prob_given(x, condition).clone()
        self.small_of(each)[:] = 0
        return each


class DrawsAgain(MultiScaleModel):
    """The stepper asks for the small picture a second time."""

    def stepper(self, n=1, condition=None, size=None):
        class Again(ChainStepper):
            def _copy_small(self):
                pass

        return Again(self, n, condition, size)


class CopiesZeros(MultiScaleModel):
    """The large part steps past the small picture without having seen its values."""

    def stepper(self, n=1, condition=None, size=None):
        class Zeros(ChainStepper):
            def _copy_small(self):
                kept, self.images = self.images, torch.zeros_like(self.images)
                super()._copy_small()
                self.images = kept

        return Zeros(self, n, condition, size)


class Peeks(MultiScaleModel):
    """The map shows the pixel to the right of each small one."""

    def large_condition(self, parts, small_picture):
        return super().large_condition(parts, self.peeked)

    def log_pmf(self, x, condition=None):
        self.peeked = self.small_of(x.roll(-1, 3))
        return super().log_pmf(x, condition)

    def log_prob_given(self, x, condition):
        self.peeked = self.small_of(x.roll(-1, 3))
        return super().log_prob_given(x, condition)


class SmallFromTheOtherPhase(MultiScaleModel):
    """The small part is asked about other pixels than those whose terms it replaces."""

    def small_of(self, x):
        return x.roll((-1, -1), (-2, -1))[..., :: self.scale, :: self.scale]


class Blind(MultiScaleModel):
    """The small picture never reaches the large part as a map."""

    def map_of(self, small_picture):
        return torch.ones_like(super().map_of(small_picture))


class InRasterOrder(MultiScaleModel):
    """The declared order is not the one of the chain."""

    def in_sequence(self, symbols):
        return symbols.movedim(-3, -1).flatten(-3)

    def from_sequence(self, symbols, size):
        return symbols.unflatten(-1, (*size, self.shape[0])).movedim(-1, -3)


class ForkSharesItsPictures(MultiScaleModel):
    """A fork goes on with the first pictures instead of the chosen ones once the large part steps."""

    def stepper(self, n=1, condition=None, size=None):
        class Wrong(ChainStepper):
            def fork(self, indices):
                other = super().fork(indices)
                if self._scale == 1:
                    other._part = self._part.fork(torch.arange(len(indices)) % self.n)
                return other

        return Wrong(self, n, condition, size)


WRONG = {
    CountsTwice: "small pixels counted twice",
    ForgetsTheFirstTerm: "log_prob differs",
    DrawsAgain: "small pixels not copied",
    CopiesZeros: "whole differs from cursor",
    Peeks: "future leak",
    SmallFromTheOtherPhase: "future leak",
    Blind: "condition ignored",
    InRasterOrder: "wrong order",
    ForkSharesItsPictures: "fork differs",
}
"""Wrong chains of right models, and the fault that must be named."""


@functools.cache
def report_on(kind, **options):
    torch.manual_seed(0)
    settings = {"shape": (1, 5, 6), "levels": 3, **small("gated_pixelcnn"), **options}
    right = npx.build_multiscale("gated_pixelcnn", **settings)
    right.__class__ = kind  # so that models like it are made with the same fault
    return check(right, seeds=2)


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_chain_is_rejected_and_its_fault_named(kind):
    report = report_on(kind)
    assert not report.passed
    assert WRONG[kind] in report.faults, str(report)
    assert all(finding.name.startswith("chain: ") for finding in report.findings if not finding.passed), str(report)


def test_every_finding_about_the_chain_fails_for_some_wrong_one():
    findings = [finding for kind in WRONG for finding in report_on(kind).findings]
    failed = {finding.name for finding in findings if not finding.passed}
    assert failed == {finding.name for finding in findings if finding.name.startswith("chain: ")}


def test_counting_twice_sums_to_less_than_one():
    (finding,) = [finding for finding in report_on(CountsTwice).findings if finding.name == "chain: all images"]
    assert finding.fault == "not normalised"
    assert float(finding.detail.split("sum to ")[1].split()[0]) < 1


@pytest.mark.parametrize("family", LARGE_FAMILIES)
def test_right_chains_pass(family):
    report = check(multi(family, shape=(1, 6, 5), levels=2, spread=0), seeds=2)
    assert report.passed, str(report)
    names = [finding.name for finding in report.findings]
    assert {"small: jacobian", "large: jacobian", "large: condition", "chain: all images"} <= set(names)


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (3, 5, 5), "classes": 2, "levels": 2},
        {"shape": (2, 6, 9), "scale": 4, "embedding": "learned"},
        {"shape": (2, 5, 5), "head": "autoregressive_categorical", "head_options": {"features": 4}},
        {"shape": (1, 1, 8), "scale": 8},
        {"shape": (1, 9, 9), "levels": 256, "head": "logistic_mixture", "head_options": {"mixtures": 2}},
        *[{"small_family": name, "classes": 2} for name in npx.families() if name not in LARGE_FAMILIES],
        {"small_family": "diagonal_bilstm"},
    ],
)
def test_other_right_chains_pass(options):
    report = check(multi(**options, spread=0), seeds=2)
    assert report.passed, str(report)


def test_a_fault_in_a_part_is_named_as_that_parts():
    model = multi(shape=(1, 5, 5))
    layer = model.small.network.layers[0]
    layer.left.forward = lambda x, run=None, real=layer.left.forward: real(x, run) + x.mean()
    report = check(model, seeds=2)
    assert not report.passed
    assert any(f.name.startswith("small: ") and not f.passed for f in report.findings)
    assert not any(f.name.startswith("large: ") and not f.passed for f in report.findings)


def test_the_model_and_the_random_state_stay_as_they_are():
    model = multi(shape=(1, 4, 4), classes=2).float().train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    seen = []
    report = check(model, seeds=1, progress=seen.append)
    assert report.passed, str(report)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.small.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {"small: jacobian", "large: jacobian", "chain: log_prob"} <= set(seen)
    assert "multiscale_gated_pixelcnn, 1x4x4, 3 levels, scale 2" in str(report)


def test_a_size_may_be_chosen():
    report = check(multi(shape=(1, 4, 4)), seeds=1, size=(3, 4))
    assert report.passed, str(report)
    assert any("on 3x4" in f.detail for f in report.findings if f.name == "chain: Whole = Cursor")
    assert any("on 2x2" in f.detail for f in report.findings if f.name == "small: Whole = Cursor")
