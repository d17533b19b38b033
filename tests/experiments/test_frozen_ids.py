"""Ids must not change: a change that breaks this test renames the finished runs of all users."""

import copy
from pathlib import Path

import yaml

from workflow_scripts.experiments.config import check_config
from workflow_scripts.experiments.expand import expand

FROZEN = Path(__file__).with_name("frozen.yaml")
IDS = {
    "cc12m-6d8926a1",
    "cc3m-5f36af61",
    "cc12m-395dfbf4",
    "cc3m-d2b780bd",
    "cc12m-eb84c1bd",
    "cc3m-130e6dbc",
    "cc6m-9aec8247",
    "cc3m-4d811f23",
    "imagenet-6f922884",
    "cc6m-warped3000-23a50d5f",
    "cc3m-warped1500-a8fcd2ee",
    "77tokens-seed0-0072fbbb",
    "cc6m-last100000-cb8b5625",
    "cc3m-last100000-e6e6a460",
    "cc6m-last100000-by-siglip-ad0a5574",
    "cc3m-last100000-by-siglip-805441ac",
    "cc6m-mmcl-76e4d07a/epoch-21",
    "cc3m-mmcl_ssl-00720ce5/best_accuracy",
    "cc6m-mmcl-76e4d07a",
    "cc6m-mmcl-by-mmcl_ssl-lr1e-05-71d75c81",
    "cc6m-mmcl-by-mmcl_ssl-lr1e-05-eed8d08c",
    "cc6m-mmcl-by-mmcl_pseudo_labels5_ssl-lr1e-05-af848510",
    "cc3m-mmcl_ssl-00720ce5",
    "cc3m-mmcl_ssl-by-mmcl_ssl-lr1e-05-79439df1",
    "cc3m-mmcl_ssl-by-mmcl_ssl-lr1e-05-07c6dd1f",
    "cc3m-mmcl_ssl-by-mmcl_pseudo_labels5_ssl-lr1e-05-baa582dd",
}


def test_ids_of_a_config_stay_the_same_through_all_development(raw_config):
    config = raw_config | copy.deepcopy(yaml.safe_load(FROZEN.read_text()))
    check_config(config)
    plan = expand(config)
    found = [plan.data.lists, plan.data.shards, plan.data.sources, plan.data.datasets]
    found += [plan.data.evaluations, plan.attacks, plan.captions, plan.splits]
    found += [plan.models, plan.runs]
    labels = {run["labels_id"] for run in plan.runs.values()} - {None}
    assert {name for ids in found for name in ids} | labels == IDS
