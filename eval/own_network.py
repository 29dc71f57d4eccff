"""A network that a function in somebody's own file makes, and the network itself where something is wrapped around."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from apr_dali.errors import InputError, first_line


def made_by(path: Path, function: str, given: str) -> nn.Module:
    """What a function of the file `path` returns. given: both, for people.

    Raises InputError where the file or the function fails, or returns something else than a module.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there: expected a file with a function {function} that returns a network")
    name = f"{path.stem} (given)"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    # As if it were run: what lies beside it can be imported, and its dataclasses find it.
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, function, None)):
            raise InputError(f"{path} has no function {function}")
        made = getattr(module, function)()
    except InputError:
        raise
    # Somebody else's code may raise anything, and a script may end.
    except (Exception, SystemExit) as error:
        raise InputError(f"{given} fails: {type(error).__name__}: {first_line(error)}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(made, nn.Module):
        raise InputError(f"{given} must return a torch.nn.Module, got {type(made).__name__}")
    return made


def unwrapped(model: nn.Module) -> nn.Module:
    """The network that training in parallel or an average of weights is wrapped around; `model` where none is."""
    while isinstance(model, (nn.DataParallel, DistributedDataParallel, AveragedModel)):
        model = model.module
    return model
