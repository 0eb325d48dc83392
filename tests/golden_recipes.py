"""Small recipes of every class, for the golden files that say which keys and records earlier versions wrote::

    tests/golden/keys.json        label → key, of every recipe below
    tests/golden/format-1.lotx    the records of the computed ones and of all that they rest on
    tests/golden/format-1.json    key → type of the recipe, hashes of the record's values and of each array

`python tests/golden_recipes.py` adds what these functions name and the files lack, such as a recipe class that came
later. What the files hold stays as it is, byte for byte: the keys and records of whoever used an earlier version are
no others. If a key or a record comes out different, the code is wrong, not the file. Only for a new format of the
store (`lottery.engine.store.FORMAT`) are records written anew, to files with its number.
"""

import hashlib
import json
import pathlib
import tempfile
from dataclasses import fields, replace

from lottery.controls import (
    AtStart,
    Complement,
    DegreePreserving,
    Drawn,
    Early,
    EdgePopup,
    LitPreserving,
    Rescaled,
    Spliced,
    Unlit,
)
from lottery.curvature import Adaptive, Prunable, Spectrum
from lottery.engine.execute import execute
from lottery.engine.store import FORMAT, Record, Store
from lottery.kernels import Patterns
from lottery.landscape import Path, Perturbed, Plane, path, projection
from lottery.marks import Beginning
from lottery.movement import Moved, Started, Survivors
from lottery.recipes import (
    Constant,
    Continued,
    Dense,
    Initial,
    Masked,
    Noisy,
    Pruned,
    Recipe,
    Reshuffled,
    Rewound,
    Run,
    Shuffled,
    Signed,
    Thinned,
    Training,
    closure,
)
from lottery.signs import Aligned, Compared, Flipped, FlippedSigns, Hybrid
from lottery.tickets import (
    RETRAINING,
    adaptive_imp,
    dense,
    early_grid,
    from_perturbed_start,
    imp,
    noisy,
    one_shot,
    random_sparse,
    reinitialised,
    retrained,
    shuffled,
    siblings,
    sign_ablation,
    sign_transferred,
    transplanted,
    untrained,
)
from lottery.worth import Packed

FOLDER = pathlib.Path(__file__).parent / "golden"
KEYS = FOLDER / "keys.json"
EXPORT, HASHES = (FOLDER / f"format-{FORMAT}.{kind}" for kind in ("lotx", "json"))
CRITERIA = (
    "magnitude",
    "small_final",
    "large_init",
    "small_init",
    "magnitude_increase",
    "movement",
    "large_final_same_sign",
    "large_final_diff_sign",
    "random",
)
ALTERED = [(values, signs) for values in ("new", "reshuffled", "constant") for signs in ("original", "random")]


