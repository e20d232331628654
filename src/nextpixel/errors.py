"""The one error that users are meant to read, and warnings that they must not miss."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable
from numbers import Integral


class UserError(ValueError):
    """A mistake of the caller's that one sentence can explain: what is wrong, and what to do."""


def warn(sentence: str) -> None:
    """A warning that is shown also where others are silenced, as during training."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(sentence, stacklevel=3)


def check_count(n: object) -> int:
    """How many pictures, 0 or more; UserError for what is no such number."""
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 0:
        raise UserError(f"The number of pictures must be a whole number and not negative, not {n!r}.")
    return int(n)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" with the known name nearest to ``name``, or "" if none is near."""
    if not name:
        return ""
    options = sorted(known)
    by_lower = {option.lower(): option for option in options}
    scores = {lower: _likeness(name.lower(), lower) for lower in by_lower}
    near = max(scores, key=lambda lower: scores[lower], default="")
    return f" Did you mean '{by_lower[near]}'?" if scores.get(near, 0) >= 0.6 else ""


def _likeness(given: str, known: str) -> float:
    """0..1; a misspelt beginning of a long name counts as near too."""
    whole, start = (difflib.SequenceMatcher(None, given, part).ratio() for part in (known, known[: len(given)]))
    return max(whole, start - 0.01)
