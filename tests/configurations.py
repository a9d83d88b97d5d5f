"""The model configurations that the property tests run over."""

from itertools import product

from seq2seq.cells import CELLS
from seq2seq.config import ModelConfig

SMALL = ModelConfig(
    source_vocabulary_size=11,
    target_vocabulary_size=11,
    embedding_size=6,
    encoder_hidden_size=4,
    decoder_hidden_size=8,
    initialisation="uniform",
    init_range=0.8,
)


def configurations() -> list[ModelConfig]:
    """Every value of every field, the ones that meet in the code in every combination."""
    variants = [
        {"attention": attention, "input_feeding": feeding, "output_attention": second, "decoder_layers": layers}
        for attention, (feeding, second), layers in product(
            ["none", "dot", "general", "additive", "multi_head", "multi_head_additive"],
            [(False, False), (True, False), (False, True)],
            [1, 2, 3],
        )
        if attention != "none" or not (feeding or second)
    ]
    variants += [{"bidirectional": both, "encoder_layers": n} for both, n in product([True, False], [1, 2, 3])]
    variants += [{"bridge": bridge, "decoder_layers": 3} for bridge in ["copy", "linear", "zero"]]
    variants += [
        {"tied_embeddings": tied, "bottleneck_size": size}
        for tied, size in [("none", None), ("none", 5), ("decoder", None), ("all", None)]
    ]
    variants += [
        {"residual": True, "encoder_layers": 3, "decoder_layers": 3, "input_feeding": f} for f in (True, False)
    ]
    variants += [{"reverse_source": True}, {"reverse_source": True, "attention": "none"}]
    variants += [{"cell": cell} for cell in CELLS]
    variants += [{"cell": cell, "input_feeding": True, "residual": True, "encoder_layers": 2} for cell in CELLS]
    variants += [{"cell": cell, "attention": "none", "bridge": "copy", "bidirectional": True} for cell in CELLS]
    variants += [{"forget_bias": 2.0}, {"chrono": 20}, {"initialisation": "orthogonal", "init_range": 0.1}]
    return [SMALL.model_copy(update=variant) for variant in variants]


def name(config: ModelConfig) -> str:
    """What differs from `SMALL`, as a test's name."""
    changed = {key: value for key, value in config.model_dump().items() if value != getattr(SMALL, key)}
    return " ".join(f"{key}={value}" for key, value in changed.items()) or "small"
