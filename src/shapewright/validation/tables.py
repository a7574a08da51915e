"""Where the measured kernels stand in the tables of aiconfigurator-core, and what their words mean here.

Decisions: one record per table; a table's words (formats, kinds of kernels, models) become numbers or names here, and
rows with words that are not listed are counted as skipped. Tables that no record reads are named with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shapewright.cost.families.experts import DISTRIBUTIONS, LIBRARIES


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSpec:
    """How the rows of a family are found in the tables."""

    family: str
    folder: str
    file: str
    format_column: str | None = None
    """The column that names the format; None where the table has one format, ``only_format``."""
    formats: Mapping[str, str] = field(default_factory=dict)
    """The tables' format names, to ours; others are not read."""
    only_format: str = "bf16"
    rename: Mapping[str, str] = field(default_factory=dict)
    """The family's dimensions, to the tables' column names where they differ."""
    codes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Dimensions that are words in the tables, to numbers; rows with other words are not read."""
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Dimensions that are words in the tables: the place of the first of these, after the empty one, that a word holds."""
    constants: Mapping[str, float] = field(default_factory=dict)
    """Dimensions that the tables do not hold because they never change."""
    scales: Mapping[str, float] = field(default_factory=dict)
    """Factors on columns, to the family's unit."""
    latency: str = "latency"
    """The column of measured times."""
    unit_s: float = 1e-3
    """Its unit [s]."""
    also: str = ""
    """A column whose words are part of the kernel's name."""


_GEMM = {
    "bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4", "int8_wo": "int8_wo",
    "int4_wo": "int4_wo", "sq": "int8",
}  # fmt: skip
_MOE = {
    "bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4", "int4_wo": "int4_wo",
    "w4a16_mxfp4": "w4a16_mxfp4", "w4a8_mxfp4_mxfp8": "w4a8_mxfp4_mxfp8",
}  # fmt: skip
_CACHE = {"bfloat16": "bf16", "fp8": "fp8", "fp8_e4m3": "fp8"}
_STEP_KINDS = {
    "chunk_gated_delta_rule": 0, "chunk_gated_delta_rule_flashinfer": 0, "chunk_gated_delta_rule_triton": 0,
    "chunk_kda": 0, "chunk_kda_with_fused_gate": 0, "flashkda_fwd": 0, "mamba_chunk_scan_combined": 0,
    "fused_recurrent_gated_delta_rule_packed_decode": 1, "fused_recurrent_gated_delta_rule": 1,
    "fused_recurrent_kda_packed_decode": 1, "fused_kda_decode": 1, "kda_fused_decode": 1, "selective_state_update": 1,
    "causal_conv1d_fn": 2, "causal_conv1d_fn_qkv3": 2, "causal_conv1d_update": 3,
    "fused_sigmoid_gating_delta_rule_update": 4, "fused_recurrent_kda": 4, "fused_kda_decode_mtp_dspark": 4,
}  # fmt: skip
_MODELS = {
    "deepseek-ai/DeepSeek-V3": 0, "deepseek-ai/DeepSeek-R1": 0, "deepseek-ai/DeepSeek-V3.2": 1, "zai-org/GLM-5": 2,
    "sgl-project/DeepSeek-V4-Flash-FP8": 3, "sgl-project/DeepSeek-V4-Pro-FP8": 4, "deepseek-ai/DeepSeek-V4-Pro": 4,
    "MiniMaxAI/MiniMax-M3": 5, "zai-org/GLM-5-FP8": 6, "zai-org/GLM-5.2": 7, "zai-org/GLM-5.2-FP8": 8,
    "nvidia/GLM-5.2-NVFP4": 9,
}  # fmt: skip
_PRODUCTS = {"bfloat16": 0, "fp8_block": 1, "fp8": 1, "nvfp4": 1}
MODES = {
    f"{backend}/{phase}": float(2 * i + (phase == "combine"))
    for i, backend in enumerate(
        ("deepep_ht", "deepep_ll", "deepep_v2_context", "deepep_v2_generation", "other")
    )
    for phase in ("dispatch", "combine")
}
_MIXER_COLUMNS = {"step_kind": "kernel_source"}


def _modules(folder: str, *names: str) -> tuple[TableSpec, ...]:
    return tuple(
        TableSpec(family=name, folder=folder, file=f"{name}_perf", format_column="kv_cache_dtype", formats=_CACHE,
                  rename={"gemm_format": "gemm_type"}, codes={"model": _MODELS, "gemm_format": _PRODUCTS},
                  also="score_mode")
        for name in names
    )  # fmt: skip


