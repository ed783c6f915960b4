// Actions of Stepwave in JavaScript, by Temporal's own SDK: `node host.js ADDRESS TASK_QUEUE`.
//
// An action is an activity of its name, on the task queue `TASK_QUEUE:NAME`. It gets the input of the step as JSON, and
// an object that describes the attempt: run_id, step_id, attempt, timeout in seconds. It returns the output as JSON.
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { NativeConnection, Runtime, DefaultLogger, Worker } from '@temporalio/worker';

/** Answers. */
async function greet(input, step) {
  return { text: `Hello, ${input.name}`, by: `${step.run_id}/${step.step_id}` };
}

/** Fails at first. The type of a failure is the reason of the step's failure. */
async function reserve(input, step) {
  if (step.attempt < 2) {
    throw ApplicationFailure.create({
      type: 'rate_limited',
      message: 'too many reservations',
      nextRetryDelay: '20ms',
      details: [{ details: { shop: 'north' } }],
    });
  }
  return step.attempt;
}

/** Never retried: the failure says so. */
async function refuse() {
  throw ApplicationFailure.create({ type: 'not_found', message: 'no such shop', nonRetryable: true });
}

/** Takes long. Its heartbeats show its progress, and learn of a cancel. */
async function wait() {
  const context = Context.current();
  const beat = setInterval(() => context.heartbeat({ fraction: 0.5, message: 'half of it' }), 200);
  try {
    await context.cancelled; // rejects when the run is cancelled
  } finally {
    clearInterval(beat);
  }
}

const [address, prefix] = process.argv.slice(2);
Runtime.install({ logger: new DefaultLogger('ERROR') });
const connection = await NativeConnection.connect({ address });
const workers = await Promise.all(
  Object.entries({ greet, reserve, refuse, wait }).map(([name, action]) =>
    Worker.create({ connection, taskQueue: `${prefix}:${name}`, activities: { [name]: action }, shutdownGraceTime: 0 }),
  ),
);
const running = Promise.all(workers.map((worker) => worker.run()));
process.stdout.write('ready\n');
await running;
