"""`h1r config explain`: a value, who set it, what it overrode, and what it means."""

from __future__ import annotations

import pytest


def test_a_setting_that_nobody_set_is_the_default_and_tells_its_source(h1r):
    assert h1r("config", "explain", "deepconf.warmup").stdout == (
        "deepconf.warmup = 16  [deepconf, eval, serve]\n"
        "  set by the default\n"
        "  N_init, full traces that set the threshold (PAPER section 5)\n"
    )


def test_what_was_overridden_is_told_latest_first(h1r, tmp_path):
    (tmp_path / "mine.toml").write_text("[launch]\nthreads = 3\n")
    (tmp_path / "fast.toml").write_text("[launch]\nthreads = 2\n")
    done = h1r(
        *("config", "explain", "launch.threads", "--for", "eval"),
        *("--profile", "fast.toml", "--config", "mine.toml", "--set", "launch.threads=4"),
    )
    assert done.stdout == (
        "launch.threads = 4  [eval]\n"
        "  set by --set launch.threads=4\n"
        "  over 3 (config mine.toml)\n"
        "  over 2 (profile fast.toml)\n"
        "  over 0 (the default)\n"
        "  CPU threads of a process; 0: torch's own choice\n"
    )


def test_a_model_that_brings_its_own_settings_is_an_origin(h1r, tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "h1r.toml").write_text("[sampling]\nmax_tokens = 64\n[deepconf]\nwindow_tokens = 8\n")
    done = h1r("config", "explain", "sampling.max_tokens", "--model", "tiny", "--for", "generate")
    assert done.stdout.splitlines()[:3] == [
        "sampling.max_tokens = 64  [generate]",
        "  set by model tiny",
        "  over 65536 (the default)",
    ]


def test_a_table_is_told_key_by_key_and_commands_that_agree_stand_together(h1r):
    told = h1r("config", "explain", "sampling").stdout
    assert "sampling.temperature = 0.6  [deepconf, eval, generate, serve]" in told
    assert "sampling.top_p = 0.95  [deepconf, eval, generate, serve]" in told


def test_the_options_of_a_part_are_those_of_the_part_that_is_named(h1r):
    assert "pruner.window_tokens = " in h1r("config", "explain", "pruner").stdout
    stable = h1r("config", "explain", "pruner.vote", "--set", "pruner.name=answer-stable").stdout
    assert stable.startswith("pruner.vote = that of deepconf.vote  [deepconf, eval, serve]")
    without = h1r("config", "explain", "pruner", "--set", "pruner.name=never").stdout
    assert without.splitlines()[:2] == [
        'pruner.name = "never"  [deepconf, eval, serve]',
        "  set by --set pruner.name=never",
    ]
    assert "pruner.window_tokens" not in without


def test_an_option_that_a_command_gives_to_a_part_names_the_setting_that_it_follows(h1r):
    told = h1r("config", "explain", "engine", "--set", "engine.device=cpu").stdout
    assert "engine.model = that of model  [" in told
    assert 'engine.device = "cpu"  [' in told
    assert "\n  over that of hardware.device (the default)\n" in told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["deepconf.keep_fraction"],
            "error: no setting of any command is called 'deepconf.keep_fraction'\n"
            "  known: deepconf.audit_frac, deepconf.budget, deepconf.confidence, deepconf.confidence_top_k, "
            "deepconf.consensus, deepconf.keep_frac, deepconf.tail_tokens, deepconf.vote, deepconf.warmup, "
            "deepconf.window_tokens\n"
            "  fix: did you mean 'deepconf.keep_frac'?\n",
        ),
        (
            ["deepconf.budget", "--for", "generate"],
            "error: no setting of generate is called 'deepconf.budget'\n"
            "  known: engine, hardware, kernels, launch, model, parallel, samples, sampling, seed, system_prompt\n"
            "  fix: leave it out\n",
        ),
        (
            ["seed", "--for", "dream"],
            "error: no settings belong to a command 'dream'\n"
            "  known: bench-throughput, curate, deepconf, eval, generate, selftest, serve, train-rl, train-sft, "
            "verify\n"
            "  fix: give --for one of these\n",
        ),
        (
            ["seed", "--for", "eval", "--set", "seed"],
            "error: --set seed has no value\n  known: --set KEY=VALUE\n  fix: give it as --set seed=VALUE\n",
        ),
        (
            ["seed", "--for", "eval", "--set", "sede=3"],
            "error: no setting is called 'sede' (set by --set sede=3)\n"
            "  known: deepconf, endpoint, engine, hardware, harness, kernels, launch, method, model, parallel, "
            "problems_in_flight, pruner, reward, safety, samples, sampling, scoring, seed, system_prompt\n"
            "  fix: did you mean 'seed'?\n",
        ),
    ],
)  # fmt: skip
def test_a_wrong_question_is_answered_with_what_there_is(h1r, arguments, expected):
    assert h1r("config", "explain", *arguments, status=2).stderr == expected


def test_a_configuration_that_suits_some_commands_is_explained_for_those(h1r, tmp_path):
    (tmp_path / "deep.toml").write_text("[deepconf]\nbudget = 64\n")
    told = h1r("config", "explain", "seed", "--config", "deep.toml").stdout
    assert told.startswith("seed = 0  [deepconf, eval, serve]\n")


def test_a_configuration_that_suits_no_command_is_an_error(h1r, tmp_path):
    (tmp_path / "none.toml").write_text("[dream]\ndepth = 3\n")
    done = h1r("config", "explain", "seed", "--config", "none.toml", status=2)
    assert done.stderr.startswith("error: no setting is called 'dream' (set by config none.toml)\n")
