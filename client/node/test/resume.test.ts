import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Client, RunLost, ServerUnavailable, Workflow, type RunEvent } from "stepwave";

import { serve } from "./server.js";

const flow = new Workflow("long");
const first = flow.step("first", "core.echo", 1);
const second = flow.step("second", "core.wait", null, { dependsOn: [first] });
flow.step("third", "core.echo", second.output);

test("a run goes on, without a gap, after its server was killed and started again with its journal", async () => {
  const journal = ["--journal", `sqlite:${join(mkdtempSync(join(tmpdir(), "stepwave-")), "journal.db")}`];
  let server = await serve(journal);
  const client = new Client(server.address);
  const run = client.run(flow);
  const events: RunEvent[] = [];
  let killed = false;
  for await (const event of run) {
    if (event.sequence > 0) events.push(event);
    if (event.type !== "step_started" || event.stepId !== "second" || killed) continue;
    killed = true;
    await server.kill();
    server = await serve(journal, server.address);
    await client.completeStep(run.runId, "second", "done");
  }
  assert.deepEqual(events.map((event) => event.sequence), events.map((_, index) => index + 1));
  assert.deepEqual((await run).outputs, { third: "done" });
  client.close();
  await server.kill();
});

test("a run is lost with a journal in memory", async () => {
  let server = await serve();
  const client = new Client(server.address);
  const run = client.run(flow);
  const reading = (async () => {
    for await (const event of run) {
      if (event.type !== "step_started" || event.stepId !== "second") continue;
      await server.kill();
      server = await serve(undefined, server.address);
    }
  })();
  await assert.rejects(reading, (error: Error) => error instanceof RunLost && error.metadata["run_id"] === run.runId);
  client.close();
  await server.kill();
});

test("a server that does not come back within the window is an error", async () => {
  const server = await serve();
  const client = new Client(server.address, { reconnectWindow: 0.5, connectTimeout: 0.5 });
  const run = client.run(flow);
  const reading = (async () => {
    for await (const event of run) if (event.type === "step_started" && event.stepId === "second") await server.kill();
  })();
  await assert.rejects(reading, (error: Error) => error instanceof ServerUnavailable && /did not come back/.test(error.message));
  client.close();
});

test("a run is started once its server is there", async () => {
  const gone = await serve();
  await gone.kill();
  const client = new Client(gone.address, { connectTimeout: 30 });
  const echo = new Workflow("echo");
  echo.step("a", "core.echo", 1);
  const run = client.run(echo);
  const server = await serve(undefined, gone.address);
  assert.deepEqual((await run).outputs, { a: 1 });
  client.close();
  await server.kill();
});
