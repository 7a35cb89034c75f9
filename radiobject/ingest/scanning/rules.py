"""Rules: which collection a row belongs to, by regular expressions on its tags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from radiobject.errors import ConfigError
from radiobject.format.layout import check_collection_name
from radiobject.format.meta import Kind
from radiobject.ingest.scanning.rows import PlanRow

__all__ = ["REASONS", "Rule", "apply_rules", "rules_of"]

REASONS = ("matches no rule", "a rule leaves it out")
"""Why rules skip rows."""

_OWN = ("collection", "kind")
_FIELDS = ("path", "obs_subject_id", "session", "layout_collection")
"""What rules match besides tags."""


@dataclass(frozen=True)
class Rule:
    """Rows whose tags match every pattern (anywhere in the value) go to `collection`; None skips them."""

    collection: str | None
    patterns: tuple[tuple[str, re.Pattern[str]], ...]
    kind: Kind | None = None

    def matches(self, row: PlanRow) -> bool:
        """Whether every pattern is found in its tag; a tag that is missing counts as empty."""
        return all(pattern.search(_value(row, tag)) for tag, pattern in self.patterns)


def rules_of(rules: Any) -> list[Rule]:
    """Rules from a list of `{"collection": "T1w", "SeriesDescription": "(?i)t1.*mprage"}`, or from
    `{"T1w": {"SeriesDescription": ...}}`. A collection of None skips; `"kind": "label"` makes label maps.

    Raises `ConfigError` for what is neither, and for a pattern that is no regular expression.

    >>> rules_of([{"collection": "T1w", "suffix": "^T1w$"}])[0].collection
    'T1w'
    """
    if rules is None:
        return []
    if isinstance(rules, Mapping):
        rules = [{"collection": name, **of} for name, of in rules.items() if isinstance(of, Mapping)]
    if not isinstance(rules, Iterable) or isinstance(rules, str):
        raise ConfigError(
            "rules=", expected="a list of {collection: ..., tag: pattern}", got=repr(rules)[:80]
        )
    return [_rule(number, rule) for number, rule in enumerate(rules)]


def _rule(number: int, rule: Any) -> Rule:
    what = f"rules[{number}]"
    if not isinstance(rule, Mapping) or "collection" not in rule or len(rule.keys() - set(_OWN)) == 0:
        raise ConfigError(what, expected='{"collection": name, tag: pattern, ...}', got=repr(rule)[:80])
    if rule["collection"] is not None:
        check_collection_name(rule["collection"])
    if rule.get("kind") not in (None, "image", "label"):
        raise ConfigError(f"{what} kind", expected="'image' or 'label'", got=repr(rule["kind"]))
    patterns = []
    for tag, text in rule.items():
        if tag in _OWN:
            continue
        try:
            patterns.append((str(tag), re.compile(text)))
        except (re.error, TypeError) as error:
            raise ConfigError(
                f"{what} {tag}", expected="a regular expression", got=f"{text!r}: {error}"
            ) from error
    return Rule(rule["collection"], tuple(patterns), rule.get("kind"))


def apply_rules(rows: Sequence[PlanRow], rules: Sequence[Rule]) -> None:
    """Send each row where the first rule says that it matches; rows that match none are skipped.

    Rows that are wrong or skipped already stay so. Without rules nothing changes.
    """
    if not rules:
        return
    for row in rows:
        rule = next((r for r in rules if r.matches(row)), None)
        if rule is not None and rule.collection is not None:
            row.collection = rule.collection
            row.kind = rule.kind or row.kind
        elif row.verdict == "ingest":
            row.verdict, row.reason = "skip", REASONS[rule is not None]


def _value(row: PlanRow, tag: str) -> str:
    if tag in row.tags:
        return row.tags[tag]
    if tag == "layout_collection":
        return row.collection
    return str(getattr(row, tag) or "") if tag in _FIELDS else ""