def golden() -> tuple[dict[str, Recipe], set[str]]:
    """Recipes by label, and the labels of those whose records are in the export."""
    lenet = Training("digits", "lenet-20-10", 12, 60, "adam", 0.02, validation=200, evaluate=((12, 4),))
    sgd = replace(lenet, optimiser="sgd", lr=0.1, momentum=0.9)
    resnet = replace(sgd, model="resnet-8", lr=0.01, steps=10, evaluate=((10, 10),))
    conv = replace(lenet, model="conv-2-dropout", lr=1e-3, augment=True, evaluate=((12, 12),), layout="channels_last")
    table = {"fc": 0.3, "output": 0.15}
    found: dict[str, Recipe] = {}

    def add(label: str, *recipes: Recipe) -> None:
        for i, recipe in enumerate(recipes):
            name = f"{label}/{i}" if len(recipes) > 1 else label
            assert name not in found, f"two recipes are called {name}"
            found[name] = recipe

    # Trainings.
    add("dense", other := dense(lenet, 1))
    add("dense, sgd", dense(replace(sgd, weight_decay=1e-3, milestones=(6, 9), gamma=0.3, warmup=3), 0))
    add("dense, part and seed", dense(replace(lenet, part=(1, 2), validation=100, scaling="unit", seed=3), 0))
    add("dense, unit-norm", dense(replace(lenet, scaling="unit-norm", evaluate=()), 0))
    add("dense, conv-2", dense(conv, 0))
    add("dense, cut start, epsilon", dense(replace(lenet, cut_start=2.0, adam_epsilon=1e-7), 0))

    # Chains and masks.
    add("imp", *(chain := imp(lenet, 0, 2, table)))
    add("imp, late", *(late := imp(lenet, 0, 2, 0.4, scope="global", rewind_step=4, fresh_order=True)))
    add("imp, resnet", *(normed := imp(resnet, 0, 1, 0.3, rewind_step=2)))
    start, ticket, _ = chain
    for criterion in CRITERIA:
        for scope in ("layer", "global"):
            add(f"Pruned, {criterion}, {scope}", Pruned(late[1], 0.35, scope, criterion))
    add("Pruned, random, draw", Pruned(start, 0.5, criterion="random", draw=1))
    add("Pruned, names", Pruned(start, (("fc*", 0.2), ("fc2.weight", 0.5), ("output", 0.1))))
    add("Adaptive", adaptive := Adaptive(start, 0.05, 500))
    add("Adaptive, all examples", Adaptive(ticket, 0.1))
    fc = tuple(sorted(table.items()))
    for name, mask in {
        "Dense": Dense(),
        "Pruned": ticket.mask,
        "Shuffled": Shuffled(ticket.mask, 0, 1),
        "Thinned": Thinned(ticket.mask, 0.25, 0),
        "Thinned, global": Thinned(ticket.mask, 0.25, 0, 1, "global"),
        "Thinned, table, twice": Thinned(Thinned(Dense(), fc, 0), 0.5, 1),
        "Adaptive": adaptive,
    }.items():
        add(f"Run under {name}", Run(lenet, Initial(0, 2), mask, (0, 5)))

    # Starts.
    early = Rewound(late[0], 4)
    for name, weights in {
        "Initial": Initial(2, 1),
        "Rewound": Rewound(late[0], 8),
        "Continued": Continued(late[1], 6),
        "Masked": Masked(early, ticket.mask),
        "Signed": Signed(Initial(1), start.end),
        "Constant": Constant(early),
        "Reshuffled": Reshuffled(early, ticket.mask, 0, 2),
        "Noisy": Noisy(early, 0.5, 1, 3),
        "Perturbed": Perturbed(early, late[1].mask, Rewound(late[0], 8), 0, 1, 0.5),
        "Perturbed, along": Perturbed(Initial(0), ticket.mask, Initial(0, 1), 0, along=start.end),
        "FlippedSigns": FlippedSigns(early, ticket.mask, 0.3, 0, 1),
        "Hybrid": Hybrid(early, start.end),
        "Hybrid, control": Hybrid(early, start.end, "anywhere", 1, 2),
        "Aligned": Aligned(other.end, start.end),
        "Aligned, signs": Aligned(other.end, start.end, "signs"),
    }.items():
        add(f"Run from {name}", Run(lenet, weights, ticket.mask, (0, 7)))
    for along in ("nothing", "normalisation"):
        add(f"Run from Signed, resnet, {along}", Run(resnet, Signed(Initial(1), normed[1].end, along), normed[1].mask))

    # Measurements.
    add("Path", Path(lenet, (late[1].end, Masked(late[1].end, late[2].mask), late[2].end), late[1].mask, 5))
    add("Path, resnet", Path(resnet, (normed[0].end, normed[1].end), Dense(), 3))
    add("Plane", Plane(lenet, (start.end, ticket.end, other.end), Dense(), 4, 0.1))
    add("Path, sampled", Path(resnet, (normed[0].end, normed[1].end), Dense(), 3, 200, 100))
    add("Path, bf16", Path(resnet, (normed[0].end, normed[1].end), Dense(), 2, 100, 50, "bf16"))
    add("Plane, sampled", Plane(lenet, (start.end, ticket.end, other.end), Dense(), 3, 0.1, 200, 100))
    some = {"steps": 6, "top": 3, "epsilons": (0.01, 0.1)}
    add("Spectrum", Spectrum(ticket, **some, towards=(start.end, Initial(0)), examples=600))
    add("Spectrum, chunks", Spectrum(late[2], **some, probes=1, examples=100, chunk=60))
    for order in ("magnitude", "random"):
        add(f"Prunable, {order}", Prunable(ticket, 0.1, order, 10, 0.02, examples=300, replicate=1))
    add("Survivors", Survivors(ticket, 20))
    add("Survivors, global", Survivors(late[2]))
    add("Moved", Moved(ticket, start))
    add("Moved, late", Moved(late[2], late[0]))
    add("Started", Started(ticket))
    add("Compared", Compared(ticket, Run(lenet, Initial(1), ticket.mask), 2))
    add("Compared, both", Compared(start, other, 0, both=True))
    add("Flipped", Flipped(ticket, Initial(0)))
    add("Flipped, late", Flipped(late[2], early))
    add("Patterns", Patterns(normed[1]))
    add("Patterns, mask", Patterns(normed[0], normed[1].mask))

    # Controls and learned masks.
    half = imp(lenet, 0, 1, 0.6)[1]
    for name, mask in {
        "Complement": Complement(half.mask, 0),
        "DegreePreserving": DegreePreserving(ticket.mask, 0, 1),
        "LitPreserving": LitPreserving(ticket.mask, 0, 1),
        "Spliced": Spliced(ticket.mask, half.mask, ("fc1.weight",)),
        "Early": Early(start, 8, 0.4),
        "AtStart, snip": AtStart(lenet, Initial(0), 0.3, "snip", 200),
        "AtStart, synflow": AtStart(lenet, Initial(0), 0.3, "synflow", rounds=5),
        "EdgePopup": EdgePopup(lenet, Drawn(0, keep=0.5), 0.5, 10),
    }.items():
        add(f"Run under {name}", Run(lenet, Initial(0), mask, (0, 6)))
    add("Run from Drawn", Run(lenet, Drawn(0, kind="constant", keep=0.5), ticket.mask, (0, 6)))
    add("Run from Rescaled", Run(lenet, Rescaled(Initial(0, 1), half.mask, Initial(0), ticket.mask), half.mask, (0, 6)))
    add("Packed", Packed(lenet, ticket.weights, ticket.mask))
    add("Beginning", Beginning(lenet, ticket.weights, ticket.mask, 200))
    add("Unlit", Unlit(lenet))
    add("Unlit, seldom", Unlit(lenet, 0.1))
    computed = set(found)

    # Keys alone: the papers' networks, and whatever the experiments can be given.
    paper = Training("mnist", "lenet-300-100", 50_000, 60, "adam", 1.2e-3, evaluate=early_grid(50_000))
    cifar = Training("cifar10", "resnet-20", 63_000, 128, "sgd", 0.03, 0.9, 1e-4, (32_000, 48_000), warmup=1000,
                     augment=True)  # fmt: skip
    tens = {"conv": 0.1, "fc": 0.2, "output": 0.1}
    for label, row in {"mnist": paper, "cifar10": cifar}.items():
        add(f"Training, {label}", row)
        for changes in (
            {"milestones": (), "gamma": 0.5},
            {"validation": 1000, "part": (1, 2)},
            {"scaling": "unit-norm", "seed": 7},
            {"precision": "tf32"},
            {"precision": "bf16", "layout": "channels_last"},
            {"evaluate": ((100, 10), (1000, 100))},
        ):
            changed = ", ".join(f"{name}={value}" for name, value in changes.items())
            add(f"Training, {label}, {changed}", replace(row, **changes))
    runs = imp(cifar, 3, 3, tens)
    rewound = imp(cifar, 3, 3, 0.2, scope="global", rewind_step=1000, fresh_order=True)
    add("mnist, imp", *imp(paper, 0, 4, {"fc": 0.2, "output": 0.1}))
    add("cifar10, imp", *runs)
    add("cifar10, imp, late, global, fresh", *rewound)
    add("cifar10, imp, order", *imp(cifar, 0, 2, 0.2, order=5))
    for criterion in ("large_final", *CRITERIA):
        add(f"cifar10, imp, {criterion}", *imp(cifar, 1, 2, 0.5, criterion=criterion))
        add(f"cifar10, one shot, {criterion}", one_shot(cifar, 1, 3, 0.5, criterion=criterion))
    for kind in RETRAINING:
        add(f"cifar10, retrained, {kind}", *retrained(cifar, 0, 3, 0.2, kind))
        more = retrained(cifar, 2, 2, tens, kind, scope="global", step=2000, fresh_order=True)
        add(f"cifar10, retrained, {kind}, late, global, fresh", *more)
    add("cifar10, one shot", one_shot(cifar, 0, 5, tens))
    late_shot = one_shot(cifar, 0, 5, 0.2, scope="global", rewind_step=500, fresh_order=True)
    add("cifar10, one shot, late, global, fresh", late_shot)
    add("cifar10, transplanted", *transplanted(runs, 2000))
    for draw in (1, 2):
        for make in (reinitialised, random_sparse, shuffled):
            add(f"cifar10, {make.__name__}, {draw}", make(runs[2], 3, draw))
        for values, signs in ALTERED:
            add(f"cifar10, altered, {values}, {signs}, {draw}", sign_ablation(runs[1], 3, values, signs, draw))
        for scale in (0.5, 1.0, 3):
            add(f"cifar10, noisy, {scale}, {draw}", noisy(rewound[2], 3, scale, draw))
        for along in (False, True):
            moved = sign_transferred(runs[3], 3, draw, normalisation=along)
            add(f"cifar10, sign transferred, {along}, {draw}", moved)
    add("cifar10, untrained", untrained(runs[1]))
    add("cifar10, untrained, late", untrained(rewound[1]))
    add("cifar10, adaptive imp", *adaptive_imp(cifar, 0, 2, 0.05))
    add("cifar10, adaptive imp, late, fresh", *adaptive_imp(cifar, 1, 2, 0.1, 1000, fresh_order=True, examples=10_000))
    add("cifar10, siblings", *siblings(rewound[1]))
    add("cifar10, siblings, late", *siblings(rewound[0], 500, 3))
    add("cifar10, disturbed", from_perturbed_start(rewound, 1, 3))
    add("cifar10, disturbed, twice", from_perturbed_start(rewound, 0, 3, 2.0, draw=4))
    add(
        "cifar10, disturbed, through",
        from_perturbed_start(rewound, 1, 3, through=Thinned(rewound[1].mask, 0.2, 3, scope="global")),
    )
    add("cifar10, path", path(*rewound))
    add("cifar10, path, mask", path(*siblings(runs[1]), alphas=31, mask=Dense()))
    add("cifar10, projection", projection(rewound[1], rewound[2].mask))
    add("cifar10, projection, alphas", projection(rewound[1], Shuffled(rewound[2].mask, 3), alphas=21))
    for recipe in (Adaptive(runs[1], 0.1), Plane(cifar, tuple(run.end for run in rewound[:3]), Dense()),
                   Spectrum(runs[1]), Spectrum(runs[1], 40, 1, 5, (0.1,), (runs[0].end,), 5000, 500),
                   Prunable(runs[1], 0.1), Prunable(runs[1], 0.1, "random", 50, 1e-3, 5000, 1, 2),
                   Survivors(runs[1]), Moved(runs[1], runs[0]), Compared(runs[1], runs[2]),
                   Compared(runs[1], runs[2], 10, True), Flipped(runs[1], Initial(3)), Patterns(runs[1]),
                   Patterns(runs[1], Dense())):  # fmt: skip
        given = [field.name for field in fields(recipe) if getattr(recipe, field.name) != field.default]
        add(f"cifar10, {type(recipe).__name__} of {', '.join(given)}", recipe)
    return found, computed


