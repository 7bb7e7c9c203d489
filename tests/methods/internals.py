"""What the parts of a network give while it runs, to be held against what a release's parts gave."""

from benchmark.fidelity.recordings import relative_difference


def watched(model, names):
    """A dict that fills with the output of each module of these names at its first call; of several outputs the first."""
    seen = {}

    def keep(name):
        def hook(module, given, found):
            seen.setdefault(name, found[0] if isinstance(found, tuple) else found)
        return hook

    for name in names:
        model.get_submodule(name).register_forward_hook(keep(name))
    return seen


def differences(seen, recorded):
    """Relative difference of each recorded tensor; all of them must have been seen."""
    return {name: relative_difference(seen[name], summary) for name, summary in recorded.items()}
