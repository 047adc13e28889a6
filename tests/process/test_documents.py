"""PDF documents are read by processes of their own: what they hold, what they may take, and who waits for whom."""

import base64
import io
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import trio
from pypdf import PdfReader, PdfWriter

from sidecar.anthropic.content.remarks import Extract
from sidecar.documents import pdf
from sidecar.documents import reader as documents
from sidecar.documents.reader import Documents, extract
from tests.support.pdfs import assembled, stream
from tests.support.pdfs import pdf as made


def encoded(document: bytes) -> str:
    return base64.b64encode(document).decode()


def encrypted(user: str, algorithm: str = "RC4-128") -> bytes:
    writer, file = PdfWriter(clone_from=PdfReader(io.BytesIO(made("secret words")))), io.BytesIO()
    writer.encrypt(user, "owner", algorithm=algorithm)
    writer.write(file)
    return file.getvalue()


def bomb(data: bytes, times: int) -> bytes:
    """A page whose content stream unpacks to this; it is packed as often as `times` says."""
    for _ in range(times):
        data = zlib.compress(data)
    filters = f"/Filter [{' /FlateDecode' * times}]"
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    page = b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /MediaBox [0 0 9 9] /Resources << /Font << /F1 5 0 R >> >> >>"
    tree = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    return assembled([b"<< /Type /Catalog /Pages 2 0 R >>", tree, page, stream(data, filters), font])


def looped() -> bytes:
    """A page tree that holds itself."""
    return assembled([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R] /Count 9 >>"])


READ = [
    ("words", made("green apples\non a (table)"), Extract(1, ("green apples\non a (table)",))),
    ("pages", made("one", "", "three"), Extract(3, ("one", "", "three"))),
    ("a scan", made(""), Extract(1, ("",))),
    ("without pages", made(), Extract(0)),
    ("encrypted", encrypted("a password"), Extract(problem=pdf.ENCRYPTED)),
    ("locked for changes only", encrypted(""), Extract(1, ("secret words",))),
    ("its first bytes", b"%PDF-", Extract(problem=pdf.INVALID)),
    ("nothing", b"", Extract(problem=pdf.INVALID)),
    ("a web page", b"<html>" * 1000, Extract(problem=pdf.INVALID)),
]


@pytest.mark.parametrize(("document", "expected"), [pair[1:] for pair in READ], ids=[pair[0] for pair in READ])
async def test_a_document_is_read_or_the_reason_is_told(document: bytes, expected: Extract) -> None:
    assert await extract(encoded(document)) == expected


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(lambda: made("a", "b")[:-200], id="cut"),
        pytest.param(lambda: made("a" * 5000)[:3000], id="cut early", marks=pytest.mark.full),
        pytest.param(lambda: bomb(bytes(900_000_000), 1), id="a bomb", marks=pytest.mark.full),
        pytest.param(lambda: bomb(bytes(100_000_000), 2), id="a bomb in a bomb"),
        pytest.param(looped, id="a loop"),
    ],
)
async def test_a_broken_or_evil_document_ends_within_its_limits(document: Callable[[], bytes]) -> None:
    evil = encoded(document())
    began, (before, _) = time.monotonic(), _children()
    found = await extract(evil)
    assert found.problem or found.texts
    assert time.monotonic() - began < documents.SECONDS
    assert _children() == (before, 0)


def _children() -> tuple[int, int]:
    """Processes of ours, and how many of them read documents."""
    found = [child.cmdline() for child in psutil.Process().children()]
    return len(found), sum("sidecar.documents.pdf" in words for words in found)


async def test_a_long_document_is_read_as_far_as_it_may_be() -> None:
    found = await extract(encoded(made(*["word " * 1000] * 100)))
    assert (found.pages, found.problem) == (100, pdf.TOO_LONG)
    assert sum(len(text or "") for text in found.texts) == pdf.CHARACTERS


NO_LIMIT = """
import resource
setrlimit = resource.setrlimit
def refuse(limit, most):
    if limit == resource.RLIMIT_AS: raise ValueError("macOS has none")
    setrlimit(limit, most)
resource.setrlimit = refuse
"""


@pytest.mark.parametrize(("system", "most"), [("", 240), (NO_LIMIT, 80)], ids=["linux", "macos"])
async def test_a_document_that_takes_much_memory_is_given_up(reader: "Reader", system: str, most: int) -> None:
    """The limit is the real one, only smaller: in MiB."""
    reader.does(f"{system}\nfrom sidecar.documents import pdf\npdf.MEMORY = {most} << 20\npdf.main()")
    page = b"BT /F1 12 Tf (word) Tj ET" + b" " * 70_000_000
    assert await extract(encoded(bomb(page, 1))) == Extract(1, (), documents.TOO_LARGE)


@pytest.mark.parametrize(
    ("work", "why"),
    [("while True: pass", documents.TOO_LONG), ("os.abort()", documents.BROKEN)],
    ids=["time", "a crash"],
)
async def test_a_reader_that_ends_early_has_said_what_counts(reader: "Reader", work: str, why: str) -> None:
    said = "say({'pages': 9}, {'text': 'one'})"
    reader.does(f"from sidecar.documents import pdf\npdf.SECONDS = 1\npdf.bound()\n{said}\n{work}")
    assert await extract("x") == Extract(9, ("one",), why)


