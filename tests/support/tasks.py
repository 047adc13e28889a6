"""Tasks for a small real model: wishes with the call that each means, texts with the JSON that each holds, questions,
and one conversation."""

from dataclasses import dataclass
from typing import Any

from sidecar.conversation import Tool


def _tool(name: str, description: str, required: list[str], **properties: Any) -> Tool:
    return Tool(name, description, {"type": "object", "properties": properties, "required": required})


_TEXT = {"type": "string"}

TOOLS = (
    _tool("get_weather", "Get the weather of a city.", ["city"], city=_TEXT, unit={"enum": ["celsius", "fahrenheit"]}),
    _tool("read_file", "Read a file from disk.", ["path"], path=_TEXT),
    _tool("run_command", "Run a command in the shell.", ["command"], command=_TEXT),
    _tool("search_web", "Search the web.", ["query"], query=_TEXT, limit={"type": "integer", "minimum": 1}),
    _tool("send_email", "Send an email.", ["to", "subject"], to=_TEXT, subject=_TEXT, body=_TEXT),
    _tool("add", "Add two numbers.", ["a", "b"], a={"type": "number"}, b={"type": "number"}),
    _tool("translate", "Translate a text into a language.", ["text", "language"], text=_TEXT, language=_TEXT),
    _tool("set_timer", "Set a timer.", ["minutes"], minutes={"type": "integer"}, label=_TEXT),
    _tool("list_files", "List the files of a folder.", ["folder"], folder=_TEXT, recursive={"type": "boolean"}),
    _tool("create_issue", "Create an issue.", ["title"], title=_TEXT, labels={"type": "array", "items": _TEXT}),
    _tool("play_music", "Play music of an artist.", ["artist"], artist=_TEXT, song=_TEXT),
    _tool("convert_currency", "Convert money.", ["amount", "to"], amount={"type": "number"}, to=_TEXT, source=_TEXT),
)

WISHES: tuple[tuple[str, str, str], ...] = (
    *(("get_weather", f"What is the weather in {c}?", c) for c in ("Paris", "London", "Tokyo", "Madrid", "Oslo")),
    *(
        ("read_file", f"Read the file {p}.", p)
        for p in ("notes.txt", "src/main.py", "README.md", "a.csv", "/etc/hosts")
    ),
    *(("run_command", f"Run the command {c}.", c) for c in ("ls -la", "git status", "make test", "pwd", "df -h")),
    *(
        ("search_web", f"Search the web for {q}.", q)
        for q in ("cheap flights", "python tutorials", "red shoes", "news about Mars", "apple pie recipes")
    ),
    *(
        ("send_email", f"Send an email to {w} with the subject {s}.", w)
        for w, s in (
            ("anna@example.com", "Lunch"),
            ("bob@example.com", "Report"),
            ("c.d@example.org", "Hello"),
            ("team@example.com", "Monday"),
            ("eve@example.net", "Invoice"),
        )
    ),
    *(("add", f"Add {a} and {b}.", str(a)) for a, b in ((2, 3), (17, 25), (100, 1), (41, 58), (7, 80))),
    *(
        ("translate", f"Translate '{t}' into {lang}.", lang)
        for t, lang in (
            ("good morning", "French"),
            ("thank you", "German"),
            ("I am hungry", "Spanish"),
            ("the red house", "Italian"),
            ("see you soon", "Dutch"),
        )
    ),
    *(("set_timer", f"Set a timer for {m} minutes.", str(m)) for m in (5, 10, 25, 45, 90)),
    *(("list_files", f"List the files in {f}.", f) for f in ("/tmp", "src", "/home/anna", "docs", "tests/unit")),
    *(
        ("create_issue", f"Create an issue with the title '{t}'.", t)
        for t in ("Login fails", "Slow start", "Typo in manual", "Crash on exit", "Add dark mode")
    ),
    *(("play_music", f"Play music by {a}.", a) for a in ("Mozart", "The Beatles", "Miles Davis", "Björk", "Queen")),
    *(
        ("convert_currency", f"Convert {n} dollars to {t}.", str(n))
        for n, t in ((50, "euros"), (100, "yen"), (20, "pounds"), (75, "francs"), (12, "rupees"))
    ),
)
"""The tool that is meant, what is asked, and a word that its arguments must hold."""


@dataclass(frozen=True)
class Question:
    """Something to be answered as JSON."""

    text: str
    schema: dict[str, Any]
    holds: str
    """What a right answer has in it."""


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_NUMBER = {"type": "integer"}
_PERSON = _object(name=_TEXT, age=_NUMBER)
_RECIPE = _object(title=_TEXT, ingredients=_list(_TEXT), steps=_list(_TEXT))

