"""Who may import whom, where a heavy library may appear, and how long a file and a function may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"h1r_cli": ROOT, "h1r_plugins": ROOT / "plugins", "h1r_profiles": ROOT / "profiles"}

# A module may import modules of its own layer and of lower ones. A room's entry holds for every module in it that
# has no entry of its own; a module without either fails.
LAYERS = {
    "h1r_cli": 0,  # hookimpl alone
    "h1r_cli.errors": 0,
    "h1r_cli.types": 0,
    "h1r_cli.harness": 0,
    "h1r_cli.seeds": 1,
    "h1r_cli.data.*": 1,
    "h1r_cli.deepconf.confidence": 1,
    "h1r_cli.deepconf.vote": 1,
    "h1r_cli.evals.paired": 1,
    "h1r_cli.evals.refusal": 1,
    "h1r_cli.evals.safety_sets": 1,
    "h1r_cli.evals.statistics": 1,
    "h1r_cli.evals.scoring": 1,
    "h1r_cli.evals.views": 1,
    "h1r_cli.plan.*": 1,
    "h1r_cli.sft.loss": 1,
    "h1r_cli.rl.advantage": 1,
    "h1r_cli.rl.curation": 1,
    "h1r_cli.rl.loss": 1,
    "h1r_cli.train.schedule": 1,
    "h1r_cli.config": 2,
    "h1r_cli.settings": 2,
    "h1r_cli.settings.*": 2,
    "h1r_cli.rundir": 2,
    "h1r_cli.hookspecs": 2,
    "h1r_cli.model.*": 3,
    "h1r_cli.train.*": 3,
    "h1r_cli.deepconf.*": 4,
    "h1r_cli.evals.*": 4,
    "h1r_cli.sft.*": 4,
    "h1r_cli.rl.*": 4,
    "h1r_cli.generation": 4,
    "h1r_cli.launch.*": 4,
    "h1r_cli.report.*": 4,
    "h1r_cli.rewards.*": 4,
    "h1r_cli.rewards.worker": 6,  # rebuilds a verifier by its name
    "h1r_cli.rewards.latex.*": 1,
    "h1r_cli.selftest.*": 4,
    "h1r_cli.serve.*": 4,
    "h1r_cli.throughput.*": 4,
    "h1r_cli.throughput.worker": 6,  # builds an engine by its name
    "h1r_cli.registry": 5,
    "h1r_cli.build": 5,
    "h1r_cli.commands.*": 6,
    "h1r_cli.main": 7,
    "h1r_cli.__main__": 7,
}
LAYERS_OF_PLUGINS = 1  # with hookimpl, errors and types; and what their room may have besides:
ROOMS_OF_PLUGINS = {"h1r_plugins.engines": "h1r_cli.model", "h1r_plugins.rewards": "h1r_cli.rewards"}

ONE_PLACE = {  # heavy library -> the one module, or room, that imports it
    "deepspeed": "h1r_cli.train.backend",
    "mamba_ssm": "h1r_cli.model.kernels",
    "causal_conv1d": "h1r_cli.model.kernels",
    "liger_kernel": "h1r_cli.model.liger",
    "vllm": "h1r_plugins.engines.vllm",
    "datasets": "h1r_plugins.data.hf",
    "torch.utils.tensorboard": "h1r_plugins.observers.tensorboard",
    "wandb": "h1r_plugins.observers.wandb",
    "inspect_ai": "h1r_cli.evals.inspect_log",
    "pynvml": "h1r_cli.throughput.watch",
}
# Not at the top of what `h1r --help` loads.
SLOW = {"torch", "transformers", "sympy", "math_verify", "pyarrow", "numpy", "pydantic"} | ONE_PLACE.keys()
LOADED_BY_HELP = (
    *("h1r_plugins", "h1r_profiles", "h1r_cli.commands"),
    *(f"h1r_cli.{name}" for name in ("main", "registry", "build", "errors", "types", "hookspecs")),
)
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 300, 60
LONGER = {"h1r_cli.types": 400}  # the contracts stand in one place


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    tree: ast.Module


def read() -> dict[str, Module]:
    found = {}
    for package, root in ROOMS.items():
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8")))
    return found


MODULES = read()


def imports(node: ast.AST) -> Iterator[str]:
    """The dotted names that the import statements in `node` ask for, wherever they stand."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            yield from (alias.name for alias in inner.names)
        elif isinstance(inner, ast.ImportFrom):
            assert inner.level == 0, "imports are absolute"
            for alias in inner.names:
                whole = f"{inner.module}.{alias.name}"
                yield whole if whole in MODULES else str(inner.module)