class Reader:
    """A program in the place of the one that reads documents: it notes each start, and does what it is told."""

    def __init__(self, folder: Path) -> None:
        self.script, self._starts = folder / "reader.py", folder / "starts"

    def does(self, work: str) -> None:
        note = (
            f"import json, os\nos.write(os.open({str(self._starts)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), b'x')"
        )
        say = "def say(*lines):\n    for line in lines: print(json.dumps(line), flush=True)"
        self.script.write_text(f"{note}\n{say}\n{work}\n")

    @property
    def starts(self) -> int:
        return len(self._starts.read_bytes()) if self._starts.exists() else 0


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    monkeypatch.setattr(documents, "READER", [sys.executable, "-I", str(reader.script)])
    yield reader


WORDS = "say({'pages': 1}, {'text': 'words'}, {'end': ''})"


async def test_a_document_that_comes_again_is_not_read_again(reader: Reader) -> None:
    reader.does(WORDS)
    known = Documents()
    for _ in range(3):
        assert await known.read(["one", "two", "one"]) == dict.fromkeys(["one", "two"], Extract(1, ("words",)))
    assert reader.starts == 2


async def test_a_document_that_took_too_long_does_so_for_good(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its remark would become a text at a later turn, and everything behind it be read again."""
    monkeypatch.setattr(documents, "SECONDS", 0.5)
    reader.does("import time; time.sleep(60)")
    known = Documents()
    [first] = (await known.read(["one"])).values()
    reader.does(WORDS)
    assert await known.read(["one"]) == {"one": first} == {"one": Extract(problem=documents.TOO_LONG)}


async def test_whoever_asks_for_the_same_document_waits_for_the_first(reader: Reader) -> None:
    """Claude Code counts tokens in twenty-six requests at once."""
    reader.does(WORDS)
    known, found = Documents(), []

    async def ask() -> None:
        found.append(await known.read(["one"]))

    async with trio.open_nursery() as nursery:
        for _ in range(26):
            nursery.start_soon(ask)
    assert found == [{"one": Extract(1, ("words",))}] * 26
    assert reader.starts == 1


def waiting(gate: Path) -> str:
    """What a reader does to wait until there is this file."""
    return f"import time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n{WORDS}"


async def _until(number: int, reader: Reader) -> None:
    with trio.fail_after(30):
        while reader.starts < number:  # noqa: ASYNC110  # another process's doing
            await trio.sleep(0.01)


async def test_two_are_read_at_once_and_the_loop_goes_on(reader: Reader, tmp_path: Path) -> None:
    known = Documents()
    reader.does(waiting(tmp_path / "gate"))
    async with trio.open_nursery() as nursery:
        for name in ("one", "two", "three"):
            nursery.start_soon(known.read, [name])
        await _until(2, reader)
        assert await known.read([]) == {}
        assert reader.starts == 2
        assert known._room.statistics().tasks_waiting == 1
        (tmp_path / "gate").touch()
    assert reader.starts == 3


async def test_a_client_that_leaves_ends_its_reader_and_the_next_one_begins_anew(
    reader: Reader, tmp_path: Path
) -> None:
    known = Documents()
    reader.does(waiting(tmp_path / "never"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(known.read, ["one"])
        await _until(1, reader)
        nursery.cancel_scope.cancel()
    assert not [child for child in psutil.Process().children() if str(reader.script) in child.cmdline()]
    reader.does(WORDS)
    assert await known.read(["one"]) == {"one": Extract(1, ("words",))}
    assert not known._locks and not known._waiting


async def test_a_machine_without_room_for_a_process_is_asked_again(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.does(WORDS)
    known = Documents()
    with monkeypatch.context() as broken:
        broken.setattr(documents, "READER", ["/no/such/program"])
        assert await known.read(["one"]) == {"one": documents.UNTRIED}
    assert await known.read(["one"]) == {"one": Extract(1, ("words",))}


async def test_many_documents_leave_the_last_ones_for_later(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "TOTAL", documents.ENTRY + 10)
    reader.does(WORDS)
    known = Documents()
    assert (await known.read(["one", "two"]))["two"] == Extract(1, problem=documents.FULL)
    monkeypatch.setattr(documents, "REQUEST_S", 0.5)
    reader.does("import time; time.sleep(60)")
    assert await known.read(["one", "three"]) == {"one": Extract(1, ("words",)), "three": documents.LATER}


async def test_the_least_recently_used_are_forgotten(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "KEPT", 2 * documents.ENTRY + 100)
    reader.does(WORDS)
    known = Documents()
    for name in ("one", "two", "one", "three", "one"):
        await known.read([name])
    assert reader.starts == 3
    await known.read(["two"])
    assert reader.starts == 4


async def test_nothing_but_its_own_process_opens_a_document() -> None:
    """Neither sidecar nor engine loads the library."""
    code = "import sys, sidecar.serve; print('pypdf' in sys.modules)"
    done = await trio.run_process([sys.executable, "-I", "-c", code], capture_stdout=True)
    assert done.stdout == b"False\n"
    assert documents.MEMORY_STATUS == pdf.MEMORY_STATUS
