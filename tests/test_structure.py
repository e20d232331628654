"""The one-way rule of imports, file sizes and docstrings.

Module by module (ours only; those in FREE may be imported by all):

    causal                    -> causal
    images                    -> images
    heads                     -> heads
    networks                  -> causal, networks                       (never a head)
    embedding                 -> causal, images.levels
    orders                    -> nothing
    card, saving, model, ordering, parts, image_model -> each other, causal, networks, heads, embedding, orders,
                                 images.levels
    multiscale                -> the same; beside image_model, which does not know it
    multiscale_stepping       -> multiscale for its types only
    replay                    -> causal
    stepping, wavefront       -> causal, replay; image_model and exact for their types only
    coding                    -> images.levels                          (never a network: it speaks to a protocol)
    exact                     -> exact, stepping, wavefront, coding, and what a model is made of (it alone may know
                                 the module types); saving finds it when a frozen model is loaded
    checking, checks          -> each other, orders, image_model, multiscale, stepping, wavefront, saving, exact,
                                 coding, images, causal                 (never networks or heads)
    figures                   -> the same, and figures
    tasks                     -> tasks, figures, checks, and what these may import but causal
    web                       -> tasks, what these may import, causal, and web
    cli                       -> anything but __main__
    __init__                  -> anything but cli
    __main__                  -> cli

An import under TYPE_CHECKING is for annotations and never happens, so it may point the other way, as
listed in FOR_TYPES. An import inside a function happens when the function is called: it may point the other
way where two modules know each other (a model makes its stepper, `load` makes a model), listed in WHEN_CALLED. Neither
counts for cycles at import time; all others do.
"""

import ast
import functools
import inspect
from pathlib import Path

import pytest

import nextpixel

SOURCE = Path(nextpixel.__file__).parent

FREE = {"errors", "brief", "precision", "version", "cache", "native", "shipped", "durable"}
BELOW = {"causal", "networks", "heads", "embedding", "images.levels", "orders"}
MODEL = {*BELOW, "card", "saving", "model", "ordering", "parts", "image_model"}
ANY_MODEL = {
    "orders",
    "model",
    "image_model",
    "multiscale",
    "stepping",
    "wavefront",
    "saving",
    "exact",
    "coding",
    "images",
}
CHECKING = {*ANY_MODEL, "causal", "checking", "checks"}
ALLOWED = {
    "errors": set(),
    "brief": set(),
    "precision": set(),
    "version": set(),
    "cache": set(),
    "native": set(),
    "shipped": set(),
    "durable": set(),
    "replay": {"causal", "replay"},
    "orders": set(),
    "causal": {"causal"},
    "images": {"images"},
    "heads": {"heads"},
    "networks": {"causal", "networks"},
    "embedding": {"causal", "images.levels"},
    "card": MODEL,
    "saving": MODEL,
    "model": MODEL,
    "ordering": MODEL,
    "parts": MODEL,
    "image_model": MODEL,
    "multiscale": MODEL,
    "multiscale_stepping": set(),
    "stepping": {"causal", "replay"},
    "wavefront": {"causal", "replay"},
    "coding": {"coding", "images.levels"},
    "exact": {*MODEL, "exact", "stepping", "wavefront", "coding"},
    "checking": CHECKING,
    "checks": CHECKING,
    "figures": {*CHECKING, "figures"},
    "tasks": {*ANY_MODEL, "checks", "figures", "tasks"},
    "web": {*CHECKING, "figures", "tasks", "web"},
    "cli": {*CHECKING, "figures", "tasks", "exact", "networks", "heads", "embedding", "web", "cli"},
    "__main__": {"cli"},
}
FOR_TYPES = {
    "stepping": {"image_model", "exact"},
    "wavefront": {"image_model", "exact"},
    "multiscale_stepping": {"multiscale"},
    "card": {"saving"},
}
WHEN_CALLED = {
    "image_model": {"stepping"},
    "multiscale": {"multiscale_stepping"},
    "saving": {"multiscale", "exact"},
    "tasks": {"checking.leaks"},
}

FILES = sorted(path for path in SOURCE.rglob("*.py"))


def name_of(path):
    parts = list(path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in FILES}


