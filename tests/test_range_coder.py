"""Frequencies from masses against arithmetic in fractions; the two range coders against each other, word for word."""

from fractions import Fraction
from importlib.util import find_spec
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpixel.coding import coders
from nextpixel.coding.coders import coder_kind, decoder, encoder
from nextpixel.coding.frequencies import MOST_MASS, MOST_VALUES, TOTAL, bits, frequencies, intervals
from nextpixel.coding.range_coder import InvalidWordsError, PythonDecoder, PythonEncoder
from nextpixel.errors import UserError

SIZES = [2, 3, 5, 16, 256]
native = pytest.mark.skipif(find_spec("constriction") is None, reason="there is no wheel of constriction here")
KINDS = ["python", pytest.param("constriction", marks=native)]


@st.composite
def mass_rows(draw, values):
    """One row of masses: even, sharp, all on one value, or anything."""
    kind = draw(st.sampled_from(["any", "one", "sharp", "sparse"]))
    if kind == "one":
        row = [0] * values
        row[draw(st.integers(0, values - 1))] = draw(st.sampled_from([1, 7, MOST_MASS]))
        return row
    if kind == "sparse":
        row = [0] * values
        for _ in range(3):
            row[draw(st.integers(0, values - 1))] += draw(st.integers(1, 1000))
        return row
    if kind == "sharp":
        row = [1] * values
        row[draw(st.integers(0, values - 1))] = 1 << 28
        return row
    top = draw(st.sampled_from([1, 100, MOST_MASS // values]))
    seed = draw(st.integers(0, 2**32 - 1))
    row = np.random.default_rng(seed).integers(0, top, values, endpoint=True).tolist()
    row[0] += sum(row) == 0
    return row


@st.composite
def coded_symbols(draw, sizes=tuple(SIZES)):
    values = draw(st.sampled_from(sizes))
    rows = draw(st.lists(mass_rows(values), min_size=0, max_size=40))
    symbols = [draw(st.integers(0, values - 1)) for _ in rows]
    likely = draw(st.booleans())
    masses = torch.tensor(rows, dtype=torch.long).reshape(len(rows), values)
    chosen = masses.argmax(1) if likely and rows else torch.tensor(symbols, dtype=torch.long)
    return masses, chosen


@given(st.sampled_from(SIZES).flatmap(mass_rows))
def test_frequencies_are_the_formula_in_whole_numbers(row):
    values, total = len(row), sum(row)
    ends = [int(Fraction(c * (TOTAL - values), total).__floor__()) for c in accumulate(row)]
    wanted = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    found = frequencies(torch.tensor(row))
    assert found.tolist() == wanted
    assert int(found.sum()) == TOTAL - values
    assert int(found.min()) >= 0


def test_frequencies_at_the_limit_of_values():
    masses = torch.zeros(2, MOST_VALUES, dtype=torch.long)
    masses[0, -1], masses[1] = MOST_MASS, MOST_MASS // MOST_VALUES
    found = frequencies(masses)
    assert found[0].tolist() == [0] * (MOST_VALUES - 1) + [TOTAL - MOST_VALUES]
    assert set(found[1].tolist()) == {TOTAL // MOST_VALUES - 1}  # 2^24 / 2^16 even shares, one of each being the floor
    assert float(bits(found[1] + 1).max()) == 16.0


@given(coded_symbols())
def test_intervals_are_those_of_the_frequencies(case):
    masses, symbols = case
    left, size = intervals(masses, symbols)
    widths = frequencies(masses) + 1
    for row, symbol, start, width in zip(widths.tolist(), symbols.tolist(), left.tolist(), size.tolist(), strict=True):
        assert (start, width) == (sum(row[:symbol]), row[symbol])


@pytest.mark.parametrize(
    "masses",
    [
        torch.tensor([0, 0]),
        torch.tensor([-1, 5]),
        torch.tensor([MOST_MASS, 1]),
        torch.tensor([2**62, 2**62, 2**62, 2**62]),  # their sum wraps around to 0
        torch.tensor([1]),
        torch.ones(MOST_VALUES + 1, dtype=torch.long),
        torch.tensor([0.5, 0.5]),
        torch.tensor([1, 1], dtype=torch.int32),
    ],
)
def test_masses_that_no_model_may_give_are_refused(masses):
    with pytest.raises(ValueError, match="masses must"):
        frequencies(masses)


@native
@settings(deadline=None, max_examples=150)
@given(coded_symbols())
def test_both_coders_write_the_same_words_and_read_them(case):
    masses, symbols = case
    left, size = (part.numpy() for part in intervals(masses, symbols))
    widths, wanted = frequencies(masses).numpy(), symbols.numpy()
    words = []
    for kind in ("python", "constriction"):
        coder = encoder(kind)
        half = len(left) // 2  # in two calls: where they are cut must not show
        coder.encode(left[:half], size[:half], masses.shape[1])
        coder.encode(left[half:], size[half:], masses.shape[1])
        words.append(coder.words())
    assert np.array_equal(words[0], words[1])
    for kind in ("python", "constriction"):
        coder = decoder(words[0], kind)
        read = [coder.decode(widths[: len(widths) // 3]), coder.decode(widths[len(widths) // 3 :])]
        assert np.array_equal(np.concatenate(read), wanted)


@native
@pytest.mark.parametrize("values", [*SIZES, 1000])
def test_three_parts_give_the_words_of_the_whole_distribution(values):
    """constriction told each symbol's interval, against constriction told all its frequencies."""
    import constriction

    rng = np.random.default_rng(values)
    masses = torch.from_numpy(rng.integers(0, 100, (500, values)) ** 3 + 1)
    symbols = torch.from_numpy(rng.integers(0, values, 500))
    symbols[:2] = torch.tensor([0, values - 1])  # the two that have neighbours on one side only
    whole = constriction.stream.queue.RangeEncoder()
    family = constriction.stream.model.Categorical(perfect=False)
    whole.encode(symbols.numpy().astype(np.int32), family, frequencies(masses).numpy().astype(np.float32))
    parts = coders.NativeEncoder()
    parts.encode(*(part.numpy() for part in intervals(masses, symbols)), values)
    assert np.array_equal(whole.get_compressed(), parts.words())


@native
def test_a_carry_goes_through_words_that_are_full():
    """Symbols at the very top of the interval fill words with ones; the last one may carry through all of them."""
    values = 3
    masses = torch.tensor([[1, 1, 1 << 30]] * 300)
    for last in range(values):
        for count in range(1, 300, 13):
            symbols = torch.full((count,), 2)
            symbols[-1] = last
            left, size = (part.numpy() for part in intervals(masses[:count], symbols))
            coders_of_both = [encoder("python"), encoder("constriction")]
            for coder in coders_of_both:
                coder.encode(left, size, values)
            first, second = (coder.words() for coder in coders_of_both)
            assert np.array_equal(first, second)
            assert np.array_equal(decoder(first, "python").decode(frequencies(masses[:count]).numpy()), symbols.numpy())


def test_the_words_cost_what_the_frequencies_say():
    masses = torch.from_numpy(np.random.default_rng(0).integers(1, 100, (20000, 5)))
    symbols = masses.argmax(1)
    left, size = intervals(masses, symbols)
    coder = PythonEncoder()
    coder.encode(left.numpy(), size.numpy(), 5)
    spent = 32 * len(coder.words())
    wanted = float(bits(size).sum())
    assert wanted - 1 < spent < wanted + 64


@native
def test_no_symbols_are_no_words():
    assert len(encoder("python").words()) == len(encoder("constriction").words()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_symbols(kind):
    rng = np.random.default_rng(0)
    masses = torch.from_numpy(rng.integers(0, 50, (100_000, 4)) ** 4 + 1)
    symbols = torch.from_numpy(rng.integers(0, 4, 100_000))
    left, size = (part.numpy() for part in intervals(masses, symbols))
    coder = encoder(kind)
    coder.encode(left, size, 4)
    assert np.array_equal(decoder(coder.words(), kind).decode(frequencies(masses).numpy()), symbols.numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_words_that_no_encoder_writes_are_noticed(kind):
    """The very last of 2^64 points lies above 2^24 equal shares of the rounded scale."""
    words = np.full(4, 2**32 - 1, np.uint32)
    coder = decoder(words, kind)
    with pytest.raises(InvalidWordsError):
        coder.decode(np.array([[TOTAL // 2 - 1, TOTAL // 2 - 1]]))


def test_words_beyond_the_end_are_zero():
    row = np.array([[3, TOTAL - 5]])
    padded = PythonDecoder(np.array([7, 0, 0, 0, 0], np.uint32)).decode(row.repeat(40, 0))
    assert np.array_equal(PythonDecoder(np.array([7], np.uint32)).decode(row.repeat(40, 0)), padded)


@native
def test_which_coder_is_used(monkeypatch, assert_sentence):
    monkeypatch.delenv(coders.VARIABLE, raising=False)
    assert coder_kind() == "constriction"
    assert coder_kind("python") == "python"
    monkeypatch.setenv(coders.VARIABLE, "python")
    assert coder_kind() == "python"
    assert isinstance(encoder(), PythonEncoder)
    monkeypatch.setenv(coders.VARIABLE, "zip")
    with pytest.raises(UserError, match="must be constriction or python") as error:
        coder_kind()
    assert_sentence(error)


def test_without_constriction_the_python_coder_takes_over(monkeypatch, assert_sentence):
    monkeypatch.delenv(coders.VARIABLE, raising=False)
    monkeypatch.setattr(coders, "_constriction", lambda: None)
    assert coder_kind() == "python"
    with pytest.raises(UserError, match="not installed") as error:
        coder_kind("constriction")
    assert_sentence(error)
