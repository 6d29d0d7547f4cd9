"""What prompt files may say, and how they may be broken."""

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.app.batch.columns import Row
from hasten.app.batch.items import LONGEST_SLUG, Item, slug
from hasten.app.batch.rows import Rows, read_rows
from hasten.app.batch.sources import Source, open_sources
from hasten.app.errors import UserError

Read = Callable[[str, str], Rows]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a prompt file of that name and content."""

    def write_and_read(name: str, text: str) -> Rows:
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        return read_rows(open_sources([str(tmp_path / name)]))

    return write_and_read


def places(rows: Rows) -> list[str]:
    return [os.path.basename(row.source) for row in rows.rows]


def test_text_has_one_prompt_a_line(read: Read) -> None:
    rows = read("p.txt", "\ufeffa cat\r\n\n  a dog, on a \u2028 hill \n#1 rocket")
    assert [row.prompt for row in rows.rows] == ["a cat", "a dog, on a \u2028 hill", "#1 rocket"]
    assert places(rows) == ["p.txt line 1", "p.txt line 3", "p.txt line 4"]


def test_csv_gives_every_column_its_type(read: Read, tmp_path: Path) -> None:
    header = "ID,Prompt,negative_prompt,seed,size,steps,guidance,preset,recipe,sampling,frames"
    rows = read("p.csv", f'{header}\ncat,"a cat, asleep",dogs,7,96x64,12,2.5,fast,,pixart-x2,9\n,b,,,32,,,,r.json,,\n')
    cat, other = rows.rows
    assert cat == Row(
        source=cat.source,
        id="cat",
        prompt="a cat, asleep",
        negative_prompt="dogs",
        seed=7,
        width=96,
        height=64,
        steps=12,
        guidance=2.5,
        preset="fast",
        sampling="pixart-x2",
        frames=9,
    )
    assert (other.width, other.height, other.seed, other.recipe) == (32, 32, None, tmp_path / "r.json")


@pytest.mark.parametrize(("name", "delimiter"), [("p.csv", ";"), ("p.tsv", "\t"), ("p.csv", ",")])
def test_csv_may_have_other_delimiters(read: Read, name: str, delimiter: str) -> None:
    rows = read(name, f"prompt{delimiter}seed\na cat{delimiter}3\n")
    assert [(row.prompt, row.seed) for row in rows.rows] == [("a cat", 3)]


def test_json_lines_may_have_keys_of_their_own(read: Read) -> None:
    rows = read(
        "p.jsonl", '{"prompt": "a cat", "seed": 3, "size": "64x32", "things": ["cat"]}\n\n{"prompt": "ein Bär"}'
    )
    assert [(row.prompt, row.seed, row.width, row.height) for row in rows.rows] == [
        ("a cat", 3, 64, 32),
        ("ein Bär", None, None, None),
    ]
    assert rows.ignored == ("things",)


def test_a_broken_row_names_its_line_and_leaves_the_others(read: Read) -> None:
    lines = [
        '{"prompt": "first"}',
        "not json",
        '["a list"]',
        '{"prompt": 3}',
        '{"seed": 3}',
        '{"prompt": "p", "seed": -1}',
        '{"prompt": "p", "seed": true}',
        '{"prompt": "p", "steps": 0}',
        '{"prompt": "p", "size": "wide"}',
        '{"prompt": "p", "guidance": "NaN"}',
        '{"prompt": "p", "sede": 3}',
        '{"prompt": "\\ud800"}',
        '{"prompt": "null\\u0000"}',
        "[" * 100_000,
        '{"prompt": "last"}',
    ]
    rows = read("p.jsonl", "\n".join(lines))
    assert len(rows.rows) == len(lines)
    assert [row.prompt for row in rows.rows if row.error is None] == ["first", "last"]
    assert places(rows) == [f"p.jsonl line {number}" for number in range(1, len(lines) + 1)]
    errors = [row.error or "" for row in rows.rows]
    for number, word in (
        (2, "not JSON"),
        (3, "object"),
        (5, "missing"),
        (6, "seed is -1"),
        (11, "did you mean 'seed'"),
    ):
        assert word in errors[number - 1]


def test_a_quote_that_is_never_closed_breaks_its_own_line_alone(read: Read) -> None:
    rows = read("p.csv", 'prompt,seed\na,1\n"b,2\nc,3\n"d\nd",4\ne,5,6\nf\n"g"x,7\n"h,h",8\n')
    good = [(row.prompt, row.seed) for row in rows.rows if row.error is None]
    assert good == [("a", 1), ("c", 3), ("d\nd", 4), ("h,h", 8)]
    broken = [os.path.basename(row.source) for row in rows.rows if row.error is not None]
    assert broken == ["p.csv line 3", "p.csv line 7", "p.csv line 8", "p.csv line 9"]


def test_the_second_row_of_an_id_is_refused(read: Read) -> None:
    rows = read("p.csv", "id,prompt\nx,a\ny,b\nx,c\n,d\n,e\n")
    assert [row.error is None for row in rows.rows] == [True, True, False, True, True]
    assert "p.csv line 2" in (rows.rows[2].error or "")


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ('{"prompt": "a"}\n{"prompt": "b"}\n', ["a", "b"]),
        ("prompt,seed\na,1\nb,2\n", ["a", "b"]),
        ("a, on a hill\nb\n", ["a, on a hill", "b"]),
        ("prompt\na\n", ["a"]),
    ],
    ids=["jsonl", "csv", "txt", "csv of one column"],
)
def test_standard_input_is_understood(monkeypatch: pytest.MonkeyPatch, text: str, prompts: list[str]) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    rows = read_rows(open_sources(["-"]))
    assert [row.prompt for row in rows.rows] == prompts
    assert rows.rows[0].source.startswith("standard input line ")


def test_patterns_are_sorted_and_files_named_with_brackets_found(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "[1].txt", "deep/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    rows = read_rows(open_sources([str(tmp_path / "**" / "[abc].txt"), str(tmp_path / "[1].txt")]))
    assert [row.prompt for row in rows.rows] == ["a.txt", "b.txt", "deep/c.txt", "[1].txt"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("p.txt", None, "cannot be read"),
        ("p.txt", b"\xff\xfe", "not UTF-8"),
        ("p.txt", b" \n\n", "There is no prompt"),
        ("p.png", b"", "unknown kind"),
        ("p.csv", b"text,seed\na,1\n", "no column 'prompt'"),
        ("p.csv", b"prompt,Prompt\na,b\n", "two columns"),
        ("*.csv", None, "No file fits"),
        (".", None, "unknown kind"),
    ],
)
def test_files_that_give_nothing_are_refused(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_rows(open_sources([str(tmp_path / name)]))


@settings(max_examples=50)
@given(st.text(), st.sampled_from(["txt", "csv", "jsonl", None]))
def test_any_text_gives_rows_or_one_sentence(text: str, kind: str | None) -> None:
    with contextlib.suppress(UserError):
        rows = read_rows([Source("given", Path(), kind, text)])
        assert all(bool(row.prompt) != bool(row.error) for row in rows.rows)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("../../etc/passwd", "0007-etc-passwd.png"),
        ("C:\\con|a?*<b>", "0007-c-con-a-b.png"),
        ("Ein Bär — 100 %", "0007-ein-bar-100.png"),
        ("日本", "0007.png"),
        ("...", "0007.png"),
        ("a" * 500, f"0007-{'a' * LONGEST_SLUG}.png"),
        ("a\nb\0c", "0007-a-b-c.png"),
    ],
)
def test_file_names_are_safe(prompt: str, name: str) -> None:
    item = Item(7, None, None, "p.txt line 7", prompt, 0, {}, "plain", None)
    assert item.file_name(".png") == name
    assert item.file_name(".png", "plain") == name.replace(".png", ".plain.png")


@given(st.text())
def test_a_slug_holds_nothing_that_a_file_system_could_mind(text: str) -> None:
    assert set(slug(text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not slug(text).startswith("-")
    assert not slug(text).endswith("-")