@functools.cache
def imports(path):
    """(what of ours, "always" | "types" | "called") for every import in a file."""
    found = []

    def targets(node):
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if node.level:
            raise AssertionError(f"{path} has a relative import")
        return [f"{node.module}.{alias.name}" for alias in node.names]

    def visit(node, when):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in targets(node):
                if target == "nextpixel" or target.startswith("nextpixel."):
                    found.append((resolve(target.removeprefix("nextpixel").removeprefix(".")), when))
            return
        types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, "types" if types else "called" if function else when)

    visit(ast.parse(path.read_text()), "always")
    return found


def resolve(target):
    """The module that holds what is imported: "causal.runs.Cursor" -> "causal.runs", "" -> "__init__"."""
    parts = target.split(".") if target else []
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts) or "__init__"


def covered(target, allowed):
    return any(target == name or target.startswith(f"{name}.") for name in allowed)


def test_imports_are_found():
    """The test itself must not be blind."""
    assert ("causal.convolution", "always") in imports(MODULES["causal"])
    assert ("image_model", "types") in imports(MODULES["stepping"])
    assert ("stepping", "called") in imports(MODULES["image_model"])
    assert ("images.levels", "always") in imports(MODULES["embedding"])
    assert resolve("causal.runs.Cursor") == "causal.runs"
    assert covered("images.levels", {"images"})
    assert not covered("images", {"images.levels"})
    assert not covered("checking_more", {"checking"})


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_imports_go_one_way(module):
    part = module.split(".")[0]
    assert part in ALLOWED, f"{part} is new: write down what it may import"
    for target, when in imports(MODULES[module]):
        allowed = ALLOWED[part] | FREE
        allowed = allowed | FOR_TYPES.get(part, set()) if when == "types" else allowed
        allowed = allowed | WHEN_CALLED.get(part, set()) if when == "called" else allowed
        assert covered(target, allowed), f"{module} must not import {target} ({when})"


def test_the_package_itself_only_collects_names():
    for target, when in imports(SOURCE / "__init__.py"):
        assert when == "always"
        assert not covered(target, {"cli", "__main__"})
    body = ast.parse((SOURCE / "__init__.py").read_text()).body
    assert all(isinstance(node, ast.Expr | ast.Import | ast.ImportFrom | ast.Assign) for node in body)


def test_nothing_but_the_command_line_knows_the_command_line():
    for module, path in MODULES.items():
        if module.split(".")[0] not in ("cli", "__main__"):
            assert not any(covered(target, {"cli"}) for target, _ in imports(path)), module


def test_no_cycles_at_import_time():
    """Among modules; a package's __init__ may name its own parts, which may name each other but not the package."""
    graph = {
        module: {target for target, when in imports(path) if when == "always" and target != module}
        for module, path in MODULES.items()
    }
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for target in sorted(graph[module]):
            visit(target)
        path.pop()
        done.add(module)

    for module in graph:
        visit(module)


def test_the_trainer_is_imported_when_training_only():
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name.split(".")[0] in ("pytorch_lightning", "lightning") for name in names):
                assert module in ("tasks.training", "tasks.keeper", "tasks.together"), module
    for module, path in MODULES.items():
        assert module == "tasks.train" or ("tasks.training", "called") not in imports(path), module
        assert ("tasks.training", "always") not in imports(path), module


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(SOURCE)) for path in FILES])
def test_files_are_of_a_readable_size_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 500
    assert not text or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("name", [name for name in nextpixel.__all__ if name != "__version__"])
def test_public_names_have_docstrings(name):
    thing = getattr(nextpixel, name)
    assert inspect.getdoc(thing), name
    if inspect.isclass(thing) and thing.__module__.startswith("nextpixel"):
        generated = f"{name}("  # what a dataclass without a docstring gets
        assert not inspect.getdoc(thing).startswith(generated), name


def test_public_names_are_sorted_and_complete():
    names = nextpixel.__all__
    assert len(set(names)) == len(names)
    wanted = {"build", "dataset", "train", "evaluate", "sample", "complete", "load", "check", "families", "heads"}
    assert wanted <= set(names)
    assert isinstance(nextpixel.__version__, str)
