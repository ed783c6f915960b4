/** What the server answers with: runs, results, plans and events. Durations are in seconds. */

import type { Value } from "./values.js";

export type State = "pending" | "running" | "succeeded" | "failed" | "cancelled" | "skipped";

export type FailureReason =
  | "rate_limited"
  | "timeout"
  | "unavailable"
  | "invalid_input"
  | "unauthorized"
  | "not_found"
  | "action_error"
  | "cancelled"
  | "interrupted"
  | "resource_exhausted"
  | "internal";

/** The reason why a step or run did not succeed. */
export interface Failure {
  readonly reason: FailureReason;
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfter?: number;
  /** Empty: the run itself failed. */
  readonly stepId: string;
  readonly attempt: number;
  readonly details: Readonly<Record<string, string>>;
  /** The cause of a failure that the server decided, such as `run_timeout`; `unspecified`: an action failed. */
  readonly cause: string;
}

export type Counts = Readonly<Record<State, number>>;

/** The current state of a run. */
export interface Run {
  readonly runId: string;
  readonly namespace: string;
  readonly workflowName: string;
  readonly state: State;
  readonly labels: Readonly<Record<string, string>>;
  readonly createTime: Date;
  readonly startTime?: Date;
  readonly endTime?: Date;
  readonly counts: Counts;
  readonly lastSequence: number;
  readonly open: boolean;
  readonly stopping: boolean;
  readonly paused: boolean;
  readonly rerunOf: string;
  readonly missingActions: readonly string[];
  readonly workflowDigest: string;
  readonly createdBy: string;
}

/** The result of a run. */
export interface RunResult {
  readonly runId: string;
  readonly workflowName: string;
  readonly state: State;
  /** The outputs by step id, at most 1 MiB in all. */
  readonly outputs: Readonly<Record<string, Value>>;
  /** The step ids of further outputs. `client.steps` has them. */
  readonly omittedOutputs: readonly string[];
  readonly omittedOutputCount: number;
  readonly failures: readonly Failure[];
  readonly failureCount: number;
  readonly createTime: Date;
  readonly startTime?: Date;
  readonly endTime?: Date;
  readonly counts: Counts;
}

/** The result of a step, or its state so far. */
export interface StepResult {
  readonly stepId: string;
  readonly action: string;
  readonly state: State;
  readonly wave: number;
  readonly attempts: number;
  /** Set if the step succeeded. */
  readonly output?: Value;
  readonly failure?: Failure;
  readonly skipReason?: { readonly cause: string; readonly stepId: string };
  readonly readyTime?: Date;
  readonly startTime?: Date;
  readonly endTime?: Date;
  readonly abandoned: boolean;
  readonly reusedFrom: string;
  readonly originalFailure?: Failure;
  readonly completedBy: string;
}

export interface Wave {
  readonly index: number;
  readonly stepIds: readonly string[];
}

/** How a workflow would run. */
export interface Plan {
  readonly workflowName: string;
  readonly stepCount: number;
  readonly edgeCount: number;
  readonly waveSizes: readonly number[];
  readonly width: number;
  readonly outputs: readonly string[];
  readonly steps: readonly PlannedStep[];
}

export interface PlannedStep {
  readonly stepId: string;
  readonly action: string;
  readonly wave: number;
  readonly dependsOn: readonly string[];
  readonly inputRule: "own" | "run" | "dependencies" | "item";
  readonly timeout?: number;
  readonly totalTimeout?: number;
}

/** An action that the server has. */
export interface Action {
  readonly name: string;
  readonly description: string;
  /** A JSON Schema, as JSON text. */
  readonly inputSchema: string;
  /** A JSON Schema of the output where it is JSON, as JSON text; empty: not known. */
  readonly outputSchema: string;
  readonly streaming: boolean;
  /** Whether to run it twice with the same input has the same effect as to run it once; false: not known. */
  readonly idempotent: boolean;
  readonly source: string;
}

/** A workflow of the server. */
export interface NamedWorkflow {
  readonly name: string;
  readonly stepCount: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly digest: string;
  /** A JSON Schema, as JSON text; empty: any input. */
  readonly inputSchema: string;
}

export interface ServerInfo {
  readonly version: string;
  readonly engine: string;
  readonly journal: string;
  readonly limits: Readonly<Record<string, number>>;
  readonly capabilities: readonly string[];
  readonly startTime: Date;
  readonly draining: boolean;
}

interface Kinds {
  run_started: {
    workflowName: string;
    waves: readonly Wave[];
    more: boolean;
    stepCount: number;
    deadline?: Date;
    open: boolean;
  };
  wave_started: { wave: number };
  step_started: { stepId: string; action: string; wave: number; attempt: number; deadline?: Date; readyTime: Date };
  step_chunk: { stepId: string; attempt: number; index: number; payload: Value };
  step_progress: { stepId: string; attempt: number; fraction?: number; message: string };
  step_waiting: { stepId: string; cause: string; message: string; limit: string };
  step_retrying: {
    stepId: string;
    attempt: number;
    failure: Failure;
    nextTime: Date;
    fallback: boolean;
    abandoned: boolean;
  };
  step_ready: { stepId: string; attempt: number };
  step_log: { index: number; stepId: string; attempt: number; level: string; logger: string; message: string };
  step_expanded: { stepId: string; itemCount?: number; wave: number; action: string; readyTime: Date };
  step_stopping: { failure: Failure };
  step_finished: { result: StepResult };
  steps_added: { waves: readonly Wave[]; sealed: boolean };
  steps_reused: { earlierRunId: string; outputs: Readonly<Record<string, Value>> };
  wave_finished: { wave: number };
  run_stopping: { failure: Failure; cancelReason: string; cancelledBy: string };
  run_finished: { result: RunResult };
}

/** The kind of an event, as the contract names it. */
export type EventKind = keyof Kinds;

interface EventHeader<Kind> {
  readonly type: Kind;
  readonly runId: string;
  /** The number of the event, from 1; 0: the event is transient, and is not repeated. */
  readonly sequence: number;
  readonly time: Date;
}

/** An event of a run. Its `type` decides which fields it has. A kind that this version does not know is `unknown`. */
export type RunEvent =
  | { [Kind in EventKind]: EventHeader<Kind> & Readonly<Kinds[Kind]> }[EventKind]
  | EventHeader<"unknown">;
