/** The client: runs, and questions about them. */

import { randomInt } from "node:crypto";

import { checkNames, count, seconds, type Names } from "./checks.js";
import { Connection, type ConnectionOptions } from "./connection.js";
import { duration, enumName, timestamp, toObject, type Message } from "./contract.js";
import { checked } from "./errors.js";
import { toResult } from "./events.js";
import { CALL, Link, type CallOptions } from "./link.js";
import { RunHandle, watchEvents, type RunOptions } from "./run.js";
import type {
  Action,
  EventKind,
  FailureReason,
  NamedWorkflow,
  Plan,
  PlannedStep,
  Run,
  RunEvent,
  RunResult,
  ServerInfo,
  State,
  StepResult,
} from "./types.js";
import { toPayload, type Value } from "./values.js";
import { Workflow } from "./workflow.js";

/** The settings of a client. Times are in seconds. */
export interface ClientOptions extends ConnectionOptions {
  /** The namespace of all calls. Default: `$STEPWAVE_NAMESPACE`, else the server's default. */
  readonly namespace?: string;
  /** The longest that a call may take, with all its attempts. Default: 30. */
  readonly timeout?: number;
  /** How long a call is retried while the server does not answer. Default: 3. */
  readonly connectTimeout?: number;
  /** How long a lost stream is retried, and how long a run continues without one. Default: 30. */
  readonly reconnectWindow?: number;
}

export interface StartOptions extends CallOptions {
  readonly runId?: string | undefined;
  /** If true, steps can be added to the run. Default: false. */
  readonly open?: boolean | undefined;
  /** How long an open run may wait for steps, in seconds. */
  readonly idleTimeout?: number | undefined;
}

export interface WatchOptions {
  /** The sequence after which to begin. Default: 0. */
  readonly afterSequence?: number | undefined;
  /** The kinds of events to watch. `run_finished` is always among them. Default: all. */
  readonly kinds?: readonly EventKind[] | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly timeout?: number | undefined;
}

export interface WaitOptions extends CallOptions {
  /** If false, the result of a run that did not succeed is returned, too. Default: true. */
  readonly check?: boolean | undefined;
}

/** A filter for runs. A field that is not given does not filter. */
export interface RunFilter {
  readonly states?: readonly State[];
  readonly workflow?: string;
  readonly prefix?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly since?: Date;
  readonly until?: Date;
}

/** The failure of a step that is completed from outside. */
export interface StepFailure {
  readonly reason: FailureReason;
  readonly message: string;
}

/** A workflow, or the name of a workflow of the server. */
export type Definition = Workflow | string;

const START: Names<StartOptions> = { ...CALL, runId: true, open: true, idleTimeout: true };
const WATCH: Names<WatchOptions> = { ...CALL, afterSequence: true, kinds: true };
const WAIT: Names<WaitOptions> = { ...CALL, check: true };
const FILTER: Names<RunFilter> = { states: true, workflow: true, prefix: true, labels: true, since: true, until: true };
const CLIENT: Names<ClientOptions> = {
  token: true,
  tls: true,
  tlsCa: true,
  clientCert: true,
  clientKey: true,
  insecure: true,
  namespace: true,
  timeout: true,
  connectTimeout: true,
  reconnectWindow: true,
};

/**
 * A client of a Stepwave server.
 *
 *     const client = new Client("127.0.0.1:50051");
 *     const result = await client.run(flow, { city: "Oslo" });
 *     client.close();
 */
export class Client implements Disposable {
  readonly #link: Link;

