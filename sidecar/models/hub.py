"""Models from the hub: whole, verified, and going on where an interrupted download stopped.

huggingface_hub names, places and links the files. Large files are fetched here, since that library begins them anew
after a restart: into `blobs/ETAG.part`, with a range request for the rest, and renamed when the hash is right; the
library then finds them in its cache.
"""

import errno
import fcntl
import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, disable_progress_bars, filter_repo_objects, validate_repo_id

PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "tokenizer*"]
"""What mlx-lm reads of a repository; never code."""
LARGE = 5_000_000
"""Bytes from which a file is worth resuming."""
_SHA256, _SHA1 = 64, 40
"""Digits of each."""
_CHUNK = 1 << 20
"""Bytes between two writes, and so what a kill costs; the library's own 10 MB are minutes on a slow line."""

Tell = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes in all."""


class HubError(Exception):
    """The hub does not give the model; the text says why and what to do."""


class Unreachable(HubError):
    """Nobody answers, or not as a hub does."""

    def __init__(self, repository: str, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{repository} is not on this disk and the model hub cannot be reached ({reason}). "
            "Go online once, or try the built-in model: CLAUDE_LOCAL_MODEL=demo"
        )


class DiskFull(HubError):
    """There is no room for it."""


class Unreadable(HubError):
    """What the cache holds of a repository is not laid out as the hub's library does it."""


