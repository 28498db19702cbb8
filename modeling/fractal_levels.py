"""The two generators of a level of FractalMidi: children in order (`ar`), or masked and in any order (`mar`).

See `fractal_nodes` for what they share and for the axes; mask schedules are in `fractal_cells`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from .fractal_cells import crop_children, fill_inside, inside, patchify, ranks, uniform, unpatchify
from .fractal_nodes import LevelGenerator
from .layers import rotary_angles, rotate

ORDER, COUNT, CHOICE, REPAIR, AGAIN = range(1, 6)  # salts of what is drawn
#: Patches of cells up to which they are sampled in passes; with more, a step of all is as quick, with less to do.
FEW = 32
_GOLDEN_RATIO = 0.6180339887498949


class Cache(NamedTuple):
    """What an `ar` level keeps from child to child.

    Attributes:
        layers: For each layer, keys and values `(S · M, heads, n, D / heads)`.
        positions: `(n, D)` embeddings of the places.
        cos, sin: `(n, D / heads)` rotary tables.
    """

    layers: list[tuple[torch.Tensor, ...]]
    positions: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor


class AutoregressiveLevel(LevelGenerator):
    """Children one after the other, time first and low pitches first; a causal transformer with a KV cache.

    The token of child `i` describes child `i − 1` in full and the given cells of child `i`; so its state knows what
    comes before, and serves as the condition of child `i` below. (An implementation that shifted the states the other
    way let the next level see its own target.)
    """

    kind = "ar"
    views = 2

    def contexts(self, nodes, given, truth, hidden):
        """See `LevelGenerator.contexts`: every hidden child is predicted from all before it."""
        before = torch.full_like(truth[:, :1], self.num_codes)
        before = torch.cat([before, truth[:, :-1]], dim=1)  # (M, n, h, w)
        tokens = torch.cat([self.features(before), self.features(given)], dim=-1)
        n = self.num_children
        causal = torch.ones(n, n, dtype=torch.bool, device=truth.device).tril()
        states = self.run(tokens, nodes.cond, causal)
        last = n - 1 - hidden.long().flip(1).argmax(1)  # (M,)
        final = torch.arange(n, device=last.device) == last[:, None]
        return states, hidden, final, torch.ones_like(nodes.weight)

    def windows(self, nodes, given, truth, predicted, m, i):
        """See `LevelGenerator.windows`: each child has a view of its own, the children before it."""
        full = fill_inside(nodes.view, nodes.truth, self.margins)
        order = torch.arange(self.num_children, device=m.device)[None, :, None, None]
        order = unpatchify(order.expand(1, -1, *self.child_size), self.grid[0])  # (1, H, W)
        (p, t), sizes = self.margins, (self.child_size, self.margins, self.child_margins)
        order = F.pad(order, (t, t, p, p), value=self.num_children)  # margins are no children of this patch
        before = crop_children(order, torch.zeros_like(i), i, *sizes) < i[:, None, None]
        return torch.where(before, crop_children(full, m, i, *sizes), crop_children(nodes.view, m, i, *sizes))

    def step(self, tokens: torch.Tensor, cond: torch.Tensor, place: int, cache: Cache) -> torch.Tensor:
        """State `(S, M, D)` of child `place` from its token `(M, F)`; keys and values go to the cache."""
        x = (self.token(tokens) + cache.positions[place])[None] + cond  # (S, M, D)
        streams, x = x.shape[0], x.flatten(0, 1)[:, None]  # (S · M, 1, D)
        cos, sin = cache.cos[place], cache.sin[place]
        for layer, (keys, values) in zip(self.layers, cache.layers, strict=True):
            attention = layer.attention
            heads = attention.qkv(layer.norm1(x)).unflatten(-1, (3 * attention.num_heads, -1)).transpose(1, 2)
            q, k = rotate(heads[:, : 2 * attention.num_heads], cos, sin).chunk(2, dim=1)  # 2 x (S · M, heads, 1, ...)
            keys[:, :, place : place + 1], values[:, :, place : place + 1] = k, heads[:, 2 * attention.num_heads :]
            seen = F.scaled_dot_product_attention(q, keys[:, :, : place + 1], values[:, :, : place + 1])
            x = x + attention.out(seen.transpose(1, 2).flatten(2))
            x = x + layer.fc2(F.gelu(layer.fc1(layer.norm2(x))))
        return self.norm(x)[:, 0].unflatten(0, (streams, -1))

    def new_pass_cache(self, cond: torch.Tensor) -> Cache:
        """As `new_cache`, with queries, keys and values in one `(S, M · n, 3 · heads, D / heads)`, for `look_again`."""
        streams, count, width = cond.shape
        shape = (streams, count * self.num_children, 3 * width // self.head_size, self.head_size)
        angles = rotary_angles(torch.arange(self.num_children, device=cond.device), self.head_size)
        return Cache([(cond.new_zeros(shape),) for _ in self.layers], self.positions(), *angles)

    def new_cache(self, cond: torch.Tensor) -> Cache:
        """Room for the keys and values of all children of `cond` `(S, M, D)`."""
        count, width = cond.shape[0] * cond.shape[1], cond.shape[2]
        shape = (2, count, width // self.head_size, self.num_children, self.head_size)
        angles = rotary_angles(torch.arange(self.num_children, device=cond.device), self.head_size)
        return Cache([cond.new_zeros(shape).unbind(0) for _ in self.layers], self.positions(), *angles)

    def sample_together(self, nodes, painter):
        """As `sample`, of cells, in a few passes over all of them: what comes out is the same.

        With its random number given, a choice follows from the cells before it. So cells are guessed, all choices are
        made as if the guess were true, and what was chosen is the next guess; up to the first wrong guess choices are
        right, and when nothing changes all are (Jacobi's iteration; Y. Song et al., arXiv 2002.03629, section 3).
        Notes mostly last, so a guess goes on with the row: five passes in place of sixteen steps.
        """
        rows, n = self.grid[0], self.num_children
        given = inside(nodes.view, self.margins).mT.flatten(1)  # (M, n)
        hidden, place = given == self.num_codes, torch.arange(n, device=given.device)
        u, seen = uniform(nodes.keys, n, CHOICE), self.features(given[..., None, None])
        p, t = self.margins
        beside = nodes.view[:, p : p + rows, max(t - 1, 0)]  # (M, rows): what sounds just before
        lasting = ((beside > 0) & (beside < self.num_codes) & (t > 0)).long()
        cells = torch.where(hidden, lasting.repeat(1, n // rows), given)
        known = ((given > 0) & ~hidden).any(1)
        forced = (place == (n - 1 - hidden.long().flip(1).argmax(1))[:, None]) & ~known[:, None] & nodes.must_sound
        left = torch.arange(len(given), device=given.device)
        right = torch.zeros_like(left)  # (M,): so many tokens have seen what is before them, for good
        cache = self.new_pass_cache(nodes.cond)
        while len(left):  # each pass settles one cell more at least
            guess = cells[left]
            row, i = torch.nonzero(place >= right[left, None], as_tuple=True)
            m = left[row]
            before = torch.where(i > 0, cells[m, i - 1], self.num_codes)
            tokens = torch.cat([self.features(before[:, None, None]), seen[m, i]], dim=-1)
            logits = self.logits(self.look_again(tokens, nodes.cond, left, row, i, cache))  # (S, J, K)
            silent = (guess > 0).cumsum(1) - (guess > 0).long() == 0
            choice = painter.choose(logits, u[m, i], forced[m, i] & silent[row, i], painter.lift(self, nodes, m, i))
            chosen = guess.index_put((row, i), torch.where(hidden[m, i], choice, given[m, i]))
            wrong = chosen != guess
            first = torch.where(wrong.any(1), wrong.long().argmax(1), n)[:, None]
            goes_on = hidden[left] & (place > first) & (place % rows == first % rows)
            sounds = chosen.gather(1, first.clamp(max=n - 1)) > 0
            cells[left] = torch.where(goes_on, sounds.long(), chosen)
            right[left] = first[:, 0] + 1
            left = left[first[:, 0] < n - 1]
        for i in range(n) if painter.watch is not None else ():
            painter.show(self, nodes, torch.where(place <= i, cells, given)[..., None, None], i)
        return unpatchify(cells[..., None, None], rows)

    def look_again(
        self, tokens: torch.Tensor, cond: torch.Tensor, left: torch.Tensor, row: torch.Tensor, i: torch.Tensor,
        cache: Cache,
    ) -> torch.Tensor:  # fmt: skip
        """States `(S, J, D)` of the tokens `(J, F)` that may have changed; the others' keys and values are kept.

        Token `j` is that of child `i[j]` in patch `left[row[j]]`, of patches `left` `(L,)` of `cond` `(S, M, D)`.
        """
        n, m = self.num_children, left[row]
        at, among = m * n + i, row * n + i
        x = (self.token(tokens) + cache.positions[i])[None] + cond[:, m]  # (S, J, D)
        cos, sin = cache.cos[i, None], cache.sin[i, None]
        causal = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
        for layer, (held,) in zip(self.layers, cache.layers, strict=True):  # (S, M · n, 3 · heads, D / heads)
            attention = layer.attention
            heads = attention.qkv(layer.norm1(x)).unflatten(-1, (3 * attention.num_heads, -1))
            turned = rotate(heads[:, :, : 2 * attention.num_heads], cos, sin)
            held.index_copy_(1, at, torch.cat([turned, heads[:, :, 2 * attention.num_heads :]], dim=2))
            patches = held.unflatten(1, (-1, n))
            patches = patches if len(left) == patches.shape[1] else patches.index_select(1, left)
            q, k, v = patches.flatten(0, 1).transpose(1, 2).chunk(3, dim=1)
            found = F.scaled_dot_product_attention(q, k, v, attn_mask=causal).transpose(1, 2).flatten(2)
            x = x + attention.out(found.unflatten(0, (len(x), -1)).flatten(1, 2).index_select(1, among))
            x = x + layer.fc2(F.gelu(layer.fc1(layer.norm2(x))))
        return self.norm(x)

    def sample(self, nodes, painter):
        """See `LevelGenerator.sample`: one child a step."""
        if self.is_last and (nodes.cond.shape[0] * nodes.cond.shape[1] <= FEW or nodes.cond.device.type != "cpu"):
            return self.sample_together(nodes, painter)
        given = patchify(inside(nodes.view, self.margins), self.child_size)  # (M, n, h, w)
        hidden, given_sound = self.hidden_children(given)
        last = self.num_children - 1 - hidden.long().flip(1).argmax(1)
        any_sound = given_sound.any(1)
        u = uniform(nodes.keys, self.num_children, CHOICE)
        states = nodes.cond.new_zeros(*nodes.cond.shape[:2], self.num_children, nodes.cond.shape[2])
        children, cache = given.clone(), self.new_cache(nodes.cond)
        before, seen = torch.full_like(given[:, 0], self.num_codes), self.features(given)
        everywhere = torch.arange(len(given), device=given.device) if bool(hidden.all()) else None
        for i in range(self.num_children):
            tokens = torch.cat([self.features(before), seen[:, i]], dim=-1)
            states[:, :, i] = self.step(tokens, nodes.cond, i, cache)
            m = torch.nonzero(hidden[:, i]).flatten() if everywhere is None else everywhere
            if len(m):
                forced = (last[m] == i) & ~any_sound[m] & nodes.must_sound
                lift = painter.lift(self, nodes, m, torch.full_like(m, i))
                choice = painter.choose(self.logits(states[:, m, i]), u[m, i], forced | given_sound[m, i], lift)
                any_sound[m] |= choice > 0
                children = self.decide(children, nodes, states, m, torch.full_like(m, i), choice, painter)
                painter.show(self, nodes, children, i)
            before = children[:, i]
        return unpatchify(children, self.grid[0])


class MaskedLevel(LevelGenerator):
    """Children in any order, several at a time; a transformer that sees all, with the masked ones unknown.

    Learns the bound of order-agnostic models (arXiv 2110.02037, equation 3): with `t` of `c` hidden children masked,
    `t` drawn evenly, `c / t` times the loss of the masked ones is, on average, the negative log-likelihood over all
    orders, which bounds that of the model from above.
    """

    kind = "mar"
    views = 1

    def contexts(self, nodes, given, truth, hidden):
        """See `LevelGenerator.contexts`: a drawn part of the hidden children is masked."""
        count = hidden.sum(1)  # (M,)
        u = uniform(nodes.keys, 1, COUNT)[:, 0]
        if self.training:  # still even for each patch, but spread over the batch: less noise in the loss
            u = (u[:1] + torch.arange(len(u), device=u.device) * _GOLDEN_RATIO) % 1.0
        masked_count = 1 + (u * count).long().clamp(max=(count - 1).clamp(min=0))
        masked = hidden & (ranks(uniform(nodes.keys, self.num_children, ORDER), hidden) < masked_count[:, None])
        seen = torch.where(masked[..., None, None], given, truth)
        states = self.run(self.features(seen), nodes.cond)
        final = (masked_count == 1)[:, None].expand_as(masked)
        return states, masked, final, count / masked_count

    def windows(self, nodes, given, truth, predicted, m, i):
        """See `LevelGenerator.windows`: all children of a patch see the same, what is not masked."""
        seen = torch.where(predicted[..., None, None], given, truth)
        view = fill_inside(nodes.view, unpatchify(seen, self.grid[0]), self.margins)
        return crop_children(view, m, i, self.child_size, self.margins, self.child_margins)

    def sample(self, nodes, painter):
        """See `LevelGenerator.sample`: as many steps as asked, in an order of each patch's own."""
        children = patchify(inside(nodes.view, self.margins), self.child_size).clone()  # (M, n, h, w)
        hidden, given_sound = self.hidden_children(children)
        order = ranks(uniform(nodes.keys, self.num_children, ORDER), hidden)
        u = uniform(nodes.keys, self.num_children, CHOICE)
        count = hidden.sum(1)
        sounding = given_sound.any(1)
        for step, left in painter.schedule(self, count):
            now = hidden & (order >= left[:, None])
            hidden = hidden & ~now
            m, i = torch.nonzero(now, as_tuple=True)
            if not len(m):
                continue
            states = self.run(self.features(children), nodes.cond)
            logits = self.logits(states[:, m, i])  # (S, J, K)
            choice = painter.choose(logits, u[m, i], given_sound[m, i], painter.lift(self, nodes, m, i))
            if nodes.must_sound:
                silent = (left == 0) & ~(sounding | (torch.zeros_like(count).index_add_(0, m, choice) > 0))
                choice = self.repair(logits, choice, silent, nodes, m, i, painter)
            sounding = sounding | (torch.zeros_like(count).index_add_(0, m, choice) > 0)
            children = self.decide(children, nodes, states, m, i, choice, painter)
            painter.show(self, nodes, children, step)
        return unpatchify(children, self.grid[0])

    def repair(self, logits, choice, silent, nodes, m, i, painter):
        """Gives one child to patches that would end up empty though they must not, in proportion to its odds.

        Where the last step decides one child only, that is what the likelihood says: the child is forced.
        """
        if not bool(silent[m].any()):
            return choice
        lift = painter.lift(self, nodes, m, i)
        odds = painter.log_odds(logits, lift)
        noise = -(-uniform(nodes.keys, self.num_children, REPAIR)[m, i].log()).log()  # Gumbel
        score = odds.new_full((len(silent), self.num_children), float("-inf"))
        score[m, i] = odds + noise
        chosen = silent[m] & (score.argmax(1)[m] == i)
        again = painter.choose(logits, uniform(nodes.keys, self.num_children, AGAIN)[m, i], chosen, lift)
        return torch.where(chosen, again, choice)


GENERATORS: dict[str, type[LevelGenerator]] = {"ar": AutoregressiveLevel, "mar": MaskedLevel}
