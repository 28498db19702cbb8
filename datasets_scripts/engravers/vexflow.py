"""VexFlow: tab with rhythm, exact frets and most techniques, alone or under a score staff.

`visible` takes out of a score what VexFlow has no sign for; `job_of` says in plain words what to draw. One voice.
"""

from __future__ import annotations

import random
from typing import Any

from ...processing.alphatex_grammar import Beat, Note, Score, read_alphatex, write_alphatex
from ...processing.alphatex_types import DEFAULT_TUNING
from ...processing.alphatex_visible import canonical_key
from .drawn import EngravedSystem
from .grouping import beam_groups, tuplet_groups
from .process import EngraverWorker, picture_of, why_absent

NAME = "vexflow"
NOTE_EFFECTS = frozenset("h sl ss sib sia sou sod be x t g v pm lr nh ac hac st".split())
BEAT_EFFECTS = frozenset("tt s p bd bu ad au su sd".split())
BENDS = {"bend", "bendrelease"}
HEIGHTS = {1: "1/4", 2: "1/2", 3: "3/4", 4: "Full", 5: "1 1/4", 6: "1 1/2", 7: "1 3/4", 8: "2"}
_WORDS = {"tt": "T", "s": "S", "p": "P", "su": "\ue612", "sd": "\ue610"}
_SCORE_SIGNS = {"st": "a.", "ac": "a>", "hac": "a^"}
_SHARP = ("c", "c#", "d", "d#", "e", "f", "f#", "g", "g#", "a", "a#", "b")
_FLAT = ("c", "db", "d", "eb", "e", "f", "gb", "g", "ab", "a", "bb", "b")
_FLAT_KEYS = {"f", "bb", "eb", "ab", "db", "gb", "cb"}
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def absent() -> str | None:
    """What lacks, in one line; `None` when it can draw."""
    return why_absent("vexflow")


def visible(score: Score) -> Score:
    """The same score, changed in place, without what VexFlow can not draw.

    Raises:
        ValueError: More than one voice, or no strings.
    """
    staff = score.staves[0]
    if any(len([v for v in bar.voices if v]) > 1 for bar in staff.bars) or staff.tuning == ():
        raise ValueError("VexFlow draws one voice on strings here")
    for bar in staff.bars:
        bar.section = None
        bar.other = {}
        for beat in bar.voices[0]:
            beat.effects = {name: args for name, args in beat.effects.items() if name in BEAT_EFFECTS}
            if beat.grace:
                beat.grace = "bb"
            for note in beat.notes:
                kept = {name: args for name, args in note.effects.items() if name in NOTE_EFFECTS}
                if "be" in kept and (kept["be"][0] not in BENDS or max(_rise(kept["be"])) not in HEIGHTS):
                    del kept["be"]
                note.effects = kept
    return score


def _rise(arguments: tuple) -> list[int]:
    return [int(a) for a in arguments if not isinstance(a, str)][1::2]


def random_style(rng: random.Random, score: bool) -> dict[str, Any]:
    """How VexFlow draws a system; `score`: with a score staff above."""
    grey = rng.choice((0, 0, 60, 0x99, 0x99, 130))
    return {
        "score": score,
        "stems": not score or rng.random() < 0.5,
        "scale": round(rng.uniform(0.6, 1.6), 2),
        "tab_space": rng.choice((13, 13, 12, 11, 14)),
        "score_gap": rng.choice((110, 125, 150)),
        "spread": round(rng.uniform(1.0, 1.7), 2),
        "least_px": rng.choice((18, 24, 30)),
        "text_font": rng.choice(("arimo", "tinos", "lora", "roboto-condensed")),
        "music_font": rng.choices(("bravura", "leland", "petaluma"), (50, 25, 25))[0],
        "line_colour": f"rgb({grey},{grey},{grey})",
        "clef": rng.random() < 0.9,
        "final_bar": rng.random() < 0.4,
        "brace": rng.random() < 0.3,
        "bold_tempo": rng.random() < 0.5,
        "bar_numbers": rng.random() < 0.3,
        "tie_numbers": rng.choice(("brackets", "brackets", "hidden")),
        "link_letters": rng.random() < 0.8,
        "slide_words": rng.random() < 0.3,
    }


