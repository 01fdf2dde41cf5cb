"""docs/coming-from.md: every name and every default there, against the packages themselves."""

import ast
import importlib
import inspect
import re
import warnings
from pathlib import Path

import pytest

from convax import model, ops
from convax.training.config.schema import Config
from convax.training.optim import optimizer

TEXT = (Path(__file__).parents[1] / "docs" / "coming-from.md").read_text()
SPANS = sorted(set(re.findall(r"`([^`]+)`", TEXT)))
OURS = {"model": model, "ops": ops, "optimizer": optimizer}
THEIRS = ("keras", "torch", "torchvision", "flax", "optax")


def spans_of(package):
    return [span for span in SPANS if re.match(rf"{package}\.\w", span)]


def found(path):
    """The object of a dotted path; modules are imported on the way."""
    first, *others = path.split(".")
    thing, at = (OURS[first], None) if first in OURS else (importlib.import_module(first), first)
    for name in others:
        at = at and f"{at}.{name}"
        if not hasattr(thing, name) and at:
            importlib.import_module(at)
        thing = getattr(thing, name)
    return thing


def check(span):
    """Hold a name, or ``name(keyword=default)``, against the package."""
    tree = ast.parse(span, mode="eval").body
    call = tree if isinstance(tree, ast.Call) else None
    thing = found(ast.unparse(call.func if call else tree))
    if call is None:
        return
    function = thing.__init__ if inspect.isclass(thing) else thing
    parameters = inspect.signature(function).parameters
    for keyword in call.keywords:
        default = parameters[keyword.arg].default
        assert default == ast.literal_eval(keyword.value), f"{span}: {keyword.arg} is {default!r}"


@pytest.mark.parametrize("package", THEIRS)
def test_their_names_and_defaults_are_as_written(package, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(package)
        for span in spans_of(package):
            check(span)
    assert len(spans_of(package)) > 2 - (package == "torchvision")


@pytest.mark.parametrize("package", OURS)
def test_our_names_and_defaults_are_as_written(package):
    spans = [span for span in spans_of(package) if span != "optimizer.clip_norm"]  # a key
    assert len(spans) > 2
    for span in spans:
        check(span)


def test_tables_of_a_config_exist():
    for table in {t.partition(".")[0] for t in re.findall(r"`\[([a-z_.]+)\]", TEXT)}:
        assert table in Config.model_fields, table
