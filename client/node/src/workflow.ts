/** Workflows under construction, and the messages of the contract that they become. */

import { checkNames, count, type Names } from "./checks.js";
import { duration, enumName, type Message } from "./contract.js";
import type { FailureReason } from "./types.js";
import { boundOf, reference, split, toPayload, type Bound, type Input, type Json, type Reference } from "./values.js";

/** When and how often a failed attempt is tried again. Times are in seconds. */
export interface Retry {
  readonly maxAttempts: number;
  readonly initialBackoff?: number;
  readonly backoffMultiplier?: number;
  readonly maxBackoff?: number;
  readonly jitter?: number;
  readonly retryableReasons?: readonly FailureReason[];
}

/** The substitute for the answer of a step that has finally failed: an action, or a value. */
export type Fallback = { readonly action: string; readonly input?: Input } | { readonly value: Json };

export interface StepOptions {
  /** Steps that must end before this one starts. References in the input add theirs. */
  readonly dependsOn?: readonly (StepHandle | string)[];
  /** A CEL expression over `deps`, `input` and `item`. If it is false, the step is skipped. */
  readonly when?: string;
  /** Replaces the workflow's policy. */
  readonly retry?: Retry;
  /** The longest that one attempt may take, in seconds. */
  readonly timeout?: number;
  /** The longest that all attempts, pauses and waiting may take together, in seconds. */
  readonly totalTimeout?: number;
  readonly fallback?: Fallback;
  readonly join?: "all" | "any" | "all_done";
  readonly allowFailure?: boolean;
  /** A JSON Pointer into the input: limits per key count the attempts of each value there separately. */
  readonly concurrencyKey?: string;
  readonly onInterrupt?: "retry" | "fail";
}

export interface ListOptions extends StepOptions {
  /** The list: fixed, a reference to it, or an expression of `cel`. */
  readonly over: readonly Json[] | Reference | Bound;
  /** The action to run for every item. Either this or `workflow`. */
  readonly action?: string;
  readonly workflow?: Workflow;
  /** The input for an item. Default: the item. */
  readonly input?: Input;
  readonly maxParallelism?: number;
}

export interface WorkflowOptions {
  readonly scheduling?: "eager" | "wave";
  readonly failurePolicy?: "fail_fast" | "continue";
  readonly maxParallelism?: number;
  /** The longest that the run may take, in seconds. */
  readonly timeout?: number;
  readonly labels?: Readonly<Record<string, string>>;
  /** The steps whose outputs are the run's. Default: every step that succeeds and that no step depends on. */
  readonly outputs?: readonly (StepHandle | string)[];
  readonly retry?: Retry;
  /** A JSON Schema of the input. */
  readonly inputSchema?: Json;
}

const RETRY: Names<Retry> = {
  maxAttempts: true,
  initialBackoff: true,
  backoffMultiplier: true,
  maxBackoff: true,
  jitter: true,
  retryableReasons: true,
};

const STEP: Names<StepOptions> = {
  dependsOn: true,
  when: true,
  retry: true,
  timeout: true,
  totalTimeout: true,
  fallback: true,
  join: true,
  allowFailure: true,
  concurrencyKey: true,
  onInterrupt: true,
};

const LIST: Names<ListOptions> = { ...STEP, over: true, action: true, workflow: true, input: true, maxParallelism: true };

const WORKFLOW: Names<WorkflowOptions> = {
  scheduling: true,
  failurePolicy: true,
  maxParallelism: true,
  timeout: true,
  labels: true,
  outputs: true,
  retry: true,
  inputSchema: true,
};

/** A step of a workflow. Its `output` goes into the inputs of other steps. */
export class StepHandle {
  constructor(
    readonly owner: Workflow,
    readonly id: string,
  ) {}

  /** A reference to the step's output. `output["key"]` and `output[0]` are its parts. */
  get output(): Reference {
    return reference(this.owner, (path) => ({ step: { id: this.id, path } }));
  }
}

/**
 * A workflow under construction.
 *
 *     const flow = new Workflow("briefing");
 *     const sky = flow.step("weather", "weather", { city: flow.input["city"] });
 *     flow.step("brief", "core.echo", { sky: sky.output["summary"] });
 */
export class Workflow {
  readonly #steps: Message[] = [];
  readonly #options: WorkflowOptions;

  constructor(
    readonly name: string,
    options: WorkflowOptions = {},
  ) {
    checkNames(`workflow '${name}'`, options, WORKFLOW);
    this.#options = options;
  }

  /** A reference to the run's input. */
  get input(): Reference {
    return reference(this, (input) => ({ input }));
  }

  /** A reference to the item of the list that a step runs over. */
  get item(): Reference {
    return reference(this, (item) => ({ item }));
  }