def _pitch(name: str) -> int:
    letter, rest = name[0].upper(), name[1:]
    signs = rest.rstrip("-0123456789")
    return _STEPS[letter] + signs.count("#") - signs.count("b") + 12 * (int(rest[len(signs) :]) + 1)


def _key(note: Note, tuning: tuple[str, ...], flat: bool) -> str:
    """Written pitch: guitars and basses sound an octave lower than they are written."""
    pitch = _pitch(tuning[note.string - 1]) + max(note.fret, 0) + 12
    return f"{(_FLAT if flat else _SHARP)[pitch % 12]}/{pitch // 12 - 1}"


def _head(note: Note, style: dict[str, Any]) -> str:
    if "x" in note.effects:
        return "X"
    if "t" in note.effects:
        return {"brackets": f"({note.fret})", "plain": str(note.fret)}.get(style["tie_numbers"], "")
    if "nh" in note.effects:
        return f"<{note.fret}>"
    return f"({note.fret})" if "g" in note.effects else str(note.fret)


def _bend(arguments: tuple, style: dict[str, Any]) -> list[dict[str, Any]]:
    values = _rise(arguments)
    up = {"up": True, "text": style.get("bend_words", HEIGHTS)[max(values)]}
    return [up, {"up": False, "text": ""}] if arguments[0] == "bendrelease" else [up]


def _beat(beat: Beat, style: dict[str, Any], tuning: tuple[str, ...], flat: bool) -> dict[str, Any]:
    notes = []
    for note in sorted(beat.notes, key=lambda n: n.string):
        entry = {"string": note.string, "text": _head(note, style), "dead": "x" in note.effects}
        entry["key"] = _key(note, tuning, flat)
        if "be" in note.effects:
            entry["bend"] = _bend(note.effects["be"], style)
        notes.append(entry)
    names = {name for note in beat.notes for name in note.effects}
    return {
        "notes": notes,
        "duration": beat.duration,
        "dots": beat.dots,
        "grace": bool(beat.grace),
        "tuplet": list(beat.tuplet) if beat.tuplet else None,
        "vibrato": "v" in names,
        "stroke": next((name for name in ("bd", "bu", "ad", "au") if name in beat.effects), None),
        "words": [_WORDS[name] for name in beat.effects if name in _WORDS],
        "articulations": [sign for name, sign in _SCORE_SIGNS.items() if name in names],
    }


def _links(beats: list[tuple[str, Beat]], style: dict[str, Any]) -> tuple[list[dict], list[dict]]:
    """What joins two beats, and slides that come from or go to nowhere."""
    links: list[dict[str, Any]] = []
    alone: list[dict[str, Any]] = []
    for place, (name, beat) in enumerate(beats):
        after = beats[place + 1] if place + 1 < len(beats) else None
        heads = sorted(beat.notes, key=lambda n: n.string)
        lettered = False  # a chord says it once
        for index, note in enumerate(heads):
            alone += [
                {"at": name, "index": index, "kind": k} for k in ("sib", "sia", "sou", "sod") if k in note.effects
            ]
            if after is None:
                continue
            targets = sorted(after[1].notes, key=lambda n: n.string)
            hits = [k for k, other in enumerate(targets) if other.string == note.string]
            if not hits:
                continue
            ends = {"from": name, "to": after[0], "first": index, "last": hits[0]}
            down = targets[hits[0]].fret < note.fret
            if "t" in targets[hits[0]].effects:
                links.append(ends | {"kind": "tie", "text": "", "on_score": True})
            if "h" in note.effects:
                letter = ("P" if down else "H") if style["link_letters"] and not lettered else ""
                lettered = True
                links.append(ends | {"kind": "tie", "text": letter, "on_score": True})
            if "ss" in note.effects or "sl" in note.effects:
                links.append(ends | {"kind": "slide", "down": down, "text": "", "on_score": False})
            if "sl" in note.effects:
                word = "sl." if style["slide_words"] else ""
                links.append(ends | {"kind": "tie", "text": word, "on_score": True})
    return links, alone


