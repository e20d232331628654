"""Cheaper training steps: recomputation, bfloat16 and torch.compile change what a step costs, not what is learnt."""

import functools
import platform
import resource

import pytest
import torch
from safetensors.torch import load_file

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.tasks import acceleration
from nextpixel.tasks.acceleration import check_bfloat16, keep_freed_memory, recomputing

SMALL = {"layers": 3, "blocks": 2, "scales": 2, "features": 12, "hidden": 8, "heads": 2, "keys": 2, "values": 3}
FAMILIES = npx.families()
IN_BLOCKS = [name for name in FAMILIES if name not in ("made", "nade")]


def small(family, **more):
    options = {name: value for name, value in SMALL.items() if name in FAMILIES[family].options}
    return npx.build(family, shape=(1, 6, 6), levels=4, **options, **more)


def fit(model, data, run, **options):
    return npx.train(model, data, run=run, epochs=2, batch_size=32, device="cpu", progress=False, **options)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_what_a_step_frees_is_not_asked_of_the_system_again():
    def faults():
        """Pages of memory that the system had to find, for 10 arrays of 4096 pages each, one after another."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(4 * 2**20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    faults()
    assert faults() < 1000


# Recomputation


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("family", IN_BLOCKS)
def test_recomputed_gradients_are_the_same_and_take_less_memory(family, conditional):
    declared = FAMILIES[family]
    dropout = {"dropout": 0.5} if "dropout" in declared.options else {}
    classes = {"classes": 3} if conditional and "class" in declared.conditions else {}
    model = small(family, **dropout, **classes).double().train()
    x, label = torch.randint(0, 4, (5, 1, 6, 6)), 2 if classes else None
    gradients, kept = [], []
    for recompute in (False, True):
        sizes = []
        torch.manual_seed(3)  # of the dropout
        with (
            recomputing(model, recompute),
            torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t),
        ):
            loss = model.log_prob(x, label).sum()
        model.zero_grad()
        loss.backward()
        gradients.append([p.grad for p in model.parameters()])
        kept.append(sum(sizes))
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=1e-10)
    assert kept[1] < 0.7 * kept[0]
    assert not model.recompute


def test_a_run_with_recomputation_is_the_same_bit_for_bit(digits, tiny, tmp_path):
    weights = []
    for recompute in (False, True):
        model = fit(tiny(like=digits, dropout=0.5), digits, tmp_path / str(recompute), recompute=recompute)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


# bfloat16


def test_auto_is_a_cuda_gpu_or_the_cpu(monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert acceleration.accelerator("auto") == "cpu"
    assert acceleration.accelerator("mps") == "mps"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert acceleration.accelerator("auto") == "cuda"
    assert acceleration.accelerator("cpu") == "cpu"


def test_bfloat16_is_refused_where_it_would_be_emulated(digits, tiny, run, monkeypatch, assert_sentence):
    monkeypatch.setattr(acceleration, "processor_features", lambda: "flags : fpu avx2 avx512f")
    with pytest.raises(UserError, match="precision at 32") as caught:
        fit(tiny(like=digits), digits, run, precision="bf16")
    assert_sentence(caught)
    assert not run.exists()
    with pytest.raises(UserError, match="not for mps") as caught:
        check_bfloat16("mps")
    assert_sentence(caught)
    for features in ("flags : fpu avx512_bf16", "flags : amx_bf16 amx_tile", "Features : fp asimd bf16 i8mm"):
        monkeypatch.setattr(acceleration, "processor_features", lambda features=features: features)
        check_bfloat16("cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_probabilities_stay_in_32_bits(family):
    """Features may be rounded to bfloat16 (8 bits), log-probabilities of many symbols must not be."""
    model = small(family).eval()
    x = torch.randint(0, 4, (3, 1, 6, 6))
    expected = model.log_prob(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.log_prob(x)
        assert model.log_prob_per_symbol(x).dtype == torch.float32
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.5, rtol=0.01)
    assert not torch.equal(found, expected)  # it was not left out
    found.sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_training_in_bfloat16_saves_32_bits(digits, tiny, run, monkeypatch):
    monkeypatch.setattr(acceleration, "processor_features", lambda: "flags : avx512_bf16")
    before = tiny(like=digits)
    model = fit(tiny(like=digits), digits, run, precision="bf16", learning_rate=1e-2)
    assert npx.evaluate(model, digits.valid).bits_per_dim < npx.evaluate(before, digits.valid).bits_per_dim - 0.05
    assert {tensor.dtype for tensor in load_file(run / "model" / "model.safetensors").values()} == {torch.float32}


# torch.compile


@pytest.fixture
def traced(monkeypatch):
    """torch.compile without its slow half: networks are traced, but run by PyTorch's operations."""
    calls = []

    def compile(function, *args, original=torch.compile, **kwargs):
        calls.append(function)
        return original(function, backend="eager")

    monkeypatch.setattr(torch, "compile", compile)
    return calls


def test_a_compiled_run_is_the_same_run_and_can_be_resumed(digits, tiny, tmp_path, traced):
    plain = fit(tiny(like=digits), digits, tmp_path / "plain")
    assert not traced
    run = tmp_path / "run"
    model = fit(tiny(like=digits), digits, run, compile=True)
    assert len(traced) == 1
    saved = load_file(run / "model" / "model.safetensors")
    assert saved.keys() == plain.state_dict().keys() == model.state_dict().keys()
    (path,) = (run / "checkpoints").glob("step-00000008-*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    assert not any("_orig_mod" in name for name in checkpoint["state_dict"])
    for name, weights in plain.state_dict().items():
        torch.testing.assert_close(saved[name], weights, atol=1e-3, rtol=1e-3)
    resumed = npx.train(
        tiny(like=digits), digits, run=run, resume=True, epochs=2, batch_size=32, device="cpu", progress=False
    )
    assert all(torch.equal(resumed.state_dict()[name], saved[name]) for name in saved)


def test_a_compiler_that_does_not_work_is_told_and_does_without(digits, tiny, tmp_path, monkeypatch):
    plain = fit(tiny(like=digits, dropout=0.5), digits, tmp_path / "plain")

    def compile(function, **kwargs):
        def fails(*args, **kwargs):
            torch.rand(3)  # what was drawn meanwhile must not be missed
            raise RuntimeError("No working C++ compiler found in the path.")

        return functools.wraps(function)(fails)

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.warns(UserWarning, match=r"No working C\+\+ compiler.*goes on without"):
        model = fit(tiny(like=digits, dropout=0.5), digits, tmp_path / "run", compile=True)
    for name, weights in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], weights)
