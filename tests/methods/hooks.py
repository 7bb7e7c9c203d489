"""What modules inside of a network give while it runs, to be held against what a release's gave."""

from contextlib import contextmanager

from benchmark.fidelity.recordings import relative_difference


@contextmanager
def calls_of(model, names):
    """{name: [output of the first call, of the second, ...]} of the modules of these names, filled while the model runs."""
    seen = {name: [] for name in names}
    handles = [model.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: seen[name].append(output))
               for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def firsts(calls):
    """The output of each module's first call; of several outputs the first."""
    return {name: found[0][0] if isinstance(found[0], tuple) else found[0] for name, found in calls.items()}


def differences(seen, recorded):
    """Relative difference of each recorded tensor; all of them must have been seen."""
    return {name: relative_difference(seen[name], summary) for name, summary in recorded.items()}