QUESTIONS: tuple[Question, ...] = (
    Question("Anna is 31 years old. Extract the person.", _PERSON, "Anna"),
    Question("Extract the person: Peter Smith, aged 54, lives in Leeds.", _PERSON, "Peter"),
    Question(
        "What is the capital of France, and of which continent is it part?",
        _object(capital=_TEXT, continent=_TEXT),
        "Paris",
    ),
    Question("List five colours.", _object(colours=_list(_TEXT)), "red"),
    Question("Give me a recipe for pancakes.", _RECIPE, "flour"),
    Question("Give me a recipe for tomato soup.", _RECIPE, "omato"),
    Question("Plan a day in Rome, hour by hour.", _object(plan=_list(_object(hour=_NUMBER, activity=_TEXT))), "Rome"),
    Question(
        "Is 'I love this film' positive, negative or neutral?",
        _object(sentiment={"enum": ["positive", "negative", "neutral"]}),
        "positive",
    ),
    Question("Summarise: the cat sat on the mat and slept all day.", _object(summary=_TEXT), "cat"),
    Question("Write a short story about a fox.", _object(title=_TEXT, story=_TEXT), "fox"),
    Question("Name the planets of the solar system.", _object(planets=_list(_TEXT)), "Mars"),
    Question("List the numbers from one to ten.", _object(numbers=_list(_NUMBER)), "10"),
    Question("What can I do against a headache?", _object(advice=_list(_TEXT)), "est"),
    Question("Describe the city of Berlin.", _object(name=_TEXT, country=_TEXT, description=_TEXT), "Germany"),
    Question("Write unit test names for a function that adds numbers.", _object(tests=_list(_TEXT)), "add"),
    Question(
        "Make a shopping list for a birthday party.", _object(items=_list(_object(name=_TEXT, amount=_NUMBER))), "ake"
    ),
    Question("Which languages are spoken in Switzerland?", _object(languages=_list(_TEXT)), "German"),
    Question("Write a limerick.", _object(lines=_list(_TEXT)), "a"),
    Question("Explain why the sky is blue.", _object(question=_TEXT, answer=_TEXT), "light"),
    Question("Draw a house in ASCII.", _object(picture=_TEXT), "|"),
)

FACTS: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Italy?", "Rome"),
    ("What is the capital of Japan?", "Tokyo"),
    ("Which planet is the largest of the solar system?", "Jupiter"),
    ("Which gas do plants take from the air?", "carbon"),
    ("How many days has a week?", "seven|7"),
    ("What is the opposite of hot?", "cold"),
    ("What colour do blue and yellow make together?", "green"),
    ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("What is frozen water called?", "ice"),
    ("What is 2 plus 3?", "5|five"),
    ("In which continent is Egypt?", "Africa"),
    ("What is the chemical formula of water?", "H2O|H₂O"),
    ("Which animal barks?", "dog"),
    ("Write a Python function that adds two numbers.", "def "),
    ("Which command lists files in a Unix shell?", "ls"),
    ("What does HTML stand for?", "Markup"),
    ("Name the three primary colours.", "red"),
    ("Write one sentence about the sea.", "sea|ocean"),
    ("Say hello in one word.", "hello|hi"),
)
"""What is asked, and how a word begins that a right answer has in it."""

TURNS: tuple[tuple[str, str], ...] = (
    ("Hello, my name is Anna and I live in Oslo.", ""),
    ("What is my name?", "Anna"),
    ("In which city do I live?", "Oslo"),
    ("What is the capital of France?", "Paris"),
    ("Tell me one thing to see there.", "Eiffel|Louvre|Notre"),
    ("Give me a simple recipe for pancakes.", "flour"),
    ("How long does it take?", "minute"),
    ("What is 7 plus 5?", "12|twelve"),
    ("Write a Python function that adds two numbers.", "def "),
    ("Now one that multiplies them.", "def "),
    ("What is a list in Python?", "list"),
    ("Name three animals.", "dog|cat|lion|elephant|tiger|bear"),
    ("Which of them is the largest?", ""),
    ("What is the opposite of big?", "small|little|tiny"),
    ("Translate 'good morning' into French.", "bonjour"),
    ("What colour is the sky?", "blue"),
    ("Why?", "light|scatter"),
    ("What is my name, again?", "Anna"),
    ("Summarise our talk in one sentence.", ""),
    ("Goodbye!", "bye|farewell|welcome|day"),
)
"""What somebody says, one turn after the other, and the same."""
