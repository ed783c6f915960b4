"""Research on the documentation of this machine's Python, with a person's approval; `python research.py QUESTION`.

The library is an MCP server, a process that the run starts. All is on this machine, without a network.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from reports import note, publish, write

from stepwave import AsyncClient, Cel, RunResult, Workflow, size

QUESTION = "Which modules compress data?"
SERVERS = Path(__file__).with_name("mcp_servers.toml")


def research() -> Workflow:
    """Return the workflow: search, read every page that was found, write a report, and publish it if it is approved."""
    search, read = {"server": "library", "tool": "search"}, {"server": "library", "tool": "read"}
    flow = Workflow("research")
    question = flow.input["question"]
    found = flow.step("search", "mcp.call", {**search, "arguments": {"question": question}})
    wider = flow.step(
        "widen",
        "mcp.call",
        {**search, "arguments": {"question": question, "match": "any"}},
        when=size(found.output["result"]) < 3,
    )

    page = Workflow("page")
    text = page.step("read", "mcp.call", {**read, "arguments": {"module": page.input["module"]}})
    page.step("note", note, {"page": text.output, "question": page.input["question"]})

    pages = flow.for_each(
        "pages",
        over=Cel(
            'deps["widen"].state == "SUCCEEDED" ? deps["widen"].output.result : deps["search"].output.result',
        ),
        depends_on=[found, wider],
        join="all_done",  # `widen` is skipped if the first search found enough
        workflow=page,
        input={"module": flow.item["module"], "question": question},
        max_parallelism=4,
    )
    report = flow.step("write", write, {"question": question, "pages": pages.output})
    approval = flow.step("approve", "core.wait", {"question": "Publish the report?", "report": report.output})
    flow.step(
        "publish",
        publish,
        {"report": report.output, "path": flow.input["path"]},
        when=approval.output["publish"] == True,  # noqa: E712 - an expression, not a comparison in Python
    )
    return flow


async def run(question: str, path: Path, *, yes: bool) -> RunResult:
    """Run the research. Ask a person for the approval, unless the answer is `yes` already."""
    flow = research()
    async with AsyncClient.local(mcp_servers=SERVERS) as client:
        async with client.run(flow, {"question": question, "path": str(path)}) as following:
            async for event in following:
                if event.kind == "step_finished" and event.result.step_id == "write" and event.result.output:
                    print(event.result.output)
                if event.kind == "step_started" and event.step_id == "approve":
                    publish = yes or await asyncio.to_thread(_ask)
                    await client.complete_step(following.run_id, "approve", {"publish": publish})
            result = await following
        print(await client.report(result.run_id), file=sys.stderr)
        return result


def _ask() -> bool:
    return input("Publish the report? [y/N] ").strip().lower() in {"y", "yes"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--path", type=Path, default=Path("report.md"), help="where to publish the report")
    parser.add_argument("--yes", action="store_true", help="publish without a question")
    given = parser.parse_args()
    # In mcp_servers.toml, `python` is the one that runs this program.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    result = asyncio.run(run(given.question, given.path, yes=given.yes))
    published = result.outputs.get("publish")
    print(f"published: {published}" if published else "not published")
    return 0


if __name__ == "__main__":
    sys.exit(main())
