"""Reward `instructions`: the constraints of IFEval (25 kinds) and IFBench (58), by the benchmarks' own checkers.

`problem.answer` is a JSON text {"instruction_id_list": [...], "kwargs": [...]} as both benchmarks have it. The
checkers come with the package if-verifiable, which holds them as Google and AI2 published them; they are called
strictly, without the looser readings. Where they judge by chance or in favour of what they can't read, we don't:

- a text without a recognisable language is in no language (they count it as in the one that was asked for);
- three kinds are counted here: `keywords:letter_frequency` and `repeat:repeat_span` (they put a letter at random in
  place of a sign, and a span at random in place of one from word 0), and `number_placeholders` (theirs takes a minute
  for 100,000 open brackets);
- an argument that lacks is an error (they draw one), and so is an unknown kind (they leave it out);
- langdetect has a fixed seed, so that the same text is always in the same language;
- NLTK's data, which seven kinds need, are never fetched during a run: without them such a problem is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from h1r_cli import hookimpl
from h1r_cli.errors import ConfigError, DataError, MissingExtraError, listing, nearest
from h1r_cli.rewards.latex.extract import answer_part
from h1r_cli.types import Problem, Verdict, Verifier

PUNKT, TAGGER, STOP_WORDS = "tokenizers/punkt_tab", "taggers/averaged_perceptron_tagger_eng", "corpora/stopwords"
NEEDED_DATA: Mapping[str, tuple[str, ...]] = {
    "change_case:capital_word_frequency": (PUNKT,),
    "format:title_case": (PUNKT,),
    "length_constraints:number_sentences": (PUNKT,),
    "ratio:stop_words": (STOP_WORDS,),
    "words:keywords_specific_position": (PUNKT,),
    "words:start_verb": (PUNKT, TAGGER),
    "words:words_position": (PUNKT,),
}
LONGEST_ANSWER_CHARS = 32_768  # some checkers need quadratic time: a second for so many
IN_A_LANGUAGE = {"language:response_language", "change_case:english_capital", "change_case:english_lowercase"}


def instructions(*, credit: Literal["all", "share"] = "all") -> Verifier:
    """Reward 1 where all constraints are followed, else 0; with `credit` "share", the share that is followed.

    Needs the extra `instructions`.
    """
    if find_spec("if_verifiable") is None:
        raise MissingExtraError("if-verifiable", "instructions", "reward 'instructions'")
    return InstructionsVerifier(credit)


@dataclass(frozen=True, slots=True)
class InstructionsVerifier:
    """Never raises on what a model writes: a checker that does is a constraint that is not followed."""

    credit: Literal["all", "share"]

    def __call__(self, problem: Problem, completion: str, /) -> Verdict:
        """Judge the answer part, which is also what is extracted; `parts` has each constraint by its id, and a second
        one of the same id as "id#2".

        Raises:
            DataError: the reference is no list of constraints, or one of an unknown kind or without its arguments.
            ConfigError: NLTK's data for a constraint are not installed.
        """
        if problem.answer is None:
            return Verdict(0.0, False, answer_part(completion), "no reference answer")
        constraints = read_constraints(problem.id, problem.answer)
        answer = answer_part(completion)
        if answer is None:
            return Verdict(0.0, False, None, "the thought does not end", dict.fromkeys(constraints, 0.0))
        text = answer.strip()
        if len(text) > LONGEST_ANSWER_CHARS:
            reason = f"over {LONGEST_ANSWER_CHARS} characters"
            return Verdict(0.0, False, text, reason, dict.fromkeys(constraints, 0.0))
        parts = {key: float(bool(text) and constraint(text)) for key, constraint in constraints.items()}
        broken = [key for key, followed in parts.items() if not followed]
        reward = sum(parts.values()) / len(parts) if self.credit == "share" else float(not broken)
        return Verdict(reward, not broken, text, f"broken: {', '.join(broken)}" if broken else "all followed", parts)


Constraint = Callable[[str], bool]


def read_constraints(problem_id: str, reference: str) -> dict[str, Constraint]:
    """The constraints of a reference, ready to judge a text, by their ids; see `InstructionsVerifier`."""
    try:
        table = json.loads(reference)
        pairs = list(zip(table["instruction_id_list"], table["kwargs"], strict=True))
        asked = [(str(name), _arguments(kwargs)) for name, kwargs in pairs]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _bad(
            problem_id, f"has no list of constraints as its answer ({type(error).__name__}: {error})"
        ) from error
    if not asked:
        raise _bad(problem_id, "has no constraint")
    found: dict[str, Constraint] = {}
    for name, kwargs in asked:
        times = 1 + sum(key.partition("#")[0] == name for key in found)
        found[name if times == 1 else f"{name}#{times}"] = _constraint(problem_id, name, kwargs)
    return found


def _constraint(problem_id: str, name: str, kwargs: dict[str, Any]) -> Constraint:
    made = checkers().get(name)
    if made is None:
        guess = nearest(name, checkers())
        raise DataError(
            f"problem '{problem_id}' has a constraint of unknown kind '{name}'",
            known=listing(checkers()),
            fix=f"did you mean '{guess}'?" if guess else "name one of the kinds of IFEval or IFBench",
        )
    for resource in NEEDED_DATA.get(name, ()):
        require_data(resource, name)
    checker = made(name)
    lacking = sorted(set(checker.get_instruction_args_keys()) - kwargs.keys())
    if lacking:
        raise _bad(problem_id, f"has a constraint '{name}' without '{lacking[0]}'")
    if name in COUNTED_HERE:
        return lambda text: COUNTED_HERE[name](text, **kwargs)
    try:
        checker.build_description(**kwargs)
    except (ValueError, TypeError, KeyError) as error:  # KeyError: a language that it does not know
        raise _bad(problem_id, f"has a constraint '{name}' that cannot be read: {error}") from error
    return lambda text: (name not in IN_A_LANGUAGE or has_language(text)) and follows(checker, text)


def _arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are set; whole numbers as int: IFBench writes 5.0, and words are indexed by them."""
    given = {key: value for key, value in kwargs.items() if value is not None}
    return {key: int(v) if isinstance(v, float) and v.is_integer() else v for key, v in given.items()}