  /**
   * Add a step that runs an action.
   *
   * @param input JSON in which references stand for values of the run. Not given: the run's input if the step has no
   *   dependencies, and otherwise an object of their outputs by step id.
   * @throws {TypeError} JSON cannot hold the input, or a reference belongs to another workflow.
   */
  step(id: string, action: string, input?: Input, options: StepOptions = {}): StepHandle {
    checkNames(`step '${id}'`, options, STEP);
    return this.#add({ ...this.#make(id, input, options), action });
  }

  /** Add a step that runs another workflow. */
  workflow(id: string, workflow: Workflow, input?: Input, options: Omit<StepOptions, "retry"> = {}): StepHandle {
    checkNames(`step '${id}'`, options, STEP);
    return this.#add({ ...this.#make(id, input, options), workflow: workflow.toProto() });
  }

  /** Add a step that runs an action, or a workflow, once for every item of a list. Its output is the list of the answers. */
  forEach(id: string, options: ListOptions): StepHandle {
    checkNames(`step '${id}'`, options, LIST);
    const { over, action, workflow, input, maxParallelism } = options;
    if (!action === !workflow) throw new TypeError(`step '${id}': give an action or a workflow`);
    const body = workflow ? { workflow: workflow.toProto() } : { action };
    const for_each = { ...this.#list(over), max_parallelism: count("maxParallelism", maxParallelism) };
    return this.#add({ ...this.#make(id, input, options), ...body, for_each });
  }

  /** Return the message of the contract, as `@grpc/proto-loader` writes it with `keepCase`. */
  toProto(): Message {
    const { scheduling, failurePolicy, labels, outputs, retry, inputSchema, maxParallelism, timeout } = this.#options;
    return {
      name: this.name,
      steps: [...this.#steps],
      scheduling: scheduling && enumName("Scheduling", scheduling),
      failure_policy: failurePolicy && enumName("FailurePolicy", failurePolicy),
      max_parallelism: count("maxParallelism", maxParallelism),
      timeout: duration("timeout", timeout),
      labels,
      outputs: outputs?.map((step) => this.#idOf(step)),
      retry: retry && retryToProto(retry),
      input_schema: inputSchema === undefined ? undefined : JSON.stringify(inputSchema),
    };
  }

  #add(step: Message): StepHandle {
    this.#steps.push(step);
    return new StepHandle(this, step["id"] as string);
  }

  #make(id: string, input: Input | undefined, options: StepOptions): Message {
    const bindings: Message[] = [];
    return {
      id,
      input: input === undefined ? undefined : split(input, this, bindings),
      bindings,
      depends_on: options.dependsOn?.map((step) => this.#idOf(step)),
      when: options.when,
      retry: options.retry && retryToProto(options.retry),
      timeout: duration("timeout", options.timeout),
      total_timeout: duration("totalTimeout", options.totalTimeout),
      fallback: options.fallback && this.#fallback(options.fallback),
      join: options.join && enumName("Join", options.join),
      allow_failure: options.allowFailure,
      concurrency_key: options.concurrencyKey,
      on_interrupt: options.onInterrupt && enumName("OnInterrupt", options.onInterrupt),
    };
  }

  #fallback(fallback: Fallback): Message {
    if ("value" in fallback) {
      checkNames("fallback", fallback, { value: true });
      return { value: toPayload(fallback.value) };
    }
    checkNames("fallback", fallback, { action: true, input: true });
    const bindings: Message[] = [];
    const input = fallback.input === undefined ? undefined : split(fallback.input, this, bindings);
    return { action: { action: fallback.action, input, bindings } };
  }

  #list(over: readonly Json[] | Reference | Bound): Message {
    const bound = boundOf(over);
    if (!bound) return { items: toPayload(over) };
    if (bound.owner !== undefined && bound.owner !== this) throw new TypeError("the list belongs to another workflow");
    const { step, input, expression } = bound.fields;
    if (step === undefined && input === undefined && expression === undefined) {
      throw new TypeError("over is a list, an output, the run's input or a CEL expression");
    }
    return { step, input, expression };
  }

  #idOf(step: StepHandle | string): string {
    if (typeof step === "string") return step;
    if (step.owner !== this) throw new TypeError(`step '${step.id}' belongs to another workflow`);
    return step.id;
  }
}

function retryToProto(retry: Retry): Message {
  checkNames("retry", retry, RETRY);
  return {
    max_attempts: count("maxAttempts", retry.maxAttempts),
    initial_backoff: duration("initialBackoff", retry.initialBackoff),
    backoff_multiplier: retry.backoffMultiplier,
    max_backoff: duration("maxBackoff", retry.maxBackoff),
    jitter: retry.jitter,
    retryable_reasons: retry.retryableReasons?.map((reason) => enumName("FailureReason", reason)),
  };
}
