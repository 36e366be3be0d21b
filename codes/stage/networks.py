"""Fill the network of a stage from a weight file, to evaluate it or to start training from it."""

from torch import nn

from codes.memory_format import memory_format
from codes.networks import load
from codes.stage.options import StageOptions, as_reference
from codes.stage.run import Run


def network(net: nn.Module, path: str, run: Run) -> nn.Module:
    """Fill a network from a file and move it to the device in its fastest memory format.

    Without a file the weights are random.
    """
    if path:
        load(net, path)
    return net.to(run.device, memory_format=memory_format(run.device))


def initial_network(o: StageOptions, net: nn.Module, flag: str, run: Run) -> nn.Module:
    """Return the network that is trained or evaluated, filled from the file of its own `flag` where one is given.

    In training that is fine-tuning; the reference implementation trains from scratch whatever is given.
    """
    path = getattr(o, flag.removeprefix("--"))
    if path and not o.test_mode:
        if as_reference(o):
            run.journal.log(f"{flag} {path}: only evaluated in --test_mode; --recipe reference trains from scratch")
            return network(net, "", run)
        run.journal.log(f"fine-tuning: training starts from the weights of {flag} {path}")
    return network(net, path, run)
