"""Writes the descriptor set that Envoy needs for HTTP/JSON: the contract, with the URLs of `http.yaml` as annotations.

The set also has the messages of `google.rpc`, which Envoy needs to write the details of errors as JSON.

Usage: `python http_descriptors.py CONTRACT TARGET`
"""

import sys
from pathlib import Path

import yaml
from google.api import annotations_pb2, http_pb2
from google.protobuf import any_pb2, descriptor_pb2, json_format
from google.rpc import error_details_pb2, status_pb2

SERVICE = "OrchestratorService"
RULES = Path(__file__).with_name("http.yaml")


def annotate(contract: descriptor_pb2.FileDescriptorSet, rules: http_pb2.Http) -> None:
    """Add a rule to each method of the service.

    Args:
        contract: The descriptors of the contract. They are changed.
        rules: The rules, with the full name of a method each.

    Raises:
        ValueError: A method has no rule, or a rule has no method.
    """
    by_method = {rule.selector: rule for rule in rules.rules}
    services = [(file.package, each) for file in contract.file for each in file.service if each.name == SERVICE]
    methods = {f"{package}.{each.name}.{method.name}": method for package, each in services for method in each.method}
    if different := by_method.keys() ^ methods.keys():
        raise ValueError(f"methods without a rule, or rules without a method: {', '.join(sorted(different))}")
    for name, method in methods.items():
        method.options.Extensions[annotations_pb2.http].CopyFrom(by_method[name])


def main(contract: Path, target: Path) -> None:
    """Read the descriptor set of the contract, and write the one with annotations."""
    descriptors = descriptor_pb2.FileDescriptorSet.FromString(contract.read_bytes())
    rules = yaml.safe_load(RULES.read_text("utf-8"))["http"]
    annotate(descriptors, json_format.ParseDict(rules, http_pb2.Http()))
    for module in (any_pb2, status_pb2, error_details_pb2):
        module.DESCRIPTOR.CopyToProto(descriptors.file.add())
    target.write_bytes(descriptors.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
