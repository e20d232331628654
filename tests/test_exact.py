"""Frozen models: the same integers in every schedule, batch, thread count and type of tensor, equal to NumPy's."""

import copy
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from exact_reference import reference_features, reference_masses
from hypothesis import given
from hypothesis import strategies as st

import nextpixel as npx
from nextpixel.coding.frequencies import frequencies, spans
from nextpixel.errors import UserError
from nextpixel.exact import Coded, logistic_mixture
from nextpixel.exact.freezing import frozen
from nextpixel.exact.layers import ExactPixelConv, IntegerWeights, as_matrix, taps
from nextpixel.exact.numbers import FORMS, Formats, rounded, scales, shifted, without_bits
from nextpixel.exact.pointwise import ExactHighway, ExactLinearGate
from nextpixel.exact.tables import Tables
from nextpixel.heads import heads

SMALL = {"features": 5, "kernel": 3, "first_kernel": 5, "layers": 2, "blocks": 1, "out_features": 4}
SIZE = (5, 4)
ARCHIVES = Path(__file__).parent / "archives"
FREEZABLE = [name for name, family in npx.families().items() if family.freezable]
OPTIONS = [
    ("gated_pixelcnn", {"factorised": True}),
    ("local", {"neighbours": 2}),
    ("row_lstm", {"residual": False, "highway": True, "skip": True}),
    ("diagonal_bilstm", {"raw": False, "skip": True}),
    ("pixelcnnpp", {"shortcuts": False, "normalised": False, "scales": 2}),
]


