import torch

from genie.models.action_predictor import ActionPredictor


def frames(count, number=1, size=16):
    return torch.randint(256, (count, number, size, size, 3), dtype=torch.uint8)


def stirred(network):
    with torch.no_grad():
        network.to_logits.weight.normal_()
    return network


def test_a_new_network_says_what_the_table_says():
    table = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    given = torch.tensor([0, 1, 1, 0])
    shares = ActionPredictor(table)(frames(4), given).softmax(-1)
    torch.testing.assert_close(shares, table[given])


def test_it_sees_the_frame_and_the_given_action():
    network = stirred(ActionPredictor(torch.full((2, 3), 1 / 3)))
    seen, given = frames(2), torch.tensor([0, 0])
    first, second = network(seen, given)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, network(seen, 1 - given)[0])


def test_two_frames_show_what_moved():
    network = stirred(ActionPredictor(torch.full((1, 3), 1 / 3), frames=2))
    one = frames(1, 2, size=64)
    other = one.clone()
    other[:, 1] = one[:, 0]
    given = torch.zeros(1, dtype=torch.int64)
    assert not torch.allclose(network(one, given), network(other, given))


def test_all_given_actions_at_once_are_those_one_by_one():
    network = stirred(ActionPredictor(torch.rand(4, 3).softmax(-1)))
    seen = frames(5)
    each = [network(seen, torch.full((5,), given)) for given in range(4)]
    torch.testing.assert_close(network.for_all(seen), torch.stack(each, 1))
