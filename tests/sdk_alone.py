"""Run by `make sdk-check` where the SDK is installed alone: it imports, and no more than its dependencies is there."""

import importlib.metadata
import sys

import google.protobuf

import stepwave

ALLOWED = {"stepwave", "grpcio", "protobuf", "googleapis-common-protos", "typing-extensions", "pip", "setuptools"}

names = (distribution.metadata["Name"] for distribution in importlib.metadata.distributions())
surplus = {name.lower().replace("_", "-") for name in names} - ALLOWED
if surplus:
    sys.exit(f"the SDK brought more than it may: {', '.join(sorted(surplus))}")

flow = stepwave.Workflow("alone")
flow.step("only", "core.echo", {"city": flow.input["city"]})
assert flow.to_proto().steps[0].id == "only"
sys.stdout.write(f"the SDK imports under protobuf {google.protobuf.__version__}\n")
