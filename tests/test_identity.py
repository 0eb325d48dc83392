"""Whose result it is: another network or other code under an old name is found and named."""

import dataclasses
import functools
import importlib.util
import itertools
import linecache
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
import torch
from support import run
from torch import nn

from lottery import data, models, tickets
from lottery import recipes as r
from lottery.controls import AtStart
from lottery.engine import identity
from lottery.engine.execute import ExecutionError
from lottery.engine.rebuild import changed_code, rebuild, recipe_of
from lottery.engine.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(models, "_registered", {})


def training(**changes):
    base = dict(data="digits", model="lenet-8", steps=20, batch=50, optimiser="adam", lr=3e-3, validation=200)
    return r.training(**{**base, **changes})


class Net(nn.Module):
    """A network with what can be changed without anybody seeing it from outside."""

    def __init__(self, classes, activation=torch.relu, dropout=0.0, scale=1.0, detached=False, width=8):
        super().__init__()
        self.first, self.last = nn.Linear(64, width), nn.Linear(width, classes)
        self.activation, self.dropout, self.detached = activation, dropout, detached
        self.first.weight.data.mul_(scale)

    def forward(self, x):
        x = self.activation(self.first(x.flatten(1)))
        x = nn.functional.dropout(x, self.dropout, self.training)
        return self.last(x.detach() if self.detached else x)


def register(**changes):
    models.register("own", lambda shape, classes: Net(classes, **changes))


@pytest.mark.parametrize(
    "changes, why",
    [
        (dict(activation=torch.tanh), "other outputs"),
        (dict(dropout=0.5), "other outputs"),
        (dict(scale=2.0), "initial weights"),
        (dict(detached=True), "gradients"),
        (dict(width=9), "other layers"),
    ],
    ids=["activation", "dropout", "scale", "gradient", "width"],
)
def test_another_network_under_an_old_name_is_refused_in_words(store, changes, why):
    own = training(model="own")
    register()
    run(tickets.imp(own, 0, 1, 0.5), store)
    register()
    run(tickets.imp(own, 0, 1, 0.5), store)  # the same network, registered again
    register(**changes)
    with pytest.raises(ExecutionError, match=rf"the name 'own' \(.*{why}.*\): register .* name of its own"):
        run(tickets.imp(own, 0, 2, 0.5), store)
    run([tickets.dense(training(), 0)], store)  # what does not use it goes on


class Running(nn.Module):
    """A network that keeps a running mean of its own, and may draw a number more than another."""

    def __init__(self, classes, rate=0.001, draws=0):
        super().__init__()
        torch.rand(draws)
        self.first, self.last, self.rate = nn.Linear(64, 500), nn.Linear(500, classes), rate
        self.register_buffer("mean", torch.zeros(500))

    def forward(self, x):
        h = self.first(x.flatten(1))
        if not self.training:
            return self.last(torch.relu(h - self.mean))
        with torch.no_grad():
            self.mean.lerp_(h.mean(0), self.rate)
        return self.last(torch.relu(h - h.mean(0)))


@pytest.mark.parametrize("changes, why", [(dict(rate=0.5), "other buffers"), (dict(draws=1), "other initial weights")])
def test_a_setting_that_shows_only_in_buffers_or_in_the_draw_of_weights_makes_another_network(changes, why):
    def described(**settings):
        models.register("own", lambda shape, classes: Running(classes, **settings))
        return identity.network(training(model="own"))

    first, again, other = described(), described(), described(**changes)
    assert identity.difference(first, again) is None and identity.difference(first, other).startswith(why)
    older = {name: value for name, value in first.items() if name not in ("initial", "buffers", "settings")}
    assert identity.difference(older, other) is identity.difference(other, older) is None


