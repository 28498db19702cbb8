"""Texts for the language model: gathered from many places, packed as tokens once, read in rows without padding.

A pack is a folder: `tokens.bin` (uint16, all texts one behind the other, each with its `<|end|>`), `ends.npy` (where
each text ends), `index.json` (vocabulary, split, how many of what source). Training maps the file and parses nothing.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from ..processing.errors import InputError

FORMAT = 1
WHOLE_SHARE = 0.15
IGNORED = -100


class CorpusText(NamedTuple):
    """One text, where it comes from, and the piece it is cut from."""

    text: str
    source: str
    piece: str


# --- where texts come from --------------------------------------------------------------------------------------------


def generated_texts(seed: int, count: int, split: str, whole: float = WHOLE_SHARE) -> Iterator[CorpusText]:
    """Systems of generated pieces, and some pieces as a whole.

    Args:
        seed: Of the pieces.
        count: Texts.
        split: `"train"`, `"validation"` or `"test"`; splits never share a piece.
        whole: Part of the pieces that are also given whole (8 to 24 bars).
    """
    from ..datasets_scripts.guitar_parts import (
        generate_piece,
        piece_seeds,
        random_style,
        shown_as,
        split_systems,
        take_bars,
    )
    from ..processing.alphatex_grammar import write_alphatex

    done = 0
    for candidate in piece_seeds(seed, split):
        piece = generate_piece(candidate)
        draw = random.Random(candidate ^ 0x5EED)
        scores = split_systems(piece, draw)
        if draw.random() < whole:
            scores.append(take_bars(piece.score, 0, len(piece.score.staves[0].bars)))
        for score in scores:
            if done >= count:
                return
            staves = random_style(draw, piece.voices)["staves"]
            source = "generated, wild" if piece.kind == "wild" else "generated"
            yield CorpusText(write_alphatex(shown_as(score, staves)), source, piece.piece_id)
            done += 1


def texts_of_packed_systems(folders: Sequence[str | Path]) -> Iterator[CorpusText]:
    """Texts of folders made by `train score_vlm --stage pack`; their pictures are not touched.

    Raises:
        InputError: A folder is none of these.
    """
    for folder in map(Path, folders):
        try:
            rows = json.loads((folder / "index.json").read_text(encoding="utf-8"))["rows"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(folder, "no packed systems here; make them with `train score_vlm --stage pack`") from error
        for row in rows:
            # A system from the middle of a page tells no metre: by itself its text would close in no metre but 4/4.
            if row.get("metre", [4, 4]) != [4, 4]:
                continue
            yield CorpusText(row["text"], "packed", row["name"].rpartition(" ")[0] or row["name"])


def texts_of_parquet(folder: str | Path, split: str) -> Iterator[CorpusText]:
    """Texts of a data set made by `build_score_tab`.

    Raises:
        InputError: There is no row of the split.
    """
    import pyarrow.parquet as parquet

    found = False
    for file in sorted(Path(folder).rglob("*.parquet")):
        for batch in parquet.ParquetFile(file).iter_batches(columns=["text", "split", "piece_id", "source"]):
            for row in batch.to_pylist():
                if row["split"] == split:
                    found = True
                    yield CorpusText(row["text"], row["source"], row["piece_id"])
    if not found:
        raise InputError(folder, f"has no Parquet rows of the split {split!r}; make them with build_score_tab")


def texts_of_music(paths: Sequence[str | Path], seed: int, split: str, failures: list[str]) -> Iterator[CorpusText]:
    """MIDI and MusicXML files, every part laid on the fretboard and cut into systems.

    Args:
        paths: Files and folders.
        seed: Decides where pieces are cut.
        split: Of the works, by the hash of their names, before they are cut.
        failures: Gets a line for each file or system that gave nothing.

    Raises:
        InputError: There is no such file or folder.
    """
    from ..datasets_scripts.music_sources import pieces_of_file, source_files
    from ..datasets_scripts.score_tab_jobs import JobList

    for source in paths:
        for path in source_files(source):
            jobs = JobList()  # one for each file, or a corpus would not fit into memory
            try:
                for piece in pieces_of_file(path):
                    if piece.split == split:
                        jobs.add(piece, seed)
            except (InputError, ValueError) as error:
                failures.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            failures += [f"{where}: {what}" for where, what in jobs.failures]
            yield from (CorpusText(job.text, job.source, job.piece_id) for job in jobs.jobs.get(split, []))


# --- the pack ---------------------------------------------------------------------------------------------------------


def vocabulary_digest(tokenizer: Any) -> str:
    """Tells vocabularies apart: a pack is of no use to another one."""
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(json.dumps(words, ensure_ascii=False).encode()).hexdigest()[:16]


def pack_texts(
    texts: Iterable[CorpusText],
    tokenizer: Any,
    folder: str | Path,
    split: str,
    held_out: frozenset[bytes] = frozenset(),
    max_tokens: int = 2048,
    total: int | None = None,
) -> dict[str, Any]:
    """Writes a pack; the same text comes in once.

    Args:
        texts, tokenizer, folder: What to pack, by what, and where to; the folder is made when it is not there.
        split: Written down, so that training on a test set is noticed.
        held_out: Digests of texts (`text_digest`) that must not come in, those of other splits.
        max_tokens: Longer texts are left out.
        total: For the progress bar.

    Returns:
        What `index.json` says: `texts`, `tokens`, `sources`, `repeated`, `too_long`.

    Raises:
        InputError: Nothing is left to pack.
    """
    from tqdm.auto import tqdm

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)  # a pack that breaks off is none
    seen: set[bytes] = set()
    ends: list[int] = []
    pieces: list[int] = []
    numbers: dict[str, int] = {}  # of the pieces
    counts, sources = Counter[str](), Counter[str]()
    at = 0
    with open(folder / "tokens.bin", "wb") as file:
        for text, source, piece in tqdm(texts, desc=f"packing {folder.name}", total=total, unit="text"):
            digest = text_digest(text)
            if digest in seen or digest in held_out:
                counts["repeated"] += 1
                continue
            seen.add(digest)
            ids = tokenizer.encode(text, add_special_tokens=False)
            if len(ids) > max_tokens:
                counts["too_long"] += 1
                continue
            tokens = np.asarray([*ids, tokenizer.eos_token_id], dtype=np.uint16)
            file.write(tokens.tobytes())
            at += len(tokens)
            ends.append(at)
            pieces.append(numbers.setdefault(piece, len(numbers)))
            sources[source] += 1
    if not ends:
        raise InputError(folder, f"no text was left to pack ({dict(counts) or 'the sources are empty'})")
    np.save(folder / "ends.npy", np.asarray(ends, dtype=np.int64))
    np.save(folder / "pieces.npy", np.asarray(pieces, dtype=np.int32))
    index = {"format": FORMAT, "vocabulary": vocabulary_digest(tokenizer), "split": split, "texts": len(ends)}
    index |= {"tokens": at, "sources": dict(sources), **{name: counts[name] for name in ("repeated", "too_long")}}
    (folder / "index.json").write_text(json.dumps(index, ensure_ascii=False, indent=1), encoding="utf-8")
    return index


def text_digest(text: str) -> bytes:
    """Short digest of a text, to tell equal ones."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


