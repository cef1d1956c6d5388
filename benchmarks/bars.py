"""Defines the bars: limits for the measured figures. A bar without a measured figure never passes."""

from dataclasses import dataclass
from typing import Any, Literal

Figures = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    text: str
    value: float | None
    side: Literal["at least", "at most"]
    limit: float

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        met = self.value >= self.limit if self.side == "at least" else self.value <= self.limit
        return "pass" if met else "miss"

    def as_json(self) -> dict[str, Any]:
        value = None if self.value is None else round(self.value, 4)
        return {"text": self.text, "value": value, "side": self.side, "limit": self.limit, "verdict": self.verdict}


def judge(result: Figures) -> list[dict[str, Any]]:
    engines = {engine["name"]: engine for engine in result["engines"]}
    bars = [*speed(engines), *quality(engines), *memory(engines), *shares(result), *times(result)]
    return [bar.as_json() for bar in bars]


def ratio(engines: dict[str, Figures], name: str, ours: str, theirs: str) -> float | None:
    if ours not in engines or theirs not in engines:
        return None
    return float(engines[ours][name] / engines[theirs][name])


def speed(engines: dict[str, Figures]) -> list[Bar]:
    others = {
        "trl-defaults": ("TRL's defaults", 5.0),
        "trl-best": ("TRL's best", 4.5),
        "trainer": ("Trainer + peft", 3.0),
        "lora": ("our lora", 0.97),
    }
    return [
        Bar(f"tokens/s, qlora over {text}", ratio(engines, "tokens_per_second", "qlora", name), "at least", limit)
        for name, (text, limit) in others.items()
    ]


def quality(engines: dict[str, Figures]) -> list[Bar]:
    """Return the bar on validation loss, judged by the peer that differs most."""
    peers = [name for name in engines if name.startswith("trl") or name == "trainer"]
    ratios = [ratio(engines, "validation_loss", "qlora", name) for name in peers]
    differences = [abs(each - 1) for each in ratios if each is not None]
    worst = max(differences) if differences else None
    return [Bar("validation loss, qlora against any peer, relative difference", worst, "at most", 0.01)]


def memory(engines: dict[str, Figures]) -> list[Bar]:
    equal = ratio(engines, "peak_memory_bytes", "qlora-equal-tokens", "trl-equal-tokens")
    least = ratio(engines, "peak_memory_bytes", "qlora-min", "trl-batch-1")
    pace = ratio(engines, "tokens_per_second", "qlora-min", "trl-batch-1")
    return [
        Bar("peak memory over TRL's at equal tokens a micro-batch, neither checkpointing", equal, "at most", 0.45),
        Bar("peak memory, memory: min over TRL at batch 1 with checkpointing", least, "at most", 0.75),
        Bar("tokens/s, memory: min over TRL at batch 1 with checkpointing", pace, "at least", 1.0),
    ]


def shares(result: Figures) -> list[Bar]:
    measured = result.get("product_share") or {}
    bars = {"1000": ("about 1,000", 0.65), "2000": ("about 2,000", 0.70)}
    return [
        Bar(
            f"product share at {text} tokens a micro-batch",
            measured.get(tokens, {}).get("product_share"),
            "at least",
            limit,
        )
        for tokens, (text, limit) in bars.items()
    ]


def times(result: Figures) -> list[Bar]:
    startup, checkpoints = result.get("startup") or {}, result.get("checkpoints") or {}
    first = "seconds from POST to the first training forward"
    return [
        Bar(f"{first}, tokenizer and NF4 cache warm", startup.get("warm_seconds"), "at most", 2.0),
        Bar(f"{first}, only imports done", startup.get("cold_seconds"), "at most", 5.0),
        Bar("share of the time that checkpoints cost, one every 20 s", checkpoints.get("share"), "at most", 0.01),
    ]
