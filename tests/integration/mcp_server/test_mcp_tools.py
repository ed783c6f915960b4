"""`stepwave mcp`: workflows are tools of an agent, which run on a server."""

import base64
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import AudioContent, BlobResourceContents, EmbeddedResource, ImageContent, TextContent

from integration.mcp_server.actions import EVENTS, RELEASED
from integration.mcp_server.agent import FOLDER, Agent, Progress, text_of
from stepwave import Client

WITHIN = 20  # seconds for an event of an action
BYTES = base64.b64encode(b"bytes").decode()


def test_each_workflow_file_is_a_tool(agent: Agent) -> None:
    assert sorted(agent.tools()) == sorted(file.stem for file in (FOLDER / "flows").iterdir())


def test_a_tool_has_the_input_schema_of_its_workflow_or_takes_any_object(agent: Agent) -> None:
    tools = agent.tools()
    schema = tools["greeting"].input_schema
    assert (schema["type"], schema["required"], schema["properties"]["times"]["maximum"]) == ("object", ["name"], 3)
    assert tools["facts"].input_schema["type"] == "object"
    assert tools["pages"].input_schema == {"type": "object"}


def test_a_description_is_the_label_or_the_schemas_or_names_the_steps(agent: Agent) -> None:
    tools = agent.tools()
    assert tools["greeting"].description == "Greets somebody loudly."
    assert tools["facts"].description == "Collects facts."
    assert tools["pages"].description == "Runs the workflow pages, with the steps pages, count."


def test_a_text_is_the_answer_as_it_is(agent: Agent) -> None:
    answer = agent.call("greeting", {"name": "ann"})
    assert (answer.is_error, text_of(answer), answer.structured_content) == (False, "HELLO ann", None)


def test_an_object_is_structured_content_and_json(agent: Agent) -> None:
    answer = agent.call("facts")
    assert answer.structured_content == {"hits": [1, 2], "exact": 1.1}
    assert text_of(answer) == '{"hits":[1,2],"exact":1.10}'


def test_several_outputs_are_an_object_by_step(agent: Agent) -> None:
    answer = agent.call("several")
    assert answer.structured_content == {"text": "words", "number": 7}
    text, picture = answer.content
    assert isinstance(text, TextContent)
    assert text.text == '{"text":"words","number":7}'
    assert isinstance(picture, ImageContent)


@pytest.mark.parametrize(("kind", "content"), [("image/png", ImageContent), ("audio/wav", AudioContent)])
def test_a_blob_is_content_of_its_media_type(agent: Agent, kind: str, content: Any) -> None:
    answer = agent.call("blob", {"kind": kind})
    assert answer.content == [content(data=BYTES, mime_type=kind)]
    assert answer.structured_content is None


def test_a_blob_of_another_media_type_is_an_embedded_resource(agent: Agent) -> None:
    (content,) = agent.call("blob", {"kind": "application/pdf"}).content
    assert isinstance(content, EmbeddedResource)
    assert isinstance(content.resource, BlobResourceContents)
    assert (content.resource.mime_type, content.resource.blob) == ("application/pdf", BYTES)


def test_each_step_that_ends_is_progress(agent: Agent) -> None:
    progress: list[Progress] = []
    agent.start("pages", {"urls": ["a", "b"]}, progress).result()
    assert [done for done, _, _ in progress] == [1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in progress[-2:]} == {6}
    assert sorted(message or "" for _, _, message in progress[:4]) == [
        "pages[0]/read: succeeded",
        "pages[0]: succeeded",
        "pages[1]/read: succeeded",
        "pages[1]: succeeded",
    ]
    assert [message for _, _, message in progress[4:]] == ["pages: succeeded", "count: succeeded"]


class Received(list[Progress]):
    """Progress, after which an action may go on."""

    def append(self, item: Progress) -> None:
        super().append(item)
        RELEASED.put(None)


def test_what_a_step_reports_is_progress_between_the_ends_of_steps(agent: Agent) -> None:
    progress = Received()
    agent.start("reporting", progress=progress).result()
    RELEASED.get()  # after the end of the step
    assert [message for _, _, message in progress] == ["work: half", "work: more", "work: succeeded"]
    first, second, last = [done for done, _, _ in progress]
    assert 0 < first < second < last == 1
    assert {total for _, total, _ in progress} == {1}


def test_calls_run_together(agent: Agent) -> None:
    both = [agent.start("meeting") for _ in range(2)]
    assert [text_of(call.result()) for call in both] == ["0", "0"]


def test_a_cancelled_call_cancels_its_run(agent: Agent, address: str) -> None:
    call = agent.start("holding")
    assert EVENTS.get(timeout=WITHIN) == "started"
    call.cancel()
    assert EVENTS.get(timeout=WITHIN) == "ended"
    with Client(address) as client:
        (run,) = client.runs(workflow="holding", limit=1)
        assert client.wait(run.run_id, check=False).state == "cancelled"


def test_a_failed_run_is_an_error_with_each_failure(agent: Agent) -> None:
    answer = agent.call("failing")
    assert answer.is_error
    assert sorted(text_of(answer).splitlines()) == [
        "step first failed: not_found: no luck",
        "step second failed: action_error: no page",
    ]


@pytest.mark.parametrize("name", ["facts", "failing"])
def test_an_answer_has_the_id_of_its_run(agent: Agent, address: str, name: str) -> None:
    meta = agent.call(name).meta
    assert meta is not None
    with Client(address) as client:
        assert client.get(meta["stepwave/run_id"]).workflow_name == name


def test_a_refused_input_is_an_error_with_all_problems(agent: Agent) -> None:
    answer = agent.call("greeting", {"times": 4})
    assert answer.is_error
    assert text_of(answer).splitlines() == [
        "input/times: 4 is greater than the maximum of 3",
        "input: 'name' is a required property",
    ]


def test_what_actions_log_is_on_standard_error(agent: Agent) -> None:
    agent.call("logging")
    assert "warning   log  from an action\n" in agent.errors()


def test_an_unknown_tool_is_an_error_of_the_protocol(agent: Agent) -> None:
    with pytest.raises(MCPError, match="Unknown tool: nothing"):
        agent.call("nothing")
