"""From a chapter's parameters to the training that they describe, and the protocols that claims ask for."""

from collections.abc import Mapping

from .. import recipes

LENET = {"batch": 60, "learning_rate": 0.0012, "hidden_rate": 0.2, "output_rate": 0.1}
"""Frankle & Carbin (2019), Figure 2: LeNet."""

RESNET = {
    "batch": 128,
    "optimiser": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "decay": True,
    "augment": True,
    "fraction": 0.2,
}
"""Frankle et al. (2020), Table 1: ResNet-20, which also wants its rewind point among the steps 1000 to 2000."""

CHANGED = "changed"
_LESS = ", shortened"

_PRUNED = {"fraction", "conv_rate", "conv_6_rate", "hidden_rate", "output_rate"}
SHORTER = _PRUNED | {"early_step", "rewind_step", "matching_step", "precision"}
"""What may differ in a study that still follows the protocol, shortened; steps, levels, replicates count by number."""

_SAME = ("data", "model", "steps", "batch", "optimiser", "momentum", "weight_decay", "augment", "validation", "scaling")
_FIELDS = (*_SAME, "precision", "layout", "seed", "milestones", "warmup", "evaluate")


def training(given: Mapping[str, object], **more) -> recipes.Training:
    """The training that a chapter's parameters describe.

    Parameters that are called like a field of `recipes.Training` are that field. Further, `learning_rate` is `lr`;
    `decay` lets it fall to a tenth after a half and after three quarters of the steps; `evaluations` says how often a
    run is evaluated, at equal distances; momentum is SGD's alone.

    Args:
        given: the parameters.
        more: further ones, or others.

    Raises:
        RecipeError: if there is no such training.
    """
    values = {**given, **more}
    steps = values["steps"]
    fields = {name: values[name] for name in _FIELDS if name in values} | {"lr": values["learning_rate"]}
    if values.get("optimiser") != "sgd":
        fields.pop("momentum", None)
    if values.get("decay"):
        fields.setdefault("milestones", (steps // 2, 3 * steps // 4))
    if "evaluations" in values:
        fields.setdefault("evaluate", ((steps, max(1, steps // values["evaluations"])),))
    return recipes.training(**fields)


def named(name: str, given: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    """The protocol's name if the parameters are its own; shortened if only `SHORTER` ones differ; else "changed"."""
    other = {key for key, value in wanted.items() if given[key] != value}
    return name if not other else shortened(name) if other <= SHORTER else CHANGED


def shortened(protocol: str) -> str:
    """The name of a protocol of which there is less: what rules call reduced. A changed one stays changed."""
    return protocol if protocol == CHANGED or protocol.endswith(_LESS) else protocol + _LESS
