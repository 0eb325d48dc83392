"""From a chapter's parameters to the training that they describe, and the protocols that claims ask for."""

import re
from collections.abc import Mapping
from typing import Any

from .. import recipes

LENET = {"batch": 60, "learning_rate": 0.0012, "hidden_rate": 0.2, "output_rate": 0.1, "precision": "float32"}
"""Frankle & Carbin (2019), Figure 2: LeNet."""

UNSTATED: dict[str, dict[str, Any]] = {
    "images in [0, 1]": {"scaling": "unit"},
    "images standardised": {"scaling": "standardise"},
    "Adam's epsilon 1e-7": {"adam_epsilon": 1e-7},
    "starting weights cut off at two deviations": {"cut_start": 2.0},
}
"""What the paper leaves open of that training: words → fields of `recipes.Training`, each another way to do it."""

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

CONV = {"batch": 60, "learning_rate": 2e-4, "conv_rate": 0.1, "hidden_rate": 0.2, "output_rate": 0.1}
"""Frankle & Carbin (2019), Figure 2: Conv-2."""

CONVS = {"conv-2": CONV, "conv-4": CONV | {"learning_rate": 3e-4}}
CONVS["conv-6"] = CONVS["conv-4"] | {"conv_rate": 0.15}
"""The same: its convolutional networks."""

CONV_STEPS = {"conv-2": 20_000, "conv-4": 25_000, "conv-6": 30_000}
"""The same: their iterations."""

CHANGED = "changed"
_LESS = ", shortened"

_PRUNED = {
    "fraction": "",
    "conv_rate": "in convolutions ",
    "conv_6_rate": "in Conv-6's ",
    "hidden_rate": "in hidden layers ",
    "output_rate": "in the output layer ",
}
SHORTER = set(_PRUNED) | {"early_step", "rewind_step", "matching_step", "precision", "conv_precision", "conv_together"}
"""What may differ in a study that still follows the protocol, shortened; steps, levels, replicates count by number."""

