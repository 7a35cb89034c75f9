"""Mistakes in filter expressions: each is named, and underlined where it stands."""

from __future__ import annotations

import pyarrow as pa
import pytest

from radiobject.errors import ExpressionError, UnknownColumnError, UnknownIdError
from radiobject.model.expression import compile_expression

pytestmark = pytest.mark.no_backend(reason="the text of filters")

COLUMNS = {
    "obs_subject_id": pa.string(),
    "age": pa.int64(),
    "weight": pa.float64(),
    "dx": pa.string(),
    "smoker": pa.bool_(),
    "day": pa.date32(),
    "scanned": pa.timestamp("ns"),
    "site": pa.dictionary(pa.int32(), pa.string()),
}


@pytest.mark.parametrize(
    ("text", "underlined", "message"),
    [
        ('age > "forty"', '"forty"', "age, which is int64: expected a number to compare it with"),
        ("20 < dx", "20", "dx, which is string: expected text"),
        ("dx and age > 3", "dx", "expected a condition"),
        ("age == None", "None", "`is None`"),
        ("age is 3", "3", "`is` asks for None only"),
        ('scanned > "2020-01-01"', '"2020-01-01"', 'date("2020-01-31")'),
        ('scanned > date("soon")', '"soon"', "2020-01-31T12:00:00"),
        ('scanned > date("1066-10-14")', 'date("1066-10-14")', "can hold"),
        ('day > date("2020-01-01T00:00+01:00")', 'date("2020-01-01T00:00+01:00")', "without zone"),
        ("smoker > True", "True", "no order"),
        ("affine == 3", "affine", "list<item: double>"),
        ('"AD" in dx', "dx", "contains(name"),
        ("age in [dx]", "dx", "plain values"),
        ("(age > 3) == (age > 4)", "age > 3", "got a condition"),
        ('matches(dx, "(")', '"("', "RE2"),
        ('matches(dx, "(((x{100}){100}){100})")', '"(((x{100}){100}){100})"', "RE2"),
        (f'matches(dx, "{"x" * 501}")', f'"{"x" * 36}', "at most 500 characters"),
        (r'matches(dx, "\d")', r"\d", 'r"\\d"'),
        ("contains(age, 'x')", "age", "a column of text"),
        ("contains(dx, site)", "site", "a text in quotes"),
        ("dx + 1 > 2", "dx", "arithmetic: expected a number"),
        ("dx = 'AD'", "=", "Write == to compare"),
        ("age ** 2 > 3", "age ** 2", "a * a"),
        ("obs.age > 3", "obs.age", "no obs here"),
        ("age > 9223372036854775808", "9223372036854775808", "64 bits"),
    ],
)
def test_a_mistake_is_named_and_underlined(text: str, underlined: str, message: str) -> None:
    columns = {**COLUMNS, "affine": pa.list_(pa.float64())}
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, columns, table="obs_meta")
    assert message in str(caught.value)
    *_, line, carets = str(caught.value).splitlines()
    assert line[carets.index("^") : carets.index("^") + len(underlined)] == underlined
    assert text[slice(*caught.value.span)].startswith(underlined)
    assert carets.strip() == "^" * len(line[carets.index("^") : len(carets)])


def test_the_line_of_a_long_expression_is_cut_around_the_mistake() -> None:
    text = f"age in [{', '.join(map(str, range(90)))}] and\xa0dx > 3".replace("\xa0", " ")
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, COLUMNS)
    *_, line, carets = str(caught.value).splitlines()
    assert len(line) < 100
    assert line.strip().startswith("...")
    assert line[carets.index("^")] == "3"
    with pytest.raises(ExpressionError) as caught:
        compile_expression("(age > 3 and\n größe > 4\n and age < 9)", COLUMNS)
    assert str(caught.value).splitlines()[-2:] == ["     größe > 4", "     ^^^^^"]


def test_an_unknown_column_comes_with_near_spellings() -> None:
    for text, near in (
        ("Weigth > 3", "'weight'"),
        ("smokr", "'smoker'"),
        ('obs_meta["Site"] == "A"', "'site'"),
    ):
        with pytest.raises(UnknownColumnError, match=f"Did you mean {near}") as caught:
            compile_expression(text, COLUMNS, table="obs_meta")
        assert isinstance(caught.value, UnknownIdError)
        assert isinstance(caught.value, ValueError)
    with pytest.raises(UnknownColumnError, match="'_path'"):
        compile_expression("_path == 'x'", COLUMNS)
