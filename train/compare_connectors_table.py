"""The table of `compare_connectors`: a column for each rival, a row for each figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .metrics_common import Estimate

TITLES = {
    "mlp": "`mlp` + LoRA",
    "cross_attention": "`cross_attention`, LM frozen",
    "encoder_decoder": "encoder-decoder",
    "language_model": "text LM before",
    "shipped": "as shipped: dense draft, verified",
}
NOT_MEASURED = "–"
Cell = Callable[[dict[str, Any]], str]


def percent(values: dict[str, Any], name: str) -> str:
    """A share with its interval."""
    return _told(values, name, 100, 1, " %")


def number(values: dict[str, Any], name: str) -> str:
    """A figure with its interval."""
    return _told(values, name, 1, 3, "")


def _told(values: dict[str, Any], name: str, scale: int, digits: int, unit: str) -> str:
    if not values.get(name):
        return NOT_MEASURED
    found = Estimate.from_dict(values[name])
    if found.value != found.value:
        return NOT_MEASURED
    value, low, high = (f"{x * scale:.{digits}f}" for x in (found.value, found.low, found.high))
    return f"{value}{unit} [{low}, {high}]"


def _of(part: str, name: str, how: Callable[[dict[str, Any], str], str]) -> Cell:
    return lambda column: how(column.get(part) or {}, name)


def _fact(tell: Callable[[dict[str, Any]], str], *needed: str) -> Cell:
    def cell(column: dict[str, Any]) -> str:
        facts = column.get("training") or {}
        return tell(facts) if all(name in facts for name in needed) else NOT_MEASURED

    return cell


def _seconds(column: dict[str, Any]) -> str:
    found = column.get("seconds")
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})" if found else NOT_MEASURED


def _parameters(column: dict[str, Any]) -> str:
    facts = column.get("training")
    if not facts:
        return f"{column['total'] / 1e6:.1f} M" if "total" in column else NOT_MEASURED
    return f"{facts['trainable'] / 1e6:.2f} M of {facts['total'] / 1e6:.1f} M"


def _memory(facts: dict[str, Any]) -> str:
    if not facts["memory_peak"]:
        return NOT_MEASURED
    return f"{facts['memory_growth'] / 2**20:,.0f} MiB of {facts['memory_peak'] / 2**20:,.0f}"


def _text(name: str) -> Cell:
    def cell(column: dict[str, Any]) -> str:
        found = column.get("text") or {}
        told = percent(found, name)
        return f"{told}, unchanged bit for bit" if found.get("unchanged") and told != NOT_MEASURED else told

    return cell


ROWS: list[tuple[str, Cell]] = [
    ("systems exact", _of("reading", "system_exact", percent)),
    ("bars exact", _of("reading", "bar_exact", percent)),
    ("note F1", _of("reading", "note_f1", number)),
    ("Tab-NED (lower is better)", _of("reading", "tab_ned", number)),
    ("… of strings", _of("reading", "tab_ned_string", number)),
    ("… of frets", _of("reading", "tab_ned_fret", number)),
    ("… of durations", _of("reading", "tab_ned_duration", number)),
    ("Tab-NED from a blank picture", _of("blank", "tab_ned", number)),
    ("note F1 from a blank picture", _of("blank", "note_f1", number)),
    ("parses", _of("reading", "parses", percent)),
    ("bars close", _of("reading", "bars_close", percent)),
    ("nats a token, truth as prefix", _of("reading", "nats_per_token", number)),
    ("tokens right, truth as prefix", _of("reading", "token_accuracy", percent)),
    ("seconds a system, median (quartiles)", _seconds),
    ("learnt parameters of all", _parameters),
    ("pictures seen", _fact(lambda f: f"{f['pictures']:,}", "pictures")),
    ("steps · minutes", _fact(lambda f: f"{f['steps']:,} · {f['seconds'] / 60:.1f}", "steps", "seconds")),
    ("CPU seconds a step", _fact(lambda f: f"{f['cpu_seconds'] / max(1, f['steps']):.2f}", "cpu_seconds", "steps")),
    ("memory that training added, of its peak", _fact(_memory, "memory_peak", "memory_growth")),
    ("text: structure", _text("structure")),
    ("text: tab completion", _text("tab_completion")),
    ("text: note completion", _text("note_completion")),
    ("text: structure, grammar on", _text("structure, grammar on")),
    ("text: tab completion, grammar on", _text("tab_completion, grammar on")),
]


def table(told: dict[str, Any]) -> str:
    """Markdown of a comparison.

    Args:
        told: What `comparison.json` holds.
    """
    columns, settings, facts = told["columns"], told["settings"], told["facts"]
    names = [name for name in TITLES if name in columns]
    lines = ["| | " + " | ".join(TITLES[name] for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, cell in ROWS:
        cells = [cell(columns[name]) for name in names]
        if any(text != NOT_MEASURED for text in cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    budget = f"{settings['steps']} steps" if settings["steps"] else f"{settings['minutes']:g} minutes"
    lines += [
        "",
        f"{facts['n']} held-out systems of {facts['pieces']} pieces ({facts['bars']} bars, median "
        f"{facts['tokens_median']:g} tokens), seed {settings['seed']}; in brackets 95 % intervals. "
        f"{facts['also_in_training']} of {facts['held_out']} held-out systems were left out, as their texts are among "
        "those trained on.",
        f"Each rival learnt for {budget} on {settings['num_threads']} thread(s), with the same frozen tower and the "
        f"same batches in the same order; texts of at most {settings['max_text_tokens'] or 'any number of'} tokens. It "
        "reads by itself: greedily, under the grammar, told the metre in force before the system; the dense heads have "
        "no vote. The reader as shipped lets them write a draft, in one look.",
        f"Text abilities: {settings['text_n']} texts each, sampled at temperature 0.7, without the grammar where it is "
        "not named; of the encoder-decoder its decoder alone, which never learnt to write without a picture.",
    ]
    return "\n".join(lines) + "\n"


__all__ = ["ROWS", "TITLES", "table"]