def build(family, head="categorical", channels=1, levels=4, classes=None, size=SIZE, loud=3.0, **options):
    """A tiny model whose weights are large enough that activations saturate here and there."""
    torch.manual_seed(0)
    known = {name: value for name, value in SMALL.items() if name in npx.families()[family].options}
    model = npx.build(
        family, shape=(channels, *size), levels=levels, head=head, classes=classes, **{**known, **options}
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(loud).add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def pictures(model, n, size=SIZE):
    x = torch.randint(model.levels, (n, model.shape[0], *size), generator=torch.Generator().manual_seed(n))
    return x, None if model.classes is None else torch.arange(n) % model.classes


def stepped(exact, x, labels=None):
    decoder, masses = exact.decoder(len(x), labels, tuple(x.shape[2:])), []
    for values in exact.in_sequence(x).unbind(1):
        masses.append(decoder.masses())
        decoder.push(values)
    assert decoder.position is None
    return torch.stack(masses, 1)


def combinations():
    """Every family with every head, channels and classes taking turns; one form, the other under the marker."""
    cases = []
    for place, family in enumerate(FREEZABLE):
        for turn, head in enumerate(heads()):
            for channels in (1, 3):
                if channels > 1 and not (npx.families()[family].channel_masks or heads()[head].orders_channels):
                    continue
                classes = 3 if (place + turn + channels // 2) % 2 else None
                cases.append((family, head, channels, classes, {}))
    cases += [(family, "categorical", 1, 3, options) for family, options in OPTIONS]
    for number, case in enumerate(cases):
        for place, form in enumerate(FORMS):
            marks = () if (number // 2 + place) % 2 == 0 else pytest.mark.full
            yield pytest.param(*case, form, marks=marks)


@pytest.mark.parametrize(("family", "head", "channels", "classes", "options", "form"), list(combinations()))
def test_whole_is_cursor_is_numpy(family, head, channels, classes, options, form):
    model = build(family, head, channels, 2 if head == "bernoulli" else 4, classes, **options)
    exact = npx.freeze(model, form=form)
    x, labels = pictures(model, 2)
    whole = exact.masses(x, labels)
    assert whole.dtype == torch.long
    assert whole.shape == (2, x[0].numel(), exact.levels)
    assert torch.equal(stepped(exact, x, labels), whole)
    if head == "logistic_mixture":
        features = exact.network(exact.embedding(x, exact.like()), exact.embed_condition(labels, 2, SIZE))
        assert np.array_equal(features.long().numpy(), reference_features(exact, x, labels))
    else:
        assert np.array_equal(whole.numpy(), reference_masses(exact, x, labels))
    assert len(torch.unique(whole)) > 2 * exact.levels, "a model that says the same everywhere shows nothing"


@pytest.mark.parametrize("family", FREEZABLE)
def test_batches_and_threads_do_not_matter(family):
    channels = 3 if npx.families()[family].channel_masks else 1
    exact = npx.freeze(build(family, channels=channels, classes=3))
    x, labels = pictures(exact, 16, (3, 4))
    whole = exact.masses(x, labels)
    for n, threads in itertools.product((1, 2, 7, 16), (1, 2)):
        torch.set_num_threads(threads)
        part = slice(16 - n, 16)
        assert torch.equal(exact.masses(x[part], labels[part]), whole[part])
        if threads == 2 or n == 1:
            assert torch.equal(stepped(exact, x[part], labels[part]), whole[part])


@pytest.mark.parametrize("family", FREEZABLE)
def test_every_type_of_tensor_and_library_gives_the_same(family):
    exact = npx.freeze(build(family), form="float32")
    x, _ = pictures(exact, 16, (7, 9))
    whole, identity = exact.masses(x), exact.identity
    assert exact.like().dtype == torch.float32
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(exact.masses(x), whole)
        assert torch.equal(stepped(exact, x[:2]), whole[:2])
    for dtype in (torch.float64, torch.int64):
        wider = copy.deepcopy(exact).hold(dtype)
        assert wider.identity == identity
        assert torch.equal(wider.masses(x), whole)
        assert torch.equal(stepped(wider, x[:2]), whole[:2])
        assert {p.dtype for p in wider.parameters()} == {dtype}
    with pytest.raises(UserError, match="wider"):
        wider.hold(torch.float32)


@pytest.mark.parametrize("orders", [None, ["transpose-flip-y"]])
@pytest.mark.parametrize("family", FREEZABLE)
def test_pictures_are_coded_in_an_order_in_which_they_can_be_decoded(family, orders):
    """By diagonals where the family allows it: the same integers, more of them at a time."""
    channels = 3 if npx.families()[family].channel_masks else 1
    coded = Coded(npx.freeze(build(family, channels=channels, classes=3, orders=orders)))
    x, labels = pictures(coded.model, 4)
    order = coded.coding_order(SIZE)
    count = channels * math.prod(SIZE)
    assert (order is None) == ("wavefront" not in npx.families()[family].schedules)
    order = torch.arange(count) if order is None else order
    assert torch.equal(order.sort().values, torch.arange(count))
    whole = coded.model.masses(x, labels)[:, order]
    values = coded.in_sequence(x)[:, order]
    assert torch.equal(coded.from_sequence(coded.in_sequence(x), SIZE), x)
    for batch in (slice(0, 4), slice(1, 2)):
        steps, found = coded.decoder(len(x[batch]), labels[batch], SIZE), 0
        while found < count:
            masses = steps.masses()
            assert torch.equal(masses.transpose(0, 1), whole[batch, found : found + len(masses)])
            steps.push(values[batch, found : found + len(masses)].T)
            found += len(masses)


@pytest.mark.parametrize("path", sorted(ARCHIVES.glob("frozen-*.npx")), ids=lambda path: path.stem)
def test_kept_archives_decode_for_ever(path):
    """Written by golden_archives.py with the models inside; what they hold is in the package."""
    expected = npx.dataset("digits").test[:150]
    found = npx.decompress(path, batch_size=64)
    assert torch.equal(found.images, expected.images)
    assert found.labels is None or torch.equal(found.labels, expected.labels)
    info = npx.archive_info(path)
    assert info["stored_chunks"] == 0
    assert info["damage"] == []


@pytest.mark.full
def test_a_compiled_network_gives_the_same_integers():
    exact = npx.freeze(build("gated_pixelcnn", classes=3))
    x, labels = pictures(exact, 16)
    given = exact.embedding(x, exact.like()), exact.embed_condition(labels, 16, SIZE)
    assert torch.equal(torch.compile(exact.network)(*given), exact.network(*given))


@pytest.mark.parametrize("family", FREEZABLE)
def test_check_accepts_frozen_models(family):
    channels = 3 if npx.families()[family].channel_masks else 1
    report = npx.check(npx.freeze(build(family, channels=channels, levels=2, classes=3)))
    assert report.passed, str(report)


def test_check_finds_a_decoder_that_computes_something_else(monkeypatch):
    exact = npx.freeze(build("gated_pixelcnn", "logistic_mixture", 3, 256))
    assert npx.check(exact).passed
    step = ExactPixelConv._step
    monkeypatch.setattr(ExactPixelConv, "_step", lambda self, x, run: step(self, x, run) + (run.column == 2) * 4000)
    assert npx.check(exact).faults == ["decoder differs"]
    monkeypatch.undo()
    next(iter(exact.network.parameters())).data[0] += 0.5
    assert "not proved" in npx.check(exact).faults


@pytest.mark.parametrize(("channels", "zoom"), [(1, 1), (3, 1), (3, 16)])
@pytest.mark.parametrize("levels", [2, 7, 256])
def test_compiled_masses_of_mixtures_are_the_same_integers(levels, channels, zoom, monkeypatch):
    head = {"head_options": {"zoom": zoom}}
    exact = npx.freeze(build("gated_pixelcnn", "logistic_mixture", channels, levels, loud=6.0, **head))
    x, _ = pictures(exact, 3)
    masses = exact.masses(x)
    assert int(masses.min()) >= 0
    monkeypatch.setattr(logistic_mixture, "compiled_masses", lambda: None)
    assert torch.equal(exact.masses(x), masses)


@pytest.mark.parametrize(("head", "options"), [*((head, {}) for head in heads()), ("logistic_mixture", {"zoom": 16})])
def test_spans_are_those_of_the_masses(head, options):
    levels = 2 if head == "bernoulli" else 9
    exact = npx.freeze(build("gated_pixelcnn", head, 3, levels, classes=3, head_options=options))
    x, labels = pictures(exact, 3)
    found = torch.cat(list(exact.spans(x, labels)), 1)
    assert torch.equal(found, spans(exact.masses(x, labels), exact.in_sequence(x)))


@pytest.mark.parametrize("family", FREEZABLE)
def test_archives_come_back_in_other_batches_threads_and_types(family):
    exact = npx.freeze(build(family, classes=3))
    x, labels = pictures(exact, 200)
    torch.set_num_threads(1)
    archive = npx.compress(exact, x, labels=labels, batch_size=50, chunk_bytes=60, verify=False)
    assert npx.archive_info(archive)["chunks"] > 1
    torch.set_num_threads(2)
    with torch.backends.mkldnn.flags(enabled=False):
        found = npx.decompress(archive, copy.deepcopy(exact).hold(torch.float64), batch_size=7)
    assert torch.equal(found.images, x)
    assert torch.equal(found.labels, labels)


@pytest.mark.parametrize("family", FREEZABLE)
def test_prefill_and_forks_go_on_with_the_same_integers(family):
    exact = npx.freeze(build(family))
    x, _ = pictures(exact, 2)
    decoder = exact.decoder(2)
    decoder.prefill(x[:, :, :3])
    decoder = decoder.fork([1, 0, 1])
    twins, rest = x[[1, 0, 1]], []
    for values in exact.in_sequence(twins)[:, 3 * SIZE[1] :].unbind(1):
        rest.append(decoder.masses())
        decoder.push(values)
    assert torch.equal(torch.stack(rest, 1), exact.masses(twins)[:, 3 * SIZE[1] :])


def test_the_integers_are_near_the_trained_model():
    for family, head in itertools.product(FREEZABLE, ("categorical", "logistic_mixture")):
        model = build(family, head, levels=16, loud=1.0)
        x, _ = pictures(model, 4)
        true = model.double().log_prob_per_symbol(x)
        for form, most in (("float32", 0.05), ("float64", 0.003)):
            assert (npx.freeze(model.float(), form=form).log_prob_per_symbol(x) - true).abs().max() < most
            model.double()


@pytest.mark.parametrize("family", FREEZABLE)
def test_later_symbols_change_nothing(family):
    exact = npx.freeze(build(family))
    x, _ = pictures(exact, 1)
    whole, sequence = exact.masses(x), exact.in_sequence(x)
    for place in range(sequence.shape[1]):
        changed = sequence.clone()
        changed[:, place] = (changed[:, place] + 1) % exact.levels
        after = exact.masses(exact.from_sequence(changed, SIZE))
        assert torch.equal(after[:, : place + 1], whole[:, : place + 1])


@pytest.mark.parametrize("family", FREEZABLE)
def test_the_probabilities_of_all_small_pictures_sum_to_one(family):
    exact = npx.freeze(build(family, "bernoulli", levels=2))
    every = torch.tensor(list(itertools.product((0, 1), repeat=6))).view(-1, 1, 2, 3)
    counts = frequencies(exact.masses(every)) + 1
    assert (counts.sum(-1) == 2**24).all()
    chosen = counts.gather(-1, exact.in_sequence(every)[..., None])[..., 0]
    assert sum(math.prod(row) for row in chosen.tolist()) == 2 ** (24 * 6)
    assert exact.log_prob(every).exp().sum() == pytest.approx(1, abs=1e-12)


def test_a_stepper_samples_and_evaluates_from_the_integers(digits):
    model = build("gated_pixelcnn", levels=17, size=(8, 8))
    exact = npx.freeze(model, digits.valid)
    assert exact.card["freezing"]["images"] == len(digits.valid)
    result = npx.evaluate(exact, digits.test)
    masses = exact.masses(digits.test.images)
    coded = (frequencies(masses) + 1).gather(-1, exact.in_sequence(digits.test.images).long()[..., None])
    assert result.bits_per_dim == pytest.approx(float((24 - torch.log2(coded.double())).mean()), rel=1e-12)
    assert npx.sample(exact, n=2, seed=0).shape == (2, 1, 8, 8)


# The formats


@given(st.integers(-(2**23), 2**23), st.integers(0, 12), st.sampled_from([torch.float32, torch.float64, torch.int64]))
def test_leaving_off_bits_is_the_same_in_every_type(value, bits, dtype):
    x = torch.tensor([value]).to(dtype)
    assert shifted(x.clone(), scales(torch.tensor([bits]), x)).item() == value >> bits
    half = 1 << bits >> 1
    assert without_bits(x, bits).item() == (value + half) >> bits


def test_rounding_is_to_the_nearest_and_halves_go_up():
    x = torch.tensor([-1.5, -0.5, 0.5, 2.5, 0.49, -0.51])
    assert rounded(x, 0).tolist() == [-1, 0, 1, 3, 0, -1]
    assert rounded(torch.tensor([[0.3], [0.3]]), torch.tensor([1, 4])).tolist() == [[1], [5]]


@pytest.mark.parametrize(("height", "width", "features"), [(1, 1, 3), (2, 3, 4), (3, 1, 2), (1, 4, 5)])
def test_gathered_products_are_convolutions(height, width, features):
    x = torch.randn(2, 6, 5, features, dtype=torch.float64)
    kernel = torch.randn(7, features, height, width, dtype=torch.float64)
    wanted = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), kernel).permute(0, 2, 3, 1)
    got = taps(x, height, width) @ as_matrix(kernel)
    assert torch.allclose(got.view(wanted.shape), wanted)
    crop = torch.nn.functional.pad(x, (0, 0, 1, 1, 1, 1))[:, 1:-1, 1:-1]  # not contiguous
    assert torch.equal(taps(crop, height, width), taps(x, height, width))


# The proof


def test_no_sum_is_larger_than_was_proved():
    exact = npx.freeze(build("gated_pixelcnn", channels=3, classes=3), form="float32")
    seen = {}

    def watch(module, inputs, output):
        x = inputs[0] if module.drop == 0 else without_bits(inputs[0], module.drop)
        seen[module] = (x.flatten(0, -2).abs().amax(0), module)

    layers = [module for module in exact.modules() if isinstance(module, IntegerWeights)]
    for module in layers:
        module.register_forward_hook(watch)
    exact.masses(*pictures(exact, 16))
    assert len(seen) == len(layers)
    for largest, module in seen.values():
        assert (largest <= torch.tensor(module.input_bounds)).all()


def test_what_a_gate_lets_through_is_within_its_bound():
    """An odd number may be rounded up by the bits that are left off before it is multiplied."""
    formats = FORMS["float32"]
    tables, gates = Tables(formats), torch.tensor([-20000.0, -3.0, 0.0, 700.0, 20000.0])
    for bound in (1.0, 6.0, 7.0, 8191.0, float(formats.limit)):
        content = torch.tensor([-bound, bound - 1, bound])
        x, gate = (part.flatten()[:, None] for part in torch.meshgrid(content, gates, indexing="ij"))
        most = torch.full((1, 1), bound, dtype=torch.float64)
        linear, highway = ExactLinearGate(formats, tables), ExactHighway(formats, tables)
        through = linear(torch.cat([x, gate], 1)).abs().max()
        assert bound <= through <= linear.bound(most.expand(1, 2)) <= formats.limit
        for old in (x, -x):
            assert highway(gate, x, old).abs().max() <= highway.bound(most, most, most) <= formats.limit


@pytest.mark.parametrize("family", FREEZABLE)
def test_weights_that_are_too_large_are_refused(family, assert_sentence):
    model = build(family)
    with torch.no_grad():
        next(iter(model.network.parameters())).fill_(1e9)
        for parameter in model.network.parameters():
            parameter.mul_(1e7)
    with pytest.raises(UserError, match="float32 form") as error:
        npx.freeze(model, form="float32")
    assert "network." in str(error.value)
    assert_sentence(error)


def test_auto_takes_float64_where_float32_cannot_be_proved_or_costs_too_much(digits, monkeypatch):
    model = build("gated_pixelcnn", levels=17, size=(8, 8), loud=1.0)
    assert npx.freeze(model).formats.form == "float32"
    assert npx.freeze(model, digits.valid).formats.form == "float32"
    monkeypatch.setattr("nextpixel.exact.freezing.TOLERATED", -100.0)
    assert npx.freeze(model, digits.valid).formats.form == "float64"
    with torch.no_grad():
        model.network.layers[0].left.before.fill_(3e4)
    assert npx.freeze(model).formats.form == "float64"


@pytest.mark.parametrize("damage", ["weight", "fraction", "table", "shift"])
def test_integers_that_cannot_be_proved_are_not_loaded(tmp_path, damage, assert_sentence):
    exact = npx.freeze(build("gated_pixelcnn"), form="float32")
    layer = exact.network.layers[1].left
    with torch.no_grad():
        if damage == "weight":
            layer.centre.fill_(2**15)
        elif damage == "table":
            exact.tables.functions.fill_(2**12)
        elif damage == "shift":
            layer.shift.fill_(-1)
        else:
            layer.centre[0, 0] = 0.5
            exact.stored = exact.state_dict  # saved as it is
    exact.save_pretrained(tmp_path)
    with pytest.raises(UserError) as error:
        npx.load(tmp_path)
    assert_sentence(error)


@pytest.mark.parametrize("name", ["edges", "logistic", "sharpness", "centres"])
def test_tables_of_mixtures_that_could_make_a_mass_negative_are_not_loaded(tmp_path, name, assert_sentence):
    exact = npx.freeze(build("pixelcnn", head="logistic_mixture"))
    table = exact.head.get_buffer(name)
    table[1] = 2**40 if name == "centres" else table[0] - 1 if name != "sharpness" else -1
    exact.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="table") as error:
        npx.load(tmp_path)
    assert_sentence(error)


