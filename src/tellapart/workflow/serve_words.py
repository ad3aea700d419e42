"""What a served model says of itself, and of a heat map, as JSON."""

from typing import Any

import numpy as np

from tellapart.evaluation.judgement import finite
from tellapart.models.bundle import Bundle
from tellapart.web.reader import MOST
from tellapart.web.site import Limits
from tellapart.workflow.looking import Heat

TOP = 100
"""Classes of an answer at most."""


def described(bundle: Bundle, name: str, limits: Limits) -> dict[str, Any]:
    """What the page and programs may know of a model."""
    return {
        "name": name,
        "network": bundle.architecture.name,
        "takes": bundle.preprocess.words(),
        "classes": list(bundle.classes),
        "thresholds": list(bundle.thresholds),
        "known_from": bundle.known,
        "promises": [{"precision": of, "from": least} for of, least in sorted(bundle.promises.items())],
        "temperature": bundle.temperature,
        "scores": finite([dict(score) for score in bundle.scores]),
        "counts": dict(bundle.origin.get("counts") or {}),
        "made": str(bundle.origin.get("time", "")),
        "goldens": [{"n": n, "class": golden.name} for n, golden in enumerate(bundle.goldens)],
        "limits": {"bytes": limits.bytes, "pixels": MOST, "top": TOP},
    }


def heat_entry(heat: Heat, method: str) -> dict[str, Any]:
    """What is known of a heat map."""
    known = heat.trust
    return {
        "class": heat.name,
        "method": method,
        "informative": not known.why_nothing,
        "verdict": known.verdict(heat.name),
        "probability": known.probability,
        "without_hottest": known.without_hottest,
        "without_elsewhere": float(np.mean(known.elsewhere)),
        "places": len(known.elsewhere),
        "beaten": known.beaten,
        "numbers": known.numbers,
    }