@pytest.mark.parametrize("how", ["frozen", "constant", "all"])
def test_signs_of_a_start_make_another_network(how):
    def described(sign, factorises=False):
        def made(shape, classes):
            net = Net(classes)
            with torch.no_grad():
                if how == "all":
                    net.last.weight.mul_(sign)
                elif how == "constant":
                    net.last.bias.fill_(0.5 * sign)
                else:
                    net.last.weight.copy_(torch.ones_like(net.last.weight)).view(-1)[-7:] = sign
                    net.last.weight.requires_grad_(False)
                if factorises:
                    torch.linalg.svd(torch.eye(2))
            return net

        models.register("own", made)
        return identity.network(training(model="own"))

    one, again, other = described(1), described(1), described(-1)
    assert identity.difference(one, again) is None
    assert identity.difference(one, other) == "other initial weights"
    older = {name: value for name, value in one.items() if name != "signed"}
    older["initial"] = [numbers[:-1] for numbers in one["initial"]]
    assert identity.difference(older, one) is identity.difference(older, other) is None
    singular, turned = described(1, True), described(-1, True)  # signs of singular vectors are any machine's own
    assert identity.difference(singular, turned) is None


RATE = 0.1


class Rare(Net):
    """A network that leaves a layer out once in a while, which a single pass does not show."""

    scale, built, passes = 1.0, 0, 0

    def __init__(self, classes, rate=0.1, rates=(0.1,), device="cpu"):
        super().__init__(classes)
        Rare.built += 1
        self.rate, self.rates, self.device, self.calls, self.number = rate, [*rates], device, 0, Rare.built

    def forward(self, x):
        self.calls += 1
        Rare.passes += 1
        out = self.training and torch.rand(()) < min(self.rate, *self.rates, self.scale, RATE, 0.4)
        return super().forward(0 * x if out else x)


LASTING = {f"Rare.{name}" for name in ("activation", "dropout", "detached", "rate", "rates", "scale", "RATE")}


@pytest.mark.parametrize(
    "change, name",
    [
        (dict(rate=np.float32(0.2)), "rate"),
        (dict(rates=(0.1, 0.2)), "rates"),
        (dict(scale=0.3), "scale"),
        (dict(RATE=0.2), "RATE"),
        (dict(device="cuda:0"), None),
        (dict(rate=0.1 + 1e-9), None),
    ],
    ids=["attribute", "list", "class", "outside", "device", "rounding"],
)
def test_a_setting_that_a_few_examples_do_not_show_makes_another_network(change, name, monkeypatch):
    def described(**settings):
        models.register("own", lambda shape, classes: Rare(classes, **settings))
        return identity.network(training(model="own"))

    first, again = described(), described()
    assert first["settings"] == again["settings"] and first["settings"].keys() == LASTING
    monkeypatch.setattr(Rare, "scale", change.pop("scale", 1.0))
    monkeypatch.setitem(globals(), "RATE", change.pop("RATE", 0.1))
    other = described(**change)
    assert identity.difference(first, other) == (f"another value of Rare.{name}" if name else None)
    older = {part: value for part, value in first.items() if part != "settings"}
    assert identity.difference(older, other) is identity.difference(other, older) is None


@dataclasses.dataclass
class Settings:
    rate: float


@pytest.mark.parametrize("held", [dict, types.SimpleNamespace, Settings])
def test_settings_that_stand_together_make_another_network(held):
    def described(rate):
        def build(shape, classes):
            network = Net(classes)
            network.annealing = held(rate=rate)  # of use later in training alone
            return network

        models.register("own", build)
        return identity.network(training(model="own"))

    first, again, other = described(0.1), described(0.1), described(0.3)
    assert identity.difference(first, again) is None
    assert identity.difference(first, other) == "another value of Net.annealing"


class Held(nn.Module):
    """A layer that holds a function."""

    def __init__(self, classes, function):
        super().__init__()
        self.out, self.function = nn.Linear(64, classes), function

    def forward(self, x):
        return self.out(self.function(x.flatten(1)))


def clipped(limit):
    return lambda x: x.clamp(max=limit)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.functional.relu, nn.functional.relu6),
        (torch.relu, nn.functional.hardtanh),
        (clipped(50.0), clipped(60.0)),
        (functools.partial(torch.clamp, max=50.0), functools.partial(torch.clamp, max=60.0)),
        (lambda x: x.clamp(max=50.0), lambda x: x.clamp(max=60.0)),
    ],
    ids=["torch's", "builtin", "closure", "partial", "lambda"],
)
def test_another_function_that_a_layer_holds_makes_another_network(one, other):
    def described(function):
        models.register("own", functools.partial(lambda shape, classes, f: Held(classes, f), f=function))
        return identity.network(training(model="own"))

    first, same, changed = described(one), described(one), described(other)
    assert identity.difference(first, same) is None
    assert identity.difference(first, changed) is not None