def _spans(beats: list[tuple[str, Beat]]) -> list[dict[str, Any]]:
    """Runs of palm mute and let ring; each in a row of its own above the staff."""
    out: list[dict[str, Any]] = []
    used = [name for name in ("pm", "lr") if any(name in n.effects for _, b in beats for n in b.notes)]
    for row, name in enumerate(used):
        run: dict[str, Any] | None = None
        for key, beat in beats:
            if any(name in note.effects for note in beat.notes):
                if run is None:
                    run = {"from": key, "text": {"pm": "P.M.", "lr": "let ring"}[name], "row": row}
                    out.append(run)
                run["to"] = key
            else:
                run = None
    return out


def job_of(score: Score, style: dict[str, Any]) -> dict[str, Any]:
    """The drawing job of a score of one staff and one voice, from `visible`."""
    staff = score.staves[0]
    tuning = staff.tuning or DEFAULT_TUNING
    metre, key = (4, 4), "c"
    bars = []
    named: list[tuple[str, Beat]] = []
    for b, bar in enumerate(staff.bars):
        metre = bar.time_signature or metre
        new_key = canonical_key(bar.key_signature) if bar.key_signature else None
        key = new_key or key
        beats = bar.voices[0]
        named += [(f"{b}.{k}", beat) for k, beat in enumerate(beats)]
        beams, tuplets = beam_groups(beats, metre), tuplet_groups(beats)
        spell = lambda name: name[0].upper() + name[1:]  # noqa: E731
        bars.append(
            {
                "beats": [
                    _beat(beat, style, tuning, key in _FLAT_KEYS) | {"beam": beam, "tuplet_group": group}
                    for beat, beam, group in zip(beats, beams, tuplets, strict=True)
                ],
                "metre": list(bar.time_signature) if bar.time_signature else None,
                "key": spell(new_key) if new_key and style["score"] else None,
                "key_in_force": spell(key),
                "tempo": bar.tempo,
                "repeat_open": bar.repeat_open,
                "repeat_close": bar.repeat_close,
                "endings": list(bar.endings),
                "number": b + 1 if style["bar_numbers"] else 0,
            }
        )
    links, alone = _links(named, style)
    job = style | {"verb": "draw", "engraver": NAME, "bars": bars, "strings": staff.strings, "links": links}
    job["clef_name"] = "bass" if staff.strings < 6 else "treble"
    return job | {"slides_alone": alone, "spans": _spans(named)}


def engrave(
    text: str, style: dict[str, Any], worker: EngraverWorker, name: str = "", metre: tuple[int, int] = (4, 4)
) -> EngravedSystem:
    """Draws the canonical text of one system.

    Args:
        text: What to draw; techniques that VexFlow lacks are left out of picture and truth.
        style: Of `random_style`.
        worker: Draws.
        name: For messages.
        metre: In force before the first bar.

    Raises:
        ValueError: A text that VexFlow can not draw.
        RenderError: VexFlow failed.
    """
    from ..guitar_parts import shown_as

    score = visible(read_alphatex(text))
    shown_as(score, "score+tabs" if style["score"] else "tabs")
    answer = worker.ask(job_of(score, style))
    note_y: dict[tuple[int, int, int, int], float] = {}
    for beat in answer["beats"]:
        strings = sorted(n.string for n in score.staves[0].bars[beat["bar"]].voices[0][beat["beat"]].notes)
        note_y |= {(beat["bar"], 0, beat["beat"], s): y for s, y in zip(strings, beat["ys"], strict=True)}
    return EngravedSystem(
        image=picture_of(answer),
        text=write_alphatex(score),
        beat_x={(b["bar"], 0, b["beat"]): b["x"] for b in answer["beats"]},
        bar_x=[(left, right) for left, right in answer["bars"]],
        tab_line_ys=answer["lines"],
        has_score=style["score"],
        engraver=style.get("engraver", NAME),
        name=name,
        metre=metre,
        note_y=note_y,
    )


__all__ = ["HEIGHTS", "NAME", "absent", "engrave", "job_of", "random_style", "visible"]