class PackedTexts:
    """Reads packs; text `i` is an array of token ids that ends with `<|end|>`.

    Args:
        folders: Made by `pack_texts`.
        tokenizer: Must be the one they were packed with; `None` does not ask.

    Raises:
        InputError: No pack, one of another vocabulary, or one that broke off.
    """

    def __init__(self, folders: Sequence[str | Path], tokenizer: Any = None) -> None:
        self.arrays: list[np.ndarray] = []
        self.ends: list[np.ndarray] = []
        self.pieces: list[np.ndarray] = []
        self.splits: set[str] = set()
        for folder in map(Path, folders):
            try:
                index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
                tokens = np.memmap(folder / "tokens.bin", dtype=np.uint16, mode="r")
                ends, pieces = np.load(folder / "ends.npy"), np.load(folder / "pieces.npy")
            except (OSError, ValueError) as error:
                hint = "no packed texts here; make them with `train alphatex_lm --stage pack`"
                raise InputError(folder, hint) from error
            if index.get("format") != FORMAT or len(ends) != index["texts"] or ends[-1] != len(tokens):
                raise InputError(folder, "is not a whole pack of this version; pack it again")
            if tokenizer is not None and index["vocabulary"] != vocabulary_digest(tokenizer):
                raise InputError(folder, "was packed with another vocabulary; pack it again")
            self.splits.add(index["split"])
            self.arrays.append(tokens)
            self.ends.append(ends)
            self.pieces.append(pieces)
        sizes = [len(ends) for ends in self.ends]
        self.starts = np.cumsum([0, *sizes])
        self.lengths = np.concatenate([np.diff(ends, prepend=0) for ends in self.ends])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, i: int) -> np.ndarray:
        if not 0 <= i < len(self):
            raise IndexError(i)
        part = int(np.searchsorted(self.starts, i, side="right")) - 1
        k = i - int(self.starts[part])
        ends = self.ends[part]
        return np.asarray(self.arrays[part][(int(ends[k - 1]) if k else 0) : int(ends[k])])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def piece(self, i: int) -> str:
        """Name of a text's piece, different in each pack."""
        part = int(np.searchsorted(self.starts, i, side="right")) - 1
        return f"{part}-{int(self.pieces[part][i - int(self.starts[part])])}"


