"""Measures the rotary position embedding that a model applies to its keys.

A text that repeats one token has the same key before RoPE at every position, in every layer: all values are equal, so
attention returns that value whatever its weights are. Hence k(p) = R(p) k(0), and a hypothesis about R is checked against
the keys themselves. The hypotheses: no rotation, or the frequencies of one of the model's own rotary modules in either
layout. (A. Su et al., RoFormer, arXiv 2104.09864, eq. 34; the two layouts differ in which channels form a pair.)
"""

import dataclasses

import numpy
import torch

from language_model import Failure

PROBE_TOKENS = 64

# ‖k(p) − R(p) k(0)‖ / ‖k(0)‖ allowed. Another layout, base or scaling misses by 1e-2 and more at float32; at 16 bits the
# softmax weights of a layer sum to 1 only within 2^-8, which a deep model carries along.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.1}

# RoPE variants whose frequencies depend on the length of the text.
LENGTH_DEPENDENT = ("dynamic", "longrope")


@dataclasses.dataclass(frozen=True)
class Rope:
    stage: str  # "post" or "none", attribute rope_stage
    layout: str = ""  # "half" or "interleaved"
    buffer: str = ""  # name of the frequencies in the model
    inv_freq: tuple = ()  # [rotary_dim / 2], radians per position


def frequencies(model):
    """{name: float64 [rotary_dim / 2]} of the frequencies in use in the model's rotary modules."""
    return {
        name: buffer.detach().double().cpu().numpy()
        for name, buffer in model.named_buffers()
        if name.endswith("inv_freq") and not name.endswith("original_inv_freq") and buffer.ndim == 1
    }


def depends_on_length(config):
    text = config.get_text_config()
    parameters = getattr(text, "rope_parameters", None) or {}
    types = [parameters.get("rope_type")]
    types += [inner.get("rope_type") for inner in parameters.values() if isinstance(inner, dict)]
    return any(kind in LENGTH_DEPENDENT for kind in types)


def theta(config, inv_freq):
    """The base: as the configuration says or, for one set of frequencies among several, as its second frequency says."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    if "rope_theta" in parameters:
        return float(parameters["rope_theta"])
    return float(inv_freq[1] ** -len(inv_freq)) if len(inv_freq) > 1 else 1.0


def rotate(keys, inv_freq, layout):
    """R(p) applied to row p of keys [H, T, d]; channels beyond the rotary ones stay."""
    rotary = 2 * len(inv_freq)
    angle = numpy.arange(keys.shape[1])[:, None] * inv_freq  # [T, rotary / 2]
    cos, sin = numpy.cos(angle), numpy.sin(angle)
    pairs = (slice(0, rotary // 2), slice(rotary // 2, rotary)) if layout == "half" else \
        (slice(0, rotary, 2), slice(1, rotary, 2))
    first, second = (keys[..., pair] for pair in pairs)
    rotated = keys.copy()
    rotated[..., pairs[0]] = first * cos - second * sin
    rotated[..., pairs[1]] = second * cos + first * sin
    return rotated


def misfit(keys, inv_freq=None, layout=""):
    """Largest ‖k(p) − R(p) k(0)‖ / ‖k(0)‖ over heads and positions of keys [H, T, d]; without frequencies R(p) = 1."""
    still = numpy.repeat(keys[:, :1], keys.shape[1], axis=1)
    expected = still if inv_freq is None else rotate(still, inv_freq, layout)
    scale = numpy.linalg.norm(keys[:, :1], axis=-1)
    return float((numpy.linalg.norm(keys - expected, axis=-1) / numpy.maximum(scale, 1e-30)).max())


def identify(model, keys_by_layer):
    """The one Rope of all layers, from the keys {layer: [H, T, d]} of a text that repeats one token."""
    candidates = frequencies(model)
    text = model.config.get_text_config()
    if not candidates and not (getattr(text, "rope_parameters", None) or getattr(text, "rotary_dim", None)):
        return Rope("none")  # positions, if any, are added to the embeddings: keys are never turned
    tolerance = TOLERANCE[model.dtype]
    found = {}
    for layer, keys in keys_by_layer.items():
        keys = keys.astype("f8")
        hypotheses = [(misfit(keys), Rope("none"))]
        for name, inv_freq in candidates.items():
            if 2 * len(inv_freq) <= keys.shape[-1]:
                hypotheses += [(misfit(keys, inv_freq, layout), Rope("post", layout, name, tuple(inv_freq)))
                               for layout in ("half", "interleaved")]
        error, rope = min(hypotheses, key=lambda hypothesis: hypothesis[0])
        if not error <= tolerance:
            raise Failure(f"layer {layer}: its keys turn with position as no rotary module of the model says (off by "
                          f"{error:.2g}, allowed {tolerance:g}); the dump format could not undo such a RoPE")
        found[layer] = rope
    first_layer, rope = next(iter(found.items()))
    for layer, other in found.items():
        if other != rope:
            raise Failure(f"layers {first_layer} and {layer} have different rotary embeddings, and a dump has one: "
                          "choose layers that share one with --layers")
    return rope
