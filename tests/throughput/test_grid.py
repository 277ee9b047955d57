"""The cells that settings ask for, which engine either side runs on, and the published grid."""

import json
from pathlib import Path

import pytest

from h1r_cli.settings import BenchThroughputSettings, Part
from h1r_cli.throughput.grid import devices, grid, side_settings
from h1r_cli.throughput.suites import PAPER, PAPER_CONFIGS, PAPER_MODELS, PAPER_SHAPES

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/throughput_falcon_h1r.json").read_text())


def settings(**given):
    usual = {"model": "h1r-nano", "shapes": ((16, 8),), "batch": (1,)}
    return BenchThroughputSettings(**usual | given)


def part(name, **options):
    return Part.model_validate({"name": name, **options})


def test_a_grid_is_every_shape_with_every_batch_from_the_smallest():
    cells = grid(settings(shapes=((16, 8), (4, 2)), batch=(8, 2)))
    asked = [(one.cell.input_tokens, one.cell.output_tokens, one.cell.batch) for one in cells]
    assert asked == [(16, 8, 2), (16, 8, 8), (4, 2, 2), (4, 2, 8)]
    assert cells[1].key == "16->8 x 8"


def test_an_axis_of_the_engine_is_its_option_and_engines_are_started_as_rarely_as_can_be():
    cells = grid(settings(axes={"logprobs": (0, 20), "dtype": ("float32", "bfloat16")}))
    assert [(one.engines[0].options["dtype"], one.top_logprobs) for one in cells] == [
        ("float32", 0),
        ("float32", 20),
        ("bfloat16", 0),
        ("bfloat16", 20),
    ]
    assert all("logprobs" not in one.engines[0].options for one in cells)
    assert len({one.key for one in cells}) == 4


def test_pruning_is_on_with_the_usual_pruner_or_one_that_is_named():
    cells = grid(settings(axes={"pruning": (False, True, "tail-window:window_tokens=9")}))
    assert [one.pruner for one in cells] == [None, "lowest-window", "tail-window:window_tokens=9"]


def test_b_has_from_a_what_it_does_not_set():
    both = settings(vs={"engine": {"name": "vllm"}})
    [cell] = grid(both)
    assert [one.name for one in cell.engines] == ["torch", "vllm"]
    assert [side_settings(both, place, cell.engines[place]).model for place in (0, 1)] == ["h1r-nano", "h1r-nano"]
    other = settings(vs={"model": "other"})
    assert side_settings(other, 1, grid(other)[0].engines[1]).model == "other"
    assert grid(other)[0].engines == (other.engine, other.engine)


def test_the_suite_is_the_published_grid_with_its_parallelism():
    found = {
        (cell["input"], cell["output"], cell["batch"]): (cell["falcon"], cell["qwen"]) for cell in GOLDEN["cells"]
    }
    assert PAPER.keys() == found.keys()
    for key, published in PAPER.items():
        sides = zip(published.output_per_s, published.layouts, strict=True)
        assert [[rate, *layout] for rate, layout in sides] == list(found[key])
    assert list(PAPER_CONFIGS.values()) == list(GOLDEN["configs"].values())
    asked = settings(
        model=PAPER_MODELS[0],
        vs={"model": PAPER_MODELS[1]},
        engine=part("vllm"),
        shapes=PAPER_SHAPES,
        batch=(2, 32),
        suite="paper",
        hardware={"device": "cuda", "devices_per_node": 8},
    )
    cells = {(one.cell.input_tokens, one.cell.batch): one for one in grid(asked)}
    layouts = [devices(side_settings(asked, place, cells[512, 32].engines[place])) for place in (0, 1)]
    assert layouts == [(2, 2), (4, 1)]
    assert cells[8192, 32].published == (1045.5, 812.5)


def test_what_is_published_is_of_its_own_models_alone():
    suite = {"vs": {"model": PAPER_MODELS[1]}, "shapes": PAPER_SHAPES, "batch": (2,), "suite": "paper"}
    assert [one.published for one in grid(settings(engine=part("vllm"), **suite))] == [(None, 214), (None, 215)]
    # a server is spread as it is, and another engine not at all
    for other in (part("openai", base_urls="http://a/v1"), part("torch")):
        asked = grid(settings(engine=other, **suite))
        assert [one.published for one in asked] == [(None, None)] * 2
        assert asked[0].engines == (other, other)


def test_an_axis_comes_before_the_suite_and_what_is_published_is_of_the_suite_s_own_layout_alone():
    asked = settings(
        model=PAPER_MODELS[0], engine=part("vllm"), shapes=((512, 32_768),), batch=(8,), suite="paper",
        axes={"tensor_parallel": (1, 2)},
    )  # fmt: skip
    one, two = grid(asked)
    assert [cell.engines[0].options["tensor_parallel"] for cell in (one, two)] == [1, 2]
    assert (one.published, two.published) == ((None,), (467.5,))


@pytest.mark.parametrize(
    ("engine", "hardware", "wanted"),
    [
        (part("torch"), {}, (1, 1)),
        (part("torch"), {"device": "cuda"}, (1, 1)),
        (part("vllm", tensor_parallel=2), {"device": "cuda", "devices_per_node": 8}, (2, 4)),
        (part("vllm", tensor_parallel=4, replicas=1), {"device": "cuda", "devices_per_node": 8}, (4, 1)),
        (part("vllm"), {"device": "cuda", "devices_per_node": 2}, (1, 2)),
        (part("openai", base_urls="http://a/v1"), {}, None),
    ],
)
def test_devices_are_counted_where_they_can_be_known(engine, hardware, wanted):
    assert devices(side_settings(settings(hardware=hardware), 0, engine)) == wanted
