"""The declared versions are those that run: every import has a bound, every pin lies within.

Run by the tox environments `lowest` and `newest` as well, with the versions that they install.
"""

import os
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from c3l.runtime.extras import EXTRAS
from tests.bounds.declared import constraints, extras, imports, lower_bound, requirements

EVERYTHING = requirements() | {
    name: requirement for some in extras().values() for name, requirement in some.items()
}
PRODUCT = requirements() | extras()["eval"] | extras()["quant"] | extras()["report"]
"""What a user installs who runs the tables."""
APART = {
    "ray": "repro/run/ray_engine.py",
    "pillow-heif": "c3l/data/images.py",
    # Its own instructions say how to get it.
    "atheris": "tests/faults/fuzz.py",
}
"""What only one file imports, which does without or is not run without: ours are extras."""


def test_whatever_is_imported_is_declared():
    declared = PRODUCT.keys()
    stray = {
        (name, str(file))
        for name, file in imports("c3l", "repro", "benchmarks")
        if name not in declared and APART.get(name) != str(file)
    }
    assert not stray


def test_whatever_the_tests_import_is_declared():
    declared = PRODUCT.keys() | extras()["test"].keys() | extras()["ray"].keys()
    # A file may stand in for a package that it makes itself.
    stray = {
        (name, str(file))
        for name, file in imports("tests")
        if name not in declared and APART.get(name) != str(file) and name != "outside"
    }
    assert not stray


def test_whatever_is_declared_is_imported():
    used = {name for name, _ in imports("c3l", "repro", "benchmarks")}
    assert PRODUCT.keys() | extras()["ray"].keys() | extras()["heif"].keys() <= used


def test_the_method_imports_nothing_of_an_extra():
    """Generating, scoring and training need none of them; `c3l.lmms` is lmms-eval's own way in."""
    optional = PRODUCT.keys() - requirements().keys()
    allowed = {("lmms-eval", "c3l/lmms.py"), ("lmms-eval", "c3l/lmms_plugin.py")}
    allowed |= {("bitsandbytes", "c3l/backbones/quantisation.py")}
    assert {(n, str(file)) for n, file in imports("c3l") if n in optional} == allowed


def test_an_extra_is_named_where_its_package_is_missing():
    named = {(canonicalize_name(name), extra) for name, extra in EXTRAS.values()}
    kinds = ("eval", "quant", "report", "ray")
    assert named == {(n, kind) for kind in kinds for n in extras()[kind] if n != "filelock"}


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_dependency_has_a_lower_bound_and_a_pin_within_its_bounds(name):
    requirement, pin = EVERYTHING[name], constraints()[name]
    assert lower_bound(requirement) is not None
    (only,) = pin.specifier
    assert only.operator == "=="
    assert requirement.specifier.contains(only.version)


def test_what_is_installed_lies_within_the_bounds():
    here = {name: version(name) for name in (*PRODUCT, *extras()["test"])}
    assert [n for n, v in here.items() if not EVERYTHING[n].specifier.contains(v)] == []
    if os.environ.get("TOX_ENV_NAME") == "lowest":
        above = {
            name: found
            for name, found in here.items()
            if not Requirement(f"x=={found}").specifier.contains(lower_bound(EVERYTHING[name]))
        }
        assert not above


def test_a_requirement_without_a_lower_bound_is_seen():
    assert lower_bound(Requirement("x")) is None
    assert lower_bound(Requirement("x<6")) is None
    assert str(lower_bound(Requirement("x>=5.20,<6"))) == "5.20"
