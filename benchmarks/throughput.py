"""Training throughput beside a plain, well-known trainer: transformers' Llama in a plain torch loop, same shape.

Decisions: same widths, depth, heads, batch, sequence, number format, fused AdamW, clipping; torch's attention kernel, as
transformers chooses it. Steps of both are taken in turn in one process with one thread, and the shortest of each counts,
by the process's own clock, so that a neighbour on the machine falls on both alike. The process keeps freed memory, as
``shapewright train`` has it, and both have the good of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

LAYOUTS = ((64, 4, 32, 4), (128, 4, 32, 4), (256, 6, 64, 4))
"""Width, depth, width of a head, sequences of 256 bytes a step."""
SEQ_LEN, STEPS = 256, 16


def run() -> Iterator[str]:
    """Time both trainers on every layout and format."""
    import torch

    from shapewright.lab.training import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    for width, depth, head_dim, batch in LAYOUTS:
        for precision in ("fp32", "bf16"):
            ours, theirs = (
                _ours(width, depth, head_dim, batch, precision),
                _theirs(width, depth, head_dim, batch, precision),
            )
            best = [float("inf")] * 2
            for _ in range(STEPS):
                for i, step in enumerate((ours, theirs)):
                    start = time.process_time()
                    step()
                    best[i] = min(best[i], time.process_time() - start)
            rates = [batch * SEQ_LEN / seconds for seconds in best]
            yield (
                f"throughput: {width}x{depth} {precision}, bytes/s of one thread: ours {rates[0]:,.0f}, transformers Llama "
                f"{rates[1]:,.0f}: {rates[0] / rates[1]:.2f}x"
            )


def _ours(width: int, depth: int, head_dim: int, batch: int, precision: str) -> Callable[[], object]:
    from shapewright.lab.corpus import standard_library
    from shapewright.lab.rungs import ladder_shape
    from shapewright.lab.state import Setup, TrainState

    setup = Setup(
        shape=ladder_shape((width, depth, head_dim)), seq_len=SEQ_LEN, batch=batch, micro_batch=batch,
        precision=precision, weight_decay=0.1, beta1=0.9, beta2=0.99, epsilon=1e-8, gradient_clip=1.0, init_std=0.02,
        output_init_std=0.02,
    )  # fmt: skip
    state = TrainState(setup, standard_library())
    state.take_step(0.0)
    return lambda: state.take_step(0.0)


def _theirs(width: int, depth: int, head_dim: int, batch: int, precision: str) -> Callable[[], object]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from shapewright.lab.rungs import ladder_shape

    ffn = int(ladder_shape((width, depth, head_dim)).blocks[0].channel.ffn_size)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=256, hidden_size=width, intermediate_size=ffn, num_hidden_layers=depth, use_cache=False,
        num_attention_heads=width // head_dim, num_key_value_heads=width // head_dim, tie_word_embeddings=True,
        max_position_embeddings=SEQ_LEN, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    ))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    tokens = torch.randint(256, (batch, SEQ_LEN + 1))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    return step
