import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Bytes, Client, DeadlineExceeded, RunCancelled, RunFailed, StepwaveError, Workflow, withDefault } from "stepwave";
import type { RunEvent } from "stepwave";

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

function diamond(): Workflow {
  const flow = new Workflow("diamond", { labels: { shape: "diamond" } });
  const a = flow.step("a", "core.echo", flow.input);
  const b = flow.step("b", "core.echo", a.output["n"]!);
  const c = flow.step("c", "core.echo", [a.output["list"]![1]!, withDefault(a.output["none"]!, "default")]);
  flow.step("d", "core.echo", { b: b.output, c: c.output, fixed: true }, { dependsOn: [a] });
  return flow;
}

function sleeping(): Workflow {
  const flow = new Workflow("sleeping");
  flow.step("a", "core.sleep", { seconds: 600 });
  return flow;
}

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}

test("an awaited run gives its outputs", async () => {
  const result = await client.run(diamond(), { n: 1.5, list: [1, 2] });
  assert.deepEqual(result.outputs, { d: { b: 1.5, c: [2, "default"], fixed: true } });
  assert.equal(result.state, "succeeded");
  assert.equal(result.counts.succeeded, 4);
  assert.ok(result.createTime instanceof Date);
});

test("a run gives its events in order, and then its result", async () => {
  const run = client.run(diamond(), { n: 1, list: [1, 2] }, { runId: "in-order" });
  const events = (await all(run)).filter((event) => event.sequence > 0);
  assert.deepEqual(events.map((event) => event.sequence), events.map((_, index) => index + 1));
  assert.ok(events.every((event) => event.runId === "in-order"));
  const finished = events.flatMap((event) => (event.type === "step_finished" ? [event.result.stepId] : []));
  assert.deepEqual([finished[0], finished[3]], ["a", "d"]);
  assert.deepEqual([events[0]!.type, events.at(-1)!.type], ["run_started", "run_finished"]);
  assert.equal((await run).state, "succeeded");
});

test("a loop and an await at the same time miss nothing", async () => {
  const run = client.run(diamond(), { n: 1, list: [1, 2] });
  const [events, result] = await Promise.all([all(run), run]);
  assert.equal(events.filter((event) => event.sequence > 0).length, events.at(-1)!.sequence);
  assert.equal(result.state, "succeeded");
});

test("bytes stay bytes", async () => {
  const flow = new Workflow("bytes");
  flow.step("a", "core.echo", new Bytes(Uint8Array.of(0, 255), "image/png"));
  const output = (await client.run(flow)).outputs["a"];
  assert.ok(output instanceof Bytes);
  assert.deepEqual([[...output.data], output.contentType], [[0, 255], "image/png"]);
});

test("a list runs once for every item", async () => {
  const flow = new Workflow("list");
  const body = new Workflow("body");
  body.step("inner", "core.echo", { item: body.input });
  flow.forEach("echoes", { over: flow.input["items"]!, action: "core.echo", input: { was: flow.item } });
  flow.forEach("bodies", { over: [1, 2], workflow: body, maxParallelism: 1 });
  const { outputs } = await client.run(flow, { items: ["x", "y"] });
  assert.deepEqual(outputs, {
    echoes: [{ was: "x" }, { was: "y" }],
    bodies: [{ inner: { item: 1 } }, { inner: { item: 2 } }],
  });
});

test("a step is retried, and then its fallback answers", async () => {
  const flow = new Workflow("fallback");
  const retry = { maxAttempts: 2, initialBackoff: 0.01, retryableReasons: ["action_error"] as const };
  const options = { retry, fallback: { value: { hits: [] } }, timeout: 5, totalTimeout: 60 };
  flow.step("a", "core.fail", { message: "no", retryable: true }, options);
  const run = client.run(flow);
  const retrying = (await all(run)).filter((event) => event.type === "step_retrying");
  assert.equal(retrying.length, 1);
  assert.deepEqual((await run).outputs, { a: { hits: [] } });
});

test("a failed run is an error with the result and the failure", async () => {
  const flow = new Workflow("failing");
  flow.step("a", "core.fail", { message: "no such city" });
  const error = await client.run(flow).then(() => assert.fail(), (error: unknown) => error);
  assert.ok(error instanceof RunFailed && !(error instanceof RunCancelled));
  assert.deepEqual([error.failure!.stepId, error.failure!.message], ["a", "no such city"]);
  assert.match(error.message, /step 'a' failed: no such city/);
  assert.equal((await client.run(flow, null, { check: false })).state, "failed");
});

test("an aborted signal cancels the run", async () => {
  const controller = new AbortController();
  const run = client.run(sleeping(), null, { signal: controller.signal });
  const reading = all((async function* () {
    for await (const event of run) {
      if (event.type === "step_started") controller.abort();
      yield event;
    }
  })());
  await assert.rejects(reading, { name: "AbortError" });
  await assert.rejects(run, { name: "AbortError" });
  assert.equal((await client.wait(run.runId, { check: false })).state, "cancelled");
});

