"""Run by `make sdk-check` where the SDK is installed without extras: it imports, and nothing but its three dependencies is there."""

import importlib.metadata
import sys

import google.protobuf

import stepwave

ALLOWED = {"stepwave", "grpcio", "protobuf", "googleapis-common-protos", "typing-extensions", "pip", "setuptools"}

installed = {distribution.metadata["Name"].lower().replace("_", "-") for distribution in importlib.metadata.distributions()}
surplus = installed - ALLOWED
if surplus:
    sys.exit(f"the SDK brought more than it may: {', '.join(sorted(surplus))}")

flow = stepwave.Workflow("alone")
flow.step("only", "core.echo", {"city": flow.input["city"]})
assert flow.to_proto().steps[0].id == "only"
sys.stdout.write(f"the SDK imports under protobuf {google.protobuf.__version__}\n")
