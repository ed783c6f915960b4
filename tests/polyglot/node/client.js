// A client in JavaScript: see ../README.md.

import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const { PROTO, GOOGLEAPIS } = process.env; // the folders of the .proto files

// Without `keepCase`, the loader expects camelCase names, and silently drops fields that are spelled otherwise.
const definition = loader.loadSync(
  ["stepwave/v1/orchestrator.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"],
  { includeDirs: [PROTO, GOOGLEAPIS], keepCase: true, enums: String, longs: String, defaults: true, oneofs: true },
);
const { stepwave, google } = grpc.loadPackageDefinition(definition);

const [address, scenario] = process.argv.slice(2);
const client = new stepwave.v1.OrchestratorService(address, grpc.credentials.createInsecure());

const echo = (id, depends_on = []) => ({ id, action: "core.echo", depends_on });
const DIAMOND = {
  name: "diamond",
  steps: [{ ...echo("a"), input: { json: "1" } }, echo("b", ["a"]), echo("c", ["a"]), echo("d", ["b", "c"])],
};
const SLEEPING = { name: "sleeping", steps: [{ id: "a", action: "core.sleep", input: { json: '{"seconds": 600}' } }] };

function call(method, request) {
  return new Promise((resolve, reject) =>
    client[method](request, (error, response) => (error ? reject(error) : resolve(response))),
  );
}

function check(fact, message) {
  if (!fact) throw new Error(message);
}

/** Read the events of a stream; `until` may end it early. Returns the numbered events and the last sequence. */
async function read(stream, until = () => false) {
  const events = [];
  let last = 0;
  try {
    for await (const message of stream) {
      last = message.last_sequence || last;
      events.push(...message.events.filter((event) => event.sequence > 0));
      if (message.events.some(until)) break;
    }
  } finally {
    stream.cancel();
  }
  return { events, last };
}

function checkSequences(events) {
  events.forEach((event, index) => check(event.sequence === index + 1, `sequence ${event.sequence} at ${index}`));
}

const end = (events) => events.at(-1).run_finished.result;

const scenarios = {
  async plan() {
    const { plan } = await call("PlanWorkflow", { workflow: DIAMOND });
    return { wave_sizes: plan.wave_sizes, steps: plan.steps.map((step) => step.step_id) };
  },

  async execute() {
    const { events } = await read(client.ExecuteWorkflow({ workflow: DIAMOND }));
    checkSequences(events);
    const result = end(events);
    return { events: events.length, state: result.state, output: result.outputs.d.json };
  },

  async resume() {
    const { run } = await call("StartRun", { workflow: SLEEPING });
    const watch = (after_sequence) => client.WatchRun({ run_id: run.run_id, after_sequence });
    const first = await read(watch(0), (event) => event.step_started);
    await call("CancelRun", { run_id: run.run_id });
    const second = await read(watch(first.last));
    const events = [...first.events, ...second.events];
    checkSequences(events);
    return { state: end(events).state };
  },

  async invalid() {
    const steps = [echo("a", ["b"]), { id: "b", action: "missing", depends_on: ["a"] }];
    const error = await read(client.ExecuteWorkflow({ workflow: { name: "cycle", steps } })).catch((error) => error);
    const { info, request } = details(error);
    return {
      code: grpc.status[error.code],
      reason: info.reason,
      domain: info.domain,
      fields: request.field_violations.map((violation) => violation.field),
    };
  },

  async cancel() {
    const stream = client.ExecuteWorkflow({ workflow: SLEEPING });
    const { events } = await read(stream, (event) => {
      if (event.step_started) client.CancelRun({ run_id: event.run_id }, (error) => error && stream.destroy(error));
      return false;
    });
    return { state: end(events).state };
  },

  async deadline() {
    await call("GetServerInfo", {});
    const run_id = `deadline-${process.pid}`;
    const options = { deadline: Date.now() + 500 };
    const error = await read(client.ExecuteWorkflow({ workflow: SLEEPING, run_id }, options)).catch((error) => error);
    const { events } = await read(client.WatchRun({ run_id }));
    return { code: grpc.status[error.code], state: end(events).state };
  },

  async named() {
    const { workflows } = await call("ListWorkflows", {});
    const schema = JSON.parse(workflows.find((workflow) => workflow.name === "greeting").input_schema);
    const execute = (input) =>
      read(client.ExecuteWorkflow({ workflow_name: "greeting", input: { json: JSON.stringify(input) } }));
    const result = end((await execute({ name: "Ada" })).events);
    const error = await execute({ name: 3 }).catch((error) => error);
    return {
      required: schema.required,
      state: result.state,
      output: result.outputs.hello.json,
      code: grpc.status[error.code],
      problem: details(error).request.field_violations[0].description,
    };
  },

  async paging() {
    const labels = { set: `paging-${process.pid}` };
    for (let count = 0; count < 5; count++) await call("StartRun", { workflow: { ...DIAMOND, labels } });
    const pages = [];
    let page_token = "";
    do {
      const page = await call("ListRuns", { labels, page_size: 2, page_token });
      pages.push(page.runs.map((run) => run.run_id));
      page_token = page.next_page_token;
    } while (page_token);
    return { pages: pages.map((page) => page.length), runs: new Set(pages.flat()).size };
  },
};

/** Decode the `google.rpc.Status` of an error. */
function details(error) {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const found = {};
  for (const { type_url, value } of google.rpc.Status.deserialize(bytes).details) {
    const name = type_url.split("/").at(-1);
    if (name === "google.rpc.ErrorInfo") found.info = google.rpc.ErrorInfo.deserialize(value);
    if (name === "google.rpc.BadRequest") found.request = google.rpc.BadRequest.deserialize(value);
  }
  return found;
}

try {
  console.log(JSON.stringify(await scenarios[scenario]()));
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  client.close();
}