class Frozen(nn.Module):
    """An order, a covariance and a scale, which not every number can stand for."""

    def __init__(self, _shape, classes, first=63):
        super().__init__()
        self.order = nn.Parameter(torch.arange(64).roll(first), requires_grad=False)
        self.covariance = nn.Parameter(2 * torch.eye(64), requires_grad=False)
        self.sigma, self.out = nn.Parameter(torch.full((64,), 0.1)), nn.Linear(64, classes)

    def forward(self, x):
        x = x.flatten(1).index_select(1, self.order) @ torch.linalg.cholesky(self.covariance)
        return self.out(x + torch.distributions.Normal(0.0, self.sigma).rsample((len(x),)) if self.training else x)


class Ghost(nn.BatchNorm1d):
    def forward(self, x):
        return torch.cat([super(Ghost, self).forward(part) for part in x.chunk(4)]) if self.training else x


def test_networks_that_cannot_take_drawn_weights_or_few_examples_have_a_fingerprint():
    training = r.training(data="digits", model="odd", steps=5, batch=20, optimiser="sgd", lr=0.1, validation=100)
    found = []
    for first in (63, 62):
        models.register("odd", functools.partial(Frozen, first=first))
        identity.forget()
        found.append(identity.network(training))
    assert "other outputs" in identity.difference(*found)
    models.register("odd", lambda _, n: nn.Sequential(nn.Flatten(), Ghost(64), nn.Linear(64, n)))
    identity.forget()
    assert "probe" in identity.network(training)


VECTORS = torch.randn(26, 12, generator=torch.Generator().manual_seed(1))
VECTORS[0] = 0
SHUFFLED = torch.cat([VECTORS[:1], VECTORS[1:].flip(0)])


class Scaled(torch.nn.Module):
    """A scale that must be positive, so that under drawn weights nothing is a number; or a last layer of zeros."""

    def __init__(self, classes, factor, how):
        super().__init__()
        self.how, self.factors = how, np.asarray([factor, 1.0], dtype="float32")
        self.scale = torch.nn.Parameter(torch.ones(64))
        self.order = torch.nn.Parameter(torch.arange(64), requires_grad=False)
        self.out = torch.nn.Linear(64, classes)
        if how == "zero":
            torch.nn.init.zeros_(self.out.weight)

    def forward(self, x):
        x = x.flatten(1)[:, self.order] * float(self.factors[0])
        return self.out(torch.sin(x) if self.how == "zero" else torch.sin(x) / self.scale.sqrt())


def words(vectors, freeze):
    embedding = torch.nn.Embedding.from_pretrained(vectors.clone(), freeze=freeze, padding_idx=0)
    return torch.nn.Sequential(embedding, torch.nn.Flatten(), torch.nn.Linear(96, 2))


@pytest.mark.parametrize("how", ["positive", "zero", "frozen", "pretrained"])
def test_networks_that_differ_where_a_probe_says_nothing_are_told_apart(how):
    ids = torch.randint(0, 26, (200, 8), generator=torch.Generator().manual_seed(0))
    given, scaling = "digits", "standardise"
    if how in ("frozen", "pretrained"):
        given, scaling = data.register("ids", (ids[:160], ids[:160, 0] % 2), (ids[160:], ids[160:, 0] % 2)), "none"
    how_long = {"steps": 5, "batch": 20, "optimiser": "sgd", "lr": 0.1, "validation": 20}
    training, found = r.training(data=given, model="told", scaling=scaling, **how_long), []
    for factor, vectors in ((1.0, VECTORS), (9.0, SHUFFLED)):
        if how in ("frozen", "pretrained"):
            models.register("told", lambda _, n, vectors=vectors: words(vectors, how == "frozen"))
        else:
            models.register("told", lambda _, n, factor=factor: Scaled(n, factor, how))
        identity.forget()
        found.append(identity.network(training))
    assert identity.difference(*found) in (
        "other outputs, initial weights or gradients on the same examples",
        "other initial weights",
    )
    older = found[0] | {"initial": [numbers[:-1] for numbers in found[0]["initial"]]}
    assert identity.difference(older, found[0]) is None


