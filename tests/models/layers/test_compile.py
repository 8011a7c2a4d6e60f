import torch
from torch import Tensor, nn

from genie.models.layers.compile import MAX_GRAPHS, compile_method


class Doubling(nn.Module):
    def double(self, x: Tensor) -> Tensor:
        return 2 * x

    def taken(self, x: Tensor, positions: Tensor) -> Tensor:
        return x.gather(1, positions)


def test_a_method_is_replaced_once_and_computes_the_same_for_more_sizes_than_torch_s_limit():
    model, graphs = Doubling(), []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compile_method(model, "double", backend=backend)
    compiled = model.double
    compile_method(model, "double", backend=backend)
    assert model.double is compiled
    for size in range(2, 14):
        x = torch.randn(size)
        assert torch.equal(model.double(x), 2 * x)
    assert len(graphs) == 12 < MAX_GRAPHS


def test_one_graph_takes_any_number_of_what_varies():
    model, graphs = Doubling(), []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compile_method(model, "taken", dynamic_argument=1, backend=backend)
    x = torch.randn(2, 20)
    for count in range(2, 9):
        positions = torch.randint(20, (2, count))
        assert torch.equal(model.taken(x, positions), x.gather(1, positions))
    assert len(graphs) == 1