def hashes(record: Record) -> dict:
    """What the golden file says of a record, in text that tells a change of a number, a type or a shape."""
    values = json.dumps(record.values, sort_keys=True, separators=(",", ":"))
    arrays = {
        name: f"{array.dtype} {list(array.shape)} {hashlib.sha256(array.tobytes()).hexdigest()}"
        for name, array in sorted(record.arrays.items())
        if not name.startswith("zeros/")  # came later; beside signs, where any survivor is zero
    }
    return {
        "type": record.recipe["type"],
        "values": hashlib.sha256(values.encode()).hexdigest(),
        "arrays": arrays,
    }


def write() -> None:
    """Adds to the golden files what they lack; refuses to change what they hold."""
    found, computed = golden()
    keys = {label: recipe.key for label, recipe in found.items()}
    wanted = closure(found[label] for label in computed)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        if EXPORT.exists():
            store.import_([EXPORT])
        execute(wanted, store, executor="inline")
        records = {key: hashes(store.read(key)) for key in store.keys()}
        for file, new in ((KEYS, keys), (HASHES, records)):
            old = json.loads(file.read_text()) if file.exists() else {}
            if changed := [name for name in old if new.get(name) != old[name]]:
                raise SystemExit(f"{file.name} would change, which it must not: {', '.join(changed)}")
        FOLDER.mkdir(exist_ok=True)
        for file, new in ((KEYS, keys), (HASHES, records)):
            file.write_text(json.dumps(new, indent=0, ensure_ascii=False) + "\n")
        store.export(store.keys(), EXPORT)


if __name__ == "__main__":
    write()