class TokenRows(Dataset):
    """Rows of equal length, without padding: texts in drawn order, the last one cut off at the row's end.

    Every row starts where a text starts, as at use. A text gets one of two fronts: `<|bos|>`, or the turn that asks to
    read a picture, so that a language model under a picture reader knows the turn before it ever sees a picture.

    Args:
        texts: The pack.
        length: Tokens of a row.
        frame: The turn's tokens; see `read_frame`.
        bos: Id of `<|bos|>`.
        seed: Decides which texts come together.
        framed: Part of the texts behind the turn.
    """

    def __init__(
        self, texts: PackedTexts, length: int, frame: Sequence[int], bos: int, seed: int = 0, framed: float = 0.5
    ) -> None:
        self.texts, self.length = texts, length
        self.fronts = (np.asarray([bos], dtype=np.int64), np.asarray(frame, dtype=np.int64))
        draw = np.random.default_rng(seed)
        self.order = draw.permutation(len(texts))
        self.kinds = (draw.random(len(texts)) < framed).astype(np.int8)  # by place in the order
        sizes = texts.lengths[self.order] + np.where(self.kinds == 1, len(frame), 1)
        sums = np.cumsum(sizes)
        # A text that a row's end cuts starts the next row again, so that every text is learnt to its end.
        self.rows: list[tuple[int, int]] = []
        first = 0
        while first < len(sums):
            end = (int(sums[first - 1]) if first else 0) + length
            if end > sums[-1]:
                break
            after = int(np.searchsorted(sums, end)) + 1
            self.rows.append((first, after))
            cut = sums[after - 1] > end and after - first > 1  # one that is longer than a row is not taken again
            first = after - 1 if cut else after
        if not self.rows:
            raise InputError(None, f"the packed texts hold {int(sums[-1])} tokens, a row needs {length}; pack more")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        first, after = self.rows[i]
        ids, learnt = [], []
        for place in range(first, after):
            front, text = self.fronts[self.kinds[place]], self.texts[int(self.order[place])]
            ids += [front, text.astype(np.int64)]
            learnt += [np.zeros(len(front), dtype=bool), np.ones(len(text), dtype=bool)]
        row = torch.from_numpy(np.concatenate(ids)[: self.length])
        known = torch.from_numpy(np.concatenate(learnt)[: self.length])
        return {"input_ids": row, "labels": row.masked_fill(~known, IGNORED)}


def read_frame(tokenizer: Any) -> list[int]:
    """Tokens of the turn that asks to read one picture, the picture being one `<|image|>`."""
    turns = [{"role": "user", "content": [{"type": "image"}]}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return tokenizer.encode(text, add_special_tokens=False)


__all__ = [
    "CorpusText",
    "PackedTexts",
    "TokenRows",
    "generated_texts",
    "pack_texts",
    "read_frame",
    "text_digest",
    "texts_of_music",
    "texts_of_packed_systems",
    "texts_of_parquet",
]