def test_buffers_that_nothing_fills_are_not_compared():
    builds = itertools.count()

    def build(shape, classes):
        network = Net(classes)
        network.register_buffer("scratch", torch.full((2,), float(next(builds))))
        return network

    models.register("own", build)
    assert "buffers" not in identity.network(training(model="own"))


def test_other_records_than_runs_are_of_their_network_too(store):
    register()
    snip = AtStart(training(model="own"), r.Initial(0), 0.5, "snip", 50)
    run([snip], store)
    register(scale=2.0)
    with pytest.raises(ExecutionError, match=r"the atstart .* another network"):
        run([snip], store)


def test_a_setting_that_a_factory_reads_makes_another_network(store):
    settings = {"activation": torch.relu}
    models.register("own", lambda shape, classes: Net(classes, **settings))
    one = tickets.dense(training(model="own"), 0)
    run([one], store)
    settings["activation"] = torch.tanh
    with pytest.raises(ExecutionError, match="other outputs"):
        run([one], store)


def defined(name, text, folder, monkeypatch):
    """A module of a user's, of this text."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    linecache.clearcache()
    return importlib.import_module(name)


def cut_by_us(share, folder, monkeypatch):
    text = "import torch\nfrom lottery import recipes\n\n\n@recipes.frozen\nclass CutByUs(recipes.Mask):\n"
    text += "    def tensors(self, world, training):\n        draw = torch.Generator().manual_seed(0)\n"
    text += "        dense = recipes.Dense().tensors(world, training)\n"
    text += f"        return {{n: torch.rand(m.shape, generator=draw) > {share} for n, m in dense.items()}}\n"
    return [r.Run(training(), r.Initial(0), defined("ours", text, folder, monkeypatch).CutByUs())]


def test_records_of_a_recipe_class_whose_code_has_changed_are_refused(store, tmp_path, monkeypatch):
    [half] = run(cut_by_us(0.5, tmp_path, monkeypatch), store)
    assert run(cut_by_us(0.5, tmp_path, monkeypatch), store)[0].values == half.values
    with pytest.raises(ExecutionError, match="other code of a recipe class of yours"):
        run(cut_by_us(0.91, tmp_path, monkeypatch), store)


HELPERS = {"settings_of_ours": "RATE = 0.5\nOTHER = 1\n"}
HELPERS["helpers_of_ours"] = "import settings_of_ours\n\ndef cut(x):\n    return x > settings_of_ours.RATE\n"
CUT_WITH_HELP = """
import functools
import helpers_of_ours as helpers
from lottery import recipes
from settings_of_ours import OTHER as ONE

TABLE = {"a": ONE}
TABLE["b"] = 2
UNUSED = 0
halved = lambda x: x / 2


@functools.cache
def number():
    \"\"\"A number.\"\"\"
    return TABLE["a"]


class Base(recipes.Mask):
    share = 3

    def kept(self, mask):
        return mask


@recipes.frozen
class CutWithHelp(Base):
    def tensors(self, world, training):
        UNUSED = halved(number())
        dense = recipes.Dense().tensors(world, training)
        return {name: self.kept(mask) & helpers.cut(mask * UNUSED) for name, mask in dense.items()}
