"""The text of settings.json with our keys and without: from bytes to bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.global_mode import settings_edit
from shim.global_mode.settings_edit import MISSING, Unreadable
from shim.global_mode.undo_journal import Journal

OURS = {("env", "URL"): "http://ours", ("env", "KEY"): "", ("helper",): "cat token"}

scalars = st.none() | st.booleans() | st.integers() | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
names = st.sampled_from(["env", "URL", "KEY", "helper", "theme"]) | st.text()
tables = st.dictionaries(names, values) | st.fixed_dictionaries({"env": st.dictionaries(names, values)})


def text(table: object) -> bytes:
    return json.dumps(table, indent=2).encode()


@pytest.mark.parametrize(
    "wrong", [b"", b" \n", b"{", b"[]", b"1", b'{"a": NaN}', b'{"a": 1e400}', b"// x\n{}", b"\xff", b"[" * 100_000]
)
def test_what_is_no_settings_is_refused_with_the_reason(wrong: bytes) -> None:
    with pytest.raises(Unreadable, match="it is "):
        settings_edit.put(wrong, OURS)


def test_an_env_that_is_no_object_is_refused() -> None:
    with pytest.raises(Unreadable, match="'env' is not an object"):
        settings_edit.put(b'{"env": []}', OURS)


def test_no_file_has_no_settings() -> None:
    assert json.loads(settings_edit.put(None, OURS)) == {
        "env": {"URL": "http://ours", "KEY": ""},
        "helper": "cat token",
    }


@pytest.mark.parametrize("indent", ["  ", "    ", "\t"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_text_keeps_its_looks(indent: str, end: bytes) -> None:
    mine = json.dumps({"theme": "dänk", "env": {"A": "b"}}, indent=indent, ensure_ascii=False).encode() + end
    edited = settings_edit.put(mine, {("env", "A"): "c"})
    assert edited == mine.replace(b'"b"', b'"c"')


def test_half_a_surrogate_pair_survives() -> None:
    mine = b'{"a": "\\ud800"}'
    assert json.loads(settings_edit.put(mine, {("b",): 1})) == {"a": "\ud800", "b": 1}


@given(tables)
def test_what_was_put_is_taken_out_again(table: dict) -> None:
    before = text(table)
    try:
        after = settings_edit.put(before, OURS)
    except Unreadable:
        return
    assert settings_edit.has(after, OURS)
    taken = settings_edit.take(after, {path: [value] for path, value in OURS.items()}, before)
    assert json.loads(taken) == table


@given(tables, tables)
def test_changes_make_the_new_of_the_old(old: dict, new: dict) -> None:
    try:
        made = settings_edit.put(text(old), settings_edit.changes(text(old), text(new)))
    except Unreadable:
        return  # an object became something else and another's key lies in it
    assert json.loads(made) == new


def test_two_peoples_changes_are_both_kept() -> None:
    base, mine, theirs = {"env": {"A": 1}, "b": 2, "c": 3}, {"env": {"A": 1, "M": 1}, "c": 3}, {"env": {"A": 5}, "b": 2}
    both = settings_edit.put(text(theirs), settings_edit.changes(text(base), text(mine)))
    assert json.loads(both) == {"env": {"A": 5, "M": 1}}


def test_a_change_of_another_stays_when_ours_go() -> None:
    journal, after = Journal("file", text({"theme": "dark"})).with_keys(text({"theme": "dark"}), OURS)
    table = json.loads(after)
    table["model"] = "opus"
    table["env"]["URL"] = "http://theirs"
    left = journal.without_us(text(table))
    assert left is not None
    assert json.loads(left) == {"theme": "dark", "env": {"URL": "http://theirs"}, "model": "opus"}


def test_an_unchanged_text_goes_back_to_the_last_byte() -> None:
    before = b'{"theme":"dark" ,\r\n "env":{ } }'
    journal, after = Journal("file", before).with_keys(before, OURS)
    assert journal.without_us(after) == before
    assert journal.without_us(before) == before
    again, later = journal.with_keys(before, {**OURS, ("env", "URL"): "http://other"})
    for each in (after, later):
        assert again.without_us(each) == before


def test_values_of_an_earlier_call_are_ours_too() -> None:
    journal, after = Journal("file", None).with_keys(None, OURS)
    journal, _ = journal.with_keys(None, {("env", "URL"): "http://new"})
    theirs = {**json.loads(after), "more": 1}
    left = journal.without_us(text(theirs))
    assert left is not None
    assert json.loads(left) == {"more": 1}
    assert settings_edit.get({}, ("a", "b")) is MISSING


def test_a_journal_comes_back_from_disk_as_it_was(tmp_path) -> None:
    journal, _ = Journal("file", b"{}").with_keys(b"{}", OURS)
    journal = journal._replace(base=b"\xff", put="x", made_folder=True)
    assert Journal.load(tmp_path / "journal") is None
    journal.save(tmp_path / "journal")
    assert Journal.load(tmp_path / "journal") == journal
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600
