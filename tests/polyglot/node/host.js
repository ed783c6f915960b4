// A host of actions in JavaScript, `node host.js LISTEN`: see ../README.md.

import { once } from "node:events";

import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import { HealthImplementation } from "grpc-health-check";

const { PROTO } = process.env; // the folder of the .proto files

const options = { includeDirs: [PROTO], keepCase: true, enums: String, longs: String, defaults: true, oneofs: true };
const definition = loader.loadSync("stepwave/v1/runnable.proto", options);
const { RunnableService } = grpc.loadPackageDefinition(definition).stepwave.v1;

const json = (value) => ({ json: JSON.stringify(value) });

/** The failure of an action: the fields of the message `Failure`. */
class Failed extends Error {
  constructor(fields) {
    super(fields.message);
    this.fields = fields;
  }
}

/**
 * The actions by name. An action gets its input and a context: the attempt, the seconds that it has left, its trace, a signal for its
 * interruption, and `send`, which sends a message of the stream. It returns the answer; nothing, if its chunks are the answer.
 */
const actions = new Map(Object.entries({
  async greet({ name }, { attempt, left, traceparent }) {
    if (typeof name !== "string") throw new TypeError("name: not a string");
    return { text: `Hello, ${name}`, key: attempt.idempotency_key, left, traceparent, pid: process.pid };
  },

  async count({ most }, { send }) {
    await send({ log: { message: `counting to ${most}` } });
    for (let number = 1; number <= most; number++) {
      await send({ chunk: json(`${number} `) });
      await send({ progress: { fraction: number / most, message: `counted to ${number}` } });
    }
  },

  async fail({ retryable }) {
    throw new Failed({
      reason: "FAILURE_REASON_RATE_LIMITED",
      message: "too many reservations",
      retryable,
      retry_after: { nanos: 1e7 },
      details: { shop: "north" },
    });
  },

  /** The first attempt lasts until it is interrupted. The next one answers. */
  async slow(_, { attempt, signal, send }) {
    if (attempt.attempt > 1) return { attempt: attempt.attempt };
    await send({ chunk: json("begun") });
    if (!signal.aborted) await once(signal, "abort");
    console.log(`interrupted ${attempt.run_id}`);
    return null; // nobody reads it
  },

  /** Breaks the contract. */
  async twice(_, { send }) {
    await send({ output: json(1) });
    return 2;
  },
}));

/** Run the attempt of a call. Return its outcome, or throw the status of a call that cannot be accepted. */
async function outcomeOf(call, send) {
  const { attempt } = call.request;
  if (!attempt?.input) throw { code: grpc.status.INVALID_ARGUMENT, details: "an attempt has an input" };
  const action = actions.get(attempt.action);
  if (!action) throw { code: grpc.status.NOT_FOUND, details: `unknown action "${attempt.action}"` };
  const interruption = new AbortController();
  call.on("cancelled", () => interruption.abort()); // by a cancel, or at the deadline
  const context = {
    attempt,
    send,
    signal: interruption.signal,
    left: (call.getDeadline() - Date.now()) / 1000,
    traceparent: call.metadata.get("traceparent"),
  };
  try {
    const answer = await action(JSON.parse(attempt.input.json), context);
    return answer === undefined ? null : { output: json(answer) };
  } catch (error) {
    if (error instanceof Failed) return { failure: error.fields };
    return { failure: { reason: "FAILURE_REASON_ACTION_ERROR", message: String(error), retryable: true } };
  }
}

const service = {
  Invoke(call, answer) {
    outcomeOf(call, () => {}).then((outcome) => answer(null, outcome ?? { output: json(null) }), answer);
  },

  async Stream(call) {
    const send = (message) => new Promise((resolve) => call.write(message, resolve)); // waits for a slow reader
    try {
      const outcome = await outcomeOf(call, send);
      if (outcome) call.write(outcome);
      call.end();
    } catch (status) {
      call.emit("error", status);
    }
  },
};

const health = new HealthImplementation({ "": "SERVING" });
const server = new grpc.Server();
server.addService(RunnableService.service, service);
health.addToServer(server);
server.bindAsync(process.argv[2], grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
process.on("SIGTERM", () => {
  health.setStatus("", "NOT_SERVING"); // servers send no more attempts
  server.tryShutdown(() => process.exit());
  console.log("draining");
});
