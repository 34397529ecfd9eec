"""Models as other people write them: they come back as they were, and their values are the model's own."""

from __future__ import annotations

import functools
import random
import threading
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import preimage
from preimage import HOG, LBP, BagOfWords, DenseSIFT, Layer, PixelSpace, Vocabulary, from_callable, layers
from preimage.errors import InputError
from preimage.representations.filters import FilterBank
from preimage.representations.template import HOGTemplate

SPACE = PixelSpace(16, "rgb", scale=1.0, mean=0.5, std=0.25)
IMAGE = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 50
FEW = {"iterations": 4, "progress": False}


class Adapter(nn.Conv2d):
    """A convolution whose adapter is merged into its weights by eval() and taken out again by train()."""

    def __init__(self):
        super().__init__(3, 4, 3)
        self.adapter = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            self.weight.data = self.weight.data + (-1 if self.merged else 1) * self.adapter.data
            self.merged = not mode
        return self

    def forward(self, x):
        return F.conv2d(x, self.weight if self.merged else self.weight + self.adapter, self.bias)


class Frozen(nn.BatchNorm2d):
    """Stays in eval mode whatever is asked for."""

    def train(self, mode=True):
        return super().train(False)


def adapted(first_mode=True):
    torch.manual_seed(0)
    model = nn.Sequential(Adapter(), Frozen(4), nn.Dropout(0.5), nn.Sequential(Adapter2(), nn.ReLU())).train()
    model[0].train(first_mode)
    return model


class Adapter2(Adapter):
    def __init__(self):
        super().__init__()

    def forward(self, x):
        return super().forward(x[:, :3])


def facts(model):
    return (
        [m.training for m in model.modules()],
        [m.merged for m in model.modules() if isinstance(m, Adapter)],
        [p.requires_grad for p in model.parameters()],
        [v.clone() for v in model.state_dict().values()],
    )


USES = {
    "layers": lambda model: layers(model, SPACE),
    "a layer's call": lambda model: Layer(model, "3.0", space=SPACE)(X),
    "from_callable": lambda model: from_callable(model, SPACE)(X),
    "invert": lambda model: preimage.invert(Layer(model, "0", space=SPACE), IMAGE, **FEW),
    "invert in float64": lambda model: preimage.invert(Layer(model, "0", space=SPACE), IMAGE, dtype=torch.float64, **FEW),
    "invert a function": lambda model: preimage.invert(from_callable(model, SPACE), IMAGE, dtype=torch.float64, **FEW),
    "maximize": lambda model: preimage.maximize(Layer(model, "0", space=SPACE), 1, Z=1.0, **FEW),
    "caricature": lambda model: preimage.caricature(Layer(model, "0", space=SPACE), IMAGE, **FEW),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("first_mode", [True, False])
def test_a_model_that_acts_on_train_and_eval_comes_back_to_the_last_bit(use, first_mode):
    model = adapted(first_mode)
    before = facts(model)
    USES[use](model)
    after = facts(model)
    assert before[:3] == after[:3]
    assert all(torch.equal(a, b) for a, b in zip(before[3], after[3], strict=True))


def test_a_module_that_keeps_what_its_own_train_does_is_left_alone():
    class Counting(nn.Conv2d):
        calls = 0

        def train(self, mode=True):
            self.calls += 1
            return super().train(mode)

    model = nn.Sequential(Counting(3, 2, 3), nn.ReLU()).eval()
    calls = model[0].calls
    Layer(model, "1", space=SPACE)(X)
    assert model[0].calls == calls  # it was in eval mode already


MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))


class Holder:
    def __init__(self, model):
        self.model = model

    def __call__(self, x):
        return self.model(x)

    def method(self, x):
        return self.model(x)


FUNCTIONS = {
    "a bound method": lambda model: model.forward,
    "a variable from outside": lambda model: lambda x: model(x),
    "a module's variable": lambda model: lambda x: MODEL(x),
    "several": lambda model: lambda x: torch.stack([model(x), MODEL(F.pad(x, (-1, -1, -1, -1)))], 1).mean(1),
    "a partial function": lambda model: functools.partial(lambda net, x: net(x), model),
    "an object": Holder,
    "an object's method": lambda model: Holder(model).method,
}