  /**
   * @param address HOST:PORT or unix:PATH. Default: `$STEPWAVE_SERVER`, else `127.0.0.1:50051`.
   * @throws {TypeError} The address is malformed, or what is sent would be readable on the way.
   */
  constructor(address?: string, options: ClientOptions = {}) {
    checkNames("client", options, CLIENT);
    this.#link = new Link(new Connection(address, options), {
      namespace: options.namespace ?? process.env["STEPWAVE_NAMESPACE"] ?? "",
      timeout: seconds("timeout", options.timeout) ?? 30,
      connectTimeout: seconds("connectTimeout", options.connectTimeout) ?? 3,
      reconnectWindow: seconds("reconnectWindow", options.reconnectWindow) ?? 30,
    });
  }

  /** Start a run at once, and follow it. Await the handle for its result, or iterate over its events. */
  run(workflow: Definition, input?: Value, options: RunOptions = {}): RunHandle {
    return new RunHandle(this.#link, runRequest(workflow, input, options.runId), options);
  }

  /** Start a run that goes on without this client. */
  async start(workflow: Definition, input?: Value, options: StartOptions = {}): Promise<Run> {
    checkNames("start", options, START);
    const { runId, open, idleTimeout } = options;
    const idle_timeout = duration("idleTimeout", idleTimeout);
    const request = { ...runRequest(workflow, input, runId), open, idle_timeout };
    return this.#run("StartRun", request, callOptions(options));
  }

  /** Iterate over the events of a run. Each comes once and in order, even if the connection is lost. */
  watch(runId: string, options: WatchOptions = {}): AsyncGenerator<RunEvent, void> {
    checkNames("watch", options, WATCH);
    const { signal } = options;
    const timeout = seconds("timeout", options.timeout);
    return watchEvents(this.#link, { watch: this.#watch(runId, options), timeout }, signal);
  }

  /** Wait for the end of a run, and return its result. Throws `RunFailed` or `RunCancelled` if it did not succeed. */
  async wait(runId: string, options: WaitOptions = {}): Promise<RunResult> {
    checkNames("wait", options, WAIT);
    const { check = true, signal, timeout } = options;
    // The first event comes at once, and shows that the server answers: a later loss lasts for the reconnect window.
    for await (const event of this.watch(runId, { kinds: ["run_started", "run_finished"], signal, timeout })) {
      if (event.type === "run_finished") return check ? checked(event.result) : event.result;
    }
    throw new Error("a watch ends with the run's last event");
  }

  /** Return the result of a run that has ended, whatever its state. */
  async result(runId: string, options?: CallOptions): Promise<RunResult> {
    return toResult((await this.#link.call("GetResult", { run_id: runId }, options))["result"] as Message);
  }

  /** Return the current state of a run. */
  get(runId: string, options?: CallOptions): Promise<Run> {
    return this.#run("GetRun", { run_id: runId }, options);
  }

  /** Cancel a run. The call returns at once, and has no effect on a run that has ended. */
  cancel(runId: string, reason = "", options?: CallOptions): Promise<Run> {
    return this.#run("CancelRun", { run_id: runId, reason }, options);
  }

  /** Delete a run that has ended. */
  async delete(runId: string, options?: CallOptions): Promise<void> {
    await this.#link.call("DeleteRun", { run_id: runId }, options);
  }

  /** Add steps to an open run: those of a workflow. With `seal`, they are the last. */
  async addSteps(runId: string, steps: Workflow, options: CallOptions & { readonly seal?: boolean } = {}): Promise<Run> {
    checkNames("addSteps", options, { ...CALL, seal: true });
    const request = { run_id: runId, steps: steps.toProto()["steps"], seal: options.seal };
    return this.#run("AddSteps", request, callOptions(options));
  }

  /** Complete a step of `core.wait` with an answer. */
  completeStep(runId: string, stepId: string, output: Value, options?: CallOptions): Promise<Run> {
    return this.#run("CompleteStep", { run_id: runId, step_id: stepId, output: toPayload(output) }, options);
  }

  /** Complete a step of `core.wait` with a failure. */
  failStep(runId: string, stepId: string, failure: StepFailure, options?: CallOptions): Promise<Run> {
    const { reason, message } = failure;
    const request = { run_id: runId, step_id: stepId, failure: { reason: enumName("FailureReason", reason), message } };
    return this.#run("CompleteStep", request, options);
  }

  /** Iterate over runs, newest first. */
  runs(filter: RunFilter = {}, options?: CallOptions): AsyncGenerator<Run, void> {
    return this.#list<Run>("ListRuns", "runs", "Run", filterRequest(filter), options);
  }

  /** Iterate over the steps of a run with their results so far, in the order of their declaration. */
  steps(runId: string, options?: CallOptions): AsyncGenerator<StepResult, void> {
    return this.#list<StepResult>("ListStepResults", "step_results", "StepResult", { run_id: runId }, options);
  }

  /** Iterate over the server's actions, by name. */
  actions(options?: CallOptions): AsyncGenerator<Action, void> {
    return this.#list<Action>("ListActions", "actions", "Action", {}, options);
  }

  /** Iterate over the server's workflows, by name. */
  workflows(options?: CallOptions): AsyncGenerator<NamedWorkflow, void> {
    return this.#list<NamedWorkflow>("ListWorkflows", "workflows", "NamedWorkflow", {}, options);
  }

  /** Validate a workflow, and return its plan. Nothing is invoked. */
  async plan(workflow: Definition, options?: CallOptions): Promise<Plan> {
    const request = definition(workflow);
    const { plan, next_page_token } = await this.#link.call("PlanWorkflow", request, options);
    const made = toObject("Plan", plan as Message) as Plan;
    const steps = [...made.steps];
    for (let page_token = next_page_token as string; page_token; ) {
      const page = await this.#link.call("PlanWorkflow", { ...request, page_token }, options);
      const part = toObject("Plan", page["plan"] as Message)["steps"] as PlannedStep[];
      steps.push(...part);
      page_token = page["next_page_token"] as string;
    }
    return { ...made, steps };
  }

  /** Return the version, engine, limits and capabilities of the server. */
  async serverInfo(options?: CallOptions): Promise<ServerInfo> {
    const response = await this.#link.call("GetServerInfo", {}, options);
    return toObject("ServerInfo", response["server_info"] as Message) as ServerInfo;
  }

  /** Free the connection once the calls under way have ended. No other call can begin. */
  close(): void {
    this.#link.connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #run(name: string, request: Message, options?: CallOptions): Promise<Run> {
    return toObject("Run", (await this.#link.call(name, request, options))["run"] as Message) as Run;
  }

  async *#list<Item>(
    name: string,
    field: string,
    type: string,
    request: Message,
    options?: CallOptions,
  ): AsyncGenerator<Item, void> {
    for await (const item of this.#link.pages(name, field, request, options)) yield toObject(type, item) as Item;
  }

  #watch(runId: string, options: WatchOptions): Message {
    return {
      namespace: this.#link.settings.namespace,
      run_id: runId,
      after_sequence: count("afterSequence", options.afterSequence) ?? 0,
      kinds: options.kinds?.map((kind) => enumName("EventKind", kind)) ?? [],
    };
  }
}

function callOptions({ signal, timeout }: CallOptions): CallOptions {
  return { signal, timeout };
}

function definition(workflow: Definition): Message {
  return typeof workflow === "string" ? { workflow_name: workflow } : { workflow: workflow.toProto() };
}

function runRequest(workflow: Definition, input: Value | undefined, runId: string | undefined): Message {
  const name = typeof workflow === "string" ? workflow : workflow.name;
  const payload = input === undefined ? undefined : toPayload(input);
  return { ...definition(workflow), input: payload, run_id: runId || newRunId(name) };
}

function filterRequest(filter: RunFilter): Message {
  checkNames("runs", filter, FILTER);
  return {
    states: filter.states?.map((state) => enumName("State", state)),
    workflow_name: filter.workflow,
    run_id_prefix: filter.prefix,
    labels: filter.labels,
    create_time_from: timestamp("since", filter.since),
    create_time_before: timestamp("until", filter.until),
  };
}

const ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"; // no look-alikes

/** Make a run id that begins with the workflow's name. It makes the start of a run idempotent. */
function newRunId(workflowName: string): string {
  const slug = workflowName.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 40).replace(/^-+|-+$/g, "") || "run";
  const suffix = Array.from({ length: 8 }, () => ALPHABET[randomInt(ALPHABET.length)]).join("");
  return `${slug}-${suffix}`;
}