def test_a_table_of_masses_that_could_add_up_to_too_much_is_not_loaded():
    exact = npx.freeze(build("pixelcnn", levels=300))
    exact.tables.mass[1] = 2**23
    with pytest.raises(UserError, match="table"):
        exact.prove()


# The self-test


def by_bfloat16(addmm):
    def wrong(sums, x, weight, **more):
        if x.dtype == torch.float32:
            x, weight = x.bfloat16().float(), weight.bfloat16().float()
        return addmm(sums, x, weight, **more)

    return wrong


def with_tf32(addmm):
    """Inputs of 10 bits after the leading one, as TF32 has."""

    def cut(x):
        return (x.view(torch.int32) + 0x1000).bitwise_and(~0x1FFF).view(torch.float32)

    def wrong(sums, x, weight, **more):
        if x.dtype == torch.float32:
            x, weight = cut(x.contiguous()), cut(weight.contiguous())
        return addmm(sums, x, weight, **more)

    return wrong


def never_exact(addmm):
    return lambda sums, x, weight, **more: addmm(sums, x, weight, **more).add_(1)


@pytest.mark.parametrize(("wrong", "ends"), [(by_bfloat16, torch.float64), (with_tf32, torch.float64)])
def test_products_that_are_nearly_right_are_found_and_avoided(monkeypatch, wrong, ends):
    exact = npx.freeze(build("gated_pixelcnn"), form="float32")
    x, _ = pictures(exact, 3)
    whole = exact.masses(x)
    monkeypatch.setattr(torch, "addmm", wrong(torch.addmm))
    assert torch.equal(exact.masses(x), whole)
    assert exact.like().dtype == ends
    assert torch.equal(stepped(exact, x), whole)


