"""What modules inside of a network give, to compare with recorded internals."""

from contextlib import contextmanager


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
