"""The registry, on packages laid out as an installer leaves them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from h1r_cli import registry
from h1r_cli.errors import PluginError

OBSERVER = """
from h1r_cli import hookimpl

@hookimpl
def h1r_step_done(step, metrics):
    with open({log!r}, "a") as file:
        print(step, metrics["loss"], file=file)
"""
PRUNERS = """
from h1r_cli import hookimpl

@hookimpl
def h1r_pruners():
    return {{"{name}": object}}
"""


PRUNERS_BUILT_IN = ["answer-stable", "lowest-window", "mean-confidence", "never", "tail-window"]


def lay_out(site: Path, package: str, entry: str, code: str) -> None:
    """What pip leaves of a package with one module and one entry point of the group `h1r`."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[h1r]\n{entry} = {package}\n")
    (site / f"{package}.py").write_text(code)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A directory of packages on the path; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for module in tmp_path.glob("*.py"):
        sys.modules.pop(module.stem, None)


def test_every_built_in_loads_and_none_is_set_aside():
    loaded = registry.load()
    for hook, modules in registry.BUILTINS.items():
        assert {offer.plugin for offer in loaded.offers(hook)} >= set(modules)
    assert loaded.quarantined == {}


@pytest.mark.parametrize("hook", registry.KINDS)
def test_every_kind_has_a_part_and_each_name_one_owner(hook):
    loaded = registry.load()
    names = [offer.name for offer in loaded.offers(hook)]
    assert names
    assert sorted(names) == loaded.names(hook)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(PluginError) as error:
        registry.load().find("h1r_pruners", "lowst-window")
    assert str(error.value) == (
        "no pruner is called 'lowst-window'\n"
        "  known: answer-stable, lowest-window, mean-confidence, never, tail-window\n"
        "  fix: did you mean 'lowest-window'?"
    )


def test_two_packages_may_have_chosen_the_same_name_for_their_plugin(site, monkeypatch):
    lay_out(site, "h1r_first", "mine", PRUNERS.format(name="first"))
    lay_out(site, "h1r_second", "mine", PRUNERS.format(name="second"))
    loaded = registry.load()
    assert {"first", "second"} <= set(loaded.names("h1r_pruners"))
    assert [loaded.owner(offer.plugin) for offer in loaded.offers("h1r_pruners") if offer.name == "second"] == [
        "'mine@h1r_second' (h1r_second 1.0)"
    ]
    monkeypatch.setenv("H1R_WITHOUT", "mine@h1r_second")
    assert "second" not in registry.load().names("h1r_pruners")


def test_a_plugin_cannot_take_a_built_ins_place_by_its_name(site):
    lay_out(site, "h1r_shadow", "h1r_plugins.pruning.never", "import not_there\n")
    loaded = registry.load()
    assert loaded.names("h1r_pruners") == PRUNERS_BUILT_IN
    assert list(loaded.quarantined) == ["h1r_plugins.pruning.never@h1r_shadow"]


@pytest.mark.parametrize("table", ["None", "3", "['a', 'b']"])
def test_a_hook_that_returns_no_table_sets_its_plugin_aside(site, table, capsys):
    lay_out(site, "h1r_odd", "odd", PRUNERS.replace('{{"{name}": object}}', table))
    loaded = registry.load()
    assert loaded.names("h1r_pruners") == PRUNERS_BUILT_IN
    assert list(loaded.quarantined) == ["odd"]
    assert capsys.readouterr().err.count("\n") == 1


def test_a_hook_with_an_argument_that_is_not_offered_sets_its_plugin_aside_in_one_line(site, capsys):
    lay_out(site, "h1r_wide", "wide", PRUNERS.format(name="wide").replace("h1r_pruners()", "h1r_pruners(model)"))
    assert list(registry.load().quarantined) == ["wide"]
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert "Argument(s) {'model'} are declared in the hookimpl but can not be found in the hookspec" in warning


def test_an_observer_is_told_each_step_with_the_arguments_that_it_names(site):
    lay_out(site, "h1r_watch", "watch", OBSERVER.format(log=str(site / "log")))
    loaded = registry.load()
    loaded.step_done(site, 7, {"loss": 0.5})
    loaded.step_done(site, 8, {"loss": 0.25})
    assert (site / "log").read_text() == "7 0.5\n8 0.25\n"