@pytest.mark.parametrize("how", FUNCTIONS)
def test_modules_that_a_function_uses_come_back_as_they_were_and_see_one_image_at_a_time(how):
    model = small_net().train()
    MODEL.train()
    before = [v.clone() for m in (model, MODEL) for v in m.state_dict().values()]
    phi = from_callable(FUNCTIONS[how](model), SPACE)
    torch.testing.assert_close(phi(X)[1:], phi(X[1:]))  # as with BatchNorm's own statistics
    preimage.invert(phi, IMAGE, **FEW)
    after = [v for m in (model, MODEL) for v in m.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(m.training for net in (model, MODEL) for m in net.modules())
    assert all(p.requires_grad for p in model.parameters())


# --- hooks


class Opened:
    def __init__(self):
        self.open, self.closed = 0, 0

    def attach(self, module):
        pre = module.register_forward_pre_hook(self.enter)
        return [pre, module.register_forward_hook(self.leave, always_call=True)]

    def enter(self, module, args):
        self.open += 1

    def leave(self, module, args, output):
        self.closed += 1


class Deep(nn.Module):
    """Catches what goes wrong inside."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))

    def forward(self, x):
        try:
            return self.inner(x).mul_(2.0)
        except Exception:
            return torch.full((len(x), 4, 1, 1), float("nan"))


def test_hooks_that_are_always_called_run_in_every_pass_and_change_no_value():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(Deep(), nn.ReLU()), nn.Conv2d(4, 2, 1))
    plain = Layer(model, "0.0.inner.0", space=SPACE)(X)
    counts = Opened()
    handles = [h for m in (model, model[0], model[0][0]) for h in counts.attach(m)]
    phi = Layer(model, "0.0.inner.0", space=SPACE)
    for h in handles:
        assert h is not None
    torch.testing.assert_close(phi(X), plain, rtol=0, atol=0)
    with phi.session():
        phi(X)
        torch.testing.assert_close(phi(X), plain, rtol=0, atol=0)
    assert counts.open == counts.closed > 9


def test_global_hooks_that_are_always_called_run_too():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Conv2d(4, 2, 1))
    phi = Layer(model, "0.0", space=SPACE)
    seen = []
    pre = nn.modules.module.register_module_forward_pre_hook(lambda m, args: seen.append(("in", type(m).__name__)))
    post = nn.modules.module.register_module_forward_hook(lambda m, args, out: seen.append(("out", type(m).__name__)), always_call=True)
    try:
        phi(X)
    finally:
        pre.remove()
        post.remove()
    assert sorted(n for k, n in seen if k == "in") == sorted(n for k, n in seen if k == "out")
    assert len(seen) == 6


# --- ReLUs in place


WAYS = {
    "module": lambda x: nn.ReLU(inplace=True)(x),
    "keyword": lambda x: F.relu(input=x, inplace=True),
    "position": lambda x: F.relu(x, True),
    "method": lambda x: x.relu_(),
    "function": lambda x: torch.relu_(x),
    "slice": lambda x: x[:, :2].relu_(),
    "not in place": lambda x: torch.relu(input=x),
    "self": lambda x: torch.Tensor.relu(x),
}


class Skip(nn.Module):
    """A ReLU in place whose effect another branch reads, in every way of writing it."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.way = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), way
        self.end = nn.Identity()

    def forward(self, x):
        y = self.a(x)
        WAYS[self.way](y)  # the result is discarded
        return self.end(self.b(y) + y)


@pytest.mark.parametrize("way", WAYS)
def test_an_opened_network_has_its_own_values_where_relus_write_into_what_others_read(way):
    phi = Layer(Skip(way), "end", space=SPACE)
    expected = phi(X)
    x = X.clone().requires_grad_()
    with phi.opened(0.05):
        features = phi(x)
        torch.testing.assert_close(features, expected, rtol=0, atol=0)
        (opened,) = torch.autograd.grad(features.sum(), x)
    (closed,) = torch.autograd.grad(phi(x).sum(), x)
    assert torch.equal(opened, closed) == (way in ("not in place", "self"))  # their results are discarded, so nothing was closed


@pytest.mark.parametrize("way", WAYS)
def test_a_leak_acts_where_relus_write_into_what_others_read(way):
    model = Skip(way)
    leaked = Layer(model, "end", space=SPACE, leak=0.25)(X)
    with torch.no_grad():
        y = model.a(SPACE.to_network(X))
        if way == "slice":
            y = torch.cat([F.leaky_relu(y[:, :2], 0.25), y[:, 2:]], dim=1)
        elif way not in ("not in place", "self"):
            y = F.leaky_relu(y, 0.25)
        torch.testing.assert_close(leaked, model.b(y) + y)


# --- threads


def in_threads(*jobs):
    errors = []

    def run(job):
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not any(t.is_alive() for t in threads)
    return errors


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 4, 3))


