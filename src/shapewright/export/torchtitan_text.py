"""The fixed parts of the torchtitan recipe, as templates of :mod:`shapewright.export.torchtitan`.

Decisions: the recipe builds its model from the library's own configuration classes and initialises it as the Design
says; weight decay spares norms, as the Design's recipe does. It is text and not a library call, so that it can be read
and changed where it runs.
"""

MODEL = """\
VOCAB_SIZE, WIDTH = {vocab_size}, {hidden_size}
MAX_SEQ_LEN = {seq_len}
INIT_STD, OUTPUT_INIT_STD = {init_std!r}, {output_init_std!r}  # the second: matrices that write to the residual stream
TIED_EMBEDDINGS = {tied}


def init(std):
    return {{"weight": partial(nn.init.normal_, std=std)}}


def norm(width):
    return RMSNorm.Config(normalized_shape=width, param_init={{"weight": nn.init.ones_}})


def linear(inputs, outputs, std=INIT_STD):
    return Linear.Config(in_features=inputs, out_features=outputs, param_init=init(std))


def experts_of(experts, topk, ffn_size):
    inits = {{"w1_EFD": INIT_STD, "w3_EFD": INIT_STD, "w2_EDF": OUTPUT_INIT_STD}}
    return make_moe_config(
        num_experts=experts,
        router=make_router_config(
            dim=WIDTH, num_experts=experts, gate_param_init=init(INIT_STD), top_k=topk,
            score_func="softmax", route_norm=True,
        ),
        routed_experts=make_routed_experts_config(
            dim=WIDTH, hidden_dim=ffn_size, num_experts=experts, top_k=topk, comm_backend="standard",
            param_init={{name: partial(nn.init.normal_, std=std) for name, std in inits.items()}},
        ),
    )


def layer(*, heads, kv_heads, head_dim, ffn_size, qk_norm=False, experts=0, topk=0):
    dense = FeedForward.Config(
        w1=linear(WIDTH, ffn_size), w3=linear(WIDTH, ffn_size), w2=linear(ffn_size, WIDTH, OUTPUT_INIT_STD)
    )
    return {family.block}.Config(
        attention_norm=norm(WIDTH),
        ffn_norm=norm(WIDTH),
        attention=make_gqa_config(
            dim=WIDTH,
            n_heads=heads,
            n_kv_heads=kv_heads,
            head_dim=head_dim,
            wqkv_param_init=init(INIT_STD),
            wo_param_init=init(OUTPUT_INIT_STD),
            inner_attention=get_attention_config("flex"),
            fuse_qkv=True,
            qk_norm=norm(head_dim) if qk_norm else None,
            rope={family.rotary}.Config(dim=head_dim, max_seq_len=MAX_SEQ_LEN),
        ),
        feed_forward=None if experts else dense,
        moe=experts_of(experts, topk, ffn_size) if experts else None,
    )


def model_config():
    layers = []
{layers}
    return {family.model}.Config(
        dim=WIDTH,
        vocab_size=VOCAB_SIZE,
        enable_weight_tying=TIED_EMBEDDINGS,
        tok_embeddings=Embedding.Config(
            num_embeddings=VOCAB_SIZE,
            embedding_dim=WIDTH,
            param_init={{"weight": skip_param_init}} if TIED_EMBEDDINGS else init(INIT_STD),
        ),
        norm=norm(WIDTH),
        lm_head=linear(WIDTH, VOCAB_SIZE),
        layers=layers,
    )
"""

FP8 = '''

def fp8(config):
    """The products inside the layers in 8 bits (needs torchao and a device that has them)."""
    from torchtitan.components.quantization import Float8LinearConverter

    return Float8LinearConverter.Config(filter_fqns=["lm_head"]).build().convert(config)
'''

STAGES = '''

def stages(*layers):
    """The modules of each chunk of the pipeline, by its layers."""
    from itertools import accumulate, pairwise

    parts = [[f"layers.{i}" for i in range(*ends)] for ends in pairwise(accumulate(layers, initial=0))]
    return [["tok_embeddings", *parts[0]], *parts[1:-1], [*parts[-1], "norm", "lm_head"]]
'''

RECIPE = '''\
"""{headline}.

For {target} on {devices} devices. Run it from this file's folder:

    torchrun --nnodes N --nproc-per-node M -m torchtitan.train --module recipe --config recipe
"""

from functools import partial

from torch import nn
from torchtitan.components.loss import ChunkedLossWrapper, CrossEntropyLoss
from torchtitan.components.optimizer import (
    LRSchedulersContainer, OptimizersContainer, ParamGroupConfig{balance_import}
)
from torchtitan.config import CompileConfig, ParallelismConfig, TrainingConfig
from torchtitan.distributed.activation_checkpoint import FullAC, SelectiveAC
from torchtitan.distributed.pipeline_parallel import pipeline_llm
from torchtitan.hf_datasets.text_datasets import HuggingFaceTextDataLoader
from torchtitan.models.common import ComplexRoPE, CosSinRoPE, Embedding, Linear, RMSNorm
from torchtitan.models.common.config_utils import (
    get_attention_config, make_gqa_config, make_moe_config, make_routed_experts_config, make_router_config
)
from torchtitan.models.common.feed_forward import FeedForward
from torchtitan.models.common.param_init import skip_param_init
from torchtitan.models.{family.module} import {family.parallelize}
from torchtitan.models.{family.module}.model import {family.model}, {family.block}
from torchtitan.models.{family.module}.state_dict_adapter import {family.adapter}
from torchtitan.protocols.model_spec import ModelSpec
from torchtitan.trainer import Trainer

{model}{fp8}{stages}

def adamw(pattern, weight_decay):
    settings = dict(
{optimizer}
        weight_decay=weight_decay,
    )
    return ParamGroupConfig(pattern=pattern, optimizer_name="AdamW", optimizer_kwargs=settings)


def recipe() -> Trainer.Config:
    return Trainer.Config(
        model_spec=ModelSpec(
            name="{family.module}",
            flavor="{flavor}",
            model={convert},
            parallelize_fn={family.parallelize},
            pipelining_fn=pipeline_llm,
            post_optimizer_build_fn={balance},
            state_dict_adapter={family.adapter},
        ),
        loss=ChunkedLossWrapper.Config(loss_fn=CrossEntropyLoss.Config(global_vocab_size=VOCAB_SIZE)),
        optimizer=OptimizersContainer.Config(
            param_groups=[adamw(r"norm\\.weight$", 0.0), adamw(r".*", {weight_decay!r})]
        ),
        lr_scheduler=LRSchedulersContainer.Config(
{schedule}
        ),
        training=TrainingConfig(
{training}
        ),
        parallelism=ParallelismConfig(
{parallelism}
        ),
        activation_checkpoint={recompute},
        # The prediction counts pointwise operators fused, as the compiler makes them.
        compile=CompileConfig(enable=True),
        dataloader=HuggingFaceTextDataLoader.Config(dataset="c4_test"),  # name your data here
        hf_assets_path="./tests/assets/tokenizer",  # and the folder of your tokenizer here
    )
'''