test("a signal that was aborted before starts nothing", async () => {
  const run = client.run(sleeping(), null, { signal: AbortSignal.abort() });
  await assert.rejects(run, { name: "AbortError" });
  assert.deepEqual(await all(client.runs({ prefix: run.runId })), []);
});

test("leaving the loop cancels the run", async () => {
  const run = client.run(sleeping());
  for await (const event of run) if (event.type === "step_started") break;
  await assert.rejects(client.wait(run.runId), RunCancelled);
  await assert.rejects(run, (error: Error) => error instanceof StepwaveError && /left before its end/.test(error.message));
});

test("the handle's own cancel gives the result of the cancelled run", async () => {
  const run = client.run(sleeping());
  for await (const event of run) if (event.type === "step_started") await run.cancel("enough");
  const result = await run;
  assert.equal(result.state, "cancelled");
  assert.match(result.failures[0]!.message, /enough/);
});

test("a run that takes longer than its timeout is cancelled", async () => {
  const run = client.run(sleeping(), null, { timeout: 0.5 });
  await assert.rejects(run, DeadlineExceeded);
  assert.equal((await client.wait(run.runId, { check: false })).state, "cancelled");
});

test("a detached run is watched from a sequence, and leaving the watch does not affect it", async () => {
  const { runId } = await client.start(sleeping());
  let last = 0;
  for await (const event of client.watch(runId)) {
    last = event.sequence;
    if (event.type === "step_started") break;
  }
  assert.equal((await client.get(runId)).state, "running");
  await client.cancel(runId);
  const rest = await all(client.watch(runId, { afterSequence: last }));
  assert.equal(rest[0]!.sequence, last + 1);
  assert.equal((await client.result(runId)).state, "cancelled");
});

test("a watch of some kinds has these alone", async () => {
  const { runId } = await client.start(diamond(), { n: 1, list: [1, 2] });
  const events = await all(client.watch(runId, { kinds: ["step_finished"] }));
  assert.deepEqual(new Set(events.map((event: RunEvent) => event.type)), new Set(["step_finished", "run_finished"]));
});

test("a waiting step is completed from outside", async () => {
  const flow = new Workflow("approval");
  flow.step("ask", "core.wait");
  flow.step("refused", "core.wait", null, { allowFailure: true });
  const run = client.run(flow);
  for await (const event of run) {
    if (event.type !== "step_started") continue;
    if (event.stepId === "ask") await client.completeStep(run.runId, "ask", { approved: true });
    else await client.failStep(run.runId, "refused", { reason: "action_error", message: "no" });
  }
  assert.deepEqual((await run).outputs, { ask: { approved: true } });
  const steps = await all(client.steps(run.runId));
  assert.deepEqual(steps.map((step) => [step.stepId, step.state, step.failure?.message]), [
    ["ask", "succeeded", undefined],
    ["refused", "failed", "no"],
  ]);
});

test("steps are added to an open run", async () => {
  const first = new Workflow("open");
  first.step("a", "core.echo", 1);
  const { runId } = await client.start(first, null, { open: true, idleTimeout: 60 });
  const more = new Workflow("more");
  more.step("b", "core.echo", 2, { dependsOn: ["a"] });
  await client.addSteps(runId, more, { seal: true });
  assert.deepEqual((await client.wait(runId)).outputs, { b: 2 });
});

test("a plan has the waves of a workflow", async () => {
  const plan = await client.plan(diamond());
  assert.deepEqual(plan.waveSizes, [1, 2, 1]);
  assert.deepEqual(plan.steps.map((step) => [step.stepId, step.wave]), [["a", 0], ["b", 1], ["c", 1], ["d", 2]]);
  assert.deepEqual([...plan.steps[3]!.dependsOn].sort(), ["a", "b", "c"]);
});

test("runs are found by their labels, and deleted", async () => {
  const flow = new Workflow("labelled", { labels: { set: "found" } });
  flow.step("a", "core.echo", 1);
  const ids = [await client.run(flow), await client.run(flow)].map((result) => result.runId);
  const found = await all(client.runs({ labels: { set: "found" }, states: ["succeeded"], since: new Date(0) }));
  assert.deepEqual(found.map((run) => run.runId), ids.reverse());
  await client.delete(ids[0]!);
  assert.equal((await all(client.runs({ labels: { set: "found" } }))).length, 1);
});

test("the server tells its actions and what it serves", async () => {
  const names = (await all(client.actions())).map((action) => action.name);
  assert.ok(names.includes("core.echo"));
  const info = await client.serverInfo();
  assert.deepEqual([info.engine, info.journal, info.limits["defaultStepTimeout"]], ["local", "memory", 600]);
  assert.deepEqual(await all(client.workflows()), []);
});

test("many runs and calls share a signal without a warning", async () => {
  const warnings: Error[] = [];
  const warn = (warning: Error) => warnings.push(warning);
  process.on("warning", warn);
  const { signal } = new AbortController();
  const flow = new Workflow("shared");
  flow.step("a", "core.echo", 1);
  await Promise.all(Array.from({ length: 50 }, () => client.run(flow, null, { signal })));
  await Promise.all(Array.from({ length: 50 }, () => client.serverInfo({ signal })));
  process.removeListener("warning", warn);
  assert.deepEqual(warnings, []);
});