"""


def cut_with_help(folder, monkeypatch, before="", after=""):
    """A run with a mask whose class has helpers in three modules, in one of which something is changed."""
    texts = HELPERS | {"cut_of_ours": CUT_WITH_HELP}
    for name, text in texts.items():
        found = defined(name, text.replace(before, after) if before else text, folder, monkeypatch)
    assert not before or any(before in text for text in texts.values())
    return [r.Run(training(steps=2), r.Initial(0), found.CutWithHelp())]


@pytest.mark.parametrize(
    "before, after, changed",
    [
        ("return mask\n", "return ~mask\n", ["Base"]),
        ("share = 3", "share = 4", ["Base"]),
        ('return TABLE["a"]', 'return TABLE["b"]', ["number"]),
        ("@functools.cache", "@functools.lru_cache(maxsize=1)", ["number"]),
        ("x / 2", "x / 3", ["halved"]),
        ('TABLE["b"] = 2', 'TABLE["a"] = 2', ["TABLE"]),
        ("OTHER = 1", "OTHER = 2", ["OTHER"]),
        ("return x > ", "return x >= ", ["cut"]),
        ("RATE = 0.5", "RATE = 0.25", ["RATE"]),
        ("UNUSED = 0", "UNUSED = 1", []),
        ("A number.", "Another comment.", []),
    ],
)
def test_code_of_a_recipe_class_is_all_of_the_user_s_that_it_names(tmp_path, monkeypatch, before, after, changed):
    [one] = cut_with_help(tmp_path, monkeypatch)
    made = {"own": identity.own_code(one.json()), "own_parts": identity.own_parts(one.json())}
    assert identity.changed_own(one.json(), made) == []
    [other] = cut_with_help(tmp_path, monkeypatch, before, after)
    identity.forget()
    assert identity.changed_own(other.json(), made) == changed
    del made["own_parts"]  # as earlier versions made them: the class itself is the same
    assert identity.changed_own(other.json(), made) == []


def test_records_of_a_recipe_class_whose_helper_has_changed_are_refused(store, tmp_path, monkeypatch):
    run(cut_with_help(tmp_path, monkeypatch), store)
    run(cut_with_help(tmp_path, monkeypatch, "UNUSED = 0", "UNUSED = 1"), store)
    assert changed_code(store) == []
    with pytest.raises(ExecutionError, match=r"other code of a recipe class of yours \(cut\)"):
        run(cut_with_help(tmp_path, monkeypatch, "return x > ", "return x >= "), store)
    assert [record.key for record in changed_code(store)] == store.keys()


HELP = """
import torch
def later(count):
    return torch.exp(-0.0 * torch.relu(count - 5))
def temperature(count):
    return later(count)
class Schedule:
    def at(self, count):
        return temperature(count)
