"""MatConvNet files as its tools write them, in each form and version, and a plain numpy evaluation of what they mean."""

from __future__ import annotations

import h5py
import numpy as np
import scipy.io


def network(rng, form="new"):
    """Layers of every kind, with groups, uneven padding and strides, as a list of dictionaries; the numbers are random."""

    def conv(name, h, w, inputs, outputs, **more):
        filters = rng.normal(size=(h, w, inputs, outputs)).astype(np.float32)
        biases = rng.normal(size=(1, outputs)).astype(np.float32)
        weights = {"filters": filters, "biases": biases} if form == "old" else {"weights": [filters, biases]}
        return {"type": "conv", "name": name, **weights, **more}

    layers = [
        conv("conv1", 3, 2, 3, 6, pad=[0, 1, 2, 0], stride=[2, 1]),
        {"type": "relu", "name": "relu1", **({} if form == "old" else {"leak": 0.1})},
        {"type": "normalize" if form == "old" else "lrn", "name": "norm1", "param": [5, 2, 0.05, 0.75]},
        {"type": "pool", "name": "pool1", "method": "max", "pool": [3, 3], "stride": [2, 2], "pad": [0, 1, 0, 1]},
        conv("conv2", 3, 3, 3, 4, pad=1.0, stride=1.0),
        {"type": "sigmoid", "name": "relu2"},
        {"type": "normalize", "name": "norm2", "param": [4, 1, 0.5, 0.5]},
        {"type": "pool", "name": "pool2", "method": "avg", "pool": 2.0, "stride": 2.0, "pad": [1, 1, 0, 1]},
        {"type": "dropout", "name": "drop", "rate": 0.5},
        {"type": "pool", "name": "pool3", "method": "max", "pool": [2, 3], "stride": [1, 1], "pad": [1, 0, 2, 1]},
        {"type": "softmax", "name": "inner"},
        conv("fc", 2, 4, 4, 5),
        {"type": "softmaxloss" if form == "old" else "softmax", "name": "prob"},
    ]
    if form == "new":
        moments = np.stack([rng.normal(size=4), rng.uniform(0.5, 2, size=4)], axis=1)
        normal = [rng.normal(size=(4, 1)), rng.normal(size=(4, 1)), moments]
        layers.insert(5, {"type": "bnorm", "name": "bn2", "weights": normal})
    meta = {
        "normalization": {"imageSize": [12.0, 10.0, 3.0], "averageImage": rng.uniform(90, 130, size=(12, 10, 3)).astype(np.float32)},
        "classes": {"name": [f"n{k}" for k in range(5)], "description": ["kit fox", "black swan, Cygnus", "goose", "tench", "ant"]},
    }
    return {"layers": layers, **meta} if form == "old" else {"layers": layers, "meta": meta}


def save_v5(path, net, **options):
    scipy.io.savemat(path, {k: _v5(v) for k, v in net.items()}, **options)


def _v5(value):
    if isinstance(value, dict):
        return {k: _v5(v) for k, v in value.items()}
    if isinstance(value, list) and value and all(isinstance(v, (int, float)) for v in value):
        return np.array(value, dtype=float).reshape(1, -1)
    if isinstance(value, list):
        cells = np.empty((1, len(value)), dtype=object)
        for k, v in enumerate(value):
            cells[0, k] = _v5(v)
        return cells
    return value


