"""Where a path leads, however a program's author put address and path together."""

import pytest

from sidecar.anthropic.errors import envelope
from sidecar.errors import ForeignApi
from sidecar.http.paths import nothing_at, settled


@pytest.mark.parametrize("path", ["/messages", "/messages/count_tokens", "/models", "/models/demo", "/models/a%2Fb"])
@pytest.mark.parametrize("before", ["", "/v1", "/v1/v1"])
def test_a_public_path_may_have_any_number_of_versions_before_it(before: str, path: str) -> None:
    assert settled(before + path) == f"/v1{path}"


@pytest.mark.parametrize("path", ["/", "/health", "/control/stop", "/v1/control/stop", "/v2/messages", "/x/messages"])
def test_other_paths_stay_as_they_are(path: str) -> None:
    assert settled(path) == path


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/chat/completions", "/v1/responses", "/v1/responses/resp_1", "/v1/embeddings"],
)
def test_openais_paths_are_told_what_to_use_in_openais_own_envelope(path: str) -> None:
    error = nothing_at(path)
    said = envelope(error, "req_1")["error"]
    assert isinstance(error, ForeignApi) and error.status == 404
    assert isinstance(said, dict) and {*said} == {"message", "type", "param", "code"}
    assert "/v1/messages" in said["message"] and "ANTHROPIC_BASE_URL" in said["message"]


@pytest.mark.parametrize("path", ["/v1/complete", "/v1/files", "/v1/messages/batches", "/api/hello", "/v1"])
def test_other_paths_where_there_is_nothing_are_named(path: str) -> None:
    assert not isinstance(nothing_at(path), ForeignApi)
    assert str(nothing_at(path)) == f"there is nothing at {path}"
