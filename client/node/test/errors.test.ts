import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { AlreadyExists, Client, FailedPrecondition, InvalidWorkflow, NotFound, ServerUnavailable, Workflow } from "stepwave";

import { serve, type Server } from "./server.js";

let server: Server;
let client: Client;

before(async () => {
  server = await serve();
  client = new Client(server.address);
});

after(async () => {
  client.close();
  await server.kill();
});

function caught(promise: PromiseLike<unknown>): Promise<unknown> {
  return Promise.resolve(promise).then(() => assert.fail(), (error: unknown) => error);
}

test("an invalid workflow names every invalid field", async () => {
  const flow = new Workflow("cycle");
  flow.step("a", "core.echo", undefined, { dependsOn: ["b"] });
  flow.step("b", "missing", undefined, { dependsOn: ["a"] });
  for (const call of [() => client.run(flow), () => client.start(flow), () => client.plan(flow)]) {
    const error = await caught(call());
    assert.ok(error instanceof InvalidWorkflow);
    assert.equal(error.reason, "INVALID_ARGUMENT");
    assert.equal(error.metadata["engine"], "local");
    assert.deepEqual(error.violations.map(({ field, reason }) => [field, reason]), [
      ["workflow.steps[0].depends_on", ""],
      ["workflow.steps[1].action", "UNKNOWN_ACTION"],
    ]);
    assert.match(error.message, /workflow\.steps\[1\]\.action: /);
  }
});

test("a run that does not exist is NotFound, with its id", async () => {
  const error = await caught(client.get("nothing"));
  assert.ok(error instanceof NotFound);
  assert.deepEqual([error.name, error.reason, error.metadata], ["NotFound", "RUN_NOT_FOUND", { run_id: "nothing" }]);
});

test("the same id with the same content is the same run, and with another one an error", async () => {
  const flow = new Workflow("same");
  flow.step("a", "core.wait");
  const run = await client.start(flow, 1, { runId: "same" });
  assert.equal((await client.start(flow, 1, { runId: "same" })).createTime.getTime(), run.createTime.getTime());
  assert.ok((await caught(client.start(flow, 2, { runId: "same" }))) instanceof AlreadyExists);
  assert.ok((await caught(client.result("same"))) instanceof FailedPrecondition);
});

test("a server that does not answer is ServerUnavailable", async () => {
  const other = new Client("127.0.0.1:1", { connectTimeout: 0 });
  assert.ok((await caught(other.serverInfo())) instanceof ServerUnavailable);
  const flow = new Workflow("echo");
  flow.step("a", "core.echo", 1);
  assert.ok((await caught(other.run(flow))) instanceof ServerUnavailable);
  other.close();
});

test("a call is aborted by its signal", async () => {
  await assert.rejects(client.serverInfo({ signal: AbortSignal.abort() }), { name: "AbortError" });
});
