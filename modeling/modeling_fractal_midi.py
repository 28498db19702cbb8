"""FractalMidi: a fractal generator of piano rolls (FractalGen, arXiv 2502.17437) that fills in what is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from ..configuration.configuration_fractal_midi import FractalMidiConfig
from ..processing.errors import InputError
from .fractal_cells import child_keys, codes_to_roll, roll_to_codes, systematic_draw, uniform
from .fractal_inputs import (
    check_mask,
    check_roll,
    check_sampling,
    count_samples,
    keep_conditions,
    read_conditions,
    tonality,
    usual_conditions,  # fmt: skip
)
from .fractal_levels import GENERATORS
from .fractal_nodes import Lesson, LevelGenerator, Nodes, descend
from .fractal_painter import Film, Painter, Watcher
from .layers import lay_out_by_columns

# What decides which weights a checkpoint has; asking for others is refused.
STRUCTURE = ("level_sizes", "generator_types", "hidden_sizes", "num_hidden_layers", "num_attention_heads", "mlp_ratio",
             "context_margins", "num_codes", "attribute_sizes")  # fmt: skip
_HUB = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
DROP_ALL, DROP_ONE = 11, 12  # salts of what is drawn


@dataclass
class FractalMidiOutput(ModelOutput):
    """How likely rolls are.

    Attributes:
        loss: Nats per step (a column of all pitches) to be predicted, mean over the batch.
        nll: `(B,)` nats of the hidden cells of each roll. Exact if all levels are `ar`; with `mar` levels an estimate
            of an upper bound (see `MaskedLevel`); while training also over a draw of the patches.
        level_nll: `(B, G)` its parts by level.
        bits_per_cell: `(B,)` per hidden cell.
        bits_per_sounding_cell: `(B,)` the same bits per hidden cell that is not silent (at least one is counted).
        decisions: By level, where asked for: `logits` `(M, n, K)`, `predicted` `(M, n)`, `cost` `(M, n)` in nats, whose
            sum is `nll`, and `owner` `(M,)` and `origin` `(M, 2)` of the patches. Of the last draw only.
    """

    loss: torch.FloatTensor | None = None
    nll: torch.FloatTensor | None = None
    level_nll: torch.FloatTensor | None = None
    bits_per_cell: torch.FloatTensor | None = None
    bits_per_sounding_cell: torch.FloatTensor | None = None
    decisions: list[dict[str, torch.Tensor]] | None = None


@dataclass
class FractalMidiGeneration:
    """Rolls `(B, 1, P, T)`, and frames of how they grew: such rolls on the CPU, NaN where nothing is decided."""

    roll: torch.Tensor
    intermediates: list[torch.Tensor]


class FractalMidiPreTrainedModel(PreTrainedModel):
    """What transformers has to know of the model, and how its weights begin."""

    config_class = FractalMidiConfig
    base_model_prefix = "fractal_midi"
    main_input_name = "roll"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["TransformerLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            # By fan-in, for the widths and inputs of the levels differ by a hundred times.
            scale = self.config.initializer_scale * getattr(module, "initial_scale", 1.0)
            init.normal_(module.weight, mean=0.0, std=scale * module.in_features**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=0.5 * self.config.initializer_scale)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        """As in transformers; a structure other than the checkpoint's is refused.

        Raises:
            InputError: Something in `STRUCTURE` is asked for that the checkpoint does not have; both are named.
        """
        asked = {name: kwargs[name] for name in STRUCTURE if name in kwargs}
        if isinstance(config, cls.config_class):
            asked = {**{name: getattr(config, name) for name in STRUCTURE}, **asked}
        if asked and pretrained_model_name_or_path is not None:
            hub = {name: kwargs[name] for name in _HUB if name in kwargs}
            stored = cls.config_class.from_pretrained(pretrained_model_name_or_path, **hub)
            for name, value in asked.items():
                has = getattr(stored, name)
                if json.dumps(has) != json.dumps(value):  # lists and tuples alike
                    raise InputError(
                        pretrained_model_name_or_path,
                        f"the checkpoint has {name} {json.dumps(has)}, asked for is {json.dumps(value)}; "
                        "load it as it is, or train another",
                    )
        return super().from_pretrained(pretrained_model_name_or_path, *args, config=config, **kwargs)


class FractalMidiModel(FractalMidiPreTrainedModel):
    """One generator per grid, each conditioned on the one above.

    ```
    roll (B, 1, 128, 256) ─codes─▶ level 0: 8 × 16 patches ─not empty─▶ level 1: 4 × 4 ─▶ level 2: 16 cells ─▶ codes
    conditions (B, C) ─embedding────▶ │ ─state of the patch and its neighbours─▶ │ ────────▶ │
    known cells around a patch ────────────────────────────────────────────────▶ │ ────────▶ │
    ```

    An empty patch is one binary decision and is not looked into; see `fractal_nodes` for the likelihood.
    """

    def __init__(self, config: FractalMidiConfig) -> None:
        super().__init__(config)
        self.attribute_embeddings = nn.ModuleList(
            nn.Embedding(size + 1, config.hidden_sizes[0]) for size in config.attribute_sizes
        )  # entry 0: not given
        self.levels = nn.ModuleList(
            GENERATORS[kind](config, level) for level, kind in enumerate(config.generator_types[:-1])
        )
        keep_conditions(self, torch.full((config.known_conditions, len(config.attribute_sizes)), -1))
        self.post_init()

    # --- Conditions ---------------------------------------------------------------------------------------------------

    def encode_conditions(self, conditions: Any, num_samples: int = 1) -> torch.Tensor:
        """Conditions as `(B, C)` bins, −1 = not given.

        Args:
            conditions: Such a tensor, or a mapping of attribute names to bins, for all samples.
            num_samples: Rows that a mapping becomes.

        Raises:
            InputError: An attribute or a bin that does not exist, or a wrong number of columns.
        """
        return read_conditions(self.config, conditions, num_samples, self.device)

    def embed_conditions(self, conditions: torch.Tensor | None, count: int) -> torch.Tensor | None:
        """`(B, C)` bins to `(B, A)`; `None` where the model has no attributes."""
        if not self.attribute_embeddings:
            return None
        if conditions is None:
            conditions = torch.full((count, len(self.attribute_embeddings)), -1, device=self.device)
        parts = [table(conditions[:, c] + 1) for c, table in enumerate(self.attribute_embeddings)]
        return torch.stack(parts).sum(0)

    def drop_conditions(self, conditions: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Hides conditions of a training batch, all of a row or single ones."""
        everything = uniform(keys, 1, DROP_ALL) < self.config.condition_dropout
        single = uniform(keys, conditions.shape[1], DROP_ONE) < self.config.attribute_dropout
        return torch.where(everything | single, -1, conditions)

    # --- Likelihood ---------------------------------------------------------------------------------------------------

    def root(self, given: torch.Tensor, keys: torch.Tensor, attributes: torch.Tensor | None) -> Nodes:
        """Whole rolls `(B, P, T)` as the patches of level 0; `attributes` `(S, B, A)`."""
        level, count = self.levels[0], len(given)
        p, t = level.margins
        view = F.pad(given, (t, t, p, p), value=self.config.num_codes)
        if attributes is None:
            cond = torch.zeros(1, count, self.config.hidden_sizes[0], device=given.device, dtype=self.dtype)
        else:
            cond = level.from_attributes(attributes)
        origin = torch.zeros(count, 2, dtype=torch.long, device=given.device)
        return Nodes(view, cond, torch.arange(count, device=given.device), origin, keys, must_sound=False)

    def descend(
        self, level: LevelGenerator, nodes: Nodes, lesson: Lesson, attributes: torch.Tensor | None, count: int
    ) -> Nodes:
        """The patches to look into next; in training a draw of them, with weights that keep the loss right."""
        m, i, windows, weight = lesson.m, lesson.i, lesson.windows, lesson.weight
        assert windows is not None  # there is a level below
        lower, most = self.levels[level.level + 1], self.config.train_nodes[level.level] * count
        # A `mar` level learns more from a patch that is masked in several ways, an `ar` level does not.
        drawn = self.training and (len(m) > most or (lower.kind == "mar" and 0 < len(m) < most))
        if drawn:
            index = systematic_draw(weight, most, float(torch.rand(())))
            m, i, windows, weight = m[index], i[index], windows[index], weight.sum().expand(most) / most
        below = descend(level, lower, nodes, lesson.states, windows, m, i, attributes)
        below.weight = weight
        if drawn:  # one patch drawn twice is masked in two ways
            below.keys = child_keys(below.keys, torch.arange(most, device=below.keys.device))
        return below

    def _look(
        self, codes: torch.Tensor, given: torch.Tensor, conditions: torch.Tensor | None, keys: torch.Tensor
    ) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
        """One draw: nats by level `(B, G)`, and the decisions."""
        if self.training and conditions is not None:
            conditions = self.drop_conditions(conditions, keys)
        attributes = self.embed_conditions(conditions, len(codes))
        attributes = None if attributes is None else attributes[None]  # one stream
        nodes = self.root(given, keys, attributes)
        nodes.truth, nodes.weight = codes, torch.ones(len(codes), device=codes.device)
        nll, decisions = [], []
        for level in self.levels:
            lesson = level.teach(nodes)
            nll.append(torch.zeros(len(codes), device=codes.device).index_add(0, nodes.owner, lesson.cost.sum(1)))
            told = {"logits": lesson.logits, "predicted": lesson.predicted, "cost": lesson.cost}
            decisions.append({**told, "owner": nodes.owner, "origin": nodes.origin})
            if not level.is_last:
                nodes = self.descend(level, nodes, lesson, attributes, len(codes))
        return torch.stack(nll, dim=1), decisions

    @can_return_tuple
    def forward(
        self,
        roll: torch.Tensor,
        conditions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        draws: int = 1,
        generator: torch.Generator | None = None,
        output_decisions: bool = False,
        **kwargs: Any,
    ) -> FractalMidiOutput:
        """Likelihood of rolls, or of the hidden part of them given the rest.

        Args:
            roll: `(B, 1, P, T)` in [−1, 1].
            conditions: `(B, C)` bins, −1 = not given.
            mask: `(B, P, T)` bool, true = hidden, to be predicted; `None`: all cells.
            draws: Draws of masks to average over, for `mar` levels.
            generator: On the CPU; where the draws come from. Without it a model in training mode draws anew each time,
                one in evaluation mode always the same.
            output_decisions: Whether to give the logits as well.
        """
        config = self.config
        codes = roll_to_codes(check_roll(config, roll, self.device), config.num_codes)  # (B, P, T)
        mask = (
            torch.ones_like(codes, dtype=torch.bool)
            if mask is None
            else check_mask(config, mask, len(codes), self.device)
        )
        conditions = None if conditions is None else self.encode_conditions(conditions)
        if generator is None and not self.training:
            generator = torch.Generator().manual_seed(0)
        given = torch.where(mask, config.num_codes, codes)
        level_nll = torch.zeros(len(codes), config.num_grids, device=codes.device)
        for _ in range(draws):
            keys = torch.randint(0, 1 << 62, (len(codes),), generator=generator).to(codes.device)
            found, decisions = self._look(codes, given, conditions, keys)
            level_nll = level_nll + found / draws
        nll = level_nll.sum(1)
        cells, sounding = mask.sum((1, 2)), (mask & (codes > 0)).sum((1, 2))
        return FractalMidiOutput(
            loss=nll.sum() / cells.sum().clamp(min=1) * codes.shape[1],
            nll=nll,
            level_nll=level_nll,
            bits_per_cell=nll / math.log(2) / cells.clamp(min=1),
            bits_per_sounding_cell=nll / math.log(2) / sounding.clamp(min=1),
            decisions=decisions if output_decisions else None,
        )

    # --- Sampling -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        num_samples: int | None = None,
        conditions: Any = None,
        *,
        roll: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        num_iter_list: Sequence[int] | None = None,
        temperature: float = 1.0, cfg_scale: float = 1.0, sparsity_bias: float = 0.0, top_p: float = 1.0,
        structure_temperature: float | None = None, key_guidance: float = 1.0, usual: bool = True,
        return_intermediates: bool = False, callback: Watcher | None = None, generator: torch.Generator | None = None,
    ) -> Any:  # fmt: skip
        """Paints rolls from nothing, or fills in the masked cells of given ones.

        Each roll has random numbers of its own: the first of a batch is the same however many are made beside it.

        Args:
            num_samples: How many; else as many as `conditions` or `roll` has rows.
            conditions: `(B, C)` bins or a mapping, see `encode_conditions`.
            roll: `(B or 1, 1, P, T)` with the known cells.
            mask: Bool `(P, T)` or `(B, P, T)`, true = to be filled. The other cells come back as they are.
            num_iter_list: Steps of each level (`mar` only); by default each level takes half of those above: 8 4 2 1.
            temperature: Divides the logits; 0 takes the most likely class always.
            cfg_scale: Weight of classifier-free guidance; 1 is none, and costs half as much.
            sparsity_bias: Added to the logit of silence and emptiness.
            top_p: Nucleus of a cell's codes.
            structure_temperature: Of the choices which patches sound (0.6: few stray notes); else `temperature`.
            key_guidance: How much new rolls prefer the pitches of their key, asked or drawn, see `tonality`; 0: not.
            usual: New rolls take the conditions that are not asked for from training rolls, see `usual_conditions`.
            return_intermediates: Give a `FractalMidiGeneration` with frames instead of the roll alone.
            callback: Called with (level, step, roll so far) after each step; not-a-number where nothing is decided.
            generator: On the CPU; with the same state the same rolls.

        Returns:
            `(B, 1, P, T)` float roll, or a `FractalMidiGeneration`.

        Raises:
            InputError: A setting, a shape or a condition that can not be.
        """
        if structure_temperature is not None:
            check_sampling(self.config, num_iter_list, structure_temperature, cfg_scale, sparsity_bias, top_p)
        num_iter_list = check_sampling(self.config, num_iter_list, temperature, cfg_scale, sparsity_bias, top_p)
        given, known, hidden = self._start(roll, mask, count := count_samples(num_samples, conditions, roll, mask))
        keys = torch.randint(0, 1 << 62, (count,), generator=generator).to(self.device)
        if usual and roll is None:
            conditions = usual_conditions(self.config, self.known_conditions, conditions, keys)
        conditions, bias = tonality(self.config, conditions, keys, key_guidance, free=roll is None)
        attributes = self._sampling_attributes(conditions, count, cfg_scale)
        choices = (temperature, cfg_scale, sparsity_bias, top_p, structure_temperature, bias)
        painter = Painter(list(self.levels), attributes, num_iter_list, *choices)
        lay_out_by_columns(self.levels)
        film = Film(painter, self.config.num_codes, callback) if return_intermediates else None
        if film is not None or callback is not None:
            painter.canvas, painter.watch = given.clone(), film or callback
        with torch.inference_mode():  # less to be kept about thousands of small tensors
            codes = self.levels[0].sample(self.root(given, keys, attributes), painter)
        painted = torch.where(hidden[:, None], codes_to_roll(codes, self.config.num_codes), known)
        return painted if film is None else FractalMidiGeneration(painted, film.frames())

    @torch.no_grad()
    def extend(self, roll: torch.Tensor, num_steps: int, overlap_steps: int = 128, **options: Any) -> torch.Tensor:
        """Goes on after a roll, window by window.

        Args:
            roll: `(B, 1, P, T')` of any length.
            num_steps: Steps to add.
            overlap_steps: How much of the past each window begins with, less than a window.
            options: Of `generate`.

        Returns:
            `(B, 1, P, T' + num_steps)`; it begins with `roll`, bit for bit.
        """
        pitches, window = self.config.level_sizes[0]
        if num_steps < 1 or not 1 <= overlap_steps < window:
            raise InputError(
                None, f"{num_steps} steps after {overlap_steps}: at least 1, after at least 1 and less than {window}"
            )
        wanted = roll.shape[-1] + num_steps
        roll = roll.to(self.device)
        if options.get("conditions") is not None:  # what is asked of a key in part is drawn once, not in each window
            keys = torch.randint(0, 1 << 62, (len(roll),), generator=options.get("generator"))
            strength = options.get("key_guidance", 1.0)
            options["conditions"], _ = tonality(self.config, options["conditions"], keys, strength, free=False)
        while roll.shape[-1] < wanted:
            past = roll[..., -overlap_steps:]
            length = past.shape[-1]
            start = F.pad(past, (0, window - length), value=-1.0)
            mask = (torch.arange(window, device=self.device) >= length).expand(pitches, window)
            painted = self.generate(roll=start, mask=mask, **options)
            roll = torch.cat([roll, painted[..., length:].to(roll.dtype)], dim=-1)
        return roll[..., :wanted]

    def _start(self, roll: Any, mask: Any, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Given codes `(B, P, T)`, known roll `(B, 1, P, T)` and hidden cells `(B, P, T)`."""
        size, unknown = self.config.level_sizes[0], self.config.num_codes
        if roll is None:
            hidden = torch.ones(count, *size, dtype=torch.bool, device=self.device)
            known = torch.full((count, 1, *size), -1.0, device=self.device)
            return torch.full((count, *size), unknown, device=self.device), known, hidden
        known = check_roll(self.config, roll, self.device).expand(count, -1, -1, -1)
        hidden = check_mask(self.config, mask, count, self.device)
        return torch.where(hidden, unknown, roll_to_codes(known, unknown)), known, hidden

    def _sampling_attributes(self, conditions: Any, count: int, cfg_scale: float) -> torch.Tensor | None:
        """Embedded conditions `(S, B, A)`; a second stream without them where guidance wants one."""
        free = self.embed_conditions(None, count)
        if conditions is None:
            return None if free is None else free[None]
        bound = self.embed_conditions(self.encode_conditions(conditions, count).expand(count, -1), count)
        if bound is None or free is None:
            return None
        return bound[None] if cfg_scale == 1.0 else torch.stack([bound, free])


__all__ = ["FractalMidiModel", "FractalMidiOutput", "FractalMidiPreTrainedModel"]
