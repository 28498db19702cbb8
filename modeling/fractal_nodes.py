"""What the generators of all levels of FractalMidi share: patches, conditions, and the likelihood of a level.

The model of a patch, which makes silence cheap (a departure from FractalGen, arXiv 2502.17437, whose patches all
recurse). Each child is first *empty or not* (at the last grid: silent or one of the other codes); only a child that is
not empty has a generator of its own inside. A patch that is known not to be empty can not have empty children only:
the last child to be decided is forced then, so that probabilities sum to one over all rolls.

    log p(patch | context) = Σ_children log p(empty or not | context) + [not empty] · log p(child | context, not empty)

Context of a child: what its patch knows of its children (`ar`: those before it; `mar`: those not masked), the states
of its patch and of the neighbours of its patch one level up, and the known cells in a margin around its patch. Cells
that are given (inpainting) are context everywhere, but for one case: a first level that is `ar` sees given cells that
lie ahead only when it comes to them. Nothing else reaches it, least of all its own cells.

Axes: `M` patches, `n` children of a patch, `K` classes of a child, `S` streams (2 with classifier-free guidance: with
conditions, without), `J` chosen children.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..configuration.configuration_fractal_midi import FractalMidiConfig
from .fractal_cells import (
    FEATURES,
    cell_features,
    child_keys,
    crop_children,
    fill_inside,
    inside,
    neighbour_index,
    patchify,
    unpatchify,
)
from .layers import TransformerLayer, rotary_angles

MAX_LOGIT = 20.0
# Whose states, (rows, columns) away one level up, are conditions of a patch. Those that come earlier know no more than
# the patch may; where all share one masked context, the four around it, as in the paper.
NEIGHBOURS = {"ar": ((-1, 0), (-1, -1), (0, -1), (1, -1)), "mar": ((-1, 0), (1, 0), (0, -1), (0, 1))}


@dataclass
class Nodes:
    """Patches of one level.

    Attributes:
        view: `(M, H + 2p, W + 2t)` codes known from outside: margins, and given cells; `num_codes` = unknown.
        cond: `(S, M, D)` what is known of them, as vectors.
        owner: `(M,)` row of the batch.
        origin: `(M, 2)` first pitch and step, in cells.
        keys: `(M,)` where their random numbers come from.
        must_sound: Whether each is known not to be empty.
        truth: `(M, H, W)` codes to learn from.
        weight: `(M,)` how much each counts in the loss.
    """

    view: torch.Tensor
    cond: torch.Tensor
    owner: torch.Tensor
    origin: torch.Tensor
    keys: torch.Tensor
    must_sound: bool
    truth: torch.Tensor | None = None
    weight: torch.Tensor | None = None


@dataclass
class Lesson:
    """What one level says of patches whose truth it was told.

    Attributes:
        cost: `(M, n)` weighted negative log-likelihood of each decision at this level, in nats.
        logits: `(M, n, K)` clamped; forced children have −inf for class 0.
        predicted: `(M, n)` which children are decided here at a cost.
        states: `(S, M, n, D)` for the level below.
        m, i: `(J,)` children to look into.
        windows: `(J, …)` their views.
        weight: `(J,)` their weights.
    """

    cost: torch.Tensor
    logits: torch.Tensor
    predicted: torch.Tensor
    states: torch.Tensor
    m: torch.Tensor
    i: torch.Tensor
    windows: torch.Tensor | None
    weight: torch.Tensor


class LevelGenerator(nn.Module):
    """What both generators share: tokens of children, conditions, heads, and the likelihood.

    Args:
        config: Of the model.
        level: From 0, the whole roll.
    """

    kind = ""
    views = 1  # how many children one token describes

    def __init__(self, config: FractalMidiConfig, level: int) -> None:
        super().__init__()
        self.level, self.num_codes = level, config.num_codes
        self.size, self.child_size = config.level_sizes[level], config.level_sizes[level + 1]
        self.margins, self.child_margins = config.margins(level), config.margins(level + 1)
        self.is_last = level == config.num_grids - 1
        self.grid = (self.size[0] // self.child_size[0], self.size[1] // self.child_size[1])
        self.num_children = self.grid[0] * self.grid[1]
        width, heads = config.hidden_sizes[level], config.num_attention_heads[level]
        self.head_size = width // heads
        cells = self.child_size[0] * self.child_size[1]
        self.token = nn.Linear(self.views * FEATURES * cells, width)
        self.row, self.column = nn.Embedding(self.grid[0], width), nn.Embedding(self.grid[1], width)
        if config.attribute_sizes:
            self.from_attributes = nn.Linear(config.hidden_sizes[0], width)
        if level:
            (height, steps), (p, t) = self.size, self.margins
            parents = 1 + len(NEIGHBOURS[config.generator_types[level - 1]])
            self.from_parent = nn.Linear(parents * config.hidden_sizes[level - 1], width)
            self.from_window = nn.Linear(FEATURES * (height + 2 * p) * (steps + 2 * t), width)
            self.place_row = nn.Embedding(config.level_sizes[0][0] // height, width)
            self.place_column = nn.Embedding(config.level_sizes[0][1] // steps, width)
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, config.mlp_ratio * width, float(config.dropout))
            for _ in range(config.num_hidden_layers[level])
        )
        for sparse in ("token", "from_window") if level else ("token",):  # most inputs are zero
            getattr(self, sparse).initial_scale = 3.0
        for layer in self.layers:  # each layer begins as a small change
            layer.attention.out.initial_scale = layer.fc2.initial_scale = (2 * len(self.layers)) ** -0.5
        self.norm = nn.LayerNorm(width)
        if self.is_last:
            self.head: nn.Module = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, self.num_codes))
        else:
            self.head = nn.Linear(width, 2)
        last = self.head[-1] if self.is_last else self.head
        last.initial_scale = 0.1
        self.gradient_checkpointing = False

    # --- States and logits --------------------------------------------------------------------------------------------

    def features(self, codes: torch.Tensor) -> torch.Tensor:
        """Cells `(..., a, b)` as one vector each, `(..., FEATURES · a · b)`."""
        return cell_features(codes.flatten(-2), self.num_codes, self.token.weight.dtype).flatten(-2)

    def positions(self) -> torch.Tensor:
        """Embedding of each child's place in its patch, `(n, D)`."""
        return (self.column.weight[:, None] + self.row.weight[None]).flatten(0, 1)

    def run(self, tokens: torch.Tensor, cond: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Features of children `(M, n, F)` and conditions `(S, M, D)` to states `(S, M, n, D)`."""
        x = (self.token(tokens) + self.positions())[None] + cond[:, :, None]  # (S, M, n, D)
        streams, x = x.shape[0], x.flatten(0, 1)
        angles = rotary_angles(torch.arange(self.num_children, device=x.device), self.head_size)
        for layer in self.layers:
            if self.gradient_checkpointing and self.training:
                x = self._gradient_checkpointing_func(layer.__call__, x, angles, mask)
            else:
                x = layer(x, angles, mask)
        return self.norm(x).unflatten(0, (streams, -1))

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """`(…, D)` to clamped float32 logits `(…, K)`; class 0 is empty or silent."""
        return self.head(states).float().clamp(-MAX_LOGIT, MAX_LOGIT)

    def hidden_children(self, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of given cells `(M, n, h, w)`: which children have an unknown cell, and which a sounding one (`(M, n)`)."""
        unknown = given == self.num_codes
        return unknown.flatten(2).any(-1), ((given > 0) & ~unknown).flatten(2).any(-1)

    # --- Learning -----------------------------------------------------------------------------------------------------

    def contexts(
        self, nodes: Nodes, given: torch.Tensor, truth: torch.Tensor, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """States of every child in the context it is predicted from.

        Returns:
            states `(S, M, n, D)`; predicted `(M, n)`; last to be decided `(M, n)`; weight factor `(M,)`.
        """
        raise NotImplementedError

    def windows(
        self, nodes: Nodes, given: torch.Tensor, truth: torch.Tensor, predicted: torch.Tensor, m: Any, i: Any
    ) -> torch.Tensor:
        """Views of children `(J,)` as they will be when these are generated."""
        raise NotImplementedError

    def teach(self, nodes: Nodes) -> Lesson:
        """Likelihood of the children of patches whose truth is known."""
        assert nodes.truth is not None and nodes.weight is not None
        given = patchify(inside(nodes.view, self.margins), self.child_size)  # (M, n, h, w)
        truth = patchify(nodes.truth, self.child_size)
        hidden, given_sound = self.hidden_children(given)
        sounds = (truth > 0).flatten(2).any(-1)  # (M, n)
        labels = truth[..., 0, 0] if self.is_last else sounds.long()
        states, predicted, final, factor = self.contexts(nodes, given, truth, hidden)
        logits = self.logits(states[0])  # (M, n, K)
        if nodes.must_sound:
            others = sounds.sum(1, keepdim=True) - sounds.long()
            forced = final & predicted & (others == 0) & ~given_sound
            logits = logits.masked_fill(forced[..., None] & (torch.arange(logits.shape[-1], device=logits.device) == 0),
                                        float("-inf"))  # fmt: skip
        costly = predicted & ~given_sound  # a child with a given note in it is known not to be empty
        cost = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")  # (M, n)
        weight = nodes.weight * factor
        cost = torch.where(costly, cost, 0.0) * weight[:, None]
        m, i = torch.nonzero(predicted & sounds, as_tuple=True)
        windows = None if self.is_last else self.windows(nodes, given, truth, predicted, m, i)
        return Lesson(cost, logits, costly, states, m, i, windows, weight[m])

    # --- Sampling -----------------------------------------------------------------------------------------------------

    def sample(self, nodes: Nodes, painter: Any) -> torch.Tensor:
        """Fills the unknown cells of patches; `(M, H, W)` codes."""
        raise NotImplementedError

    def decide(
        self, children: torch.Tensor, nodes: Nodes, states: torch.Tensor, m: Any, i: Any, choice: Any, painter: Any
    ) -> torch.Tensor:
        """Writes chosen classes `(J,)` into children `(M, n, h, w)`, going down where one is not empty."""
        if self.is_last:
            children = children.clone()
            children[m, i] = choice[:, None, None]
            return children
        result = children.clone()
        result[m, i] = torch.where(children[m, i] == self.num_codes, 0, children[m, i])
        m, i = m[choice > 0], i[choice > 0]
        if len(m):
            view = fill_inside(nodes.view, unpatchify(children, self.grid[0]), self.margins)
            windows = crop_children(view, m, i, self.child_size, self.margins, self.child_margins)
            below = painter.levels[self.level + 1]
            inner = descend(self, below, nodes, states, windows, m, i, painter.attributes)
            result[m, i] = below.sample(inner, painter)
        return result


def descend(
    upper: LevelGenerator,
    lower: LevelGenerator,
    nodes: Nodes,
    states: torch.Tensor,
    windows: torch.Tensor,
    m: torch.Tensor,
    i: torch.Tensor,
    attributes: torch.Tensor | None,
) -> Nodes:
    """Chosen children `(J,)` of patches of the upper level as patches of the lower one.

    Args:
        upper, lower: The generators.
        nodes: The patches above.
        states: `(S, M, n, D)` of their children.
        windows: `(J, …)` views of the chosen ones.
        m, i: `(J,)` patch and child.
        attributes: `(S, B, A)` embedded conditions of the rolls.
    """
    (rows, _), (h, w) = upper.grid, upper.child_size
    around = neighbour_index(i, upper.grid, ((0, 0), *NEIGHBOURS[upper.kind]))  # (J, 1 + neighbours)
    states = F.pad(states, (0, 0, 0, 1))  # where no neighbour is, there are zeros
    cond = lower.from_parent(states[:, m[:, None], around].flatten(2))  # (S, J, D)
    cond = cond + lower.from_window(lower.features(windows))
    origin = nodes.origin[m] + torch.stack([i % rows * h, i // rows * w], dim=1)
    cond = cond + lower.place_row(origin[:, 0] // h) + lower.place_column(origin[:, 1] // w)
    owner = nodes.owner[m]
    if attributes is not None:
        cond = cond + lower.from_attributes(attributes)[:, owner]
    truth = None
    if nodes.truth is not None:
        truth = crop_children(nodes.truth, m, i, upper.child_size, (0, 0), (0, 0))
    return Nodes(windows, cond, owner, origin, child_keys(nodes.keys[m], i), must_sound=True, truth=truth)