def follows(checker: Any, text: str) -> bool:
    """Whether a checker of the package lets a text pass; one that it cannot digest does not."""
    try:
        return bool(checker.check_following(text))
    except Exception:  # survives the checkers' bugs with what a model writes
        return False


def _bad(problem_id: str, what: str) -> DataError:
    return DataError(
        f"problem '{problem_id}' {what}",
        known='{"instruction_id_list": [...], "kwargs": [{...}, ...]}',
        fix="mend that problem, or judge it by another reward",
    )


# --- counted here -------------------------------------------------------------------------------------------


def _letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    times = text.lower().count(letter.lower())
    return times >= let_frequency if let_relation == "at least" else times < let_frequency


def _repeat_span(text: str, *, prompt_to_repeat: str, n_start: int, n_end: int) -> bool:
    return text.lower().split() == prompt_to_repeat.lower().split()[n_start:n_end]


def _number_placeholders(text: str, *, num_placeholders: int) -> bool:
    found = 0
    for line in text.split("\n"):
        opened = line.find("[")
        while opened != -1 and (closed := line.find("]", opened)) != -1:
            found += 1
            opened = line.find("[", closed)
    return found >= num_placeholders


COUNTED_HERE: Mapping[str, Callable[..., bool]] = {
    "detectable_content:number_placeholders": _number_placeholders,
    "keywords:letter_frequency": _letter_frequency,
    "repeat:repeat_span": _repeat_span,
}


# --- the package --------------------------------------------------------------------------------------------


@cache
def checkers() -> Mapping[str, Callable[[str], Any]]:
    """The checkers' classes by the id of their kind."""
    nltk: Any = import_module("nltk")
    langdetect: Any = import_module("langdetect")
    langdetect.DetectorFactory.seed = 0
    download, nltk.download = nltk.download, lambda *_, **__: False  # the import would fetch NLTK's data
    try:
        benchmarks = [
            import_module(f"if_verifiable.{name}.instructions_registry").INSTRUCTION_DICT
            for name in ("ifeval", "ifbench")
        ]
    finally:
        nltk.download = download
    return {name: made for benchmark in benchmarks for name, made in benchmark.items()}


@cache
def require_data(resource: str, wanted_by: str) -> None:
    """An error where one of NLTK's data sets is not on this machine."""
    try:
        import_module("nltk").data.find(resource)
    except LookupError as error:
        name = resource.partition("/")[2]
        raise ConfigError(
            f"constraint '{wanted_by}' needs NLTK's {name}, which is not installed",
            fix=f"python -m nltk.downloader {name}",
        ) from error


def has_language(text: str) -> bool:
    """Whether a language can be told from a text at all; not from numbers and signs."""
    langdetect = import_module("langdetect")
    try:
        langdetect.detect(text)
    except langdetect.LangDetectException:
        return False
    return True


@hookimpl
def h1r_rewards() -> Mapping[str, Callable[..., Verifier]]:
    return {"instructions": instructions}
