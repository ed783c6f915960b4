import assert from "node:assert/strict";
import { test } from "node:test";

import { Bytes, cel, Client, secret, StepHandle, StepwaveError, Workflow, type Input } from "stepwave";

const flow = new Workflow("flow");

test("references become bindings, and leave null in the input", () => {
  const made = new Workflow("made", { failurePolicy: "continue", timeout: 1.5, inputSchema: { type: "object" } });
  const a = made.step("a", "search", { query: made.input["q"]!, key: secret("KEY") });
  made.step("b", "write", { parts: [1, a.output["hits/all"]![0]!], n: cel("size(deps['a'].output)") }, { when: "true" });
  const { steps, failure_policy, timeout, input_schema } = made.toProto();
  assert.deepEqual([failure_policy, timeout, input_schema], [
    "FAILURE_POLICY_CONTINUE",
    { seconds: 1, nanos: 5e8 },
    '{"type":"object"}',
  ]);
  assert.deepEqual(steps[0].bindings, [{ target: "/query", input: "/q" }, { target: "/key", secret: "KEY" }]);
  assert.deepEqual(steps[1].input, { json: '{"parts":[1,null],"n":null}' });
  assert.deepEqual(steps[1].bindings, [
    { target: "/parts/1", step: { id: "a", path: "/hits~1all/0" } },
    { target: "/n", expression: "size(deps['a'].output)" },
  ]);
});

test("an input that JSON cannot hold is refused with its place", () => {
  const cyclic: Record<string, unknown> = {};
  cyclic["self"] = cyclic;
  const handle = new StepHandle(flow, "a");
  for (const [value, message] of [
    [{ a: [NaN] }, /\/a\/0: JSON cannot hold NaN/],
    [{ map: new Map() }, /\/map: JSON cannot hold Map/],
    [{ f: () => 1 }, /\/f: JSON cannot hold/],
    [{ n: 1n }, /\/n: JSON cannot hold/],
    [{ step: handle }, /\/step: JSON cannot hold StepHandle; pass the step's output/],
    [cyclic, /contains itself/],
  ] as const) {
    assert.throws(() => flow.step("b", "core.echo", value as unknown as Input), { name: "TypeError", message });
  }
});

test("a reference is no value of JavaScript", () => {
  assert.throws(() => `${flow.input["city"]}`, /a reference has no value yet/);
  for (const lose of [(value: object) => ({ ...value, x: 1 }), Object.keys, JSON.stringify]) {
    assert.throws(() => lose(flow.input), { name: "TypeError", message: /a reference has no value yet/ });
  }
});

test("steps and references of another workflow are refused", () => {
  const other = new Workflow("other");
  const step = other.step("a", "core.echo");
  assert.throws(() => flow.step("b", "core.echo", step.output), /another workflow/);
  assert.throws(() => flow.step("b", "core.echo", null, { dependsOn: [step] }), /another workflow/);
});

test("what the contract does not have is refused, and not dropped", () => {
  const step = (options: object) => () => flow.step("b", "core.echo", null, options);
  assert.throws(step({ depends_on: [] }), /step 'b': there is no option 'depends_on'; known: dependsOn, /);
  assert.throws(step({ join: "some" }), /'some' is none of all, any, all_done/);
  assert.throws(step({ retry: { attempts: 3 } }), /retry: there is no option 'attempts'/);
  assert.throws(step({ retry: { maxAttempts: -1 } }), /maxAttempts is a whole number, got -1/);
  assert.throws(step({ timeout: "5s" }), /timeout is a number of seconds, got 5s/);
  assert.throws(step({ fallback: { values: 1 } }), /fallback: there is no option 'values'/);
  assert.throws(() => flow.forEach("c", { over: [1] }), /give an action or a workflow/);
  assert.throws(() => flow.forEach("c", { over: flow.item, action: "core.echo" }), /over is a list/);
});

test("bytes are a Uint8Array or an ArrayBuffer, and nothing else", () => {
  assert.deepEqual([...new Bytes(Uint8Array.of(1, 2).buffer).data], [1, 2]);
  for (const value of ["hi", undefined, [1, 2]]) {
    assert.throws(() => new Bytes(value as unknown as Uint8Array), { name: "TypeError", message: /takes a Uint8Array/ });
  }
});

test("times that are no numbers of seconds are refused before anything is sent", async () => {
  const client = new Client("127.0.0.1:1");
  for (const value of [NaN, "0.3", -1]) {
    const timeout = value as number;
    const refused = { name: "RangeError", message: /is a number of seconds/ };
    for (const name of ["timeout", "connectTimeout", "reconnectWindow"]) {
      assert.throws(() => new Client("127.0.0.1:1", { [name]: timeout }), refused);
    }
    assert.throws(() => client.run(flow, null, { timeout }), refused);
    await assert.rejects(client.get("x", { timeout }), refused);
    await assert.rejects(client.wait("x", { timeout }), refused);
  }
  client.close();
});

test("options that a call does not have and dates that are none are refused", async () => {
  const client = new Client("127.0.0.1:1");
  await assert.rejects(client.get("x", { timeOut: 1 } as object), /there is no option 'timeOut'/);
  await assert.rejects(client.addSteps("x", flow, { sealed: true } as object), /there is no option 'sealed'/);
  assert.throws(() => client.runs({ since: new Date("no") }), { name: "TypeError", message: /since is a valid Date/ });
  client.close();
});

test("calls of a closed client reject with an error of the package", async () => {
  const client = new Client("127.0.0.1:1");
  client.close();
  for (const call of [client.run("echo"), client.get("x")]) {
    await assert.rejects(Promise.resolve(call), (error: Error) => {
      return error instanceof StepwaveError && error.message === "this client is closed";
    });
  }
});