def cached(repository: str) -> Path | None:
    """The newest snapshot on disk, which may lack files; raises HubError for a name that no repository can have."""
    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise HubError(f"{repository!r} is no name of a model on the hub: those look like owner/name") from None
    name = _blobs(repository).parent / "refs" / "main"
    if name.exists() and not name.is_file():  # a pipe, say, which the library would wait for
        raise Unreadable(f"{name} is no ordinary file: remove {name.parents[1]}")
    try:
        return Path(snapshot_download(repository, allow_patterns=PATTERNS, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{name} cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class Stored:
    """What the hub's cache holds of one repository."""

    repository: str
    bytes: int
    """Partial downloads included."""
    changed: float
    """When last, in seconds since the epoch."""
    partial: bool
    """Whether a download was interrupted."""


def stored() -> list[Stored]:
    """The models in the hub's cache, whole or in part, by name; a repository without weights, or one that may not be
    read, is none."""
    found = []
    for folder in sorted(place().glob("models--*--*")):
        with suppress(OSError):  # another user's; or a download has just moved a file
            found.append(_look(folder))
    return [each for each in found if each]


def _look(folder: Path) -> Stored | None:
    blobs = [file for file in (folder / "blobs").glob("*") if file.is_file()]
    partial = any(file.suffix in (".part", ".incomplete") for file in blobs)
    if not partial and not any((folder / "snapshots").glob("*/*.safetensors")):
        return None
    status = [file.stat() for file in blobs]
    size, changed = sum(each.st_size for each in status), max((each.st_mtime for each in status), default=0.0)
    return Stored(folder.name.removeprefix("models--").replace("--", "/"), size, changed, partial)


def remove(repository: str) -> int:
    """Delete all that the cache holds of a repository; returns the bytes. Of one that is a link to somewhere else the
    link goes. Raises OSError."""
    folder = _blobs(repository).parent
    if folder.is_symlink():
        folder.unlink()
        return 0
    found = _look(folder)
    shutil.rmtree(folder)
    shutil.rmtree(place() / ".locks" / folder.name, ignore_errors=True)
    return found.bytes if found else 0


def place() -> Path:
    """Where the hub's cache is, or will be."""
    return Path(constants.HF_HUB_CACHE)


def damaged(snapshot: Path) -> list[Path]:
    """The files of a snapshot whose content is not what the hub said it was. Reads all of them: seconds for each GB.
    Folders, in which some repositories keep other formats, are not what a model is read from."""
    return [file for file in sorted(snapshot.iterdir()) if not file.is_dir() and not _is_whole(file.resolve())]


def _is_whole(blob: Path) -> bool:
    """A blob is named after its hash: SHA-256 of large files, git's of small ones; another name says nothing."""
    if not blob.is_file():
        return False
    with blob.open("rb") as file:
        if len(blob.name) == _SHA256:
            return hashlib.file_digest(file, "sha256").hexdigest() == blob.name
        if len(blob.name) == _SHA1:
            data = file.read()
            return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == blob.name
    return True


def address() -> str:
    """The hub's."""
    return str(constants.ENDPOINT)


def greet(repository: str, seconds: float) -> None:
    """Ask for a repository and one of its files, as a download begins. Raises HubError."""
    with _explained(repository):
        HfApi().model_info(repository, timeout=seconds)
        get_hf_file_metadata(hf_hub_url(repository, "config.json"), timeout=seconds)


def fetch(repository: str, tell: Tell) -> Path:
    """Download what is missing and return the snapshot; raises HubError."""
    disable_progress_bars()
    with _explained(repository):
        return _fetch(repository, tell)


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes a HubError."""
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(repository, error) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"the disk is full while downloading {repository}: free some space and try again, it goes on from here"
            ) from None
        raise _unreachable(repository, error) from None
    except HubError:
        raise
    except Exception as error:  # the HTTP client's own errors, whose classes change with the library's versions
        raise _unreachable(repository, error) from None


def _refused(repository: str, error: HfHubHTTPError) -> HubError:
    """What to do about an answer that is no file."""
    status = error.response.status_code
    url, token = f"{constants.ENDPOINT}/{repository}", "set HF_TOKEN to a token that may read it"
    if isinstance(error, GatedRepoError):
        return HubError(f"{repository} asks you to accept its licence: do so at {url}, then {token}")
    if isinstance(error, RepositoryNotFoundError):
        return HubError(f"the model hub has no {repository}: check the name (or, if it is private, {token})")
    if status == 401 and get_token():
        return HubError(f"the model hub does not accept the token in HF_TOKEN: correct it, or unset it ({repository})")
    if status in (401, 403):
        return HubError(f"the model hub does not let you read {repository}: check the name, or {token}")
    if status == 429:
        return HubError(f"the model hub has had too many requests: wait a few minutes, or {token} ({repository})")
    return HubError(f"the model hub answered {status} for {repository}: try again later")


def _unreachable(repository: str, error: Exception) -> HubError:
    return Unreachable(repository, (str(error).strip().splitlines() or [type(error).__name__])[0])


def _blobs(repository: str) -> Path:
    name: str = repo_folder_name(repo_id=repository, repo_type="model")
    return place() / name / "blobs"


def _fetch(repository: str, tell: Tell) -> Path:
    revision = HfApi().model_info(repository).sha
    listed = [entry for entry in HfApi().list_repo_tree(repository, revision=revision) if isinstance(entry, RepoFile)]
    files = list(filter_repo_objects(listed, allow_patterns=PATTERNS, key=lambda file: file.path))
    missing = [
        file for file in files if not isinstance(try_to_load_from_cache(repository, file.path, revision=revision), str)
    ]
    parts = sum(part.stat().st_size for part in _blobs(repository).glob("*.part"))
    _check_room(repository, sum(file.size for file in missing) - parts)
    total = sum(file.size for file in files)
    there = total - sum(file.size for file in missing)
    for file in missing:
        if file.size >= LARGE:
            _fetch_large(repository, file.path, revision, partial(_tell_more, tell, there, total))
            there += file.size
    snapshot = snapshot_download(repository, allow_patterns=PATTERNS)
    tell(total, total)
    return Path(snapshot)


def _tell_more(tell: Tell, before: int, total: int, done: int) -> None:
    tell(before + done, total)


def _fetch_large(repository: str, name: str, revision: str, tell: Callable[[int], None]) -> None:
    url = hf_hub_url(repository, name, revision=revision)
    metadata = get_hf_file_metadata(url)
    folder = _blobs(repository)
    folder.mkdir(parents=True, exist_ok=True)
    blob = folder / metadata.etag
    part = folder / f"{metadata.etag}.part"
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK
    with _Part(part, tell) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a download that outlived its sidecar may still be writing
        if blob.exists():
            return
        have = file.seek(0, io.SEEK_END)
        tell(have)
        # The token is for the hub alone: the location may be another host's.
        headers = build_hf_headers() if metadata.location == url else build_hf_headers(token=False)
        http_get(metadata.location, file, resume_size=have, headers=headers, expected_size=metadata.size)
        _verify(part, metadata.etag)
        part.rename(blob)


def _verify(part: Path, etag: str) -> None:
    """Of large files the hub's etag is the SHA-256."""
    if len(etag) != hashlib.sha256().digest_size * 2:
        return
    with part.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != etag:
            part.unlink()
            raise HubError(f"{part.name} arrived damaged and was removed: try again")


def _check_room(repository: str, needed: int) -> None:
    folder = place()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull(
            f"{repository} needs {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free: free some space"
        )


class _Part(io.FileIO):
    """A partial file that tells how long it has become."""

    def __init__(self, path: Path, tell: Callable[[int], None]) -> None:
        path.touch(mode=0o600)
        super().__init__(path, "r+b")
        self._tell_length = tell

    def write(self, data: object) -> int:
        rest = memoryview(data)  # type: ignore[arg-type]  # any buffer, as the base class takes
        length = len(rest)
        while rest:  # a disk that fills up takes a part first
            rest = rest[super().write(rest) :]
        self._tell_length(self.tell())
        return length