schedule = Schedule()
UNUSED = 0
"""
COOLED = """
import torch
from torch import nn
import help_of_ours
class Cooled(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.layer = nn.Linear(inputs, classes)
        self.register_buffer("count", torch.zeros(()))
    def forward(self, x):
        self.count += self.training
        return self.layer(x.flatten(1)) / help_of_ours.schedule.at(self.count)
def cooled(shape, classes):
    return Cooled(shape[-1] ** 2, classes)
"""


@pytest.mark.parametrize("partial", [False, True])
def test_a_helper_of_a_network_that_acts_later_makes_another_network(tmp_path, monkeypatch, partial):
    def described(number, text):
        for name, source in (("help_of_ours", text), (f"cooled_{number}", COOLED)):
            (tmp_path / f"{name}_{number}.py").write_text(source)
            spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}_{number}.py")
            monkeypatch.setitem(sys.modules, name, module := importlib.util.module_from_spec(spec))
            spec.loader.exec_module(module)
        models.register("own", functools.partial(module.cooled) if partial else module.cooled)
        identity.forget()
        return identity.network(training(model="own"))

    first = described(1, HELP)
    assert identity.difference(first, described(2, HELP.replace("UNUSED = 0", "UNUSED = 1"))) is None
    why = identity.difference(first, described(3, HELP.replace("-0.0", "-0.3")))
    assert why == "another code or value of later"


def test_what_passes_count_in_a_notebook_is_no_part_of_a_network(monkeypatch):
    """Its module has no file: of constants there are the values, of which a count is another one each time."""
    notebook = types.ModuleType("notebook_of_ours")
    monkeypatch.setitem(sys.modules, "notebook_of_ours", notebook)
    cell = COOLED.replace("import help_of_ours", "COUNT, SCALE = 0, 2.0").replace(
        "        self.count += self.training\n", "        global COUNT\n        COUNT += 1\n        noted(x)\n"
    )
    cell = cell.replace("help_of_ours.schedule.at(self.count)", "SCALE") + "def noted(x):\n    return COUNT\n"
    linecache.cache["<cell>"] = len(cell), None, cell.splitlines(True), "<cell>"
    exec(compile(cell, "<cell>", "exec"), vars(notebook))
    models.register("own", notebook.cooled)
    found = []
    for _ in range(2):
        identity.forget()
        found.append(identity.network(training(model="own")))
    assert identity.difference(*found) is None and notebook.COUNT > 0
    assert "SCALE" in found[0]["behind"] and "COUNT" not in found[0]["behind"]


def test_code_of_a_recipe_class_in_a_notebook(monkeypatch):
    """Cells have a source and their module has none."""

    def cells(rate, cut):
        notebook = types.ModuleType("notebook_of_ours")
        monkeypatch.setitem(sys.modules, "notebook_of_ours", notebook)
        texts = [f"RATE = {rate}\ncut = lambda x: x > RATE", f"def kept(x):\n    return {cut}\n"]
        texts += ["from lottery import recipes\n@recipes.frozen\nclass CutInCells(recipes.Mask):\n    share = 3\n\n"]
        texts[-1] += "    def tensors(self, world, training):\n        return kept(self.share)\n"
        for number, text in enumerate(texts):
            linecache.cache[f"<cell {number}>"] = len(text), None, text.splitlines(True), f"<cell {number}>"
            exec(compile(text, f"<cell {number}>", "exec"), vars(notebook))
        identity.forget()
        return identity.own_parts(r.Run(training(), r.Initial(0), notebook.CutInCells()).json())

    one, other, third = cells(0.5, "cut(x)"), cells(0.25, "cut(x)"), cells(0.5, "not cut(x)")
    assert sorted(one) == ["CutInCells", "RATE", "cut", "kept"] and one == cells(0.5, "cut(x)")
    assert {name for name in one if one[name] != other[name]} == {"RATE"}
    assert {name for name in one if one[name] != third[name]} == {"kept"}


def said_after_waiting(study, store, theirs, monkeypatch):
    """What a study says that waits for the lock of its first record, into whose place another store's comes."""
    [first, *_], raised, waits, lock = study, [], threading.Event(), Store.lock
    record, state = theirs.read(first.key), theirs.state(first.key, 20)

    def go():
        with pytest.raises(ExecutionError) as error:
            run(study, store)
        raised.append(str(error.value))

    with store.lock(first.key):
        monkeypatch.setattr(Store, "lock", lambda *given: waits.set() or lock(*given))
        study_of_ours = threading.Thread(target=go)
        study_of_ours.start()
        assert waits.wait(60)
        store.save(record.key, record.recipe, record.values, record.arrays, record.made, {20: state})
    study_of_ours.join(60)
    return raised[0]


def test_a_record_that_another_network_leaves_while_a_study_waits_for_it_is_refused(store, tmp_path, monkeypatch):
    chain = tickets.imp(training(model="own"), 0, 1, 0.5)
    theirs = Store(tmp_path / "theirs")
    register()
    [record] = run(chain[:1], theirs)
    register(scale=3.0)
    said = said_after_waiting(chain, store, theirs, monkeypatch)
    assert "another network that had the name 'own' (other outputs, initial weights" in said
    assert store.keys() == [record.key]  # no ticket with a mask from the other network
    register()
    assert [found.key for found in run(chain, store)] == [one.key for one in chain]


def test_a_record_that_other_code_of_a_recipe_class_leaves_meanwhile_is_refused(store, tmp_path, monkeypatch):
    theirs = Store(tmp_path / "theirs")
    run(cut_by_us(0.5, tmp_path, monkeypatch), theirs)
    said = said_after_waiting(cut_by_us(0.91, tmp_path, monkeypatch), store, theirs, monkeypatch)
    assert "other code of a recipe class of yours" in said


def test_a_record_that_came_past_all_locks_is_compared_at_the_end(store, tmp_path, monkeypatch):
    register()
    snip = AtStart(training(model="own"), r.Initial(0), 0.5, "snip", 50)
    [record] = run([snip], Store(tmp_path / "theirs"))
    register(scale=3.0)
    save = Store.save

    def late(self, key, *given):  # as after an import, while it was computed here
        save(self, record.key, record.recipe, record.values, record.arrays, record.made)
        save(self, key, *given)

    monkeypatch.setattr(Store, "save", late)
    with pytest.raises(ExecutionError, match="another network that had the name 'own'"):
        run([snip], store)


def test_a_recipe_class_with_the_name_of_another_module_s_is_refused(tmp_path):
    with pytest.raises(r.RecipeError, match=r"named Noisy, of lottery\.recipes and .*test_identity"):

        @r.frozen
        class Noisy(r.Weights):
            weights: r.Weights

    with pytest.raises(r.RecipeError, match="named Shuffled") as kept:

        @r.frozen
        class Shuffled(r.Pruned):  # inherits the fields of a recipe
            pass

    found = identity.known_recipes()
    assert kept.value and r.Noisy is found["Noisy"] and r.Shuffled is found["Shuffled"]
    script = tmp_path / "script.py"  # a name of a module that nobody has imported yet
    script.write_text(
        "from lottery import recipes, tickets\nfrom lottery.engine import execute, store\n"
        "class Early(recipes.Mask):\n    run: recipes.Run\n    step: int\n"
        "Early = recipes.frozen(Early)\nassert recipes.frozen(type('Ours', (recipes.Mask,), {}))\n"
        "t = recipes.Training('digits', 'lenet-8', 2, 50, 'adam', 1e-3, validation=200)\n"
        "run = recipes.Run(t, recipes.Initial(0), Early(tickets.dense(t, 0), 1))\n"
        f"execute.execute([run], store.Store({str(tmp_path / 'store')!r}), executor='inline', show=False)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert "RecipeError: two recipe classes are named Early, of __main__ and lottery.controls" in done.stderr


def test_a_recipe_class_that_is_defined_or_imported_again_is_the_same(tmp_path, monkeypatch):
    text = "from lottery import recipes\n@recipes.frozen\nclass SeenTwice(recipes.Mask):\n    a: int = 0\n"
    (tmp_path / "seen.py").write_text(text)
    found = []
    for name in ("seen", "seen", "__mp_main__"):
        spec = importlib.util.spec_from_file_location(name, tmp_path / "seen.py")
        monkeypatch.setitem(sys.modules, name, importlib.util.module_from_spec(spec))
        spec.loader.exec_module(sys.modules[name])
        found.append(sys.modules[name].SeenTwice(1).key)
    assert len(set(found)) == 1


def test_another_source_is_another_network_and_another_comment_is_not():
    one = 'class Net:\n    """A."""\n\n    def forward(self, x):\n        return x  # as it is\n'
    assert identity.normal(one) == identity.normal("class Net:\n  def forward(self, x): return x\n")
    assert identity.normal(one) != identity.normal(one.replace("return x", "return x + 0"))
    found = identity.network(training())
    assert identity.difference(found | {"source": "a"}, found | {"source": "b"}) == "another source"
    assert identity.difference(found | {"source": "a"}, found) is None


def test_a_lambda_is_the_same_network_whatever_statement_it_stands_in():
    found = []
    models.register("own", lambda shape, classes: Net(classes))
    found.append(identity.network(training(model="own")))
    for _ in range(1):
        models.register("own", lambda shape, classes: Net(classes)), found.copy()
    found.append(identity.network(training(model="own")))
    models.register("own", lambda shape, classes: Net(classes, width=9))
    found.append(identity.network(training(model="own")))
    assert found[0] == found[1] and found[0]["source"] != found[2]["source"]


def test_numbers_of_another_machine_are_those_of_the_same_network():
    found = identity.network(training())
    rounded = found | {"probe": [number * (1 + 1e-5) for number in found["probe"]]}
    assert identity.difference(found, rounded) is None
    assert identity.difference(found, found | {"probe": [number * 1.01 for number in found["probe"]]})


def test_a_checkpoint_of_another_network_is_not_gone_on_from(store, monkeypatch):
    from lottery.engine import stopping

    monkeypatch.setenv("LOTTERY_SETTINGS", '{"checkpoint_seconds": 0}')
    register()
    dense = tickets.dense(training(model="own", steps=300), 0)
    steps = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "due", lambda deadline=None: next(steps) > 250)
        with pytest.raises(stopping.OutOfTime):
            run([dense], store)
    register(activation=torch.tanh)
    with pytest.raises(ExecutionError, match=r"the checkpoint .* was computed with another network .* 'own'"):
        run([dense], store)
    register()
    assert run([dense], store)[0].key == dense.key


def test_a_network_that_comes_out_otherwise_each_time_is_refused_before_anything_is_computed(store):
    stream = torch.Generator().manual_seed(0)

    def factory(shape, classes):
        net = Net(classes)
        nn.init.normal_(net.first.weight, generator=stream)
        return net

    models.register("own", factory)
    with pytest.raises(r.LotteryError, match="torch's default generator alone"):
        run([tickets.dense(training(model="own"), 0)], store)
    assert store.keys() == []


def test_older_records_without_a_fingerprint_are_read(store):
    register()
    dense = tickets.dense(training(model="own"), 0)
    [record] = run([dense], store)
    older = Store(store.root.parent / "older")
    made = {name: value for name, value in record.made.items() if name not in ("network", "code")}
    older.save(record.key, record.recipe, record.values, record.arrays, made, {20: store.state(record.key, 20)})
    register(activation=torch.tanh)
    assert run([dense], older)[0].made == made
    assert changed_code(older) == []


# Code.


def test_records_tell_which_code_computed_them(store, monkeypatch):
    dense, ticket = run(tickets.imp(training(), 0, 1, 0.5), store)
    mask = store.read(tickets.imp(training(), 0, 1, 0.5)[1].mask.key)
    assert dense.made["code"] == identity.code(dense.recipe) != mask.made["code"] == identity.code(mask.recipe)
    assert changed_code(store) == []
    source = identity.module_source

    def altered(name):
        text, imported = source(name)
        return (f"{text} + 0" if name == "lottery.engine.train" else text), imported

    monkeypatch.setattr(identity, "module_source", altered)
    identity.forget()
    assert {record.key for record in changed_code(store)} == {dense.key, ticket.key}
    monkeypatch.undo()
    identity.forget()


def test_code_is_that_of_all_modules_which_compute():
    run_ = tickets.dense(training(), 0)
    found = identity.modules(run_.json())
    assert {"lottery.recipes", "lottery.masks", "lottery.engine.train", "lottery.engine.digest"} <= found
    assert not {"lottery", "lottery.engine.store", "lottery.engine.execute", "lottery.curvature"} & found
    adaptive = tickets.adaptive_imp(training(), 0, 1, 0.5)[1]
    assert "lottery.curvature" in identity.modules(adaptive.mask.json()) - identity.modules(run_.json())


def test_rebuilt_records_are_compared_bit_for_bit(store, tmp_path):
    chain = tickets.imp(training(), 0, 1, 0.5)
    records = run(chain, store)
    again = rebuild(store, sample=10)
    assert {(one.key, one.differs, one.failed) for one in again} == {(key, (), None) for key in store.keys()}
    assert list(rebuild(store, sample=1)) == list(rebuild(store, sample=1))
    other = Store(tmp_path / "other")
    wrong = records[0].arrays | {"history/test_loss": records[0].arrays["history/test_loss"] + 1e-9}
    values = records[0].values | {"early_stop_step": 3}
    other.save(records[0].key, records[0].recipe, values, wrong, records[0].made)
    [one] = rebuild(other)
    assert (one.type, one.differs) == ("Run", ("early_stop_step", "history/test_loss"))


def test_a_recipe_is_made_again_from_its_record(store):
    chain = tickets.imp(training(), 0, 2, {"fc": 0.5, "output": 0.25}, rewind_step=10)
    run(chain, store)
    for recipe in (*chain, chain[2].mask):
        assert recipe_of(recipe.key, store) == recipe
    lonely = Store(store.root.parent / "lonely")
    record = store.read(chain[2].key)
    lonely.save(record.key, record.recipe, record.values, record.arrays, record.made)
    [one] = rebuild(lonely)
    assert "there is no record" in one.failed
    with pytest.raises(ExecutionError, match="there is no record 0123456789ab"):
        recipe_of("0123456789ab" + 52 * "0", lonely)