def test_two_threads_with_one_model_find_what_one_finds_and_leave_it_as_it_was():
    model = small_net().train()
    names = ["1", "2", "4"]
    before = [v.clone() for v in model.state_dict().values()]
    alone = {n: preimage.invert(Layer(model, n, space=SPACE), IMAGE, **FEW).images for n in names}
    shared = Layer(model, "4", space=SPACE)
    found = {}

    def job(n):
        found[n] = preimage.invert(shared if n == "4" else Layer(model, n, space=SPACE), IMAGE, **FEW).images

    def again():
        found["shared"] = preimage.invert(shared, IMAGE, **FEW).images

    assert in_threads(*[lambda n=n: job(n) for n in names], again, lambda: layers(model, SPACE)) == []
    assert all(torch.equal(found[n], alone[n]) for n in names) and torch.equal(found["shared"], alone["4"])
    assert all(m.training for m in model.modules()) and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))


def test_a_pass_of_the_model_in_another_thread_is_the_user_s_own():
    model = small_net().eval()
    phi = Layer(model, "1", space=SPACE)
    expected = model(X)
    got = []
    with phi.session():
        phi(X)
        phi._running = threading.get_ident()  # as in the middle of a pass
        assert in_threads(lambda: got.append(model(X))) == []
        phi._running = None
    assert torch.equal(got[0], expected)


def test_another_thread_waits_for_the_end_of_a_session_and_of_one_of_a_part():
    model = nn.Sequential(small_net(), nn.ReLU())
    whole, part = Layer(model, "1", space=SPACE), Layer(model[0], "1", space=SPACE)
    order = []
    inside = threading.Event()

    def second():
        inside.wait(60)
        part(X)
        order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with whole.session():
        inside.set()
        thread.join(0.2)
        assert thread.is_alive()
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


def test_threads_that_would_wait_for_each_other_for_ever_are_refused_in_words():
    a, b = (Layer(small_net(), "1", space=SPACE) for _ in range(2))
    barrier = threading.Barrier(2, timeout=60)

    def crossed(one, other):
        with one.session():
            barrier.wait()
            other(X)

    errors = in_threads(lambda: crossed(a, b), lambda: crossed(b, a))
    assert len(errors) == 1 and "wait for each other" in str(errors[0])
    a(X), b(X)


def test_a_session_inside_another_of_the_same_thread_does_not_wait():
    model = small_net()
    a, b = Layer(model, "1", space=SPACE), Layer(model, "2", space=SPACE)
    with a.session(), b.session(), a.session(dtype=torch.float64):
        assert a(X.double()).dtype == torch.float64
    assert next(model.parameters()).dtype == torch.float32


# --- random numbers


