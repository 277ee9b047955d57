"""The Engine contract, kept by both built-in engines on a tiny model; transformers is the oracle."""

from dataclasses import replace

import pytest
import torch
from engine_requests import FREE, PROMPTS, StopAfter, ids_of, request, run

from h1r_cli.deepconf.confidence import sampled_confidence, token_confidence
from h1r_cli.errors import ConfigError, DataError
from h1r_cli.generation import collect
from h1r_cli.model.load import load_model
from h1r_cli.model.weights import read_weights
from h1r_cli.sft.row_loss import RowLoss
from h1r_cli.train.step import Updater
from h1r_cli.types import Finished, Request, Sampling, Tokens
from h1r_plugins.engines.generate_engine import generate_engine
from h1r_plugins.engines.torch_engine import torch_engine
from h1r_plugins.engines.transformers_engine import transformers_engine
from h1r_plugins.engines.vllm.engine import vllm_engine
from h1r_plugins.engines.vllm.process import environment

ENGINES = {"torch": torch_engine, "transformers": transformers_engine}
every_engine = pytest.mark.parametrize("factory", ENGINES.values(), ids=ENGINES)


def test_the_torch_engine_writes_what_transformers_writes(tiny):
    requests = [
        request(f"{number}-{seed}", prompt, seed) for number, prompt in enumerate(PROMPTS) for seed in (0, 1)
    ]  # fmt: skip
    with torch_engine(model=tiny, slots=3) as ours, transformers_engine(model=tiny) as oracle:
        found, wanted = run(ours, requests), run(oracle, requests)
    assert found.keys() == wanted.keys()
    for name, done in found.items():
        assert done.ids == wanted[name].ids
        assert done.behaviour_logprobs == pytest.approx(wanted[name].behaviour_logprobs, abs=1e-4)
        for confidence, units in done.confidence.items():  # 2^-16 nat a unit
            assert units == pytest.approx(wanted[name].confidence[confidence], abs=8)


@every_engine
def test_log_probabilities_are_of_what_was_sampled_and_confidences_of_the_raw_logits(factory, tiny):
    warm = Request("a", PROMPTS[0], Sampling(temperature=0.85, top_p=0.9, max_tokens=16, seed=3, ignore_eos=True))
    with factory(model=tiny) as engine:
        done = run(engine, [replace(warm, confidences=("top-k", "sampled"), confidence_top_k=5)])["a"]
    ids = torch.tensor([[*PROMPTS[0], *done.ids]])
    with torch.no_grad():
        logits = load_model(tiny)(ids)[0, len(PROMPTS[0]) - 1 : -1]
    drawn = torch.tensor(done.ids)
    tempered = (logits / 0.85).softmax(-1)
    for row, (probs, token) in enumerate(zip(tempered, done.ids, strict=True)):
        ordered, order = probs.sort(descending=True)
        kept = order[(ordered.cumsum(0) - ordered) < 0.9]
        assert token in kept
        assert done.behaviour_logprobs[row] == pytest.approx(
            (probs[token] / probs[kept].sum()).log().item(), abs=1e-4
        )
    raw = logits.log_softmax(-1)
    assert done.confidence["top-k"] == pytest.approx(token_confidence(raw, 5).tolist(), abs=8)
    assert done.confidence["sampled"] == pytest.approx(sampled_confidence(raw, drawn).tolist(), abs=8)


@every_engine
def test_a_pruned_trace_ends_at_the_token_that_is_not_kept(factory, tiny):
    with factory(model=tiny) as engine:
        whole = run(engine, [request("a", PROMPTS[0])])["a"]
        cut = run(engine, [request("a", PROMPTS[0], policy=StopAfter(5))])["a"]
    assert (cut.end, len(cut.ids)) == ("pruned", 5)
    assert cut.ids == whole.ids[:5]
    assert cut.confidence["top-k"] == pytest.approx(whole.confidence["top-k"][:5], abs=1)  # a float's last bit


@every_engine
def test_completions_end_at_stop_tokens_after_min_tokens_and_at_max_tokens(factory, tiny):
    with factory(model=tiny) as engine:
        free = run(engine, [request("a", PROMPTS[0])])["a"]
        stop = free.ids[6]
        first = free.ids.index(stop)
        ending = replace(FREE, ignore_eos=False, stop_token_ids=(stop,))
        found = run(
            engine,
            [
                Request("stops", PROMPTS[0], ending),
                Request("later", PROMPTS[0], replace(ending, min_tokens=first + 1)),
                Request("never", PROMPTS[0], replace(ending, ignore_eos=True)),
            ],
        )
    assert (found["stops"].end, found["stops"].ids) == ("stop", free.ids[: first + 1])
    assert len(found["later"].ids) > first + 1
    assert stop not in found["later"].ids[: first + 1]
    assert (found["never"].end, found["never"].ids) == ("length", free.ids)


@every_engine
def test_after_abort_at_most_two_further_tokens_come(factory, tiny):
    endless = replace(FREE, max_tokens=4000)
    with factory(model=tiny, chunk_tokens=1) as engine:
        engine.submit(Request("running", PROMPTS[0], endless))
        engine.submit(request("other", PROMPTS[1]))
        seen = at_abort = 0
        ends = {}
        for event in engine.events():
            if isinstance(event, Finished):
                ends[event.request_id] = event
            elif event.request_id == "running":
                seen += len(event.ids)
                if seen == 10:
                    engine.abort("running")
                    at_abort = seen
    assert ends["running"].reason == "aborted"
    assert at_abort <= ends["running"].tokens <= at_abort + 2
    assert ends["running"].tokens == seen
    assert ends["other"].reason == "length"