DATA = {"digits": "scikit-learn's digits", "mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
DATA |= {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
DATA |= {f"{name}-rgb": f"{DATA[name]} in three channels" for name in ("mnist", "fashion-mnist")}
"""What data sets are called in prose."""

_NETWORK = re.compile(r"(lenet|conv|resnet|vgg)-(\d+(?:-\d+)*)(-glorot|-dropout)?")
_FAMILIES = {"lenet": "LeNet", "conv": "Conv", "resnet": "ResNet", "vgg": "VGG"}

OPTIMISERS = {"sgd": "SGD", "adam": "Adam"}
"""What optimisers are called in prose."""

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


def conv(given: Mapping[str, Any], **more) -> recipes.Training:
    """The training of Conv-2 in a chapter of another network: by Adam, and as the parameters `conv_...` say.

    Args:
        given: the parameters: `conv_data`, `conv_steps`, `conv_rate` (of learning), `conv_evaluations`,
            `conv_precision`, `conv_layout`; whatever else `training` reads, such as `batch`, Conv-2 shares with the
            chapter's network.
        more: as of `training`.

    Raises:
        RecipeError: if there is no such training.
    """
    own = {name: given[f"conv_{name}"] for name in ("data", "steps", "evaluations", "precision", "layout")}
    own |= {"model": "conv-2", "optimiser": "adam", "learning_rate": given["conv_rate"]}
    return training(given, **own | more)


def conv_rates(together: int = 1) -> dict[str, float]:
    """Shares of Conv-2's survivors that a round removes, by kind of layer: the paper's, that many rounds at once."""
    rates = {"conv": CONV["conv_rate"], "fc": CONV["hidden_rate"], "output": CONV["output_rate"]}
    return {kind: round(1 - (1 - rate) ** together, 12) for kind, rate in rates.items()}


def on_paths(given: Mapping[str, object]) -> dict[str, object]:
    """What a path between networks is measured on, and how precisely, as `lottery.landscape.path` takes it.

    Args:
        given: the parameters: `examples` and `test_examples`, and `precision`, of which paths follow bf16 alone.
    """
    precision = "bf16" if given["precision"] == "bf16" else "float32"
    return {"examples": given["examples"], "test_examples": given["test_examples"], "precision": precision}


def network(name: str) -> str:
    """What a network is called in prose: ``LeNet-300-100``, ``narrow VGG-19``; one of the user's, by its own name.

    Args:
        name: as `lottery.models.build` takes it.
    """
    if not (match := _NETWORK.fullmatch(name)):
        return name
    family, sizes, more = match.groups()
    depth, _, width = sizes.partition("-")
    if family in ("conv", "vgg") and width:
        return ("" if width == "64" else "narrow ") + f"{_FAMILIES[family]}-{depth}"
    return f"{_FAMILIES[family]}-{sizes}" + (" with dropout" if more == "-dropout" else "")


def sample_in_words(given: Mapping[str, Any]) -> str:
    """The images that paths are measured on, as a text to glue."""
    return f"{_first(given['test_examples'])} test and {_first(given['examples'])} training images"


def test_sample(given: Mapping[str, Any]) -> str:
    """The test images that paths are measured on, in words."""
    return f"{_first(given['test_examples'])} test images"


def _first(number: int) -> str:
    return f"the first {number:,}" if number else "all"


def in_words(given: Mapping[str, Any]) -> dict[str, object]:
    """What a chapter ran, for its table of differences from the papers: values to glue.

    Args:
        given: the parameters of a chapter that prunes one network over all its layers.
    """
    augmented = ", random flips and crops" if given["augment"] else ""
    falls = "; the rate falls twice" if given["decay"] else ""
    return {
        "replicates": given["replicates"],
        "steps": f"{given['steps']:,}",
        "network": network(given["model"]),
        "data": DATA[given["data"]],
        "protocol": f"{network(given['model'])} on {DATA[given['data']]}{augmented}: {given['steps']:,} steps of "
        f"{OPTIMISERS[given['optimiser']]} at rate {given['learning_rate']:g}, batches of {given['batch']}{falls}",
        "rounds": f"{100 * given['fraction']:g} % of all survivors by magnitude, {given['levels']} rounds",
        "order": "new at each level" if given["fresh_order"] else "the same at every level",
    }


def lenet_in_words(given: Mapping[str, Any]) -> dict[str, object]:
    """The same for a chapter that prunes a LeNet layer by layer, trained by Adam as the paper does."""
    name, images = network(given["model"]), DATA[given["data"]]
    return {
        "order": "drawn anew at every level" if given["fresh_order"] else "the same at every level",
        "images": images,
        "protocol": f"{name} on {images}; Adam {given['learning_rate']:g}; {given['batch']}; "
        f"{100 * given['hidden_rate']:g} % and {100 * given['output_rate']:g} %; Gaussian Glorot; "
        f"{given['validation']:,} for validation; {given['steps']:,} iterations",
    }


def named(name: str, given: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    """The protocol's name if the parameters are its own; shortened if only `SHORTER` ones differ; else "changed"."""
    other = {key for key, value in wanted.items() if given[key] != value}
    return name if not other else shortened(name) if other <= SHORTER else CHANGED


def shorter(given: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    """In what a study that follows a protocol is less than it, in words; steps, levels, replicates are told elsewhere.

    Args:
        given: the parameters.
        wanted: the protocol's own, as of `named`.
    """
    wanted = {key: value for key, value in wanted.items() if key in SHORTER and given[key] != value}
    cut = [f"{where}{given[key]} for {wanted.pop(key)}" for key, where in _PRUNED.items() if key in wanted]
    less = [f"share pruned a round {', '.join(cut)}"] * bool(cut)
    less += [f"{key.replace('_step', ' rewind step')} {given[key]} for {value}" for key, value in wanted.items()]
    return ", ".join(less + ["bfloat16"] * (given.get("precision") == "bf16"))


def conv_shorter(given: Mapping[str, Any]) -> str:
    """The same of Conv-2 in a chapter of another network.

    Args:
        given: the parameters of any chapter.
    """
    together = given.get("conv_together", 1)
    less = [f"{together} rounds of pruning at once"] * (together > 1)
    return ", ".join(less + ["bfloat16"] * (given.get("conv_precision") == "bf16"))


def conv_named(given: Mapping[str, object], **wanted) -> str:
    """As `named`, of the protocol that claims ask of Conv-2 in a chapter of another network.

    Args:
        given: the parameters, as of `conv`.
        wanted: of its own parameters, beside batch, learning rate and precision.
    """
    found = named("as planned", given, {"batch": CONV["batch"], "conv_precision": "float32", **wanted})
    return found if given["conv_rate"] == CONV["learning_rate"] else CHANGED  # elsewhere it is a rate of pruning


def conv_context(given: Mapping[str, Any], **wanted) -> dict[str, str]:
    """What judging is told of Conv-2 in a chapter of another network: whether it was run, and by which protocol.

    Args:
        given, wanted: as of `conv_named`.
    """
    ran = "conv-2" if given["conv_replicates"] else "not run"
    return {"conv": ran, "conv_protocol": conv_named(given, **wanted)}


def conv_sparse(together: int) -> dict[str, Any]:
    """The parameters that claims ask of Conv-2 on CIFAR-10 with 7 to 11 % of its weights: the round nearest to 9 %.

    Args:
        together: rounds of the paper that one round takes at once.
    """
    return {"conv_data": "cifar10", "conv_together": 1, "conv_levels": round(10.8 / together)}


def shortened(protocol: str) -> str:
    """The name of a protocol of which there is less: what rules call reduced. A changed one stays changed."""
    return protocol if protocol == CHANGED or protocol.endswith(_LESS) else protocol + _LESS
