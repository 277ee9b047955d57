"""Settings in layers, and who set what."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h1r_cli import registry as registries
from h1r_cli.commands import options
from h1r_cli.config import Layer, check_profile, for_command, known_keys, read_toml, resolve
from h1r_cli.errors import ConfigError
from h1r_cli.settings import COMMANDS, DeepConfSettings, GenerateSettings, RunSettings

VALUES = {  # a few dotted keys of deepconf's settings, with values that each may have
    "seed": st.integers(0, 9),
    "launch.threads": st.integers(0, 9),
    "sampling.temperature": st.floats(0, 2),
    "sampling.max_tokens": st.integers(1, 9),
    "deepconf.keep_frac": st.floats(0.1, 1),
    "engine.slots": st.integers(1, 9),
}


def value_of(resolved, key):
    value = resolved.settings
    for part in key.split("."):
        value = value.options[part] if hasattr(value, "options") else getattr(value, part)
    return value


def nest(keys):
    table = {}
    for key, value in keys.items():
        *rooms, last = key.split(".")
        inner = table
        for room in rooms:
            inner = inner.setdefault(room, {})
        inner[last] = value
    return table


@settings(derandomize=True, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional=VALUES), max_size=5))
def test_the_last_layer_that_sets_a_key_wins_and_all_before_it_are_kept(layers):
    resolved = resolve(DeepConfSettings, [Layer(f"layer {n}", nest(keys)) for n, keys in enumerate(layers)])
    for key in VALUES:
        steps = [(f"layer {n}", keys[key]) for n, keys in enumerate(layers) if key in keys]
        assert list(resolved.history.get(key, [])) == steps
        assert resolved.origin(key) == (steps[-1][0] if steps else "default")
        if steps:
            assert value_of(resolved, key) == steps[-1][1]


@settings(derandomize=True, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_settings_that_are_written_and_read_again_are_the_same(keys):
    import tomli

    first = resolve(DeepConfSettings, [Layer("first", nest(keys))])
    again = resolve(DeepConfSettings, [Layer("again", tomli.loads(first.to_toml()))])
    assert again.settings == first.settings


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_of_a_command_says_what_it_means(command):
    silent = {key for key, meaning in known_keys(COMMANDS[command]).items() if not meaning}
    assert silent <= {"engine"}


def test_the_options_of_a_part_go_when_another_part_is_named():
    profile = Layer("profile cpu", {"engine": {"name": "torch", "slots": 64, "dtype": "float32"}})
    resolved = resolve(GenerateSettings, [profile, Layer("--set", {"engine": {"name": "other", "rate": 2}})])
    assert resolved.settings.engine.name == "other"
    assert resolved.settings.engine.options == {"rate": 2}
    assert resolved.history == {
        "engine.name": [("profile cpu", "torch"), ("--set", "other")],
        "engine.rate": [("--set", 2)],
    }


@pytest.mark.parametrize("naming", [{}, {"name": "lowest-window"}])
def test_the_options_of_a_part_stay_when_the_same_part_is_named_or_none_is(naming):
    model = Layer("model nano", {"pruner": {"window_tokens": 8}})
    resolved = resolve(DeepConfSettings, [model, Layer("--set", {"pruner": {"depth": 1, **naming}})])
    assert resolved.settings.pruner.name == "lowest-window"
    assert resolved.settings.pruner.options == {"window_tokens": 8, "depth": 1}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"sampling": {"temprature": 1.0}},
            "no setting is called 'sampling.temprature' (set by mine)\n"
            "  known: sampling.ignore_eos, sampling.max_tokens, sampling.min_tokens, sampling.seed, "
            "sampling.stop_token_ids, sampling.temperature, sampling.top_k, sampling.top_p\n"
            "  fix: did you mean 'sampling.temperature'?",
        ),
        (
            {"samplin": {"temperature": 1.0}},
            "no setting is called 'samplin' (set by mine)\n"
            "  known: deepconf, engine, hardware, kernels, launch, model, parallel, problems_in_flight, pruner, "
            "reward, sampling, seed, system_prompt\n"
            "  fix: did you mean 'sampling'?",
        ),
        (
            {"seed": "7"},
            "seed = '7': input should be a valid integer\n  known: set by mine\n  fix: give seed such a value",
        ),
        (
            {"seed": {"x": 1}},
            "seed = {'x': 1}: input should be a valid integer\n  known: set by mine\n  fix: give seed such a value",
        ),
        (
            {"deepconf": {"keep_frac": 0}},
            "deepconf.keep_frac = 0: input should be greater than 0\n"
            "  known: set by mine\n"
            "  fix: give deepconf.keep_frac such a value",
        ),
        (
            {"sampling": {"seed": 3}},
            "sampling.seed is derived for each request\n  known: sampling.seed set by mine\n  fix: set seed instead",
        ),
        (
            {"deepconf": {"warmup": 64, "budget": 32}},
            "deepconf.warmup 64 exceeds deepconf.budget 32\n"
            "  known: deepconf.budget set by mine, deepconf.warmup set by mine\n"
            "  fix: change one of them",
        ),
    ],
)
def test_a_wrong_layer_is_refused_with_the_key_the_value_and_who_set_it(values, expected):
    with pytest.raises(ConfigError) as error:
        resolve(DeepConfSettings, [Layer("mine", values)])
    assert str(error.value) == expected


def test_a_date_is_no_number(tmp_path):
    (tmp_path / "dated.toml").write_text("seed = 2026-01-04\n")
    with pytest.raises(ConfigError, match="seed = '2026-01-04': input should be a valid integer"):
        resolve(RunSettings, [read_toml(tmp_path / "dated.toml", "config dated.toml")])


def test_a_file_that_is_no_text_is_an_error(tmp_path):
    (tmp_path / "odd.toml").write_bytes(b"seed = \xff")
    with pytest.raises(ConfigError, match="config odd is no TOML"):
        read_toml(tmp_path / "odd.toml", "config odd")


@pytest.mark.parametrize("table", ["sampling", "seed", "deepconf", "model"])
def test_a_profile_sets_speed_alone(table):
    with pytest.raises(ConfigError, match=f"profile fast sets '{table}', which is not a profile's to set"):
        check_profile(Layer("profile fast", {"hardware": {"device": "cpu"}, table: {}}))


def test_a_model_may_speak_of_other_commands_than_this_one_but_of_nothing_unknown():
    model = Layer("model nano", {"sampling": {"max_tokens": 9}, "deepconf": {"window_tokens": 8}})
    assert for_command(model, GenerateSettings).values == {"sampling": {"max_tokens": 9}}
    with pytest.raises(ConfigError, match=r"no setting is called 'deepcof' \(set by model nano\)"):
        for_command(Layer("model nano", {"deepcof": {}}), GenerateSettings)


def test_the_order_of_layers_is_model_profile_config_set_and_then_the_commands_flags(tmp_path):
    (tmp_path / "h1r.toml").write_text("seed = 1\n[sampling]\ntop_k = 1\n")
    (tmp_path / "config.toml").write_text("[sampling]\ntop_k = 2\ntop_p = 0.5\n")
    resolved = options.resolve(
        registries.load(),
        GenerateSettings,
        {
            "model": str(tmp_path),
            "profile": "cpu",
            "config_file": str(tmp_path / "config.toml"),
            "sets": ("sampling.top_k=3", "sampling.temperature=0.5"),
        },
        {"sampling.top_k": 4, "samples": None},
    )
    assert resolved.settings.model == str(tmp_path)
    assert [value for _, value in resolved.history["sampling.top_k"]] == [1, 2, 3, 4]
    origins = ["seed", "hardware.device", "sampling.top_p", "sampling.temperature", "sampling.top_k", "samples"]
    assert [resolved.origin(key) for key in origins] == [
        f"model {tmp_path}",
        "profile cpu",
        f"config {tmp_path / 'config.toml'}",
        "--set sampling.temperature=0.5",
        "--top-k",
        "default",
    ]


@pytest.mark.parametrize("profile", registries.load().names("h1r_profiles"))
def test_every_profile_names_an_engine_and_options_that_it_takes(profile, tmp_path):
    from h1r_cli.commands.plugins import options as taken

    registry = registries.load()
    settings_of = resolve(RunSettings, [options.profile_layer(registry, profile)]).settings
    factory = registry.find("h1r_engines", settings_of.engine.name)
    assert set(settings_of.engine.options) <= {option["name"] for option in taken(factory)}


def test_a_recipe_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(ConfigError, match="no recipe is called 'nan'"):
        options.recipe_layer("nan")


def test_a_file_is_told_from_a_name_by_its_ending(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.toml is no file"):
        options.recipe_layer(str(Path(tmp_path, "gone.toml")))