_COLLECTIVE: dict[str, Any] = dict(
    format_column="op_name",
    formats={"all_reduce": "all_reduce", "all_gather": "all_gather", "reduce_scatter": "reduce_scatter",
             "alltoall": "all_to_all"},
    rename={"kind": "op_name", "num_bytes": "message_size"},
    codes={"kind": {"all_reduce": 0, "all_gather": 1, "reduce_scatter": 2, "alltoall": 3}},
)  # fmt: skip
TABLES: tuple[TableSpec, ...] = (
    TableSpec(family="matmul", folder="gemm", file="gemm_perf", format_column="gemm_dtype", formats=_GEMM),
    TableSpec(family="attention", folder="attention", file="context_attention_perf", format_column="kv_cache_dtype",
              formats=_CACHE),
    TableSpec(family="attention_decode", folder="attention", file="generation_attention_perf",
              format_column="kv_cache_dtype", formats=_CACHE),
    TableSpec(family="encoder_attention", folder="encoder_attention", file="encoder_attention_perf"),
    TableSpec(family="mla", folder="mla", file="context_mla_perf", format_column="kv_cache_dtype", formats=_CACHE),
    TableSpec(family="mla_decode", folder="mla", file="generation_mla_perf", format_column="kv_cache_dtype",
              formats=_CACHE),
    TableSpec(family="moe", folder="moe", file="moe_perf", format_column="moe_dtype", formats=_MOE,
              codes={"distribution": {name: float(i) for i, name in enumerate(DISTRIBUTIONS)}},
              rename={"kernel": "kernel_source"}, parts={"kernel": LIBRARIES}),
    TableSpec(family="gdn", folder="linear_attention", file="gdn_perf", rename=_MIXER_COLUMNS,
              codes={"step_kind": _STEP_KINDS}),
    TableSpec(family="kda", folder="kda", file="kda_perf", rename=_MIXER_COLUMNS, codes={"step_kind": _STEP_KINDS}),
    TableSpec(family="mamba2", folder="linear_attention", file="mamba2_perf", codes={"step_kind": _STEP_KINDS},
              rename={**_MIXER_COLUMNS, "num_k_heads": "n_groups", "head_k_dim": "d_state", "num_v_heads": "nheads",
                      "head_v_dim": "head_dim"}),
    *_modules("mla", "mla_context_module", "mla_generation_module", "wideep_context_mla", "wideep_generation_mla"),
    *_modules("sparse_attention", "dsa_context_module", "dsa_generation_module", "dsv4_csa_context_module",
              "dsv4_csa_generation_module", "dsv4_hca_context_module", "dsv4_hca_generation_module",
              "dsv4_csa_topk_calib", "dsv4_hca_attn_module", "dsv4_paged_mqa_logits_module", "glm5_dsa_attn_module",
              "glm5_mqa_logits_module", "glm5_topk_module"),
    *_modules("msa", "msa_context_module", "msa_generation_module"),
    TableSpec(family="mla_bmm", folder="mla_bmm", file="mla_bmm_perf", format_column="bmm_dtype", formats=_CACHE,
              rename={"side": "op_name"}, codes={"side": {"mla_gen_pre": 0, "mla_gen_post": 1}}),
    TableSpec(family="collective", folder="comm/nccl", file="nccl_perf", **_COLLECTIVE),
    TableSpec(family="collective", folder="comm/oneccl", file="oneccl_perf", **_COLLECTIVE),
    TableSpec(family="custom_allreduce", folder="comm", file="custom_allreduce_perf", only_format="all_reduce",
              rename={"num_bytes": "message_size"}, constants={"kind": 0.0}, scales={"num_bytes": 2.0}),
    TableSpec(family="exchange", folder="comm", file="moe_a2a_perf", codes={"mode": MODES}, unit_s=1e-6,
              also="exchange"),
    *(
        TableSpec(family=f"deepep_{way}", folder="comm", file=f"wideep_deepep_{way}_perf", only_format=phase,
                  latency=f"{phase}_{column}", unit_s=1e-6,
                  rename={"num_tokens": "num_token", "topk": "num_topk", "sms": f"{phase}_sms"})
        for way, column in (("normal", "transmit_us"), ("ll", "avg_t_us"))
        for phase in ("dispatch", "combine")
    ),
    TableSpec(family="alltoall", folder="comm", file="trtllm_alltoall_perf", format_column="moe_dtype",
              formats={"bfloat16": "bf16", "fp8": "fp8", "nvfp4": "nvfp4"}, rename={"ep_size": "moe_ep_size"},
              also="op_name"),
    TableSpec(family="quantise", folder="quantize", file="computescale_perf", only_format="bytes"),
    TableSpec(family="memory", folder="quantize", file="scale_matrix_perf", only_format="bytes"),
    TableSpec(family="mhc", folder="mhc", file="mhc_module_perf", also="op_name"),
)  # fmt: skip
NOT_READ = {
    "wideep_context_mlp_perf": "18 rows of one layer, too few for a fit; its products are in gemm_perf",
    "wideep_generation_mlp_perf": "18 rows of one layer, too few for a fit; its products are in gemm_perf",
    "wideep_context_moe_perf": "six routers whose draws are not published, one shape",
    "wideep_generation_moe_perf": "six routers whose draws are not published, one shape",
    "wideep_moe_perf": "replicated experts, whose placement is not published",
    "dsv4_megamoe_module_perf": "experts and exchange in one kernel of one layer",
}
"""Tables that are not fitted, with the reason; a reading counts their rows as skipped."""
