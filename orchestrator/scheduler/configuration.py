"""KubeSchedulerConfiguration: which plugins a profile runs, with which weights and arguments.

A profile starts from the default plugins. `multiPoint` adds, removes and weighs them everywhere; a section of one
extension point does so for that point alone; `disabled: [{name: "*"}]` removes all. Sections of points that have no
choice here (queueSort, bind, …) are read and checked for known names only.
Errors: ConfigurationError names the field. Source: kube-scheduler configuration v1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import yaml
from msgspec import Struct, field

from orchestrator.scheduler.framework import Framework, Plugin
from orchestrator.scheduler.plugins.defaultpreemption import DefaultPreemption
from orchestrator.scheduler.plugins.imagelocality import ImageLocality
from orchestrator.scheduler.plugins.interpodaffinity import InterPodAffinity
from orchestrator.scheduler.plugins.nodeaffinity import NodeAffinity
from orchestrator.scheduler.plugins.nodename import NodeName
from orchestrator.scheduler.plugins.nodeports import NodePorts
from orchestrator.scheduler.plugins.noderesourcesbalancedallocation import NodeResourcesBalancedAllocation
from orchestrator.scheduler.plugins.noderesourcesfit import NodeResourcesFit
from orchestrator.scheduler.plugins.nodeunschedulable import NodeUnschedulable
from orchestrator.scheduler.plugins.nodevolumelimits import NodeVolumeLimits
from orchestrator.scheduler.plugins.podtopologyspread import PodTopologySpread
from orchestrator.scheduler.plugins.prioritysort import PrioritySort
from orchestrator.scheduler.plugins.schedulinggates import SchedulingGates
from orchestrator.scheduler.plugins.tainttoleration import TaintToleration
from orchestrator.scheduler.plugins.volumebinding import VolumeBinding
from orchestrator.scheduler.plugins.volumerestrictions import VolumeRestrictions
from orchestrator.scheduler.plugins.volumezone import VolumeZone

API_VERSION = "kubescheduler.config.k8s.io/v1"
DEFAULT_SCHEDULER = "default-scheduler"

Args = Mapping[str, Any]

# In the order in which they run; the weight is that of the score.
DEFAULT_PLUGINS: tuple[tuple[str, int], ...] = (
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0),
    ("NodeVolumeLimits", 0),
    ("VolumeBinding", 0),
    ("VolumeZone", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
)
POINTS = {"preFilter": "rejects", "filter": "filter", "score": "score", "postFilter": "preempt"}
OTHER_POINTS = ("preEnqueue", "queueSort", "preScore", "reserve", "permit", "preBind", "bind", "postBind")

MAKERS: dict[str, Callable[[Args], Plugin]] = {
    "SchedulingGates": lambda args: SchedulingGates(),
    "PrioritySort": lambda args: PrioritySort(),
    "NodeUnschedulable": lambda args: NodeUnschedulable(),
    "NodeName": lambda args: NodeName(),
    "TaintToleration": lambda args: TaintToleration(),
    "NodeAffinity": NodeAffinity,
    "NodePorts": lambda args: NodePorts(),
    "NodeResourcesFit": NodeResourcesFit,
    "VolumeRestrictions": lambda args: VolumeRestrictions(),
    "NodeVolumeLimits": lambda args: NodeVolumeLimits(),
    "VolumeBinding": lambda args: VolumeBinding(),
    "VolumeZone": lambda args: VolumeZone(),
    "PodTopologySpread": PodTopologySpread,
    "InterPodAffinity": InterPodAffinity,
    "DefaultPreemption": DefaultPreemption,
    "NodeResourcesBalancedAllocation": NodeResourcesBalancedAllocation,
    "ImageLocality": lambda args: ImageLocality(),
}
BINDER = "DefaultBinder"  # not a decision: see binding.py


class ConfigurationError(ValueError):
    """A KubeSchedulerConfiguration that cannot be used."""


class Profile(Struct, frozen=True):
    scheduler_name: str = DEFAULT_SCHEDULER
    weights: tuple[tuple[str, int], ...] = DEFAULT_PLUGINS  # every plugin in order
    without: frozenset[tuple[str, str]] = frozenset()
    args: Mapping[str, Args] = field(default_factory=dict)


class Configuration(Struct, frozen=True):
    profiles: tuple[Profile, ...] = (Profile(),)
    backoff_first_s: float = 1.0
    backoff_max_s: float = 10.0


def load(path: str | Path) -> Configuration:
    try:
        return parse(yaml.safe_load(Path(path).read_text()) or {})
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def parse(config: Mapping[str, Any]) -> Configuration:
    if config.get("apiVersion") != API_VERSION or config.get("kind") != "KubeSchedulerConfiguration":
        raise ConfigurationError(f"apiVersion, kind: must be {API_VERSION} KubeSchedulerConfiguration")
    profiles = tuple(
        _profile(profile, f"profiles[{index}]") for index, profile in enumerate(config.get("profiles") or ({},))
    )
    names = [profile.scheduler_name for profile in profiles]
    if len(set(names)) != len(names):
        raise ConfigurationError("profiles: schedulerName must be unique")
    return Configuration(
        profiles,
        float(config.get("podInitialBackoffSeconds", 1)),
        float(config.get("podMaxBackoffSeconds", 10)),
    )


def _profile(profile: Mapping[str, Any], path: str) -> Profile:
    plugins: Mapping[str, Any] = profile.get("plugins") or {}
    unknown = set(plugins) - set(POINTS) - set(OTHER_POINTS) - {"multiPoint"}
    if unknown:
        raise ConfigurationError(f"{path}.plugins.{min(unknown)}: unknown extension point")
    weights = dict(DEFAULT_PLUGINS)
    _apply(plugins.get("multiPoint") or {}, weights, f"{path}.plugins.multiPoint")
    everywhere = dict(weights)
    without: set[tuple[str, str]] = set()
    for point, method in POINTS.items():
        section = plugins.get(point) or {}
        here = dict(everywhere)
        _apply(section, here, f"{path}.plugins.{point}")
        without |= {(method, name) for name in weights if name not in here}
        if point == "score":
            weights |= here
        else:
            weights |= {name: weight for name, weight in here.items() if name not in weights}
    args = {entry["name"]: entry.get("args") or {} for entry in profile.get("pluginConfig") or ()}
    for name in args:
        _check(name, f"{path}.pluginConfig")
    return Profile(profile.get("schedulerName") or DEFAULT_SCHEDULER, tuple(weights.items()), frozenset(without), args)


def _apply(section: Mapping[str, Any], weights: dict[str, int], path: str) -> None:
    for entry in section.get("disabled") or ():
        if entry["name"] == "*":
            weights.clear()
        else:
            _check(entry["name"], f"{path}.disabled")
            weights.pop(entry["name"], None)
    for entry in section.get("enabled") or ():
        _check(entry["name"], f"{path}.enabled")
        default = dict(DEFAULT_PLUGINS)[entry["name"]]
        weights[entry["name"]] = int(entry.get("weight") or weights.get(entry["name"], default) or default)


def _check(name: str, path: str) -> None:
    if name not in MAKERS and name != BINDER:
        raise ConfigurationError(f"{path}: unknown plugin {name!r}")


def make_framework(profile: Profile, random: Random) -> Framework:
    plugins = [MAKERS[name](profile.args.get(name) or {}) for name, _ in profile.weights if name != BINDER]
    return Framework(profile.scheduler_name, plugins, dict(profile.weights), random, profile.without)
