"""A plugin that is broken is set aside with one line, and stops no command that does not need it."""

from __future__ import annotations

import json

import pytest

FIX = "fix: pip install -U h1r-{0}, or run with H1R_WITHOUT={0}\n"
CAUSES = {
    "broken": "does not load: ModuleNotFoundError: No module named 'not_there'",
    "misspelt": "does not load: it implements 'h1r_reward', and there is no such hook (did you mean 'h1r_rewards'?)",
    "raising": "does not load: KeyError: 'laptop'",
}


def only(
    name: str, faulty: tuple[str, ...] = ("broken", "clash", "misspelt", "raising", "usurper")
) -> dict[str, str]:
    """The environment in which `name` alone of the faulty packages is loaded."""
    return {"H1R_WITHOUT": ",".join(other for other in faulty if other != name)}


@pytest.mark.parametrize("name", CAUSES)
def test_a_broken_plugin_is_one_line_on_stderr_and_the_command_goes_on(h1r, faulty_packages, name):
    done = h1r("profiles", "list", packages=faulty_packages, env=only(name))
    expected = f"warning: plugin '{name}' (h1r-{name} 0.1.0) {CAUSES[name]}; {FIX.format(name)}"
    assert done.stderr == expected
    assert done.stdout.startswith("cpu ")


def test_all_faulty_plugins_at_once_do_not_stop_an_unrelated_command(h1r, faulty_packages):
    done = h1r("plugins", "list", "--json", packages=faulty_packages)
    assert {row["plugin"]: row["cause"] for row in json.loads(done.stdout)["set_aside"]} == CAUSES


def test_a_name_that_is_missing_may_be_one_of_a_plugin_that_was_set_aside(h1r, faulty_packages):
    done = h1r("profiles", "show", "laptop", packages=faulty_packages, env=only("broken"), status=2)
    assert done.stderr.splitlines()[1:] == [
        "error: no profile is called 'laptop'; it may be one of a plugin's that was set aside: "
        f"'broken' (h1r-broken 0.1.0) {CAUSES['broken']}",
        "  known: cpu, h100x1, h100x256, h100x8, h200x1",
        "  fix: name one that exists, or install the plugin that offers it",
    ]


def test_a_name_that_two_plugins_offer_is_an_error_that_names_both(h1r, faulty_packages):
    done = h1r("profiles", "show", "cpu", packages=faulty_packages, env=only("clash"), status=2)
    assert done.stderr == (
        "error: profile 'cpu' is offered by 2 plugins\n"
        "  known: 'h1r_profiles' (built in), 'clash' (h1r-clash 0.1.0)\n"
        "  fix: uninstall one of them, or run with H1R_WITHOUT=clash\n"
    )


def test_a_clash_stops_no_other_name_of_its_kind(h1r, faulty_packages):
    assert "h200" not in h1r("profiles", "show", "h100x1", packages=faulty_packages, env=only("clash")).stdout


def test_a_command_that_two_plugins_offer_is_left_out_of_the_help_and_says_so_when_run(h1r, faulty_packages):
    shown = h1r("--help", packages=faulty_packages, env=only("usurper")).stdout
    assert "  deepconf " in shown
    assert "  generate " not in shown
    done = h1r("generate", packages=faulty_packages, env=only("usurper"), status=2)
    assert done.stderr == (
        "error: command 'generate' is offered by 2 plugins\n"
        "  known: 'h1r_cli.commands.generate' (built in), 'usurper' (h1r-usurper 0.1.0)\n"
        "  fix: uninstall one of them, or run with H1R_WITHOUT=usurper\n"
    )


def test_a_plugin_is_switched_off_by_name(h1r, faulty_packages):
    done = h1r("profiles", "show", "cpu", packages=faulty_packages, env=only("nothing"))
    assert done.stderr == ""


def test_help_works_beside_faulty_plugins(h1r, faulty_packages):
    assert "Commands:" in h1r("--help", packages=faulty_packages).stdout
