"""Raw material: words, names, paths, commands and foreign text, in two halves that never meet.

`Pool("train")` and `Pool("held_out")` share no word, no source file and no help topic. Everything is drawn from the
Python standard library's own text or from the random number generator passed in. Knows nothing of conversations.
"""

import json
import random
import re
import string
import sysconfig
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from zlib import crc32

EXTENSIONS = (
    *("txt", "md", "py", "js", "ts", "json", "csv", "toml", "yaml", "yml", "cfg", "ini", "log"),
    *("html", "css", "sh", "rs", "go", "c", "h", "xml", "sql", "lock", "conf", "env"),
)
SIMPLE_COMMANDS = (
    *("ls", "ls -la", "pwd", "date", "whoami", "git status", "git log --oneline", "uname -a", "df -h", "make", "env"),
    *("id", "ls -l", "hostname", "uptime", "ps aux"),
)
BARE_NAMES = ("Makefile", "README", "LICENSE", "Dockerfile", ".gitignore", ".env", "CHANGES", "TODO", "Gemfile")


@cache
def _texts() -> tuple[tuple[str, str], ...]:
    """(name, text) of library sources and help topics."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(
        path for folder in (".", "json", "email", "asyncio", "http") for path in (library / folder).glob("*.py")
    )
    sources = [(path.name, path.read_text(errors="replace")[:40_000]) for path in files]
    return (*sources, *sorted(topics.items()))


class Pool:
    """One half of the material."""

    def __init__(self, split: str) -> None:
        held_out = split == "held_out"
        texts = [(name, text) for name, text in _texts() if (crc32(name.encode()) % 6 == 0) == held_out]
        self.texts: list[str] = [text for _, text in texts if len(text) > 400]
        self.prose: list[str] = [text for name, text in texts if name in topics and len(text) > 400]
        words = sorted({word for _, text in _texts() for word in re.findall(r"\b[a-z]{2,11}\b", text)})
        self.words: list[str] = [word for word in words if (crc32(word.encode()) % 6 == 0) == held_out]

    def word(self, rng: random.Random) -> str:
        """A word in some case, a number, an identifier or nonsense."""
        kind = rng.random()
        word = rng.choice(self.words)
        if kind < 0.5:
            return word
        if kind < 0.6:
            return word.capitalize() if rng.random() < 0.7 else word.upper()
        if kind < 0.7:
            return str(rng.randrange(10 ** rng.randint(1, 6)))
        if kind < 0.8:
            return self.identifier(rng)
        return nonsense(rng)

    def identifier(self, rng: random.Random) -> str:
        words = [rng.choice(self.words) for _ in range(rng.randint(1, 3))]
        return rng.choice(
            ("_".join(words), "-".join(words), "".join(map(str.capitalize, words)), words[0] + str(rng.randrange(100)))
        )

    def phrase(self, rng: random.Random, least: int = 1, most: int = 12) -> str:
        """Words with a little punctuation, at most 80 characters."""
        words = [self.word(rng) for _ in range(rng.randint(least, most))]
        if rng.random() < 0.25:
            words[rng.randrange(len(words))] = rng.choice(
                (self.path(rng), "é", "naïve", "日本", "ok!", "(a)", "50%", "C++", "a=b", "x,", "I", "you")
            )
        if rng.random() < 0.2 and len(words) > 2:
            words[0] += ","
        text = " ".join(words)[:80].rstrip()
        return text + (rng.choice(".!?") if rng.random() < 0.15 else "")

    def path(self, rng: random.Random) -> str:
        if rng.random() < 0.06:
            return rng.choice(BARE_NAMES)
        depth = rng.choices((0, 1, 2, 3), (55, 25, 13, 7))[0]
        folders = [self._stem(rng) for _ in range(depth)]
        name = self._stem(rng)
        extension = rng.choice(EXTENSIONS) if rng.random() < 0.85 else nonsense(rng)[:4]
        root = (
            rng.choice(("./", "../", "/", "~/", "/tmp/", "/home/" + rng.choice(self.words) + "/"))
            if rng.random() < 0.3
            else ""
        )
        return root + "/".join([*folders, f"{name}.{extension}"])

    def _stem(self, rng: random.Random) -> str:
        kind = rng.random()
        if kind < 0.45:
            return rng.choice(self.words)
        return self.identifier(rng) if kind < 0.75 else nonsense(rng)

    def command(self, rng: random.Random) -> str:
        """A shell command, harmless to look at and never run."""
        p = self.path

        def w(rng: random.Random) -> str:
            return rng.choice(self.words)

        simple = rng.choice(SIMPLE_COMMANDS)
        made = rng.choice(
            (
                simple,
                f"echo {self.phrase(rng, 1, 5)}",
                f'echo "{self.phrase(rng, 1, 4)}"',
                f"echo '{self.phrase(rng, 1, 4)}'",
                f"ls {p(rng)}",
                f"cat {p(rng)}",
                f"wc -l {p(rng)}",
                f"head -n {rng.randint(1, 99)} {p(rng)}",
                f"python3 {p(rng)} --{w(rng)} {rng.randrange(1000)}",
                f"python3 -c 'print({rng.randrange(99)}+{rng.randrange(99)})'",
                f'python -c "print({rng.randrange(99)})"',
                f"python3 -m {w(rng)} {w(rng)}",
                f"grep -n {w(rng)} {p(rng)}",
                f'grep -rn "{w(rng)}" {p(rng)}',
                f"git {w(rng)} {w(rng)}",
                f"git diff {nonsense(rng)}",
                f'git commit -m "{self.phrase(rng, 1, 4)}"',
                f"find . -name '*.{rng.choice(EXTENSIONS)}'",
                f"mkdir -p {p(rng)}",
                f"touch {p(rng)}",
                f"cp {p(rng)} {p(rng)}",
                f"./{w(rng)}.sh {self.word(rng)}",
                f"npm run {w(rng)}",
                f"{w(rng)} --{w(rng)}={self.word(rng)}",
                f"{w(rng)} -{rng.choice(string.ascii_letters)} {self.word(rng)}",
                f"sleep {rng.randrange(60)}",
                f'printf "{w(rng)}\\n{w(rng)}"',
                f"cd {w(rng)} && {simple}",
                f"{simple} | sort",
                f"{simple} > {p(rng)}",
                f"seq 1 {rng.randrange(99)}",
                f"FOO={w(rng)} {simple}",
                f"{nonsense(rng)} {nonsense(rng)}",
                f"curl -s {w(rng)}.example/{w(rng)}",
                f"cargo {w(rng)}",
                f"pytest {p(rng)} -k {w(rng)}",
            )
        )
        return made[:90].rstrip(" \\")

    def extract(self, rng: random.Random, size: int) -> str:
        """A piece of foreign text of about `size` characters, starting at a line."""
        text = rng.choice(self.prose if rng.random() < 0.6 else self.texts)
        start = rng.randrange(max(1, len(text) - size))
        return text[start : start + size].partition("\n")[2] or text[start : start + size]

    def sentence(self, rng: random.Random) -> str:
        sentences = [" ".join(piece.split()) for piece in re.split(r"(?<=[.:]) |\n\n", self.extract(rng, 600))]
        return (
            max(sentences[1:-1] or sentences, key=lambda piece: rng.random() * (5 < len(piece) < 160))[:160] or "It is."
        )


def nonsense(rng: random.Random) -> str:
    """Letters and digits without meaning: what induction has to copy without help."""
    kind = rng.random()
    if kind < 0.5:
        return "".join(rng.choice("bcdfghklmnprstvwxz") + rng.choice("aeiouy") for _ in range(rng.randint(1, 4)))
    letters = string.ascii_lowercase if kind < 0.75 else string.ascii_letters + string.digits
    return "".join(rng.choices(letters, k=rng.randint(2, 8)))


def instructions(pool: Pool, rng: random.Random, size: int) -> str:
    """Text of the kind agents put in front: headings, rules, environment lines, extracts; `size` characters or more."""
    parts: list[str] = []
    while not parts or sum(map(len, parts)) < size:
        w = [rng.choice(pool.words) for _ in range(4)]
        parts.append(
            rng.choice(
                (
                    f"# {w[0].capitalize()} {w[1]}",
                    f"- Always {w[0]} the {w[1]} before you {w[2]} it.",
                    f"- Never {w[0]} {w[1]} without {w[2]}.",
                    f"You are a careful {w[0]} that helps with {w[1]} and {w[2]}.",
                    f"Working directory: {pool.path(rng)}",
                    "Platform: linux",
                    f"Today's date: 20{rng.randint(10, 40)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
                    f"Current branch: {w[0]}-{w[1]}",
                    f"M {pool.path(rng)}",
                    f"Use the {w[0]} tool to {w[1]} files, for example {pool.path(rng)}.",
                    f'When the user says "{w[0]} {w[1]}", {w[2]} the {w[3]}.',
                    f"Read {pool.path(rng)} when you {w[0]}.",
                    json.dumps({w[0]: w[1], "type": w[2]}),
                    pool.sentence(rng),
                    pool.sentence(rng),
                    pool.sentence(rng),
                    pool.extract(rng, rng.randint(80, 400)),
                )
            )
        )
    return "\n".join(parts)