def at_the_top(tree: ast.Module) -> Iterator[str]:
    """What is imported when the module is, TYPE_CHECKING left out."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Try):
            yield from imports(node)


def layer(name: str) -> int | None:
    """The layer of one of h1r_cli's modules: its own entry, else that of the innermost room that has one."""
    if name in LAYERS:
        return LAYERS[name]
    parts = name.split(".")
    rooms = (".".join(parts[:depth]) + ".*" for depth in range(len(parts), 1, -1))
    return next((LAYERS[room] for room in rooms if room in LAYERS), None)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


CORE = [name for name in MODULES if within(name, "h1r_cli")]
PLUGINS = [name for name in MODULES if not within(name, "h1r_cli")]


def test_every_module_of_the_core_has_a_layer():
    assert [name for name in CORE if layer(name) is None] == []


def test_no_layer_is_kept_for_a_module_that_is_gone():
    assert [name for name in LAYERS if name.removesuffix(".*") not in MODULES] == []


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_its_own_layer_and_lower_ones(name):
    own = layer(name)
    above = [other for other in imports(MODULES[name].tree) if within(other, "h1r_cli") and layer(other) > own]
    assert above == []


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_no_plugin_and_commands_alone_read_recipes(name):
    foreign = {other for other in imports(MODULES[name].tree) if within(other, "h1r_plugins")}
    if layer(name) != 6:
        foreign |= {other for other in imports(MODULES[name].tree) if within(other, "h1r_profiles")}
    assert foreign == set()


@pytest.mark.parametrize("name", ["h1r_cli.errors", "h1r_cli.types"])
def test_the_nouns_and_the_errors_import_nothing_of_h1r(name):
    assert [other for other in imports(MODULES[name].tree) if other.startswith("h1r_")] == []


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_imports_contracts_and_pure_maths_alone(name):
    room = ".".join(name.split(".")[:2])
    beside = ROOMS_OF_PLUGINS.get(room)
    beyond = [
        other
        for other in imports(MODULES[name].tree)
        if within(other, "h1r_cli")
        and layer(other) > LAYERS_OF_PLUGINS
        and not (beside is not None and within(other, beside))
    ]
    assert beyond == []


@pytest.mark.parametrize("name", PLUGINS)
def test_no_plugin_knows_another(name):
    # a plugin is a file of a room, or a folder of one: h1r_plugins.engines.vllm.engine belongs to vllm
    own = ".".join(name.split(".")[:3])
    others = [
        other
        for other in imports(MODULES[name].tree)
        if (within(other, "h1r_plugins") or within(other, "h1r_profiles")) and not within(other, own)
    ]
    assert others == []


@pytest.mark.parametrize("library", sorted(ONE_PLACE))
def test_a_heavy_library_has_one_place(library):
    importers = {
        name for name, module in MODULES.items() if any(within(other, library) for other in imports(module.tree))
    }
    assert {name for name in importers if not within(name, ONE_PLACE[library])} == set()


def is_inner(name: str) -> bool:
    """Whether a module belongs to a plugin's folder and is not the one that offers it."""
    from h1r_cli.registry import BUILTINS

    deep = within(name, "h1r_plugins") and name.count(".") >= 3
    return deep and not any(name in modules for modules in BUILTINS.values())


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(LOADED_BY_HELP) and not is_inner(name)])
def test_what_help_loads_imports_nothing_slow_at_its_top(name):
    assert {other for other in at_the_top(MODULES[name].tree) if other.split(".")[0] in SLOW} == set()


def test_every_hook_that_is_implemented_exists():
    hooks = {node.name for node in MODULES["h1r_cli.hookspecs"].tree.body if isinstance(node, ast.FunctionDef)}
    implemented = {
        node.name
        for module in MODULES.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(mark) == "hookimpl" for mark in node.decorator_list)
    }
    assert implemented
    assert implemented <= hooks


def test_the_built_ins_of_a_hook_are_the_modules_that_implement_it():
    from h1r_cli.registry import BUILTINS

    offering = {
        (node.name, name)
        for name, module in MODULES.items()
        for node in module.tree.body
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(mark) == "hookimpl" for mark in node.decorator_list)
    }
    assert offering == {(hook, name) for hook, names in BUILTINS.items() for name in names}


def test_no_file_is_named_for_what_belongs_nowhere():
    assert [name for name in MODULES if name.rpartition(".")[2] in ("utils", "util", "common", "helpers")] == []


@pytest.mark.parametrize("name", MODULES)
def test_a_file_is_short_and_so_are_its_functions(name):
    module = MODULES[name]
    assert len(module.path.read_text(encoding="utf-8").splitlines()) <= LONGER.get(name, LINES_OF_A_FILE)
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= LINES_OF_A_FUNCTION
    ]
    assert long == []
