"""The only module that talks to pluggy: load plugins, quarantine broken ones, look parts up.

Built-ins are named in `BUILTINS`, third parties come from the entry-point group `h1r`; both go through the same
`register`. Third parties load at the start, a built-in when its hook is first asked, so that `h1r --help` imports no
more than the commands. A third-party plugin that does not load is set aside with one line on stderr and stops
nothing else.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from h1r_cli import hookspecs
from h1r_cli.errors import PluginError, listing, nearest, unknown_name

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BENCHMARKS = (  # each with the data source of its name
    "h1r_plugins.benchmarks.hle",
    "h1r_plugins.benchmarks.instruction_following",
    "h1r_plugins.benchmarks.mathematics",
    "h1r_plugins.benchmarks.multiple_choice",
    "h1r_plugins.benchmarks.programs",
    "h1r_plugins.benchmarks.safety",
)
HARNESSES = (  # benchmarks that are environments
    "h1r_plugins.benchmarks.scicode",
    "h1r_plugins.benchmarks.tau2",
    "h1r_plugins.benchmarks.terminal_bench",
)
BUILTINS: Mapping[str, tuple[str, ...]] = {  # hook -> the modules that implement it
    "h1r_commands": (
        "h1r_cli.commands.train_sft",
        "h1r_cli.commands.curate",
        "h1r_cli.commands.train_rl",
        "h1r_cli.commands.export",
        "h1r_cli.commands.selftest",
        "h1r_cli.commands.generate",
        "h1r_cli.commands.deepconf",
        "h1r_cli.commands.replay",
        "h1r_cli.commands.bench_throughput",
        "h1r_cli.commands.evaluate",
        "h1r_cli.commands.compare",
        "h1r_cli.commands.serve",
        "h1r_cli.commands.verify",
        "h1r_cli.commands.plugins",
        "h1r_cli.commands.profiles",
        "h1r_cli.commands.config",
        "h1r_cli.commands.doctor",
    ),
    "h1r_data_sources": (
        "h1r_plugins.data.arith",
        "h1r_plugins.data.hf",
        "h1r_plugins.data.jsonl",
        "h1r_plugins.data.parquet",
        *BENCHMARKS,
    ),
    "h1r_rewards": (
        "h1r_plugins.rewards.choice",
        "h1r_plugins.rewards.code",
        "h1r_plugins.rewards.compose",
        "h1r_plugins.rewards.format",
        "h1r_plugins.rewards.instructions",
        "h1r_plugins.rewards.llama_guard",
        "h1r_plugins.rewards.math",
        "h1r_plugins.rewards.policy",
        "h1r_plugins.rewards.refusal",
        "h1r_plugins.rewards.sandbox_fusion",
        "h1r_plugins.rewards.science",
    ),
    "h1r_pruners": (
        "h1r_plugins.pruning.answer_stable",
        "h1r_plugins.pruning.lowest_window",
        "h1r_plugins.pruning.mean_confidence",
        "h1r_plugins.pruning.never",
        "h1r_plugins.pruning.tail_window",
    ),
    "h1r_engines": (
        "h1r_plugins.engines.generate_engine",
        "h1r_plugins.engines.openai.engine",
        "h1r_plugins.engines.torch_engine",
        "h1r_plugins.engines.transformers_engine",
        "h1r_plugins.engines.vllm.engine",
    ),
    "h1r_observers": ("h1r_plugins.observers.tensorboard", "h1r_plugins.observers.wandb"),
    "h1r_benchmarks": (
        "h1r_plugins.benchmarks.arith",
        *BENCHMARKS,
        *HARNESSES,
    ),
    "h1r_models": ("h1r_plugins.models.nano",),
    "h1r_profiles": ("h1r_profiles",),
}

KINDS: Mapping[str, str] = {  # hook -> what one of its parts is called
    "h1r_data_sources": "data source",
    "h1r_rewards": "reward",
    "h1r_pruners": "pruner",
    "h1r_engines": "engine",
    "h1r_observers": "observer",
    "h1r_profiles": "profile",
    "h1r_models": "model",
    "h1r_benchmarks": "benchmark",
    "h1r_commands": "command",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """One named part and the plugin that offers it."""

    name: str
    part: Any
    plugin: str


@dataclass(slots=True)
class Registry:
    """The plugins of this process. `quarantined` maps a plugin's name to the reason that it was set aside."""

    pm: pluggy.PluginManager
    built_in: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # as BUILTINS; loaded when first asked
    packages: dict[str, str] = field(default_factory=dict)  # plugin -> "package version", third parties only
    quarantined: dict[str, str] = field(default_factory=dict)

    def offers(self, hook: str) -> Iterator[Offer]:
        """All that `hook` offers, built-ins first; a plugin whose hook raises is quarantined."""
        built_in = self.built_in.get(hook, ())
        for module in built_in:
            if not self.pm.has_plugin(module):
                self._register(module, importlib.import_module(module))
        impls = getattr(self.pm.hook, hook).get_hookimpls()
        for impl in sorted(impls, key=lambda impl: impl.plugin_name not in built_in):
            try:
                table = impl.function()
                named = table if isinstance(table, Mapping) else {command.name: command for command in table}
            except Exception as error:  # survives a third party's bug in its own table
                if impl.plugin_name in built_in:
                    raise
                self._quarantine(impl.plugin_name, error)
                continue
            for name, part in named.items():
                yield Offer(name, part, impl.plugin_name)

    def names(self, hook: str) -> list[str]:
        """The names that `hook` offers, sorted."""
        return sorted({offer.name for offer in self.offers(hook)})

    def find(self, hook: str, name: str) -> Any:
        """The part called `name`.

        Raises:
            PluginError: nobody offers it, or two plugins do.
        """
        offers = list(self.offers(hook))
        found = [offer for offer in offers if offer.name == name]
        if not found:
            raise self._unknown(hook, name, [offer.name for offer in offers])
        if len(found) > 1:
            raise _clash(KINDS[hook], name, [self.owner(offer.plugin) for offer in found], found[-1].plugin)
        return found[0].part

    def owner(self, plugin: str) -> str:
        """A plugin with its package: `'example' (h1r-example 0.1.0)`, or `'h1r_plugins.rewards.math' (built in)`."""
        return f"'{plugin}' ({self.packages.get(plugin, 'built in')})"

    def step_done(self, run_dir: Path, step: int, metrics: Mapping[str, float]) -> None:
        """Tell every observer."""
        self.pm.hook.h1r_step_done(run_dir=run_dir, step=step, metrics=metrics)

    def _unknown(self, hook: str, name: str, known: list[str]) -> PluginError:
        error = unknown_name(KINDS[hook], name, known)
        if not self.quarantined:
            return error
        aside = ", ".join(f"{self.owner(plugin)} {why}" for plugin, why in sorted(self.quarantined.items()))
        return PluginError(
            f"{error.what}; it may be one of a plugin's that was set aside: {aside}",
            known=error.known,
            fix=error.fix,
        )

    def _register(self, plugin: str, module: object) -> None:
        self.pm.register(module, plugin)
        for caller in self.pm.get_hookcallers(module) or ():
            if not caller.has_spec():
                self.pm.unregister(name=plugin)
                hooks = [hook for hook in dir(hookspecs) if hook.startswith("h1r_")]
                guess = nearest(caller.name, hooks)
                raise PluginError(
                    f"it implements '{caller.name}', and there is no such hook",
                    known=listing(hooks),
                    fix=f"did you mean '{guess}'?" if guess else "implement a hook that exists",
                )

    def _quarantine(self, plugin: str, error: Exception) -> None:
        if self.pm.has_plugin(plugin):
            self.pm.unregister(name=plugin)
        if isinstance(error, PluginError):
            self.quarantined[plugin] = f"does not load: {error.what} ({error.fix})"
        else:
            cause = " ".join(str(error).split())  # one line
            self.quarantined[plugin] = f"does not load: {type(error).__name__}: {cause}"
        remedy = f"pip install -U {self.packages[plugin].split()[0]}, or run with H1R_WITHOUT={plugin}"
        print(f"warning: plugin {self.owner(plugin)} {self.quarantined[plugin]}; fix: {remedy}", file=sys.stderr)


