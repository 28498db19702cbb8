"""Stage `pack` with several engravers and degraded pictures: one command, in parts, that goes on where it was stopped.

    accelerate launch train score_vlm --stage pack --generate 60000 --engravers alphatab=0.6 vexflow=0.25 \\
        musescore=0.15 --degrade 0.45 --decorations 0.5 --output_dir PACKED

A folder has `mix.json` (what was asked), `space.json` (class names) and `part-0000`, `part-0001`, ..., each a packed
folder with its `counts.json`. A part appears when it is whole; the same command again makes those that lack. Each
part's pictures depend on the seed and the part's number alone.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.errors import InputError
from .score_vlm_data import PackWriter, SystemRow
from .score_vlm_pack import generated_rows, label_space
from .score_vlm_pages import page_rows
from .score_vlm_seen import Lost, seen, spoilt

Row = SystemRow | Lost | InputError
#: Sources besides the other engravers: alphaTab's systems drawn alone, and those cut out of its pages.
OWN = ("alphatab", "pages")
PART_SYSTEMS = 2000
#: Severity of a degraded picture is drawn from this Beta distribution: mostly readable, some as bad as it gets.
SEVERITY = (2.0, 3.0)
_LATER_METRES = ((4, 4), (3, 4), (2, 4))  # VexFlow's beams need to know no more where no metre is drawn


@dataclass(frozen=True)
class Mix:
    """What a mixed pack holds.

    Attributes:
        count: Systems tried; some are lost.
        seed: The same mix and seed give the same pack.
        split: Split that the pieces are of.
        engravers: How often each engraver draws: `alphatab`, `pages`, or one of `datasets_scripts.engravers`.
        degrade: Part of the pictures that are made worse (`pages` are left as they are).
        decorations: Part of alphaTab's systems with words and signs that the truth does not name.
        continuations, drills, retimings: As for `generated_rows`.
        part_systems: Systems of a part.
    """

    count: int
    seed: int = 0
    split: str = "train"
    engravers: dict[str, float] = field(default_factory=lambda: {"alphatab": 1.0})
    degrade: float = 0.45
    decorations: float = 0.5
    continuations: float = 0.15
    drills: float = 0.2
    retimings: float = 0.1
    part_systems: int = PART_SYSTEMS

    def __post_init__(self) -> None:
        for name in ("degrade", "decorations", "continuations", "drills", "retimings"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(None, f"{name} is {getattr(self, name)}; it is a part of the systems, 0 to 1")
        for name in ("count", "part_systems"):
            if getattr(self, name) < 1:
                raise InputError(None, f"{name} is {getattr(self, name)}; it must be 1 or more")
        if any(not weight >= 0 for weight in self.engravers.values()) or not sum(self.engravers.values()) > 0:
            raise InputError(None, f"weights of engravers are {self.engravers}; they can not be negative or all 0")


def settled(mix: Mix) -> Mix:
    """The same mix with the engravers that can draw here, their weights brought to a sum of 1.

    What lacks for the others is said on standard error.

    Raises:
        InputError: A name that there is no engraver for, or none of them can draw.
    """
    from ..datasets_scripts.engravers import ENGRAVERS, available

    asked = [name for name, weight in mix.engravers.items() if weight > 0]
    wrong = [name for name in asked if name not in (*OWN, *ENGRAVERS)]
    if wrong:
        raise InputError(None, f"there is no engraver {wrong[0]!r}; choose of {', '.join((*OWN, *ENGRAVERS))}")
    others = available([name for name in asked if name not in OWN])
    there = {name: mix.engravers[name] for name in asked if name in OWN or name in others}
    if not there:
        raise InputError(None, f"none of the engravers {', '.join(asked)} is installed; add alphatab, or run `npm ci`")
    total = sum(there.values())
    return replace(mix, engravers={name: weight / total for name, weight in there.items()})


def engraved_rows(engraver: str, seed: int, mix: Mix) -> Iterator[Row]:
    """Endless systems of generated pieces by one of the other engravers; what it can not draw truly is `Lost`."""
    from ..datasets_scripts.continuations import as_continuation
    from ..datasets_scripts.drills import with_rare_signs
    from ..datasets_scripts.engravers import Engravers
    from ..datasets_scripts.guitar_parts import iter_system_jobs
    from ..datasets_scripts.retiming import retimed
    from ..processing.alphatex_grammar import read_alphatex

    draw = random.Random(f"{engraver} {seed}")
    with Engravers([engraver]) as engravers:
        for number, (text, _, piece) in enumerate(iter_system_jobs(seed, sys.maxsize, mix.split)):
            # A generator of its own for each system: what one system takes leaves the next as it was.
            one = random.Random(draw.getrandbits(64))
            if len(read_alphatex(text).staves[0].bars[0].voices) > 1:
                continue
            if one.random() < mix.drills:
                text = with_rare_signs(text, one)
            if one.random() < mix.retimings:
                text = retimed(text, one) or text
            metre = (4, 4)
            if engraver in ("vexflow", "manners") and one.random() < mix.continuations:
                later = as_continuation(text)
                if later is not None and later[2] in _LATER_METRES:
                    _, text, metre = later
            name = f"{piece} {number} by {engraver}"
            try:
                yield engravers.draw(text, one, engraver, name, metre).row()
            except InputError as error:
                yield error
            except ValueError:
                yield Lost(name, f"not drawn truly by {engraver}")


def _stream(name: str, mix: Mix, part: int) -> Iterator[Row]:
    """Endless rows of one source for one part."""
    seed = random.Random(f"{mix.seed} {part} {name}").getrandbits(48)
    if name == "alphatab":
        return generated_rows(
            seed, sys.maxsize, mix.split, mix.continuations, mix.drills, mix.retimings, mix.decorations
        )
    return page_rows(seed, sys.maxsize, mix.split) if name == "pages" else engraved_rows(name, seed, mix)


def mixed_rows(mix: Mix, part: int, count: int) -> Iterator[tuple[str, str, Row]]:
    """Systems of a part, as the reader sees them.

    Args:
        mix: Of `settled`.
        part: Number of the part.
        count: Systems tried.

    Yields:
        Who drew it, the recipe that it was made worse by (`"clean"` for none), and the row.
    """
    from ..datasets_scripts.degrade import draw_recipe

    draw = random.Random(f"mix {mix.seed} {part}")
    names, weights = list(mix.engravers), list(mix.engravers.values())
    with ExitStack() as stack:
        streams: dict[str, Any] = {name: _stream(name, mix, part) for name in names}
        for stream in streams.values():
            stack.enter_context(closing(stream))
        for _ in range(count):
            # All luck of a system is drawn before it is made, so that a lost one changes no other.
            name, bad = draw.choices(names, weights)[0], draw.random() < mix.degrade
            severity, seed = draw.betavariate(*SEVERITY), draw.getrandbits(63)
            row = next(streams[name])
            if not isinstance(row, SystemRow) or name == "pages":
                yield name, "clean", row
                continue
            if not bad:
                found = seen(row)
                yield name, "clean", row if isinstance(found, Lost) else found  # by the true lines then
                continue
            rng = np.random.default_rng(seed)
            recipe = draw_recipe(rng)
            named = replace(row, name=f"{row.name} {recipe} {severity:.2f}")
            try:
                yield name, recipe, spoilt(named, severity, rng, recipe)
            except (ValueError, IndexError) as error:
                yield name, recipe, InputError(named.name, f"{type(error).__name__} {error}")


def _pack_part(mix: Mix, part: int, count: int, target: Path, space: dict[str, list[str]], bar: Any) -> Counter[str]:
    """Writes one part beside its place and puts it there when it is whole."""
    half = target.with_suffix(".unfinished")
    shutil.rmtree(half, ignore_errors=True)
    writer = PackWriter(half, space, locate=True)
    counts: Counter[str] = Counter()
    stream: Any = mixed_rows(mix, part, count)
    with closing(stream) as rows:
        for engraver, recipe, row in rows:
            bar.update()
            if isinstance(row, Lost):
                counts[f"lost: {row.reason}"] += 1
            elif isinstance(row, SystemRow) and writer.add(row):
                counts.update(["packed", f"by {engraver}", f"picture: {recipe}"])
            else:
                counts["failed"] += 1
                if not isinstance(row, SystemRow):
                    writer.failures.append(str(row))
    writer.close()
    (half / "counts.json").write_text(json.dumps(counts, indent=1), encoding="utf-8")
    half.rename(target)
    return counts


def _keep(path: Path, value: Any, what: str) -> Any:
    """The value of a JSON file, written when it is not there.

    Raises:
        InputError: It holds another value, or no JSON.
    """
    plain = json.loads(json.dumps(value))
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")
        part.replace(path)
        return plain
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, f"is no JSON ({error}); remove the folder, or give another --output_dir") from error
    if found != plain:
        changed = [k for k in plain if found.get(k) != plain[k]] if isinstance(found, dict) else []
        raise InputError(path, f"was begun with other {what} ({', '.join(changed)}); give another --output_dir")
    return found


def pack_mixed(mix: Mix, folder: Path) -> tuple[list[str], Counter[str]]:
    """Makes the parts of a mixed pack that are not there yet.

    Args:
        mix: What to pack.
        folder: Folder of the parts.

    Returns:
        What failed, a line each, and how much there is of what, through all parts: `packed`, `by <engraver>`,
        `picture: <recipe or clean>`, `lost: <reason>`, `failed`.

    Raises:
        InputError: The folder was begun with another mix, or no engraver of the mix can draw.
    """
    from tqdm.auto import tqdm

    mix = settled(mix)
    if (folder / "index.json").is_file():
        raise InputError(folder, "is a packed folder without parts; give another --output_dir")
    asked = {name: value for name, value in asdict(mix).items() if name != "count"}  # more of the same can be added
    _keep(folder / "mix.json", asked, "settings")
    stored = folder / "space.json"
    space = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else None
    space = space or _keep(stored, label_space(), "class names")
    counts: Counter[str] = Counter()
    failures: list[str] = []
    with tqdm(total=mix.count, desc=f"packing {folder.name}", unit="system") as bar:
        for part, start in enumerate(range(0, mix.count, mix.part_systems)):
            target = folder / f"part-{part:04d}"
            size = min(mix.part_systems, mix.count - start)
            found = _counts_of(target)
            if _tried(found) < size:  # not there yet, or the last one when fewer were asked for
                shutil.rmtree(target, ignore_errors=True)
                found = _pack_part(mix, part, size, target, space, bar)
            else:
                bar.update(size)
            counts.update(found)
            failures += (target / "failures.txt").read_text(encoding="utf-8").splitlines()
    return failures, counts


def _counts_of(part: Path) -> Counter[str]:
    """Counts of a part; none when it is not there."""
    path = part / "counts.json"
    return Counter(json.loads(path.read_text(encoding="utf-8"))) if (part / "index.json").is_file() else Counter()


def _tried(counts: Counter[str]) -> int:
    return sum(count for name, count in counts.items() if name in ("packed", "failed") or name.startswith("lost"))


def counts_table(counts: Counter[str]) -> str:
    """Counts as lines of text, what was lost last."""
    order = sorted(counts, key=lambda name: (name.startswith("lost"), name != "packed", -counts[name], name))
    return "\n".join(f"{counts[name]:>8,}  {name}" for name in order)


__all__ = ["PART_SYSTEMS", "SEVERITY", "Mix", "counts_table", "engraved_rows", "mixed_rows", "pack_mixed", "settled"]
