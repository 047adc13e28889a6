"""Real grammars of real shapes of schemas: what compiles, what is lost, and what comes of it when noise writes."""

import json
import random
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from llguidance import LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from sidecar.engine.json_schema.loosen import compiling
from sidecar.engine.json_schema.narrowing import WHOLE, narrowed
from sidecar.engine.structured_output.grammar import Grammars
from sidecar.engine.structured_output.loops import Mask
from tests.conftest import FULL
from tests.support.corpus import CORPUS, LOOSE
from tests.support.mutation import mutated
from tests.support.schemas import SCHEMAS
from tests.unit.engine.test_grammar import Writer

MUTATIONS = 20_000 if FULL else 300
ANSWERS = 20 if FULL else 2
FORMATS = jsonschema.FormatChecker(formats=("date", "email", "ipv4", "ipv6", "uuid"))
"""Those of which the judge knows the rules."""


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    return Writer(tmp_path_factory.mktemp("phi3"), "phi3")


def held(grammars: Grammars, schema: dict[str, Any], kind: str = "object") -> tuple[dict[str, Any], tuple[str, ...]]:
    """The schema as its grammar has it, and what that does not hold."""
    grammars._deadline = float("inf")
    read = narrowed(schema, kind)
    found, dropped = compiling(read.schema, grammars._problem)
    return found, (*read.loose, *dropped)


def test_published_shapes_are_held_but_for_single_keywords(writer: Writer, figure: Callable[[str], None]) -> None:
    lost = {name: held(writer.grammars, schema)[1] for name, schema in CORPUS.items()}
    assert {name: places for name, places in lost.items() if places} == LOOSE
    whole = sum(WHOLE in places for places in lost.values())
    figure(f"{len(lost)} schemas: {len(lost) - len(LOOSE)} held, {len(LOOSE)} lose a keyword, {whole} lose all")


def test_noise_writes_nothing_that_a_published_shape_would_refuse(writer: Writer) -> None:
    dice = random.Random(5)
    for name, schema in CORPUS.items():
        found, loose = held(writer.grammars, schema)
        for _ in range(0 if loose else ANSWERS):
            value = json.loads(noise(writer, found, dice))
            if not name.startswith("sloppy"):  # its judge would refuse such a schema
                jsonschema.validate(value, schema, format_checker=FORMATS)


def noise(writer: Writer, schema: dict[str, Any], dice: random.Random) -> str:
    """JSON that the grammar accepts, of random tokens; strings and lists end early."""
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(writer.grammars._json(schema)))
    matcher, mask = LLMatcher(writer.guide, grammar), allocate_token_bitmask(1, writer.size)
    vocabulary, tokens = writer.grammars.vocabulary, list[int]()
    ends = vocabulary.quotes | vocabulary.closers
    while not matcher.is_stopped():
        assert len(tokens) < 20_000
        fill_next_token_bitmask(matcher, mask)
        allowed: Mask = np.unpackbits(mask.view(np.uint8)[0], bitorder="little")[: writer.size].astype(bool)
        allowed[writer.end] = False
        if (allowed & ends).any() and dice.random() < 0.4:
            allowed &= ends
        choices = np.flatnonzero(allowed)
        if not len(choices):
            break
        tokens.append(int(dice.choice(choices)))
        assert matcher.consume_token(tokens[-1]), matcher.get_error()
    assert not matcher.is_error(), matcher.get_error()
    return writer.spell(tokens)


def test_no_schema_raises_and_every_one_compiles(writer: Writer, figure: Callable[[str], None]) -> None:
    """Whatever a client makes of one: what is lost is lost, and said."""
    dice = random.Random() if FULL else random.Random(1)
    sources, counted = [*SCHEMAS.values(), *CORPUS.values()], Counter[str]()
    for _ in range(MUTATIONS):
        schema = mutated(dice.choice(sources), dice)
        found, loose = held(writer.grammars, schema)
        assert not writer.grammars._problem(found), schema
        counted["all of it" if WHOLE in loose else "a keyword" if loose else "nothing"] += 1
    figure(", ".join(f"{count} lose {what}" for what, count in counted.most_common()))
    assert counted["all of it"] < MUTATIONS / 10  # what contradicts itself


# JSON Schema's own tests

SOURCE = "jsonschema==4.26.0"
"""A package whose source holds them."""


@pytest.fixture(scope="session")
def suite() -> Path:
    """The folder with a folder for each dialect."""
    folder = Path.home() / ".cache" / "claude-local-tests" / "json-schema"
    if not (folder / "tests").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        fetch = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder), SOURCE]
        if subprocess.run([sys.executable, "-m", "pip", *fetch], check=False, timeout=300).returncode:
            pytest.skip(f"the source of {SOURCE} cannot be had")
        [archive] = folder.glob("*.tar.gz")
        with tarfile.open(archive) as files:
            inner = [file for file in files if "/json/tests/" in file.name]
            for file in inner:
                file.name = file.name.partition("/json/")[2]
            files.extractall(folder, inner, filter="data")
    return folder / "tests"


KNOWN_WRONG = {"when if is false and has unevaluated properties"}
"""What a negated condition says of a property counts as speaking of it."""


@pytest.mark.full
@pytest.mark.parametrize("dialect", ["draft4", "draft7", "draft2020-12"])
def test_no_grammar_accepts_what_its_schema_refuses(
    writer: Writer, suite: Path, dialect: str, figure: Callable[[str], None]
) -> None:
    """By the tests of JSON Schema itself. It may refuse more: objects are closed."""
    schemas, answers = Counter[str](), Counter[str]()
    for file in sorted((suite / dialect).glob("*.json")):
        for group in json.loads(file.read_text("utf-8")):
            schema = group["schema"] if isinstance(group["schema"], dict) else {"allOf": [group["schema"]]}
            found, loose = held(writer.grammars, schema, "")
            loose = (*loose, *narrowed(schema).malformed)
            schemas["all of it" if WHOLE in loose else "a keyword" if loose else "nothing"] += 1
            for case in group["tests"]:
                accepted = accepts(writer, found, case["data"])
                answers["as it says" if accepted == case["valid"] else "narrower" if case["valid"] else "looser"] += 1
                if accepted and not loose and case["description"] not in KNOWN_WRONG:
                    assert case["valid"], (file.name, group["description"], case["description"])
    figure(f"{dialect}: " + ", ".join(f"{n} schemas lose {what}" for what, n in schemas.most_common()))
    figure(f"{dialect}: " + ", ".join(f"{n} cases {what}" for what, n in answers.most_common()))


def accepts(writer: Writer, schema: dict[str, Any], value: Any) -> bool:
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(writer.grammars._json(schema)))
    matcher = LLMatcher(writer.guide, grammar, log_level=0)
    tokens = writer.guide.tokenize_str(json.dumps(value, ensure_ascii=False))
    return all(matcher.consume_token(token) for token in tokens) and bool(matcher.is_accepting())
