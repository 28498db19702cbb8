"""Tensors from files of others: read without running anything that hides in them."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from .errors import InputError

# What PyTorch says of a pickle that asks for more than tensors.
_CODE_SIGNS = ("unsupported global", "unsupported class", "unrecognized function")


def load_tensor_file(path: str | PathLike[str]) -> Any:
    """What a `.pt`, `.pth` or `.safetensors` file holds, on the CPU.

    Raises:
        InputError: There is no such file, it is damaged, or it holds more than tensors and plain values, which a
            loader could only bring back by running code.
    """
    import pickle

    import torch

    path = Path(path)
    if not path.is_file():
        raise InputError(path, "there is no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(sign in str(error).lower() for sign in _CODE_SIGNS):
            raise InputError(
                path, "holds more than tensors, and loading it would run code; save it again with torch.save(tensor)"
            ) from error
        raise InputError(path, "is not a file that torch.save wrote, or it is damaged; save it again") from error
    except Exception as error:  # safetensors, zip and pickle each have errors of their own for a damaged file
        raise InputError(path, f"can not be read as tensors ({type(error).__name__}); save it again") from error


def load_tensor(path: str | PathLike[str], *shapes: tuple[int | None, ...]) -> Any:
    """One floating or whole-number tensor from a file, in float32.

    Args:
        path: The file.
        *shapes: Allowed shapes after leading axes of length 1 are taken away; `None` stands for any length. All when
            none is given.

    Raises:
        InputError: As `load_tensor_file`; or no tensor, another shape, or values that are not finite.
    """
    import torch

    value = load_tensor_file(path)
    if not isinstance(value, torch.Tensor):
        raise InputError(path, f"holds {_what(value)}, not a tensor; save the tensor itself with torch.save(tensor)")
    if value.is_complex() or value.is_sparse or value.is_quantized:
        raise InputError(path, f"holds a {value.dtype} {value.layout} tensor; a plain real one is needed")
    found = tuple(value.shape)
    value = value.detach().float()
    longest = max((len(shape) for shape in shapes), default=value.ndim)
    while value.ndim > longest and value.shape[0] == 1:
        value = value[0]
    if shapes and not any(_fits(tuple(value.shape), shape) for shape in shapes):
        wanted = " or ".join(_written(shape) for shape in shapes)
        raise InputError(path, f"has the shape {found}; {wanted} is needed")
    if value.numel() == 0 or not bool(value.isfinite().all()):
        raise InputError(path, "is empty" if value.numel() == 0 else "holds values that are not finite numbers")
    return value.contiguous()


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(found) == len(wanted) and all(w in (None, f) for f, w in zip(found, wanted, strict=True))


def _written(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)}{',' if len(shape) == 1 else ''})"


def _what(value: Any) -> str:
    return f"a {type(value).__name__} of {len(value)} entries" if hasattr(value, "__len__") else type(value).__name__


__all__ = ["load_tensor", "load_tensor_file"]