def test_nothing_is_computed_where_no_product_is_exact(monkeypatch, assert_sentence):
    exact = npx.freeze(build("gated_pixelcnn"))
    monkeypatch.setattr(torch, "addmm", never_exact(torch.addmm))
    for ask in (lambda: exact.masses(pictures(exact, 1)[0]), lambda: exact.decoder(1)):
        with pytest.raises(UserError, match="not exact") as error:
            ask()
    assert_sentence(error)


def test_autocast_does_not_reach_the_integers():
    exact = npx.freeze(build("gated_pixelcnn"), form="float32")
    x, _ = pictures(exact, 3)
    whole = exact.masses(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(exact.masses(x), whole)


PRECISION_WAS_NAMED = """
import sys, torch, nextpixel as npx
exact = npx.load(sys.argv[1])
x = torch.zeros(1, *exact.shape, dtype=torch.uint8)
wanted = exact.masses(x)
torch.backends.mkldnn.matmul.fp32_precision = "bf16"
torch.backends.cuda.matmul.fp32_precision = "tf32"
assert torch.equal(exact.masses(x), wanted)
"""


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="this PyTorch has the older names only")
def test_precisions_may_be_set_under_their_newer_names(tmp_path):
    """PyTorch then refuses to be asked under the older ones, and does not forget: so in a process of its own."""
    npx.freeze(build("gated_pixelcnn"), form="float32").save_pretrained(tmp_path)
    command = [sys.executable, "-c", PRECISION_WAS_NAMED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Saving


@pytest.mark.parametrize("family", FREEZABLE)
@pytest.mark.parametrize("form", FORMS)
def test_saved_models_give_the_same_integers(tmp_path, family, form):
    exact = npx.freeze(build(family, "logistic_mixture", classes=3, orders=["flip-x"]), form=form)
    exact.save_pretrained(tmp_path)
    loaded = npx.load(tmp_path)
    assert isinstance(loaded, npx.ExactModel)
    assert loaded.identity == exact.identity
    assert loaded.arithmetic == exact.arithmetic == {"float32": 1, "float64": 2}[form]
    x, labels = pictures(exact, 3)
    assert torch.equal(loaded.masses(x, labels), exact.masses(x, labels))
    assert torch.equal(stepped(loaded, x, labels), exact.masses(x, labels))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"] == "exact"
    assert config["order"] == "flip-x"


def test_any_integer_that_changes_changes_the_identity():
    exact = npx.freeze(build("diagonal_bilstm", "autoregressive_categorical", channels=3, classes=2))
    identity = exact.identity
    names = [name for name, tensor in exact.state_dict().items() if name != "class_prior" and tensor.numel()]
    assert len(names) > 30
    for name in names:
        tensor = exact.state_dict()[name].flatten()
        with torch.no_grad():
            tensor[-1:] += 1
            assert exact.identity != identity, name
            tensor[-1:] -= 1
    assert exact.identity == identity
    assert frozen(build("pixelcnn"), FORMS["float32"]).identity != frozen(build("pixelcnn"), FORMS["float64"]).identity


def test_a_model_has_one_identity_saved_or_not(tmp_path):
    model = build("gated_pixelcnn", classes=3)
    model.save_pretrained(tmp_path)
    assert npx.freeze(npx.load(tmp_path)).identity == npx.freeze(model).identity
    exact = npx.freeze(model)
    exact.set_class_prior(torch.tensor([0.5, 0.25, 0.25]))  # decides no integer of a picture
    assert exact.identity == npx.freeze(model).identity
    exact.save_pretrained(tmp_path)
    assert npx.load(tmp_path).log_class_prior().exp().tolist() == [0.5, 0.25, 0.25]


def test_tables_are_loaded_not_made_again(tmp_path, monkeypatch):
    exact = npx.freeze(build("gated_pixelcnn"))
    exact.save_pretrained(tmp_path)
    monkeypatch.setitem(
        __import__("nextpixel.exact.tables", fromlist=["FUNCTIONS"]).FUNCTIONS, "tanh", torch.zeros_like
    )
    assert npx.load(tmp_path).identity == exact.identity


# Orders, and what is refused


def test_a_chosen_order_of_several_is_frozen():
    model = build("gated_pixelcnn", classes=2, orders=["raster", "transpose-flip-x"])
    x, labels = pictures(model, 3)
    for name in model.order_names:
        exact = npx.freeze(model.in_order(name), form="float64")
        assert exact.order.name == name
        assert torch.equal(stepped(exact, x, labels), exact.masses(x, labels))
        true = model.in_order(name).log_prob_per_symbol(x, labels)
        assert (exact.log_prob_per_symbol(x, labels) - true).abs().max() < 0.01


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (lambda: npx.build("made", shape=(1, 3, 3), levels=2), "made"),
        (lambda: npx.build("nade", shape=(1, 3, 3), levels=2), "nade"),
        (lambda: npx.build("pixelsnail", shape=(1, 3, 3), levels=2), "pixelsnail"),
        (lambda: npx.build_multiscale("gated_pixelcnn", shape=(1, 4, 4), levels=2), "multiscale"),
        (lambda: npx.build("gated_pixelcnn", shape=(1, 3, 3), levels=2, vector=2), "vector"),
        (lambda: npx.build("gated_pixelcnn", shape=(1, 3, 3), levels=2, map_shape=(1, 3, 3)), "map"),
        (lambda: npx.build("gated_pixelcnn", shape=(1, 3, 3), levels=2, orders=2), "choose one"),
        (lambda: npx.freeze(npx.build("pixelcnn", shape=(1, 3, 3), levels=2)), "already"),
    ],
)
def test_what_cannot_be_frozen_is_refused_by_name(model, word, assert_sentence):
    with pytest.raises(UserError, match=word) as error:
        npx.freeze(model())
    assert_sentence(error)


