"""In which precision a device multiplies; weights, optimisers and all that is recorded are float32."""

import contextlib

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import models, seeds
from .errors import TrainingError


def check_precision(precision: str, device: str | torch.device) -> None:
    """Refuses a precision that a device does not have.

    Raises:
        TrainingError: saying which devices have it.
    """
    kind = torch.device(device).type
    if precision == "tf32" and (kind != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise TrainingError(
            "precision 'tf32' is one of NVIDIA GPUs of compute capability 8.0 or more: take such a "
            "device, or 'float32' or 'bf16'"
        )
    if precision == "bf16" and kind == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise TrainingError(f"{torch.cuda.get_device_name(device)} does not compute in bfloat16: take 'float32'")


@contextlib.contextmanager
def undisturbed():
    """Puts out of force what the caller works in and no recipe says: autocast, another default type or device, products
    of less than 24 bits on the CPU (`torch.set_float32_matmul_precision`). Meanwhile no other thread computes.

    Nor do transformers take the path that PyTorch keeps for inference (`models.one_function`). A network that enters
    autocast itself casts its weights anew each time: what an outer autocast caches would be those of the first step.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(seeds.alone)
        for kind in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(kind, enabled=False, cache_enabled=False))
        if torch.get_default_device().type != "cpu":  # a mode that each operation passes through
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        stack.enter_context(models.one_function())
        mkldnn = torch.backends.mkldnn
        for place in (mkldnn.matmul, mkldnn.conv, mkldnn.rnn):  # pyright: ignore[reportAttributeAccessIssue]  # set on import
            stack.callback(setattr, place, "fp32_precision", place.fp32_precision)
            place.fp32_precision = "ieee"
        yield


@contextlib.contextmanager
def multiplying(precision: str, device: torch.device):
    """Products of float32 on a GPU are done in TF32 if the precision is "tf32", else to the full 24 bits.

    PyTorch itself lets convolutions and recurrent layers use TF32 unless told otherwise. It has an old and a new set of
    switches and refuses to read one that the other contradicts, so both are set, and both are put back.
    """
    if device.type != "cuda":
        yield
        return
    old = [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32")]
    new = [(place, "fp32_precision") for place in _places()]
    before = []
    for place, switch in old + new:
        with contextlib.suppress(RuntimeError):  # an old one that the caller's new ones contradict
            before.append((place, switch, getattr(place, switch)))
    try:
        for place, switch in old:
            setattr(place, switch, precision == "tf32")
        for place, switch in new:
            setattr(place, switch, "tf32" if precision == "tf32" else "ieee")
        yield
    finally:
        for place, switch, value in before:
            setattr(place, switch, value)


def _places():
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn  # pyright: ignore[reportAttributeAccessIssue]  # set on import


@contextlib.contextmanager
def exact(device: str | torch.device):
    """What is measured of networks is computed to the full 24 bits, and attention by its plain formula.

    The faster kernels of attention cannot be differentiated twice, which curvature needs.
    """
    with multiplying("float32", torch.device(device)), sdpa_kernel(SDPBackend.MATH):
        yield
