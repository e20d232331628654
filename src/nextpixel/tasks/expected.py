"""What a recipe is expected to give, as it was measured once, and whether a training of it agrees with that."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from nextpixel.errors import UserError

WITHIN = 2.0  # standard errors of the expected figure; the test images are the same, so this is generous
SAME = 1e-6  # bits/dim: curves in recipes are written with six decimals
UNKNOWN = "not measured"
_TEST = ("bits_per_dim", "stderr", "nats", "nats_stderr")


@dataclasses.dataclass(frozen=True)
class Expected:
    """Figures of a finished training.

    valid: bits/dim of the validation images that the recipe looks at, by step; test: of the whole test part, the keys
    bits_per_dim, stderr, nats, nats_stderr (standard errors over the images); both may be empty. cpu_minutes and
    gpu_minutes: what the training took, None where nobody measured it; hardware: on what; command: what made the
    figures; test_sha256: how the hash of the test images (`Split.sha256`) begins; note: what else one must know.
    """

    valid: dict[int, float]
    test: dict[str, float]
    seed: int
    hardware: str
    command: str
    cpu_minutes: float | None = None
    gpu_minutes: float | None = None
    test_sha256: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(self).items() if value not in (None, "", {})}

    @property
    def cost(self) -> str:
        """In words."""
        parts = [(self.cpu_minutes, "CPU"), (self.gpu_minutes, "GPU")]
        said = [f"{minutes:.{1 if minutes < 10 else 0}f} {kind} minutes" for minutes, kind in parts if minutes]
        return " and ".join(said) or UNKNOWN


def expected_from(values: Any, where: str) -> Expected | None:
    """The part `expected` of a recipe, or of a run's config.yaml; None where there is none.
    UserError if it is damaged."""
    if values is None:
        return None
    why = _fault(values)
    if why:
        raise UserError(f"The part 'expected' of {where} is damaged: {why}.")
    return Expected(**{"valid": {}, "test": {}, **values})


def _fault(values: Any) -> str:
    """What is wrong with the content of `expected`; "" if nothing is."""
    known = [field.name for field in dataclasses.fields(Expected)]
    if not isinstance(values, dict) or not {"seed", "hardware", "command"} <= values.keys() <= set(known):
        return f"it must have seed, hardware and command, and of {', '.join(known)} what is known"
    valid, test = values.get("valid", {}), values.get("test", {})
    if not isinstance(valid, dict) or not isinstance(test, dict) or set(test) not in (set(), set(_TEST)):
        return f"valid must be bits/dim by step, and test must have {', '.join(_TEST)}"
    numbers = [*valid.values(), *test.values(), *(values.get(f"{kind}_minutes", 1.0) for kind in ("cpu", "gpu"))]
    if not all(isinstance(x, float | int) and math.isfinite(x) and x > 0 for x in numbers):
        return "its figures must be positive, finite numbers"
    steps = list(valid)
    if not all(isinstance(step, int) and step > 0 for step in steps) or steps != sorted(steps):
        return "the steps of valid must be whole numbers that grow"
    words = [values.get(name, "") for name in ("hardware", "command", "note", "test_sha256")]
    if not all(isinstance(word, str) for word in words) or not isinstance(values["seed"], int):
        return "seed must be a number, and hardware, command, note and test_sha256 text"
    return ""


def compare_curve(expected: Expected | None, measured: Mapping[int, float]) -> str:
    """One sentence on the validation figures at the steps that both have; "" if there is none."""
    both = (
        {}
        if expected is None
        else {step: measured[step] - expected.valid[step] for step in expected.valid.keys() & measured}
    )
    if not both:
        return ""
    step = max(both, key=lambda step: (abs(both[step]), -step))
    if abs(both[step]) <= SAME:
        return (
            f"The validation curve is the expected one, to a millionth of a bit/dim at all {len(both)} steps of both."
        )
    return (
        f"The validation curve is at most {abs(both[step]):.4f} bits/dim from the expected one (at step {step:,}, of "
        f"the {len(both)} of both)."
    )


def compare_test(expected: Expected | None, test: Mapping[str, Any]) -> tuple[bool | None, str]:
    """Whether the figures of the test part (the keys bits_per_dim and nats are looked at) are those that were expected,
    None where nothing is known; and a sentence that says so."""
    if expected is None or not expected.test:
        return None, "This recipe's test figure has not been measured before: there is nothing to compare it with."
    sha256 = str(test.get("data_sha256", ""))
    if not sha256.startswith(expected.test_sha256):
        return False, (
            f"The test images are not those of the expected figure (SHA-256 {sha256[:16]}, not "
            f"{expected.test_sha256}): the figures cannot be compared."
        )
    want, have = expected.test, test["bits_per_dim"]
    apart, allowed = abs(have - want["bits_per_dim"]), WITHIN * want["stderr"]
    agrees = bool(apart <= allowed)
    verb, within = ("agrees", "within") if agrees else ("does not agree", "more than")
    figures = (
        f"The test figure, {have:.4f} bits/dim ({test['nats']:.2f} nats), {verb} with the expected "
        f"{want['bits_per_dim']:.4f} ± {want['stderr']:.4f} ({want['nats']:.2f} ± {want['nats_stderr']:.2f} nats): "
        f"they are {apart:.4f} bits/dim apart, {within} {WITHIN:.0f} standard errors"
    )
    if agrees:
        return True, f"{figures}."
    better = "better" if have < want["bits_per_dim"] else "worse"
    return False, f"{figures}. It is {better} than expected: compare data, options and versions with the recipe's."