class Noisy(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.conv, self.kind, self.end = nn.Conv2d(3, 4, 3), kind, nn.Identity()

    def forward(self, x):
        y = self.conv(x)
        if self.kind == "torch":
            y = F.dropout(y, 0.5, training=True)
        elif self.kind == "numpy":
            y = y * float(np.random.rand())
        elif self.kind == "python":
            y = y * random.random()
        return self.end(y)


@pytest.mark.parametrize("kind", ["torch", "numpy", "python"])
@pytest.mark.parametrize("function", [False, True])
def test_a_network_that_draws_random_numbers_gives_the_same_image_twice_and_leaves_the_generators_alone(kind, function):
    torch.manual_seed(0)
    model = Noisy(kind)
    phi = from_callable(model, SPACE) if function else Layer(model, "end", space=SPACE)
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    first = preimage.invert(phi, IMAGE, **FEW)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (str(np.random.get_state()), random.getstate()) == states[1:]
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    assert torch.equal(preimage.invert(phi, IMAGE, **FEW).images, first.images)
    assert torch.equal(phi(X), phi(X))


@pytest.mark.parametrize("function", [False, True])
def test_a_network_with_a_generator_of_its_own_is_warned_of_as_no_seed_reaches_it(function):
    class Own(Noisy):
        def forward(self, x):
            y = self.conv(x)
            return self.end(y * torch.rand(y.shape, generator=self.kind))

    model = Own(torch.Generator().manual_seed(0))
    phi = from_callable(model, SPACE) if function else Layer(model, "end", space=SPACE)
    for task in (preimage.invert, preimage.caricature, functools.partial(preimage.maximize, Z=1.0)):
        with warnings.catch_warnings(record=True) as told:  # with some weights the noise makes an energy rise, and there are two
            warnings.simplefilter("always")
            task(phi, 1 if isinstance(task, functools.partial) else IMAGE, **FEW)
        assert any("generator of its own" in str(w.message) for w in told)


def test_a_network_that_draws_nothing_is_seeded_in_no_pass_but_the_first():
    phi = Layer(small_net(), "4", space=SPACE)
    with phi.session():
        phi(X)
        assert phi._draws.none
    drawing = Layer(Noisy("torch"), "end", space=SPACE)
    with drawing.session():
        drawing(X)
        assert not drawing._draws.none


# --- torch's global state


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def no_gradients():
    torch.set_grad_enabled(False)
    try:
        yield
    finally:
        torch.set_grad_enabled(True)


STATES = {
    "float64 by default": default_dtype,
    "a default device": default_device,
    "a device around": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "gradients off": no_gradients,
    "inference mode": torch.inference_mode,
}
TASKS = {
    "invert": lambda phi: preimage.invert(phi, IMAGE, **FEW),
    "maximize": lambda phi: preimage.maximize(phi, [1, 2], canvas=16, **FEW),
    "caricature": lambda phi: preimage.caricature(phi, IMAGE, **FEW),
}


@pytest.fixture(scope="module")
def expected():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {t: task(Layer(small_net(), "4", space=SPACE)).images for t, task in TASKS.items()}


@pytest.mark.filterwarnings("ignore::preimage.PreimageWarning")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("state", STATES)
def test_nothing_set_around_a_task_changes_a_bit_of_it(state, task, expected):
    model = small_net()
    phi = Layer(model, "4", space=SPACE)
    with STATES[state]():
        result = TASKS[task](phi)
        left = torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()
    with STATES[state]():
        assert left == (
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled(),
        )  # fmt: skip
    assert torch.equal(result.images.clone(), expected[task]) and result.images.dtype == torch.float32


@pytest.mark.parametrize("state", [s for s in STATES if s != "float64 by default"])
def test_a_layer_is_made_and_listed_whatever_is_set_around(state):
    model = small_net()
    with STATES[state]():
        assert Layer(model, "4", space=SPACE).shape == (4, 12, 12)
        assert len(layers(model, SPACE)) == 5


# --- a representation inside a function


def test_layers_inside_a_function_of_network_pixels_are_refused_and_inside_one_of_canonical_images_right():
    model = small_net()
    a, b = Layer(model, "0", space=SPACE), Layer(model, "4", space=SPACE)

    def both(x):
        return torch.cat([a(x).flatten(1), b(x).flatten(1)], dim=1)

    with pytest.raises(InputError, match=r"takes canonical images .* canonical=True"):
        preimage.invert(from_callable(both, SPACE), IMAGE, **FEW)
    phi = from_callable(both, SPACE, canonical=True, name="two layers")
    torch.testing.assert_close(phi(X), both(X), rtol=0, atol=0)
    result = preimage.invert(phi, IMAGE, iterations=30, progress=False)
    x = SPACE.encode(IMAGE)
    found = result.images - SPACE.mean_colour
    error = (both(found) - both(x)).norm() / both(x).norm()
    torch.testing.assert_close(error, result.error[0], rtol=1e-3, atol=1e-4)


def test_a_layer_inside_the_module_of_another_is_refused_as_it_would_get_network_pixels():
    a = Layer(small_net(), "0", space=SPACE)

    class Calls(nn.Module):
        def forward(self, x):
            return a(x)

    with pytest.raises(InputError, match=r"is shown network pixels, calls 0, a representation, .* canonical=True"):
        Layer(nn.Sequential(Calls(), nn.ReLU()), "1", space=SPACE)(X)
    with pytest.raises(InputError, match=r"Calls, which is shown network pixels"):
        from_callable(Calls(), SPACE)(X)


def test_a_layer_of_another_mean_inside_a_function_is_refused():
    a = Layer(small_net(), "0", space=PixelSpace(16, "rgb", scale=1.0, mean=0.25, std=0.25))
    with pytest.raises(InputError, match="another mean colour"):
        from_callable(lambda x: a(x), SPACE, canonical=True)(X)
    grey = PixelSpace(16, "rgb", mean=127.5)
    same = Layer(small_net(), "0", space=SPACE)
    assert from_callable(lambda x: same(x), grey)(X).shape == (2, 4, 14, 14)  # these pixels are canonical ones


DESCRIPTORS = {
    "hog": lambda: HOG(cell=4),
    "hog of the paper": lambda: HOG(cell=4, border="paper"),
    "dsift": lambda: DenseSIFT(2),
    "lbp": lambda: LBP(cell=4),
    "words": lambda: BagOfWords(Vocabulary("kmeans", torch.eye(3, 128)), grids=(1,)),
    "template": lambda: HOGTemplate(torch.ones(27, 2, 2)),
    "filters": lambda: FilterBank(PixelSpace(None, "grey", mean=117.0), surrounds=(1.0,), waves=(4.0,), directions=1),
}


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_descriptor_inside_a_function_of_network_pixels_is_refused_and_of_canonical_images_right(name):
    phi, x = DESCRIPTORS[name](), 40 * torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    mean = phi.space.canonical_mean[0]
    network = PixelSpace(32, "grey", scale=1.0, mean=mean / 255, std=0.25)
    with pytest.raises(InputError, match=r"is shown network pixels, calls .* canonical=True"):
        from_callable(lambda x: phi(x), network)(x)
    assert torch.equal(from_callable(lambda x: phi(x), network, canonical=True)(x), phi(x))
    other = from_callable(lambda x: phi(x), PixelSpace(32, "grey", scale=1.0, mean=0.75 * mean / 255 + 0.1), canonical=True)
    if name in ("hog of the paper", "lbp", "filters"):  # the ground around the image has a level, or the level is a feature
        with pytest.raises(InputError, match="another mean colour"):
            other(x)
    else:  # of differences alone, whatever the mean
        assert torch.equal(other(x), phi(x))


# --- what has no derivative


class Cut(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.conv, self.way, self.end = nn.Conv2d(3, 4, 3), way, nn.Identity()

    def forward(self, x):
        y = self.conv(x)
        if self.way == "detach":
            y = y.detach()
        elif self.way == "no_grad":
            with torch.no_grad():
                y = y * 2
        elif self.way == "numpy":
            y = torch.from_numpy(y.detach().numpy() * 2)
        elif self.way == "round":
            y = (y > 0).float()
        return self.end(y)


@pytest.mark.parametrize("way", ["detach", "no_grad", "numpy", "round"])
@pytest.mark.parametrize("function", [False, True])
def test_a_network_that_cuts_the_way_back_to_the_image_is_refused_by_name(way, function):
    model = Cut(way)
    phi = from_callable(model, SPACE, name="end") if function else Layer(model, "end", space=SPACE)
    with pytest.raises(InputError, match=r"features of .*end.* have no derivative in the image"):
        preimage.invert(phi, IMAGE, **FEW)
    phi(X)  # values can be looked at


WRITES = {
    "out=": lambda y: torch.clamp(y, min=0, out=y),
    "a part in place": lambda y: y.chunk(2, 1)[0].relu_(),
}


@pytest.mark.parametrize("way", WRITES)
@pytest.mark.parametrize("task", ["invert", "caricature", "maximize"])
def test_what_autograd_cannot_follow_is_refused_by_the_layer_s_name(way, task):
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.end = nn.Conv2d(3, 4, 3), nn.Identity()

        def forward(self, x):
            y = 1 * self.conv(x)
            WRITES[way](y)
            return self.end(y)

    phi = Layer(Writes(), "end", space=SPACE)
    phi(X)
    with pytest.raises(InputError, match=r"Layer\('end'.* has no derivative in the image that can be taken .* out="):
        getattr(preimage, task)(phi, 1 if task == "maximize" else IMAGE, **({"Z": 1.0} if task == "maximize" else {}), **FEW)


@pytest.mark.parametrize("wrong", [torch.complex64, torch.int64, torch.bool])
def test_features_that_are_no_real_numbers_are_refused_with_their_type(wrong):
    with pytest.raises(InputError, match=str(wrong)):
        preimage.invert(from_callable(lambda x: x.mean(dim=(2, 3)).to(wrong), SPACE), IMAGE, **FEW)


def test_a_function_that_cannot_take_the_space_s_channels_is_refused_in_words():
    with pytest.raises(InputError, match="cannot take a canvas of 16x16 pixels and 1 channels"):
        preimage.invert(from_callable(nn.Conv2d(3, 4, 3), PixelSpace(16, "grey")), IMAGE, **FEW)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_reentrant_checkpoint_and_a_way_that_leads_elsewhere_are_refused_by_name():
    from torch.utils.checkpoint import checkpoint

    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.end = nn.Conv2d(3, 4, 3), nn.Identity()

        def forward(self, x):
            return self.end(checkpoint(self.conv, x, use_reentrant=True))

    with pytest.raises(InputError, match=r"Layer\('end'.* no derivative .* Take out"):
        preimage.invert(Layer(Saving(), "end", space=SPACE), IMAGE, **FEW)
    weight = torch.ones(3, requires_grad=True)
    with pytest.raises(InputError, match=r"elsewhere.* no derivative .* Take out"):
        preimage.invert(from_callable(lambda x: x.detach().mean(dim=(2, 3)) * weight, SPACE, name="elsewhere"), IMAGE, **FEW)