def test_mistakes_are_answered_with_a_sentence(assert_sentence):
    model = build("gated_pixelcnn", classes=3)
    exact = npx.freeze(model)
    x, _ = pictures(exact, 2)
    for mistake in (
        lambda: npx.freeze(model, form="int8"),
        lambda: npx.freeze("model"),
        lambda: npx.freeze(model, x),
        lambda: npx.freeze(model, npx.Split(x[:0], None, exact.levels, "none", "")),
        lambda: exact.masses(x),
        lambda: exact.masses(x, torch.tensor([0, 3])),
        lambda: exact.decoder(2),
        lambda: exact.hold(torch.float16),
        lambda: exact.initialise_from_data(x),
        lambda: exact.train().masses(x, 0),
        lambda: Formats("float32", 20, 8, 10),
        lambda: npx.ExactModel({**exact.made_with()["source"]}, {"form": "float32"}),
    ):
        with pytest.raises(UserError) as error:
            mistake()
        assert_sentence(error)
    assert npx.freeze(model).masses(x, 0).shape[0] == 2


def changed(model, tmp_path, formats, tensors):
    """A frozen model as it would be read from a file in which somebody changed this."""
    model.save_pretrained(tmp_path / "frozen")
    config = json.loads((tmp_path / "frozen/config.json").read_text())
    config["formats"] |= formats
    (tmp_path / "frozen/config.json").write_text(json.dumps(config))
    path = tmp_path / "frozen/model.safetensors"
    safetensors.torch.save_file(tensors(safetensors.torch.load_file(path)), path, {"format": "pt"})
    return npx.load(tmp_path / "frozen")


