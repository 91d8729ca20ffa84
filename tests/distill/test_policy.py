"""rl_ta's policy: it learns whom to listen to, its reward is one step late, and a checkpoint holds all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mta4dpr.distill.policy import BASELINE_DECAY, Policy

TEACHERS, QUERIES = 2, 4


def features_of(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(TEACHERS, QUERIES, 3))).float()


def uniform_of(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng([seed, 1]).random((TEACHERS, QUERIES))).float()


def test_it_learns_whom_to_listen_to() -> None:
    """Listening to teacher 1 costs the student: its probability falls, teacher 0's, which does no harm, does not; for each query alike.

    Reward 0 where teacher 1 is not heard and -1 where it is; a batch's reward is the mean, one step late.
    """
    policy = Policy(TEACHERS, QUERIES)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.02)
    constant = torch.zeros(TEACHERS, QUERIES, 3)
    reward = torch.zeros(())
    for step in range(400):
        optimizer.zero_grad()
        chosen, loss = policy(constant, uniform_of(step), reward)
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
        reward = -chosen[1].mean()
    first, second = policy.bias.detach().sigmoid().tolist()
    assert first > 0.8  # when nobody is chosen all are heard, teacher 1 too: so it pays to choose teacher 0
    assert second < 0.1


def test_it_learns_from_features() -> None:
    """A teacher that hurts only where its cross-entropy is high is heard where it is low: the logistic has more than a bias."""
    policy = Policy(1, 1)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.02)
    reward = torch.zeros(())
    for step in range(600):
        optimizer.zero_grad()
        high = step % 2 == 0
        features = torch.tensor([[[2.0 if high else 0.0, 0.0, 0.0]]])
        _, loss = policy(features, uniform_of(step)[:1, :1], reward)
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
        heard = bool(policy.actions[0, 0])
        reward = torch.tensor(-1.0 if heard == high else 1.0)
    assert float(policy.weight[0, 0].detach()) < -1
    assert float(policy.bias[0].detach()) > 1


def test_the_reward_belongs_to_the_previous_steps_actions() -> None:
    """REINFORCE by hand at the second step: -(reward - baseline) * log p of what was drawn before, under the features of then."""
    policy = Policy(TEACHERS, QUERIES).double()
    with torch.no_grad():
        policy.weight.copy_(torch.tensor([[0.5, -1.0, 2.0], [0.1, 0.2, 0.3]]))
        policy.bias.copy_(torch.tensor([0.4, -0.6]))
    before, now = features_of(1).double(), features_of(2).double()
    first, loss = policy(before, uniform_of(1).double(), torch.tensor(-2.0, dtype=torch.float64))
    assert loss.item() == 0 and not loss.requires_grad  # nothing was chosen before
    drawn = uniform_of(1).double() < ((before * policy.weight[:, None]).sum(-1) + policy.bias[:, None]).sigmoid()
    assert torch.equal(first, torch.where(drawn.any(0), drawn, True).double())
    second, loss = policy(now, uniform_of(2).double(), torch.tensor(-0.5, dtype=torch.float64))
    probability = ((before * policy.weight[:, None]).sum(-1) + policy.bias[:, None]).sigmoid()
    log_p = torch.where(drawn, probability, 1 - probability).log().sum(dim=0).mean()
    expected = -(-0.5 - -2.0) * log_p  # the baseline is the first reward
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, [policy.weight, policy.bias])
    for one, reference in zip(found, torch.autograd.grad(expected, [policy.weight, policy.bias]), strict=True):
        torch.testing.assert_close(one, reference)
    assert not second.requires_grad
    assert policy.baseline.item() == pytest.approx(BASELINE_DECAY * -2.0 + (1 - BASELINE_DECAY) * -0.5)


def test_a_better_reward_makes_what_was_drawn_likelier() -> None:
    """The sign, by one step of gradient descent; a reward equal to the baseline moves nothing."""
    for reward, sign in ((-1.0, 1), (-3.0, -1), (-2.0, 0)):
        policy = Policy(1, 1)
        policy(torch.zeros(1, 1, 3), torch.zeros(1, 1), torch.tensor(-2.0))  # uniform 0: teacher 0 is drawn
        _, loss = policy(torch.zeros(1, 1, 3), torch.zeros(1, 1), torch.tensor(reward))
        loss.backward()
        assert policy.bias.grad is not None
        assert np.sign(-policy.bias.grad.item()) == sign


def test_a_query_that_chose_none_listens_to_all() -> None:
    """Otherwise its target would be a mean of nothing; what was drawn is what REINFORCE sees."""
    policy = Policy(TEACHERS, QUERIES)
    chosen, _ = policy(torch.zeros(TEACHERS, QUERIES, 3), torch.full((TEACHERS, QUERIES), 0.9), torch.zeros(()))
    assert torch.equal(chosen, torch.ones(TEACHERS, QUERIES))
    assert torch.equal(policy.actions, torch.zeros(TEACHERS, QUERIES))


def test_its_state_survives_a_checkpoint_bitwise(tmp_path: Path) -> None:
    """Weights, last features and actions, baseline, and that it has begun: from a file the next steps are the same to the bit."""
    whole, policy = Policy(TEACHERS, QUERIES), Policy(TEACHERS, QUERIES)
    losses = []
    for step in range(10):
        if step == 5:
            save_file({name: tensor.contiguous() for name, tensor in policy.state_dict().items()}, tmp_path / "policy.safetensors")
            policy = Policy(TEACHERS, QUERIES)
            policy.load_state_dict(load_file(tmp_path / "policy.safetensors"))
        for one in (whole, policy):
            one.zero_grad()
            chosen, loss = one(features_of(step), uniform_of(step), torch.tensor(-1.0 / (step + 1)))
            if loss.requires_grad:
                loss.backward()
                with torch.no_grad():
                    for parameter in one.parameters():
                        parameter -= 0.1 * parameter.grad  # type: ignore[operator]
            losses.append((loss.item(), chosen.tolist()))
    assert losses[0::2] == losses[1::2]
    assert all(torch.equal(tensor, policy.state_dict()[name]) for name, tensor in whole.state_dict().items())
    assert float(whole.weight.detach().abs().sum()) > 0