@every_engine
def test_a_request_that_waits_can_be_aborted(factory, tiny):
    slots = {"slots": 1} if factory is torch_engine else {}
    with factory(model=tiny, **slots) as engine:
        engine.submit(request("first", PROMPTS[0]))
        engine.submit(request("waits", PROMPTS[1]))
        engine.abort("waits")
        found = {done.request_id: done for done in collect(engine)}
    assert (found["waits"].end, found["waits"].ids) == ("aborted", ())
    assert found["first"].end == "length"


@every_engine
def test_new_weights_write_what_a_fresh_engine_on_them_writes(factory, tiny, other):
    requests = [request(str(number), prompt) for number, prompt in enumerate(PROMPTS)]
    with factory(model=other) as fresh:
        wanted = run(fresh, requests)
    with factory(model=tiny) as engine:
        before = run(engine, requests)
        engine.load_weights(read_weights(other), version=7)
        for one in requests:
            engine.submit(one)
        versions = {event.version for event in engine.events() if isinstance(event, Tokens)}
        after = run(engine, requests)
    assert ids_of(after) == ids_of(wanted)
    assert ids_of(before) != ids_of(wanted)
    assert versions == {7}


@every_engine
def test_weights_are_refused_while_a_request_is_in_flight(factory, tiny):
    with factory(model=tiny) as engine:
        engine.submit(request("a", PROMPTS[0]))
        with pytest.raises(ConfigError, match="between requests"):
            engine.load_weights(read_weights(tiny), version=1)


@every_engine
def test_an_engine_that_slept_writes_the_same(factory, tiny):
    with factory(model=tiny) as engine:
        before = run(engine, [request("a", PROMPTS[2])])
        engine.sleep()
        engine.wake()
        assert ids_of(run(engine, [request("a", PROMPTS[2])])) == ids_of(before)


@every_engine
def test_a_reader_who_stops_and_comes_back_has_lost_nothing(factory, tiny):
    with factory(model=tiny, chunk_tokens=2) as engine:
        wanted = run(engine, [request("a", PROMPTS[0]), request("b", PROMPTS[1])])
        engine.submit(request("a", PROMPTS[0]))
        engine.submit(request("b", PROMPTS[1]))
        ids = {"a": (), "b": ()}
        ended = 0
        while ended < 2:
            for event in engine.events():
                if isinstance(event, Tokens):
                    ids[event.request_id] += event.ids
                else:
                    ended += 1
                break
    assert ids == ids_of(wanted)


@every_engine
def test_what_cannot_be_run_is_refused_when_it_is_submitted(factory, tiny):
    with factory(model=tiny) as engine:
        with pytest.raises(ConfigError, match="empty prompt"):
            engine.submit(request("a", ()))
        with pytest.raises(ConfigError, match="no confidence 'perplexity'"):
            engine.submit(Request("a", (1,), FREE, confidences=("perplexity",)))
        engine.submit(request("a", PROMPTS[0]))
        with pytest.raises(ConfigError, match="in flight already"):
            engine.submit(request("a", PROMPTS[0]))


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def llama(request, tmp_path, tiny):
    """A tiny Llama, with the tokenizer of the tiny Falcon-H1."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=304, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=request.param,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    return tmp_path


def test_another_architecture_is_refused_with_the_engine_that_runs_it(llama):
    with pytest.raises(ConfigError, match="is another architecture"), torch_engine(model=llama):
        pass
    with transformers_engine(model=llama) as engine:
        assert len(run(engine, [request("a", PROMPTS[0])])["a"].ids) == FREE.max_tokens


@pytest.mark.parametrize("factory", [transformers_engine, generate_engine])
def test_an_engine_takes_the_weights_of_a_trainer_of_another_architecture_and_no_others(factory, llama):
    trained = load_model(llama)
    with torch.no_grad():
        trained.hub.model.layers[0].mlp.up_proj.weight.fill_(0.25)
    policy = Updater(RowLoss(trained), weight_decay=0.0, clip_norm=1.0)
    with factory(model=llama) as engine:
        engine.load_weights(policy.weights(), version=1)
        assert (engine._model.model.layers[0].mlp.up_proj.weight == 0.25).all()
        with pytest.raises(DataError, match=r"1 unknown: hub\.model\.norm\.weight"):
            engine.load_weights([*policy.weights(), ("hub.model.norm.weight", torch.ones(16))], version=2)
        with pytest.raises(DataError, match="1 missing"):
            engine.load_weights(list(policy.weights())[1:], version=2)


def test_replicas_of_vllm_that_do_not_fit_on_the_devices_are_refused_before_anything_starts(tiny):
    with pytest.raises(ConfigError, match="4 replicas of 2 devices do not fit on 4"):
        vllm_engine(model=tiny, device="cuda", devices=4, tensor_parallel=2, replicas=4)
    with pytest.raises(ConfigError, match="1 replicas of 2 devices do not fit on 1"):
        vllm_engine(model=tiny, device="cuda", devices=1, tensor_parallel=2)


def test_each_process_of_vllm_sees_its_own_devices(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen = [environment("cuda", 2 * number, 2)["CUDA_VISIBLE_DEVICES"] for number in range(4)]
    assert seen == ["0,1", "2,3", "4,5", "6,7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6,GPU-1f,7")  # they are counted among those that we may use
    seen = [environment("cuda", 2 * number, 2)["CUDA_VISIBLE_DEVICES"] for number in range(2)]
    assert seen == ["4,6", "GPU-1f,7"]
    with pytest.raises(ConfigError, match="devices 4 to 5 are not among those of CUDA_VISIBLE_DEVICES"):
        environment("cuda", 4, 2)
