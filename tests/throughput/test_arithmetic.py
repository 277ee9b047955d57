"""What a config says of a cell, against what a model really holds and what a machine was measured to do."""

import json
from inspect import signature

import pytest
import torch

from h1r_cli.model.config import FalconH1Config
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM
from h1r_cli.settings import BenchThroughputSettings, Hardware, Part
from h1r_cli.throughput.arithmetic import (
    MEMORY_FRAC,
    VLLM_CACHE_GIB,
    arithmetic_of,
    crossings,
    footprint_of,
    measured_roofs,
    stated_roofs,
)
from h1r_cli.throughput.cell import Cell
from h1r_cli.throughput.orders import Peaks
from h1r_cli.throughput.peaks import peaks
from h1r_cli.throughput.suites import PAPER_CONFIGS
from h1r_plugins.engines.vllm.engine import vllm_engine

ROOFS = measured_roofs(Peaks(1e9, 1e12), Hardware(memory_gib=1.0))


@pytest.fixture
def config(tiny):
    return json.loads((tiny / "config.json").read_text())


def on(engine="torch", **options):
    return BenchThroughputSettings(model="m", engine=Part.model_validate({"name": engine, **options}))


def test_a_sequence_holds_what_the_model_really_keeps_of_a_prompt(tiny, config):
    model = FalconH1ForCausalLM(FalconH1Config.from_file(tiny))
    with torch.no_grad():
        _, [state] = model.prefill([tuple(range(1, 38))])
    found = footprint_of(config, on(dtype="float32"))
    kept = [state.keys, state.values]
    assert found.kv_bytes_per_token * 37 == sum(one.numel() * 4 for one in kept)
    assert found.state_bytes == (state.ssm.numel() + state.conv.numel()) * 4
    linear = sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear))
    assert found.matrix_weights == linear  # the head's with them, the embedding's and the convolution's without


def test_the_type_follows_the_engine(config):
    wide, narrow = footprint_of(config, on(dtype="float32")), footprint_of(config, on("vllm", dtype="bfloat16"))
    assert wide.weight_bytes == 2 * narrow.weight_bytes
    assert wide.state_bytes == 2 * narrow.state_bytes
    own = footprint_of(config, on(dtype="bfloat16"))
    assert own.weight_bytes == narrow.weight_bytes
    assert (own.state_bytes, own.kv_bytes_per_token) == (
        wide.state_bytes,
        wide.kv_bytes_per_token,
    )  # it keeps float32
    cuda = {"hardware": Hardware(device="cuda")}
    for engine, like in (("vllm", narrow), ("torch", wide), ("generate", wide)):
        assert footprint_of(config, on(engine).model_copy(update=cuda)).weight_bytes == like.weight_bytes
    assert footprint_of(config, on("vllm")).weight_bytes == wide.weight_bytes  # as vLLM does it on a CPU
    small = footprint_of(config, on("vllm", dtype="bfloat16", quantization="fp8"))
    assert 2 * small.weight_bytes == narrow.weight_bytes


def test_memory_is_weights_and_sequences_and_the_largest_batch_fills_it(config):
    cell = Cell(input_tokens=100, output_tokens=28, batch=3)
    model = footprint_of(config, on(dtype="float32"))
    found = arithmetic_of(config, on(dtype="float32"), cell, ROOFS)
    assert found.sequence_bytes == 128 * model.kv_bytes_per_token + model.state_bytes
    assert found.memory_bytes == model.held_bytes + 3 * found.sequence_bytes
    room = 0.9 * 2**30 - model.held_bytes
    assert found.largest_batch * found.sequence_bytes <= room < (found.largest_batch + 1) * found.sequence_bytes
    assert found.least_s == pytest.approx(3 * 28 / found.roof_per_s)


def test_the_largest_batch_is_of_the_cache_that_vllm_is_given(config):
    cell = Cell(input_tokens=100, output_tokens=28, batch=3)
    found = arithmetic_of(config, on("vllm", kv_cache_gib=0.01), cell, ROOFS)
    assert found.largest_batch == int(0.01 * 2**30 // found.sequence_bytes)
    assert arithmetic_of(config, on("vllm"), cell, ROOFS).largest_batch == 2 * 2**30 // found.sequence_bytes
    half = on("vllm", memory_frac=0.5, dtype="float32").model_copy(update={"hardware": Hardware(device="cuda")})
    room = 0.5 * 2**30 - footprint_of(config, half).held_bytes
    assert arithmetic_of(config, half, cell, ROOFS).largest_batch == int(room // found.sequence_bytes)


def test_what_vllm_takes_where_nothing_is_said_is_what_its_engine_says():
    usual = {name: parameter.default for name, parameter in signature(vllm_engine).parameters.items()}
    assert (usual["memory_frac"], usual["kv_cache_gib"]) == (MEMORY_FRAC, VLLM_CACHE_GIB)


def test_without_roofs_or_for_another_architecture_columns_stay_empty(config):
    cell = Cell(8, 8, 1)
    assert arithmetic_of(config, on(), cell, None).roof_per_s is None
    assert arithmetic_of({"model_type": "mamba"}, on(), cell, ROOFS) is None
    assert arithmetic_of(config, on("openai", base_urls="http://a/v1"), cell, ROOFS).roof_per_s is None


def test_where_two_models_cross_is_told_by_batch():
    configs, own = list(PAPER_CONFIGS.values()), [on("vllm", dtype="bfloat16")] * 2
    found = crossings(configs, own, (128, 8))
    assert (found.beyond, list(found.tokens)) == ("A", [8, 128])
    assert 0 < found.tokens[8] < found.tokens[128]
    turned = crossings(configs[::-1], own, (128, 8))
    assert (turned.beyond, turned.tokens) == ("B", pytest.approx(found.tokens))
    assert crossings(configs[:1], own[:1], (8,)) is None


def test_roofs_are_stated_by_a_profile_that_has_both():
    stated = Hardware(device="cuda", bandwidth_gb_per_s=3350.0, peak_tflops=989.0, memory_gib=80.0)
    found = stated_roofs(stated)
    assert (found.bytes_per_s, found.flops_per_s, found.memory_bytes) == (3350e9, 989e12, 80 * 2**30)
    assert stated_roofs(Hardware(peak_tflops=989.0)) is None
    assert stated_roofs(Hardware()) is None


def test_what_a_machine_can_do_is_measured_to_be_something_a_machine_can_do():
    found = peaks("cpu", torch.float32)
    assert 1e8 < found.bytes_per_s < 1e13
    assert 1e8 < found.flops_per_s < 1e16
