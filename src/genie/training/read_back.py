"""Dynamics that also learn from their own rollouts in which the actions can be read back.

A reward from an inverse-dynamics model, as in arXiv 2509.23958. There the model was trained with
labels. Here it is the world's own latent action model, so no label is needed. The paper's policy
gradient is replaced by the simplest of its kind: learn from the best of several rollouts.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genie.models.backbone import TokenizerBackbone
from genie.models.dynamics import Dynamics
from genie.models.latent_actions.base import LatentActionModel
from genie.models.layers.compile import graph_break
from genie.models.layers.distributed import rand_rows, randint_rows
from genie.presets.schedule import ReadBack
from genie.world import maskgit, rng
from genie.world.maskgit import SamplingConfig

LARGEST_SEED = 2**62


class ReadBackModel(nn.Module):
    """Trains dynamics on videos, and on those of their own rollouts in which actions are read best.

    Several rollouts go on from the same frames with the same latent actions. The score of a rollout
    is the share of its actions that the latent action model infers from the drawn frames. The
    dynamics then learn the tokens of the best one. Its weight is its score less the mean of all. So
    nothing is learned where the rollouts are equally good.

    Args:
        dynamics: trained on tokens.
        tokenizer: draws the frames; it is not trained.
        actions: reads the actions; it is not trained.
        config: number and length of the rollouts, and the weight of their loss.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        tokenizer: TokenizerBackbone,
        actions: LatentActionModel,
        config: ReadBack,
    ) -> None:
        super().__init__()
        self.dynamics, self.config = dynamics, config
        self._fixed = (tokenizer, actions)  # in a tuple: neither trained nor saved
        self._sampling = SamplingConfig(steps=config.passes)

    def loss(
        self, tokens: Int[Tensor, "b t s"], actions: Int[Tensor, "b t-1"], progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Returns the loss of the videos plus that of the best rollouts, and the scores as logs.

        Args:
            tokens: clips, longer than the rollouts.
            actions: the action between each frame and the next.
            progress: share of the training budget that is spent.

        Returns:
            The loss, and the logs of the dynamics with `read_back`, the mean score of all rollouts,
            and `read_back_gain`, how far the best ones are above it.
        """
        loss, logs = self.dynamics.loss(tokens, actions, progress)
        best, played, mean, gain = graph_break(self.best_rollouts, tokens, actions)
        weights = torch.zeros_like(played, dtype=loss.dtype)
        weights[:, -self.config.steps :] = gain[:, None]
        own = self.dynamics.weighted_loss(best, played, weights)
        logs |= {"read_back": mean.mean(), "read_back_gain": gain.mean()}
        return loss + self.config.weight * own, logs

    @torch.no_grad()
    def best_rollouts(
        self, tokens: Int[Tensor, "b t s"], actions: Int[Tensor, "b t-1"]
    ) -> tuple[
        Int[Tensor, "b n s"], Int[Tensor, "b n-1"], Float[Tensor, " b"], Float[Tensor, " b"]
    ]:
        """Plays several rollouts from each clip, and returns the one whose actions are read best.

        Args:
            tokens: clips.
            actions: the action between each frame and the next.

        Returns:
            Tokens of the frames before the rollout and in it, and the actions between them. Then
            the mean score of all rollouts of each clip, and how far the best is above it.
        """
        before, played = self._beginnings(tokens, actions)
        many = self.config.rollouts
        known, given = (part.repeat_interleave(many, dim=0) for part in (before, played))
        with torch.autocast(tokens.device.type, enabled=False):
            drawn = torch.cat([known, self._play(known, given)], dim=1)
            scores = self._scores(drawn, given).unflatten(0, (-1, many))
        best, mean = scores.max(dim=1), scores.mean(dim=1)
        rows = torch.arange(len(tokens), device=tokens.device) * many + best.indices
        return drawn[rows], played, mean, best.values - mean

    def _beginnings(self, tokens: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the frames before the rollouts, and all actions up to their end.

        Some rollouts hold one random action, the others repeat those of the clip.
        """
        steps = self.config.steps
        first = max(0, tokens.shape[1] - steps - self.dynamics.config.window)
        before, played = tokens[:, first:-steps], actions[:, first:].clone()
        held = randint_rows(played[:, :1], self.dynamics.num_actions)
        chosen = rand_rows(*held.shape, device=held.device) < self.config.held_fraction
        played[:, -steps:] = torch.where(chosen, held, played[:, -steps:])
        return before, played

    def _play(self, tokens: Tensor, actions: Tensor) -> Tensor:
        """Returns the tokens of rollouts that go on from clips."""
        dynamics, steps = self.dynamics, self.config.steps
        seeds = randint_rows(tokens[:, 0, 0], LARGEST_SEED)
        state = dynamics.prefill(tokens, actions[:, :-steps])
        drawn: list[Tensor] = []
        for action in actions[:, -steps:].unbind(dim=1):
            context = dynamics.step_context(action, state)
            drawn.append(
                maskgit.sample(
                    lambda known, where, context=context: dynamics.step_logits(
                        known, context, where
                    ),
                    dynamics.grid,
                    dynamics.mask_token,
                    self._sampling,
                    rng.make_keys(seeds, state.time),
                    first=dynamics.coarse_tokens,
                )
            )
            state = dynamics.commit(drawn[-1], context)
        return torch.stack(drawn, dim=1)

    def _scores(self, tokens: Tensor, actions: Tensor) -> Tensor:
        """Returns the share of the actions of each rollout that are read off its frames."""
        tokenizer, reader = self._fixed
        tokenizer.to(tokens.device)
        found = reader.to(tokens.device).infer(tokenizer.decode(tokens))
        return (found == actions)[:, -self.config.steps :].float().mean(dim=1)