def save_v73(path, net):
    """HDF5 as MATLAB writes it with -v7.3: dimensions reversed, cells as references into #refs#, text as codes of letters."""
    with h5py.File(path, "w", userblock_size=512) as file:
        counter = iter(range(10**6))
        file.create_group("#refs#")
        for name, value in net.items():
            _v73(file, file, name, value, counter)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def _v73(file, group, name, value, counter):
    if isinstance(value, dict):
        node = group.create_group(name)
        node.attrs["MATLAB_class"] = np.bytes_("struct")
        for k, v in value.items():
            _v73(file, node, k, v, counter)
    elif isinstance(value, str):
        node = group.create_dataset(name, data=np.array([[ord(c)] for c in value], dtype=np.uint16))
        node.attrs["MATLAB_class"] = np.bytes_("char")
    elif isinstance(value, list) and not all(isinstance(v, (int, float)) for v in value):
        names = [f"r{next(counter)}" for _ in value]
        for n, v in zip(names, value, strict=True):
            _v73(file, file["#refs#"], n, v, counter)
        references = np.array([[file["#refs#"][n].ref] for n in names], dtype=h5py.ref_dtype)
        node = group.create_dataset(name, data=references, dtype=h5py.ref_dtype)
        node.attrs["MATLAB_class"] = np.bytes_("cell")
    else:
        array = np.atleast_2d(np.asarray(value, dtype=None if isinstance(value, np.ndarray) else float))
        node = group.create_dataset(name, data=array.T)
        node.attrs["MATLAB_class"] = np.bytes_("single" if array.dtype == np.float32 else "double")


def evaluate(net, x):
    """Each layer's output for one picture x (H, W, C), in double precision, written as MatConvNet's manual states it."""
    out = {}
    x = x.astype(np.float64)
    for layer in net["layers"]:
        kind = layer["type"]
        if kind == "conv":
            x = _conv(x, *layer.get("weights", [layer.get("filters"), layer.get("biases")]), layer.get("pad", 0), layer.get("stride", 1))
        elif kind == "relu":
            x = np.maximum(x, 0) + layer.get("leak", 0) * np.minimum(x, 0)
        elif kind == "sigmoid":
            x = 1 / (1 + np.exp(-x))
        elif kind in ("normalize", "lrn"):
            x = _norm(x, *layer["param"])
        elif kind == "pool":
            x = _pool(x, layer["method"], layer["pool"], layer["stride"], layer["pad"])
        elif kind == "bnorm":
            factor, bias, moments = layer["weights"]
            x = factor.ravel() * (x - moments[:, 0]) / moments[:, 1] + bias.ravel()
        elif kind == "softmax" and layer is not net["layers"][-1]:
            x = np.exp(x - x.max(axis=2, keepdims=True))
            x = x / x.sum(axis=2, keepdims=True)
        out[layer["name"]] = x
    return out


def _spread(value, count):
    return [int(v) for v in (value if isinstance(value, list) else [value] * count)]


def _conv(x, filters, biases, pad, stride):
    top, bottom, left, right = _spread(pad, 4)
    sy, sx = _spread(stride, 2)
    x = np.pad(x, ((top, bottom), (left, right), (0, 0)))
    h, w, depth, outputs = filters.shape
    rows, columns = (x.shape[0] - h) // sy + 1, (x.shape[1] - w) // sx + 1
    each = outputs // (x.shape[2] // depth)
    y = np.zeros((rows, columns, outputs))
    for r in range(rows):
        for c in range(columns):
            for k in range(outputs):
                first = k // each * depth
                patch = x[r * sy : r * sy + h, c * sx : c * sx + w, first : first + depth]
                y[r, c, k] = (patch * filters[..., k]).sum() + biases.ravel()[k]
    return y


def _pool(x, method, pool, stride, pad):
    top, bottom, left, right = _spread(pad, 4)
    (h, w), (sy, sx) = _spread(pool, 2), _spread(stride, 2)
    rows, columns = (x.shape[0] + top + bottom - h) // sy + 1, (x.shape[1] + left + right - w) // sx + 1
    y = np.zeros((rows, columns, x.shape[2]))
    for r in range(rows):
        for c in range(columns):
            v, u = r * sy - top, c * sx - left
            patch = x[max(v, 0) : v + h, max(u, 0) : u + w]
            y[r, c] = patch.max(axis=(0, 1)) if method == "max" else patch.mean(axis=(0, 1))
    return y


def _norm(x, size, kappa, alpha, beta):
    before = (int(size) - 1) // 2
    y = np.zeros_like(x)
    for k in range(x.shape[2]):
        first = k - before
        y[..., k] = x[..., k] * (kappa + alpha * (x[..., max(first, 0) : first + int(size)] ** 2).sum(axis=2)) ** -beta
    return y