def load() -> Registry:
    """The built-ins, and every third-party plugin that `H1R_WITHOUT` (comma-separated names) does not name."""
    pm = pluggy.PluginManager("h1r")
    pm.add_hookspecs(hookspecs)
    registry = Registry(pm, BUILTINS)
    without = {name.strip() for name in os.environ.get("H1R_WITHOUT", "").split(",")}
    for entry in _third_parties():
        plugin = entry.name
        if plugin in registry.packages or any(plugin in modules for modules in BUILTINS.values()):  # taken already
            plugin = f"{entry.name}@{entry.dist.name}" if entry.dist else entry.value
        if not {entry.name, plugin} & without:
            _load_third_party(registry, plugin, entry)
    return registry


def _third_parties() -> list[EntryPoint]:
    """The entry points of the group `h1r`, by name.

    importlib.metadata is asked only when a package on the path may have one: its import alone takes as long as
    click's.
    """
    if not any(map(_may_offer_plugins, sys.path)):
        return []
    from importlib.metadata import entry_points

    return sorted(entry_points(group="h1r"), key=lambda entry: (entry.name, entry.value))


def _may_offer_plugins(on_path: str) -> bool:
    """Whether a directory of packages holds an entry point of the group; so may any archive."""
    if os.path.isfile(on_path):
        return True
    found = Path(on_path).glob("*-info/entry_points.txt")  # .dist-info and .egg-info
    return any("[h1r]" in file.read_text(encoding="utf-8", errors="replace") for file in found)


def _load_third_party(registry: Registry, plugin: str, entry: EntryPoint) -> None:
    registry.packages[plugin] = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown package"
    try:
        registry._register(plugin, entry.load())
    except Exception as error:  # survives whatever a third party's import does
        registry._quarantine(plugin, error)


def _clash(kind: str, name: str, owners: list[str], last: str) -> PluginError:
    return PluginError(
        f"{kind} '{name}' is offered by {len(owners)} plugins",
        known=", ".join(owners),
        fix=f"uninstall one of them, or run with H1R_WITHOUT={last}",
    )