def test_means_too_wide_for_the_mixture_are_not_proved(tmp_path):
    """All weights are zero, so that nothing else could be too large."""
    frozen = npx.freeze(build("local", levels=17, head="logistic_mixture"), form="float64")

    def without_weights(tensors):
        kept = ("head.", "tables.", "embedding.")
        return {name: t if name.startswith(kept) else torch.zeros_like(t) for name, t in tensors.items()}

    assert changed(frozen, tmp_path, {}, without_weights).masses(pictures(frozen, 2)[0]).min() >= 0
    with pytest.raises(UserError, match="too wide for its mixture"):
        changed(frozen, tmp_path, {"reach": 30}, without_weights)


def test_bits_left_off_by_a_layer_of_mask_a_are_not_proved(tmp_path):
    """Its two schedules would give different integers."""
    frozen = npx.freeze(build("pixelcnn"))
    first = next(name for name, layer in frozen.named_modules() if getattr(layer, "mask", None) == "A")
    with pytest.raises(UserError, match="mask A"):
        changed(frozen, tmp_path, {"drops": {first: 4}}, lambda tensors: tensors)


def test_more_classes_than_can_be_coded_are_refused():
    with pytest.raises(UserError, match="65537 classes cannot be frozen"):
        npx.freeze(build("pixelcnn", classes=65537))
