"""Where an installed claude-local looks for modules."""

from claude_local import search_path

LIBRARY = ["/usr/lib/python311.zip", "/usr/lib/python3.11", "/venv/site-packages"]


def test_ours_come_first_and_the_users_last() -> None:
    path = ["/venv/bin", "/home/a/lib", "/opt/lib", *LIBRARY]
    found = search_path("/venv/site-packages/claude_local", path, "/venv/bin/claude-local", "/home/a/lib:/opt/lib")
    assert found == ["/venv/site-packages/claude_local", *LIBRARY, "/venv/bin", "/home/a/lib", "/opt/lib"]


def test_nothing_is_lost_to_a_user_who_names_the_library_itself() -> None:
    found = search_path("/ours", ["/venv/bin", "/venv/site-packages", *LIBRARY[:2]], "/x", "/venv/site-packages")
    assert set(found) == {"/ours", "/venv/bin", *LIBRARY}


def test_a_checkout_in_the_path_is_there_once() -> None:
    assert search_path("/ours", [*LIBRARY, "/ours"], "/x", "") == ["/ours", *LIBRARY]
